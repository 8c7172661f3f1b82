package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/extension/registration"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// Account-wide registrations stand for those of all phones (RingMe: Global events of all telephone
// terminals in PBX). That there may be any is written to status.registeredEvents before the first
// one is made, so that a crash at any moment leaves nothing behind that nobody looks for; an
// integration without that number never asks.

const (
	// nextStep is when to go on after a step that had to be written down first: as soon as the
	// cache has it.
	nextStep = 50 * time.Millisecond
	// secondLook follows a pass that corrected something, or whose predecessor got no answer: a
	// request may be carried out late. It is longer than the PBX is waited for.
	secondLook = 30 * time.Second
)

// accountEvents are registered on the account.
var accountEvents = []v1alpha1.EventType{
	v1alpha1.EventDialIn, v1alpha1.EventDialOut, v1alpha1.EventAnswer, v1alpha1.EventHangup, pbxapi.EventPhoneStatus,
}

// accountState is what the PBX was last found to hold for the whole account.
type accountState struct {
	// basis is what was wanted, question all that the answer may depend on.
	basis, question string
	at              time.Time
	// changed is when something was last put right, or may have been put right by a request that
	// got no answer.
	changed time.Time
	// generation of the key that all registrations carry.
	generation int64
	// ids of the registrations that are ours, as far as is known.
	ids []string
	err error
}

// stillValid reports whether the PBX need not be asked again.
func (s accountState) stillValid(question string, now time.Time, freshness time.Duration) bool {
	if s.question != question || now.Sub(s.at) >= freshness {
		return false
	}
	recheck := s.recheckAt()
	return now.Before(recheck) || !s.at.Before(recheck)
}

// recheckAt is when to make sure that nothing was carried out late.
func (s accountState) recheckAt() time.Time {
	if s.changed.IsZero() {
		return s.changed
	}
	return s.changed.Add(secondLook)
}

// accountScope reports whether the spec asks for account-wide registrations.
func accountScope(p *v1alpha1.PBXIntegration) bool {
	ringMe := p.Spec.PBX.RingMe
	return ringMe != nil && ringMe.Registration == v1alpha1.RegistrationAccount
}

// accountNeeded reports whether there are to be account-wide registrations: as the spec says, and
// as long as a phone still depends on them.
func accountNeeded(p *v1alpha1.PBXIntegration, mappings []v1alpha1.ExtensionMapping) bool {
	if accountScope(p) {
		return true
	}
	if p.Status.RegisteredEvents == nil {
		return false
	}
	for i := range mappings {
		mapping := &mappings[i]
		phone := mapping.Spec.Extension.Type == v1alpha1.ExtensionPhone && !mapping.Spec.Suspend && mapping.DeletionTimestamp.IsZero()
		if phone && !registered(mapping) {
			return true
		}
	}
	return false
}

// agentEvents is how many registrations there are on the queue agent of a phone, beside those on
// the phone itself.
const agentEvents = 2

// registered reports whether a mapping has all the registrations of its own that it asks for.
func registered(mapping *v1alpha1.ExtensionMapping) bool {
	wanted := len(mapping.DesiredEvents())
	if mapping.Status.AgentID != "" {
		wanted += agentEvents
	}
	return lifecycle.IsReady(mapping) && mapping.Status.RegisteredEvents != nil && int(*mapping.Status.RegisteredEvents) >= wanted
}

// accountSettled reports whether nothing may be registered on the account under an older key than
// the given one. What was found out before the manager started is not known any more: then an old
// key stays until the PBX was looked at.
func (c *Controller) accountSettled(p *v1alpha1.PBXIntegration, newest int64) bool {
	if p.Status.RegisteredEvents == nil && !accountScope(p) {
		return true
	}
	last := c.accounts.get(p.UID)
	return last.err == nil && last.generation == newest
}

// reconcileAccount brings the account-wide registrations to what the spec asks for.
func (c *Controller) reconcileAccount(
	ctx context.Context, p *v1alpha1.PBXIntegration, ring eventurl.Ring, mappings []v1alpha1.ExtensionMapping, done *lifecycle.Done,
) error {
	needed := accountNeeded(p, mappings)
	switch {
	case p.Status.RegisteredEvents == nil && !needed:
		return nil
	case p.Status.RegisteredEvents == nil:
		p.Status.RegisteredEvents = new(int32(0))
		return lifecycle.Waitingf(v1alpha1.ReasonProgressing, nextStep, "about to register for the events of the whole account")
	}
	credentials, err := pbxapi.Credentials(ctx, c.Secrets, p)
	if err != nil {
		return err
	}
	question, err := questionOf(p, credentials)
	if err != nil {
		return err
	}
	basis := fmt.Sprintf("%d %d %d %v", p.Generation, ring.Current().Generation, len(ring), needed)
	question = basis + " " + question
	found := c.accounts.get(p.UID)
	if !found.stillValid(question, c.Clock.Now(), c.freshness(found.err)) {
		work := c.accountWork(ring.Tokens(accountOf(p)), func(ctx context.Context) error { return c.confirm(ctx, p) })
		if needed {
			work.Desired = accountRegistrations(p, ring)
		}
		result, err := c.converge(ctx, p, work, credentials)
		made := accountState{basis: basis, question: question, generation: ring.Current().Generation, err: err}
		found = c.remember(ctx, p, result, idsAfter(result, work.Own, found.ids), made, done)
	}
	return c.reportAccount(p, found, needed, done)
}

