package scenario_test

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

var start = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

func all(t testing.TB) []scenario.Scenario {
	t.Helper()
	list, err := scenario.All("ringme")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func play(t testing.TB, name string) []scenario.Notification {
	t.Helper()
	s, err := scenario.Find("ringme", name)
	if err != nil {
		t.Fatal(err)
	}
	return s.Play("seed", start)
}

// outline is one line per event, in the terms of the reference's tables; ids are given back their
// symbols.
func outline(list []scenario.Notification) []string {
	symbols := map[string]string{}
	for _, s := range []string{"C1", "C2", "L1", "L2", "L3", "L4", "L5", "L6", "R1", "R2", "B1"} {
		symbols[scenario.ID("seed", s)] = s
	}
	hex := regexp.MustCompile(`[0-9a-f]{32}`)
	var out []string
	for _, n := range list {
		line := []string{strconv.FormatFloat(n.Offset.Seconds(), 'f', 1, 64), n.Sender.Number, n.EventType}
		for _, p := range []string{
			"CallStatus", "CallID", "SubCallID", "CallerIDNum", "CallerExtensionID", "CalledNumber", "CalledExtensionID",
			"RemoteNumber", "CalledDID", "Duration", "RecID", "Bridged",
			"Transfered", //nolint:misspell // spelt so on the wire
			"CallBackID",
		} {
			if v := n.Params.Get(p); v != "" {
				line = append(line, hex.ReplaceAllStringFunc(v, func(id string) string { return symbols[id] }))
			} else {
				line = append(line, "-")
			}
		}
		out = append(out, strings.Join(line, " "))
	}
	return out
}

// The events of some scenarios, row by row as the RingMe reference lists them in section 11.
func TestScenariosSayWhatTheReferenceSays(t *testing.T) {
	for name, want := range map[string][]string{
		"S1": {
			"0.0 1234*101 dial-in CALLING C1 5101-C1 +12025550143 - 1234*101 5101 - 12025550100 - - - - -",
			"6.0 1234*101 answer ANSWER C1 5101-C1 +12025550143 - 1234*101 5101 - 12025550100 - - - - -",
			"66.0 1234*101 hangup ANSWER C1 5101-C1 +12025550143 - 1234*101 5101 - 12025550100 60000000 5101-R1 - - -",
		},
		"S3b": {
			"0.0 1234*099 dial-in CALLING C1 5099-C1 +12025550143 - 1234*099 5099 - 12025550100 - - - - -",
			"45.0 1234*099 hangup ANSWER C1 5099-C1 +12025550143 - 1234*099 5099 - 12025550100 - - no - -",
		},
		"S4": {
			"0.0 1234*101 dial-out CALLING C1 5101-C1 1234*101 5101 +12025550143 - - - - - - - -",
			"11.9 1234*101 answer ANSWER C1 5101-C1 1234*101 5101 +12025550143 - - - - - - - -",
			"23.3 1234*101 hangup ANSWER C1 5101-C1 1234*101 5101 +12025550143 - - - 11400000 5101-R1 - - -",
		},
		"S7-forwarding": {
			"0.0 1234*101 dial-in CALLING C1 5101-C1 +12025550143 - 1234*101 5101 - 12025550100 - - - - -",
			"6.0 1234*101 answer ANSWER C1 5101-C1 +12025550143 - 1234*101 5101 - 12025550100 - - - - -",
			"30.0 1234*101 hangup ANSWER C1 5101-C1 +12025550143 - 1234*101 5101 - 12025550100 24000000 5101-R1 - - -",
			"30.0 1234*102 dial-in CALLING C1 5102-L2 1234*101 5101 1234*102 5102 +12025550143 12025550100 - - - - -",
			"30.0 1234*101 dial-out CALLING C1 5101-L3 1234*101 5101 1234*102 5102 - - - - - yes -",
			"35.0 1234*102 answer ANSWER C1 5102-L2 1234*101 5101 1234*102 5102 - 12025550100 - - - - -",
			"35.0 1234*101 answer ANSWER C1 5101-L3 1234*101 5101 1234*102 5102 - - - - - yes -",
			"95.0 1234*102 hangup ANSWER C1 5102-L2 1234*101 5101 1234*102 5102 - 12025550100 60000000 5102-R2 - - -",
			"95.0 1234*101 hangup ANSWER C1 5101-L3 1234*101 5101 1234*102 5102 - - 60000000 - - yes -",
		},
		"S12b": {
			"0.0 1234*101 dial-out CALLING C1 5101-C1 1234*101 5101 +12025550143 - - - - - - - B1",
			"9.0 1234*101 answer ANSWER C1 5101-C1 1234*101 5101 +12025550143 - - - - - - - B1",
			"9.1 1234*099 dial-in CALLING C1 5099-L2 +12025550143 - 1234*099 5099 - - - - - - -",
			"15.0 1234*900 dial-in CALLING C1 5900-L3 +12025550143 5099 1234*900 5900 - - - - - - -",
			"15.1 1234*102 dial-in CALLING C1 5102-L4 +12025550143 5900 1234*102 5102 - - - - - - B1",
			"45.0 1234*102 hangup CANCEL C1 5102-L4 +12025550143 5900 1234*102 5102 - - 0 - - - B1",
			"45.0 1234*099 hangup ANSWER C1 5099-L2 +12025550143 - 1234*099 5099 - - - - no - -",
			"45.0 1234*900 hangup ANSWER C1 5900-L3 +12025550143 5099 1234*900 5900 - - - - no - -",
			"45.2 1234*101 hangup ANSWER C1 5101-C1 1234*101 5101 +12025550143 - - - 36200000 - - - B1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(want, outline(play(t, name))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNamesAreUniqueAndEveryFamilyIsThere(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range all(t) {
		if seen[s.Name] || s.Title == "" {
			t.Errorf("%s: name taken, or no title", s.Name)
		}
		seen[s.Name] = true
	}
	for _, name := range []string{
		"S1", "S2", "S3", "S3b", "S3c", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12a", "S12b", "S13", "S14", "S15",
	} {
		if !seen[name] {
			t.Errorf("no scenario %s", name)
		}
	}
}

// Parameters that belong to one event; all others must be the same on every event of a leg.
var ofOneEvent = []string{
	"EventType", "EventTime", "CallStatus", "Duration", "BridgedDuration", "RecID", "Bridged", "RemoteNumber",
}

// canonical undoes a scenario's own spelling of parameter names.
func canonical(n scenario.Notification) map[string]string {
	out := map[string]string{}
	for name, v := range n.Params {
		for _, known := range ofOneEvent {
			if strings.EqualFold(known, name) {
				name = known
			}
		}
		out[name] = v[0]
	}
	return out
}

func TestEventsOfALegRepeatItsIdentity(t *testing.T) {
	for _, s := range all(t) {
		identity := map[string]map[string]string{}
		for _, n := range s.Play("seed", start) {
			if n.LegID == "" {
				continue
			}
			own := canonical(n)
			maps.DeleteFunc(own, func(name, _ string) bool { return slices.Contains(ofOneEvent, name) })
			if first, ok := identity[n.LegID]; !ok {
				identity[n.LegID] = own
			} else if diff := cmp.Diff(first, own); diff != "" {
				t.Errorf("%s: %s of leg %s: %s", s.Name, n.EventType, n.LegID, diff)
			}
		}
	}
}

func TestEventTimesAreThoseOfTheSchedule(t *testing.T) {
	for _, s := range all(t) {
		latest := map[string]time.Time{}
		for _, n := range s.Play("seed", start) {
			if n.At.Before(latest[n.Sender.ID]) {
				t.Errorf("%s: events of %s go back in time", s.Name, n.Sender.Number)
			}
			latest[n.Sender.ID] = n.At
			if us, ok := canonical(n)["EventTime"]; ok && us != strconv.FormatInt(start.Add(n.Offset).UnixMicro(), 10) {
				t.Errorf("%s: EventTime %s at offset %s", s.Name, us, n.Offset)
			}
		}
	}
}

// Duration is the time from answer to hangup, to the microsecond. The scenarios whose point is
// another Duration say so.
func TestDurationIsTalkTime(t *testing.T) {
	for _, s := range all(t) {
		if strings.HasSuffix(s.Name, "-duration") {
			continue
		}
		for _, l := range scenario.Legs(s.Play("seed", start)) {
			if l.Hangup == nil {
				t.Errorf("%s: a leg of %s never ends", s.Name, l.Sender.Number)
				continue
			}
			want := "0"
			if l.Answer != nil {
				want = strconv.FormatInt(l.Hangup.At.Sub(l.Answer.At).Microseconds(), 10)
			}
			if got, ok := canonical(*l.Hangup)["Duration"]; ok && got != want {
				t.Errorf("%s: Duration %s of %s, want %s", s.Name, got, l.Sender.Number, want)
			}
		}
	}
}

func TestIdentifiersComeFromTheSeed(t *testing.T) {
	list := all(t)
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(list).Draw(t, "scenario")
		a, b := rapid.String().Draw(t, "seed"), rapid.String().Draw(t, "another seed")
		if diff := cmp.Diff(s.Play(a, start), s.Play(a, start)); diff != "" {
			t.Fatal(diff)
		}
		if a == b {
			return
		}
		taken := map[string]bool{}
		for _, n := range s.Play(a, start) {
			taken[n.CallID], taken[n.LegID] = true, true
		}
		for _, n := range s.Play(b, start) {
			if n.CallID != "" && (taken[n.CallID] || taken[n.LegID]) {
				t.Fatalf("%s: seeds %q and %q share ids", s.Name, a, b)
			}
		}
	})
}

