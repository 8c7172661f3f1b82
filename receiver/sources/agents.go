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

// ShowStates writes the states of queue agents and of phones into the status of their mappings. It
// fails when the API server cannot take them, and may be repeated.
func (w *Watch) ShowStates(ctx context.Context, records []journal.AgentRecord) error {
	for _, record := range records {
		if err := w.showState(ctx, record); err != nil {
			return err
		}
	}
	return nil
}

func (w *Watch) showState(ctx context.Context, record journal.AgentRecord) error {
	mapping, ok := w.mappingOf(record)
	if !ok {
		w.logger.Info("the state is that of an agent or a phone at no mapped extension")
		return nil
	}
	change := agentChange(mapping.Status.Agent, record)
	if record.Phone {
		change = phoneChange(mapping.Status.Phone, record)
	}
	if change == nil {
		return nil
	}
	if err := w.patchStatus(ctx, mappings, mapping.Name, change); err != nil {
		return fmt.Errorf("cannot show the state of an agent or a phone: %w", err)
	}
	return nil
}

// mappingOf finds the mapping by the extension that the event names, else by the URL that it came
// by.
func (w *Watch) mappingOf(record journal.AgentRecord) (*v1alpha1.ExtensionMapping, bool) {
	if mapping, ok := w.MappingOf(record.Extension); ok {
		return mapping, true
	}
	return w.find(func(mapping *v1alpha1.ExtensionMapping) bool {
		id := mapping.Spec.Extension.ID
		if id == "" {
			id = mapping.Status.ExtensionID
		}
		return record.ExtensionID != "" && record.ExtensionID == id || string(mapping.UID) == record.Mapping
	})
}

// agentChange is what becomes of the status of a mapping; nil: nothing.
func agentChange(shown *v1alpha1.AgentStatus, record journal.AgentRecord) map[string]any {
	next := v1alpha1.AgentStatus{State: v1alpha1.AgentState(record.State), Since: metav1.NewTime(record.Since)}
	if shown != nil && (shown.State == next.State || next.Since.Before(&shown.Since)) {
		return nil
	}
	return map[string]any{"agent": next}
}

// phoneChange is what becomes of the status of a mapping; nil: nothing. A status that was removed
// is shown no more.
func phoneChange(shown *v1alpha1.PhoneStatus, record journal.AgentRecord) map[string]any {
	next := v1alpha1.PhoneStatus{ID: record.State, Since: metav1.NewTime(record.Since)}
	switch {
	case shown == nil && next.ID == "", shown != nil && (shown.ID == next.ID || next.Since.Before(&shown.Since)):
		return nil
	case next.ID == "":
		return map[string]any{"phone": nil}
	default:
		return map[string]any{"phone": next}
	}
}

// patchStatus changes some members of the status of an object. One that is gone has none.
func (w *Watch) patchStatus(ctx context.Context, resource, name string, change map[string]any) error {
	patch, err := json.Marshal(map[string]any{"status": change})
	if err != nil {
		return fmt.Errorf("cannot encode a status: %w", err)
	}
	err = w.api.Patch(types.MergePatchType).Namespace(w.namespace).Resource(resource).Name(name).SubResource("status").
		Param("fieldManager", fieldManager).Body(patch).Do(ctx).Error()
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// AgentStates counts the queue agents by the state that their mappings show.
func (w *Watch) AgentStates() map[v1alpha1.AgentState]int {
	count := map[v1alpha1.AgentState]int{v1alpha1.AgentAvailable: 0, v1alpha1.AgentLoggedOut: 0}
	for _, obj := range w.mappings.List() {
		if mapping, ok := obj.(*v1alpha1.ExtensionMapping); ok && mapping.Status.Agent != nil {
			count[mapping.Status.Agent.State]++
		}
	}
	return count
}