// accountOf is the integration as the source of events.
func accountOf(p *v1alpha1.PBXIntegration) eventurl.Source { return eventurl.Account(string(p.UID)) }

// accountRegistrations are the registrations that there are to be on the account.
func accountRegistrations(p *v1alpha1.PBXIntegration, ring eventurl.Ring) []pbxapi.Registration {
	url := eventurl.URL(p.Spec.Receiver.PublicURL, ring.Current().Token(accountOf(p)), "")
	list := make([]pbxapi.Registration, len(accountEvents))
	for i, event := range accountEvents {
		list[i] = pbxapi.Registration{Event: event, URL: url, Method: http.MethodPost}
	}
	return list
}

// accountWork is a pass over the account-wide registrations. Of their limit the documents say
// nothing.
func (c *Controller) accountWork(own registration.Tokens, confirm func(context.Context) error) registration.Work {
	return registration.Work{
		Owner: pbxapi.AccountOwner, Own: own, Limit: registration.NoLimit, Confirm: confirm, Metrics: c.Registrations,
	}
}

// converge carries out the work on the PBX.
func (c *Controller) converge(
	ctx context.Context, p *v1alpha1.PBXIntegration, work registration.Work, credentials map[string][]byte,
) (registration.Result, error) {
	pbx, err := c.PBXes.For(p, credentials)
	if err != nil {
		return registration.Result{}, err
	}
	last := c.accounts.get(p.UID)
	requests := 1 + 2*len(accountEvents)
	if len(work.Desired) > 0 && last.err == nil && last.generation == p.Status.KeyGeneration {
		requests = 1 // all is expected to be in place
	}
	if ctx, err = pbx.Admit(ctx, requests); err != nil {
		return registration.Result{}, err
	}
	work.PBX = pbx
	return work.Apply(ctx)
}

// idsAfter are the ids of the registrations that are ours, or those known before where nothing new
// came out.
func idsAfter(result registration.Result, own registration.Tokens, before []string) []string {
	if !result.Listed {
		return before
	}
	return registration.IDs(result.Ours(own))
}

// remember notes what a look at the account has shown. Drift, which is a change that nothing here
// asked for, it tells.
func (c *Controller) remember(
	ctx context.Context, p *v1alpha1.PBXIntegration, result registration.Result, ids []string, made accountState, done *lifecycle.Done,
) accountState {
	last := c.accounts.get(p.UID)
	made.at, made.changed, made.ids = c.Clock.Now(), last.changed, ids
	changes := result.Changes()
	if changes > 0 || last.err != nil {
		made.changed = made.at
	}
	if changes > 0 && last.err == nil && last.basis == made.basis && done.Notice.Reason == "" {
		c.Registrations.Drifted()
		done.Notice = lifecycle.Notice{Reason: v1alpha1.ReasonDriftCorrected, Message: fmt.Sprintf(
			"the PBX differed from the spec; account-wide registrations: %d changed", changes)}
	}
	kept := made
	if _, said := errors.AsType[*pbxapi.Error](made.err); ctx.Err() != nil || made.err != nil && !said {
		kept.question = "" // the PBX said nothing that it would say again
	}
	c.accounts.set(p.UID, kept)
	return made
}

// reportAccount writes down what the account carries. The number grows only when all registrations
// exist.
func (c *Controller) reportAccount(p *v1alpha1.PBXIntegration, found accountState, needed bool, done *lifecycle.Done) error {
	count := int32(len(found.ids))
	switch {
	case found.err != nil && found.ids == nil:
		return accountOutcome(found.err)
	case found.err != nil:
		p.Status.RegisteredEvents = new(min(count, *p.Status.RegisteredEvents))
		return accountOutcome(found.err)
	case needed:
		p.Status.RegisteredEvents = &count
	default:
		p.Status.RegisteredEvents = nil
	}
	if left := found.recheckAt().Sub(c.Clock.Now()); left > 0 {
		done.After = soonest(done.After, left)
	}
	return nil
}

