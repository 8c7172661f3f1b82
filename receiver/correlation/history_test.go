package correlation_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/history"
)

// played is a scenario as it was heard in full, and what a history says of it.
type played struct {
	name    string
	events  []callevent.Event
	records []callevent.Event
	ticks   []callevent.Event
}

// remembered are all scenarios of the PBXs that have a history.
func remembered(t testing.TB) []played {
	t.Helper()
	var all []played
	for _, s := range scenarios(t) {
		all = append(all, newPlayed(t, s, received(t, s, full), callevent.MissedUnsaid))
	}
	for pbx, missed := range map[string]callevent.MissedRule{"voipnow": callevent.MissedUnsaid, "linuxbox": callevent.MissedUnlessAnswered} {
		of, err := scenario.All(pbx)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range of {
			all = append(all, newPlayed(t, s, systems[pbx].hear(t, s, full), missed))
		}
	}
	slices.SortFunc(all, func(a, b played) int { return strings.Compare(a.name, b.name) })
	return all
}

func newPlayed(t testing.TB, s scenario.Scenario, events []callevent.Event, missed callevent.MissedRule) played {
	t.Helper()
	p := played{name: s.PBX + "/" + s.Name, events: events}
	rules := correlation.DefaultRules()
	rules.Scope = correlation.ScopeAll
	c := calls{}
	c.add(events...)
	p.ticks = c.pass(rules)
	legs := c.legs(rules)
	records := recordsOf(legs, missed)
	for _, e := range events {
		if r, ok := systemRecord(e, legs); ok {
			r.ID = "s" + strconv.Itoa(len(records))
			records = append(records, r)
		}
	}
	p.records = post(t, records, missed)
	return p
}

// recordsOf is what a history says of the legs: in full seconds, and of finished ones only. A
// missed call is one of its own where the PBX tells of calls as a whole.
func recordsOf(legs []correlation.Leg, missed callevent.MissedRule) []callhistory.Record {
	var records []callhistory.Record
	for i, leg := range legs {
		timedOut := slices.ContainsFunc(leg.Events, func(e correlation.LegEvent) bool { return e.Type == callevent.MaxDurationOver })
		whole := leg.LegID == leg.CallID
		if leg.Phase != correlation.Completed || timedOut || whole && missed == callevent.MissedUnsaid {
			continue
		}
		r := callhistory.Record{
			ID: "r" + strconv.Itoa(i), CallID: leg.CallID, Extension: leg.Extension, Flow: callhistory.In,
			From: leg.From, FromName: leg.FromName, To: leg.To, DID: leg.DID, Transferred: leg.Transferred, RecordingID: leg.RecordingID,
			Start: leg.Start.Truncate(time.Second), Answer: leg.Answer.Truncate(time.Second), End: leg.End.Truncate(time.Second),
			Result: callhistory.Result(leg.Result),
		}
		if leg.Direction == correlation.Outbound || leg.Direction == correlation.Internal && leg.To != leg.Extension {
			r.Flow = callhistory.Out
		}
		if talk := leg.Talk.Truncate(time.Second).Seconds(); talk > 0 {
			r.TalkSeconds = &talk
		}
		if whole {
			r.Kind, r.Extension, r.Result = callhistory.IVR, "", callhistory.NoAnswer
		}
		records = append(records, r)
	}
	return records
}

// systemRecord is what a history says of the hangup of an IVR or queue.
func systemRecord(e callevent.Event, legs []correlation.Leg) (callhistory.Record, bool) {
	if e.Type != callevent.Hangup || e.Flow != callevent.FlowIn || e.Source.Type != callevent.IVR && e.Source.Type != callevent.Queue {
		return callhistory.Record{}, false
	}
	r := callhistory.Record{
		CallID: e.CallID, Kind: callhistory.Kind(e.Source.Type), Extension: e.Source.Number, Flow: callhistory.In, From: e.Caller.Number,
		DID: e.DID, Start: e.Time.Truncate(time.Second), End: e.Time.Truncate(time.Second), Result: callhistory.NoAnswer, Bridged: e.Bridged,
	}
	for _, leg := range legs {
		if leg.CallID == e.CallID && leg.Result == correlation.Answered {
			r.Result = callhistory.Answered
		}
	}
	return r, true
}

