package voipnow_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/voipnow"
)

const form = "application/x-www-form-urlencoded"

var (
	received = time.Date(2026, 1, 2, 10, 0, 0, 123456789, time.UTC)
	phone    = callevent.Source{Type: callevent.Phone, Number: "0007*101", ID: "7101", User: "ann"}
)

func decode(t *testing.T, source callevent.Source, path, body string) callevent.Event {
	t.Helper()
	events, err := voipnow.Dialect{}.Decode(callevent.Request{
		ReceivedAt: received, Source: source, Method: "POST", Path: path, ContentType: form, Body: body,
	})
	if err != nil || len(events) != 1 {
		t.Fatalf("%s %s: %d events, %v", path, body, len(events), err)
	}
	return events[0]
}

func TestDecode(t *testing.T) {
	t.Parallel()
	got := decode(t, phone, "/dial-in", "CallID=c1&CallStatus=CALLING&CallFlow=IN&CallerIDNum=12025550143&CallerIDNam=Jane+Roe"+
		"&CalledDID=12025550100&CalledExtension=0007*101@pbx.example.com&CalledNumber=12025550100&CallAPIID=pc-1&Tag=newsletter&Empty=")
	want := callevent.Event{
		ID: got.ID, Type: callevent.DialIn, CallID: "c1", Side: "0007*101/In", Time: received, Received: received, Source: phone,
		Flow: callevent.FlowIn, Status: callevent.StatusCalling, WireStatus: "CALLING",
		Caller: callevent.Party{Number: "12025550143", Name: "Jane Roe"},
		Called: callevent.Party{Number: "0007*101", Extension: "0007*101", Local: true},
		DID:    "12025550100", CallBackID: "pc-1", ControlID: "pc-1", ByUser: true, TransfersUntold: true, Repeat: got.Repeat,
		Attributes: map[string]string{"Tag": "newsletter"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Repeat < time.Second || got.Repeat > 10*time.Second {
		t.Errorf("identical notifications are the same event for %v, want some seconds", got.Repeat)
	}
}

// Nothing but the URL says which event it is.
func TestTypeComesFromThePath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]struct {
		is   callevent.Type
		flow callevent.Flow
	}{
		"/dial-in":     {callevent.DialIn, callevent.FlowIn},
		"/dial-out":    {callevent.DialOut, callevent.FlowOut},
		"/answer-in":   {callevent.Answer, callevent.FlowIn},
		"answer-out":   {callevent.Answer, callevent.FlowOut},
		"/HANGUP/":     {callevent.Hangup, callevent.FlowOut},
		"/hangup":      {callevent.Hangup, callevent.FlowOut},
		"/dial-out///": {callevent.DialOut, callevent.FlowOut},
	} {
		got := decode(t, phone, path, "callid=c1&CALLFLOW=out")
		if got.Type != want.is || got.Flow != want.flow {
			t.Errorf("%s: %s %s, want %s %s", path, got.Type, got.Flow, want.is, want.flow)
		}
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		path, wire string
		want       callevent.Status
	}{
		{"/hangup", "ANSWER", callevent.StatusAnswered}, {"/hangup", "busy", callevent.StatusBusy},
		{"/hangup", "NOANSWER", callevent.StatusNoAnswer}, {"/hangup", "CANCEL", callevent.StatusCancelled},
		{"/hangup", "CONGESTION", callevent.StatusFailed}, {"/hangup", "CHANUNAVAIL", callevent.StatusFailed},
		{"/hangup", "UNKNOWN", callevent.StatusUnspecified}, {"/hangup", "", callevent.StatusUnspecified},
		{"/hangup", "DONTCALL", callevent.StatusUnspecified}, {"/dial-in", "CALLING", callevent.StatusCalling},
		{"/answer-in", "ANSWER", callevent.StatusAnswered}, {"/answer-in", "CALLING", callevent.StatusAnswered},
		{"/answer-out", "", callevent.StatusAnswered}, {"/answer-out", "BUSY", callevent.StatusBusy},
	} {
		if got := decode(t, phone, tc.path, "CallID=c1&CallStatus="+tc.wire); got.Status != tc.want || got.WireStatus != tc.wire {
			t.Errorf("%s %q: %q (%q), want %q", tc.path, tc.wire, got.Status, got.WireStatus, tc.want)
		}
	}
}

