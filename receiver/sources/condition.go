package sources

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// conditionManager owns the condition of the receiver, so that it and the controllers, which own
// the others, stay out of each other's way.
const conditionManager = "pbx-receiver-conditions"

// Condition returns a condition of the integration as it was last seen; nil if it has none.
func (w *Watch) Condition(conditionType string) *metav1.Condition {
	integration, ok := w.Integration()
	if !ok {
		return nil
	}
	return meta.FindStatusCondition(integration.Status.Conditions, conditionType)
}

// ShowCondition applies a condition to the status of the integration. Time and generation are
// filled in. It fails when the API server cannot take it, and may be repeated.
func (w *Watch) ShowCondition(ctx context.Context, condition metav1.Condition) error {
	integration, ok := w.Integration()
	if !ok {
		return errUnseen
	}
	condition.ObservedGeneration = integration.Generation
	condition.LastTransitionTime = metav1.NewTime(time.Now())
	if shown := w.Condition(condition.Type); shown != nil && shown.Status == condition.Status {
		condition.LastTransitionTime = shown.LastTransitionTime
	}
	patch, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "PBXIntegration",
		"metadata": map[string]any{"name": w.integration, "namespace": w.namespace},
		"status":   map[string]any{"conditions": []metav1.Condition{condition}},
	})
	if err != nil {
		return fmt.Errorf("cannot encode a condition: %w", err)
	}
	err = w.api.Patch(types.ApplyPatchType).Namespace(w.namespace).Resource(integrations).Name(w.integration).SubResource("status").
		Param("fieldManager", conditionManager).Param("force", "true").Body(patch).Do(ctx).Error()
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot show the condition %s: %w", condition.Type, err)
	}
	return nil
}
