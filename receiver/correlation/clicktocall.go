package correlation

import (
	"slices"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// joinedClickToCall is the rule click-to-call. The id is that of the leg of the extension, which was
// shown from the first ring.
func joinedClickToCall(v *view) (legs []attempt, applies []int) {
	return joined(v.legs, requested, attempt.continuing)
}

// requested finds an outgoing leg that an API call made, and the leg of the extension that it rang
// first; -1 if there is none.
func requested(legs []attempt) (out, source int) {
	for source := range legs {
		s := &legs[source]
		if !s.sided || s.direction != Inbound || !s.dialled && s.answer == nil || s.ofCustomer() { // heard of too late to have been shown first
			continue
		}
		for out := range legs {
			if legs[out].follows(s) {
				return out, source
			}
		}
	}
	return -1, -1
}

// ofCustomer reports whether no API call can have rung an inbound leg: the call came in through a
// public number, or nobody picked up. That it carries the id of an API call says nothing, as every
// call may have one.
func (a *attempt) ofCustomer() bool {
	if a.hangup != nil && a.answer == nil && a.hangup.failed() {
		return true
	}
	return slices.ContainsFunc(a.events, func(e *event) bool { return e.DID != "" })
}

// failed reports whether a hangup says why nobody talked.
func (e *event) failed() bool {
	switch e.Status {
	case callevent.StatusBusy, callevent.StatusCancelled, callevent.StatusNoAnswer, callevent.StatusFailed:
		return true
	default:
		return false
	}
}

func (a *attempt) control() string {
	for _, e := range a.events {
		if e.ControlID != "" {
			return e.ControlID
		}
	}
	return ""
}

// follows reports whether this is an outgoing leg that an API call made once the extension had
// picked up. Without the call's id it shows by the number, which is that with which the extension
// was rung, and by its beginning at the moment of the answer.
func (a *attempt) follows(source *attempt) bool {
	if a.direction != Outbound || !a.sided || a.extension != source.extension || a.control() != source.control() || a.start.Before(source.start) {
		return false
	}
	if source.answer == nil {
		return a.control() != ""
	}
	if !a.dialled && a.control() != "" { // its beginning was lost
		return true
	}
	return a.start.Sub(source.answered).Abs() <= slack && (a.control() != "" || a.onBehalfOf(source))
}

// sameRequest reports whether this is an outgoing leg of the same API call and extension.
func (a *attempt) sameRequest(source *attempt) bool {
	return a.direction == Outbound && a.extension == source.extension && a.control() != "" && a.control() == source.control()
}

// continuing is the outgoing leg with the one of the extension as its beginning.
func (a attempt) continuing(source attempt) attempt {
	a.id, a.start, a.shown = source.id, source.start, !source.internal()
	a.events = append(slices.Clone(source.events), a.events...)
	slices.SortFunc(a.events, chronological)
	if a.closing.timeout.IsZero() {
		a.closing.timeout = source.closing.timeout
	}
	if a.hangup == nil && source.hangup != nil {
		a.closing.over = source.hangup.Time
	}
	start := a.start
	a.conclude()
	a.start = start
	return a
}