// post reads records as the receiver does, which finds out whose the extensions are.
func post(t testing.TB, records []callhistory.Record, missed callevent.MissedRule) []callevent.Event {
	t.Helper()
	var events []callevent.Event
	for chunk := range slices.Chunk(records, callhistory.MaxRecords) {
		body, err := json.Marshal(chunk)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := history.Over(nil, missed).Decode(callevent.Request{
			ReceivedAt: start.Add(time.Hour), Path: callhistory.Path, ContentType: callhistory.ContentType, Body: string(body),
		})
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		events = append(events, decoded...)
	}
	for i := range events {
		events[i].Source.User = cmp.Or(users[events[i].Source.Number], staff[events[i].Source.Number])
	}
	return events
}

// losses are what an outage may cost.
var losses = map[string]func(i, n int, e callevent.Event) bool{
	"nothing": func(int, int, callevent.Event) bool { return false },
	"all":     func(int, int, callevent.Event) bool { return true },
	"hangups": func(_, _ int, e callevent.Event) bool {
		return e.Type == callevent.Hangup || e.Type == callevent.CallEnd
	},
	"answers": func(_, _ int, e callevent.Event) bool {
		return e.Type == callevent.Answer || e.Type == callevent.HasAnswered
	},
	"rings": func(_, _ int, e callevent.Event) bool {
		return e.Type == callevent.DialIn || e.Type == callevent.DialOut
	},
	"first half":  func(i, n int, _ callevent.Event) bool { return i < n/2 },
	"second half": func(i, n int, _ callevent.Event) bool { return i >= n/2 },
}

// gist is what must not be lost of a leg.
type gist struct {
	call, extension, user string
	kind                  correlation.Kind
	direction             correlation.Direction
	result                correlation.Result
	recorded              bool
	talk                  time.Duration
}

func gists(legs []correlation.Leg) []gist {
	var all []gist
	for _, leg := range legs {
		g := gist{
			call: leg.CallID, extension: leg.Extension, user: leg.User, kind: leg.Kind, direction: leg.Direction, result: leg.Result,
			recorded: leg.Logged, talk: leg.Talk,
		}
		if leg.LegID == leg.CallID { // which of several IVRs and queues decides is not certain
			if !leg.Logged {
				continue
			}
			g.kind, g.extension = correlation.Trunk, ""
		}
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b gist) int {
		return cmp.Or(strings.Compare(fmt.Sprint(a.call, a.kind, a.extension, a.direction, a.result, a.recorded),
			fmt.Sprint(b.call, b.kind, b.extension, b.direction, b.result, b.recorded)), cmp.Compare(a.talk, b.talk))
	})
	return all
}

func (g gist) like(other gist) bool {
	if (g.talk - other.talk).Abs() <= time.Second {
		g.talk = other.talk
	}
	return g == other
}

// Whatever was lost of a call, its history brings back how it went. What it cannot bring back:
//   - RingMe, a web call-back of which nothing was heard: no history tells it from a call that the
//     extension's user made (S12);
//   - VoipNow, a click-to-call whose beginning is lost: the first ring of the extension stays a leg
//     of its own, not recorded, and an internal call is left out (V11); without the API's id and
//     all rings it counts as another talk (V11-no-api-id);
//   - VoipNow's older list of statuses: a ring without its hangup was over when the next one began,
//     and counts as not answered, while its hangup would have said that the PBX does not say
//     (V3-early).
func TestHistoryRestores(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	for _, p := range remembered(t) {
		whole := calls{}
		whole.add(p.events...)
		whole.pass(rules)
		want := gists(whole.legs(rules))
		for _, loss := range slices.Sorted(maps.Keys(losses)) {
			c := calls{}
			c.add(p.without(losses[loss])...)
			c.add(p.records...)
			c.pass(rules)
			if got := gists(c.legs(rules)); !slices.EqualFunc(p.restorable(want), p.restorable(got), gist.like) {
				t.Errorf("%s without %s:\nwant %+v\ngot  %+v", p.name, loss, want, got)
			}
		}
	}
}

