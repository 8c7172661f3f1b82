package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

// groupVersions of the kinds of children.
var groupVersions = map[string]string{
	"ServiceAccount":          "v1",
	"Service":                 "v1",
	"Secret":                  "v1",
	"Role":                    "rbac.authorization.k8s.io/v1",
	"RoleBinding":             "rbac.authorization.k8s.io/v1",
	"NetworkPolicy":           "networking.k8s.io/v1",
	"Ingress":                 "networking.k8s.io/v1",
	"PodDisruptionBudget":     "policy/v1",
	"StatefulSet":             "apps/v1",
	"Deployment":              "apps/v1",
	"HorizontalPodAutoscaler": "autoscaling/v2",
	"HTTPRoute":               workload.HTTPRouteVersion,
}

func newMetadata(kind string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: groupVersions[kind], Kind: kind}}
}

// children applies and deletes the objects of receivers. It remembers what it applied and what came
// of it, so that an object that nobody has touched costs no request.
type children struct {
	client client.Client
	live   client.Reader

	mu      sync.Mutex
	applied map[childKey]string
	routes  bool
}

type childKey struct {
	owner      types.UID
	kind, name string
}

func newChildren(cached client.Client, live client.Reader) *children {
	return &children{client: cached, live: live, applied: map[childKey]string{}}
}

// discoverRoutes reports whether the cluster has the Gateway API.
func (c *children) discoverRoutes(mapper meta.RESTMapper) bool {
	kind := schema.FromAPIVersionAndKind(workload.HTTPRouteVersion, "HTTPRoute")
	_, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	c.routes = err == nil
	return c.routes
}

// apply brings one object to what is wanted, by server-side apply.
func (c *children) apply(ctx context.Context, p *v1alpha1.PBXIntegration, child workload.Child) error {
	key := childKey{owner: p.UID, kind: child.Kind, name: child.Name}
	wanted, err := digest(child.Apply)
	if err != nil {
		return err
	}
	current, err := c.current(ctx, p, child)
	if err != nil {
		return applyError(child, err)
	}
	if current != nil {
		if !current.GetDeletionTimestamp().IsZero() {
			return lifecycle.Waitingf(v1alpha1.ReasonProgressing, time.Second, "%s %s is being deleted; it is made anew afterwards", child.Kind, child.Name)
		}
		if c.last(key) == wanted+current.GetResourceVersion() {
			return nil
		}
	}
	if err := c.client.Apply(ctx, child.Apply, client.FieldOwner(workload.ManagedBy), client.ForceOwnership); err != nil {
		return applyError(child, err)
	}
	version, err := resourceVersion(child.Apply)
	if err != nil {
		return err
	}
	c.note(key, wanted+version)
	return nil
}

// current is the object as it is, or nil. An object that belongs to somebody else is an error:
// applying would take it over.
func (c *children) current(ctx context.Context, p *v1alpha1.PBXIntegration, child workload.Child) (client.Object, error) {
	obj, err := c.read(ctx, c.client, p.Namespace, child)
	if obj == nil && err == nil {
		// The cache holds labelled objects only.
		obj, err = c.read(ctx, c.live, p.Namespace, child)
	}
	if err != nil || obj == nil {
		return nil, err
	}
	if !belongs(p, obj) {
		return nil, notOurs(p, child.Kind, obj)
	}
	return obj, nil
}

func (c *children) read(ctx context.Context, from client.Reader, namespace string, child workload.Child) (client.Object, error) {
	var obj client.Object
	switch child.Kind { // the cache holds these with their content, since their status is read
	case "StatefulSet":
		obj = &appsv1.StatefulSet{}
	case "Deployment":
		obj = &appsv1.Deployment{}
	default:
		obj = newMetadata(child.Kind)
	}
	err := from.Get(ctx, types.NamespacedName{Namespace: namespace, Name: child.Name}, obj)
	if err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return obj, nil
}

// notOurs tells what to do about an object that has the name of one of ours. What an integration of
// the same name left behind is on its way out.
func notOurs(p *v1alpha1.PBXIntegration, kind string, obj client.Object) error {
	if owner := metav1.GetControllerOf(obj); owner != nil && namesIntegration(*owner, p) {
		return lifecycle.Waitingf(v1alpha1.ReasonProgressing, time.Second,
			"%s %s of a former integration of this name is being deleted", kind, obj.GetName())
	}
	return lifecycle.Terminalf(v1alpha1.ReasonNameTaken,
		"%s %s exists and does not belong to this integration: delete or rename it, or rename the integration", kind, obj.GetName())
}

// applyError tells faults of the spec, which the API server finds, from those of the cluster.
func applyError(child workload.Child, err error) error {
	wrapped := fmt.Errorf("cannot apply %s %s: %w", child.Kind, child.Name, err)
	switch {
	case errors.As(err, new(lifecycle.Terminal)), errors.As(err, new(lifecycle.Waiting)):
		return err
	case meta.IsNoMatchError(err):
		return lifecycle.Terminalf(v1alpha1.ReasonGatewayAPIMissing,
			"the cluster has no %s: install the Gateway API, or use spec.receiver.exposure.ingress", child.Kind)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return lifecycle.Waiting{Reason: v1alpha1.ReasonDeleting, Err: wrapped}
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return lifecycle.Terminal{Reason: v1alpha1.ReasonInvalidSpec, Err: wrapped}
	default:
		return wrapped
	}
}

// prune deletes an object that the spec no longer asks for.
func (c *children) prune(ctx context.Context, p *v1alpha1.PBXIntegration, child workload.Child) error {
	key := childKey{owner: p.UID, kind: child.Kind, name: child.Name}
	if child.Kind == "HTTPRoute" && !c.routes && c.last(key) == "" {
		return nil
	}
	obj, err := c.read(ctx, c.client, p.Namespace, child)
	if meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil || obj == nil || !belongs(p, obj) || !obj.GetDeletionTimestamp().IsZero() {
		return err
	}
	uid := obj.GetUID()
	err = c.client.Delete(ctx, obj, client.Preconditions{UID: &uid})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot delete %s %s: %w", child.Kind, child.Name, err)
	}
	c.note(key, "")
	return nil
}

func (c *children) last(key childKey) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.applied[key]
}

func (c *children) note(key childKey, fingerprint string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if fingerprint == "" {
		delete(c.applied, key)
		return
	}
	c.applied[key] = fingerprint
}

func (c *children) forget(owner types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.applied {
		if key.owner == owner {
			delete(c.applied, key)
		}
	}
}

func digest(applied any) (string, error) {
	data, err := json.Marshal(applied)
	if err != nil {
		return "", fmt.Errorf("cannot compare what is applied: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]) + "@", nil
}

// resourceVersion of an object that was just applied.
func resourceVersion(applied any) (string, error) {
	data, err := json.Marshal(applied)
	if err != nil {
		return "", fmt.Errorf("cannot read what was applied: %w", err)
	}
	var object metav1.PartialObjectMetadata
	if err := json.Unmarshal(data, &object); err != nil {
		return "", fmt.Errorf("cannot read what was applied: %w", err)
	}
	return object.ResourceVersion, nil
}