func TestCallIDs(t *testing.T) {
	for _, s := range all(t) {
		var want []string
		for _, n := range s.Play("seed", start) {
			if n.CallID != "" && !slices.Contains(want, n.CallID) {
				want = append(want, n.CallID)
			}
		}
		if diff := cmp.Diff(want, s.CallIDs("seed")); diff != "" {
			t.Errorf("%s: %s", s.Name, diff)
		}
	}
}

func TestVariantsLeaveTheirBaseAlone(t *testing.T) {
	for name, want := range map[string]string{"S1": "60000000", "S7": "60000000", "S12a": "71500000"} {
		list := play(t, name)
		if got := list[len(list)-1].Params.Get("Duration"); got != want {
			t.Errorf("%s: Duration %s, want %s", name, got, want)
		}
	}
}

func TestWithCast(t *testing.T) {
	s, err := scenario.Find("ringme", "S2")
	if err != nil {
		t.Fatal(err)
	}
	agent := scenario.Extension{Number: "77*205", ID: "42", Type: scenario.Phone, Domain: "sip.example.net"}
	cast := scenario.Cast{
		Extensions: map[string]scenario.Extension{"101": agent},
		Values:     map[string]string{"customer": "+12025550199"},
	}
	for _, n := range s.Play("seed", start, scenario.WithCast(cast)) {
		if n.EventType != "answer" || n.Sender != agent {
			continue
		}
		want := []string{"77*205", "77*205@sip.example.net", "42", "+12025550199", "5900"}
		var got []string
		for _, p := range []string{"CalledNumber", "CalledExtension", "CalledExtensionID", "CallerIDNum", "CallerExtensionID"} {
			got = append(got, n.Params.Get(p))
		}
		if diff := cmp.Diff(want, got); diff != "" || !strings.HasPrefix(n.LegID, "42-") {
			t.Errorf("leg %s: %s", n.LegID, diff)
		}
		return
	}
	t.Error("205 did not answer")
}

