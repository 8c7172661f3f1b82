package main

import (
	"context"
	"encoding/hex"
	"errors"
	"hash/fnv"
	"net/http"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
)

// cache keeps memory in proportion to the mappings, not to the cluster: our own kinds without what
// no controller reads, of the children only those that carry our label, and of Secrets no more than
// their names and versions. CallLegs are not cached at all. Only the watched namespaces are asked
// for.
func (o *options) cache() cache.Options {
	ours := cache.ByObject{Label: o.selector, Transform: withoutBookkeeping}
	child := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{workload.LabelManagedBy: workload.ManagedBy})}
	options := cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.PBXIntegration{}:               ours,
			&v1alpha1.ExtensionMapping{}:             ours,
			&v1alpha1.CallCommand{}:                  ours,
			&appsv1.StatefulSet{}:                    child,
			&appsv1.Deployment{}:                     child,
			&autoscalingv2.HorizontalPodAutoscaler{}: child,
			&corev1.Service{}:                        child,
			&corev1.ServiceAccount{}:                 child,
			&rbacv1.Role{}:                           child,
			&rbacv1.RoleBinding{}:                    child,
			&networkingv1.NetworkPolicy{}:            child,
			&networkingv1.Ingress{}:                  child,
			&policyv1.PodDisruptionBudget{}:          child,
			&corev1.Secret{}:                         {Transform: nameAndVersion},
		},
	}
	for _, namespace := range o.namespaces {
		if options.DefaultNamespaces == nil {
			options.DefaultNamespaces = map[string]cache.Config{}
		}
		options.DefaultNamespaces[namespace] = cache.Config{}
	}
	return options
}

var (
	_ toolscache.TransformFunc = withoutBookkeeping
	_ toolscache.TransformFunc = nameAndVersion
)

// withoutBookkeeping drops what kubectl and the API server keep for themselves. Objects are
// patched, never updated as a whole, so nothing gets lost.
func withoutBookkeeping(obj any) (any, error) {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return obj, nil //nolint:nilerr // a tombstone: nothing to strip
	}
	accessor.SetManagedFields(nil)
	if annotations := accessor.GetAnnotations(); annotations[corev1.LastAppliedConfigAnnotation] != "" {
		delete(annotations, corev1.LastAppliedConfigAnnotation)
	}
	return obj, nil
}

// nameAndVersion drops everything but the name and the version of an object.
func nameAndVersion(obj any) (any, error) {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return obj, nil //nolint:nilerr // a tombstone: nothing to strip
	}
	accessor.SetManagedFields(nil)
	accessor.SetAnnotations(nil)
	accessor.SetLabels(nil)
	accessor.SetOwnerReferences(nil)
	return obj, nil
}

// cacheSynced is ready once the watches have caught up; a standby catches up too.
func cacheSynced(informers cache.Informers) healthz.Checker {
	return func(request *http.Request) error {
		ctx, cancel := context.WithTimeout(request.Context(), time.Second)
		defer cancel()
		if !informers.WaitForCacheSync(ctx) {
			return errors.New("the caches are not filled yet")
		}
		return nil
	}
}

func shortHash(text string) string {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(text))
	return hex.EncodeToString(hash.Sum(nil))
}
