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
		all = append(all, newPlayed(t, s, received(t, s, full), callevent.VerdictNone))
	}
	for pbx, verdict := range map[string]callevent.Verdict{"voipnow": callevent.VerdictNone, "linuxbox": callevent.VerdictLegs} {
		of, err := scenario.All(pbx)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range of {
			all = append(all, newPlayed(t, s, systems[pbx].hear(t, s, full), verdict))
		}
	}
	slices.SortFunc(all, func(a, b played) int { return strings.Compare(a.name, b.name) })
	return all
}

func newPlayed(t testing.TB, s scenario.Scenario, events []callevent.Event, verdict callevent.Verdict) played {
	t.Helper()
	p := played{name: s.PBX + "/" + s.Name, events: events}
	rules := correlation.DefaultRules()
	rules.Scope = correlation.ScopeAll
	c := calls{}
	c.add(events...)
	p.ticks = c.pass(rules)
	legs := c.legs(rules)
	records := recordsOf(legs)
	for _, e := range events {
		if r, ok := systemRecord(e, legs); ok {
			r.ID = "s" + strconv.Itoa(len(records))
			records = append(records, r)
		}
	}
	p.records = post(t, records, verdict)
	return p
}

// recordsOf is what a history says of the legs: in full seconds, and of finished ones only.
func recordsOf(legs []correlation.Leg) []callhistory.Record {
	var records []callhistory.Record
	for i, leg := range legs {
		timedOut := slices.ContainsFunc(leg.Events, func(e correlation.LegEvent) bool { return e.Type == callevent.MaxDurationOver })
		system := leg.Kind == correlation.Queue || leg.Kind == correlation.IVR
		if leg.Phase != correlation.Completed || timedOut || system && !strings.Contains(leg.CallID, ".") {
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
		if leg.LegID == leg.CallID { // of a PBX that knows the call as a whole only
			r.Extension, r.Result = "", callhistory.NoAnswer
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
func post(t testing.TB, records []callhistory.Record, verdict callevent.Verdict) []callevent.Event {
	t.Helper()
	var events []callevent.Event
	for chunk := range slices.Chunk(records, callhistory.MaxRecords) {
		body, err := json.Marshal(chunk)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := history.Over(nil, verdict).Decode(callevent.Request{
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
			recorded: leg.Recorded, talk: leg.Talk,
		}
		if leg.LegID == leg.CallID { // which of several IVRs and queues decides is not certain
			if !leg.Recorded {
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
//   - RingMe, a web call-back of which nothing was heard: no history tells it from a call that the extension's user made (S12);
//   - VoipNow, a click-to-call whose beginning or going on is lost: the first ring of the extension stays a leg of its own, not recorded, or
//     becomes one of an internal call (V11); without the API's id and all rings it counts as another talk (V11-no-api-id);
//   - VoipNow's older list of statuses: a ring without its hangup was over when the next one began, and counts as not answered, while its
//     hangup would have said that the PBX does not say (V3-early).
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

// unmarked tells a click-to-call whose events do not carry the API's id.
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
	for range 40 {
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
				case !leg.Recorded:
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
