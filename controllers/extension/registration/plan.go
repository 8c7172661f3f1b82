// Package registration decides which event registrations to create on an extension, which to update
// and which to delete. It is a pure function of what the PBX has and what is wanted.
package registration

import (
	"cmp"
	"slices"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// Priority is the order in which events are registered when there is no room for all. Each later
// event repeats the identity of the call (RingMe: Extension Number Events), so a hangup alone still
// makes a complete record. The answers of VoipNow come last, because its early versions refuse
// them.
var Priority = []v1alpha1.EventType{
	v1alpha1.EventHangup, v1alpha1.EventAnswer, v1alpha1.EventDialIn, v1alpha1.EventDialOut, pbxapi.EventAnswerIn, pbxapi.EventAnswerOut,
	pbxapi.EventAgentLogin, pbxapi.EventAgentLogout, pbxapi.EventPhoneStatus,
}

// Operation is what a step does.
type Operation string

// The operations.
const (
	Create Operation = "create"
	Update Operation = "update"
	Delete Operation = "delete"
)

// Step is one request that changes a registration.
type Step struct {
	Operation    Operation
	Registration pbxapi.Registration
}

// Plan is the way from the registrations that an extension has to those that it should have.
type Plan struct {
	Steps []Step
	// Blocked are the desired events for which there is no room.
	Blocked []v1alpha1.EventType
}

// Tokens are the tokens of one mapping under all keys. A registration is ours when its URL carries
// one of them, on whichever host: the public URL may have changed.
type Tokens []string

// Own reports whether a registration is ours.
func (t Tokens) Own(registration pbxapi.Registration) bool {
	token, ok := eventurl.TokenOf(registration.URL)
	return ok && slices.Contains(t, token)
}

// Decide plans what to change on an extension so that it carries each of the desired registrations
// once and nothing else of ours. Registrations of others only count against the limit. Where there
// is a free place a new registration is made before the one that it replaces is deleted, so that no
// event is lost on the way. What the PBX may refuse comes last: events that were not registered
// before.
func Decide(current, desired []pbxapi.Registration, own Tokens, limit int) Plan {
	d := compare(current, desired, own)
	p := planner{used: len(current), limit: limit, surplus: d.surplus}
	for _, registration := range d.repairs {
		p.Steps = append(p.Steps, Step{Update, registration})
	}
	for _, change := range d.replaced {
		p.apply(change)
	}
	for len(p.surplus) > 0 {
		p.dropSurplus()
	}
	for _, change := range d.additional {
		p.apply(change)
	}
	return p.Plan
}

// change is a registration to create and, where there is one, that of ours which it replaces.
type change struct {
	missing  pbxapi.Registration
	replaces *pbxapi.Registration
}

// difference between what an extension has and what it should have. Each list is in order of
// priority, but surplus.
type difference struct {
	// repairs are desired registrations that are there under the given id, but disabled or with
	// another method.
	repairs []pbxapi.Registration
	// replaced are changes that need no more places than before; additional ones need one more.
	// They would take the free place by which the others lose no event.
	replaced, additional []change
	// surplus is what of ours is neither right nor replaced by anything.
	surplus []pbxapi.Registration
}

func compare(current, desired []pbxapi.Registration, own Tokens) difference {
	ours := slices.DeleteFunc(byID(current), func(r pbxapi.Registration) bool { return !own.Own(r) })
	missing, wrong, _ := match(byPriority(desired), ours, same)
	missing, wrong, repairs := match(missing, wrong, repairable)
	d := difference{repairs: repairs}
	for _, registration := range missing {
		at := slices.IndexFunc(wrong, func(w pbxapi.Registration) bool { return w.Event == registration.Event })
		if at < 0 {
			d.additional = append(d.additional, change{missing: registration})
			continue
		}
		replaced := wrong[at]
		wrong = slices.Delete(wrong, at, at+1)
		d.replaced = append(d.replaced, change{missing: registration, replaces: &replaced})
	}
	d.surplus = wrong
	return d
}

// match pairs desired registrations with present ones. It returns what is left of both, and the
// pairs: what is desired, with the id of what is there.
func match(desired, present []pbxapi.Registration, alike func(a, b pbxapi.Registration) bool) (missing, left, pairs []pbxapi.Registration) {
	left = slices.Clone(present)
	for _, registration := range desired {
		at := slices.IndexFunc(left, func(r pbxapi.Registration) bool { return alike(registration, r) })
		if at < 0 {
			missing = append(missing, registration)
			continue
		}
		registration.ID = left[at].ID
		left = slices.Delete(left, at, at+1)
		pairs = append(pairs, registration)
	}
	return missing, left, pairs
}

// same compares what makes a registration; the PBX itself rejects no duplicates (RingMe: Extension
// Number Events).
func same(a, b pbxapi.Registration) bool {
	return repairable(a, b) && a.Method == b.Method && a.Disabled == b.Disabled
}

// repairable reports whether an update can make one registration the other: that takes no place,
// and the event is heard all the time.
func repairable(a, b pbxapi.Registration) bool { return a.Event == b.Event && a.URL == b.URL }

func byPriority(registrations []pbxapi.Registration) []pbxapi.Registration {
	return slices.SortedStableFunc(slices.Values(registrations), func(a, b pbxapi.Registration) int {
		return cmp.Compare(slices.Index(Priority, a.Event), slices.Index(Priority, b.Event))
	})
}

// byID is the order in which the PBX made them. Of duplicates the oldest stays, whoever looks.
func byID(registrations []pbxapi.Registration) []pbxapi.Registration {
	return slices.SortedStableFunc(slices.Values(registrations), func(a, b pbxapi.Registration) int {
		return cmp.Or(cmp.Compare(len(a.ID), len(b.ID)), cmp.Compare(a.ID, b.ID))
	})
}

// planner keeps count of the places while a plan grows.
type planner struct {
	Plan
	used, limit int
	surplus     []pbxapi.Registration
}

// apply creates a registration and then deletes what it replaces. Without a free place something of
// ours has to go first: what nobody needs, else what is replaced.
func (p *planner) apply(c change) {
	if p.used >= p.limit {
		switch {
		case len(p.surplus) > 0:
			p.dropSurplus()
		case c.replaces != nil:
			p.drop(*c.replaces)
			c.replaces = nil
		default:
			p.Blocked = append(p.Blocked, c.missing.Event)
			return
		}
	}
	p.used++
	p.Steps = append(p.Steps, Step{Create, c.missing})
	if c.replaces != nil {
		p.drop(*c.replaces)
	}
}

func (p *planner) dropSurplus() {
	p.drop(p.surplus[0])
	p.surplus = p.surplus[1:]
}

func (p *planner) drop(registration pbxapi.Registration) {
	p.used--
	p.Steps = append(p.Steps, Step{Delete, registration})
}
