package correlation_test

import (
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// repeatable is a ring that a PBX without event ids and times sends: the same word by word,
// whenever it comes.
func repeatable(s float64) callevent.Event {
	e := ring("0007*101", "", s)
	e.ID, e.Side, e.Repeat = "dial-in/101", "0007*101/In", 3*time.Second
	return e
}

// Identical notifications are one event if they come within seconds, and another attempt if they do
// not.
func TestRepetitionOrAnotherAttempt(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		at   []float64
		legs int
	}{
		{"alone", []float64{0}, 1},
		{"repeated", []float64{0, 0, 2.9}, 1},
		{"repeated again and again", []float64{0, 2.5, 5, 7.5}, 1},
		{"another attempt", []float64{0, 3.1}, 2},
		{"another attempt, repeated", []float64{0, 1, 30, 31}, 2},
	} {
		for order := range permutations(len(tc.at)) {
			c, changes, revision := call(), 0, int64(0)
			for _, i := range order {
				if c.Add(repeatable(tc.at[i])) {
					changes++
				}
				legs := c.Outcome(correlation.DefaultRules()).Legs
				if legs[0].Revision < revision {
					t.Fatalf("%s, order %v: revision %d after %d", tc.name, order, legs[0].Revision, revision)
				}
				revision = legs[0].Revision
			}
			legs := c.Outcome(correlation.DefaultRules()).Legs
			if len(legs) != tc.legs || !legs[0].Start.Equal(at(tc.at[0])) || changes == 0 {
				t.Fatalf("%s, order %v: %d legs from %v, want %d", tc.name, order, len(legs), legs[0].Start, tc.legs)
			}
		}
	}
	c := call(repeatable(0))
	if c.Add(repeatable(1)) {
		t.Error("a repetition is said to change the call")
	}
}

// Where the hangup of an attempt is lost, the next one shows that it is over.
func TestNextAttemptEndsTheOneBefore(t *testing.T) {
	t.Parallel()
	expect(t, "legs", call(repeatable(0), repeatable(30)), correlation.DefaultRules(),
		"0007*101/In/1 0007*101 Completed NoAnswer", "0007*101/In/2 0007*101 Ringing ")
}

// The leg of the extension that an API call rings first becomes that of the call: one leg, from the
// first ring.
func TestClickToCall(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	event := func(kind callevent.Type, flow callevent.Flow, s float64, status callevent.Status) callevent.Event {
		e := phone(kind, "0007*101", "", s, status)
		e.Flow, e.Side, e.ControlID, e.CallBackID, e.ByUser = flow, "0007*101/"+string(flow), "A1", "A1", true
		if flow == callevent.FlowOut {
			e.Caller, e.Called = e.Called, callevent.Party{Number: customer}
		}
		return e
	}
	c := call(event(callevent.DialIn, callevent.FlowIn, 0, ""), event(callevent.Answer, callevent.FlowIn, 5, callevent.StatusAnswered))
	expect(t, "the user picked up", c, rules, "0007*101/In/1 0007*101 Answered ")
	c.Add(event(callevent.DialOut, callevent.FlowOut, 5, ""))
	expect(t, "the customer rings", c, rules, "0007*101/In/1 "+customer+" Ringing ")
	tick := wait(t, call(event(callevent.DialIn, callevent.FlowIn, 0, ""), event(callevent.DialOut, callevent.FlowOut, 5, "")), rules)
	if tick.Type != callevent.MaxDurationOver || tick.LegID != "0007*101/In/1" {
		t.Errorf("waits for %+v", tick)
	}
	c.Add(tick)
	expect(t, "no hangup was heard", c, rules, "0007*101/In/1 "+customer+" Completed Unknown")
	c.Add(event(callevent.Answer, callevent.FlowOut, 16, callevent.StatusAnswered))
	c.Add(event(callevent.Hangup, callevent.FlowIn, 76, callevent.StatusAnswered))
	expect(t, "one hangup, of the source", c, rules, "0007*101/In/1 "+customer+" Completed Answered recorded")
}

// The leg with which the call entered is missed after the grace period, and until then open.
func TestEntryWaitsForTheGracePeriod(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	event := func(level callevent.Level, kind callevent.Type, leg string, s float64, status callevent.Status) callevent.Event {
		e := phone(kind, "", leg, s, status)
		e.Source, e.Level, e.Called = callevent.Source{}, level, callevent.Party{Number: "442079460900", Own: true}
		if level == callevent.LevelEntry && kind == callevent.Hangup {
			e.Missed = callevent.MissedIfTried
		}
		return e
	}
	entry := func(kind callevent.Type, s float64, status callevent.Status) callevent.Event {
		return event(callevent.LevelEntry, kind, "C1", s, status)
	}
	c := call(entry(callevent.DialIn, 0, ""), entry(callevent.Answer, 0.1, callevent.StatusAnswered))
	expect(t, "the menu", c, rules, "C1 442079460900 Ringing ")
	c.Add(event("", callevent.DialIn, "B1", 12, callevent.StatusRinging))
	c.Add(entry(callevent.Hangup, 45, callevent.StatusUnspecified))
	expect(t, "the end", c, rules, "C1 442079460900 Ringing ", "B1 442079460900 Completed NoAnswer")
	if tick := wait(t, c, rules); tick.Type != callevent.GraceOver || !tick.Time.Equal(at(50)) {
		t.Errorf("waits for %+v", tick)
	}
	expect(t, "missed", c, rules, "C1 442079460900 Completed Missed recorded", "B1 442079460900 Completed NoAnswer")
	if !c.Outcome(rules).Finished {
		t.Error("not finished")
	}
	c.Add(event("", callevent.Answer, "B1", 20, callevent.StatusAnswered))
	expect(t, "an answer came late", c, rules, "C1 442079460900 Completed Answered", "B1 442079460900 Completed Answered recorded")
}
