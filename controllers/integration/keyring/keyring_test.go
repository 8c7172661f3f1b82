package keyring_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration/keyring"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func ring(t *testing.T, generations ...int64) eventurl.Ring {
	t.Helper()
	var keys eventurl.Ring
	for _, generation := range generations {
		key, err := eventurl.NewKey(generation, "account")
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

func generations(keys eventurl.Ring) []int64 {
	var list []int64
	for _, key := range keys {
		list = append(list, key.Generation)
	}
	return list
}

func TestDecide(t *testing.T) {
	state := func(keys eventurl.Ring) keyring.State { return keyring.State{Ring: keys, Handled: "a", Made: noon} }
	tests := map[string]struct {
		in          keyring.Input
		want        []int64
		wantChanged bool
		wantAgain   time.Duration
	}{
		"the first key":                           {in: keyring.Input{Requested: "a"}, want: []int64{1}, wantChanged: true},
		"a ring that was lost":                    {in: keyring.Input{Generation: 4}, want: []int64{5}, wantChanged: true},
		"nothing to do":                           {in: keyring.Input{State: state(ring(t, 3)), Requested: "a", Settled: true}, want: []int64{3}},
		"a request":                               {in: keyring.Input{State: state(ring(t, 3)), Requested: "b"}, want: []int64{4, 3}, wantChanged: true},
		"a request during a rotation":             {in: keyring.Input{State: state(ring(t, 4, 3)), Requested: "b"}, want: []int64{5, 4, 3}, wantChanged: true},
		"a ring older than the status":            {in: keyring.Input{State: state(ring(t, 3)), Requested: "b", Generation: 9}, want: []int64{10, 3}, wantChanged: true},
		"a withdrawn request":                     {in: keyring.Input{State: state(ring(t, 3))}, want: []int64{3}, wantChanged: true},
		"mappings have not moved":                 {in: keyring.Input{State: state(ring(t, 4, 3)), Requested: "a", Now: noon.Add(time.Hour)}, want: []int64{4, 3}},
		"mappings have moved, events may be late": {in: keyring.Input{State: state(ring(t, 4, 3)), Requested: "a", Settled: true, Now: noon.Add(20 * time.Second)}, want: []int64{4, 3}, wantAgain: 40 * time.Second},
		"by hand, the old key stays":              {in: keyring.Input{State: state(ring(t, 4, 3)), Requested: "a", Settled: true, ByHand: true, Generation: 4, Now: noon.Add(1000 * time.Hour)}, want: []int64{4, 3}},
		"by hand, until the next rotation":        {in: keyring.Input{State: state(ring(t, 4, 3)), Requested: "b", Settled: true, ByHand: true, Generation: 4}, want: []int64{5, 4}, wantChanged: true},
		"by hand, a key that nobody was told of":  {in: keyring.Input{State: state(ring(t, 4, 3)), Requested: "b", Settled: true, ByHand: true, Generation: 3}, want: []int64{5, 3}, wantChanged: true},
		"by hand, the first key":                  {in: keyring.Input{Requested: "a", ByHand: true}, want: []int64{1}, wantChanged: true},
		"mappings have moved for good":            {in: keyring.Input{State: state(ring(t, 4, 3, 2)), Requested: "a", Settled: true, Now: noon.Add(time.Minute)}, want: []int64{4}, wantChanged: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(tc.in.Ring)
			plan, err := keyring.Decide(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if got := generations(plan.Ring); !slices.Equal(got, tc.want) || plan.Changed != tc.wantChanged || plan.Again != tc.wantAgain {
				t.Errorf("plan: keys %v changed %v again %v, want %v %v %v",
					got, plan.Changed, plan.Again, tc.want, tc.wantChanged, tc.wantAgain)
			}
			if plan.Changed && len(tc.in.Ring) > 0 && plan.Handled != tc.in.Requested {
				t.Errorf("the request %q would be carried out again: handled %q", tc.in.Requested, plan.Handled)
			}
			for i, key := range before {
				if tc.in.Ring[i].Token(eventurl.Account("x")) != key.Token(eventurl.Account("x")) {
					t.Error("the ring that was given has changed")
				}
			}
		})
	}
}

// However requests, losses and moves follow each other: generations grow, and a key that a
// registration uses is never dropped.
func TestNoKeyIsDroppedWhileInUse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var state keyring.State
		var generation, used int64
		now := noon
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 120).Draw(t, "seconds")) * time.Second)
			if used == 0 || rapid.Bool().Draw(t, "move") {
				used = generation
			}
			plan, err := keyring.Decide(keyring.Input{
				State: state, Generation: generation, Now: now, Settled: used == generation,
				Requested: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "request"),
			})
			if err != nil {
				t.Fatal(err)
			}
			if plan.Ring.Current().Generation < generation {
				t.Fatalf("generation falls from %d to %d", generation, plan.Ring.Current().Generation)
			}
			if used > 0 && !slices.ContainsFunc(plan.Ring, func(key eventurl.Key) bool { return key.Generation == used }) {
				t.Fatalf("key %d is in use, but the ring holds %v", used, generations(plan.Ring))
			}
			state, generation = plan.State, plan.Ring.Current().Generation
		}
	})
}