func (p played) restorable(legs []gist) []gist {
	legs = slices.Clone(legs)
	for i := range legs {
		switch {
		case strings.HasPrefix(p.name, "ringme/S12") && legs[i].direction == correlation.Outbound:
			legs[i].user = ""
		case strings.HasPrefix(p.name, "voipnow/V3") && strings.HasSuffix(p.name, "-early") && legs[i].result == correlation.Unknown:
			legs[i].result = correlation.NoAnswer
		}
	}
	if strings.HasPrefix(p.name, "voipnow/V11") {
		legs = slices.DeleteFunc(legs, func(g gist) bool { return !g.recorded || p.unmarked() && g.direction == correlation.Inbound })
	}
	return legs
}

// unmarked reports whether this is a click-to-call whose events do not carry the API's id.
func (p played) unmarked() bool { return strings.HasPrefix(p.name, "voipnow/V11-no-api-id") }

func (p played) without(lost func(i, n int, e callevent.Event) bool) []callevent.Event {
	var kept []callevent.Event
	for i, e := range p.events {
		if !lost(i, len(p.events), e) {
			kept = append(kept, e)
		}
	}
	return kept
}

// A history that says nothing new changes nothing.
func TestHistoryOfWhatWasHeard(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	for _, p := range remembered(t) {
		heard, both := calls{}, calls{}
		for _, c := range []calls{heard, both} {
			c.add(p.events...)
			c.add(p.ticks...)
		}
		both.add(p.records...)
		both.pass(rules)
		if want, got := encode(t, withoutRevisions(heard.legs(rules))), encode(t, withoutRevisions(both.legs(rules))); want != got {
			t.Errorf("%s:\nwant %s\ngot  %s", p.name, want, got)
		}
	}
}

// A history that goes by another clock, such as one in local time, makes no calls of those that
// were heard.
func TestHistoryOfAnotherClock(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(6, 7))
	rules := correlation.DefaultRules()
	for _, p := range remembered(t) {
		if strings.HasPrefix(p.name, "voipnow/") { // its records have no call ids: the controller finds their legs by the time
			continue
		}
		heard := calls{}
		heard.add(p.events...)
		heard.add(p.ticks...)
		want := gists(recorded(heard.legs(rules)))
		for _, by := range []time.Duration{time.Hour, -time.Hour, 30 * time.Second} {
			askew := p
			askew.records = shifted(p.records, by)
			c := calls{}
			c.add(p.events...)
			c.add(askew.records...)
			c.pass(rules)
			if got := gists(recorded(c.legs(rules))); !slices.EqualFunc(want, got, gist.alike) {
				t.Errorf("%s by %v:\nwant %+v\ngot  %+v", p.name, by, want, got)
			}
			askew.checkOrders(t, "nothing", rng)
		}
	}
}

// alike leaves out the talk time: of a leg whose answer was not heard only the records tell it.
func (g gist) alike(other gist) bool {
	g.talk = other.talk
	return g == other
}

