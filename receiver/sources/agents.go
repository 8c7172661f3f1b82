package sources

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

const fieldManager = "pbx-receiver"

// ShowAgents writes the states of queue agents into the status of their mappings. It fails when the API server cannot take them, and may
// be repeated.
func (w *Watch) ShowAgents(ctx context.Context, records []journal.AgentRecord) error {
	for _, record := range records {
		if err := w.showAgent(ctx, record); err != nil {
			return err
		}
	}
	return nil
}

func (w *Watch) showAgent(ctx context.Context, record journal.AgentRecord) error {
	mapping, ok := w.MappingOf(record.Extension)
	if !ok {
		mapping, ok = w.mappingByUID(types.UID(record.Mapping))
	}
	if !ok {
		w.logger.Info("an agent is at no mapped extension")
		return nil
	}
	next := v1alpha1.AgentStatus{State: v1alpha1.AgentState(record.State), Since: metav1.NewTime(record.Since)}
	if !isNews(mapping.Status.Agent, next) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"agent": next}})
	if err != nil {
		return fmt.Errorf("cannot encode the state of an agent: %w", err)
	}
	err = w.api.Patch(types.MergePatchType).Namespace(w.namespace).Resource(mappings).Name(mapping.Name).SubResource("status").
		Param("fieldManager", fieldManager).Body(patch).Do(ctx).Error()
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot show the state of an agent: %w", err)
	}
	return nil
}

// isNews tells whether next is another state than the one shown, and a later one.
func isNews(shown *v1alpha1.AgentStatus, next v1alpha1.AgentStatus) bool {
	return shown == nil || shown.State != next.State && !next.Since.Before(&shown.Since)
}
