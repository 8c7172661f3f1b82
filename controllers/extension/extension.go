// Package extension keeps the event registrations on a PBX in step with the ExtensionMappings.
//
// Before the first registration is made on an extension, or on the queue agent at it, its id is
// written to the status of the mapping, so that a crash at any moment leaves nothing behind that
// nobody knows of. Everything else is decided anew in each pass, from what the PBX says it has. On
// a PBX that is configured by hand a mapping only says whose an extension is.
package extension

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/extension/registration"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/secrets"
)

// registrationMethod is how the PBX shall call an event URL. With GET the parameters would be part
// of the URL.
const registrationMethod = http.MethodPost

const (
	// nextStep is when to go on after a step that had to be written down first: as soon as the
	// cache has it.
	nextStep = 50 * time.Millisecond
	// secondLook follows a pass that corrected something, or whose predecessor got no answer: a
	// request may be carried out late, and another controller may have been at work. It is longer
	// than the PBX is waited for.
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
	metrics *registration.Metrics
	seen    *sightings
	// failures are those of removals.
	failures *registration.Failures
}

var _ lifecycle.Handler[*v1alpha1.ExtensionMapping] = (*handler)(nil)

// Suspended leaves the decision to Reconcile: the deletion of the integration removes the
// registrations of a suspended mapping, too.
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
		return lifecycle.Done{}, lifecycle.Suspended{Err: errors.New("spec.suspend is set: " + lifecycle.LeftAlone)}
	case integration.Spec.Suspend:
		return lifecycle.Done{}, lifecycle.Suspended{
			Elsewhere: true, Err: fmt.Errorf("PBXIntegration %s is suspended: %s", integration.Name, lifecycle.LeftAlone),
		}
	}
	if !pbxapi.HasRegistrations(integration.Spec.PBX) {
		return h.mapped(ctx, mapping)
	}
	if accountPending(integration, mapping) {
		return lifecycle.Done{}, lifecycle.Waitingf(v1alpha1.ReasonIntegrationNotReady, pendingRetry,
			"PBXIntegration %s is about to register for the events of the whole account", integration.Name)
	}
	to, err := h.access(ctx, integration, h.secrets)
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
	agentID, agentErr := h.agent(ctx, to, mapping, extensionID)
	if _, limited := errors.AsType[*pbxapi.RateLimitedError](agentErr); limited {
		return lifecycle.Done{}, outcomeOf(mapping, agentErr)
	}
	if err := h.move(ctx, to, mapping, place{extensionID, agentID}); err != nil {
		return lifecycle.Done{}, err
	}
	done, err := h.register(ctx, to, mapping)
	if err == nil {
		err = outcomeOf(mapping, optional(agentErr))
	}
	return done, err
}

// mapped is the outcome on a PBX that is told by hand where to send its events: nothing is
// registered for a mapping.
func (h *handler) mapped(ctx context.Context, mapping *v1alpha1.ExtensionMapping) (lifecycle.Done, error) {
	record(mapping, place{})
	mapping.Status.RegisteredEvents, mapping.Status.ExtensionEvents = new(int32(0)), nil
	if err := h.refuseDuplicate(ctx, mapping, ""); err != nil {
		return lifecycle.Done{}, err
	}
	whose := ""
	if mapping.Spec.User != nil {
		whose = " to user " + mapping.Spec.User.Name
	}
	return lifecycle.Done{Reason: v1alpha1.ReasonMapped, Message: fmt.Sprintf(
		"extension %s is mapped%s; its events come by the event URL of PBXIntegration %s, which is entered on the PBX by hand",
		mapping.Spec.Extension.Number, whose, mapping.Spec.IntegrationRef.Name)}, nil
}

