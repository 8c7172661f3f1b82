package scenario_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// everything returns the scenarios of the systems beside RingMe.
func everything(t testing.TB) []scenario.Scenario {
	t.Helper()
	var all []scenario.Scenario
	for _, pbx := range []string{"voipnow", "callable", "linuxbox"} {
		list, err := scenario.All(pbx)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, list...)
	}
	return all
}

func find(t testing.TB, pbx, name string) scenario.Scenario {
	t.Helper()
	s, err := scenario.Find(pbx, name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryFamilyOfEverySystemIsThere(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range everything(t) {
		if seen[s.Name] || s.Title == "" {
			t.Errorf("%s: name taken, or no title", s.Name)
		}
		seen[s.Name] = true
	}
	for _, family := range []string{"V", "C", "L"} {
		for n := 1; n <= 12; n++ {
			if name := fmt.Sprintf("%s%d", family, n); !seen[name] {
				t.Errorf("no scenario %s", name)
			}
		}
	}
	for n := 1; n <= 12; n++ {
		for _, form := range []string{"V%d-early", "L%d-b", "L%d-c"} {
			if name := fmt.Sprintf(form, n); !seen[name] {
				t.Errorf("no scenario %s", name)
			}
		}
	}
	if !seen["C2b"] {
		t.Error("no scenario C2b")
	}
}

// row is one event in the terms of the reference's tables; ids are given back their symbols.
func row(s scenario.Scenario, n scenario.Notification, parameters []string) string {
	out := fmt.Sprintf("%g %s%s", n.Offset.Seconds(), strings.TrimPrefix(n.Sender.Number, "0007*"), n.Path)
	for _, p := range parameters {
		out += " " + n.Params.Get(p)
	}
	for _, symbol := range []string{"C1", "C2", "A1"} {
		out = strings.ReplaceAll(out, s.ID("seed", symbol), symbol)
	}
	return strings.ReplaceAll(out, scenario.VoipNowCallAPIID("seed", "A1"), "A1")
}

// The events of some scenarios, row by row as the VoipNow reference lists them in section 9.
func TestVoipNowScenariosSayWhatTheReferenceSays(t *testing.T) {
	parameters := []string{"CallID", "CallStatus", "CallFlow", "CallerIDNum", "CallerExtension", "CalledDID", "CalledExtension", "CalledNumber", "CallAPIID"}
	for name, want := range map[string][]string{
		"V1": {
			"0 101/dial-in C1 CALLING IN 12025550143  12025550100 0007*101 12025550100 ",
			"6 101/answer-in C1 ANSWER IN 12025550143  12025550100 0007*101 12025550100 ",
			"66 101/hangup C1 ANSWER IN 12025550143  12025550100 0007*101 12025550100 ",
		},
		"V1-early": {
			"0 101/dial-in C1 CALLING IN 12025550143  12025550100 0007*101 12025550100 ",
			"66 101/hangup C1 ANSWER IN 12025550143  12025550100 0007*101 12025550100 ",
		},
		"V5-cancel-early": {
			"0 101/dial-out C1 CALLING OUT 12025550100 0007*101   12025550143 ",
			"9 101/hangup C1 UNKNOWN OUT 12025550100 0007*101   12025550143 ",
		},
		"V6": {
			"0 101/dial-out C1 CALLING OUT 0007*101 0007*101  0007*102 102 ",
			"0 102/dial-in C1 CALLING IN 0007*101 0007*101  0007*102 102 ",
			"5 102/answer-in C1 ANSWER IN 0007*101 0007*101  0007*102 102 ",
			"5 101/answer-out C1 ANSWER OUT 0007*101 0007*101  0007*102 102 ",
			"35 101/hangup C1 ANSWER OUT 0007*101 0007*101  0007*102 102 ",
			"35 102/hangup C1 ANSWER IN 0007*101 0007*101  0007*102 102 ",
		},
		"V7-new-id": {
			"0 101/dial-in C1 CALLING IN 12025550143  12025550100 0007*101 12025550100 ",
			"6 101/answer-in C1 ANSWER IN 12025550143  12025550100 0007*101 12025550100 ",
			"30 101/hangup C1 ANSWER IN 12025550143  12025550100 0007*101 12025550100 ",
			"30 102/dial-in C2 CALLING IN 12025550143   0007*102 0007*102 ",
			"35 102/answer-in C2 ANSWER IN 12025550143   0007*102 0007*102 ",
			"95 102/hangup C2 ANSWER IN 12025550143   0007*102 0007*102 ",
		},
		"V9-answer": {
			"0 101/dial-in C1 CALLING IN 12025550143  12025550100 0007*101 12025550100 ",
			"0 102/dial-in C1 CALLING IN 12025550143  12025550100 0007*102 12025550100 ",
			"0 103/dial-in C1 CALLING IN 12025550143  12025550100 0007*103 12025550100 ",
			"5 102/answer-in C1 ANSWER IN 12025550143  12025550100 0007*102 12025550100 ",
			"5.1 101/hangup C1 ANSWER IN 12025550143  12025550100 0007*101 12025550100 ",
			"5.1 103/hangup C1 ANSWER IN 12025550143  12025550100 0007*103 12025550100 ",
			"65 102/hangup C1 ANSWER IN 12025550143  12025550100 0007*102 12025550100 ",
		},
		"V11-no-source": {
			"5 101/dial-out C1 CALLING OUT 12025550100 0007*101   12025550143 A1",
			"16 101/answer-out C1 ANSWER OUT 12025550100 0007*101   12025550143 A1",
			"76 101/hangup C1 ANSWER OUT 12025550100 0007*101   12025550143 A1",
		},
	} {
		s := find(t, "voipnow", name)
		var got []string
		for _, n := range s.Play("seed", start) {
			got = append(got, row(s, n, parameters))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// The events of some scenarios, row by row as the LinuxBox reference lists them in section 10.
func TestLinuxBoxScenariosSayWhatTheReferenceSays(t *testing.T) {
	ofA := []string{
		"event", "call_id", "caller_type", "caller_num", "called_num", "transfering_exten", //nolint:misspell // spelt so on the wire
		"exten_num", "call_answered", "answering_exten", "last_dial_answered", "last_dialed_exten", "record_name",
	}
	ofC := []string{"call_id", "caller_type", "caller_num", "dialed_num", "line_num", "line_userid", "direction", "queue_name"}
	for name, tc := range map[string]struct {
		parameters, want []string
	}{
		"L3": {ofA, []string{
			"0  dial C1 internal 10 2025550143       20260102-100000-10-2025550143",
			"11 10 answer_external C1 internal 10 2025550143       20260102-100000-10-2025550143",
			"71 10 hangup_internal C1     10     20260102-100000-10-2025550143",
			"71  endcall C1 internal 10 2025550143   t  f  20260102-100000-10-2025550143",
		}},
		"L6": {ofA, []string{
			"0  dial C1 external 2025550143 2025550100       20260102-100000-2025550143-2025550100",
			"6 10 answer_internal C1 external 2025550143   10     20260102-100000-2025550143-2025550100",
			"30 10 hangup_internal C1     10     20260102-100000-2025550143-2025550100",
			"30  dial C1 external 2025550143 11 10      20260102-100000-2025550143-2025550100",
			"35 11 answer_internal C1 external 2025550143   11     20260102-100000-2025550143-2025550100",
			"95 11 hangup_internal C1     11     20260102-100000-2025550143-2025550100",
			"95  endcall C1 external 2025550143 2025550100   t 11 t 11 20260102-100000-2025550143-2025550100",
		}},
		"L11-no-answer": {ofA, []string{
			"0  dial C1 external 2025550143 2025550100       20260102-100000-2025550143-2025550100",
			"8  call_pickup C1 external 2025550143 2025550100       20260102-100000-2025550143-2025550100",
			"68 11 hangup_internal C1     11     20260102-100000-2025550143-2025550100",
			"68  endcall C1 external 2025550143 2025550100   t 11 t 10 20260102-100000-2025550143-2025550100",
		}},
		"L2-b": {[]string{"call_id", "caller_num", "target_num", "line_num", "line_name", "queue_name"}, []string{
			"0 /start_call C1 2025550143 2025550100   ",
			"4 /queue_in C1 2025550143    support",
			"5 10/start_int_dial C1 2025550143  10 Reception ",
			"25 11/start_int_dial C1 2025550143  11 Workshop ",
			"45 /queue_out C1 2025550143    support",
			"45 /call_end C1     ",
		}},
		"L2-c": {ofC, []string{
			"0 /start_call C1 external 2025550143 2025550100    ",
			"4 /queue_in C1  2025550143 2025550100    support",
			"5 10/start_int_dial C1 external 2025550143 2025550100 10 3010 incoming support",
			"25 11/start_int_dial C1 external 2025550143 2025550100 11 3011 incoming support",
			"45 /queue_out C1       support",
			"45 /call_end C1       ",
		}},
		"L3-start-int-dial": {ofC, []string{
			"0 /start_call C1 internal 10 2025550143    ",
			"1 10/start_int_dial C1 internal 10 2025550143 10 3010 outgoing ",
			"11 10/answered_external C1 internal 10 2025550143 10 3010 outgoing ",
			"71 10/hangup_internal C1    10 3010  ",
			"71 /call_end C1       ",
		}},
	} {
		s := find(t, "linuxbox", name)
		var got []string
		for _, n := range s.Play("seed", start) {
			got = append(got, row(s, n, tc.parameters))
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// generic is a Callable event with every member that PBXs send.
type generic struct {
	AccountID     string          `json:"accountId"`
	AccountName   string          `json:"accountName"`
	ParentCallSID *string         `json:"parentCallSid"`
	CallSID       string          `json:"callSid"`
	ChildSID      *string         `json:"childSid"`
	Type          string          `json:"type"`
	Event         string          `json:"event"`
	Status        string          `json:"status"`
	From          string          `json:"from"`
	To            string          `json:"to"`
	Extension     *string         `json:"extension"`
	Meta          json.RawMessage `json:"meta"`
	Timestamp     json.Number     `json:"timestamp"`
}

func generics(t testing.TB, n scenario.Notification) []generic {
	t.Helper()
	body := n.Body
	if body[0] != '[' {
		body = slices.Concat([]byte{'['}, body, []byte{']'})
	}
	var list []generic
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&list); err != nil {
		t.Fatalf("%s: %v", n.Body, err)
	}
	return list
}

// ids are parent, call and child as the reference writes them, with the extension.
func ids(s scenario.Scenario, g generic) string {
	part := func(p *string) string {
		if p == nil {
			return "–"
		}
		return *p
	}
	out := fmt.Sprintf("%s/%s/%s", part(g.ParentCallSID), g.CallSID, part(g.ChildSID))
	for _, symbol := range []string{"P1", "P2", "B1", "B2", "B3", "X1", "X2"} {
		out = strings.ReplaceAll(out, s.ID("seed", symbol), symbol)
	}
	if g.Extension != nil {
		out += " " + *g.Extension
	}
	return out
}

// The events of some scenarios, row by row as the Callable reference lists them in section 5.
func TestCallableScenariosSayWhatTheReferenceSays(t *testing.T) {
	for name, want := range map[string][]string{
		"C2": {
			"0 call/trying P1/P1/–", "100 call/in-progress P1/P1/–", "12000 call/trying P1/B1/–", "12000 call/ringing P1/B1/–",
			"32000 call/failed P1/B1/–", "33000 call/trying P1/B2/–", "33000 call/ringing P1/B2/–", "45000 call/failed P1/B2/–",
			"45000 call/completed P1/P1/–",
		},
		"C2b": {"0 call/trying P1/P1/–", "100 call/in-progress P1/P1/–", "45000 call/completed P1/P1/–"},
		"C6-same-child": {
			"0 call/trying P1/P1/–", "200 call/trying P1/B1/–", "900 call/ringing P1/B1/–", "6000 call/in-progress P1/B1/–",
			"6000 call/in-progress P1/P1/–", "6000 phone/connected P1/B1/X1 201", "30000 phone/disconnected P1/B1/X1 201",
			"31000 phone/connected P1/B1/X1 202", "91000 phone/disconnected P1/B1/X1 202", "91100 call/completed P1/B1/–",
			"91100 call/completed P1/P1/–",
		},
		"C11": {
			"0 call/trying P1/P1/–", "200 call/trying P1/B1/–", "900 call/ringing P1/B1/–", "6000 call/in-progress P1/B1/–",
			"6000 call/in-progress P1/P1/–", "6000 record/start P1/B1/–", "6100 phone/connected P1/B1/X1 201",
			"66000 phone/disconnected P1/B1/X1 201", "66000 record/end P1/B1/–", "66100 call/completed P1/B1/–",
			"66100 call/completed P1/P1/–", "75000 record/trancoded P1/B1/–",
		},
		"C5-null-parent": {
			"5000 phone/connected –/B1/X1 201", "5000 phone/connected –/B1/X2 202", "35000 phone/disconnected –/B1/X1 201",
			"35000 phone/disconnected –/B1/X2 202",
		},
		"C10": nil,
	} {
		s := find(t, "callable", name)
		var got []string
		for _, n := range s.Play("seed", start) {
			g := generics(t, n)[0]
			at, err := g.Timestamp.Int64()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%d %s/%s %s", at-start.UnixMilli(), g.Event, g.Status, ids(s, g)))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestCallableVariantsDifferInTheirBodies(t *testing.T) {
	bodies := func(name string) []string {
		var out []string
		for _, n := range find(t, "callable", name).Play("seed", start) {
			if n.ContentType != "application/json" || len(n.Params) != 0 {
				t.Errorf("%s: %s with %v", name, n.ContentType, n.Params)
			}
			out = append(out, string(n.Body))
		}
		return out
	}
	for name, want := range map[string]string{
		"C1": `"meta":{"campaign":"spring"},"timestamp":1767348000000}`, "C1-meta-null": `"meta":null,`, "C1-meta-empty": `"meta":{},`,
		"C1-text-timestamp": `"timestamp":"1767348000000"`, "C1-more-members": `"quality":{"mos":4.2}`, "C1-plus": `"from":"+442079460123"`,
		"C3": `"from":"201@tenant.example.com","to":"442079460123"`,
	} {
		if got := bodies(name)[0]; !strings.Contains(got, want) || !json.Valid([]byte(got)) {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := bodies("C1-sip-uri")[1]; !strings.Contains(got, `"to":"sip:201@tenant.example.com"`) {
		t.Errorf("C1-sip-uri: %s", got)
	}
	whole := find(t, "callable", "C1-array-whole").Play("seed", start)
	if len(whole) != 1 || len(generics(t, whole[0])) != 9 || whole[0].Offset != 66100*time.Millisecond {
		t.Errorf("C1-array-whole: %d notifications at %s", len(whole), whole[0].Offset)
	}
	if n := len(find(t, "callable", "C1-array").Play("seed", start)); n != 3 {
		t.Errorf("C1-array: %d notifications", n)
	}
}

func TestNotificationsOfEverySystemAreRequests(t *testing.T) {
	for _, s := range everything(t) {
		for _, n := range s.Play("seed", start) {
			get, post := n.Request(http.MethodGet), n.Request(http.MethodPost)
			if s.PBX == "callable" {
				if get != post || post.Method != http.MethodPost || post.Query != "" || !json.Valid([]byte(post.Body)) {
					t.Errorf("%s: %+v", s.Name, post)
				}
				continue
			}
			form, err := url.ParseQuery(get.Query)
			if err != nil || get.Body != "" || post.Query != "" || post.Body != get.Query || post.ContentType != scenario.FormType {
				t.Errorf("%s: %+v, %+v, %v", s.Name, get, post, err)
			}
			if raw := strings.Contains(s.Name, "-raw-plus"); raw != (form.Encode() != n.Params.Encode()) {
				t.Errorf("%s: %v, want %v", s.Name, form, n.Params)
			}
			if s.PBX == "voipnow" && s.Name != "V14-one-url" && get.Path != "/"+n.EventType || s.PBX == "linuxbox" && (get.Path == "") != (s.Profile == "") {
				t.Errorf("%s: %s at path %q", s.Name, n.EventType, get.Path)
			}
		}
	}
}

func TestLinuxBoxSendsParametersWithoutAValue(t *testing.T) {
	for _, s := range everything(t) {
		for _, n := range s.Play("seed", start) {
			if n.EventType != "endcall" {
				continue
			}
			for _, p := range []string{"call_answered", "answering_exten", "last_dial_answered", "last_dialed_exten", "record_name"} {
				if !n.Params.Has(p) {
					t.Errorf("%s: endcall without %s", s.Name, p)
				}
			}
		}
	}
}

func TestCelIDsGrowAndAreUnique(t *testing.T) {
	seen := map[string]string{}
	for _, s := range everything(t) {
		if s.PBX != "linuxbox" || !strings.HasPrefix(s.Profile, "c") {
			continue
		}
		last := ""
		for _, n := range s.Play(s.Name, start) {
			id := n.Params.Get("cel_id")
			if other, ok := seen[id]; ok {
				t.Errorf("%s: cel_id %s is that of %s", s.Name, id, other)
			}
			if len(id) < len(last) || len(id) == len(last) && id <= last {
				t.Errorf("%s: cel_id %s after %s", s.Name, id, last)
			}
			seen[id], last = s.Name, id
		}
	}
}

func TestPlaysOfEverySystemDependOnTheSeedOnly(t *testing.T) {
	list := everything(t)
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(list).Draw(t, "scenario")
		a, b := rapid.String().Draw(t, "seed"), rapid.String().Draw(t, "another seed")
		if diff := cmp.Diff(s.Play(a, start), s.Play(a, start)); diff != "" {
			t.Fatal(diff)
		}
		taken := map[string]bool{}
		for _, n := range s.Play(a, start) {
			taken[n.CallID], taken[n.LegID] = true, true
		}
		for _, n := range s.Play(b, start) {
			if a != b && n.CallID != "" && (taken[n.CallID] || taken[n.LegID]) {
				t.Fatalf("%s: seeds %q and %q share ids", s.Name, a, b)
			}
		}
	})
}

func TestEventsOfEverySystemAreInOrder(t *testing.T) {
	for _, s := range everything(t) {
		var last time.Duration
		var calls []string
		for _, n := range s.Play("seed", start) {
			if n.Offset < last || !n.At.Equal(start.Add(n.Offset)) || n.Silent {
				t.Errorf("%s: event at %s after %s", s.Name, n.Offset, last)
			}
			last = n.Offset
			if n.CallID != "" && !slices.Contains(calls, n.CallID) {
				calls = append(calls, n.CallID)
			}
		}
		if diff := cmp.Diff(calls, s.CallIDs("seed")); diff != "" {
			t.Errorf("%s: %s", s.Name, diff)
		}
		if last > s.Duration() {
			t.Errorf("%s: ends after %s", s.Name, s.Duration())
		}
	}
}

func TestDropEndsEveryCallOnce(t *testing.T) {
	at := start.Add(20 * time.Second)
	for name, tc := range map[string]struct {
		played int
		want   []string
	}{
		"voipnow V2":    {3, []string{"099 hangup ANSWER", "900 hangup ANSWER", "101 hangup CANCEL"}},
		"voipnow V4":    {2, []string{"101 hangup ANSWER"}},
		"callable C1":   {6, []string{"201 phone/disconnected ", " call/completed ", " call/completed "}},
		"callable C2":   {4, []string{" call/failed ", " call/completed "}},
		"linuxbox L1":   {3, []string{"10 hangup_internal ", " endcall t"}},
		"linuxbox L2":   {3, []string{" endcall f"}}, // dialect A does not tell of lines that only rang
		"linuxbox L1-b": {2, []string{"10 hangup_internal ", " call_end "}},
	} {
		pbx, name, _ := strings.Cut(name, " ")
		s := find(t, pbx, name)
		var got []string
		for _, n := range s.Drop("seed", start, tc.played, at) {
			if !n.At.Equal(at) {
				t.Errorf("%s: at %s", name, n.At)
			}
			number := strings.TrimPrefix(n.Sender.Number, "0007*")
			got = append(got, number+" "+n.EventType+" "+n.Params.Get("CallStatus")+n.Params.Get("call_answered"))
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if left := s.Drop("seed", start, len(s.Timeline("seed", start)), at); len(left) != 0 {
			t.Errorf("%s: a finished call still hangs up: %v", name, left)
		}
	}
}

func TestAs(t *testing.T) {
	s, err := find(t, "linuxbox", "L1-fraction-0").As("b")
	if err != nil || s.Name != "L1-fraction-0-b" || len(s.Play("seed", start)) != 5 {
		t.Errorf("in dialect B: %s, %v", s.Name, err)
	}
	if s, err := find(t, "linuxbox", "L1-c").As("b"); err != nil || s.Name != "L1-c" {
		t.Errorf("made for dialect C: %s, %v", s.Name, err)
	}
	if _, err := find(t, "voipnow", "V1").As("late"); err == nil {
		t.Error("unknown profile accepted")
	}
	hushed, err := find(t, "callable", "C1-array-whole").As("no-listener")
	if err != nil {
		t.Fatal(err)
	}
	events := 0
	for _, n := range hushed.Play("seed", start) {
		events += len(generics(t, n))
	}
	if events != 7 {
		t.Errorf("without a listener %d events arrive in arrays, want 7", events)
	}
	base, copied := find(t, "voipnow", "V5"), find(t, "voipnow", "V5-early")
	if base.Play("seed", start)[1].Params.Get("CallStatus") != "BUSY" || copied.Play("seed", start)[1].Params.Get("CallStatus") != "UNKNOWN" {
		t.Error("a profile leaks into its base")
	}
}

func TestCastsOfEverySystem(t *testing.T) {
	cast := scenario.Cast{
		Extensions: map[string]scenario.Extension{"10": {Number: "77", ID: "9077", Label: "Somebody"}},
		Values:     map[string]string{"customer": "777000", "custom": "cmd-1"},
	}
	for _, n := range find(t, "linuxbox", "L10-c").Play("seed", start, scenario.WithCast(cast)) {
		if n.EventType != "answered_external" {
			continue
		}
		got := fmt.Sprint(n.Params["line_num"], n.Params["line_userid"], n.Params["line_name"], n.Params["target_num"], n.Params["custom_call_id"])
		if got != "[77] [9077] [Somebody] [777000] [cmd-1]" {
			t.Errorf("answered_external: %s", got)
		}
	}
	if c := scenario.CastOf("nope"); len(c.Extensions) != 0 {
		t.Errorf("cast of an unknown PBX: %+v", c)
	}
}
