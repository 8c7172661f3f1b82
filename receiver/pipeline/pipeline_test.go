package pipeline

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/callable"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/dialects"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

var epoch = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

// bench is a pipeline over a log in memory, with a clock that only moves when told.
type bench struct {
	t     testing.TB
	clock time.Time
	// jumped is by how much the clock is ahead of the time that has passed.
	jumped   time.Duration
	log      *memoryLog
	pipeline *Pipeline
	speaks   dialect.Dialect
	rules    correlation.Rules
}

func newBench(t testing.TB) *bench { return newBenchOf(t, "ringme") }

func newBenchOf(t testing.TB, pbx string) *bench {
	t.Helper()
	speaks, err := dialects.New(pbx, dialects.Settings{
		Callable: callable.Config{OwnNumbers: []string{"+4420794609*"}, OwnDomains: []string{"tenant.example.com"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, clock: epoch, speaks: speaks, rules: correlation.Rules{Scope: correlation.ScopeAll, GracePeriod: 5 * time.Second, MaxDuration: 4 * time.Hour}}
	b.log = &memoryLog{now: b.now}
	b.restart()
	return b
}

func (b *bench) now() time.Time { return b.clock }

// elapsed is the time that has really passed.
func (b *bench) elapsed() time.Duration { return b.clock.Sub(epoch) - b.jumped }

func (b *bench) restart() {
	b.pipeline = New(Config{Log: b.log, Dialect: b.speaks, Rules: func() correlation.Rules { return b.rules }, Now: b.now, Elapsed: b.elapsed})
	if err := b.pipeline.recover(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) pass() {
	for worked := true; worked; {
		var err error
		if worked, err = b.pipeline.pass(b.t.Context()); err != nil {
			b.t.Fatal(err)
		}
	}
}

// arrive has an event come in now.
func (b *bench) arrive(entries ...journal.Entry) {
	for i := range entries {
		entries[i].Request.ReceivedAt = b.clock
	}
	b.log.append(entries...)
}

// settle lets so much time pass that nothing is open any more.
func (b *bench) settle() {
	for range 20 {
		b.clock = b.clock.Add(time.Hour)
		b.pass()
	}
}

// delivery is one event and when it comes in.
type delivery struct {
	at    time.Time
	entry journal.Entry
}

// deliveries are the events of some calls as they come in: some twice, some late.
func deliveries(t testing.TB, pbx string, random *rand.Rand, callCount int) []delivery {
	all, err := scenario.All(pbx)
	if err != nil {
		t.Fatal(err)
	}
	var found []delivery
	for n := range callCount {
		chosen := all[random.IntN(len(all))]
		start := epoch.Add(time.Duration(random.IntN(600)) * time.Second)
		for _, notification := range chosen.Play(fmt.Sprint("seed", n), start) {
			for repeat := true; repeat; repeat = random.IntN(10) == 0 {
				found = append(found, delivery{at: notification.At.Add(delay(random)), entry: entryOf(pbx, notification)})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b delivery) int { return a.at.Compare(b.at) })
	return found
}

func delay(random *rand.Rand) time.Duration {
	switch random.IntN(12) {
	case 0:
		return time.Duration(random.IntN(90)) * time.Minute
	case 1, 2:
		return time.Duration(random.IntN(60)) * time.Second
	default:
		return time.Duration(random.IntN(50)) * time.Millisecond
	}
}

func entryOf(pbx string, n scenario.Notification) journal.Entry {
	wire := n.Request("POST")
	entry := journal.Entry{Mapping: "account", Request: callevent.Request{
		Method: wire.Method, Path: wire.Path, Query: wire.Query, ContentType: wire.ContentType, Body: wire.Body,
	}}
	if pbx == "ringme" || pbx == "voipnow" {
		entry.Mapping = n.Sender.ID
		entry.Request.Source = callevent.Source{Type: callevent.SourceType(n.Sender.Type), Number: n.Sender.Number, ID: n.Sender.ID}
	}
	return entry
}

// run lets the deliveries come in. After each, what says how the receiver fares.
func (b *bench) run(found []delivery, then func(b *bench)) {
	for _, d := range found {
		if d.at.After(b.clock) {
			b.clock = d.at
		}
		b.arrive(d.entry)
		then(b)
	}
	b.settle()
	if open := b.pipeline.calls.openCount(); open != 0 {
		b.t.Errorf("%d calls are open at the end", open)
	}
}

// TestRestartsDoNotShow loses power at random moments. The legs must be those of a receiver that
// never stopped.
func TestRestartsDoNotShow(t *testing.T) {
	for _, pbx := range systems {
		t.Run(pbx, func(t *testing.T) { t.Parallel(); restartsDoNotShow(t, pbx) })
	}
}

var systems = []string{"ringme", "voipnow", "callable", "linuxbox"}

func restartsDoNotShow(t *testing.T, pbx string) {
	rapid.Check(t, func(rt *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		found := deliveries(t, pbx, random, 1+random.IntN(12))

		undisturbed := newBenchOf(t, pbx)
		undisturbed.run(found, (*bench).pass)

		restarted := newBenchOf(t, pbx)
		restarted.run(found, func(b *bench) {
			if random.IntN(3) > 0 {
				b.pass()
			}
			switch random.IntN(8) {
			case 0:
				b.log.crash(random.IntN(20))
				b.restart()
			case 1:
				b.log.crash(random.IntN(20)) // the log server alone
			}
		})
		if diff := cmp.Diff(lasting(undisturbed), lasting(restarted)); diff != "" {
			rt.Fatal(diff)
		}
		if restarted.log.lowered > 0 {
			rt.Errorf("%d legs were replaced by an older revision", restarted.log.lowered)
		}
	})
}

// lasting are the legs, apart from those that were shown and taken back, as missed calls and
// withdrawn legs are: whether one was ever shown depends on what else had come in by then.
func lasting(b *bench) []correlation.Leg {
	return slices.DeleteFunc(b.log.content(), func(leg correlation.Leg) bool {
		return !leg.Logged && (leg.LegID == leg.CallID && leg.Result == correlation.AnsweredElsewhere || leg.Result == correlation.Unknown)
	})
}

// Systems that name no legs, and no times, are no different: an event that comes after its call was
// forgotten, as Callable's transcoded recording and LinuxBox's endcall may, finds it as it was.
func TestLateEndOfEveryScenario(t *testing.T) {
	for _, pbx := range systems {
		all, err := scenario.All(pbx)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			t.Run(pbx+"/"+s.Name, func(t *testing.T) { lateEnd(t, pbx, s) })
		}
	}
}

// lateEnd holds the last event of a scenario back until the others are forgotten, or the receiver
// has been restarted, or neither.
func lateEnd(t *testing.T, pbx string, s scenario.Scenario) {
	notifications := s.Play("seed", epoch)
	if len(notifications) < 2 {
		return
	}
	legsAfter := func(meanwhile func(b *bench)) []correlation.Leg {
		b := newBenchOf(t, pbx)
		for i, n := range notifications {
			b.clock = n.At
			if i == len(notifications)-1 {
				b.pass()
				meanwhile(b)
				b.clock = n.At.Add(20 * time.Minute)
			}
			b.arrive(entryOf(pbx, n))
		}
		b.pass()
		b.settle()
		return lasting(b)
	}
	want := legsAfter(func(*bench) {})
	forgotten := legsAfter(func(b *bench) {
		b.clock = b.clock.Add(10 * time.Minute)
		b.pass()
		b.clock = b.clock.Add(5 * time.Minute)
		b.pass()
	})
	restarted := legsAfter(func(b *bench) {
		b.log.crash(3)
		b.restart()
	})
	if diff := cmp.Diff(want, forgotten); diff != "" {
		t.Errorf("after the call was forgotten (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, restarted); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
}

// Whatever of a call is lost, it does not stay in memory, nor hold the log, for ever.
func TestNoPartOfACallStaysForEver(t *testing.T) {
	for _, pbx := range systems {
		all, err := scenario.All(pbx)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			played := s.Play("seed", epoch)
			for i := range played {
				b := newBenchOf(t, pbx)
				b.clock = played[i].At
				b.arrive(entryOf(pbx, played[i]))
				b.pass()
				b.settle()
				if n := len(b.pipeline.calls.byID); n != 0 {
					t.Fatalf("%s %s: a call of which only event %d came (%s) is in memory after 20 hours", pbx, s.Name, i+1, played[i].EventType)
				}
				for _, leg := range b.log.content() {
					if leg.Phase != correlation.Completed {
						t.Errorf("%s %s: event %d alone makes a leg that never ends: %+v", pbx, s.Name, i+1, leg)
					}
				}
			}
		}
	}
}

// The two sides of a click-to-call are one leg. Out of order, the second is shown before it is
// known to be none.
func TestShownLegIsWithdrawn(t *testing.T) {
	s, err := scenario.Find("voipnow", "V11")
	if err != nil {
		t.Fatal(err)
	}
	inOrder, reversed := newBenchOf(t, "voipnow"), newBenchOf(t, "voipnow")
	played := s.Play("seed", epoch)
	for i := range played {
		inOrder.arrive(entryOf("voipnow", played[i]))
		inOrder.pass()
		reversed.arrive(entryOf("voipnow", played[len(played)-1-i]))
		reversed.pass()
	}
	if got := inOrder.log.content(); len(got) != 1 {
		t.Fatalf("in order: %+v", got)
	}
	for range 3 {
		got := reversed.log.content()
		if len(got) != 2 || got[1].Phase != correlation.Completed || got[1].Result != correlation.Unknown || got[1].Logged || got[1].End.IsZero() {
			t.Errorf("the leg that was shown by mistake is not withdrawn: %+v", got)
		}
		if !got[0].Logged || got[0].Direction != correlation.Outbound {
			t.Errorf("the leg of the call: %+v", got[0])
		}
		reversed.clock = reversed.clock.Add(20 * time.Minute)
		reversed.restart()
		reversed.pass()
	}
}

// answeredCall is an answered inbound call: ring, answer and hangup.
func answeredCall(t *testing.T) []journal.Entry {
	t.Helper()
	s, err := scenario.Find("ringme", "S1")
	if err != nil {
		t.Fatal(err)
	}
	var entries []journal.Entry
	for _, n := range s.Play("seed", epoch) {
		entries = append(entries, entryOf("ringme", n))
	}
	return entries
}

func TestEventAfterACallWasForgottenJoinsIt(t *testing.T) {
	b := newBench(t)
	entries := answeredCall(t)
	b.arrive(entries[0], entries[2])
	b.pass()
	before := b.log.content()
	b.clock = b.clock.Add(20 * time.Minute)
	b.pass()
	if n := len(b.pipeline.calls.byID); n != 0 {
		t.Fatalf("%d finished calls are still in memory after 20 minutes", n)
	}
	b.arrive(entries[1])
	b.pass()
	legs := b.log.content()
	if len(before) != 1 || len(legs) != 1 || len(legs[0].Events) != 3 || legs[0].Answer.IsZero() {
		t.Errorf("before: %+v\nafter: %+v", before, legs)
	}
}

func TestLegsStayWhenTheirEventsAreTrimmed(t *testing.T) {
	b := newBench(t)
	entries := answeredCall(t)
	for _, entry := range entries {
		b.arrive(entry)
		b.pass()
	}
	want := b.log.content()
	b.clock = b.clock.Add(20 * time.Minute)
	b.pass()
	b.log.trimmed = 2
	for range 5 {
		b.arrive(entries[2])
		b.pass()
	}
	if diff := cmp.Diff(want, b.log.content()); diff != "" {
		t.Error(diff)
	}
}

func TestRulesApplyToOpenCalls(t *testing.T) {
	b := newBench(t)
	b.arrive(answeredCall(t)[0])
	b.pass()
	b.clock = b.clock.Add(time.Hour)
	b.pass()
	if got := b.log.content(); len(got) != 1 || got[0].Phase == correlation.Completed {
		t.Fatalf("after an hour: %+v", got)
	}
	b.rules.MaxDuration = time.Minute
	b.pass()
	b.pass()
	if got := b.log.content(); len(got) != 1 || got[0].Phase != correlation.Completed || got[0].Result != correlation.Unknown {
		t.Errorf("with a maximum of a minute: %+v", got)
	}
}

func TestFailuresAreRepeatedWithoutLoss(t *testing.T) {
	entries := answeredCall(t)
	undisturbed := newBench(t)
	undisturbed.arrive(entries...)
	undisturbed.settle()

	b := newBench(t)
	random := rand.New(rand.NewPCG(1, 2))
	b.log.fail = func() error {
		if random.IntN(2) == 0 {
			return errors.New("the log is away")
		}
		return nil
	}
	for _, entry := range entries {
		b.arrive(entry)
		for range 5 {
			_, _ = b.pipeline.pass(t.Context()) // it fails half of the time
		}
	}
	b.log.fail = nil
	b.settle()
	if diff := cmp.Diff(undisturbed.log.content(), b.log.content()); diff != "" {
		t.Error(diff)
	}
}

func TestStatesOfAgentsAndPhonesBelongToNoCall(t *testing.T) {
	b := newBench(t)
	b.arrive(journal.Entry{Mapping: "uid", Request: callevent.Request{
		Method: "POST", Source: callevent.Source{Type: callevent.Queue, Number: "1234*900"},
		Body: "agent_id=77&agent_status=available&agent_type=local&extension_name=1234*101%40sip.example.com&event_source=api",
	}})
	b.pass()
	b.arrive(journal.Entry{Mapping: "uid-of-account", Request: callevent.Request{
		Method: "POST", Body: "event_type=call-status-change&client_id=12&extension_id=5101&extension_name=1234*101&old_status_id=3&new_status_id=",
	}})
	b.pass()
	if err := b.pipeline.states.write(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []journal.AgentRecord{
		{Phone: true, Mapping: "uid-of-account", Extension: "1234*101", ExtensionID: "5101", Since: epoch},
		{Mapping: "uid", Extension: "1234*101", State: "Available", Since: epoch},
	}
	if diff := cmp.Diff(want, b.log.agents); diff != "" {
		t.Error(diff)
	}
	if len(b.log.legs) > 0 || len(b.pipeline.calls.byID) > 0 {
		t.Error("the state of an agent or a phone has made a call")
	}
}

func TestOneCallCannotGrowForEver(t *testing.T) {
	b := newBench(t)
	for n := range maxCallEvents + 50 {
		entry := journal.Entry{Request: callevent.Request{
			Method: "POST", Body: fmt.Sprintf("EventType=dial-in&CallID=c&SubCallID=s&CallerIDNum=%%2B12025550143&EventTime=%d", 1767348000000000+n),
		}}
		b.arrive(entry)
	}
	b.pass()
	if got := b.pipeline.calls.byID["c"].events.Len(); got != maxCallEvents {
		t.Errorf("the call has %d events", got)
	}
}

func TestFinishedCallsAreBounded(t *testing.T) {
	b := newBench(t)
	for n := range maxFinished + 500 {
		body := fmt.Sprintf("CallID=c%d&SubCallID=s%d&CallerIDNum=%%2B12025550143&EventTime=%d", n, n, 1767348000000000+n)
		for _, kind := range []string{"dial-in", "hangup"} {
			b.arrive(journal.Entry{Request: callevent.Request{Method: "POST", Body: "EventType=" + kind + "&" + body}})
		}
	}
	b.pass()
	if got := len(b.pipeline.calls.byID); got > maxFinished {
		t.Errorf("%d finished calls are in memory", got)
	}
	if got := len(b.log.content()); got != maxFinished+500 {
		t.Errorf("%d legs are in the log", got)
	}
}

func BenchmarkPass(b *testing.B) {
	bench := newBench(b)
	var bodies []string
	for _, kind := range []string{"dial-in", "answer", "hangup"} {
		bodies = append(bodies, "EventType="+kind+"&CallID=%[1]d&SubCallID=5101-%[1]d&CallFlow=in&CallStatus=ANSWER&CallerIDNum=%%2B12025550143&"+
			"CalledNumber=1234*101&CalledExtension=1234*101%%40sip.example.com&CalledExtensionID=5101&CalledDID=12025550100&EventTime=%[2]d")
	}
	for n := range b.N {
		entry := journal.Entry{Request: callevent.Request{
			Method: "POST", Body: fmt.Sprintf(bodies[n%3], n/3, 1767348000000000+n), Source: callevent.Source{Type: callevent.Phone, Number: "1234*101"},
		}}
		bench.arrive(entry)
	}
	b.ResetTimer()
	bench.pass()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