// However requests and waits follow each other: there are two keys at most, and both that of the
// URL which an administrator was last told to enter and, until the next request, the one before it
// are among them.
func TestByHandTheLastURLWorks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var state keyring.State
		var told, before int64
		now := noon
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 120).Draw(t, "seconds")) * time.Second)
			in := keyring.Input{
				State: state, Generation: told, Now: now, ByHand: true, Settled: rapid.Bool().Draw(t, "settled"),
				Requested: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "request"),
			}
			plan, err := keyring.Decide(in)
			if err != nil {
				t.Fatal(err)
			}
			if plan.Changed {
				before = 0
			}
			held := generations(plan.Ring)
			if len(held) > 2 || told > 0 && !slices.Contains(held, told) || before > 0 && !slices.Contains(held, before) {
				t.Fatalf("the administrator was told of key %d, and of %d before; the ring holds %v", told, before, held)
			}
			state = plan.State
			if next, _ := state.InForce(told, now); next != told {
				told, before = next, told
			}
		}
	})
}

func TestSettled(t *testing.T) {
	mapping := func(observed int64, events *int32, key int64) v1alpha1.ExtensionMapping {
		m := v1alpha1.ExtensionMapping{}
		m.Generation = 2
		m.Status = v1alpha1.ExtensionMappingStatus{ObservedGeneration: observed, RegisteredEvents: events, KeyGeneration: key}
		return m
	}
	none, four := new(int32), new(int32)
	*four = 4
	for name, tc := range map[string]struct {
		mapping v1alpha1.ExtensionMapping
		want    bool
	}{
		"moved":                  {mapping(2, four, 3), true},
		"not moved":              {mapping(2, four, 2), false},
		"nothing registered":     {mapping(2, none, 0), true},
		"unknown":                {mapping(2, nil, 3), false},
		"spec not yet looked at": {mapping(1, four, 3), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := keyring.Settled([]v1alpha1.ExtensionMapping{mapping(2, four, 3), tc.mapping}, 3); got != tc.want {
				t.Errorf("Settled = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestInForce(t *testing.T) {
	made := noon
	for name, tc := range map[string]struct {
		ring  eventurl.Ring
		soFar int64
		now   time.Time
		want  int64
		again time.Duration
	}{
		"the first key at once":                      {ring: ring(t, 1), now: made, want: 1},
		"the old key while the new one is announced": {ring: ring(t, 2, 1), soFar: 1, now: made.Add(3 * time.Second), want: 1, again: 7 * time.Second},
		"the new key afterwards":                     {ring: ring(t, 2, 1), soFar: 1, now: made.Add(10 * time.Second), want: 2},
		"no way back":                                {ring: ring(t, 2, 1), soFar: 2, now: made, want: 2},
		"a key that was lost":                        {ring: ring(t, 5), soFar: 4, now: made, want: 5},
		"a rotation during a rotation":               {ring: ring(t, 3, 2, 1), soFar: 1, now: made, want: 1, again: 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			got, again := keyring.State{Ring: tc.ring, Made: made}.InForce(tc.soFar, tc.now)
			if got != tc.want || again != tc.again {
				t.Errorf("generation %d, again in %s; want %d, %s", got, again, tc.want, tc.again)
			}
		})
	}
}

// early is the ring of an early version.
func early(t *testing.T, generations ...int64) eventurl.Ring {
	t.Helper()
	keys := ring(t, generations...)
	for i := range keys {
		keys[i] = keys[i].FromUIDs()
	}
	return keys
}

func TestRingsOfEarlyVersions(t *testing.T) {
	mapping, account := eventurl.Mapping("ann", "u1"), eventurl.Account("u0")
	for name, tc := range map[string]struct {
		byHand, known bool
		requested     string
		want          []int64
		// fromNames tells that the tokens of mappings are made from names, sameAccount that the URL
		// of the account stays.
		fromNames, sameAccount bool
	}{
		"receivers that know no names":            {want: []int64{1}, sameAccount: true},
		"a rotation with such receivers":          {requested: "now", want: []int64{2, 1}},
		"receivers that know names":               {known: true, want: []int64{2, 1}, fromNames: true},
		"by hand, receivers that know no names":   {byHand: true, want: []int64{1}, sameAccount: true},
		"by hand, the URL is not worth a new key": {byHand: true, known: true, want: []int64{1}, sameAccount: true},
		"by hand, a rotation":                     {byHand: true, known: true, requested: "now", want: []int64{2, 1}, fromNames: true},
	} {
		t.Run(name, func(t *testing.T) {
			before := early(t, 1)
			in := keyring.Input{
				State: keyring.State{Ring: before, Made: noon}, Generation: 1, Requested: tc.requested, ByHand: tc.byHand, NamesKnown: tc.known,
				Account: "u0", Now: noon.Add(time.Hour),
			}
			plan, err := keyring.Decide(in)
			if err != nil {
				t.Fatal(err)
			}
			if got := generations(plan.Ring); !slices.Equal(got, tc.want) || plan.Lost {
				t.Fatalf("keys %v (lost: %v), want %v", got, plan.Lost, tc.want)
			}
			same := plan.Ring.Current().Token(mapping) == plan.Ring.Current().Token(eventurl.Mapping("ann", "another"))
			if same != tc.fromNames {
				t.Errorf("tokens of mappings come from names: %v, want %v", same, tc.fromNames)
			}
			if kept := plan.Ring.Current().Token(account) == before.Current().Token(account); kept != tc.sameAccount {
				t.Errorf("the URL of the account stays: %v, want %v", kept, tc.sameAccount)
			}
			for _, source := range []eventurl.Source{mapping, account} {
				if !slices.Contains(plan.Ring.Tokens(source), before.Current().Token(source)) {
					t.Error("a token that registrations carry is not known any more")
				}
			}
			read, err := eventurl.ParseRing(plan.Ring.Data())
			if err != nil || read.Current().Token(mapping) != plan.Ring.Current().Token(mapping) ||
				!slices.Equal(read.Tokens(account), plan.Ring.Tokens(account)) {
				t.Errorf("the Secret holds another ring: %v", err)
			}
			in.State, in.Requested = keyring.State{Ring: read, Made: noon, Handled: tc.requested}, tc.requested
			if again, err := keyring.Decide(in); err != nil || again.Changed {
				t.Errorf("there is no end of it: %v, %v", again.Changed, err)
			}
		})
	}
}

// A ring without the key in force is another ring: lost and made anew, or an older copy.
func TestLost(t *testing.T) {
	for name, tc := range map[string]struct {
		ring       eventurl.Ring
		generation int64
		want       bool
	}{
		"the first ring":                {nil, 0, false},
		"none where one was":            {nil, 3, true},
		"made anew by a pass that died": {ring(t, 4), 3, true},
		"an older copy":                 {ring(t, 2), 3, true},
		"the same":                      {ring(t, 3), 3, false},
		"a rotation":                    {ring(t, 4, 3), 3, false},
		"of a former integration":       {ring(t, 4), 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := keyring.Decide(keyring.Input{State: keyring.State{Ring: tc.ring, Made: noon}, Generation: tc.generation, Now: noon})
			if err != nil || plan.Lost != tc.want {
				t.Errorf("Lost = %v (%v), want %v", plan.Lost, err, tc.want)
			}
		})
	}
}

func TestARequestThatWasWithdrawnMayComeAgain(t *testing.T) {
	state := keyring.State{Ring: ring(t, 1), Handled: "now", Made: noon}
	for _, step := range []struct {
		requested string
		want      int64
	}{{"", 1}, {"now", 2}, {"now", 2}} {
		plan, err := keyring.Decide(keyring.Input{State: state, Generation: 1, Requested: step.requested, Now: noon})
		if err != nil {
			t.Fatal(err)
		}
		if got := plan.Ring.Current().Generation; got != step.want {
			t.Fatalf("%q makes generation %d the newest, want %d", step.requested, got, step.want)
		}
		state = plan.State
	}
}
