package correlation_test

import (
	"cmp"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/callable"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/linuxbox"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/voipnow"
)

// system is a PBX as the tests configure it.
type system struct {
	dialect func(t testing.TB, s scenario.Scenario) dialect.Dialect
	// sent tells who sent an event, where the URL does.
	sent func(n scenario.Notification) callevent.Source
}

func ofAccount(scenario.Notification) callevent.Source { return callevent.Source{} }

var systems = map[string]system{
	"voipnow": {
		dialect: func(testing.TB, scenario.Scenario) dialect.Dialect { return voipnow.Dialect{} },
		sent: func(n scenario.Notification) callevent.Source {
			return callevent.Source{Type: callevent.SourceType(n.Sender.Type), Number: n.Sender.Number, ID: n.Sender.ID, User: staff[n.Sender.Number]}
		},
	},
	"linuxbox": {dialect: linuxBox, sent: ofAccount},
	"callable": {
		dialect: func(testing.TB, scenario.Scenario) dialect.Dialect {
			return callable.New(callable.Config{OwnNumbers: []string{"+4420794609*"}, OwnDomains: []string{"tenant.example.com"}})
		},
		sent: ofAccount,
	},
}

var staff = map[string]string{"0007*101": "ann", "0007*102": "ben", "0007*103": "cleo"}

