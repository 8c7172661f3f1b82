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

// givenUp is the event with which the call ended for the leg with which it came in; nil while it lasts.
func (f *folded) givenUp() *event {
	if entry := f.entry(); entry != nil && entry.direction == Inbound {
		return entry.hangup
	}
	return nil
}

// judgeEntry decides how the call ended for the leg with which it entered: the platform's own answer says nothing of it. It stays open
// until that is certain.
func (f *folded) judgeEntry(c *Call, rules Rules) {
	a := f.entry()
	if a == nil {
		return
	}
	if f.entryAnswered(a); a.hangup == nil {
		return
	}
	switch {
	case f.taken(rules), !a.answered.IsZero():
		a.result = Answered
	case f.waiting.deciding != nil && c.graceOver():
		a.result = Missed
	case f.waiting.deciding != nil:
		a.result, a.end = "", time.Time{}
	default:
		a.result = f.entryResult(a)
	}
	a.order()
}

// entryAnswered takes the answer from the first leg that was taken.
func (f *folded) entryAnswered(a *attempt) {
	a.answered = time.Time{}
	for i := range f.attempts {
		p := &f.attempts[i]
		if p == a || p.answered.IsZero() {
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

// entryResult is that of the last leg; a call without legs failed, or was served by the platform itself.
func (f *folded) entryResult(a *attempt) Result {
	var last *attempt
	for i := range f.attempts {
		if p := &f.attempts[i]; p != a && (last == nil || p.end.After(last.end)) {
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
