// Package extension keeps the event registrations on a PBX in step with the ExtensionMappings.
//
// Before the first registration is made on an extension its id is written to the status of the mapping, so that a crash at any moment
// leaves nothing behind that nobody knows of. Everything else is decided anew in each pass, from what the PBX says it has.
package extension

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/extension/registration"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/secrets"
)

// registrationMethod is how the PBX shall call an event URL. With GET the parameters would be part of the URL.
const registrationMethod = http.MethodPost

const (
	// nextStep is when to go on after a step that had to be written down first: as soon as the cache has it.
	nextStep = 50 * time.Millisecond
	// secondLook follows a pass that corrected something, or whose predecessor got no answer: a request may be carried out late, and
	// another controller may have been at work. It is longer than the PBX is waited for.
	secondLook = 30 * time.Second
)

// handler makes the passes over mappings.
type handler struct {
	client  client.Client // cached
	live    client.Reader
	pool    *pbxapi.Pool
	secrets *secrets.Reader
	clock   clock.PassiveClock
	options Options
	metrics *Metrics
	seen    *sightings
}

var _ lifecycle.Handler[*v1alpha1.ExtensionMapping] = (*handler)(nil)

// Suspended leaves the decision to Reconcile: the deletion of the integration removes the registrations of a suspended mapping, too.
func (h *handler) Suspended(*v1alpha1.ExtensionMapping) bool { return false }

// Reconcile makes the extension carry each of the desired registrations exactly once.
func (h *handler) Reconcile(ctx context.Context, mapping *v1alpha1.ExtensionMapping) (lifecycle.Done, error) {
	integration, err := h.integrationOf(ctx, mapping)
	switch {
	case err != nil:
		return lifecycle.Done{}, err
	case integration == nil:
		return lifecycle.Done{}, lifecycle.Waitingf(v1alpha1.ReasonIntegrationNotFound, missingRetry,
			"there is no PBXIntegration %s in this namespace", mapping.Spec.IntegrationRef.Name)
	case !integration.DeletionTimestamp.IsZero():
		return h.release(ctx, mapping, integration)
	case mapping.Spec.Suspend:
		return suspended(mapping, "spec.suspend is set")
	case integration.Spec.Suspend:
		return suspended(mapping, fmt.Sprintf("PBXIntegration %s is suspended", integration.Name))
	}
	to, err := h.access(ctx, integration, h.secrets.Get)
	if err != nil {
		return lifecycle.Done{}, err
	}
	extensionID, err := h.target(ctx, to, mapping)
	if err != nil {
		return lifecycle.Done{}, err
	}
	if err := h.refuseDuplicate(ctx, mapping, extensionID); err != nil {
		return lifecycle.Done{}, h.leave(ctx, to, mapping, err)
	}
	if mapping.Status.ExtensionID != extensionID {
		return lifecycle.Done{}, h.move(ctx, to, mapping, extensionID)
	}
	return h.register(ctx, to, mapping)
}

// suspended is the outcome for a mapping that is left alone. What was Ready stays so: nobody looks, so nobody knows better.
func suspended(mapping *v1alpha1.ExtensionMapping, why string) (lifecycle.Done, error) {
	message := why + ": nothing is checked or changed; Ready keeps the status it had"
	if ready := lifecycle.Ready(mapping); ready != nil && ready.Status == metav1.ConditionTrue {
		return lifecycle.Done{Reason: v1alpha1.ReasonSuspended, Message: message}, nil
	}
	return lifecycle.Done{}, lifecycle.Waitingf(v1alpha1.ReasonSuspended, missingRetry, "%s", message)
}

// target is the id of the extension that the spec names. Once all is registered the recorded id is good until the PBX disowns it, as
// an id always means one number.
func (h *handler) target(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping) (string, error) {
	want := mapping.Spec.Extension
	switch {
	case want.ID != "":
		return want.ID, nil
	case lifecycle.IsReady(mapping) && mapping.Status.ExtensionID != "":
		return mapping.Status.ExtensionID, nil
	}
	found, err := to.pbx.Extension(ctx, want.Number)
	switch {
	case isNotFound(err):
		return "", h.lost(ctx, to, mapping, err)
	case err != nil:
		return "", outcomeOf(mapping, err)
	case found.Type != "" && found.Type != want.Type:
		return "", lifecycle.Terminalf(v1alpha1.ReasonInvalidSpec,
			"extension %s is of type %s on the PBX, but spec.extension.type is %s: correct it, because calls are judged by it",
			want.Number, found.Type, want.Type)
	}
	return found.ID, nil
}

// lost is the outcome for a number that the PBX does not know. Registrations that the mapping has on the extension it named before
// have no business there any more; where that one is gone too, so are they.
func (h *handler) lost(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping, err error) error {
	outcome := lifecycle.Terminal{Reason: v1alpha1.ReasonExtensionNotFound, Err: err, After: h.retry(mapping)}
	if to.pbx.HasExtension(mapping.Status.ExtensionID) {
		return h.leave(ctx, to, mapping, outcome)
	}
	nothingRegistered(mapping, to)
	return outcome
}

// leave removes the registrations of a mapping that has no right to its extension, and returns why.
func (h *handler) leave(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping, why error) error {
	if mapping.Status.ExtensionID == "" {
		nothingRegistered(mapping, to)
		return why
	}
	if err := h.confirm(ctx, mapping); err != nil {
		return err
	}
	if _, err := h.removeAll(ctx, to, mapping, mapping.Status.ExtensionID); err != nil {
		return outcomeOf(mapping, err)
	}
	mapping.Status.ExtensionID = ""
	nothingRegistered(mapping, to)
	return why
}