// linuxBox is an installation with the names of the documents, or those that the scenario's
// customer chose.
func linuxBox(t testing.TB, s scenario.Scenario) dialect.Dialect {
	t.Helper()
	var config linuxbox.Config
	if strings.Contains(s.Name, "other-names") {
		config.Parameters = map[string]linuxbox.Name{
			"from": linuxbox.CallerNumber, "to": linuxbox.CalledNumber, "extension": linuxbox.Line,
		}
	}
	d, err := linuxbox.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// hear plays a scenario to a system's dialect.
func (y system) hear(t testing.TB, s scenario.Scenario, r registration) []callevent.Event {
	t.Helper()
	var events []callevent.Event
	speaks := y.dialect(t, s)
	for _, n := range s.Play(seed, start) {
		if s.PBX == "voipnow" && !r.wants(n) {
			continue
		}
		wire := n.Request("POST")
		decoded, err := speaks.Decode(callevent.Request{
			ReceivedAt: n.At, Source: y.sent(n), Method: wire.Method, Path: wire.Path, Query: wire.Query, ContentType: wire.ContentType, Body: wire.Body,
		})
		if err != nil {
			t.Fatalf("decode %s %s%s: %v", wire.Path, wire.Query, wire.Body, err)
		}
		events = append(events, decoded...)
	}
	return events
}

// plain is what a file of expectations says of a leg; ids are symbols, times seconds since the
// start of the call.
func plain(s scenario.Scenario, leg correlation.Leg) wantLeg {
	symbols := names(s)
	shown := wantLeg{
		Call: symbols.Replace(leg.CallID), Leg: symbols.Replace(leg.LegID), Parent: symbols.Replace(leg.ParentLegID),
		Kind: leg.Kind, Direction: leg.Direction, From: leg.From, FromName: leg.FromName, To: leg.To, DID: leg.DID, Extension: leg.Extension,
		User: leg.User, Phase: leg.Phase, Result: leg.Result, Logged: leg.Logged, Talk: leg.Talk.Seconds(), Transferred: leg.Transferred,
		CallBack: symbols.Replace(leg.CallBackID), Control: symbols.Replace(leg.ControlID), Recording: symbols.Replace(leg.RecordingID),
	}
	since := func(to **float64, set bool, s float64) {
		if set {
			*to = &s
		}
	}
	since(&shown.Start, !leg.Start.IsZero(), leg.Start.Sub(start).Seconds())
	since(&shown.Answer, !leg.Answer.IsZero(), leg.Answer.Sub(start).Seconds())
	since(&shown.End, !leg.End.IsZero(), leg.End.Sub(start).Seconds())
	return shown
}

// names turns the ids of a scenario back into symbols.
func names(s scenario.Scenario) *strings.Replacer {
	var pairs []string
	for _, symbol := range []string{"C1", "C2", "P1", "P2", "B1", "B2", "B3", "X1", "X2"} {
		pairs = append(pairs, s.ID(seed, symbol), symbol)
	}
	return strings.NewReplacer(append(pairs, scenario.VoipNowCallAPIID(seed, "A1"), "A1")...)
}

func (w wantLeg) filled(pbx string, r registration) wantLeg {
	w.Call = cmp.Or(w.Call, map[string]string{"callable": "P1"}[pbx], "C1")
	w.Kind, w.Phase = cmp.Or(w.Kind, correlation.Extension), cmp.Or(w.Phase, correlation.Completed)
	if r == full && w.FullStart != nil {
		w.Start = w.FullStart
	}
	w.FullStart = nil
	return w
}

// The legs of every scenario of every system, in every order of its events that time allows.
func TestSystems(t *testing.T) {
	t.Parallel()
	for pbx, y := range systems {
		all, err := scenario.All(pbx)
		if err != nil {
			t.Fatal(err)
		}
		want := expectations(t, pbx)
		for _, s := range all {
			legs, ok := want[s.Name]
			if !ok {
				t.Errorf("no expectation for scenario %s of %s", s.Name, pbx)
			}
			registrations := []registration{full}
			if pbx == "voipnow" {
				registrations = []registration{usual, full}
			}
			for _, r := range registrations {
				t.Run(filepath.Join(pbx, s.Name, string(r)), func(t *testing.T) {
					t.Parallel()
					y.check(t, s, r, legs)
				})
			}
		}
	}
}

func (y system) check(t *testing.T, s scenario.Scenario, r registration, legs []wantLeg) {
	events := y.hear(t, s, r)
	inOrder := calls{}
	inOrder.add(events...)
	ticks := inOrder.pass(correlation.DefaultRules())
	want := make([]wantLeg, 0, len(legs))
	for _, leg := range legs {
		want = append(want, leg.filled(s.PBX, r))
	}
	got := []wantLeg{}
	for _, leg := range inOrder.legs(correlation.DefaultRules()) {
		got = append(got, plain(s, leg))
	}
	for _, legs := range [][]wantLeg{want, got} {
		slices.SortFunc(legs, compareLegs)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Fatalf("legs (-want +got):\n%s", diff)
	}
	checkOrders(t, append(events, ticks...), inOrder)
	checkLate(t, events, inOrder)
}

// What scope All adds.
func TestSystemsScopeAll(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	rules.Scope = correlation.ScopeAll
	for pbx, y := range systems {
		for name, legs := range expectations(t, pbx+"-all") {
			s, err := scenario.Find(pbx, name)
			if err != nil {
				t.Fatal(err)
			}
			c := calls{}
			c.add(y.hear(t, s, full)...)
			c.pass(rules)
			want, got := []wantLeg{}, []wantLeg{}
			for _, leg := range legs {
				want = append(want, leg.filled(pbx, full))
			}
			for _, leg := range c.legs(rules) {
				got = append(got, plain(s, leg))
			}
			for _, legs := range [][]wantLeg{want, got} {
				slices.SortFunc(legs, compareLegs)
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("%s/%s (-want +got):\n%s", pbx, name, diff)
			}
		}
	}
}

func compareLegs(a, b wantLeg) int {
	return cmp.Or(strings.Compare(a.Call, b.Call), strings.Compare(a.Leg, b.Leg))
}

// checkOrders delivers the events in every order, each with a duplicate that comes a little later.
func checkOrders(t *testing.T, events []callevent.Event, inOrder calls) {
	rules := correlation.DefaultRules()
	text := encode(t, inOrder.legs(rules))
	if derived := encode(t, correlation.Derive(events, rules)); derived != text {
		t.Fatalf("Derive and Call disagree:\n%s\n%s", derived, text)
	}
	if len(events) == 0 {
		return
	}
	rng := rand.New(rand.NewPCG(1, uint64(len(events))))
	for order := range deliveries(len(events), rng) {
		shuffled := calls{}
		for _, i := range order {
			shuffled.add(events[i])
		}
		again := events[rng.IntN(len(events))]
		again.Received = again.Received.Add(seconds(rng.Float64()))
		shuffled.add(again)
		if got := encode(t, shuffled.legs(rules)); got != text {
			t.Fatalf("order %v, then %s once more:\n%s\nwant\n%s", order, again.ID, got, text)
		}
	}
}

// checkLate lets all time pass that the receiver would wait for in the middle of the events.
// Nothing that was shown vanishes.
func checkLate(t *testing.T, events []callevent.Event, inOrder calls) {
	rules := correlation.DefaultRules()
	want := withoutRevisions(inOrder.legs(rules))
	for first := range events {
		c := calls{}
		c.add(events[:first]...)
		c.pass(rules)
		shown := c.legs(rules)
		c.add(events[first:]...)
		c.pass(rules)
		legs := withoutRevisions(c.legs(rules))
		for _, leg := range shown {
			if !slices.ContainsFunc(legs, func(l correlation.Leg) bool { return l.CallID == leg.CallID && l.LegID == leg.LegID }) {
				t.Fatalf("leg %s vanished after event %d", leg.LegID, first)
			}
		}
		for _, leg := range want {
			if leg.Result != correlation.Missed && !slices.ContainsFunc(legs, leg.Same) {
				t.Fatalf("time passed before event %d:\n%+v\nnot in\n%+v", first, leg, legs)
			}
		}
	}
}
