package extension

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// Finalize removes the registrations of a mapping that is being deleted. Where that is impossible,
// or has failed for as long as Options.DeletionDeadline, it tells in an Event what is left, and
// lets go.
func (h *handler) Finalize(ctx context.Context, mapping *v1alpha1.ExtensionMapping) (lifecycle.Done, error) {
	integration, err := h.integrationOf(ctx, mapping)
	if err != nil {
		return lifecycle.Done{}, err
	}
	if err := h.handOver(ctx, mapping, integration); err != nil {
		return lifecycle.Done{}, err
	}
	notice, err := h.withdraw(ctx, mapping, integration)
	if err != nil {
		return lifecycle.Done{}, err
	}
	if err := h.keepKeys(ctx, integration, notice); err != nil {
		return lifecycle.Done{}, err
	}
	h.forget(mapping.UID)
	return lifecycle.Done{Notice: notice}, nil
}

// keepKeys notes on the key ring that registrations are left which only it can recognise, so that
// it outlives the integration.
func (h *handler) keepKeys(ctx context.Context, integration *v1alpha1.PBXIntegration, notice lifecycle.Notice) error {
	if integration == nil || !notice.Warning {
		return nil
	}
	secret := &corev1.Secret{}
	key := types.NamespacedName{Namespace: integration.Namespace, Name: eventurl.SecretName(integration.Name)}
	if err := h.live.Get(ctx, key, secret); err != nil {
		return client.IgnoreNotFound(err)
	}
	if secret.Annotations[v1alpha1.AnnotationRegistrationsLeft] != "" {
		return nil
	}
	metav1.SetMetaDataAnnotation(&secret.ObjectMeta, v1alpha1.AnnotationRegistrationsLeft, "true")
	if err := h.client.Update(ctx, secret); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot note that the key ring is needed: %w", err)
	}
	return nil
}

// release removes the registrations of a mapping whose integration is being deleted. The
// integration waits for it.
func (h *handler) release(
	ctx context.Context, mapping *v1alpha1.ExtensionMapping, integration *v1alpha1.PBXIntegration,
) (lifecycle.Done, error) {
	notice, err := h.withdraw(ctx, mapping, integration)
	if err != nil {
		return lifecycle.Done{}, err
	}
	if err := h.keepKeys(ctx, integration, notice); err != nil {
		return lifecycle.Done{}, err
	}
	reason := v1alpha1.ReasonRegistrationsDeleted
	if ready := lifecycle.Ready(mapping); notice.Reason != "" || ready != nil && ready.Reason == v1alpha1.ReasonRegistrationsLeft {
		reason = v1alpha1.ReasonRegistrationsLeft
	}
	record(mapping, place{})
	mapping.Status.RegisteredEvents, mapping.Status.ExtensionEvents = new(int32(0)), nil
	h.forget(mapping.UID)
	return lifecycle.Done{Notice: notice}, lifecycle.Waitingf(reason, missingRetry,
		"PBXIntegration %s is being deleted: it takes no registrations any more", integration.Name)
}

// withdraw removes all registrations of a mapping, and tells of those that are left for good.
func (h *handler) withdraw(
	ctx context.Context, mapping *v1alpha1.ExtensionMapping, integration *v1alpha1.PBXIntegration,
) (lifecycle.Notice, error) {
	switch {
	case neverRegistered(mapping):
		return lifecycle.Notice{}, nil
	case integration == nil:
		return h.left(mapping, "the PBXIntegration is gone"), nil
	case !pbxapi.HasRegistrations(integration.Spec.PBX):
		return lifecycle.Notice{}, nil
	case integration.Spec.DeletionPolicy == v1alpha1.DeletionOrphan:
		notice := h.remains(mapping, "deletionPolicy is Orphan")
		notice.Warning = false
		return notice, nil
	}
	to, err := h.access(ctx, integration, h.secrets.Lasting())
	if errors.Is(err, errMissing) {
		return h.left(mapping, err.Error()), nil
	}
	if err != nil {
		return lifecycle.Notice{}, err
	}
	return h.tryToRemove(ctx, to, mapping)
}

