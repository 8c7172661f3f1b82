package extension

import (
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

// indexClaims is the cache index of mappings by the extensions that they lay claim to.
const indexClaims = "claims"

func numberClaim(integration, number string) string { return integration + "/number/" + number }

func idClaim(integration, id string) string { return integration + "/id/" + id }

// claims are the extensions that a mapping wants or still has registrations on.
func claims(mapping *v1alpha1.ExtensionMapping) []string {
	integration := mapping.Spec.IntegrationRef.Name
	list := []string{numberClaim(integration, mapping.Spec.Extension.Number)}
	for _, id := range []string{mapping.Spec.Extension.ID, mapping.Status.ExtensionID} {
		if claim := idClaim(integration, id); id != "" && !slices.Contains(list, claim) {
			list = append(list, claim)
		}
	}
	return list
}

// indexRefused is the cache index of the mappings that were refused as duplicates, by integration.
const indexRefused = "refused"

func refused(mapping *v1alpha1.ExtensionMapping) []string {
	if ready := lifecycle.Ready(mapping); ready == nil || ready.Reason != v1alpha1.ReasonDuplicateMapping {
		return nil
	}
	return []string{mapping.Spec.IntegrationRef.Name}
}

// IndexClaims registers the indexes of this controller.
func IndexClaims(ctx context.Context, indexer client.FieldIndexer) error {
	for name, values := range map[string]func(*v1alpha1.ExtensionMapping) []string{indexClaims: claims, indexRefused: refused} {
		err := indexer.IndexField(ctx, &v1alpha1.ExtensionMapping{}, name, func(obj client.Object) []string {
			if mapping, ok := obj.(*v1alpha1.ExtensionMapping); ok {
				return values(mapping)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("cannot index the mappings by %s: %w", name, err)
		}
	}
	return nil
}

// refuseDuplicate fails when an older mapping of the same integration lays claim to the extension:
// each call would be counted twice.
func (h *handler) refuseDuplicate(ctx context.Context, mapping *v1alpha1.ExtensionMapping, extensionID string) error {
	integration := mapping.Spec.IntegrationRef.Name
	for _, claim := range []string{numberClaim(integration, mapping.Spec.Extension.Number), idClaim(integration, extensionID)} {
		var rivals v1alpha1.ExtensionMappingList
		if err := h.client.List(ctx, &rivals, client.InNamespace(mapping.Namespace), client.MatchingFields{indexClaims: claim}); err != nil {
			return fmt.Errorf("cannot look for other mappings of the extension: %w", err)
		}
		for i := range rivals.Items {
			if prevails(&rivals.Items[i], mapping) {
				return h.duplicate(mapping, &rivals.Items[i])
			}
		}
	}
	return nil
}

// duplicate is the outcome for a mapping whose extension a rival keeps. Discovery deletes its own
// mapping of a number that a hand-written one names, so that nobody has to do anything then.
func (h *handler) duplicate(mapping, rival *v1alpha1.ExtensionMapping) error {
	number := mapping.Spec.Extension.Number
	if discovered(rival) && !discovered(mapping) && rival.Spec.Extension.Number == number {
		return lifecycle.Waitingf(v1alpha1.ReasonDuplicateMapping, h.options.CleanUpRetry,
			"extension %s is still mapped by the discovered ExtensionMapping %s: waiting for discovery to delete that one", number, rival.Name)
	}
	return lifecycle.Terminalf(v1alpha1.ReasonDuplicateMapping,
		"extension %s is mapped already by the older ExtensionMapping %s: delete one of the two, or map another extension", number, rival.Name)
}

// discovered reports whether discovery made a mapping. A copy of such a mapping has the label, but
// not the owner.
func discovered(mapping *v1alpha1.ExtensionMapping) bool {
	return mapping.Labels[v1alpha1.LabelDiscovered] != "" && metav1.GetControllerOf(mapping) != nil
}

// prevails reports whether rival keeps the extension. One that is being deleted gives it up.
func prevails(rival, mapping *v1alpha1.ExtensionMapping) bool {
	if rival.UID == mapping.UID || !rival.DeletionTimestamp.IsZero() {
		return false
	}
	if !rival.CreationTimestamp.Equal(&mapping.CreationTimestamp) {
		return rival.CreationTimestamp.Before(&mapping.CreationTimestamp)
	}
	return rival.UID < mapping.UID
}
