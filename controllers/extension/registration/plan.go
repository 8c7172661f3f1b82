// Package registration decides which event registrations to create on an extension and which to delete. It is a pure function of what
// the PBX has and what is wanted.
package registration

import (
	"cmp"
	"slices"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// Priority is the order in which events are registered when there is no room for all. Each later event repeats the identity of the
// call (RingMe: Extension Number Events), so a hangup alone still makes a complete record.
var Priority = []v1alpha1.EventType{v1alpha1.EventHangup, v1alpha1.EventAnswer, v1alpha1.EventDialIn, v1alpha1.EventDialOut}

// Operation is what a step does.
type Operation string

// The operations.
const (
	Create Operation = "create"
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

// Tokens are the tokens of one mapping under all keys. A registration is ours when its URL carries one of them, on whichever host:
// the public URL may have changed.
type Tokens []string

// Own tells whether a registration is ours.
func (t Tokens) Own(registration pbxapi.Registration) bool {
	token, ok := eventurl.TokenOf(registration.URL)
	return ok && slices.Contains(t, token)
}

// Decide plans what to change on an extension so that it carries each of the desired registrations once and nothing else of ours.
// Registrations of others only count against the limit. Where there is a free place a new registration is made before the one that
// it replaces is deleted, so that no event is lost on the way.
func Decide(current, desired []pbxapi.Registration, own Tokens, limit int) Plan {
	p := planner{used: len(current), limit: limit}
	changes, surplus := compare(current, desired, own)
	p.surplus = surplus
	for _, change := range changes {
		p.apply(change)
	}
	for len(p.surplus) > 0 {
		p.dropSurplus()
	}
	return p.Plan
}

// change is a registration to create and, where there is one, that of ours which it replaces.
type change struct {
	missing  pbxapi.Registration
	replaces *pbxapi.Registration
}

// compare finds what is missing, in order of priority, and what of ours is neither right nor replaced by anything.
func compare(current, desired []pbxapi.Registration, own Tokens) (changes []change, surplus []pbxapi.Registration) {
	missing := byPriority(desired)
	var wrong []pbxapi.Registration
	for _, registration := range byID(current) {
		if !own.Own(registration) {
			continue
		}
		if at := slices.IndexFunc(missing, func(d pbxapi.Registration) bool { return same(d, registration) }); at >= 0 {
			missing = slices.Delete(missing, at, at+1)
			continue
		}
		wrong = append(wrong, registration)
	}
	for _, registration := range missing {
		c := change{missing: registration}
		if at := slices.IndexFunc(wrong, func(w pbxapi.Registration) bool { return w.Event == registration.Event }); at >= 0 {
			replaced := wrong[at]
			c.replaces = &replaced
			wrong = slices.Delete(wrong, at, at+1)
		}
		changes = append(changes, c)
	}
	slices.SortStableFunc(changes, func(a, b change) int { return cmp.Compare(a.additional(), b.additional()) })
	return changes, wrong
}

// additional is 1 for a change that needs one place more than before, else 0. Such a change comes last, or it would take the free
// place by which the others lose no event.
func (c change) additional() int {
	if c.replaces == nil {
		return 1
	}
	return 0
}

// same compares the triple that makes a registration; the PBX itself rejects no duplicates (RingMe: Extension Number Events).
func same(a, b pbxapi.Registration) bool {
	return a.Event == b.Event && a.URL == b.URL && a.Method == b.Method
}

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

// apply creates a registration and then deletes what it replaces. Without a free place something of ours has to go first: what
// nobody needs, else what is replaced.
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
