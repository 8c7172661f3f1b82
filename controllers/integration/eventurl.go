package integration

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// KeyEventURL is the key of the event URL in the Secret that status.eventURLSecretRef names. Where
// a PBX calls one URL for each event, the others have the name of the event as their key.
const KeyEventURL = "url"

// pathEvents are the events of LinuxBox that are told apart by the path (LinuxBox: PBX Notifikace).
var pathEvents = []string{
	"start_call", "queue_in", "queue_out", "start_int_dial", "start_ext_dial",
	"answered_internal", "answered_external", "hangup_internal", "call_end",
}

// EventURLSecretName is the name of the Secret with the event URL of a PBX that is configured by
// hand.
func EventURLSecretName(integration string) string { return integration + "-event-url" }

func eventURLSecretKey(p *v1alpha1.PBXIntegration) types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: EventURLSecretName(p.Name)}
}

// byHand reports whether an administrator has to enter the event URL on the PBX.
func byHand(p *v1alpha1.PBXIntegration) bool { return !pbxapi.HasRegistrations(p.Spec.PBX) }

// perPath reports whether the PBX is given one URL for each event.
func perPath(p *v1alpha1.PBXIntegration) bool {
	box := p.Spec.PBX.LinuxBox
	return box != nil && box.Dialect == v1alpha1.LinuxBoxPath
}

// eventURLs is the content of the Secret.
func eventURLs(p *v1alpha1.PBXIntegration, ring eventurl.Ring) map[string][]byte {
	publicURL, token := p.Spec.Receiver.PublicURL, ring.Current().Token(accountOf(p))
	data := map[string][]byte{KeyEventURL: []byte(eventurl.URL(publicURL, token, ""))}
	if perPath(p) {
		for _, event := range pathEvents {
			data[event] = []byte(eventurl.URL(publicURL, token, "/"+event))
		}
	}
	return data
}

// reconcileEventURL keeps the Secret with the event URL of a PBX that is configured by hand, and
// undoes what others do to it.
func (c *Controller) reconcileEventURL(ctx context.Context, p *v1alpha1.PBXIntegration, ring eventurl.Ring) error {
	if !byHand(p) || len(ring) == 0 {
		return nil
	}
	secret, err := c.ownSecret(ctx, p, eventURLSecretKey(p))
	if err != nil {
		p.Status.EventURLSecretRef = nil
		return err
	}
	p.Status.EventURLSecretRef = &v1alpha1.SecretReference{Name: EventURLSecretName(p.Name)}
	wanted := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: EventURLSecretName(p.Name)}}
	if secret != nil {
		wanted = secret.DeepCopy()
	}
	label(wanted, p)
	if !metav1.IsControlledBy(wanted, p) {
		wanted.OwnerReferences = append(wanted.OwnerReferences, *metav1.NewControllerRef(p, v1alpha1.GroupVersion.WithKind(kindIntegration)))
	}
	wanted.Data = eventURLs(p, ring)
	if secret != nil && equality.Semantic.DeepEqual(secret.ObjectMeta, wanted.ObjectMeta) && maps.EqualFunc(secret.Data, wanted.Data, bytes.Equal) {
		return nil
	}
	return c.writeSecret(ctx, wanted, "the Secret with the event URL")
}

// toEnter tells the administrator what to do on the PBX.
func toEnter(p *v1alpha1.PBXIntegration) string {
	switch {
	case p.Status.EventURLSecretRef == nil:
		return "wait for the Secret with the event URL"
	case perPath(p):
		return fmt.Sprintf("enter the URLs from Secret %s on the PBX (one key for each event, such as %s)",
			EventURLSecretName(p.Name), pathEvents[0])
	}
	return fmt.Sprintf("enter the URL from Secret %s (key %s) on the PBX", EventURLSecretName(p.Name), KeyEventURL)
}

// replaced tells that the event URL has been another one since the last rotation; empty where it
// has not.
func replaced(p *v1alpha1.PBXIntegration, ring eventurl.Ring) string {
	if len(ring) < 2 || ring[0].Generation < ring[1].Generation {
		return "" // the newest key is not in force yet
	}
	return fmt.Sprintf("; since the key was rotated there is a new event URL: %s; until the next rotation the old one works, too", toEnter(p))
}

// reportEvents reports whether events have come from a PBX that is configured by hand, and what
// there is to do if not. It returns the message of Ready, which does not depend on it: a pipeline
// that waits for Ready cannot go to the PBX.
func (c *Controller) reportEvents(p *v1alpha1.PBXIntegration, ring eventurl.Ring, done *lifecycle.Done) string {
	message := "the receiver takes events"
	if answers(p.Spec.PBX) {
		message = "the PBX answers and " + message
	}
	if !byHand(p) {
		lifecycle.RemoveCondition(p, v1alpha1.ConditionEventsReceived)
		return message
	}
	if p.Status.Events == nil || p.Status.Events.FirstTime == nil {
		missing := "no event has come yet: " + toEnter(p)
		c.condition(p, v1alpha1.ConditionEventsReceived, metav1.ConditionFalse, v1alpha1.ReasonAwaitingFirstEvent, missing)
		return message + "; " + missing + ". Ready does not wait for it"
	}
	first := fmt.Sprintf("the first event came at %s", p.Status.Events.FirstTime.UTC().Format(time.RFC3339))
	if awaited(p) && done.Notice.Reason == "" {
		done.Notice = lifecycle.Notice{Reason: v1alpha1.ReasonEventsReceived, Message: first}
	}
	c.condition(p, v1alpha1.ConditionEventsReceived, metav1.ConditionTrue, v1alpha1.ReasonEventsReceived, first+replaced(p, ring))
	return message + replaced(p, ring)
}

// awaited reports whether the last pass was still waiting for the first event.
func awaited(p *v1alpha1.PBXIntegration) bool {
	for _, condition := range p.Status.Conditions {
		if condition.Type == v1alpha1.ConditionEventsReceived {
			return condition.Status == metav1.ConditionFalse
		}
	}
	return false
}
