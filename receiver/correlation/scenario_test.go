package correlation_test

import (
	"cmp"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"sigs.k8s.io/yaml"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/ringme"
)

const seed = "correlation"

var start = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

// registration says which of the emitted events the receiver gets.
type registration string

const (
	usual registration = "usual" // phones all four, IVRs and queues hangup only
	full  registration = "full"  // everything that the PBX emits
)

func (r registration) wants(n scenario.Notification) bool {
	return r == full || n.Sender.Type == scenario.Phone || n.EventType == "hangup"
}

var users = map[string]string{"1234*101": "ann", "1234*102": "ben", "1234*103": "cleo"}

// received plays a scenario to the dialect.
func received(t testing.TB, s scenario.Scenario, r registration) []callevent.Event {
	t.Helper()
	var events []callevent.Event
	for _, n := range s.Play(seed, start) {
		if r.wants(n) {
			events = append(events, decode(t, n)...)
		}
	}
	return events
}

func decode(t testing.TB, n scenario.Notification) []callevent.Event {
	t.Helper()
	events, err := ringme.Dialect{}.Decode(callevent.Request{
		ReceivedAt: n.At,
		Source: callevent.Source{
			Type: callevent.SourceType(n.Sender.Type), Number: n.Sender.Number, ID: n.Sender.ID, User: users[n.Sender.Number],
		},
		Method: "POST", ContentType: "application/x-www-form-urlencoded", Body: n.Form(),
	})
	if err != nil {
		t.Fatalf("decode %s: %v", n.Params.Encode(), err)
	}
	return events
}

// wantLeg is one leg in a file of expectations.
type wantLeg struct {
	Call        string                `json:"call"`
	Leg         string                `json:"leg"`
	Parent      string                `json:"parent"`
	Kind        correlation.Kind      `json:"kind"`
	Direction   correlation.Direction `json:"direction"`
	From        string                `json:"from"`
	FromName    string                `json:"fromName"`
	To          string                `json:"to"`
	DID         string                `json:"did"`
	Extension   string                `json:"extension"`
	User        string                `json:"user"`
	Phase       correlation.Phase     `json:"phase"`
	Result      correlation.Result    `json:"result"`
	Logged      bool                  `json:"logged"`
	Start       *float64              `json:"start"`
	FullStart   *float64              `json:"fullStart"`
	Answer      *float64              `json:"answer"`
	End         *float64              `json:"end"`
	Talk        float64               `json:"talk"`
	Transferred bool                  `json:"transferred"`
	CallBack    string                `json:"callBack"`
	Control     string                `json:"control"`
	Recording   string                `json:"recording"`
	Attributes  map[string]string     `json:"attributes"`
}

func (w wantLeg) leg(s scenario.Scenario, r registration) correlation.Leg {
	call := cmp.Or(w.Call, "C1")
	leg := correlation.Leg{
		CallID: scenario.ID(seed, call), LegID: identifier(w.Leg), ParentLegID: identifier(w.Parent),
		Kind: cmp.Or(w.Kind, correlation.Extension), Direction: w.Direction,
		From: w.From, FromName: w.FromName, To: w.To, DID: w.DID, Extension: w.Extension, User: w.User,
		Phase: cmp.Or(w.Phase, correlation.Completed), Result: w.Result, Logged: w.Logged,
		Start: moment(w.Start), Answer: moment(w.Answer), End: moment(w.End), Talk: seconds(w.Talk),
		Transferred: w.Transferred, Attributes: expanded(w.Attributes), CallBackID: identifier(w.CallBack), RecordingID: identifier(w.Recording),
		ControlID: "1000000001-" + dashed(scenario.ID(seed, cmp.Or(w.Control, call))),
	}
	if r == full && w.FullStart != nil {
		leg.Start = moment(w.FullStart)
	}
	leg.Events = emitted(s, r, leg)
	return leg
}

// expanded replaces symbols in what the leg must show.
func expanded(attributes map[string]string) map[string]string {
	var shown map[string]string
	for name, value := range attributes {
		if shown == nil {
			shown = map[string]string{}
		}
		shown[name] = strings.ReplaceAll(value, "$C1", scenario.ID(seed, "C1"))
	}
	return shown
}

