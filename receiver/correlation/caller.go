package correlation

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// findCallers puts the true caller on legs that show another number in the place: that of the queue
// which rings the agent, or the public number of a line that calls another one.
func findCallers(attempts []attempt, own *waiting) {
	for i := range attempts {
		a := &attempts[i]
		if a.direction != Inbound || a.remote != "" {
			continue
		}
		switch {
		case a.caller.Local:
			if behind := own.callerBehind(a.caller); behind != nil {
				caller := *behind
				caller.Extension, caller.ExtensionID = a.caller.Extension, a.caller.ExtensionID
				a.caller = &caller
			}
		case calledFromInside(a, attempts, own):
			caller := *a.caller
			caller.Local = true
			a.caller = &caller
		}
	}
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
func calledFromInside(a *attempt, attempts []attempt, own *waiting) bool {
	if a.caller.Extension == "" || a.caller.Number == "" || len(own.events) > 0 {
		return false
	}
	found := false
	for i := range attempts {
		other := &attempts[i]
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

// mergeRouted joins a dial to a number that looks like a line with the leg that tells that it is
// outside.
func mergeRouted(attempts []attempt) []attempt {
	for i := range attempts {
		out := &attempts[i]
		if out.level != callevent.LevelOutside || out.dialled {
			continue
		}
		routed := slices.IndexFunc(attempts, func(a attempt) bool {
			return a.onlyRouted() && a.extension == out.called.Number && !a.start.After(out.start)
		})
		if routed < 0 {
			continue
		}
		out.events = append(slices.Clone(attempts[routed].events), out.events...)
		out.start = attempts[routed].start
		return mergeRouted(slices.Delete(attempts, routed, routed+1))
	}
	return attempts
}

// onlyRouted tells a leg of which no more is known than that the call was sent there.
func (a *attempt) onlyRouted() bool {
	return a.sided && a.direction == Inbound && a.dialled && !a.rang && a.answer == nil && a.hangup == nil && !a.testified
}

// sameNumber reports whether two numbers that are known are the same but for a leading plus.
func sameNumber(a, b string) bool {
	a = strings.TrimPrefix(a, "+")
	return a != "" && a == strings.TrimPrefix(b, "+")
}