func TestDrop(t *testing.T) {
	emitted := play(t, "S2")[:4] // IVR, queue and phone 101 are up; 101 rings
	at := start.Add(10 * time.Second)
	got := map[string]string{}
	for _, n := range scenario.Drop(emitted, at) {
		got[n.Sender.Number+" "+n.Params.Get("CallFlow")] = n.Params.Get("CallStatus") + n.Params.Get("Bridged")
	}
	want := map[string]string{
		"1234*099 in": "ANSWERno", "1234*900 in": "ANSWERno", "1234*900 out": "CANCEL", "1234*101 in": "CANCEL",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	answered := scenario.Drop(play(t, "S2")[:6], start.Add(20*time.Second))
	for _, n := range answered {
		if n.Sender.Type == scenario.Phone && n.Params.Get("Duration") != "6000000" {
			t.Errorf("Duration %s after six seconds of talk", n.Params.Get("Duration"))
		}
		if n.Sender.Type == scenario.IVR && n.Params.Get("Bridged") != "yes" {
			t.Error("the IVR does not know that a phone took the call")
		}
	}
	if left := scenario.Drop(play(t, "S2"), at); len(left) != 0 {
		t.Errorf("a finished call still hangs up: %v", left)
	}
}

func TestUnknownNames(t *testing.T) {
	if _, err := scenario.All("nope"); err == nil || !strings.Contains(err.Error(), "ringme") {
		t.Errorf("unknown PBX: %v", err)
	}
	if _, err := scenario.Find("ringme", "S99"); err == nil {
		t.Error("unknown scenario found")
	}
}
