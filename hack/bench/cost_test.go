package main

import "testing"

// As many events are sent in short calls as in long ones, each once.
func TestEventsOfCalls(t *testing.T) {
	for _, legs := range []int{1, longLegs} {
		seen := map[wireEvent]bool{}
		calls := map[string]bool{}
		const events = longCalls * longLegs * kinds
		for n := range events {
			event := eventOf(n, legs)
			seen[event], calls[event.call] = true, true
		}
		if want := longCalls * longLegs / legs; len(seen) != events || len(calls) != want {
			t.Errorf("%d legs a call: %d events of %d calls, want %d of %d", legs, len(seen), len(calls), events, want)
		}
	}
}
