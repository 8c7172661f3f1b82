// Package workload builds the objects that make up the receiver of an integration. Everything here
// is a pure function of the PBXIntegration and of the settings of the manager.
package workload

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	metaac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/shorten"
)

const (
	// EventPort takes the PBX's call events.
	EventPort = 8080
	// ProbePort answers /healthz, /readyz and /metrics.
	ProbePort = 8081
	// RoutePort joins the embedded journals of several replicas.
	RoutePort = 6222

	// EventPortName is the name of EventPort in Services and pods.
	EventPortName = "events"
	// ProbePortName is the name of ProbePort in Services and pods.
	ProbePortName = "probes"

	// AppName is the value of app.kubernetes.io/name on everything that belongs to a receiver.
	AppName = "pbx-receiver"
	// ManagedBy is the value of app.kubernetes.io/managed-by on everything that the operator
	// applies.
	ManagedBy = "pbx-operator"

	// LabelName tells what an object belongs to: AppName.
	LabelName = "app.kubernetes.io/name"
	// LabelInstance tells which of them: the integration.
	LabelInstance = "app.kubernetes.io/instance"
	// LabelManagedBy tells who applies it: ManagedBy.
	LabelManagedBy = "app.kubernetes.io/managed-by"

	volumeName = "data"
	dataDir    = "/data"
)

// Settings are those of the manager.
type Settings struct {
	// Image of the receiver.
	Image string
	// APIServerPorts are where receivers reach the API server, for the NetworkPolicy. Default: 443
	// and 6443.
	APIServerPorts []int32
	// ManagerNamespace and ManagerLabels pick the pods of the manager, which sends receivers the
	// calls of an outage; see spec.backfill. Empty: they are unknown, and allowedSources applies to
	// them as well.
	ManagerNamespace string
	ManagerLabels    map[string]string
}

// Name is the name of the objects of an integration's receiver. The name of a Service may hold no
// dots: a name with dots gets a hash, so that no other integration has the same. It becomes no longer
// than others are, because the pods of a StatefulSet carry its name and more as a label.
func Name(integration string) string {
	const longest = 40 - len("-01234567") // the API allows 40 characters
	name := strings.ReplaceAll(integration, ".", "-")
	if name != integration {
		sum := sha256.Sum256([]byte(integration))
		name = shorten.Bytes(name, longest) + "-" + hex.EncodeToString(sum[:4])
	}
	return name + "-receiver"
}

// HeadlessName is the name of the Service that gives each pod its own DNS name.
func HeadlessName(integration string) string { return Name(integration) + "-headless" }

// SelectorLabels pick the pods of an integration's receiver.
func SelectorLabels(integration string) map[string]string {
	return map[string]string{LabelName: AppName, v1alpha1.LabelIntegration: integration}
}

// Labels are those of all objects of an integration.
func Labels(integration string) map[string]string {
	labels := SelectorLabels(integration)
	labels[LabelInstance] = integration
	labels[LabelManagedBy] = ManagedBy
	return labels
}

// OwnerReference makes the integration the controller of an object.
func OwnerReference(p *v1alpha1.PBXIntegration) *metaac.OwnerReferenceApplyConfiguration {
	return metaac.OwnerReference().
		WithAPIVersion(v1alpha1.GroupVersion.String()).
		WithKind("PBXIntegration").
		WithName(p.Name).
		WithUID(p.UID).
		WithController(true).
		WithBlockOwnerDeletion(true)
}

// Child is an object to apply.
type Child struct {
	// Kind and Name of the object.
	Kind, Name string
	Apply      runtime.ApplyConfiguration
}

// Scale is how large a receiver is.
type Scale struct {
	// Size of the volumes: that of the spec, unless they cannot grow.
	Size Size
	// Replicas are how many there are, which an autoscaler may have decided.
	Replicas int32
}

// Children are the objects that the spec asks for, in the order in which to apply them.
func Children(p *v1alpha1.PBXIntegration, settings Settings, scale Scale) ([]Child, error) {
	runner, err := controllerOfPods(p, settings, scale)
	if err != nil {
		return nil, err
	}
	name := Name(p.Name)
	children := []Child{
		{Kind: "ServiceAccount", Name: name, Apply: serviceAccount(p)},
		{Kind: "Role", Name: name, Apply: role(p)},
		{Kind: "RoleBinding", Name: name, Apply: roleBinding(p)},
		{Kind: "Service", Name: HeadlessName(p.Name), Apply: headlessService(p)},
		{Kind: "Service", Name: name, Apply: service(p)},
		{Kind: "NetworkPolicy", Name: name, Apply: networkPolicy(p, settings)},
		runner,
	}
	if Stateless(p) && p.Spec.Receiver.Autoscaling != nil {
		children = append(children, Child{Kind: "HorizontalPodAutoscaler", Name: name, Apply: autoscaler(p)})
	}
	if several(p) {
		children = append(children, Child{Kind: "PodDisruptionBudget", Name: name, Apply: disruptionBudget(p)})
	}
	switch exposure := p.Spec.Receiver.Exposure; {
	case exposure.Ingress != nil:
		route, err := ingress(p)
		if err != nil {
			return nil, err
		}
		children = append(children, Child{Kind: "Ingress", Name: name, Apply: route})
	case exposure.Gateway != nil:
		route, err := httpRoute(p)
		if err != nil {
			return nil, err
		}
		children = append(children, Child{Kind: "HTTPRoute", Name: name, Apply: route})
	}
	return children, nil
}

// controllerOfPods is the object that runs the pods: a Deployment where any pod can stand in for any
// other, else a StatefulSet.
func controllerOfPods(p *v1alpha1.PBXIntegration, settings Settings, scale Scale) (Child, error) {
	if Stateless(p) {
		apply, err := deployment(p, settings, scale)
		return Child{Kind: "Deployment", Name: Name(p.Name), Apply: apply}, err
	}
	apply, err := statefulSet(p, settings, scale.Size)
	return Child{Kind: "StatefulSet", Name: Name(p.Name), Apply: apply}, err
}

// OptionalKinds are the kinds of Children that not every spec asks for.
func OptionalKinds() []string {
	return []string{"HorizontalPodAutoscaler", "PodDisruptionBudget", "Ingress", "HTTPRoute"}
}

// convert turns a part of the spec that is written as in the Kubernetes API into what is applied.
func convert[T any](part any) (*T, error) {
	data, err := json.Marshal(part)
	if err != nil {
		return nil, fmt.Errorf("cannot read the receiver template: %w", err)
	}
	var applied T
	if err := json.Unmarshal(data, &applied); err != nil {
		return nil, fmt.Errorf("cannot apply the receiver template: %w", err)
	}
	return &applied, nil
}

// merged is a over b.
func merged(a, b map[string]string) map[string]string {
	result := maps.Clone(b)
	if result == nil {
		result = map[string]string{}
	}
	maps.Copy(result, a)
	return result
}
