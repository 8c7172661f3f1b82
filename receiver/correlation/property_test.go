package correlation_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// anyEvent draws an event as a PBX might send it that follows no document: the calls share their
// legs' ids, statuses contradict types, and times run backwards.
func anyEvent(t *rapid.T) callevent.Event {
	number := rapid.SampledFrom([]string{"1234*101", "1234*102", "1234*099", "1234*900"}).Draw(t, "sender")
	kind := map[string]callevent.SourceType{
		"1234*101": callevent.Phone, "1234*102": callevent.Phone, "1234*099": callevent.IVR, "1234*900": callevent.Queue,
	}[number]
	e := callevent.Event{
		Type:   rapid.SampledFrom([]callevent.Type{callevent.DialIn, callevent.DialOut, callevent.Answer, callevent.Hangup}).Draw(t, "type"),
		CallID: rapid.SampledFrom([]string{"C1", "C2"}).Draw(t, "call"),
		LegID:  number + rapid.SampledFrom([]string{"-1", "-2"}).Draw(t, "leg"),
		Time:   at(float64(rapid.IntRange(0, 20).Draw(t, "time"))),
		Source: callevent.Source{Type: kind, Number: number, User: users[number]},
		Flow:   rapid.SampledFrom([]callevent.Flow{callevent.FlowIn, callevent.FlowOut, callevent.FlowUnknown}).Draw(t, "flow"),
		Status: rapid.SampledFrom([]callevent.Status{
			callevent.StatusAnswered, callevent.StatusCancelled, callevent.StatusBusy, callevent.StatusNoAnswer, callevent.StatusUnknown,
		}).Draw(t, "status"),
		Caller:      anyParty(t, "caller"),
		Called:      anyParty(t, "called"),
		Remote:      rapid.SampledFrom([]string{"", "", customer}).Draw(t, "remote"),
		Transferred: rapid.Bool().Draw(t, "transferred"),
	}
	e.WireStatus = string(e.Status)
	e.Received = e.Time.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "late")) * time.Millisecond)
	if kind != callevent.Phone && e.Type == callevent.Hangup {
		bridged := rapid.Bool().Draw(t, "bridged")
		e.Bridged = &bridged
	}
	if rapid.Bool().Draw(t, "with talk time") {
		talk := time.Duration(rapid.IntRange(0, 20).Draw(t, "talk")) * time.Second
		e.Talk = &talk
	}
	e.ID = fmt.Sprint(e.Type, e.CallID, e.LegID, e.Time)
	if rapid.IntRange(0, 2).Draw(t, "without a leg id") > 0 {
		sided(t, &e)
	}
	return e
}

// sided makes it an event of a PBX without leg ids: some of them have no time either, so that they
// repeat each other word by word.
func sided(t *rapid.T, e *callevent.Event) {
	e.LegID, e.Side = "", e.Source.Number+rapid.SampledFrom([]string{"", "/" + string(e.Flow)}).Draw(t, "side")
	e.TransfersUntold = rapid.Bool().Draw(t, "transfers untold")
	if e.Type == callevent.Hangup && rapid.IntRange(0, 5).Draw(t, "whole call") == 0 {
		e.Type, e.Side, e.Source = rapid.SampledFrom([]callevent.Type{callevent.CallEnd, callevent.Pickup, callevent.CallStart}).Draw(t, "of the call"), "",
			callevent.Source{}
	}
	e.ID = fmt.Sprint(e.Type, e.CallID, e.Side, e.Time)
	if rapid.Bool().Draw(t, "without a time") {
		e.Time, e.Repeat = e.Received, 3*time.Second
		e.ID = fmt.Sprint(e.Type, e.CallID, e.Side, e.Status)
	}
}

func anyParty(t *rapid.T, name string) callevent.Party {
	return rapid.SampledFrom([]callevent.Party{
		{Number: customer}, {Number: customer, Extension: "1234*900", ExtensionID: "5900"},
		{Number: "1234*101", Extension: "1234*101", ExtensionID: "5101", Local: true},
		{Number: "1234*102", Extension: "1234*102", ExtensionID: "5102", Local: true}, {},
	}).Draw(t, name)
}

func anyEvents(t *rapid.T) []callevent.Event {
	events := rapid.SliceOfN(rapid.Custom(anyEvent), 1, 14).Draw(t, "events")
	c := calls{}
	c.add(events...)
	if rapid.Bool().Draw(t, "time passes") {
		events = append(events, c.pass(correlation.DefaultRules())...)
	}
	return events
}

func anyRules(t *rapid.T) correlation.Rules {
	rules := correlation.DefaultRules()
	rules.Scope = rapid.SampledFrom([]correlation.Scope{correlation.ScopeExternal, correlation.ScopeAll}).Draw(t, "scope")
	rules.ForwardedIsAnswered = rapid.Bool().Draw(t, "forwarded is answered")
	return rules
}

