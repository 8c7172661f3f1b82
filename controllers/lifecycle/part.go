package lifecycle

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// Part makes a controller one of several that work on the same objects. It writes one condition and
// some fields of the status, by server-side apply under its own name, so that it neither overwrites
// the others nor meets their changes as conflicts. Ready, Reconciling, Stalled and
// observedGeneration belong to the controller without a Part, and the finalizer does too.
type Part struct {
	// Condition says what Ready says elsewhere. A Done without a Reason leaves it to the Handler,
	// which may set or remove it.
	Condition string
	// Fields are the names of the fields of the status, as in JSON.
	Fields []string
}

// settle writes an outcome into the condition. Nobody looks at a suspended object, so nobody knows
// better what to say of it.
func (p *Part) settle(obj Object, now metav1.Time, result outcome) {
	status := metav1.ConditionFalse
	switch {
	case result.kind == kindSuspended, result.kind == kindDone && result.unsaid:
		return
	case result.kind == kindRateLimited && p.holds(obj):
		return
	case result.kind == kindDone:
		status = metav1.ConditionTrue
	}
	SetCondition(obj, now.Time, p.Condition, status, result.reason, result.message)
}

// holds reports whether the condition is True for the present generation.
func (p *Part) holds(obj Object) bool {
	condition := meta.FindStatusCondition(*obj.GetConditions(), p.Condition)
	return condition != nil && condition.Status == metav1.ConditionTrue && condition.ObservedGeneration == obj.GetGeneration()
}

// status is what belongs to the part.
func (p *Part) status(obj Object) (map[string]any, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, fmt.Errorf("cannot compare the status: %w", err)
	}
	all, _, err := unstructured.NestedMap(content, "status")
	if err != nil {
		return nil, fmt.Errorf("cannot read the status: %w", err)
	}
	own := map[string]any{}
	for _, field := range p.Fields {
		if value, ok := all[field]; ok {
			own[field] = value
		}
	}
	conditions, _, err := unstructured.NestedSlice(all, "conditions")
	if err != nil {
		return nil, fmt.Errorf("cannot read the conditions: %w", err)
	}
	for _, condition := range conditions {
		if fields, ok := condition.(map[string]any); ok && fields["type"] == p.Condition {
			own["conditions"] = []any{fields}
		}
	}
	return own, nil
}

// write applies the part to the status if it has changed, and reports whether it did.
func (p *Part) write(ctx context.Context, to client.Client, owner string, before, obj Object) (changed bool, err error) {
	was, err := p.status(before)
	if err != nil {
		return false, err
	}
	is, err := p.status(obj)
	if err != nil || equality.Semantic.DeepEqual(was, is) {
		return false, err
	}
	kind, err := apiutil.GVKForObject(obj, to.Scheme())
	if err != nil {
		return false, err
	}
	content := &unstructured.Unstructured{Object: map[string]any{"status": is}}
	content.SetGroupVersionKind(kind)
	content.SetNamespace(obj.GetNamespace())
	content.SetName(obj.GetName())
	content.SetUID(obj.GetUID())
	apply := client.ApplyConfigurationFromUnstructured(content)
	return true, to.Status().Apply(ctx, apply, client.FieldOwner(owner), client.ForceOwnership)
}

// summary is the condition that sums up what this controller does.
func (r *Reconciler[T]) summary() string {
	if r.Part == nil {
		return v1alpha1.ConditionReady
	}
	return r.Part.Condition
}