// IVRs and queues took the call themselves: whether it was missed is for the phones to say.
func TestHangupOfQueue(t *testing.T) {
	t.Parallel()
	queue := callevent.Source{Type: callevent.Queue, Number: "0007*900"}
	if got := decode(t, queue, "/hangup", "CallID=c1&CallFlow=IN&CallStatus=ANSWER"); got.Missed != callevent.MissedUnlessAnswered || got.StatusOfCall {
		t.Errorf("queue: %+v", got)
	}
	if got := decode(t, phone, "/hangup", "CallID=c1&CallFlow=IN&CallStatus=ANSWER"); got.Missed != "" || !got.StatusOfCall {
		t.Errorf("phone: %+v", got)
	}
}

func TestWhoSentIt(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		path, body, side string
	}{
		{"/dial-in", "CallID=c1&CalledExtension=0007*101", "0007*101/In"},
		{"/dial-out", "CallID=c1&CallerExtension=0007*101&CalledExtension=0007*102", "0007*101/Out"},
		{"/hangup", "CallID=c1&CallFlow=out&CallerExtension=0007*101", "0007*101/Out"},
	} {
		if got := decode(t, callevent.Source{}, tc.path, tc.body); got.Side != tc.side {
			t.Errorf("%s %s: %q, want %q", tc.path, tc.body, got.Side, tc.side)
		}
	}
	got := decode(t, phone, "/hangup", "CallID=c1&CallFlow=sideways&CallerExtension=0007*101&CalledNumber=12025550143")
	if got.Flow != callevent.FlowOut || got.Attributes["CallFlow"] != "sideways" {
		t.Errorf("without a direction: %+v", got)
	}
}

func TestCallBetweenExtensions(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		path, body string
		internal   bool
	}{
		{"/dial-out", "CallerIDNum=0007*101&CallerExtension=0007*101&CalledExtension=0007*102&CalledNumber=102", true},
		{"/dial-out", "CallerIDNum=12025550100&CallerExtension=0007*101&CalledExtension=0007*102&CalledNumber=0007*102", true},
		{"/dial-in", "CallerIDNum=102&CallerExtension=0007*102&CalledExtension=0007*101&CalledNumber=101", true},
		{"/dial-in", "CallerIDNum=12025550143&CallerExtension=0007*900&CalledExtension=0007*101", false},
		{"/dial-out", "CallerIDNum=12025550143&CallerExtension=0007*101&CalledNumber=12025550177", false},
	} {
		got := decode(t, phone, tc.path, "CallID=c1&"+tc.body)
		if internal := got.Caller.Local && got.Called.Local; internal != tc.internal {
			t.Errorf("%s %s: internal %v", tc.path, tc.body, internal)
		}
	}
}

func TestSameNotificationHasTheSameID(t *testing.T) {
	t.Parallel()
	a := decode(t, phone, "/dial-in", "CallID=c1&CallFlow=IN")
	for body, same := range map[string]bool{"CallFlow=IN&callid=c1": true, "CallID=c1&CallFlow=IN&x=y": false, "CallID=c2&CallFlow=IN": false} {
		if b := decode(t, phone, "/dial-in", body); (a.ID == b.ID) != same {
			t.Errorf("%s: ids %s and %s", body, a.ID, b.ID)
		}
	}
	if b := decode(t, callevent.Source{Type: callevent.Phone, Number: "0007*102"}, "/dial-in", "CallID=c1&CallFlow=IN"); a.ID == b.ID {
		t.Error("two extensions share an id")
	}
}

func TestNotUnderstood(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		request callevent.Request
		says    string
	}{
		{"no type", callevent.Request{ReceivedAt: received, Query: "CallID=c1"}, "/dial-in"},
		{"another type", callevent.Request{ReceivedAt: received, Path: "/voicemail", Query: "CallID=c1"}, "voicemail"},
		{"no call", callevent.Request{ReceivedAt: received, Path: "/hangup", Query: "CallFlow=IN"}, "CallID"},
		{"no time", callevent.Request{Path: "/hangup", Query: "CallID=c1"}, "time of receipt"},
		{"no form", callevent.Request{ReceivedAt: received, Path: "/hangup", ContentType: "application/json", Body: `{"CallID":"c1"}`}, "application/json"},
		{"an id that cannot be shown", callevent.Request{ReceivedAt: received, Path: "/hangup", Query: "CallID=" + strings.Repeat("c", 300)}, "300"},
		{"broken encoding", callevent.Request{ReceivedAt: received, Path: "/hangup", Query: "CallID=%zz"}, "CallID"},
	} {
		if _, err := (voipnow.Dialect{}).Decode(tc.request); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want an error that says %q", tc.name, err, tc.says)
		}
	}
}
