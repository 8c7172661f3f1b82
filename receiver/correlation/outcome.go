package correlation

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// Outcome is all that follows from the set of the events of a call.
type Outcome struct {
	// Legs in order of start and leg id.
	Legs []Leg
	// Tick is the next passing of time that the call waits for, due at its Time; nil where it waits
	// for none. Once it is due, add it to the call.
	Tick *Tick
	// Finished tells that no leg is open and no tick is owed. Further events may still come and
	// correct the legs.
	Finished bool
}

// Derive returns the legs of all calls that the events and ticks belong to, in order of start, leg
// id and call id. It is a function of the set: order and repetition do not matter.
func Derive(events []callevent.Event, rules Rules) []Leg {
	calls := callsOf(events)
	legs := make([]Leg, 0, len(calls))
	for _, call := range calls {
		legs = append(legs, call.Outcome(rules).Legs...)
	}
	slices.SortFunc(legs, Compare)
	return legs
}

// callsOf parts events into calls.
func callsOf(events []callevent.Event) map[string]*Call {
	calls := map[string]*Call{}
	for _, e := range events {
		if e.CallID == "" {
			continue
		}
		if calls[e.CallID] == nil {
			calls[e.CallID] = &Call{}
		}
		calls[e.CallID].Add(e)
	}
	return calls
}

// Compare orders legs by start, leg id and call id.
func Compare(a, b Leg) int {
	if n := a.Start.Compare(b.Start); n != 0 {
		return n
	}
	if n := strings.Compare(a.LegID, b.LegID); n != 0 {
		return n
	}
	return strings.Compare(a.CallID, b.CallID)
}

// Outcome derives the legs, and what the call waits for.
func (c *Call) Outcome(rules Rules) Outcome {
	o := c.outcome(rules)
	if events, records := c.split(); len(records) > 0 {
		told := Call{events: events, ticks: c.ticks}
		credit(o.Legs, told.outcome(rules).Legs, int64(c.Len()))
		slices.SortFunc(o.Legs, Compare)
	}
	return o
}

func (c *Call) outcome(rules Rules) Outcome {
	space := borrowAttempts()
	f := c.decided(rules, (*space)[:0])
	o := Outcome{Legs: f.legs(c, rules), Tick: f.tick(c, rules)}
	o.Finished = o.Tick == nil && !f.open()
	returnAttempts(space, f.attempts)
	return o
}

// attempts are memory for the attempts of a call while its legs are derived: no leg refers to it.
var attempts = sync.Pool{New: func() any { return new([]attempt) }}

func borrowAttempts() *[]attempt {
	space, _ := attempts.Get().(*[]attempt)
	return space
}

// returnAttempts keeps memory for the next call, unless it is much more than most need.
func returnAttempts(space *[]attempt, used []attempt) {
	const most = 1024
	if cap(used) > most {
		return
	}
	clear(used)
	*space = used
	attempts.Put(space)
}

// decided takes the call apart and applies the rules.
func (c *Call) decided(rules Rules, space []attempt) folded {
	f := c.fold(space)
	f.applyRules(c, rules)
	return f
}

// folded is the call taken apart by leg.
type folded struct {
	facts    facts
	attempts []attempt
	records  []*event // of the PBX's history
	waiting  waiting
}

func (c *Call) fold(space []attempt) folded {
	told, records := c.split()
	rest := withoutRepetitionsOfCall(told)
	facts, attempts := factsOf(rest), space
	var own waiting
	for len(rest) > 0 {
		n := legLength(rest)
		party, earlier := rest[:n], len(attempts)
		rest = rest[n:]
		for len(party) > 0 {
			var leg []*event
			var applied applied
			leg, party, applied = cut(party)
			switch {
			case ofCall(leg[0]), ofWaiting(leg) && !forwardsOut(leg):
				own.join(leg, &facts)
			case opening(leg).Type != callevent.Progress:
				attempts = append(attempts, c.attempt(leg, party, 1+len(attempts)-earlier, &facts))
				attempts[len(attempts)-1].applied |= applied
			}
		}
	}
	f := folded{facts: facts, attempts: attempts, waiting: own}
	if len(records) > 0 {
		f.records = slices.DeleteFunc(versions(records), facts.outside)
	}
	return f
}

// hearEnd hears of the caller's own side what no event of it says: what the history tells, and how
// the leg ended with which the call came in.
func (f *folded) hearEnd() {
	f.facts.tried = f.facts.tried || slices.ContainsFunc(f.records, (*event).ofLeg)
	for _, r := range f.records {
		f.waiting.hearOf(r, &f.facts)
	}
	if e := f.givenUp(); e != nil {
		f.waiting.hear(e, &f.facts)
	}
}