// Only what events told of in full is taken for heard.
func TestRecordsAtOtherTimes(t *testing.T) {
	t.Parallel()
	whole := func(kind callevent.Type, s float64) callevent.Event {
		return callevent.Event{ID: string(kind), Type: kind, CallID: "C1", Time: at(s), Received: at(s), Flow: callevent.FlowIn}
	}
	begin, over := whole(callevent.CallStart, 0), whole(callevent.CallEnd, 60)
	first := []callevent.Event{ring("1234*101", "L1", 0), hangup("1234*101", "L1", 20, callevent.StatusNoAnswer)}
	talk := []callevent.Event{ring("1234*101", "L1", 0), answer("1234*101", "L1", 6), hangup("1234*101", "L1", 20, callevent.StatusAnswered)}
	unheard, other := "history/r1 1234*101 Completed Answered recorded", "history/r1 1234*101 Completed NoAnswer"
	rung, talked := "L1 1234*101 Completed NoAnswer", "L1 1234*101 Completed Answered recorded"
	answered := func(from, to float64) callhistory.Record {
		r := recall("r1", "1234*101", from, to, callhistory.Answered)
		r.Answer = at(from + 6)
		return r
	}
	for _, tc := range []struct {
		name   string
		heard  []callevent.Event
		record callhistory.Record
		want   []string
	}{
		{"after the end", []callevent.Event{begin, over}, answered(66, 90), nil},
		{"about the end", []callevent.Event{begin, over}, answered(64, 90), []string{unheard}},
		{"before the beginning", []callevent.Event{begin, over}, answered(-30, -6), nil},
		{"about the beginning", []callevent.Event{begin, over}, answered(-30, -4), []string{unheard}},
		{"in a beginning that was not heard", []callevent.Event{over}, answered(-30, -6), []string{unheard}},
		{"in an end that was not heard", []callevent.Event{begin}, answered(66, 90), []string{unheard}},
		{"another talk after the one that was heard", talk, answered(40, 70), []string{talked, unheard}},
		{"the talk that was heard", talk, answered(40, 60), []string{talked}},
		{"a talk after one whose end was not heard", talk[:2], answered(40, 60), []string{"L1 1234*101 Answered ", unheard}},
		{"another ring", first, recall("r1", "1234*101", 40, 60, callhistory.NoAnswer), []string{rung, other}},
		{"the ring that was heard, in local time", first, recall("r1", "1234*101", 3600, 3620, callhistory.NoAnswer), []string{rung}},
		{"a talk as long as the ring that was heard", first, answered(3600, 3620), []string{rung, unheard}},
		{"somebody else's talk", talk, recall("r1", "1234*102", 3600, 3620, callhistory.Answered),
			[]string{talked, "history/r1 1234*102 Completed Answered recorded"}},
	} {
		c := call(append(slices.Clone(tc.heard), remember(t, tc.record)...)...)
		expect(t, tc.name, c, correlation.DefaultRules(), tc.want...)
	}
}

func recorded(legs []correlation.Leg) []correlation.Leg {
	return slices.DeleteFunc(slices.Clone(legs), func(l correlation.Leg) bool { return !l.Logged })
}

func shifted(records []callevent.Event, by time.Duration) []callevent.Event {
	moved := slices.Clone(records)
	for i := range moved {
		record := *moved[i].Record
		if moved[i].Time, record.End = moved[i].Time.Add(by), record.End.Add(by); !record.Answer.IsZero() {
			record.Answer = record.Answer.Add(by)
		}
		moved[i].Record = &record
	}
	return moved
}

// Records and events are one set: no order and no repetition shows.
func TestHistoryInAnyOrder(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(4, 5))
	for _, p := range remembered(t) {
		for _, loss := range slices.Sorted(maps.Keys(losses)) {
			p.checkOrders(t, loss, rng)
		}
	}
}

func (p played) checkOrders(t *testing.T, loss string, rng *rand.Rand) {
	rules := correlation.DefaultRules()
	inOrder := calls{}
	events := append(p.without(losses[loss]), p.records...)
	inOrder.add(events...)
	events = append(events, inOrder.pass(rules)...)
	want := encode(t, inOrder.legs(rules))
	for range 12 {
		c := calls{}
		for _, i := range append(rng.Perm(len(events)), rng.Perm(len(events))[:len(events)/2]...) {
			c.add(events[i])
		}
		if got := encode(t, c.legs(rules)); got != want {
			t.Fatalf("%s without %s:\nwant %s\ngot  %s", p.name, loss, want, got)
		}
	}
}

// Whichever events were lost, a talk is recorded once.
func TestHistoryCountsOnce(t *testing.T) {
	t.Parallel()
	all := slices.DeleteFunc(remembered(t), played.unmarked)
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom(all).Draw(t, "scenario")
		rules := correlation.DefaultRules()
		whole, c := calls{}, calls{}
		whole.add(p.events...)
		whole.pass(rules)
		for _, e := range p.events {
			if rapid.Bool().Draw(t, "kept "+e.ID) {
				c.add(e)
			}
		}
		c.add(p.records...)
		c.pass(rules)
		count := func(legs []correlation.Leg) map[string]int {
			n := map[string]int{}
			for _, leg := range legs {
				switch {
				case !leg.Logged:
				case leg.Result == correlation.Missed: // which of several IVRs and queues decides is not certain
					n[leg.CallID]++
				default:
					n[leg.CallID+" "+leg.Extension]++
				}
			}
			return n
		}
		if want, got := count(whole.legs(rules)), count(c.legs(rules)); !maps.Equal(want, got) {
			t.Fatalf("%s: want %v, got %v\n%+v", p.name, want, got, c.legs(rules))
		}
	})
}