// accountOutcome says what a failed call means.
func accountOutcome(err error) error {
	err = pbxapi.Trouble(err)
	const instead = "set spec.pbx.ringMe.registration to Extension to do without account-wide registrations"
	if limited, ok := errors.AsType[*pbxapi.RateLimitedError](err); ok {
		return lifecycle.RateLimited{After: limited.After, Err: err}
	}
	switch {
	case errors.Is(err, pbxapi.ErrUnauthorized):
		return lifecycle.Terminal{Reason: v1alpha1.ReasonCredentialsInvalid, Err: err}
	case errors.Is(err, pbxapi.ErrLimitReached):
		return lifecycle.Terminalf(v1alpha1.ReasonEventLimitReached,
			"the PBX takes no more account-wide registrations: %w; remove unused ones there, or %s", err, instead)
	case errors.Is(err, pbxapi.ErrForbidden), errors.Is(err, pbxapi.ErrRejected),
		errors.Is(err, pbxapi.ErrNotFound), errors.Is(err, pbxapi.ErrNotSupported):
		return lifecycle.Terminalf(v1alpha1.ReasonPBXRefused, "%w; %s", err, instead)
	case errors.Is(err, pbxapi.ErrUnreachable):
		return lifecycle.Transient{Reason: v1alpha1.ReasonPBXUnreachable, Err: err}
	default:
		return err
	}
}

// confirm makes sure that the integration still is what the cache says before anything is changed
// on the PBX. A difference is a conflict, which asks for a new pass.
func (c *Controller) confirm(ctx context.Context, p *v1alpha1.PBXIntegration) error {
	fresh := &v1alpha1.PBXIntegration{}
	if err := c.Live.Get(ctx, client.ObjectKeyFromObject(p), fresh); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot confirm the integration: %w", err)
	}
	if fresh.UID == p.UID && fresh.Generation == p.Generation && fresh.Status.RegisteredEvents != nil &&
		fresh.DeletionTimestamp.Equal(p.DeletionTimestamp) {
		return nil
	}
	return changedMeanwhile(p)
}

// changedMeanwhile asks for a new pass.
func changedMeanwhile(p *v1alpha1.PBXIntegration) error {
	return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("pbxintegrations").GroupResource(), p.Name,
		errors.New("it has changed meanwhile"))
}

// releaseAccount removes the account-wide registrations of an integration that is being deleted. It
// returns what there is to say of those that stay for good.
func (c *Controller) releaseAccount(ctx context.Context, p *v1alpha1.PBXIntegration) (left string, err error) {
	if p.Status.RegisteredEvents == nil {
		return "", nil
	}
	known := c.accounts.get(p.UID)
	credentials, err := pbxapi.Credentials(ctx, c.Secrets.Lasting(), p)
	if errors.Is(err, pbxapi.ErrCredentialsMissing) {
		return leftOnAccount(known.ids, err), nil
	}
	if err != nil {
		return "", err
	}
	ring, err := c.lastRing(ctx, p)
	if errors.Is(err, errNoKeys) {
		return leftOnAccount(known.ids, err), nil
	}
	if err != nil {
		return "", err
	}
	work := c.accountWork(ring.Tokens(accountOf(p)), func(ctx context.Context) error { return c.confirmDeletion(ctx, p) })
	result, err := c.converge(ctx, p, work, credentials)
	failed := c.failures.Note(p.UID, c.Clock.Now(), err)
	if err == nil {
		p.Status.RegisteredEvents = nil
		return "", nil
	}
	known.ids = idsAfter(result, work.Own, known.ids)
	c.accounts.set(p.UID, known)
	_, atPBX := errors.AsType[*pbxapi.Error](err)
	remaining := DeletionDeadline - failed
	switch {
	case !atPBX: // our turn has not come, or the integration has changed
		return "", accountOutcome(err)
	case remaining <= 0:
		return leftOnAccount(known.ids, err), nil
	}
	return "", lifecycle.Waiting{Reason: v1alpha1.ReasonDeleting, After: min(remaining, deletionRetry), Err: pbxapi.Trouble(err)}
}

// confirmDeletion makes sure that the integration which is being deleted is still there: one of its
// name that was made meanwhile has the same event URLs.
func (c *Controller) confirmDeletion(ctx context.Context, p *v1alpha1.PBXIntegration) error {
	fresh := &v1alpha1.PBXIntegration{}
	if err := c.Live.Get(ctx, client.ObjectKeyFromObject(p), fresh); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot confirm the integration: %w", err)
	}
	if fresh.UID == p.UID {
		return nil
	}
	return changedMeanwhile(p)
}

func leftOnAccount(ids []string, why error) string {
	known := "their ids are unknown"
	if len(ids) > 0 {
		known = "ids " + strings.Join(ids, ", ")
	}
	return fmt.Sprintf("account-wide registrations may be left on the PBX (%s): remove them there if they are not wanted. Reason: %s",
		known, why)
}
