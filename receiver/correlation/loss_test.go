package correlation_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// heard is what a system's scenarios sound like to its dialect.
func heard(t *testing.T) map[string][]callevent.Event {
	t.Helper()
	all := map[string][]callevent.Event{}
	for pbx, y := range systems {
		played, err := scenario.All(pbx)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range played {
			if events := y.hear(t, s, full); len(events) > 0 {
				all[pbx+"/"+s.Name] = events
			}
		}
	}
	return all
}

// What a PBX sends may be lost, come late, twice, and in any order. Whatever is left of a call
// comes to an end, says no more than it knows, and is the same in every order.
func TestLossOfEvents(t *testing.T) {
	t.Parallel()
	all := heard(t)
	names := slices.Sorted(maps.Keys(all))
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(names).Draw(t, "scenario")
		rules := anyRules(t)
		var events []callevent.Event
		for _, e := range all[name] {
			if rapid.IntRange(0, 4).Draw(t, "kept") > 0 {
				e.Received = e.Received.Add(time.Duration(rapid.IntRange(0, 2500).Draw(t, "late")) * time.Millisecond)
				events = append(events, e)
			}
		}
		for range rapid.IntRange(0, 3).Draw(t, "repeated") {
			if len(events) > 0 {
				e := rapid.SampledFrom(events).Draw(t, "again")
				e.Received = e.Received.Add(time.Duration(rapid.IntRange(0, 6000).Draw(t, "later")) * time.Millisecond)
				events = append(events, e)
			}
		}
		c := calls{}
		c.add(events...)
		for i := 0; ; i++ {
			ticks := c.step(rules)
			if len(ticks) == 0 {
				break
			}
			if i > 20 {
				t.Fatalf("%s waits for ever: %v", name, ticks)
			}
			events = append(events, ticks...)
		}
		for id, call := range c {
			if o := call.Outcome(rules); !o.Finished {
				t.Fatalf("%s: call %s is not finished: %+v", name, id, o)
			}
		}
		legs := c.legs(rules)
		missed := map[string]int{}
		for _, leg := range legs {
			if leg.Result == correlation.Missed {
				if missed[leg.CallID]++; missed[leg.CallID] > 1 {
					t.Fatalf("%s: missed twice: %+v", name, legs)
				}
			}
			if leg.Phase != correlation.Completed || leg.Talk < 0 || leg.Logged && leg.Result != correlation.Answered && leg.Result != correlation.Missed {
				t.Fatalf("%s: %+v", name, leg)
			}
			if !leg.Answer.IsZero() && (leg.Answer.Before(leg.Start) || leg.Answer.After(leg.End)) {
				t.Fatalf("%s: answered out of its time: %+v", name, leg)
			}
		}
		shuffled := rapid.Permutation(events).Draw(t, "order")
		if a, b := fmt.Sprintf("%+v", legs), fmt.Sprintf("%+v", correlation.Derive(shuffled, rules)); a != b {
			t.Fatalf("%s: in order:\n%s\nshuffled:\n%s", name, a, b)
		}
	})
}

// step adds the ticks that are owed now.
func (c calls) step(rules correlation.Rules) []callevent.Event {
	var ticks []callevent.Event
	for _, call := range c {
		if tick := call.Outcome(rules).Tick; tick != nil {
			call.Add(tick.Event())
			ticks = append(ticks, tick.Event())
		}
	}
	return ticks
}

// As a call is heard, a consumer that keeps the highest revision has the last state of every leg,
// and no leg that it was shown vanishes.
func TestConsumersFollow(t *testing.T) {
	t.Parallel()
	all := heard(t)
	names := slices.Sorted(maps.Keys(all))
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(names).Draw(t, "scenario")
		rules, kept, c := anyRules(t), map[string]correlation.Leg{}, calls{}
		look := func() {
			legs := c.legs(rules)
			for _, leg := range legs {
				key := leg.CallID + " " + leg.LegID
				if before, known := kept[key]; known && !before.Same(leg) && leg.Revision <= before.Revision {
					t.Fatalf("%s: revision %d after %d:\n%+v\n%+v", name, leg.Revision, before.Revision, before, leg)
				}
				kept[key] = leg
			}
			if len(legs) < len(kept) {
				t.Fatalf("%s: of the legs %v only these are left: %+v", name, slices.Sorted(maps.Keys(kept)), legs)
			}
		}
		for _, e := range all[name] {
			if rapid.IntRange(0, 9).Draw(t, "kept") == 0 {
				continue
			}
			c.add(e)
			look()
			if rapid.IntRange(0, 9).Draw(t, "time passes") == 0 {
				c.step(rules)
				look()
			}
		}
	})
}

// An outgoing call whose beginning was not heard is one all the same.
func TestOutgoingCallWhoseBeginningIsLost(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pbx, name string
		lost      func(i int, e callevent.Event) bool
		want      string
	}{
		{"linuxbox", "L3", func(i int, _ callevent.Event) bool { return i < 2 }, "10/1 10 → 2025550143 Outbound Answered"},
		{"voipnow", "V11", func(_ int, e callevent.Event) bool { return e.Type == callevent.DialOut },
			"0007*101/In/1 0007*101 → 12025550143 Outbound Answered"},
	} {
		s, err := scenario.Find(tc.pbx, tc.name)
		if err != nil {
			t.Fatal(err)
		}
		c := calls{}
		for i, e := range systems[tc.pbx].hear(t, s, full) {
			if !tc.lost(i, e) {
				c.add(e)
			}
		}
		var got []string
		for _, leg := range c.legs(correlation.DefaultRules()) {
			got = append(got, strings.Join(strings.Fields(fmt.Sprint(leg.LegID, " ", leg.Extension, " → ", leg.To, " ", leg.Direction, " ", leg.Result)), " "))
		}
		if !slices.Equal(got, []string{tc.want}) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
