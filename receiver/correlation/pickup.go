package correlation

import (
	"slices"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// pickUp finds out who took a ringing call from another phone, where no answer event follows to tell it: a line that was neither rung nor
// answered, and left after that. The one that transferred the call then comes first, else the first to leave.
func (f *folded) pickUp(facts *facts) {
	for _, pickup := range facts.pickups {
		if f.pickupIsTold(pickup) {
			continue
		}
		if a := f.picker(pickup, facts); a != nil {
			a.answer, a.start = pickup, earlier(a.start, pickup.Time)
			a.conclude()
		}
	}
}

// pickupIsTold reports whether an answer event tells who picked up.
func (f *folded) pickupIsTold(pickup *event) bool {
	return slices.ContainsFunc(f.attempts, func(a attempt) bool {
		return a.answer != nil && a.answered.Sub(pickup.Time).Abs() <= slack
	})
}

func (f *folded) picker(pickup *event, facts *facts) *attempt {
	var best *attempt
	for i := range f.attempts {
		if a := &f.attempts[i]; a.mayHavePickedUp(pickup, facts) && (best == nil || f.likelier(a, best)) {
			best = a
		}
	}
	return best
}

func (a *attempt) mayHavePickedUp(pickup *event, facts *facts) bool {
	if !a.sided || a.level != callevent.LevelExtension || a.dialled || a.answer != nil || a.hangup == nil || a.hangup.failed() {
		return false
	}
	callsItself := facts.caller != nil && facts.caller.Number == a.extension
	return !callsItself && a.direction == Inbound && a.end.Sub(pickup.Time) > slack
}

// likelier orders those who may have picked up.
func (f *folded) likelier(a, b *attempt) bool {
	switch {
	case f.transferredBy(a) != f.transferredBy(b):
		return f.transferredBy(a)
	case a.testified != b.testified && a.end.Sub(b.end).Abs() <= slack:
		return a.testified
	default:
		return a.end.Before(b.end)
	}
}

// transferredBy reports whether some leg came about because this one's party transferred the call.
func (f *folded) transferredBy(a *attempt) bool {
	return slices.ContainsFunc(f.attempts, func(other attempt) bool {
		return other.id != a.id && other.transferred && other.caller.Extension == a.extension
	})
}