// recall is what the history says of a customer's call to an extension.
func recall(id, number string, from, to float64, result callhistory.Result) callhistory.Record {
	return callhistory.Record{
		ID: id, CallID: "C1", Extension: number, Flow: callhistory.In, From: customer, Start: at(from), End: at(to), Result: result,
	}
}

func remember(t *testing.T, records ...callhistory.Record) []callevent.Event {
	t.Helper()
	return post(t, records, callevent.MissedUnsaid)
}

func TestWhatTheHistoryAdds(t *testing.T) {
	t.Parallel()
	talk := 54.0
	answered := recall("r1", "1234*101", 0, 60, callhistory.Answered)
	answered.Answer, answered.TalkSeconds, answered.RecordingID = at(6), &talk, "R1"
	silent := hangup("1234*101", "L1", 9, callevent.StatusUnknown)
	silent.WireStatus = ""
	for _, tc := range []struct {
		name    string
		heard   []callevent.Event
		record  callhistory.Record
		want    string
		talk    float64
		unmoved bool // nothing was taken from the record
	}{
		{"nothing was heard", nil, answered, "history/r1 1234*101 Completed Answered recorded", 54, false},
		{"the hangup was lost", []callevent.Event{ring("1234*101", "L1", 0), answer("1234*101", "L1", 6)}, answered,
			"L1 1234*101 Completed Answered recorded", 54, false},
		{"only the ring was heard, by a clock that is slow", []callevent.Event{ring("1234*101", "L1", -4)}, answered,
			"L1 1234*101 Completed Answered recorded", 54, false},
		{"only the answer was heard", []callevent.Event{answer("1234*101", "L1", 6)}, answered,
			"L1 1234*101 Completed Answered recorded", 54, false},
		{"the answer was lost", []callevent.Event{ring("1234*101", "L1", 0), hangup("1234*101", "L1", 60.5, callevent.StatusAnswered)}, answered,
			"L1 1234*101 Completed Answered recorded", 54.5, false},
		{"the recording came late", []callevent.Event{
			ring("1234*101", "L1", 0), answer("1234*101", "L1", 6), hangup("1234*101", "L1", 60.5, callevent.StatusAnswered)}, answered,
			"L1 1234*101 Completed Answered recorded", 54.5, false},
		{"all was heard", []callevent.Event{ring("1234*101", "L1", 0.9), hangup("1234*101", "L1", 9.9, callevent.StatusBusy)},
			recall("r1", "1234*101", 0, 9, callhistory.Busy), "L1 1234*101 Completed Busy", 0, true},
		{"the hangup says something else", []callevent.Event{ring("1234*101", "L1", 0), hangup("1234*101", "L1", 9, callevent.StatusBusy)},
			recall("r1", "1234*101", 0, 9, callhistory.Failed), "L1 1234*101 Completed Busy", 0, true},
		{"the hangup does not say", []callevent.Event{ring("1234*101", "L1", 0), silent},
			recall("r1", "1234*101", 0, 9, callhistory.Cancelled), "L1 1234*101 Completed Cancelled", 0, false},
		{"nobody can say", []callevent.Event{ring("1234*101", "L1", 0), silent},
			recall("r1", "1234*101", 0, 9, callhistory.Unknown), "L1 1234*101 Completed Unknown", 0, true},
		{"somebody else took it", nil, recall("r1", "1234*101", 0, 9, callhistory.AnsweredElsewhere),
			"history/r1 1234*101 Completed AnsweredElsewhere", 0, false},
	} {
		for _, c := range []*correlation.Call{
			call(append(tc.heard, remember(t, tc.record)...)...), call(append(remember(t, tc.record), tc.heard...)...),
		} {
			expect(t, tc.name, c, correlation.DefaultRules(), tc.want)
			leg := c.Outcome(correlation.DefaultRules()).Legs[0]
			shown := slices.ContainsFunc(leg.Events, func(e correlation.LegEvent) bool { return e.Type == callevent.History })
			if leg.Talk != seconds(tc.talk) || leg.Backfilled == tc.unmoved || shown == tc.unmoved || leg.User != users["1234*101"] {
				t.Errorf("%s: %+v", tc.name, leg)
			}
			if tc.record.RecordingID != leg.RecordingID {
				t.Errorf("%s: recording %q", tc.name, leg.RecordingID)
			}
		}
	}
}