// attempt is that of the events of a leg, the n-th of its party; next are the events of the party
// that follow.
func (c *Call) attempt(leg, next []*event, n int, facts *facts) attempt {
	first := leg[0]
	id := first.LegID
	if id == "" {
		id = side(first) + "/" + strconv.Itoa(n)
	}
	var end closing
	if first.Level != callevent.LevelEntry {
		end.over = facts.over
	}
	if len(next) > 0 {
		end.over = next[0].Time
	}
	if tick, ok := c.elapsed(callevent.MaxDurationOver, first.CallID, id); ok {
		end.timeout = tick.Time
	}
	return newAttempt(id, leg, facts, end)
}

func (f *folded) legs(c *Call, rules Rules) []Leg {
	legs := make([]Leg, 0, len(f.attempts)+min(1, len(f.waiting.events)))
	shown := make([]LegEvent, 0, len(c.events)+len(f.attempts))
	revision := int64(c.Len())
	for i := range f.attempts {
		a := &f.attempts[i]
		if !a.within(rules.Scope) || f.onlyLeft(a) {
			continue
		}
		from := len(shown)
		shown = a.appendEvents(shown)
		leg := f.leg(a, rules)
		leg.Revision, leg.Events = revision, shown[from:len(shown):len(shown)]
		legs = append(legs, leg)
	}
	if leg, ok := f.missed(c, rules); ok {
		leg.Revision = revision
		legs = append(legs, leg)
	}
	slices.SortFunc(legs, Compare)
	return legs
}

// missed is the caller's own leg, where nobody had taken the call when its grace period was over.
func (f *folded) missed(c *Call, rules Rules) (Leg, bool) {
	if f.entry() != nil || f.waiting.deciding == nil || !c.graceOver() {
		return Leg{}, false
	}
	leg := f.waiting.leg(f.taken(rules), &f.facts)
	return leg, leg.Direction != Internal || rules.Scope == ScopeAll
}

func (f *folded) leg(a *attempt, rules Rules) Leg {
	leg := Leg{
		CallID: a.events[0].CallID, LegID: a.id, ParentLegID: f.parent(a, rules),
		Kind: a.kind(), Direction: a.direction,
		From: a.from(), FromName: a.caller.Name,
		To: cmp.Or(a.called.Number, a.called.Extension), Extension: a.extension, RecordingID: a.recording,
		Phase: a.phase(), Result: a.result, Logged: a.result == Answered && !f.carried(a), DID: a.did,
		Start: a.start, Answer: a.answered, End: a.end, Talk: a.talk(), Backfilled: a.backfilled,
		Attributes: attributes(a.events),
	}
	byUser := false
	for _, e := range a.events {
		leg.DID = cmp.Or(leg.DID, e.DID)
		leg.User = cmp.Or(leg.User, e.Source.User)
		leg.CallBackID = cmp.Or(leg.CallBackID, e.CallBackID)
		leg.ControlID = cmp.Or(leg.ControlID, e.ControlID)
		byUser = byUser || e.ByUser
	}
	leg.User = cmp.Or(leg.User, a.user)
	if a.remote != "" {
		leg.From = a.remote
		if a.caller.Number != a.remote {
			leg.FromName = "" // it is the name of the extension that handed the call over
		}
	}
	if a.internal() || a.forwarding() {
		leg.Direction = Internal
		leg.Logged = leg.Logged && rules.Scope == ScopeAll
	}
	// A call that was started through the API in an extension's name, but connects others, is
	// nothing that its user did.
	if a.direction == Outbound && leg.CallBackID != "" && !byUser {
		leg.User = ""
	}
	leg.Transferred = a.transferred || a.remote != "" || leg.ParentLegID != "" && leg.ParentLegID != a.parent
	if a.level == callevent.LevelDevice {
		a.show(&leg)
	}
	if a.level == callevent.LevelEntry {
		leg.Logged = leg.Result == Missed
	}
	return leg
}

// parent is the leg that this one came out of by transfer or forwarding: the last one before it of
// the extension that made the call.
func (f *folded) parent(a *attempt, rules Rules) string {
	if a.parent != "" || !a.handedOver() || a.caller.Extension == "" {
		return a.parent
	}
	var parent *attempt
	for i := range f.attempts {
		p := &f.attempts[i]
		if p.id == a.id || p.extension != a.caller.Extension || p.transferred || p.start.After(a.start) || !p.within(rules.Scope) {
			continue
		}
		if parent == nil || p.start.After(parent.start) {
			parent = p
		}
	}
	if parent == nil {
		return ""
	}
	return parent.id
}