// The legs are a function of the set of events: neither order nor repetition shows.
func TestOrderAndRepetitionDoNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		events, rules := anyEvents(t), anyRules(t)
		again := rapid.SliceOf(rapid.SampledFrom(events)).Draw(t, "repeated")
		shuffled := rapid.Permutation(append(slices.Clone(events), again...)).Draw(t, "order")
		want, got := correlation.Derive(events, rules), correlation.Derive(shuffled, rules)
		if a, b := fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got); a != b {
			t.Fatalf("in order:\n%s\nshuffled:\n%s", a, b)
		}
	})
}

// Calls that come in at the same time do not disturb each other.
func TestCallsAreIndependent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		events, rules := anyEvents(t), anyRules(t)
		var apart []correlation.Leg
		for _, id := range []string{"C1", "C2"} {
			own := slices.DeleteFunc(slices.Clone(events), func(e callevent.Event) bool { return e.CallID != id })
			apart = append(apart, correlation.Derive(own, rules)...)
		}
		slices.SortFunc(apart, correlation.Compare)
		if a, b := fmt.Sprintf("%+v", apart), fmt.Sprintf("%+v", correlation.Derive(events, rules)); a != b {
			t.Fatalf("apart:\n%s\ntogether:\n%s", a, b)
		}
	})
}

// A consumer that keeps the highest revision ends up with the last state of every leg.
func TestRevisionGrowsWithEveryChange(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		events, rules := anyEvents(t), anyRules(t)
		kept, seen := map[string]correlation.Leg{}, map[string]bool{}
		c := calls{}
		for _, e := range events {
			if seen[e.ID] {
				continue // two events with one ID are equal, or else one of them is not heard
			}
			seen[e.ID] = true
			c.add(e)
			for _, leg := range c.legs(rules) {
				key := leg.CallID + "/" + leg.LegID
				before, known := kept[key]
				if known && !before.Same(leg) && leg.Revision <= before.Revision {
					t.Fatalf("revision %d after %d:\n%+v\n%+v", leg.Revision, before.Revision, before, leg)
				}
				kept[key] = leg
			}
		}
	})
}

func TestPromisesOfEveryOutcome(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		events, rules := anyEvents(t), anyRules(t)
		missed, seen := map[string]int{}, map[string]bool{}
		for i, leg := range correlation.Derive(events, rules) {
			where := strconv.Itoa(i) + ": " + fmt.Sprintf("%+v", leg)
			if key := leg.CallID + "/" + leg.LegID; seen[key] {
				t.Fatalf("two legs with one id: %s", where)
			} else {
				seen[key] = true
			}
			if leg.Result == correlation.Missed && leg.Logged {
				missed[leg.CallID]++
			}
			checkPromises(t, events, rules, leg, where)
		}
		for id, n := range missed {
			if n > 1 {
				t.Fatalf("call %s was missed %d times", id, n)
			}
		}
	})
}

func checkPromises(t *rapid.T, events []callevent.Event, rules correlation.Rules, leg correlation.Leg, where string) {
	named := !strings.Contains(leg.LegID, "/") // of a leg without an id, others may tell
	if named && leg.Result == correlation.Answered && !slices.ContainsFunc(events, func(e callevent.Event) bool {
		return e.CallID == leg.CallID && e.LegID == leg.LegID &&
			(e.Status == callevent.StatusAnswered || e.Type == callevent.Answer && e.WireStatus == "")
	}) {
		t.Fatalf("Answered without an ANSWER: %s", where)
	}
	if leg.Logged && leg.Result != correlation.Answered && leg.Result != correlation.Missed {
		t.Fatalf("recorded, but %s: %s", leg.Result, where)
	}
	if (leg.Phase == correlation.Completed) != (leg.Result != "") {
		t.Fatalf("phase %s with result %q: %s", leg.Phase, leg.Result, where)
	}
	if rules.Scope == correlation.ScopeExternal && leg.Direction == correlation.Internal {
		t.Fatalf("an internal leg among the external ones: %s", where)
	}
	checkTimes(t, leg)
	if leg.Talk < 0 || leg.Talk > 0 && leg.Result != correlation.Answered {
		t.Fatalf("talk time %v: %s", leg.Talk, where)
	}
}

// Whatever came in, time alone brings every call to an end: nothing stays open for ever.
func TestTimeFinishesEveryCall(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rules := anyRules(t)
		c := calls{}
		c.add(rapid.SliceOfN(rapid.Custom(anyEvent), 1, 14).Draw(t, "events")...)
		c.pass(rules)
		for id, call := range c {
			o := call.Outcome(rules)
			if !o.Finished {
				t.Fatalf("call %s is not finished: %+v", id, o)
			}
			for _, leg := range o.Legs {
				if leg.Phase != correlation.Completed {
					t.Fatalf("open for ever: %+v", leg)
				}
			}
		}
	})
}