// target is the id of the extension that the spec names. Once all is registered the recorded id is
// good until the PBX disowns it, as an id always means one number.
func (h *handler) target(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping) (string, error) {
	want := mapping.Spec.Extension
	switch {
	case to.knowsByNumber():
		return want.Number, nil
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

// lost is the outcome for a number that the PBX does not know. Registrations that the mapping has
// on the extension it named before have no business there any more; where that one is gone too, so
// are they.
func (h *handler) lost(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping, err error) error {
	outcome := lifecycle.Terminal{Reason: v1alpha1.ReasonExtensionNotFound, Err: err, After: h.retry(mapping)}
	if to.pbx.HasExtension(mapping.Status.ExtensionID) {
		return h.leave(ctx, to, mapping, outcome)
	}
	nothingRegistered(mapping, to)
	return outcome
}

// agent is the id of the queue agent at the extension; empty where there is none, or none is to be
// followed. Where the PBX does not tell, it is the one so far: call events must not wait for it.
func (h *handler) agent(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping, extensionID string) (string, error) {
	if !followsAgents(to.integration) || mapping.Spec.Extension.Type != v1alpha1.ExtensionPhone {
		return "", nil
	}
	found, _, err := to.pbx.Agent(ctx, mapping.Spec.Extension.Number)
	if err != nil && extensionID == mapping.Status.ExtensionID {
		return mapping.Status.AgentID, err
	}
	return found.ID, err
}

// optional adds to an error that concerns queue agents that it does, and to a refusal how to do
// without them.
func optional(err error) error {
	if errors.Is(err, pbxapi.ErrUnreachable) {
		return fmt.Errorf("cannot see to queue agents: %w", pbxapi.Trouble(err))
	}
	if errors.Is(err, pbxapi.ErrForbidden) || errors.Is(err, pbxapi.ErrRejected) {
		return fmt.Errorf("%w; set spec.pbx.ringMe.queueAgents of the PBXIntegration to Ignore to do without queue agents", err)
	}
	return err
}

// leave removes the registrations of a mapping that has no right to its extension, and returns why.
func (h *handler) leave(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping, why error) error {
	if err := h.vacate(ctx, to, mapping, recorded(mapping).ids()); err != nil {
		return err
	}
	record(mapping, place{})
	nothingRegistered(mapping, to)
	return why
}

// vacate removes the registrations of a mapping from some of its owners.
func (h *handler) vacate(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping, owners []string) error {
	for _, owner := range owners {
		if err := h.removeAll(ctx, to, mapping, owner); err != nil {
			return outcomeOf(mapping, err)
		}
	}
	return nil
}

func nothingRegistered(mapping *v1alpha1.ExtensionMapping, to access) {
	mapping.Status.RegisteredEvents, mapping.Status.ExtensionEvents = new(int32(0)), nil
	mapping.Status.KeyGeneration = to.ring.Current().Generation
}

// move removes the registrations from where the mapping had them so far and shall have none any
// more. What is new has to be written down before anything is registered there.
func (h *handler) move(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping, next place) error {
	from := recorded(mapping)
	if err := h.vacate(ctx, to, mapping, from.beyond(next)); err != nil {
		return err
	}
	if from.extensionID != "" && from.extensionID != next.extensionID {
		nothingRegistered(mapping, to)
	}
	record(mapping, next)
	if len(next.beyond(from)) == 0 {
		return nil
	}
	return lifecycle.Waitingf(v1alpha1.ReasonProgressing, nextStep, "about to register on %s", extensionName(mapping))
}

// register brings the registrations on the recorded owners in line with the spec.
func (h *handler) register(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping) (lifecycle.Done, error) {
	before := mapping.DeepCopy()
	if !wantsAccount(to.integration) {
		mapping.Status.Phone = nil
	}
	owners := to.owners(mapping)
	ctx, err := admit(ctx, to, mapping, owners)
	if err != nil {
		return lifecycle.Done{}, outcomeOf(mapping, err)
	}
	p := &pass{handler: h, to: to, mapping: mapping}
	if err := p.settle(ctx, owners); err != nil {
		return lifecycle.Done{}, err
	}
	mapping.Status.KeyGeneration = to.ring.Current().Generation
	return p.done(before), nil
}

// gone is the outcome for an extension that the PBX disowns: deleted, or deleted and made anew
// under another id.
func (h *handler) gone(to access, mapping *v1alpha1.ExtensionMapping, err error) error {
	nothingRegistered(mapping, to)
	field := ""
	switch {
	case to.knowsByNumber():
		field = "correct spec.extension.number"
	case mapping.Spec.Extension.ID != "":
		field = "correct spec.extension.id, or leave it out to have it looked up"
	}
	if field != "" {
		return lifecycle.Terminal{
			Reason: v1alpha1.ReasonExtensionNotFound, After: h.retry(mapping), Err: fmt.Errorf("%w; %s", err, field),
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

// admit reserves as many requests as a pass is likely to need: one for each owner when everything
// is expected to be in place.
func admit(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping, owners []owner) (context.Context, error) {
	wanted := 0
	for _, o := range owners {
		wanted += len(o.desired)
	}
	switch {
	case mapping.Status.KeyGeneration != to.ring.Current().Generation && mapping.Status.KeyGeneration != 0:
		return to.pbx.Admit(ctx, len(owners)+2*wanted)
	case lifecycle.IsReady(mapping):
		return to.pbx.AdmitRoutine(ctx, len(owners))
	default:
		return to.pbx.Admit(ctx, len(owners)+wanted)
	}
}

// confirm makes sure that the mapping still is what the cache says before anything is changed on
// the PBX: what is created for a mapping that has just been moved or deleted would never be found
// again. A difference is a conflict, which asks for a new pass.
func (h *handler) confirm(ctx context.Context, mapping *v1alpha1.ExtensionMapping) error {
	fresh := &v1alpha1.ExtensionMapping{}
	if err := h.live.Get(ctx, client.ObjectKeyFromObject(mapping), fresh); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot confirm the mapping: %w", err)
	}
	known := recorded(fresh)
	if fresh.UID == mapping.UID && fresh.Generation == mapping.Generation && fresh.DeletionTimestamp.Equal(mapping.DeletionTimestamp) &&
		known.extensionID == mapping.Status.ExtensionID && len(recorded(mapping).beyond(known)) == 0 {
		return nil
	}
	return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("extensionmappings").GroupResource(), mapping.Name,
		fmt.Errorf("it has changed meanwhile"))
}

// removeAll deletes the registrations of a mapping on one owner. One that is gone has none. The
// mapping is confirmed before the first: another of its name that was made meanwhile has the same
// event URLs.
func (h *handler) removeAll(ctx context.Context, to access, mapping *v1alpha1.ExtensionMapping, ownerID string) error {
	ctx, err := to.pbx.Admit(ctx, 1+max(len(h.seen.of(mapping.UID)), len(mapping.DesiredEvents())))
	if err != nil {
		return err
	}
	own := to.own(mapping)
	result, err := registration.Work{
		PBX: to.pbx, Owner: ownerID, Own: own, Limit: registration.NoLimit, Metrics: h.metrics,
		Confirm: func(ctx context.Context) error { return h.confirm(ctx, mapping) },
	}.Apply(ctx)
	if isNotFound(err) {
		result, err = registration.Result{Listed: true}, nil
	}
	if result.Listed {
		h.seen.note(mapping.UID, ownerID, registration.IDs(result.Ours(own)))
	}
	return err
}
