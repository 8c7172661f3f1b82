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
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// DeletionDeadline is for how long the removal of the account-wide registrations of a deleted
// integration may fail. Waiting for a turn at the PBX does not count; see registration.Failures.
// Mappings have a deadline of their own.
const DeletionDeadline = 5 * time.Minute

// deletionRetry is how often to try, or to look, meanwhile.
const deletionRetry = 10 * time.Second

// named is how many mappings the Event about what is left names.
const named = 10

// Finalize keeps a deleted integration, and with it its keys and its receiver, until its own
// registrations and those of its mappings, which are the work of their own controller, are gone
// from the PBX, or given up. It lets go at once when they are to stay. As long as any stay the key
// ring does, too: an integration of the same name recognises them by it.
func (c *Controller) Finalize(ctx context.Context, p *v1alpha1.PBXIntegration) (lifecycle.Done, error) {
	if p.Spec.DeletionPolicy == v1alpha1.DeletionOrphan {
		notice := remains(p, c.orphaned(p))
		notice.Warning = false
		c.forget(p)
		return lifecycle.Done{Notice: notice}, nil
	}
	account, accountErr := c.releaseAccount(ctx, p)
	mappings, mappingsErr := c.awaitMappings(ctx, p)
	err := worst(accountErr, mappingsErr)
	if err != nil {
		return lifecycle.Done{}, err
	}
	if account != "" {
		c.Registrations.LeftBehind()
	}
	if account == "" && mappings == "" {
		if mappings, err = c.releaseKeys(ctx, p); err != nil {
			return lifecycle.Done{}, err
		}
	}
	c.forget(p)
	return lifecycle.Done{Notice: remains(p, account, mappings)}, nil
}

// orphaned tells which account-wide registrations stay because they are to.
func (c *Controller) orphaned(p *v1alpha1.PBXIntegration) string {
	if p.Status.RegisteredEvents == nil {
		return ""
	}
	return leftOnAccount(c.accounts.get(p.UID).ids, errors.New("deletionPolicy is Orphan"))
}

// awaitMappings waits until the mappings of a deleted integration have let go, each at its own
// deadline at the latest. It returns what there is to say of registrations that are left.
func (c *Controller) awaitMappings(ctx context.Context, p *v1alpha1.PBXIntegration) (left string, err error) {
	mappings, err := c.mappings(ctx, p)
	if err != nil {
		return "", fmt.Errorf("cannot list the mappings: %w", err)
	}
	var gaveUp []string
	waiting := 0
	for i := range mappings {
		switch ready := lifecycle.Ready(&mappings[i]); {
		case !released(&mappings[i]):
			waiting++
		case ready.Reason == v1alpha1.ReasonRegistrationsLeft:
			gaveUp = append(gaveUp, mappings[i].Name)
		}
	}
	switch {
	case waiting > 0:
		return "", lifecycle.Waitingf(v1alpha1.ReasonDeleting, deletionRetry,
			"waiting for %d mappings to remove their registrations from the PBX, as fast as its rate limit allows; set deletionPolicy to Orphan"+
				" to leave them there", waiting)
	case len(gaveUp) == 0:
		return "", nil
	}
	listed := strings.Join(gaveUp[:min(len(gaveUp), named)], ", ")
	if len(gaveUp) > named {
		listed += fmt.Sprintf(" and %d more", len(gaveUp)-named)
	}
	return fmt.Sprintf("registrations may be left on the PBX for the mappings %s: remove them there", listed), nil
}

func (c *Controller) forget(p *v1alpha1.PBXIntegration) {
	c.PBXes.Forget(p.UID)
	c.checks.forget(p.UID)
	c.accounts.forget(p.UID)
	c.failures.Forget(p.UID)
	c.children.forget(p.UID)
	if c.Rollouts != nil {
		c.Rollouts.Forget(p)
	}
	c.Secrets.Forget(keySecretKey(p), eventURLSecretKey(p))
}

// released reports whether the controller of a mapping has done what it can about the registrations
// of a deleted integration.
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
func remains(p *v1alpha1.PBXIntegration, left ...string) lifecycle.Notice {
	left = slices.DeleteFunc(left, func(text string) bool { return text == "" })
	if len(left) == 0 {
		return lifecycle.Notice{}
	}
	kept := fmt.Sprintf("Secret %s stays, because an integration of this name recognises them by it: delete it when they are gone",
		eventurl.SecretName(p.Name))
	return lifecycle.Notice{Reason: v1alpha1.ReasonRegistrationsLeft, Warning: true, Message: strings.Join(append(left, kept), "; ")}
}
