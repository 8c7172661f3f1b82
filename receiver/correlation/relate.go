package correlation

import (
	"cmp"
	"slices"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// relate draws what follows from the legs together.
func (f *folded) relate(facts *facts) {
	if !facts.related {
		return
	}
	f.pickUp(facts)
	for i := range f.attempts {
		a := &f.attempts[i]
		if a.level == callevent.LevelEntry {
			continue
		}
		a.routeOut(facts)
		f.withdraw(a)
		f.answerInternally(a)
		f.testify(a, facts)
	}
	for i := range f.attempts {
		f.lapse(&f.attempts[i])
		f.joinDevice(&f.attempts[i])
	}
	for i := range f.attempts {
		f.handOver(&f.attempts[i])
	}
}

// routeOut has a leg to an outside number begin when the call was sent there.
func (a *attempt) routeOut(facts *facts) {
	if a.level != callevent.LevelOutside || a.dialled {
		return
	}
	for _, e := range facts.routed {
		if e.Called.Number == a.called.Number && e.Time.Before(a.start) {
			a.start = e.Time
		}
	}
}

// withdraw takes back an answer that only the hangup's status tells, when that may be the status of the call: another leg has an answer
// event of its own, took the call as the forwarding of this one, or rang together with it and lasted longer.
func (f *folded) withdraw(a *attempt) {
	if a.result != Answered || a.answer != nil || a.hangup == nil || !a.hangup.StatusOfCall {
		return
	}
	a.withdrawn = slices.ContainsFunc(f.attempts, func(other attempt) bool {
		return other.id != a.id && (other.answer != nil || other.forwards(a) || other.outlasts(a) || other.sameRequest(a))
	})
	if a.withdrawn {
		a.result = Cancelled
	}
}

// outlasts tells, of two legs that began to ring together and say that they were answered, the one that can have been.
func (a *attempt) outlasts(other *attempt) bool {
	both := a.direction == Inbound && other.direction == Inbound
	return both && a.taken() && a.start.Sub(other.start).Abs() <= slack && a.end.After(other.end)
}

// forwards tells the outgoing leg with which an extension sent a call on: with the caller's number.
func (a *attempt) forwards(in *attempt) bool {
	return a.direction == Outbound && in.direction == Inbound && a.extension == in.extension && a.taken() && a.onBehalfOf(in)
}

func (a *attempt) onBehalfOf(in *attempt) bool {
	return !a.caller.Local && a.caller.Number != "" && a.caller.Number == in.caller.Number
}

// answerInternally takes a leg between two extensions as answered when the other side was.
func (f *folded) answerInternally(a *attempt) {
	if !a.sided || a.direction != Outbound || a.answer != nil || !a.internal() {
		return
	}
	if !a.testified && a.result != NoAnswer && a.result != Unknown {
		return
	}
	for i := range f.attempts {
		other := &f.attempts[i]
		if other.direction != Inbound || other.answer == nil || other.extension != a.called.Number {
			continue
		}
		if !other.answered.Before(a.start) && !other.answered.After(a.end) {
			a.answer, a.answered = other.answer, other.answered
			a.conclude()
		}
	}
}

// testify finds out when a leg was answered that has no answer event: it is said so at the end, or nothing but its hangup is known, long
// after somebody else had answered and left.
func (f *folded) testify(a *attempt, facts *facts) {
	if !a.sided || a.answer != nil {
		return
	}
	left := f.leftBefore(a)
	if a.testified && f.answeredOwn(a) {
		a.testified = false
		a.conclude()
	}
	onlyHangup := !a.dialled && a.hangup != nil && a.hangup.WireStatus == "" && a.hangup.Status == callevent.StatusUnknown
	switch {
	case a.testified:
	case onlyHangup && !left.IsZero() && !f.somebodyAt(left, a):
		a.testified = true
	default:
		return
	}
	if a.conclude(); a.result != Answered {
		return
	}
	moment := facts.lastPickup(a.end)
	if a.dialled && a.transferred {
		moment = later(moment, a.start)
	}
	moment = later(moment, left)
	if !moment.IsZero() && !moment.After(a.end) {
		a.answered = moment
		a.start = earlier(a.start, moment)
	}
}

// answeredOwn tells that another attempt of the same party has an answer event.
func (f *folded) answeredOwn(a *attempt) bool {
	return slices.ContainsFunc(f.attempts, func(other attempt) bool {
		return other.id != a.id && other.sided && other.answer != nil && side(other.events[0]) == side(a.events[0])
	})
}

// leftBefore is when the last of the other parties left that had answered and left before this one did; zero where there was none.
func (f *folded) leftBefore(a *attempt) time.Time {
	var last time.Time
	for i := range f.attempts {
		if p := &f.attempts[i]; p.id != a.id && p.answer != nil && p.hangup != nil && p.end.Before(a.end) {
			last = later(last, p.end)
		}
	}
	return last
}

// somebodyAt tells that a third party still talked a while after that.
func (f *folded) somebodyAt(left time.Time, a *attempt) bool {
	for i := range f.attempts {
		if p := &f.attempts[i]; p.id != a.id && p.answer != nil && !p.end.Before(left.Add(slack)) {
			return true
		}
	}
	return false
}

// lapse ends a ring when somebody else takes the call, where its own end need not be told.
func (f *folded) lapse(a *attempt) {
	if a.answer != nil || a.hangup != nil || a.testified || a.direction != Inbound ||
		!slices.ContainsFunc(a.events, func(e *event) bool { return e.Lapses }) {
		return
	}
	for i := range f.attempts {
		other := &f.attempts[i]
		if other.id == a.id || other.direction != Inbound || other.answer == nil || other.answered.Before(a.start) {
			continue
		}
		if a.closing.over.IsZero() || other.answered.Before(a.closing.over) {
			a.closing.over = other.answered
		}
	}
	a.conclude()
}

// joinDevice draws what the leg before a device tells of it: the recording, and for a device that dialled out when the other side answered.
// Until then it waited.
func (f *folded) joinDevice(a *attempt) {
	i := slices.IndexFunc(f.attempts, func(leg attempt) bool { return leg.id == a.parent })
	if a.level != callevent.LevelDevice || i < 0 {
		return
	}
	leg := &f.attempts[i]
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
}

// handOver finds the leg that this one came out of, where the PBX need not say: the last one that had been answered when it began.
func (f *folded) handOver(a *attempt) {
	if !a.events[0].TransfersUntold || a.internal() || a.level == callevent.LevelEntry {
		return
	}
	var from *attempt
	for i := range f.attempts {
		p := &f.attempts[i]
		if !a.cameOutOf(p) {
			continue
		}
		if from == nil || p.answered.After(from.answered) {
			from = p
		}
	}
	if from == nil {
		return
	}
	a.transferred = true
	if a.parent == "" {
		a.parent = from.id
	}
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

// carried tells a leg whose talk is recorded on others: on the legs behind it.
func (f *folded) carried(a *attempt) bool {
	return slices.ContainsFunc(f.attempts, func(behind attempt) bool {
		return behind.level == callevent.LevelDevice && behind.parent == a.id && behind.result == Answered
	})
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
