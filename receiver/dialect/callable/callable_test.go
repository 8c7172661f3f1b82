package callable_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/callable"
)

var (
	received = time.Date(2026, 1, 2, 10, 0, 1, 0, time.UTC)
	at       = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
	account  = callable.New(callable.Config{OwnNumbers: []string{"+4420794609*"}, OwnDomains: []string{"tenant.example.com"}})
)

func decode(t *testing.T, d *callable.Dialect, body string) []callevent.Event {
	t.Helper()
	events, err := d.Decode(callevent.Request{ReceivedAt: received, Method: "POST", ContentType: "application/json", Body: body})
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return events
}

// object is an event; more are further members.
func object(call, event, status, more string) string {
	return fmt.Sprintf(`{"accountName":"Example Ltd","parentCallSid":"P1","callSid":%q,"type":"voice","event":%q,"status":%q,`+
		`"from":"442079460123","to":"442079460900","timestamp":1767348000000%s}`, call, event, status, more)
}

func TestDevice(t *testing.T) {
	t.Parallel()
	got := decode(t, account, object("B1", "phone", "connected", `,"childSid":"X1","extension":"201","meta":{"campaign":"spring"},"hops":[1,2]`))
	want := []callevent.Event{{
		ID: got[0].ID, Type: callevent.Answer, CallID: "P1", Side: "B1/X1/201", ParentLegID: "B1", Level: callevent.LevelDevice,
		Time: at, Received: received, Source: callevent.Source{Type: callevent.Phone, Number: "201"}, Flow: callevent.FlowIn,
		Status: callevent.StatusAnswered, WireStatus: "connected", TransfersUntold: true,
		Caller: callevent.Party{Number: "442079460123"}, Called: callevent.Party{Number: "442079460900", Own: true},
		Attributes: map[string]string{"tag.campaign": "spring", "hops": "[1,2]"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	device := `,"childSid":"X1","extension":"201"`
	for _, tc := range []struct {
		call, event, status, more string
		level                     callevent.Level
		is                        callevent.Type
		says                      callevent.Status
	}{
		{"P1", "call", "trying", "", callevent.LevelEntry, callevent.DialIn, callevent.StatusCalling},
		{"P1", "call", "in-progress", "", callevent.LevelEntry, callevent.Answer, callevent.StatusAnswered},
		{"P1", "call", "completed", "", callevent.LevelEntry, callevent.Hangup, callevent.StatusUnspecified},
		{"B1", "call", "ringing", "", callevent.LevelExtension, callevent.DialIn, callevent.StatusRinging},
		{"B1", "CALL", "Failed", "", callevent.LevelExtension, callevent.Hangup, callevent.StatusFailed},
		{"B1", "call", "busy", "", callevent.LevelExtension, callevent.Hangup, callevent.StatusBusy},
		{"B1", "call", "no-answer", "", callevent.LevelExtension, callevent.Hangup, callevent.StatusNoAnswer},
		{"B1", "call", "canceled", "", callevent.LevelExtension, callevent.Hangup, callevent.StatusCancelled},
		{"B1", "call", "early-media", "", callevent.LevelExtension, callevent.Progress, ""},
		{"B1", "record", "trancoded", "", callevent.LevelExtension, callevent.Progress, ""},
		{"B1", "sms", "sent", "", callevent.LevelExtension, callevent.Progress, ""},
		{"B1", "phone", "disconnected", device, callevent.LevelDevice, callevent.Hangup, callevent.StatusUnspecified},
		{"B1", "phone", "parked", device, callevent.LevelDevice, callevent.Hangup, callevent.StatusUnspecified},
		{"B1", "extension", "connected", device, callevent.LevelDevice, callevent.Answer, callevent.StatusAnswered},
		{"B1", "phone", "alerting", device, callevent.LevelDevice, callevent.Progress, ""},
		{"B1", "wearable", "heart-rate-high", device, callevent.LevelDevice, callevent.Progress, ""},
	} {
		got := decode(t, account, object(tc.call, tc.event, tc.status, tc.more))[0]
		if got.Level != tc.level || got.Type != tc.is || got.Status != tc.says {
			t.Errorf("%s/%s: level %q, %s, %q; want %q, %s, %q", tc.event, tc.status, got.Level, got.Type, got.Status, tc.level, tc.is, tc.says)
		}
		if !strings.Contains(got.WireStatus, strings.ToLower(tc.status)) {
			t.Errorf("%s/%s cannot be seen: %q", tc.event, tc.status, got.WireStatus)
		}
		if got.Secondary != (tc.event == "extension") {
			t.Errorf("%s/%s: secondary %v", tc.event, tc.status, got.Secondary)
		}
	}
}

func TestRecordingIsNamedByTheLeg(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"start", "in-progress", "end", "trancoded", "transcoded"} {
		if got := decode(t, account, object("B1", "record", status, ""))[0]; got.RecordingID != "B1" || got.LegID != "B1" {
			t.Errorf("%s: %+v", status, got)
		}
	}
}

func TestDirection(t *testing.T) {
	t.Parallel()
	unconfigured := callable.New(callable.Config{})
	for _, tc := range []struct {
		d        *callable.Dialect
		from, to string
		want     callevent.Flow
		internal bool
	}{
		{account, "442079460123", "442079460900", callevent.FlowIn, false},
		{account, "+442079460123", "+442079460955", callevent.FlowIn, false},
		{account, "442079460900", "442079460123", callevent.FlowOut, false},
		{account, "201@tenant.example.com", "442079460123", callevent.FlowOut, false},
		{account, "442079460123", "sip:201@TENANT.example.com;user=phone", callevent.FlowIn, false},
		{account, "201@tenant.example.com", "sips:202@tenant.example.com:5061", callevent.FlowOut, true},
		{account, "442079460123", "pbx@elsewhere.example.net", callevent.FlowUnknown, false},
		{account, "442079460123", "442079460177", callevent.FlowUnknown, false},
		{unconfigured, "442079460123", "201@tenant.example.com", callevent.FlowIn, false},
		{unconfigured, "201@tenant.example.com", "442079460123", callevent.FlowOut, false},
		{unconfigured, "442079460123", "442079460900", callevent.FlowUnknown, false},
	} {
		body := strings.NewReplacer("442079460123", tc.from, "442079460900", tc.to).Replace(object("P1", "call", "trying", ""))
		got := decode(t, tc.d, body)[0]
		if got.Flow != tc.want || (got.Caller.Local && got.Called.Local) != tc.internal {
			t.Errorf("%s -> %s: %q, %+v, %+v; want %q", tc.from, tc.to, got.Flow, got.Caller, got.Called, tc.want)
		}
		if strings.HasPrefix(got.Caller.Number, "+") || strings.HasPrefix(got.Called.Number, "sip") {
			t.Errorf("numbers %q and %q, want neither plus nor scheme", got.Caller.Number, got.Called.Number)
		}
	}
}

func TestArray(t *testing.T) {
	t.Parallel()
	got := decode(t, account, " ["+object("P1", "call", "trying", "")+","+object("B1", "call", "ringing", "")+"]\n")
	if len(got) != 2 || got[0].LegID != "P1" || got[1].LegID != "B1" || got[0].ID == got[1].ID {
		t.Errorf("%+v", got)
	}
}

func TestTimestamp(t *testing.T) {
	t.Parallel()
	for wire, want := range map[string]time.Time{
		`1767348000000`: at, `"1767348000000"`: at, `1767348000250`: at.Add(250 * time.Millisecond),
		`null`: received, `"soon"`: received, `1767348000`: received, `1.5`: received, `[]`: received,
	} {
		body := strings.Replace(object("P1", "call", "trying", ""), "1767348000000", wire, 1)
		if got := decode(t, account, body)[0]; !got.Time.Equal(want) {
			t.Errorf("%s: %v, want %v", wire, got.Time, want)
		}
	}
}

func TestMeta(t *testing.T) {
	t.Parallel()
	for wire, kept := range map[string]string{`null`: "", `{}`: "", `{"a":"b"}`: "", `{"a":1,"b":"c"}`: `{"a":1,"b":"c"}`, `"text"`: "text"} {
		got := decode(t, account, object("P1", "call", "trying", `,"meta":`+wire))[0]
		if got.Attributes["meta"] != kept || (wire == `{"a":"b"}`) != (got.Attributes["tag.a"] == "b") {
			t.Errorf("%s: attributes %v", wire, got.Attributes)
		}
	}
}

// The rule for the menu alone is the account's.
func TestSelfService(t *testing.T) {
	t.Parallel()
	strict := callable.New(callable.Config{SelfServiceIsMissed: true})
	for d, want := range map[*callable.Dialect]callevent.MissedRule{account: callevent.MissedIfTried, strict: callevent.MissedUnlessAnswered} {
		if got := decode(t, d, object("P1", "call", "completed", ""))[0]; got.Missed != want {
			t.Errorf("missed %q, want %q", got.Missed, want)
		}
	}
}

// A call inside the customer's PBX is none that Callable knows.
func TestNullParent(t *testing.T) {
	t.Parallel()
	body := strings.Replace(object("B1", "phone", "connected", `,"childSid":"X1"`), `"P1"`, "null", 1)
	if got := decode(t, account, body)[0]; got.Type != callevent.Other || got.CallID != "" || got.ID == "" {
		t.Errorf("%+v", got)
	}
}

func TestNotUnderstood(t *testing.T) {
	t.Parallel()
	for body, says := range map[string]string{
		"":                                      "empty",
		"call=1":                                "JSON",
		"[]":                                    "empty",
		`[{"event":"call"}]`:                    "parentCallSid",
		`["text"]`:                              "JSON object",
		`null`:                                  "JSON object",
		`{"parentCallSid":"P1","callSid":"P1"}`: "event is missing",
		object(strings.Repeat("b", 100), "call", "trying", ""): "100 bytes",
	} {
		_, err := account.Decode(callevent.Request{ReceivedAt: received, Body: body})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60s: %v, want an error that says %q", body, err, says)
		}
	}
	timeless := strings.Replace(object("P1", "call", "trying", ""), `"timestamp":1767348000000`, `"x":1`, 1)
	if _, err := account.Decode(callevent.Request{Body: timeless}); err == nil || !strings.Contains(err.Error(), "timestamp") {
		t.Errorf("no time at all: %v", err)
	}
}