// Each record is of one leg: the nearest of the same extension and direction.
func TestRecordsFindTheirLegs(t *testing.T) {
	t.Parallel()
	outgoing := recall("r4", "1234*101", 3, 60, callhistory.Answered)
	outgoing.Flow, outgoing.To = callhistory.Out, customer
	c := call(ring("1234*101", "L1", 3), ring("1234*101", "L2", 8), ring("1234*102", "L3", 3))
	for _, e := range remember(t, recall("r1", "1234*101", 9, 20, callhistory.Busy), recall("r2", "1234*101", 2, 7, callhistory.NoAnswer),
		recall("r3", "1234*101", 14, 30, callhistory.Cancelled), outgoing) {
		c.Add(e)
	}
	expect(t, "legs", c, correlation.DefaultRules(), "L1 1234*101 Completed NoAnswer", "L3 1234*102 Ringing ",
		"history/r4 "+customer+" Completed Answered recorded", "L2 1234*101 Completed Busy", "history/r3 1234*101 Completed Cancelled")
}

// What the history says later adds to what it had said, and is no other leg.
func TestVersionsOfARecord(t *testing.T) {
	t.Parallel()
	early := recall("r1", "1234*101", 0, 60, callhistory.Unknown)
	late := recall("r1", "1234*101", 0, 60, callhistory.Answered)
	late.Answer, late.RecordingID, late.FromName = at(6), "R1", "Customer"
	for _, records := range [][]callhistory.Record{{early, late}, {late, early}, {late, late, early}} {
		c := call(remember(t, records...)...)
		expect(t, "leg", c, correlation.DefaultRules(), "history/r1 1234*101 Completed Answered recorded")
		if leg := c.Outcome(correlation.DefaultRules()).Legs[0]; leg.RecordingID != "R1" || leg.FromName != "Customer" || c.Len() != 2 {
			t.Errorf("%d events: %+v", c.Len(), leg)
		}
	}
}

// A leg that was closed because its hangup was not heard in time is corrected.
func TestHistoryAfterMaxDuration(t *testing.T) {
	t.Parallel()
	c := call(ring("1234*101", "L1", 0), answer("1234*101", "L1", 6))
	wait(t, c, correlation.DefaultRules())
	expect(t, "closed", c, correlation.DefaultRules(), "L1 1234*101 Completed Unknown")
	for _, e := range remember(t, recall("r1", "1234*101", 0, 60, callhistory.Answered)) {
		c.Add(e)
	}
	expect(t, "corrected", c, correlation.DefaultRules(), "L1 1234*101 Completed Answered recorded")
}

