package correlation_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// example is what is heard in the example of a rule.
func example(t *testing.T, name string) []callevent.Event {
	t.Helper()
	if r, ok := reports(t)[name]; ok {
		return r.decode(t)
	}
	switch name {
	case "history":
		return post(t, []callhistory.Record{recall("r1", "1234*101", 0, 60, callhistory.NoAnswer)}, callevent.MissedUnsaid)
	case "ringme/answer after the grace period":
		c := calls{}
		c.add(release(callevent.Queue, "1234*900", "Q1", 45, false))
		return append([]callevent.Event{release(callevent.Queue, "1234*900", "Q1", 45, false), answer("1234*101", "L1", 44)},
			c.pass(correlation.DefaultRules())...)
	}
	pbx, scene, _ := strings.Cut(name, "/")
	s, err := scenario.Find(pbx, scene)
	if err != nil {
		t.Fatal(err)
	}
	if pbx == "ringme" {
		return received(t, s, full)
	}
	return systems[pbx].hear(t, s, full)
}

// Every rule applies in its example.
func TestRulesApplyInTheirExamples(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	rules.Scope = correlation.ScopeAll
	for rule, name := range correlation.RuleExamples() {
		events := example(t, name)
		c := calls{}
		c.add(events...)
		if rule != "open" {
			events = append(events, c.pass(rules)...)
		}
		applied := func(d correlation.Decision) bool { return slices.Contains(d.Applied, rule) }
		if decisions := correlation.Explain(events, rules); !slices.ContainsFunc(decisions, applied) {
			t.Errorf("%s does not apply in %s: %+v", rule, name, decisions)
		}
	}
}

// A decision tells the rule that decided, also of a leg that is left out.
func TestExplain(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"linuxbox/pickup then transfer": {"11/1 Answered pickup", "12/1 Answered handed-over"},
		"ringme/S9":                     {"answered-elsewhere", "status-of-hangup", "answered-elsewhere"},
		"ringme/S6":                     {"internal left out", "internal left out"},
		"voipnow/hangup overtakes ring": {"0007*101/In/1 Cancelled status-of-hangup"},
	} {
		var got []string
		decisions := correlation.Explain(example(t, name), correlation.DefaultRules())
		for i, d := range decisions {
			line := d.Rule
			if i < len(want) && strings.Contains(want[i], "/") {
				line = strings.Join([]string{d.LegID, string(d.Result), d.Rule}, " ")
			}
			if !d.Shown {
				line += " left out"
			}
			got = append(got, line)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// Decisions and legs are about the same legs.
func TestExplainTellsOfEveryLeg(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	for name, events := range heard(t) {
		c := calls{}
		c.add(events...)
		events = append(events, c.pass(rules)...)
		shown := map[string]correlation.Result{}
		for _, d := range correlation.Explain(events, rules) {
			if d.Shown {
				shown[d.CallID+" "+d.LegID] = d.Result
			}
		}
		for _, leg := range correlation.Derive(events, rules) {
			key := leg.CallID + " " + leg.LegID
			if result, ok := shown[key]; !ok || result != leg.Result {
				t.Errorf("%s: leg %s is %s, explained as %q", name, key, leg.Result, result)
			}
			delete(shown, key)
		}
		if len(shown) > 0 {
			t.Errorf("%s: legs are explained that are not shown: %v", name, shown)
		}
	}
}

// The table of the package's documentation is that of the rules.
func TestRulesAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	rows := []string{}
	for line := range strings.Lines(string(text)) {
		if row, ok := strings.CutPrefix(line, "//\t"); ok && strings.Count(row, " | ") == 2 {
			rows = append(rows, strings.TrimSpace(row))
		}
	}
	if want := correlation.DocumentedRules(); !slices.Equal(rows, want) {
		t.Errorf("the table in doc.go should read:\n//\t%s", strings.Join(want, "\n//\t"))
	}
}