func nothingRegistered(mapping *v1alpha1.ExtensionMapping, to access) {
	mapping.Status.RegisteredEvents, mapping.Status.ExtensionEvents = new(int32(0)), nil
	mapping.Status.KeyGeneration = to.ring.Current().Generation
}

// move removes the registrations from the extension that the mapping had so far, and writes down which one is next.
func (h *handler) move(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping, extensionID string) error {
	if mapping.Status.ExtensionID != "" {
		if err := h.leave(ctx, to, mapping, nil); err != nil {
			return err
		}
	}
	mapping.Status.ExtensionID = extensionID
	return lifecycle.Waitingf(v1alpha1.ReasonProgressing, nextStep, "about to register on extension %s", nameOf(mapping))
}

// register brings the registrations on the recorded extension in line with the spec.
func (h *handler) register(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping) (lifecycle.Done, error) {
	before := mapping.DeepCopy()
	ctx, err := admit(ctx, to, mapping)
	if err != nil {
		return lifecycle.Done{}, outcomeOf(mapping, err)
	}
	current, err := to.pbx.Registrations(ctx, mapping.Status.ExtensionID)
	switch {
	case isNotFound(err):
		return lifecycle.Done{}, h.gone(to, mapping, err)
	case err != nil:
		return lifecycle.Done{}, outcomeOf(mapping, err)
	}
	w := &work{handler: h, to: to, mapping: mapping, current: current, limit: pbxapi.EventLimit(to.integration.Spec.PBX)}
	err = w.converge(ctx)
	w.report()
	switch {
	case err != nil:
		return lifecycle.Done{}, outcomeOf(mapping, err)
	case len(w.blocked) > 0:
		return lifecycle.Done{}, lifecycle.Terminal{Reason: v1alpha1.ReasonEventLimitReached, Err: w.limitError(), After: h.retry(mapping)}
	}
	mapping.Status.KeyGeneration = to.ring.Current().Generation
	return w.done(before), nil
}

// gone is the outcome for an extension that the PBX disowns: deleted, or deleted and made anew under another id.
func (h *handler) gone(to access, mapping *v1alpha1.ExtensionMapping, err error) error {
	nothingRegistered(mapping, to)
	if mapping.Spec.Extension.ID != "" {
		return lifecycle.Terminal{
			Reason: v1alpha1.ReasonExtensionNotFound, After: h.retry(mapping),
			Err: fmt.Errorf("%w; correct spec.extension.id, or leave it out to have it looked up", err),
		}
	}
	after := h.retry(mapping)
	if to.pbx.ForgetExtensions() {
		after = nextStep
	}
	return lifecycle.Waiting{Reason: v1alpha1.ReasonExtensionNotFound, After: after, Err: err}
}

// retry is when to look again at something that somebody has to change on the PBX.
func (h *handler) retry(mapping *v1alpha1.ExtensionMapping) time.Duration {
	return lifecycle.Jitter(h.options.Retry, mapping.UID)
}

// admit reserves as many requests as a pass is likely to need: one when everything is expected to be in place.
func admit(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping) (context.Context, error) {
	wanted := len(mapping.DesiredEvents())
	switch {
	case mapping.Status.KeyGeneration != to.ring.Current().Generation && mapping.Status.KeyGeneration != 0:
		return to.pbx.Admit(ctx, 1+2*wanted)
	case lifecycle.IsReady(mapping):
		return to.pbx.AdmitRoutine(ctx, 1)
	default:
		return to.pbx.Admit(ctx, 1+wanted)
	}
}

// confirm makes sure that the mapping still is what the cache says before anything is changed on the PBX: what is created for a
// mapping that has just been moved or deleted would never be found again. A difference is a conflict, which asks for a new pass.
func (h *handler) confirm(ctx context.Context, mapping *v1alpha1.ExtensionMapping) error {
	fresh := &v1alpha1.ExtensionMapping{}
	if err := h.live.Get(ctx, client.ObjectKeyFromObject(mapping), fresh); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot confirm the mapping: %w", err)
	}
	if fresh.UID == mapping.UID && fresh.Generation == mapping.Generation && fresh.Status.ExtensionID == mapping.Status.ExtensionID &&
		fresh.DeletionTimestamp.Equal(mapping.DeletionTimestamp) {
		return nil
	}
	return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("extensionmappings").GroupResource(), mapping.Name,
		fmt.Errorf("it has changed meanwhile"))
}

// removeAll deletes the registrations of a mapping on one extension. An extension that is gone has none. It returns the ids of those
// that are left after an error.
func (h *handler) removeAll(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping, extensionID string) ([]string, error) {
	known := h.seen.of(mapping.UID)
	ctx, err := to.pbx.Admit(ctx, 1+max(len(known), len(mapping.DesiredEvents())))
	if err != nil {
		return known, err
	}
	current, err := to.pbx.Registrations(ctx, extensionID)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return known, err
	}
	own := to.own(mapping)
	left := idsOf(slices.DeleteFunc(current, func(r pbxapi.Registration) bool { return !own.Own(r) }))
	for len(left) > 0 {
		if err := to.pbx.Unregister(ctx, extensionID, left[0]); err != nil {
			return left, err
		}
		h.metrics.changed(registration.Delete)
		left = left[1:]
		h.seen.note(mapping.UID, left)
	}
	return nil, nil
}

func idsOf(registrations []pbxapi.Registration) []string {
	ids := make([]string, len(registrations))
	for i, registration := range registrations {
		ids[i] = registration.ID
	}
	return ids
}

// nameOf names the extension for people.
func nameOf(mapping *v1alpha1.ExtensionMapping) string {
	return fmt.Sprintf("%s (id %s)", mapping.Spec.Extension.Number, mapping.Status.ExtensionID)
}
