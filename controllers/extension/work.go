package extension

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/extension/registration"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// pass is one look at all registrations of a mapping.
type pass struct {
	handler *handler
	to      access
	mapping *v1alpha1.ExtensionMapping

	confirmed bool
	// settled are the owners that carry what is desired of them.
	settled                   []owner
	registered                int
	created, updated, removed int
	// again is when to look again, because an agent turned out to be gone.
	again time.Duration
}

// settle makes each owner carry what is desired of it: first the extension, then the agent.
func (p *pass) settle(ctx context.Context, owners []owner) error {
	extension, agents := owners[0], owners[1:]
	err := p.work(ctx, extension)
	if isNotFound(err) {
		return p.handler.gone(p.to, p.mapping, err)
	}
	for i := 0; err == nil && i < len(agents); i++ {
		if err = optional(p.work(ctx, agents[i])); isNotFound(err) {
			p.again, err = p.handler.agentGone(p.to, p.mapping), nil
		}
	}
	p.report(err)
	return outcomeOf(p.mapping, err)
}

// agentGone is when to look again at an agent that the PBX disowns: deleted, or deleted and made
// anew under another id.
func (h *handler) agentGone(to access, mapping *v1alpha1.ExtensionMapping) time.Duration {
	if to.pbx.ForgetAgents() {
		return nextStep
	}
	return h.retry(mapping)
}

// report writes down how many registrations the mapping has. After an error some may not have been
// counted.
func (p *pass) report(err error) {
	if before := p.mapping.Status.RegisteredEvents; err != nil && before != nil {
		p.registered = max(p.registered, int(*before))
	}
	p.mapping.Status.RegisteredEvents = new(int32(p.registered))
}

// confirm is handler.confirm before the first change of a pass.
func (p *pass) confirm(ctx context.Context) error {
	if p.confirmed {
		return nil
	}
	err := p.handler.confirm(ctx, p.mapping)
	p.confirmed = err == nil
	return err
}

// work has one owner carry what is desired of it.
func (p *pass) work(ctx context.Context, o owner) error {
	own := p.to.own(p.mapping)
	result, err := registration.Work{
		PBX: p.to.pbx, Owner: o.id, Own: own, Desired: o.desired, Limit: o.limit, Confirm: p.confirm, Metrics: p.handler.metrics,
	}.Apply(ctx)
	p.count(o, result, own)
	switch {
	case err != nil:
		return err
	case len(result.Blocked) > 0:
		return lifecycle.Terminal{Reason: v1alpha1.ReasonEventLimitReached, Err: p.limitError(o, result), After: p.handler.retry(p.mapping)}
	}
	p.settled = append(p.settled, o)
	return nil
}

// count writes down what an owner carries.
func (p *pass) count(o owner, result registration.Result, own registration.Tokens) {
	p.created, p.updated, p.removed = p.created+result.Created, p.updated+result.Updated, p.removed+result.Deleted
	if !result.Listed {
		return
	}
	ours := result.Ours(own)
	p.handler.seen.note(p.mapping.UID, o.id, registration.IDs(ours))
	p.registered += len(ours)
	if o.id == p.mapping.Status.ExtensionID {
		p.mapping.Status.ExtensionEvents = new(int32(len(result.Current)))
	}
}

// limitError tells what is used, what is needed, and what to do.
func (p *pass) limitError(o owner, result registration.Result) error {
	var b strings.Builder
	ours := result.Ours(p.to.own(p.mapping))
	fmt.Fprintf(&b, "%d of %d event registrations on %s are in use, %d of them ours", len(result.Current), result.Limit, o.name, len(ours))
	if len(ours) > 0 {
		fmt.Fprintf(&b, " (%s)", join(ours))
	}
	fmt.Fprintf(&b, "; %d more needed (%s). ", len(result.Blocked), joinEvents(result.Blocked))
	declared := declaredLimit(p.to.integration, o)
	if declared > result.Limit {
		fmt.Fprintf(&b, "The PBX takes no more, although spec.pbx.ringMe.eventLimit says %d. ", declared)
	}
	b.WriteString("Remove unused registrations on the PBX, or ask the PBX administrator for a higher limit")
	if declared > 0 {
		fmt.Fprintf(&b, " and set spec.pbx.ringMe.eventLimit of PBXIntegration %s to it", p.to.integration.Name)
	}
	b.WriteString(". The operator keeps trying by itself")
	return errors.New(b.String())
}

// declaredLimit is what spec.pbx.ringMe.eventLimit says of an owner; zero where it says nothing.
func declaredLimit(integration *v1alpha1.PBXIntegration, o owner) int {
	if _, isAgent := pbxapi.AgentID(o.id); isAgent || integration.Spec.PBX.RingMe == nil {
		return 0
	}
	return o.limit
}

// done sums up a pass that reached its end. was is the mapping at its beginning.
func (p *pass) done(was *v1alpha1.ExtensionMapping) lifecycle.Done {
	done := lifecycle.Done{Reason: v1alpha1.ReasonRegistered, Message: p.summary(), After: p.again}
	changed := p.created+p.updated+p.removed > 0
	ready := lifecycle.Ready(was)
	lookTwice := ready != nil && ready.Reason == v1alpha1.ReasonPBXUnreachable || changed && lifecycle.IsReady(was)
	if lookTwice && done.After == 0 {
		done.After = lifecycle.Jitter(secondLook, p.mapping.UID)
	}
	switch {
	case !changed || !lifecycle.IsReady(was):
	case ready.Message != done.Message:
		done.Notice = lifecycle.Notice{Reason: done.Reason, Message: done.Message}
	default:
		done.Notice = p.correction(was)
	}
	return done
}

// summary tells where the events come from.
func (p *pass) summary() string {
	parts := make([]string, 0, len(p.settled))
	for _, o := range p.settled {
		if len(o.desired) == 0 {
			parts = append(parts, fmt.Sprintf("the events of %s come by the registrations of PBXIntegration %s for all phones of the account:"+
				" it needs none of its own", o.name, p.to.integration.Name))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s registered on %s", join(o.desired), o.name))
	}
	return strings.Join(parts, "; ")
}

// correction tells why registrations changed although the spec did not.
func (p *pass) correction(was *v1alpha1.ExtensionMapping) lifecycle.Notice {
	what := fmt.Sprintf("registrations on %s: %d created, %d updated, %d deleted", extensionName(p.mapping), p.created, p.updated, p.removed)
	if was.Status.KeyGeneration != p.mapping.Status.KeyGeneration {
		return lifecycle.Notice{Reason: v1alpha1.ReasonKeyRotated, Message: "moved to a new event URL key; " + what}
	}
	p.handler.metrics.Drifted()
	return lifecycle.Notice{Reason: v1alpha1.ReasonDriftCorrected, Message: "the PBX differed from the spec; " + what}
}

func join(registrations []pbxapi.Registration) string {
	events := make([]v1alpha1.EventType, len(registrations))
	for i, registration := range registrations {
		events[i] = registration.Event
	}
	return joinEvents(events)
}

// joinEvents lists events in the order of their priority.
func joinEvents(events []v1alpha1.EventType) string {
	var names []string
	for _, event := range registration.Priority {
		if slices.Contains(events, event) {
			names = append(names, string(event))
		}
	}
	return strings.Join(names, ", ")
}

func isNotFound(err error) bool { return errors.Is(err, pbxapi.ErrNotFound) }
