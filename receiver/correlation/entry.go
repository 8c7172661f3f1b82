package correlation

import (
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// entry is the leg with which the call entered; nil where the PBX tells of none.
func (f *folded) entry() *attempt {
	if f.facts.entry == "" {
		return nil
	}
	for i := range f.attempts {
		if f.attempts[i].level == callevent.LevelEntry {
			return &f.attempts[i]
		}
	}
	return nil
}

// givenUp is the event with which the call ended for the leg with which it came in; nil while it
// lasts.
func (f *folded) givenUp() *event {
	if entry := f.entry(); entry != nil && entry.direction == Inbound {
		return entry.hangup
	}
	return nil
}

// entry is the leg with which the call entered; nil where the PBX tells of none.
func (v *view) entry() *attempt {
	f := folded{facts: *v.facts, attempts: v.legs}
	return f.entry()
}

// endedForEntry is the rule entry-leg: the platform's own answer says nothing of the call. The leg
// stays open until it is certain how it ended.
func endedForEntry(v *view, a attempt) (attempt, bool) {
	if entry := v.entry(); entry == nil || entry.id != a.id {
		return a, false
	}
	v.entryAnswered(&a)
	if a.hangup == nil {
		return a, true
	}
	switch {
	case v.taken(), !a.answered.IsZero():
		a.result = Answered
	case v.waiting.deciding != nil && v.grace:
		a.result = Missed
	case v.waiting.deciding != nil:
		a.result, a.end = "", time.Time{}
	default:
		a.result = v.entryResult(&a)
	}
	a.order()
	return a, true
}

// entryAnswered takes the answer from the first leg that was taken.
func (v *view) entryAnswered(a *attempt) {
	a.answered = time.Time{}
	for _, p := range v.takers {
		if p.id == a.id || p.answered.IsZero() {
			continue
		}
		if a.answered.IsZero() || p.answered.Before(a.answered) {
			a.answered = p.answered
		}
	}
	if !a.answered.IsZero() {
		a.start = earlier(a.start, a.answered)
	}
}

// entryResult is that of the last leg; a call without legs failed, or was served by the platform
// itself.
func (v *view) entryResult(a *attempt) Result {
	var last *attempt
	for i := range v.legs {
		if p := &v.legs[i]; p.id != a.id && (last == nil || p.end.After(last.end)) {
			last = p
		}
	}
	switch {
	case a.direction == Outbound && last != nil:
		return last.result
	case a.hangup.Status == callevent.StatusUnspecified:
		return Unknown
	default:
		return a.outcome()
	}
}
