package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

// DeletionDeadline is how long a deleted integration waits for its registrations and those of its mappings to be removed.
const DeletionDeadline = 5 * time.Minute

// deletionRetry is how often to try, or to look, meanwhile.
const deletionRetry = 10 * time.Second

// named is how many mappings the Event about what is left names.
const named = 10

// Finalize keeps a deleted integration, and with it its keys and its receiver, until its own registrations and those of its mappings,
// which are the work of their own controller, are gone from the PBX. It lets go at the deadline, or at once when the registrations are to
// stay.
func (c *Controller) Finalize(ctx context.Context, p *v1alpha1.PBXIntegration) (lifecycle.Done, error) {
	if p.Spec.DeletionPolicy == v1alpha1.DeletionOrphan {
		notice := remains(c.orphaned(p))
		notice.Warning = false
		c.forget(p)
		return lifecycle.Done{Notice: notice}, nil
	}
	account, accountErr := c.releaseAccount(ctx, p)
	mappings, mappingsErr := c.awaitMappings(ctx, p)
	if err := worst(accountErr, mappingsErr); err != nil {
		return lifecycle.Done{}, err
	}
	c.forget(p)
	return lifecycle.Done{Notice: remains(account, mappings)}, nil
}

// orphaned tells which account-wide registrations stay because they are to.
func (c *Controller) orphaned(p *v1alpha1.PBXIntegration) string {
	if p.Status.RegisteredEvents == nil {
		return ""
	}
	return leftOnAccount(c.looks.get(p.UID).ids, errors.New("deletionPolicy is Orphan"))
}

// awaitMappings waits until the mappings of a deleted integration have let go. It returns what there is to say of those that have not.
func (c *Controller) awaitMappings(ctx context.Context, p *v1alpha1.PBXIntegration) (left string, err error) {
	mappings, err := c.mappings(ctx, p)
	if err != nil {
		return "", fmt.Errorf("cannot list the mappings: %w", err)
	}
	names := unreleased(mappings)
	remaining := p.DeletionTimestamp.Add(DeletionDeadline).Sub(c.Clock.Now())
	switch {
	case len(names) == 0:
		return "", nil
	case remaining > 0:
		return "", lifecycle.Waitingf(v1alpha1.ReasonDeleting, min(remaining, deletionRetry),
			"waiting for %d mappings to remove their registrations from the PBX", len(names))
	}
	listed := strings.Join(names[:min(len(names), named)], ", ")
	if len(names) > named {
		listed += fmt.Sprintf(" and %d more", len(names)-named)
	}
	return fmt.Sprintf("the deadline of %s passed; registrations may be left on the PBX for the mappings %s: remove them there",
		DeletionDeadline, listed), nil
}

func (c *Controller) forget(p *v1alpha1.PBXIntegration) {
	c.PBXes.Forget(p.UID)
	c.checks.forget(p.UID)
	c.looks.forget(p.UID)
	c.children.forget(p.UID)
	c.Secrets.Forget(keySecretKey(p), eventURLSecretKey(p))
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

// remains tells what may be left on the PBX.
func remains(left ...string) lifecycle.Notice {
	left = slices.DeleteFunc(left, func(text string) bool { return text == "" })
	if len(left) == 0 {
		return lifecycle.Notice{}
	}
	return lifecycle.Notice{Reason: v1alpha1.ReasonRegistrationsLeft, Warning: true, Message: strings.Join(left, "; ")}
}
