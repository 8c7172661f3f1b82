package correlation_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/ringme"
)

// report is a trace as users of such PBXs report it, and the legs that must come of it.
type report struct {
	PBX string `json:"pbx"`
	// Senders are who sends the events of each leg: type, number, id.
	Senders map[string]string `json:"senders"`
	// Legs are the parameters that all events of a leg have. Callable: JSON members.
	Legs   map[string]string `json:"legs"`
	Events []reported        `json:"events"`
	Want   []string          `json:"want"`
	// Withdrawn tells that a leg is shown that turns out to be none.
	Withdrawn bool `json:"withdrawn"`
}

// reported is one event. Its parameters may have {ts}, {us} and {ms}: its own time, at, as the PBXs
// write it.
type reported struct {
	At       float64 `json:"at"`
	Received float64 `json:"received"` // default: at once where the event has no time of its own, else 50 ms later
	Leg      string  `json:"leg"`
	Path     string  `json:"path"`
	Set      string  `json:"set"`
}

func (r reported) request(of report, name string) callevent.Request {
	when := at(r.At)
	text := strings.NewReplacer("{ts}", strings.NewReplacer(":", "%3A", "+", "%2B").Replace(when.Format("2006-01-02T15:04:05.000000-07:00")),
		"{us}", strconv.FormatInt(when.UnixMicro(), 10), "{ms}", strconv.FormatInt(when.UnixMilli(), 10)).Replace(r.Set)
	request := callevent.Request{Method: "POST", Path: r.Path, ContentType: "application/x-www-form-urlencoded", ReceivedAt: when}
	switch {
	case r.Received > 0:
		request.ReceivedAt = at(r.Received)
	case text != r.Set:
		request.ReceivedAt = when.Add(50 * time.Millisecond)
	}
	if of.PBX == "callable" {
		request.ContentType, request.Body = "application/json", "{"+strings.Trim(of.Legs[name]+","+text, ",")+"}"
		return request
	}
	request.Body = strings.Trim(of.Legs[name]+"&"+text, "&")
	sender := append(strings.Fields(of.Senders[name]), "", "", "")
	request.Source = callevent.Source{Type: callevent.SourceType(sender[0]), Number: sender[1], ID: sender[2]}
	return request
}

func (r report) decode(t testing.TB) []callevent.Event {
	t.Helper()
	var speaks dialect.Dialect = ringme.Dialect{}
	if y, ok := systems[r.PBX]; ok {
		speaks = y.dialect(t, scenario.Scenario{})
	}
	var events []callevent.Event
	for _, e := range r.Events {
		decoded, err := speaks.Decode(e.request(r, e.Leg))
		if err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		events = append(events, decoded...)
	}
	return events
}

func reports(t testing.TB) map[string]report {
	t.Helper()
	files, err := filepath.Glob("testdata/reports/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no reports: %v", err)
	}
	all := map[string]report{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var of map[string]report
		if err := yaml.Unmarshal(text, &of, yaml.DisallowUnknownFields); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for name, r := range of {
			all[strings.TrimSuffix(filepath.Base(file), ".yaml")+"/"+name] = r
		}
	}
	return all
}

// told is what a report says of a leg.
func told(leg correlation.Leg) string {
	parts := []string{leg.LegID, string(leg.Direction), leg.From + ">" + leg.To, string(leg.Phase)}
	if leg.Phase == correlation.Completed {
		parts[3] = string(leg.Result)
	}
	if leg.Talk > 0 {
		parts = append(parts, fmt.Sprintf("%gs", leg.Talk.Round(100*time.Millisecond).Seconds()))
	}
	if leg.Logged {
		parts = append(parts, "logged")
	}
	if leg.Transferred {
		parts = append(parts, "transferred")
	}
	return strings.Join(parts, " ")
}

// The legs of every report, in any order of its events, and with each of them repeated.
func TestReports(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	rules.Scope = correlation.ScopeAll
	for name, r := range reports(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			events := r.decode(t)
			inOrder := calls{}
			inOrder.add(events...)
			ticks := inOrder.passUnlessOpen(rules)
			var got []string
			for _, leg := range inOrder.legs(rules) {
				got = append(got, told(leg))
				checkTimes(t, leg)
			}
			if diff := gocmp.Diff(r.Want, got); diff != "" {
				t.Fatalf("legs (-want +got):\n%s", diff)
			}
			want := encode(t, inOrder.legs(rules))
			all := append(slices.Clone(events), ticks...)
			rng := rand.New(rand.NewPCG(1, uint64(len(all))))
			for order := range deliveries(len(all), rng) {
				c := calls{}
				for _, i := range order {
					c.add(all[i])
				}
				for _, e := range all {
					if rng.IntN(2) == 0 {
						e.Received = e.Received.Add(1200 * time.Millisecond)
						if e.Repeat > 0 || e.Time.Equal(e.Received) {
							e.Time = e.Received
						}
						c.add(e)
					}
				}
				if got := encode(t, c.legs(rules)); got != want {
					t.Fatalf("order %v:\n%s\nwant\n%s", order, got, want)
				}
			}
			if !r.Withdrawn {
				checkShown(t, events, rules)
			}
		})
	}
}

// passUnlessOpen lets the grace periods pass.
func (c calls) passUnlessOpen(rules correlation.Rules) []callevent.Event {
	rules.MaxDuration = 0
	return c.pass(rules)
}

// checkTimes checks that no leg ends before it was answered or began.
func checkTimes(t interface{ Fatalf(string, ...any) }, leg correlation.Leg) {
	if !leg.Answer.IsZero() && leg.Answer.Before(leg.Start) || !leg.End.IsZero() && (leg.End.Before(leg.Answer) || leg.End.Before(leg.Start)) {
		t.Fatalf("the times of %s run backwards: from %v, answered %v, until %v", leg.LegID, leg.Start, leg.Answer, leg.End)
	}
}

// checkShown hears the events as they are received: no leg that was shown vanishes.
func checkShown(t *testing.T, events []callevent.Event, rules correlation.Rules) {
	events = slices.Clone(events)
	slices.SortStableFunc(events, func(a, b callevent.Event) int { return a.Received.Compare(b.Received) })
	c, shown := calls{}, map[string]int64{}
	for _, e := range events {
		c.add(e)
		legs := c.legs(rules)
		for _, leg := range legs {
			if leg.Revision < shown[leg.LegID] {
				t.Fatalf("%s: revision %d after %d", leg.LegID, leg.Revision, shown[leg.LegID])
			}
			shown[leg.LegID] = leg.Revision
			checkTimes(t, leg)
		}
		if len(legs) < len(shown) {
			t.Fatalf("after %s only these legs are left of %d: %+v", e.ID, len(shown), legs)
		}
	}
}
