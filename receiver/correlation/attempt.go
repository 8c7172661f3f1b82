package correlation

import (
	"cmp"
	"slices"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// slack is by how much the clocks of two senders may differ.
const slack = time.Second

// attempt is one try to connect one extension: the events of one leg, and what follows from them
// alone.
type attempt struct {
	id      string
	level   callevent.Level
	sided   bool     // it has no leg id of the PBX's own
	events  []*event // in canonical order, at least one
	answer  *event
	hangup  *event
	closing closing

	direction   Direction
	extension   string
	user        string // where the leg's events do not tell
	caller      *callevent.Party
	called      *callevent.Party
	remote      string
	parent      string
	recording   string
	did         string // that of the call, where the leg's events have none
	transferred bool
	dialled     bool
	rang        bool
	primary     bool // secondary events do not count
	testified   bool // it is said at the end that it had been answered
	shown       bool // it looked like a call with the outside when it began, and must not vanish
	withdrawn   bool // it was said to be answered, but another leg was; or the history says that another was
	backfilled  bool // the history tells of it

	start, answered, end time.Time
	result               Result // empty while the leg lasts

	decided ruleID  // the last rule that applied
	applied applied // the rules that did
}

// applied has a bit for each rule that applied.
type applied uint32

// closing is how a leg ends whose hangup is not heard.
type closing struct {
	over    time.Time // the call ended, or the next attempt of the same party began
	timeout time.Time // the wait for a hangup ended
}

// at is when that was; zero where it was not.
func (c closing) at() time.Time {
	if !c.over.IsZero() {
		return c.over
	}
	return c.timeout
}

func newAttempt(id string, events []*event, facts *facts, closing closing) attempt {
	first := opening(events)
	a := attempt{
		id: id, level: first.Level, sided: first.LegID == "", parent: first.ParentLegID, events: events, closing: closing, start: first.Time,
		primary: slices.ContainsFunc(events, primary),
	}
	for _, e := range events {
		a.join(e)
	}
	a.learn(facts)
	a.conclude()
	return a
}

// opening is the first event that says that there is a leg.
func opening(events []*event) *event {
	for _, e := range events {
		if e.Type != callevent.Progress {
			return e
		}
	}
	return events[0]
}

// primary reports whether secondary events do not count next to an event.
func primary(e *event) bool {
	return !e.Secondary && (e.Type == callevent.Answer || e.Type == callevent.Hangup)
}

// counts reports whether an event says how the leg went.
func (a *attempt) counts(e *event) bool { return !e.Secondary || !a.primary }

// join gathers the facts. All events of a leg repeat its identity, so the first that states a fact
// is believed; RemoteNumber comes with the dial event only and holds for the whole leg.
func (a *attempt) join(e *event) {
	if a.counts(e) {
		a.note(e)
	}
	if a.caller == nil || a.caller.Number == "" && (!a.caller.Withheld || e.Caller.Number != "") {
		a.caller = &e.Caller
	}
	if a.called == nil || a.called.Number == "" || a.called.Guessed && e.Called.Number != "" && !e.Called.Guessed {
		a.called = &e.Called
	}
	a.extension = cmp.Or(a.extension, e.Source.Number)
	a.remote = cmp.Or(a.remote, e.Remote)
	a.recording = cmp.Or(a.recording, e.RecordingID)
	a.transferred = a.transferred || e.Transferred || e.ofSystem()
	a.rang = a.rang || e.Status == callevent.StatusRinging
}

func (a *attempt) note(e *event) {
	switch e.Type { //nolint:exhaustive // the others say nothing of how the leg went
	case callevent.DialIn, callevent.DialOut:
		a.dialled = true
		a.direction = cmp.Or(a.direction, dialled(e.Type))
	case callevent.Answer:
		// An answer that says anything but ANSWER is none.
		if a.answer == nil && (e.Status == callevent.StatusAnswered || e.WireStatus == "") {
			a.answer = e
		}
	case callevent.Hangup:
		// A party that leaves without a leg id does so once: what follows speaks of the call that
		// goes on without it.
		if a.hangup == nil || !a.sided && !a.hangup.tellsMoreThan(e) {
			a.hangup = e
		}
	case callevent.HasAnswered:
		a.testified = true
	}
}

// tellsMoreThan reports whether a hangup says how the leg ended, and another one of the leg does
// not.
func (e *event) tellsMoreThan(other *event) bool {
	return other.Status == callevent.StatusUnspecified && e.Status != callevent.StatusUnspecified && e.Status != callevent.StatusUnknown
}

func dialled(t callevent.Type) Direction {
	if t == callevent.DialOut {
		return Outbound
	}
	return Inbound
}

// learn takes from the call as a whole what the leg's own events do not say.
func (a *attempt) learn(facts *facts) {
	// In place of the caller's number the one may be shown through which the call came in.
	hidden := facts.caller != nil && facts.caller.Withheld && sameNumber(a.caller.Number, facts.called.Number)
	ours := facts.entry == Inbound && a.caller.Own || hidden
	if facts.caller != nil && (ours || a.caller.Number == "") && a.level != callevent.LevelEntry {
		a.caller = facts.caller
	}
	a.did = facts.did
	if facts.entry == "" || a.level == callevent.LevelEntry {
		return
	}
	a.direction = facts.entry
	switch {
	case a.direction == Outbound && a.extension == "":
		a.extension, a.user = facts.caller.Extension, facts.user
	case a.direction == Outbound:
	case a.level == callevent.LevelExtension && !a.called.Local && !a.called.Own && a.called.Number != facts.called.Number:
		a.direction, a.transferred, a.level = Outbound, true, callevent.LevelOutside
	}
}

// conclude draws what needs all events of the leg.
func (a *attempt) conclude() {
	a.direction = cmp.Or(a.direction, a.flow())
	if a.extension == "" && a.level != callevent.LevelOutside {
		a.extension = ownExtension(a.direction, a.caller, a.called)
	}
	if a.direction != Inbound {
		a.did = ""
	}
	if a.direction == Outbound && a.called.Extension != "" && a.called.Extension == a.extension {
		a.called = a.otherSide()
	}
	a.result = a.outcome()
	a.decide(a.basis())
	a.withdrawn = a.withdrawn || a.hangup != nil && a.hangup.Status == callevent.StatusAnsweredElsewhere
	switch {
	case a.hangup != nil:
		a.end = a.hangup.Time
	default:
		a.end = a.closing.at()
	}
	switch {
	case a.answer != nil:
		a.answered = a.answer.Time
	case a.result == Answered && a.hangup != nil && a.hangup.Talk != nil: // the answer was lost
		a.answered = a.end.Add(-*a.hangup.Talk)
		a.start = earlier(a.start, a.answered)
	}
	a.order()
}

// order has no leg end before it was answered or began, as it may where the clocks of two nodes of
// the PBX differ.
func (a *attempt) order() {
	if !a.end.IsZero() {
		a.end = later(a.end, later(a.start, a.answered))
	}
}

// flow is the direction of a leg whose dial event was lost.
func (a *attempt) flow() Direction {
	for _, e := range a.events {
		switch e.Flow {
		case callevent.FlowIn:
			return Inbound
		case callevent.FlowOut:
			return Outbound
		case callevent.FlowUnknown:
		}
	}
	if a.caller.Local && !a.called.Local {
		return Outbound
	}
	return Inbound
}

// otherSide is whom an outgoing leg calls, where the first event names the extension itself only.
func (a *attempt) otherSide() *callevent.Party {
	for _, e := range a.events {
		if e.Called.Number != "" && e.Called.Extension != a.extension {
			return &e.Called
		}
	}
	return a.called
}

func ownExtension(direction Direction, caller, called *callevent.Party) string {
	party := called
	if direction == Outbound {
		party = caller
	}
	if party.Extension == "" && party.Local {
		return party.Number
	}
	return party.Extension
}

// outcome follows the hangup's status. Only a success is a success: an answer event does not
// outweigh a hangup that says something else, but a hangup that says nothing is decided by it.
func (a *attempt) outcome() Result {
	if a.hangup == nil {
		return a.unheard()
	}
	switch a.hangup.Status {
	case callevent.StatusAnswered:
		return Answered
	case callevent.StatusBusy:
		return Busy
	case callevent.StatusCancelled, callevent.StatusAnsweredElsewhere:
		return Cancelled
	case callevent.StatusNoAnswer:
		return NoAnswer
	case callevent.StatusFailed:
		if a.rang {
			return NoAnswer
		}
		return Failed
	case callevent.StatusUnspecified:
		return a.unstated()
	case callevent.StatusUnknown, callevent.StatusCalling, callevent.StatusRinging:
	}
	if a.hangup.WireStatus == "" {
		return a.unstated()
	}
	return Unknown
}

// basis is the rule by which the leg's own events decide.
func (a *attempt) basis() ruleID {
	switch {
	case a.hangup == nil && a.result == "":
		return undecided
	case a.hangup == nil && a.closing.over.IsZero():
		return longestDuration
	case a.result == Answered && (a.hangup == nil || a.hangup.Status != callevent.StatusAnswered):
		return answerDecides
	case a.hangup == nil:
		return endWithoutHangup
	default:
		return statusOfHangup
	}
}

// unheard is the result of a leg without a hangup.
func (a *attempt) unheard() Result {
	switch {
	case !a.closing.over.IsZero():
		return a.unstated()
	case !a.closing.timeout.IsZero():
		return Unknown
	default:
		return ""
	}
}

// unstated is the result of a leg whose end says nothing of it.
func (a *attempt) unstated() Result {
	switch {
	case a.answer != nil || a.testified:
		return Answered
	case a.rang, !a.closing.over.IsZero() && (a.hangup == nil || a.hangup.WireStatus == ""):
		return NoAnswer
	default:
		return Unknown
	}
}

// from is the calling number. Of a caller who hides it nothing is shown, be it that an extension is
// the caller's own.
func (a *attempt) from() string {
	if a.caller.Withheld && (a.direction != Outbound || a.transferred) {
		return ""
	}
	return cmp.Or(a.caller.Number, a.caller.Extension)
}

func (a *attempt) open() bool { return a.result == "" }

// taken reports whether somebody picked up, whether or not the end is known.
func (a *attempt) taken() bool {
	return a.result == Answered || a.answer != nil && a.hangup == nil
}

// internal reports whether the call is between two extensions. The numbers alone decide: the leg
// from a queue to its agent has two extensions, but the calling number is the customer's. An
// outside number behind a call that was handed over makes it a customer's call.
func (a *attempt) internal() bool { return a.remote == "" && a.caller.Local && a.called.Local }

// forwarding reports whether this is an internal forwarding leg. All of its three marks are needed,
// or every call from a queue to an agent would be one.
func (a *attempt) forwarding() bool {
	return a.transferred && a.caller.ExtensionID != "" && a.called.ExtensionID != ""
}

// within reports whether the scope has a place for this leg.
func (a *attempt) within(scope Scope) bool {
	return scope == ScopeAll || a.shown || !a.internal() && !a.forwarding() && !a.unidentified()
}

// unidentified reports whether no more is known of a leg than that it is over: whether the call is
// internal will be seen, or it is lost.
func (a *attempt) unidentified() bool {
	return a.sided && !a.dialled && a.answer == nil && !a.testified && a.caller.Number == "" && a.hangup != nil && a.hangup.WireStatus == ""
}

// onlyLeft reports whether no more is known of a leg than the end, and it is the end of the party
// that made the call: the legs of those who were called tell of it (LinuxBox 2024: hangup_internal
// of the calling line, which no other event names).
func (f *folded) onlyLeft(a *attempt) bool {
	if !a.sided || a.dialled || a.answer != nil || a.testified || a.hangup == nil || a.hangup.WireStatus != "" {
		return false
	}
	return slices.ContainsFunc(f.attempts, func(other attempt) bool {
		return other.id != a.id && other.direction == Inbound && other.caller.Local && other.caller.Extension == a.extension
	})
}

// tookCall reports whether an ordinary extension took the inbound call that this leg belongs to. An
// outgoing leg tells nothing of the sort: it may be the customer who picked up when a web call-back
// rang him.
func (a *attempt) tookCall(rules Rules) bool {
	if a.direction == Outbound {
		return rules.ForwardedIsAnswered && a.transferred && a.taken()
	}
	return a.level != callevent.LevelEntry && a.taken()
}

// withdrawnFor reports whether this leg stopped ringing because the other one was answered: the
// answer fell into the time in which it rang. The hangup may be stamped before the answer by
// another clock's difference; a timer that ran out before the other began to ring had nothing to do
// with it.
func (a *attempt) withdrawnFor(other *attempt) bool {
	if other.direction == Outbound || other.level == callevent.LevelEntry || other.answered.IsZero() || !other.taken() {
		return false
	}
	if began, over := a.ringing(); other.answered.Before(began) || other.answered.After(over) {
		return false
	}
	return a.result != NoAnswer || !other.start.After(a.end)
}

// ringing is from when until when the leg may have been ringing.
func (a *attempt) ringing() (began, over time.Time) {
	if !a.dialled {
		return a.end.Add(-slack), a.end.Add(slack)
	}
	return a.start, a.end.Add(slack)
}

// mayBeWithdrawn reports whether this is an inbound leg that ended without anybody having picked up
// and without a reason of its own.
func (a *attempt) mayBeWithdrawn() bool {
	if a.direction != Inbound || a.answer != nil || a.hangup == nil && a.closing.over.IsZero() || a.level == callevent.LevelEntry {
		return false
	}
	return a.result == Cancelled || a.result == NoAnswer || a.result == Unknown
}

// handedOver reports whether a leg came about by transfer or forwarding: the PBX says so, or an
// extension calls with somebody else's number.
func (a *attempt) handedOver() bool {
	return a.remote != "" || a.transferred || a.direction == Inbound && a.caller.Extension != "" && !a.caller.Local
}

func (a *attempt) talk() time.Duration {
	switch {
	case a.result != Answered:
		return 0 // what unanswered legs report as duration is ringing
	case a.hangup != nil && a.hangup.Talk != nil:
		return *a.hangup.Talk
	case !a.answered.IsZero() && a.end.After(a.answered):
		return a.end.Sub(a.answered)
	default:
		return 0
	}
}

func (a *attempt) firstReceived() time.Time {
	first := a.events[0].Received
	for _, e := range a.events {
		first = earlier(first, e.Received)
	}
	return first
}

func (a *attempt) phase() Phase {
	switch {
	case !a.open():
		return Completed
	case !a.answered.IsZero():
		return Talking
	default:
		return Ringing
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
