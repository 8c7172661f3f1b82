package correlation_test

import (
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

const customer = "+12025550143"

// at is a moment of the calls in these tests.
func at(s float64) time.Time { return start.Add(seconds(s)) }

// phone is an event of an inbound leg that the customer's call to an extension makes.
func phone(t callevent.Type, number, leg string, s float64, status callevent.Status) callevent.Event {
	return callevent.Event{
		ID: string(t) + "/" + leg + "/" + number + "/" + at(s).String(), Type: t, CallID: "C1", LegID: leg, Time: at(s), Received: at(s),
		Source: callevent.Source{Type: callevent.Phone, Number: number, User: users[number]},
		Flow:   callevent.FlowIn, Status: status, WireStatus: string(status),
		Caller: callevent.Party{Number: customer}, Called: callevent.Party{Number: number, Extension: number, Local: true},
	}
}

func ring(number, leg string, s float64) callevent.Event {
	return phone(callevent.DialIn, number, leg, s, callevent.StatusCalling)
}

func answer(number, leg string, s float64) callevent.Event {
	return phone(callevent.Answer, number, leg, s, callevent.StatusAnswered)
}

func hangup(number, leg string, s float64, status callevent.Status) callevent.Event {
	return phone(callevent.Hangup, number, leg, s, status)
}

// release is the hangup of an IVR or queue.
func release(t callevent.SourceType, number, leg string, s float64, bridged bool) callevent.Event {
	e := hangup(number, leg, s, callevent.StatusAnswered)
	e.Source.Type, e.Bridged = t, &bridged
	return e
}

func call(events ...callevent.Event) *correlation.Call {
	c := &correlation.Call{}
	for _, e := range events {
		c.Add(e)
	}
	return c
}

// wait adds the tick that the call waits for.
func wait(t *testing.T, c *correlation.Call, rules correlation.Rules) callevent.Event {
	t.Helper()
	tick := c.Outcome(rules).Tick
	if tick == nil {
		t.Fatalf("the call waits for nothing; legs %+v", c.Outcome(rules).Legs)
	}
	c.Add(tick.Event())
	return tick.Event()
}

// summary is what a user reads of the legs.
func summary(c *correlation.Call, rules correlation.Rules) []string {
	lines := []string{}
	for _, leg := range c.Outcome(rules).Legs {
		line := leg.LegID + " " + leg.To + " " + string(leg.Phase) + " " + string(leg.Result)
		if leg.Logged {
			line += " recorded"
		}
		lines = append(lines, line)
	}
	return lines
}

func expect(t *testing.T, what string, c *correlation.Call, rules correlation.Rules, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := gocmp.Diff(want, summary(c, rules)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestLegLivesThroughItsPhases(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	c := call(ring("1234*101", "L1", 0))
	expect(t, "ringing", c, rules, "L1 1234*101 Ringing ")
	c.Add(answer("1234*101", "L1", 6))
	expect(t, "talking", c, rules, "L1 1234*101 Answered ")
	if c.Outcome(rules).Finished {
		t.Error("finished while somebody talks")
	}
	c.Add(hangup("1234*101", "L1", 66, callevent.StatusAnswered))
	expect(t, "over", c, rules, "L1 1234*101 Completed Answered recorded")
	if o := c.Outcome(rules); !o.Finished || o.Tick != nil {
		t.Errorf("finished %v, tick %v; want a finished call that waits for nothing", o.Finished, o.Tick)
	}
}

func TestMissedCallIsDecidedAfterTheGracePeriod(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	c := call(release(callevent.IVR, "1234*099", "I1", 45, false))
	expect(t, "before the grace period is over", c, rules)
	if c.Outcome(rules).Finished {
		t.Error("finished before the grace period is over")
	}
	tick := wait(t, c, rules)
	if want := at(50); tick.Type != callevent.GraceOver || !tick.Time.Equal(want) {
		t.Errorf("waits for %s at %v, want GraceOver at %v", tick.Type, tick.Time, want)
	}
	expect(t, "after it", c, rules, "C1 1234*099 Completed Missed recorded")
	before := c.Outcome(rules).Legs[0].Revision

	c.Add(release(callevent.Queue, "1234*900", "Q1", 45.4, false))
	expect(t, "after the queue's hangup came late", c, rules, "C1 1234*900 Completed Missed recorded")
	if after := c.Outcome(rules).Legs[0].Revision; after <= before {
		t.Errorf("revision %d after %d", after, before)
	}
	c.Add(answer("1234*101", "L1", 44))
	expect(t, "after an answer came late", c, rules, "L1 1234*101 Answered ", "C1 1234*900 Completed AnsweredElsewhere")
}

func TestGracePeriodBeginsWithTheLastHangup(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	late := release(callevent.Queue, "1234*900", "Q1", 45, false)
	late.Received = at(48)
	tick := wait(t, call(release(callevent.IVR, "1234*099", "I1", 45, false), late), rules)
	if want := at(53); !tick.Time.Equal(want) {
		t.Errorf("waits until %v, want %v", tick.Time, want)
	}
}

func TestBridgedYesIsNothingOfItsOwn(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	c := call(release(callevent.IVR, "1234*099", "I1", 45, true))
	expect(t, "Bridged=yes", c, rules)
	if !c.Outcome(rules).Finished {
		t.Error("waits for something")
	}
	c.Add(release(callevent.Queue, "1234*900", "Q1", 40, false))
	if o := c.Outcome(rules); o.Tick != nil || len(o.Legs) != 0 {
		t.Errorf("a queue gave up, but the IVR knows that the call was taken: %+v", o)
	}
}

// A caller who is rung on after a queue gave him up is not missed yet.
func TestNextQueueIsWaitedFor(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	c := call(release(callevent.Queue, "1234*900", "Q1", 38, false), ring("1234*102", "L2", 38.1))
	if tick := c.Outcome(rules).Tick; tick == nil || tick.Type != callevent.MaxDurationOver {
		t.Errorf("waits for %+v, want for the phone that rings", tick)
	}
	c.Add(answer("1234*102", "L2", 50))
	c.Add(hangup("1234*102", "L2", 90, callevent.StatusAnswered))
	expect(t, "answered in the second queue", c, rules, "L2 1234*102 Completed Answered recorded")
	if o := c.Outcome(rules); !o.Finished {
		t.Errorf("not finished: waits for %+v", o.Tick)
	}
}

// A lost hangup of an agent's phone must not keep the missed call from being shown.
func TestLostHangupDoesNotHideTheMissedCall(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	c := call(ring("1234*101", "L1", 8), release(callevent.IVR, "1234*099", "I1", 45, false))
	if tick := wait(t, c, rules); tick.Type != callevent.GraceOver {
		t.Errorf("waits for %s", tick.Type)
	}
	expect(t, "missed", c, rules, "L1 1234*101 Ringing ", "C1 1234*099 Completed Missed recorded")
}

func TestLostHangupIsClosedByTheMaximumDuration(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	c := call(ring("1234*101", "L1", 0), answer("1234*101", "L1", 6))
	tick := wait(t, c, rules)
	if want := at(0).Add(rules.MaxDuration); tick.Type != callevent.MaxDurationOver || !tick.Time.Equal(want) {
		t.Errorf("waits for %s at %v, want MaxDurationOver at %v", tick.Type, tick.Time, want)
	}
	expect(t, "closed", c, rules, "L1 1234*101 Completed Unknown")
	if !c.Outcome(rules).Finished {
		t.Error("not finished")
	}
	c.Add(hangup("1234*101", "L1", 20_000, callevent.StatusAnswered))
	expect(t, "the hangup came after all", c, rules, "L1 1234*101 Completed Answered recorded")

	rules.MaxDuration = 0
	if o := call(ring("1234*101", "L1", 0)).Outcome(rules); o.Tick != nil || o.Finished {
		t.Errorf("without a maximum: tick %v, finished %v; want an open leg that waits for its hangup alone", o.Tick, o.Finished)
	}
}

func TestOnlyASuccessIsASuccess(t *testing.T) {
	t.Parallel()
	garbled := hangup("1234*101", "L1", 9, callevent.StatusUnknown)
	garbled.WireStatus = "DONTCALL"
	silent := hangup("1234*101", "L1", 9, callevent.StatusUnknown)
	silent.WireStatus = ""
	refused := answer("1234*101", "L1", 6)
	refused.Status, refused.WireStatus = callevent.StatusBusy, "BUSY"
	for _, tc := range []struct {
		name   string
		events []callevent.Event
		want   string
	}{
		{"answer, then a hangup that says CANCEL", []callevent.Event{
			answer("1234*101", "L1", 6), hangup("1234*101", "L1", 9, callevent.StatusCancelled)}, "Cancelled"},
		{"answer, then a status that no document lists", []callevent.Event{answer("1234*101", "L1", 6), garbled}, "Unknown"},
		{"answer, then a hangup without a status", []callevent.Event{answer("1234*101", "L1", 6), silent}, "Answered recorded"},
		{"no answer, and a hangup without a status", []callevent.Event{silent}, "Unknown"},
		{"the answer was lost", []callevent.Event{hangup("1234*101", "L1", 9, callevent.StatusAnswered)}, "Answered recorded"},
		{"an answer that says BUSY", []callevent.Event{refused, silent}, "Unknown"},
		{"the hangup still says CALLING", []callevent.Event{hangup("1234*101", "L1", 9, callevent.StatusCalling)}, "Unknown"},
	} {
		c := call(append(tc.events, ring("1234*101", "L1", 0))...)
		expect(t, tc.name, c, correlation.DefaultRules(), "L1 1234*101 Completed "+tc.want)
	}
}

func TestLostAnswerIsWorkedOutFromTheTalkTime(t *testing.T) {
	t.Parallel()
	over := hangup("1234*102", "L2", 73, callevent.StatusAnswered)
	minute := time.Minute
	over.Talk = &minute
	c := call(ring("1234*101", "L1", 8), ring("1234*102", "L2", 8), hangup("1234*101", "L1", 13.1, callevent.StatusCancelled), over)
	legs := c.Outcome(correlation.DefaultRules()).Legs
	if !legs[1].Answer.Equal(at(13)) || legs[1].Talk != time.Minute {
		t.Errorf("answered at %v for %v, want %v for 1m", legs[1].Answer, legs[1].Talk, at(13))
	}
	if legs[0].Result != correlation.AnsweredElsewhere {
		t.Errorf("the other phone: %s", legs[0].Result)
	}
}

func TestTalkTimeWithoutDuration(t *testing.T) {
	t.Parallel()
	c := call(ring("1234*101", "L1", 0), answer("1234*101", "L1", 6), hangup("1234*101", "L1", 66, callevent.StatusAnswered))
	if talk := c.Outcome(correlation.DefaultRules()).Legs[0].Talk; talk != time.Minute {
		t.Errorf("talk time %v, want the minute between answer and hangup", talk)
	}
}

func TestAnsweredElsewhere(t *testing.T) {
	t.Parallel()
	taken := []callevent.Event{
		ring("1234*102", "L2", 8), answer("1234*102", "L2", 13), hangup("1234*102", "L2", 73, callevent.StatusAnswered),
	}
	for _, tc := range []struct {
		name  string
		began float64
		end   callevent.Event
		want  string
	}{
		{"withdrawn at the answer", 8, hangup("1234*101", "L1", 13.1, callevent.StatusCancelled), "AnsweredElsewhere"},
		{"withdrawn just before it", 8, hangup("1234*101", "L1", 12.9, callevent.StatusCancelled), "AnsweredElsewhere"},
		{"the PBX calls it NOANSWER", 8, hangup("1234*101", "L1", 13, callevent.StatusNoAnswer), "AnsweredElsewhere"},
		{"timed out long before", 2, hangup("1234*101", "L1", 7, callevent.StatusNoAnswer), "NoAnswer"},
		{"busy for reasons of its own", 8, hangup("1234*101", "L1", 13, callevent.StatusBusy), "Busy"},
		{"rang after the answer", 14, hangup("1234*101", "L1", 20, callevent.StatusCancelled), "Cancelled"},
	} {
		c := call(append([]callevent.Event{ring("1234*101", "L1", tc.began), tc.end}, taken...)...)
		for _, leg := range c.Outcome(correlation.DefaultRules()).Legs {
			if leg.LegID == "L1" && (string(leg.Result) != tc.want || leg.Logged) {
				t.Errorf("%s: %s, recorded %v; want %s", tc.name, leg.Result, leg.Logged, tc.want)
			}
		}
	}
}

// The second attempt is answered at once, and so within the difference that clocks may have.
func TestAnsweredAtTheNextAttempt(t *testing.T) {
	t.Parallel()
	c := call(ring("1234*101", "L1", 0), hangup("1234*101", "L1", 20, callevent.StatusNoAnswer),
		ring("1234*102", "L2", 20.1), answer("1234*102", "L2", 20.5))
	expect(t, "legs", c, correlation.DefaultRules(), "L1 1234*101 Completed NoAnswer", "L2 1234*102 Answered ")
}

// Somebody talked outside, where the call was forwarded to: missed by the PBX's definition, unless
// the rules say otherwise.
func TestForwardedIsAnswered(t *testing.T) {
	t.Parallel()
	forwarded := func(event callevent.Event) callevent.Event {
		event.Flow, event.Transferred = callevent.FlowOut, true
		event.Caller = callevent.Party{Number: customer, Extension: "1234*101", ExtensionID: "5101"}
		event.Called = callevent.Party{Number: "+12025550177"}
		return event
	}
	dial := forwarded(phone(callevent.DialOut, "1234*101", "L2", 28, callevent.StatusCalling))
	events := []callevent.Event{
		ring("1234*101", "L1", 8), dial, hangup("1234*101", "L1", 28, callevent.StatusNoAnswer), forwarded(answer("1234*101", "L2", 35)),
		forwarded(hangup("1234*101", "L2", 95, callevent.StatusAnswered)), release(callevent.IVR, "1234*099", "I1", 95.1, false),
	}
	rules := correlation.DefaultRules()
	c := call(events...)
	wait(t, c, rules)
	expect(t, "by default", c, rules, "L1 1234*101 Completed NoAnswer", "L2 +12025550177 Completed Answered recorded",
		"C1 1234*099 Completed Missed recorded")

	rules.ForwardedIsAnswered = true
	c = call(events...)
	expect(t, "with the setting", c, rules, "L1 1234*101 Completed NoAnswer", "L2 +12025550177 Completed Answered recorded")
	if !c.Outcome(rules).Finished {
		t.Error("with the setting: waits for a decision")
	}
}

func TestMissedInternalCall(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	inside := release(callevent.Queue, "1234*900", "Q1", 45, false)
	inside.Caller = callevent.Party{Number: "1234*101", Local: true}
	c := call(inside)
	wait(t, c, rules)
	expect(t, "external calls", c, rules)
	rules.Scope = correlation.ScopeAll
	expect(t, "all calls", c, rules, "C1 1234*900 Completed Missed recorded")
}

// Hangups of the queue towards its agents decide nothing, even where they carry Bridged.
func TestQueueTowardsAgents(t *testing.T) {
	t.Parallel()
	outwards := release(callevent.Queue, "1234*101", "Q2", 28, false)
	outwards.Flow = callevent.FlowOut
	if o := call(outwards).Outcome(correlation.DefaultRules()); len(o.Legs) != 0 || o.Tick != nil {
		t.Errorf("%+v", o)
	}
}

// One URL for the whole account does not tell who sent an event; Bridged does.
func TestUnknownSender(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	menu, ringing := release(callevent.SourceUnknown, "1234*099", "I1", 45, false), ring("1234*101", "L1", 8)
	ringing.Source = callevent.Source{}
	c := call(menu, ringing, hangup("1234*101", "L1", 44, callevent.StatusCancelled))
	wait(t, c, rules)
	expect(t, "legs", c, rules, "L1 1234*101 Completed Cancelled", "C1 1234*099 Completed Missed recorded")
}

// Where the PBX gives no leg ids, each ring of an extension begins a new attempt.
func TestLegsWithoutIDs(t *testing.T) {
	t.Parallel()
	c := call(ring("1234*101", "", 0), hangup("1234*101", "", 20, callevent.StatusNoAnswer),
		ring("1234*101", "", 30), answer("1234*101", "", 35), ring("1234*102", "", 30))
	expect(t, "legs", c, correlation.DefaultRules(), "1234*101/In/1 1234*101 Completed NoAnswer",
		"1234*101/In/2 1234*101 Answered ", "1234*102/In/1 1234*102 Ringing ")
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	first := ring("1234*101", "L1", 0)
	again := first
	again.Received, again.Source.User = at(1), "somebody else"
	for _, order := range [][]callevent.Event{{first, again}, {again, first}} {
		c := call(order...)
		legs := c.Outcome(rules).Legs
		if c.Len() != 1 || len(legs) != 1 || legs[0].User != "ann" || legs[0].Revision != 1 {
			t.Errorf("%d events, legs %+v; want the one that was received first", c.Len(), legs)
		}
	}
	c := call(first)
	if c.Add(first) || c.Add(again) {
		t.Error("a duplicate is said to change the call")
	}
	if !c.LastReceived().Equal(at(0)) {
		t.Errorf("last received %v", c.LastReceived())
	}
}

func TestEventsOutsideCalls(t *testing.T) {
	t.Parallel()
	c := &correlation.Call{}
	for _, kind := range []callevent.Type{callevent.Agent, callevent.PhoneStatus, callevent.Message, callevent.Other, "Unheard"} {
		if c.Add(callevent.Event{ID: string(kind), Type: kind, CallID: "C1"}) {
			t.Errorf("%s changes a call", kind)
		}
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	c := call(ring("1234*101", "L1", 0))
	before := c.Outcome(rules).Legs[0]
	c.Add(ring("1234*102", "L2", 0))
	after := c.Outcome(rules).Legs[0]
	if !before.Same(after) || before.Revision >= after.Revision {
		t.Errorf("the event of another leg: same %v, revision %d after %d", before.Same(after), after.Revision, before.Revision)
	}
	c.Add(answer("1234*101", "L1", 3))
	if after.Same(c.Outcome(rules).Legs[0]) {
		t.Error("an answer leaves the leg the same")
	}
}
