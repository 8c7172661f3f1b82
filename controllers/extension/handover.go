package extension

import (
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// handOver lets a mapping that is being deleted keep its registrations until the one that replaces
// it has its own, so that no event is lost between the two. What both deliver meanwhile counts
// once. It returns a Waiting until the registrations may be removed.
func (h *handler) handOver(ctx context.Context, mapping *v1alpha1.ExtensionMapping, integration *v1alpha1.PBXIntegration) error {
	if neverRegistered(mapping) || integration == nil || !integration.DeletionTimestamp.IsZero() ||
		!pbxapi.HasRegistrations(integration.Spec.PBX) || integration.Spec.DeletionPolicy == v1alpha1.DeletionOrphan {
		return nil
	}
	next, err := h.successors(ctx, mapping, integration)
	if err != nil || len(next) == 0 {
		return err
	}
	wait := patience(next, h.options.DeletionDeadline-h.clock.Since(mapping.DeletionTimestamp.Time))
	if wait <= 0 {
		return nil
	}
	return lifecycle.Waitingf(v1alpha1.ReasonDeleting, min(h.options.CleanUpRetry, wait),
		"ExtensionMapping %s takes over %s: the registrations of this one stay until it is Ready", next[0].Name, extensionName(mapping))
}

// successors are the mappings that replace one that is being deleted: they claim an extension on
// which it has registrations.
func (h *handler) successors(
	ctx context.Context, mapping *v1alpha1.ExtensionMapping, integration *v1alpha1.PBXIntegration,
) ([]v1alpha1.ExtensionMapping, error) {
	wanted := claims(mapping)
	if pbxapi.KnowsByNumber(integration.Spec.PBX) {
		wanted = wanted[:1]
	}
	var found []v1alpha1.ExtensionMapping
	for _, claim := range wanted {
		var list v1alpha1.ExtensionMappingList
		if err := h.client.List(ctx, &list, client.InNamespace(mapping.Namespace), client.MatchingFields{indexClaims: claim}); err != nil {
			return nil, fmt.Errorf("cannot look for the mapping that replaces this one: %w", err)
		}
		for i := range list.Items {
			if list.Items[i].UID != mapping.UID && !terminating(&list.Items[i]) {
				found = append(found, list.Items[i])
			}
		}
	}
	return found, nil
}

// patience is for how long to wait for one of the successors, when so much is left until the
// deadline; not positive when there is no need any more. The time that one waits for its turn does
// not count, be it at the PBX or to be looked at for the first time: that is sure to come, however
// many are replaced at once, and however long the operator was away.
func patience(successors []v1alpha1.ExtensionMapping, left time.Duration) time.Duration {
	for i := range successors {
		switch {
		case takesOver(&successors[i]):
			return 0
		case !observed(&successors[i]), hasReason(&successors[i], v1alpha1.ReasonRateLimited):
			left = max(left, missingRetry)
		}
	}
	return left
}

// takesOver reports whether the registrations of a predecessor can go: the mapping has its own, or
// lacks the room for them that those of the predecessor may take.
func takesOver(obj client.Object) bool {
	mapping, ok := obj.(*v1alpha1.ExtensionMapping)
	return ok && (lifecycle.IsReady(mapping) || short(mapping))
}

// short reports whether an extension has no room for all registrations of a mapping.
func short(mapping *v1alpha1.ExtensionMapping) bool {
	return hasReason(mapping, v1alpha1.ReasonEventLimitReached)
}

func hasReason(mapping *v1alpha1.ExtensionMapping, reason string) bool {
	ready := lifecycle.Ready(mapping)
	return ready != nil && ready.Reason == reason && ready.ObservedGeneration == mapping.Generation
}

// observed reports whether the present spec of a mapping was looked at.
func observed(mapping *v1alpha1.ExtensionMapping) bool {
	ready := lifecycle.Ready(mapping)
	return ready != nil && ready.ObservedGeneration == mapping.Generation
}
