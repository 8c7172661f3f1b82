package integration

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

// DeletionDeadline is how long a deleted integration waits for its mappings to remove their registrations.
const DeletionDeadline = 5 * time.Minute

// named is how many mappings the Event about what is left names.
const named = 10

// Finalize keeps a deleted integration, and with it its keys and its receiver, until its mappings have removed their registrations from
// the PBX, which is the work of their own controller. It lets go at the deadline, or at once when the registrations are to stay.
func (c *Controller) Finalize(ctx context.Context, p *v1alpha1.PBXIntegration) (lifecycle.Done, error) {
	var done lifecycle.Done
	if p.Spec.DeletionPolicy != v1alpha1.DeletionOrphan {
		mappings, err := c.mappings(ctx, p)
		if err != nil {
			return done, fmt.Errorf("cannot list the mappings: %w", err)
		}
		left := unreleased(mappings)
		remaining := p.DeletionTimestamp.Add(DeletionDeadline).Sub(c.Clock.Now())
		if len(left) > 0 && remaining > 0 {
			return done, lifecycle.Waitingf(v1alpha1.ReasonDeleting, min(remaining, 10*time.Second),
				"waiting for %d mappings to remove their registrations from the PBX", len(left))
		}
		done.Notice = remains(left)
	}
	c.forget(p)
	return done, nil
}

func (c *Controller) forget(p *v1alpha1.PBXIntegration) {
	c.PBXes.Forget(p.UID)
	c.checks.forget(p.UID)
	c.children.forget(p.UID)
	c.Secrets.Forget(keySecretKey(p))
}

func unreleased(mappings []v1alpha1.ExtensionMapping) []string {
	var names []string
	for i := range mappings {
		if !released(&mappings[i]) {
			names = append(names, mappings[i].Name)
		}
	}
	return names
}

// released tells whether the controller of a mapping has done what it can about the registrations of a deleted integration.
func released(mapping *v1alpha1.ExtensionMapping) bool {
	ready := lifecycle.Ready(mapping)
	if ready == nil || ready.Status != metav1.ConditionFalse || ready.ObservedGeneration != mapping.Generation {
		return false
	}
	switch ready.Reason {
	case v1alpha1.ReasonRegistrationsDeleted, v1alpha1.ReasonRegistrationsLeft:
		return true
	case v1alpha1.ReasonIntegrationNotFound, v1alpha1.ReasonIntegrationNotReady:
		return mapping.Status.RegisteredEvents == nil || *mapping.Status.RegisteredEvents == 0
	default:
		return false
	}
}

// remains tells which mappings may still have registrations on the PBX.
func remains(left []string) lifecycle.Notice {
	if len(left) == 0 {
		return lifecycle.Notice{}
	}
	listed := strings.Join(left[:min(len(left), named)], ", ")
	if len(left) > named {
		listed += fmt.Sprintf(" and %d more", len(left)-named)
	}
	return lifecycle.Notice{
		Reason:  v1alpha1.ReasonRegistrationsLeft,
		Warning: true,
		Message: fmt.Sprintf("the deadline of %s passed; registrations may be left on the PBX for the mappings %s: remove them there", DeletionDeadline, listed),
	}
}