// emitted are the events that the leg must show: those with its id, or of a caller's leg those of
// the IVRs and queues about him.
func emitted(s scenario.Scenario, r registration, leg correlation.Leg) []correlation.LegEvent {
	var events []correlation.LegEvent
	for _, n := range s.Play(seed, start) {
		about := n.LegID == leg.LegID
		if leg.Kind != correlation.Extension {
			about = n.CallID == leg.CallID && n.Sender.Type != scenario.Phone && !strings.EqualFold(n.Params.Get("CallFlow"), "out")
		}
		if about && r.wants(n) && wireTypes[n.EventType] != "" {
			events = append(events, correlation.LegEvent{Type: wireTypes[n.EventType], Time: n.At, Status: status(n)})
		}
	}
	// Of the same moment: dial, answer, hangup.
	phase := []callevent.Type{callevent.DialIn, callevent.DialOut, callevent.Answer, callevent.Hangup}
	slices.SortStableFunc(events, func(a, b correlation.LegEvent) int {
		return cmp.Or(a.Time.Compare(b.Time), slices.Index(phase, a.Type)-slices.Index(phase, b.Type))
	})
	return events
}

var wireTypes = map[string]callevent.Type{
	"dial-in": callevent.DialIn, "dial-out": callevent.DialOut, "answer": callevent.Answer, "hangup": callevent.Hangup,
}

func status(n scenario.Notification) string {
	return cmp.Or(n.Params.Get("CallStatus"), n.Params.Get("callstatus"))
}

// identifier replaces the symbol at the end of an id: 5101-C1, C1.
func identifier(id string) string {
	if id == "" {
		return ""
	}
	i := strings.LastIndex(id, "-") + 1
	return id[:i] + scenario.ID(seed, id[i:])
}

func dashed(id string) string {
	return strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
}

func moment(at *float64) time.Time {
	if at == nil {
		return time.Time{}
	}
	return start.Add(seconds(*at))
}

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Microsecond)
}

// expectations reads what was written down by hand.
func expectations(t testing.TB, folder string) map[string][]wantLeg {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no expectations in %s: %v", folder, err)
	}
	all := map[string][]wantLeg{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, &all, yaml.DisallowUnknownFields); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	return all
}

// asWritten leaves out what the files do not tell.
var asWritten = cmpopts.IgnoreFields(correlation.Leg{}, "Attributes")

func wantLegs(s scenario.Scenario, r registration, want []wantLeg) []correlation.Leg {
	legs := make([]correlation.Leg, 0, len(want))
	for _, w := range want {
		legs = append(legs, w.leg(s, r))
	}
	slices.SortFunc(legs, correlation.Compare)
	return legs
}

