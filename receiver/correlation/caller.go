package correlation

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// callerBehindQueue is the rule behind-queue.
func callerBehindQueue(v *view, a attempt) (attempt, bool) {
	if a.direction != Inbound || a.remote != "" || !a.caller.Local {
		return a, false
	}
	behind := v.waiting.callerBehind(a.caller)
	if behind == nil {
		return a, false
	}
	caller := *behind
	caller.Extension, caller.ExtensionID = a.caller.Extension, a.caller.ExtensionID
	a.caller = &caller
	return a, true
}

// callerInside is the rule from-inside.
func callerInside(v *view, a attempt) (attempt, bool) {
	if a.direction != Inbound || a.remote != "" || a.caller.Local || !v.calledFromInside(&a) {
		return a, false
	}
	caller := *a.caller
	caller.Local = true
	a.caller = &caller
	return a, true
}

// callerBehind is the caller from outside who waits in the queue or IVR that is shown as the caller
// of a leg; nil if there is none.
func (w *waiting) callerBehind(shown *callevent.Party) *callevent.Party {
	var behind *callevent.Party
	of := false
	for _, e := range w.events {
		if !e.ofSystem() {
			continue
		}
		number := e.Source.Number
		of = of || number != "" && (number == shown.Number || number == shown.Extension)
		if e.Caller.Local || e.Caller.Number == "" && !e.Caller.Withheld {
			continue
		}
		switch {
		case e.Caller.Number == shown.Number: // the queue shows its own number too
			behind = cmp.Or(behind, &callevent.Party{Withheld: true})
		case behind == nil || behind.Number == "":
			behind = &e.Caller
		}
	}
	if !of {
		return nil
	}
	return behind
}

// calledFromInside reports whether an extension made the call that rings this leg, as its own leg
// tells, and shows a public number. One that hands a customer's call on has a leg of the customer's
// too.
func (v *view) calledFromInside(a *attempt) bool {
	if a.caller.Extension == "" || a.caller.Number == "" {
		return false
	}
	found := false
	for i := range v.legs {
		other := &v.legs[i]
		switch {
		case other.extension != a.caller.Extension:
		case other.direction == Inbound && !other.caller.Local:
			return false
		case other.rings(a):
			found = true
		}
	}
	return found
}

// rings reports whether this is the leg with which an extension calls the other leg's.
func (a *attempt) rings(other *attempt) bool {
	return a.direction == Outbound && a.internal() && !a.transferred && a.called.Extension == other.extension && other.extension != "" &&
		a.start.Sub(other.start).Abs() <= overtaken
}

// joinedOutside is the rule same-outside.
func joinedOutside(v *view) (legs []attempt, applies []int) {
	return joined(v.legs, routedTo, func(out, routed attempt) attempt {
		out.events = append(slices.Clone(routed.events), out.events...)
		out.start = routed.start
		return out
	})
}

// routedTo finds a leg to an outside number, and the dial that is the beginning of it; -1 if there
// is none.
func routedTo(legs []attempt) (out, routed int) {
	for i := range legs {
		out := &legs[i]
		if out.level != callevent.LevelOutside || out.dialled {
			continue
		}
		routed := slices.IndexFunc(legs, func(a attempt) bool {
			return a.onlyRouted() && a.extension == out.called.Number && !a.start.After(out.start)
		})
		if routed >= 0 {
			return i, routed
		}
	}
	return -1, -1
}

// joined joins pairs of legs that are one, until there are none: the second is the beginning of the
// first. It returns also which legs were joined.
func joined(legs []attempt, pair func([]attempt) (first, second int), join func(first, second attempt) attempt) (all []attempt, applies []int) {
	for {
		first, second := pair(legs)
		if second < 0 {
			return legs, applies
		}
		next := slices.Clone(legs)
		next[first] = join(legs[first], legs[second])
		legs = slices.Delete(next, second, second+1)
		for i := range applies {
			applies[i] = moved(applies[i], second)
		}
		applies = append(applies, moved(first, second))
	}
}

// moved is a position after the leg at another one was deleted.
func moved(at, deleted int) int {
	if at > deleted {
		return at - 1
	}
	return at
}

// onlyRouted reports whether no more is known of a leg than that the call was sent there.
func (a *attempt) onlyRouted() bool {
	return a.sided && a.direction == Inbound && a.dialled && !a.rang && a.answer == nil && a.hangup == nil && !a.testified
}

// sameNumber reports whether two numbers that are known are the same but for a leading plus.
func sameNumber(a, b string) bool {
	a = strings.TrimPrefix(a, "+")
	return a != "" && a == strings.TrimPrefix(b, "+")
}
