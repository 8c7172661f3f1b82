package correlation

import (
	"cmp"
	"slices"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// beganWhenRouted is the rule routed-out.
func beganWhenRouted(v *view, a attempt) (attempt, bool) {
	if a.level != callevent.LevelOutside || a.dialled {
		return a, false
	}
	applies := false
	for _, e := range v.facts.routed {
		if e.Called.Number == a.called.Number && e.Time.Before(a.start) {
			a.start, applies = e.Time, true
		}
	}
	return a, applies
}

// saidOfCall is the rule status-of-call. It takes back an answer that only the hangup's status
// tells, when another leg has an answer event of its own, took the call as the forwarding of this
// one, or rang together with it and lasted longer.
func saidOfCall(v *view, a attempt) (attempt, bool) {
	if a.level == callevent.LevelEntry || a.result != Answered || a.answer != nil || a.hangup == nil || !a.hangup.StatusOfCall {
		return a, false
	}
	for i := range v.legs {
		other := &v.legs[i]
		if other.id != a.id && (other.answer != nil || other.forwards(&a) || other.outlasts(&a) || other.sameRequest(&a)) {
			a.withdrawn, a.result = true, Cancelled
			return a, true
		}
	}
	return a, false
}

// outlasts reports, of two legs that began to ring together and say that they were answered,
// whether this is the one that can have been.
func (a *attempt) outlasts(other *attempt) bool {
	both := a.direction == Inbound && other.direction == Inbound
	return both && a.taken() && a.start.Sub(other.start).Abs() <= slack && a.end.After(other.end)
}

// forwards reports whether this is the outgoing leg with which an extension sent a call on: with
// the caller's number.
func (a *attempt) forwards(in *attempt) bool {
	return a.direction == Outbound && in.direction == Inbound && a.extension == in.extension && a.taken() && a.onBehalfOf(in)
}

func (a *attempt) onBehalfOf(in *attempt) bool {
	hidden := a.caller.Withheld && in.caller.Withheld
	return !a.caller.Local && (hidden || sameNumber(a.caller.Number, in.caller.Number))
}

// answeredByOtherSide is the rule other-side-answered.
func answeredByOtherSide(v *view, a attempt) (attempt, bool) {
	if !a.sided || a.direction != Outbound || a.answer != nil || !a.internal() {
		return a, false
	}
	if !a.testified && a.result != NoAnswer && a.result != Unknown {
		return a, false
	}
	for _, other := range v.takers {
		if other.direction != Inbound || other.answer == nil || other.extension != a.called.Number {
			continue
		}
		if !other.answered.Before(a.start) && !other.answered.After(a.end) {
			a.answer = other.answer
			a.conclude()
			return a, true
		}
	}
	return a, false
}

// testifiedAtEnd is the rule said-at-the-end: what is said of a party that has an answer event is
// said of that one.
func testifiedAtEnd(v *view, a attempt) (attempt, bool) {
	if !a.sided || a.answer != nil || !a.testified {
		return a, false
	}
	if v.answeredOwn(&a) {
		a.testified = false
		a.conclude()
		return a, true
	}
	a.answerWhen(v)
	return a, true
}

// stayedAfterAll is the rule left-last.
func stayedAfterAll(v *view, a attempt) (attempt, bool) {
	onlyHangup := !a.dialled && a.hangup != nil && a.hangup.WireStatus == "" && a.hangup.Status == callevent.StatusUnknown
	if !a.sided || a.answer != nil || a.testified || !onlyHangup {
		return a, false
	}
	left := v.leftBefore(&a)
	if left.IsZero() || v.somebodyAt(left, &a) {
		return a, false
	}
	a.testified = true
	a.conclude()
	a.answerWhen(v)
	return a, true
}

// answerWhen finds out when a leg was answered of which it is only certain that it was: when
// somebody picked up, when the call was transferred to it, or when the party left that had answered
// before.
func (a *attempt) answerWhen(v *view) {
	if a.result != Answered {
		return
	}
	moment := v.facts.lastPickup(a.end)
	if a.dialled && a.transferred {
		moment = later(moment, a.start)
	}
	moment = later(moment, v.leftBefore(a))
	if !moment.IsZero() && !moment.After(a.end) {
		a.answered = moment
		a.start = earlier(a.start, moment)
	}
}

// answeredOwn reports whether another attempt of the same party has an answer event.
func (v *view) answeredOwn(a *attempt) bool {
	return slices.ContainsFunc(v.takers, func(other *attempt) bool {
		return other.id != a.id && other.sided && other.answer != nil && side(other.events[0]) == side(a.events[0])
	})
}

// leftBefore is when the last of the other parties left that had answered and left before this one
// did; zero where there was none.
func (v *view) leftBefore(a *attempt) time.Time {
	var last time.Time
	for _, p := range v.takers {
		if p.id != a.id && p.answer != nil && p.hangup != nil && p.end.Before(a.end) {
			last = later(last, p.end)
		}
	}
	return last
}

// somebodyAt reports whether a third party still talked a while after that.
func (v *view) somebodyAt(left time.Time, a *attempt) bool {
	return slices.ContainsFunc(v.takers, func(p *attempt) bool {
		return p.id != a.id && p.answer != nil && !p.end.Before(left.Add(slack))
	})
}

// lapsed is the rule ring-lapses.
func lapsed(v *view, a attempt) (attempt, bool) {
	if a.level == callevent.LevelEntry || a.answer != nil || a.hangup != nil || a.testified || a.direction != Inbound ||
		!slices.ContainsFunc(a.events, func(e *event) bool { return e.Lapses }) {
		return a, false
	}
	applies := false
	for _, other := range v.takers {
		if other.id == a.id || other.direction != Inbound || other.answer == nil || other.answered.Before(a.start) {
			continue
		}
		if a.closing.over.IsZero() || other.answered.Before(a.closing.over) {
			a.closing.over, applies = other.answered, true
		}
	}
	if applies {
		a.conclude()
	}
	return a, applies
}

// joinedDevice is the rule device. It also draws the recording from the leg before the device.
func joinedDevice(v *view, a attempt) (attempt, bool) {
	if a.level != callevent.LevelDevice {
		return a, false
	}
	i := slices.IndexFunc(v.legs, func(leg attempt) bool { return leg.id == a.parent })
	if i < 0 {
		return a, false
	}
	leg := &v.legs[i]
	a.recording = cmp.Or(a.recording, leg.recording)
	switch {
	case a.direction != Outbound, a.answer == nil:
	case leg.answer != nil:
		a.answered = later(a.answered, leg.answered)
		if !a.end.IsZero() {
			a.answered = earlier(a.answered, a.end)
		}
	default:
		a.answer, a.answered = nil, time.Time{}
		a.result = cmp.Or(leg.result, a.outcome())
	}
	return a, true
}

// cameOutOfAnother is the rule handed-over: of several legs that had been answered when this one
// began, the last is the one.
func cameOutOfAnother(v *view, a attempt) (attempt, bool) {
	if !a.events[0].TransfersUntold || a.internal() || a.level == callevent.LevelEntry {
		return a, false
	}
	from := a.cameFrom(v)
	if from == nil {
		return a, false
	}
	a.transferred, a.parent = true, cmp.Or(a.parent, from.id)
	return a, true
}

// cameFrom is the leg that this one came out of; nil if there is none. One that came in came from
// one that was answered.
func (a *attempt) cameFrom(v *view) *attempt {
	var from *attempt
	consider := func(p *attempt) {
		if a.cameOutOf(p) && (from == nil || p.answered.After(from.answered)) {
			from = p
		}
	}
	if a.direction == Outbound {
		for i := range v.legs {
			consider(&v.legs[i])
		}
		return from
	}
	for _, p := range slices.Backward(v.answeredUntil(a.start)) {
		if from != nil && p.answered.Before(from.answered) {
			break
		}
		if a.cameOutOf(p) {
			from = p // of several that were answered at once the first one
		}
	}
	return from
}

func (a *attempt) cameOutOf(p *attempt) bool {
	if p.direction != Inbound || p.level != a.level || p.id == a.id || !a.dialled && a.answered.IsZero() {
		return false
	}
	if a.direction == Outbound {
		return a.extension == p.extension && a.onBehalfOf(p)
	}
	return a.extension != p.extension && !p.answered.IsZero() && p.answered.Before(a.start)
}

// withdrawn is the rule answered-elsewhere.
func withdrawn(v *view, a attempt) (attempt, bool) {
	if !a.withdrawn && (!a.mayBeWithdrawn() || !v.answeredElsewhere(&a)) {
		return a, false
	}
	a.result = AnsweredElsewhere
	return a, true
}

func (v *view) answeredElsewhere(a *attempt) bool {
	began, over := a.ringing()
	for _, other := range slices.Backward(v.answeredUntil(over)) {
		if other.answered.Before(began) {
			return false
		}
		if other.id != a.id && a.withdrawnFor(other) {
			return true
		}
	}
	return false
}

// carried reports whether a leg's talk is recorded on others: on the devices behind it.
func (f *folded) carried(a *attempt) bool {
	for i := range f.attempts {
		behind := &f.attempts[i]
		if behind.level == callevent.LevelDevice && behind.parent == a.id && behind.result == Answered {
			return true
		}
	}
	return false
}
