package correlation

import (
	"slices"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// pickedUp is the rule pickup: of a call that was taken from another phone no answer event need
// follow to tell by which. The line that transferred the call then comes first, else the first to
// leave.
func pickedUp(v *view, a attempt) (attempt, bool) {
	for _, told := range v.pickups() {
		if told.picker == a.id {
			a.answer, a.start = told.event, earlier(a.start, told.event.Time)
			a.conclude()
			return a, true
		}
	}
	return a, false
}

// pickupOf is who picked up a call.
type pickupOf struct {
	event  *event
	picker string
}

// pickups are those for which no answer event tells who it was.
func (v *view) pickups() []pickupOf {
	var found []pickupOf
	for _, e := range v.facts.pickups {
		if v.pickupIsTold(e) {
			continue
		}
		if a := v.picker(e, found); a != nil {
			found = append(found, pickupOf{event: e, picker: a.id})
		}
	}
	return found
}

// pickupIsTold reports whether an answer event tells who picked up.
func (v *view) pickupIsTold(pickup *event) bool {
	return slices.ContainsFunc(v.takers, func(a *attempt) bool {
		return a.answer != nil && a.answered.Sub(pickup.Time).Abs() <= slack
	})
}

func (v *view) picker(pickup *event, known []pickupOf) *attempt {
	var best *attempt
	for i := range v.legs {
		a := &v.legs[i]
		if !a.mayHavePickedUp(pickup, v.facts) || slices.ContainsFunc(known, func(k pickupOf) bool { return k.picker == a.id }) {
			continue
		}
		if best == nil || v.likelier(a, best) {
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
func (v *view) likelier(a, b *attempt) bool {
	switch {
	case v.transferredBy(a) != v.transferredBy(b):
		return v.transferredBy(a)
	case a.testified != b.testified && a.end.Sub(b.end).Abs() <= slack:
		return a.testified
	default:
		return a.end.Before(b.end)
	}
}

// transferredBy reports whether some leg came about because this one's party transferred the call.
func (v *view) transferredBy(a *attempt) bool {
	for i := range v.legs {
		if other := &v.legs[i]; other.id != a.id && other.transferred && other.caller.Extension == a.extension {
			return true
		}
	}
	return false
}