func scenarios(t testing.TB) []scenario.Scenario {
	t.Helper()
	all, err := scenario.All("ringme")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// calls is what the receiver keeps.
type calls map[string]*correlation.Call

func (c calls) add(events ...callevent.Event) {
	for _, e := range events {
		if e.CallID == "" {
			continue
		}
		if c[e.CallID] == nil {
			c[e.CallID] = &correlation.Call{}
		}
		c[e.CallID].Add(e)
	}
}

// pass lets time go by until nothing waits for it any longer, and returns the ticks.
func (c calls) pass(rules correlation.Rules) []callevent.Event {
	var ticks []callevent.Event
	for _, call := range c {
		for tick := call.Outcome(rules).Tick; tick != nil; tick = call.Outcome(rules).Tick {
			call.Add(tick.Event())
			ticks = append(ticks, tick.Event())
		}
	}
	return ticks
}

func (c calls) legs(rules correlation.Rules) []correlation.Leg {
	legs := []correlation.Leg{}
	for _, call := range c {
		legs = append(legs, call.Outcome(rules).Legs...)
	}
	slices.SortFunc(legs, correlation.Compare)
	return legs
}

func withoutRevisions(legs []correlation.Leg) []correlation.Leg {
	legs = slices.Clone(legs)
	for i := range legs {
		legs[i].Revision = 0
	}
	return legs
}

func encode(t testing.TB, legs []correlation.Leg) string {
	t.Helper()
	text, err := json.Marshal(legs)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestScenarios(t *testing.T) {
	t.Parallel()
	want := expectations(t, "ringme")
	for _, s := range scenarios(t) {
		legs, ok := want[s.Name]
		if !ok {
			t.Errorf("no expectation for scenario %s", s.Name)
		}
		for _, r := range []registration{usual, full} {
			t.Run(s.Name+"/"+string(r), func(t *testing.T) {
				t.Parallel()
				checkScenario(t, s, r, wantLegs(s, r, legs))
			})
		}
	}
}

// checkScenario delivers the events of a scenario in every order, or in many, with duplicates.
func checkScenario(t *testing.T, s scenario.Scenario, r registration, want []correlation.Leg) {
	rules := correlation.DefaultRules()
	inOrder := calls{}
	events := received(t, s, r)
	inOrder.add(events...)
	events = append(events, inOrder.pass(rules)...)
	got := inOrder.legs(rules)
	if diff := gocmp.Diff(want, withoutRevisions(got), asWritten); diff != "" {
		t.Fatalf("legs (-want +got):\n%s", diff)
	}
	text := encode(t, got)
	if derived := encode(t, correlation.Derive(events, rules)); derived != text {
		t.Fatalf("Derive and Call disagree:\n%s\n%s", derived, text)
	}
	rng := rand.New(rand.NewPCG(1, uint64(len(events))))
	orders := 0
	for order := range deliveries(len(events), rng) {
		orders++
		shuffled := calls{}
		for _, i := range order {
			shuffled.add(events[i])
		}
		shuffled.add(events[rng.IntN(len(events))]) // once more
		if again := encode(t, shuffled.legs(rules)); again != text {
			t.Fatalf("order %v:\n%s\nwant\n%s", order, again, text)
		}
	}
	t.Logf("%d events, %d orders", len(events), orders)
}

// deliveries are all orders of up to six events, or as many random ones of more, with duplicates.
// Which orders are drawn does not matter: the scenarios are many, and the property tests draw
// others in each run.
func deliveries(n int, rng *rand.Rand) func(yield func([]int) bool) {
	if n <= 6 {
		return permutations(n)
	}
	return func(yield func([]int) bool) {
		for range 720 {
			order := append(rng.Perm(n), rng.Perm(n)[:n/2]...)
			rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			if !yield(order) {
				return
			}
		}
	}
}

// permutations is Heap's algorithm.
func permutations(n int) func(yield func([]int) bool) {
	return func(yield func([]int) bool) {
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		if n == 0 || !yield(order) {
			return
		}
		count := make([]int, n)
		for i := 0; i < n; {
			if count[i] == i {
				count[i] = 0
				i++
				continue
			}
			j := 0
			if i%2 == 1 {
				j = count[i]
			}
			order[i], order[j] = order[j], order[i]
			if !yield(order) {
				return
			}
			count[i]++
			i = 0
		}
	}
}

// TestLateEvents delivers a part of the events, lets all time pass that the receiver would wait
// for, and delivers the rest.
func TestLateEvents(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	want := expectations(t, "ringme")
	rng := rand.New(rand.NewPCG(2, 3))
	for _, s := range scenarios(t) {
		expected := wantLegs(s, usual, want[s.Name])
		events := received(t, s, usual)
		for range 40 {
			order := rng.Perm(len(events))
			for first := range events {
				c := calls{}
				for i, at := range order {
					if i == first {
						c.pass(rules)
					}
					c.add(events[at])
				}
				c.pass(rules)
				if diff := gocmp.Diff(expected, withoutRevisions(c.legs(rules)), asWritten); diff != "" {
					t.Fatalf("%s, time passed after %v of %v (-want +got):\n%s", s.Name, order[:first], order, diff)
				}
			}
		}
	}
}

func TestScopeAll(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	rules.Scope = correlation.ScopeAll
	for name, legs := range expectations(t, "ringme-all") {
		s, err := scenario.Find("ringme", name)
		if err != nil {
			t.Fatal(err)
		}
		c := calls{}
		c.add(received(t, s, usual)...)
		if diff := gocmp.Diff(wantLegs(s, usual, legs), withoutRevisions(c.legs(rules)), asWritten); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