// A missed call of the history is missed once, after the grace period, and only if nobody is still
// being rung.
func TestHistoryOfMissedCalls(t *testing.T) {
	t.Parallel()
	no, rules := false, correlation.DefaultRules()
	queue := recall("r2", "1234*900", 0, 45, callhistory.NoAnswer)
	queue.Kind, queue.Bridged = callhistory.Queue, &no
	c := call(remember(t, recall("r1", "1234*101", 5, 25, callhistory.NoAnswer), queue)...)
	expect(t, "at first", c, rules, "history/r1 1234*101 Completed NoAnswer")
	if tick := wait(t, c, rules); tick.Type != callevent.GraceOver || !tick.Time.Equal(start.Add(time.Hour+rules.GracePeriod)) {
		t.Errorf("waits for %+v", tick)
	}
	expect(t, "missed", c, rules, "C1 1234*900 Completed Missed recorded", "history/r1 1234*101 Completed NoAnswer")
	c.Add(answer("1234*102", "L2", 30))
	expect(t, "somebody took it", c, rules, "C1 1234*900 Completed AnsweredElsewhere", "history/r1 1234*101 Completed NoAnswer",
		"L2 1234*102 Answered ")

	line, direct := recall("r1", "1234*101", 5, 25, callhistory.NoAnswer), recall("r2", "1234*102", 5, 25, callhistory.Busy)
	c = call(post(t, []callhistory.Record{line, direct}, callevent.MissedUnlessAnswered)...)
	c.Add(ring("1234*103", "L3", 20))
	if tick := c.Outcome(rules).Tick; tick == nil || tick.Type != callevent.MaxDurationOver {
		t.Errorf("while a phone rings, waits for %+v", tick)
	}
	c.Add(hangup("1234*103", "L3", 40, callevent.StatusCancelled))
	if tick := wait(t, c, rules); !tick.Time.Equal(start.Add(time.Hour + rules.MaxDuration)) {
		t.Errorf("waits for %+v, want as long as a call may last, as it may go on", tick)
	}
	expect(t, "without a queue", c, rules, "C1 1234*102 Completed Missed recorded", "history/r1 1234*101 Completed NoAnswer",
		"history/r2 1234*102 Completed Busy", "L3 1234*103 Completed Cancelled")
}

// The history may know the first rings of a call that goes on: its end decides, whether heard or
// told.
func TestHistoryOfACallThatGoesOn(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	whole := func(kind callevent.Type, s float64) callevent.Event {
		return callevent.Event{
			ID: string(kind), Type: kind, CallID: "C1", Time: at(s), Received: at(s), Flow: callevent.FlowIn, Missed: callevent.MissedUnlessAnswered,
			Caller: callevent.Party{Number: customer}, Called: callevent.Party{Number: "2025550100"},
		}
	}
	line := post(t, []callhistory.Record{recall("r1", "10", 5, 25, callhistory.NoAnswer)}, callevent.MissedUnlessAnswered)[0]
	line.Received = at(26)
	over := post(t, []callhistory.Record{recall("r2", "", 0, 24, callhistory.NoAnswer)}, callevent.MissedUnlessAnswered)[0]
	over.Received = at(46)
	for want, events := range map[time.Time][]callevent.Event{
		at(26).Add(rules.MaxDuration): {whole(callevent.CallStart, 0), line},
		at(45).Add(rules.GracePeriod): {whole(callevent.CallStart, 0), line, whole(callevent.CallEnd, 45)},
		at(46).Add(rules.GracePeriod): {whole(callevent.CallStart, 0), line, over},
		at(26).Add(rules.GracePeriod): {line},
	} {
		c := call(events...)
		if tick := wait(t, c, rules); !tick.Time.Equal(want) {
			t.Errorf("%d events: waits for %v, want %v", len(events), tick.Time, want)
		}
		if legs := c.Outcome(rules).Legs; len(legs) != 2 || legs[0].Result != correlation.Missed && legs[1].Result != correlation.Missed {
			t.Errorf("%d events: %+v", len(events), legs)
		}
	}
}

// anyRecord draws what a careless history might say of the calls of anyEvent.
func anyRecord(t *rapid.T) callevent.Event {
	number := rapid.SampledFrom([]string{"1234*101", "1234*102", "1234*900", ""}).Draw(t, "extension")
	from := rapid.IntRange(0, 20).Draw(t, "start")
	r := callhistory.Record{
		ID: rapid.SampledFrom([]string{"r1", "r2", "r3"}).Draw(t, "id"), CallID: rapid.SampledFrom([]string{"C1", "C2"}).Draw(t, "call"),
		Extension: number, Flow: rapid.SampledFrom([]callhistory.Flow{callhistory.In, callhistory.Out}).Draw(t, "flow"),
		From: rapid.SampledFrom([]string{customer, "1234*102", ""}).Draw(t, "from"), To: rapid.SampledFrom([]string{customer, ""}).Draw(t, "to"),
		Start: at(float64(from)), End: at(float64(from + rapid.IntRange(0, 20).Draw(t, "length"))),
		Result: rapid.SampledFrom([]callhistory.Result{
			callhistory.Answered, callhistory.NoAnswer, callhistory.AnsweredElsewhere, callhistory.Busy, callhistory.Unknown,
		}).Draw(t, "result"),
		RecordingID: rapid.SampledFrom([]string{"", "R1"}).Draw(t, "recording"), Transferred: rapid.Bool().Draw(t, "transferred"),
	}
	if number == "1234*900" {
		r.Kind = callhistory.Queue
	}
	if rapid.Bool().Draw(t, "answer") {
		r.Answer = r.Start.Add(seconds(float64(rapid.IntRange(0, 20).Draw(t, "answered"))))
	}
	if rapid.Bool().Draw(t, "bridge") {
		bridged := rapid.Bool().Draw(t, "bridged")
		r.Bridged = &bridged
	}
	body, err := json.Marshal([]callhistory.Record{r})
	if err != nil {
		t.Fatal(err)
	}
	missed := rapid.SampledFrom([]callevent.MissedRule{callevent.MissedUnsaid, callevent.MissedUnlessAnswered}).Draw(t, "missed")
	events, err := history.Over(nil, missed).Decode(callevent.Request{
		ReceivedAt: start.Add(time.Minute), Path: callhistory.Path, ContentType: callhistory.ContentType, Body: string(body),
	})
	if err != nil {
		t.Fatal(err)
	}
	return events[0]
}

