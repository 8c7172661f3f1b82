package correlation

import (
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

const (
	// overtaken is by how much an event may be received before one that happened earlier: two
	// notifications go out over two connections.
	overtaken = 2 * time.Second
	// skewed is by how much the clocks of two nodes of one PBX differ.
	skewed = 5 * time.Second
	// retried is within what a sender that timed out repeats a notification.
	retried = 30 * time.Second
)

// party is one side of a call whose legs have no ids, and what it was doing when its next event
// came: that alone tells a late or repeated event from another attempt. The events of an attempt
// follow each other in the set.
type party struct {
	opened       bool
	ring, answer *event // of the present attempt
	hangup       *event
}

// membership is what a rule says of the next event of a party.
type membership int

const (
	// silent: the rule does not apply.
	silent membership = iota
	// belongs: the event belongs to the present attempt.
	belongs
	// begins: it begins another one.
	begins
)

// cut returns the events of the first leg of a party, the rest of the party, and the rules by which
// that is one leg. Late repetitions are in neither.
func cut(events []*event) (leg, rest []*event, by applied) {
	if ofCall(events[0]) || events[0].LegID != "" {
		return events, nil, 1 << ownID
	}
	var p party
	p.hear(events[0])
	n := 1
	for n < len(events) {
		said, rule := p.assign(events[n], events[n+1:])
		if said == begins {
			by |= 1 << rule
			break
		}
		if said == belongs {
			by |= 1 << rule
		}
		p.hear(events[n])
		n++
	}
	if leg = withoutRepetitions(events[:n]); len(leg) < n {
		by |= 1 << repeated
	}
	return leg, events[n:], by
}

// assign asks the rules, in their order, whether an event begins another attempt; next are those that
// come after it. Where none applies, it belongs to the present one.
func (p *party) assign(e *event, next []*event) (membership, ruleID) {
	if !p.opened || e.Secondary {
		return silent, undecided
	}
	for id := talking; id <= nextAttempt; id++ {
		if said := ruleTable[id].begins(p, e, next); said != silent {
			return said, id
		}
	}
	return silent, undecided
}

// withoutRepetitionsOfCall leaves out repetitions of the events of the call as a whole, which come
// first in the set.
func withoutRepetitionsOfCall(events []*event) []*event {
	n := 0
	for n < len(events) && ofCall(events[n]) {
		n++
	}
	kept := withoutRepetitions(events[:n])
	if len(kept) == n {
		return events
	}
	return append(kept, events[n:]...)
}

// legLength is the number of events that have the same leg id as the first, or belong to the same
// party.
func legLength(events []*event) int {
	first := events[0]
	if ofCall(first) {
		return 1
	}
	for i, e := range events {
		if e.LegID != first.LegID || first.LegID == "" && side(e) != side(first) {
			return i
		}
	}
	return len(events)
}

func (p *party) hear(e *event) {
	p.opened = p.opened || e.Type != callevent.Progress
	switch {
	case isDial(e) && p.ring == nil:
		p.ring = e
	case e.Type == callevent.Answer && p.answer == nil:
		p.answer = e
	case e.Type == callevent.Hangup && p.hangup == nil:
		p.hangup = e
	}
}

func isDial(e *event) bool { return e.Type == callevent.DialIn || e.Type == callevent.DialOut }

// whileTalking is the rule talking.
func whileTalking(p *party, e *event, _ []*event) membership {
	switch {
	case !isDial(e) || p.hangup != nil || p.answer == nil:
		return silent
	case p.answer.Flow != callevent.FlowUnknown && e.Flow != callevent.FlowUnknown && p.answer.Flow != e.Flow:
		return begins
	default:
		return belongs
	}
}

// afterHangup is the rule late. A second hangup belongs to the ring that it overtook.
func afterHangup(p *party, e *event, next []*event) membership {
	switch {
	case p.hangup == nil:
		return silent
	case isDial(e) && p.overtook(p.ring, e, next), e.Type == callevent.Answer && p.overtook(p.answer, e, next):
		return belongs
	case e.Type == callevent.Hangup && len(next) > 0 && isDial(next[0]) && (&party{hangup: e}).overtook(nil, next[0], next[1:]):
		return begins
	default:
		return silent
	}
}

// saidAgain is the rule repeated.
func saidAgain(p *party, e *event, _ []*event) membership {
	if e.Type == callevent.Answer && p.hangup != nil && p.repeats(e) {
		return belongs
	}
	return silent
}

// anotherAttempt is the rule next-attempt.
func anotherAttempt(p *party, e *event, _ []*event) membership {
	if isDial(e) || e.Type == callevent.Answer && p.hangup != nil && e.Side != "" {
		return begins
	}
	return silent
}

// overtook reports whether the hangup of the present attempt was received before an event that came
// first: the attempt has none of its kind yet, it came at once, and no attempt that it could begin
// goes on.
func (p *party) overtook(known, e *event, next []*event) bool {
	return known == nil && e.Time.Sub(p.hangup.Time) <= e.tolerance() && !p.goesOn(next)
}

// tolerance is by how much an event may be late: where the PBX gives no time, the receipt is late,
// else another node's clock.
func (e *event) tolerance() time.Duration {
	if e.Time.Equal(e.Received) {
		return overtaken
	}
	return skewed
}

// goesOn reports whether the party answers or leaves before it is rung again, other than by a
// repetition of what was heard.
func (p *party) goesOn(next []*event) bool {
	for _, e := range next {
		switch {
		case isDial(e):
			return false
		case p.repeats(e), e.Secondary:
		case e.Type == callevent.Answer && p.answer == nil && p.hangup != nil && e.Time.Sub(p.hangup.Time) <= e.tolerance():
		case e.Type == callevent.Answer || e.Type == callevent.Hangup:
			return true
		}
	}
	return false
}

// repeats reports whether an event repeats one of the present attempt word by word, as a sender
// does that timed out.
func (p *party) repeats(e *event) bool {
	return e.retries(p.answer) || e.retries(p.hangup)
}

// retries reports whether an event repeats an earlier one word by word, within the time in which
// senders do.
func (e *event) retries(earlier *event) bool {
	return earlier != nil && e.ID == earlier.ID && e.Repeat > 0 && e.Received.Sub(earlier.Received) <= retried
}

// withoutRepetitions leaves out the events that repeat others of the same leg, or of the call as a
// whole.
func withoutRepetitions(events []*event) []*event {
	var last map[string]*event
	var kept []*event
	for i, e := range events {
		if e.Repeat > 0 && len(events) > 1 {
			if last == nil {
				last = make(map[string]*event, len(events))
			}
			repeated := e.retries(last[e.ID])
			if last[e.ID] = e; repeated {
				if kept == nil {
					kept = append(make([]*event, 0, len(events)), events[:i]...)
				}
				continue
			}
		}
		if kept != nil {
			kept = append(kept, e)
		}
	}
	if kept == nil {
		return events
	}
	return kept
}