// tryToRemove removes the registrations, or gives up when that has failed for as long as the
// deadline says.
func (h *handler) tryToRemove(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping) (lifecycle.Notice, error) {
	err := h.removeEverywhere(ctx, to, mapping)
	_, atPBX := errors.AsType[*pbxapi.Error](err)
	remaining := h.options.DeletionDeadline - h.failures.Note(mapping.UID, h.clock.Now(), err)
	switch {
	case err == nil:
		return lifecycle.Notice{}, nil
	case !atPBX: // our turn has not come, or the mapping has changed
		return lifecycle.Notice{}, outcomeOf(mapping, err)
	case remaining <= 0:
		return h.left(mapping, err.Error()), nil
	}
	return lifecycle.Notice{}, lifecycle.Waiting{
		Reason: v1alpha1.ReasonDeleting, After: min(h.options.CleanUpRetry, remaining), Err: pbxapi.Trouble(err),
	}
}

// neverRegistered reports whether nothing was ever created for the mapping: it has a status, and no
// extension in it.
func neverRegistered(mapping *v1alpha1.ExtensionMapping) bool {
	return mapping.Status.ExtensionID == "" && lifecycle.Ready(mapping) != nil
}

// forget drops what is kept of a mapping that is done with.
func (h *handler) forget(mapping types.UID) {
	h.seen.forget(mapping)
	h.failures.Forget(mapping)
}

// removeEverywhere removes the registrations from every owner that may have them: the recorded ones
// and the extension of the spec.
func (h *handler) removeEverywhere(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping) error {
	owners := recorded(mapping).ids()
	if len(owners) == 0 {
		var err error
		if owners, err = h.lookUp(ctx, to, mapping); err != nil {
			return err
		}
	}
	if id := mapping.Spec.Extension.ID; id != "" && !to.knowsByNumber() && !slices.Contains(owners, id) {
		owners = append(owners, id)
	}
	for _, owner := range owners {
		if err := h.removeAll(ctx, to, mapping, owner); err != nil {
			return err
		}
	}
	return nil
}

// lookUp finds the owners of a mapping whose status was lost.
func (h *handler) lookUp(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping) ([]string, error) {
	number := mapping.Spec.Extension.Number
	if to.knowsByNumber() {
		return []string{number}, nil
	}
	var at place
	if followsAgents(to.integration) {
		agent, _, err := to.pbx.Agent(ctx, number)
		if err != nil {
			return nil, err
		}
		at.agentID = agent.ID
	}
	if mapping.Spec.Extension.ID == "" {
		extension, err := to.pbx.Extension(ctx, number)
		if err != nil && !isNotFound(err) {
			return nil, err
		}
		at.extensionID = extension.ID
	}
	return at.ids(), nil
}

// left tells of registrations that stay on the PBX although they should not.
func (h *handler) left(mapping *v1alpha1.ExtensionMapping, why string) lifecycle.Notice {
	h.metrics.LeftBehind()
	return h.remains(mapping, why)
}

// remains tells of registrations that stay on the PBX.
func (h *handler) remains(mapping *v1alpha1.ExtensionMapping, why string) lifecycle.Notice {
	known := "their ids are unknown"
	if ids := h.seen.of(mapping.UID); len(ids) > 0 {
		known = "ids " + strings.Join(ids, ", ")
	}
	where := extensionName(mapping)
	if mapping.Status.AgentID != "" {
		where += " and queue agent " + mapping.Status.AgentID
	}
	return lifecycle.Notice{
		Reason:  v1alpha1.ReasonRegistrationsLeft,
		Warning: true,
		Message: fmt.Sprintf("registrations of this mapping may be left on %s of the PBX (%s): remove them there if they are not wanted."+
			" Reason: %s", where, known, why),
	}
}

// sightings remembers the ids of the registrations of each mapping by owner, to be able to name
// them when the PBX cannot be asked any more.
type sightings struct {
	mu  sync.Mutex
	ids map[types.UID]map[string][]string
}

func newSightings() *sightings { return &sightings{ids: map[types.UID]map[string][]string{}} }

func (s *sightings) note(mapping types.UID, owner string, ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids[mapping] == nil {
		s.ids[mapping] = map[string][]string{}
	}
	s.ids[mapping][owner] = ids
}

// of returns the ids in the order of their owners' ids.
func (s *sightings) of(mapping types.UID) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, owner := range slices.Sorted(maps.Keys(s.ids[mapping])) {
		ids = append(ids, s.ids[mapping][owner]...)
	}
	return ids
}

func (s *sightings) forget(mapping types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ids, mapping)
}