// taken reports whether an inbound call did not go unanswered. Bridged=yes speaks for the whole
// PBX.
func taken(legs []attempt, w *waiting, rules Rules) bool {
	if w.bridged {
		return true
	}
	// Where no Bridged=no contradicts, somebody who talked outside took the call as well.
	rules.ForwardedIsAnswered = rules.ForwardedIsAnswered || !w.unbridged
	for i := range legs {
		if legs[i].tookCall(rules) {
			return true
		}
	}
	return false
}

func (f *folded) taken(rules Rules) bool { return taken(f.attempts, &f.waiting, rules) }

func (v *view) taken() bool { return taken(v.legs, v.waiting, v.settings) }

func (c *Call) graceOver() bool {
	return slices.ContainsFunc(c.ticks, func(t callevent.Event) bool { return t.Type == callevent.GraceOver })
}

// tick is the earlier of the ticks that are owed.
func (f *folded) tick(c *Call, rules Rules) *Tick {
	var longest *attempt
	var due time.Time
	for i := range f.attempts {
		a := &f.attempts[i]
		if !a.open() || rules.MaxDuration <= 0 || !a.closing.timeout.IsZero() {
			continue
		}
		if at := a.firstReceived().Add(rules.MaxDuration); longest == nil || at.Before(due) {
			longest, due = a, at
		}
	}
	grace := f.graceTick(c, rules)
	if longest == nil || grace != nil && !due.Before(grace.Time) {
		return grace
	}
	return &Tick{Type: callevent.MaxDurationOver, CallID: longest.events[0].CallID, LegID: longest.id, Time: due}
}

// graceTick decides a call that seems to be missed. It waits while a phone rings that began to ring
// after the last IVR or queue had given the caller up: he has moved on. Where only the history has
// given him up, it waits for any: the history may know but the call's beginning.
func (f *folded) graceTick(c *Call, rules Rules) *Tick {
	if f.waiting.deciding == nil || c.graceOver() || f.taken(rules) {
		return nil
	}
	last, remembered := f.waiting.last, f.waiting.deciding.Record != nil
	for i := range f.attempts {
		a := &f.attempts[i]
		if a.level != callevent.LevelEntry && a.open() && a.direction == Inbound && (remembered || !a.start.Before(last)) {
			return nil
		}
	}
	return &Tick{Type: callevent.GraceOver, CallID: f.waiting.deciding.CallID, Time: f.graceOver(c, rules)}
}

// graceOver is when the grace period ends: after the last hangup, or where that of the call is
// still to come as late as a call may last.
func (f *folded) graceOver(c *Call, rules Rules) time.Time {
	events, _ := c.split()
	if w := &f.waiting; w.deciding.Record != nil && !w.left && len(events) > 0 && f.facts.over.IsZero() {
		return c.LastReceived().Add(max(rules.MaxDuration, rules.GracePeriod))
	}
	return c.lastHangup().Add(rules.GracePeriod)
}

// lastHangup is when the latest hangup came in.
func (c *Call) lastHangup() time.Time {
	var last time.Time
	for _, e := range c.events {
		if e.Type == callevent.Hangup || e.Type == callevent.CallEnd || e.Type == callevent.History {
			last = later(last, e.Received)
		}
	}
	return last
}

func (f *folded) open() bool {
	for i := range f.attempts {
		if f.attempts[i].open() {
			return true
		}
	}
	return false
}

// appendEvents shows the events of a leg, and the tick that closed it.
func (a *attempt) appendEvents(shown []LegEvent) []LegEvent {
	shown = legEvents(shown, a.events)
	if a.hangup == nil && a.closing.over.IsZero() && !a.closing.timeout.IsZero() {
		shown = append(shown, LegEvent{Type: callevent.MaxDurationOver, Time: a.closing.timeout})
	}
	return shown
}

// shownEvents is how many of the first, and of the last, events a leg shows.
const shownEvents = 32

func legEvents(shown []LegEvent, events []*event) []LegEvent {
	for i, e := range events {
		if i >= shownEvents && i < len(events)-shownEvents {
			continue
		}
		shown = append(shown, LegEvent{Type: e.Type, Time: e.Time, Status: e.WireStatus})
	}
	return shown
}

func (a *attempt) kind() Kind {
	switch a.level {
	case callevent.LevelEntry, callevent.LevelOutside:
		return Trunk
	case callevent.LevelDevice:
		return Device
	case callevent.LevelExtension:
	}
	switch a.events[0].Source.Type {
	case callevent.Queue:
		return Queue
	case callevent.IVR:
		return IVR
	default:
		return Extension
	}
}

// show puts the device's own number on its side of the leg.
func (a *attempt) show(leg *Leg) {
	switch {
	case a.direction == Inbound:
		leg.To = a.extension
	case a.called.Extension != a.extension:
		leg.From = a.extension
	}
}