// Whatever a history says, the promises of correlation hold.
func TestAnyHistory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rules := anyRules(t)
		events := append(anyEvents(t), rapid.SliceOfN(rapid.Custom(anyRecord), 1, 6).Draw(t, "records")...)
		c := calls{}
		c.add(events...)
		events = append(events, c.pass(rules)...)
		legs := c.legs(rules)
		missed := map[string]int{}
		for _, leg := range legs {
			if leg.Result == correlation.Missed {
				missed[leg.CallID]++
			}
			if leg.Phase != correlation.Completed || missed[leg.CallID] > 1 || leg.Talk < 0 ||
				leg.Logged && leg.Result != correlation.Answered && leg.Result != correlation.Missed {
				t.Fatalf("%+v", leg)
			}
		}
		for id, call := range c {
			if !call.Outcome(rules).Finished {
				t.Fatalf("call %s is not finished: %+v", id, call.Outcome(rules))
			}
		}
		shuffled := rapid.Permutation(events).Draw(t, "order")
		if a, b := fmt.Sprintf("%+v", legs), fmt.Sprintf("%+v", correlation.Derive(shuffled, rules)); a != b {
			t.Fatalf("in order:\n%s\nshuffled:\n%s", a, b)
		}
	})
}

// Whenever the history comes in, revisions grow with every change, and no leg vanishes that was
// shown, except one that was there because of the history: what comes later may tell otherwise. It
// is withdrawn then.
func TestConsumersFollowTheHistory(t *testing.T) {
	t.Parallel()
	all := remembered(t)
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom(all).Draw(t, "scenario")
		rules, kept, c := anyRules(t), map[string]correlation.Leg{}, calls{}
		look := func() {
			legs := c.legs(rules)
			for _, leg := range legs {
				key := leg.CallID + " " + leg.LegID
				if before, known := kept[key]; known && !before.Same(leg) && leg.Revision <= before.Revision {
					t.Fatalf("%s: revision %d after %d:\n%+v\n%+v", p.name, leg.Revision, before.Revision, before, leg)
				}
				kept[key] = leg
			}
			for key, shown := range kept {
				left := slices.ContainsFunc(legs, func(l correlation.Leg) bool { return l.CallID+" "+l.LegID == key })
				if !left && !shown.Backfilled {
					t.Fatalf("%s: of the legs %v only these are left: %+v", p.name, slices.Sorted(maps.Keys(kept)), legs)
				}
			}
		}
		arriving := p.without(func(int, int, callevent.Event) bool { return rapid.Bool().Draw(t, "lost") })
		for _, r := range p.records {
			arriving = slices.Insert(arriving, rapid.IntRange(0, len(arriving)).Draw(t, "place"), r)
		}
		for i, e := range arriving {
			e.Received = start.Add(time.Duration(i) * time.Minute)
			c.add(e)
			look()
			if rapid.IntRange(0, 9).Draw(t, "time passes") == 0 {
				c.step(rules)
				look()
			}
		}
	})
}
