package backfill

import (
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// leg is what backfill needs to know of a CallLeg.
type leg struct {
	name, callID, extension string
	direction               v1alpha1.Direction
	start, end              time.Time
}

// legsAtOnce bounds how many CallLegs are in memory as a whole.
const legsAtOnce = 500

// legs are the CallLegs of an integration that keep lets through.
func (h *handler) legs(
	ctx context.Context, p *v1alpha1.PBXIntegration, keep func(*v1alpha1.CallLegStatus) bool, which ...client.ListOption,
) ([]leg, error) {
	var found []leg
	which = append(which, client.InNamespace(p.Namespace), client.MatchingLabels{v1alpha1.LabelIntegration: p.Name})
	options := (&client.ListOptions{Limit: legsAtOnce}).ApplyOptions(which)
	for {
		var list v1alpha1.CallLegList
		if err := h.live.List(ctx, &list, options); err != nil {
			return nil, fmt.Errorf("cannot list the call legs: %w", err)
		}
		for i := range list.Items {
			if status := &list.Items[i].Status; status.StartTime != nil && keep(status) {
				found = append(found, newLeg(list.Items[i].Name, status))
			}
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return found, nil
		}
	}
}

func newLeg(name string, status *v1alpha1.CallLegStatus) leg {
	one := leg{
		name: name, callID: status.CallID, extension: status.Extension, direction: status.Direction, start: status.StartTime.Time,
	}
	if status.EndTime != nil {
		one.end = status.EndTime.Time
	}
	return one
}
