package linuxbox_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/linuxbox"
)

var (
	received = time.Date(2026, 1, 2, 10, 0, 1, 0, time.UTC)
	at       = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
)

func installation(t *testing.T, config linuxbox.Config) *linuxbox.Dialect {
	t.Helper()
	d, err := linuxbox.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func decodeWith(t *testing.T, config linuxbox.Config, path, query string) []callevent.Event {
	t.Helper()
	events, err := installation(t, config).Decode(callevent.Request{ReceivedAt: received, Method: "GET", Path: path, Query: query})
	if err != nil {
		t.Fatalf("%s?%s: %v", path, query, err)
	}
	return events
}

func decode(t *testing.T, path, query string) callevent.Event {
	t.Helper()
	return decodeWith(t, linuxbox.Config{}, path, query)[0]
}

func TestDialectA(t *testing.T) {
	t.Parallel()
	got := decode(t, "", "event=answer_internal&ts=2026-01-02T11%3A00%3A00.00000%2B01%3A00&call_id=1600907305.605&exten_num=10&exten_name=Reception"+
		"&caller_num=2025550143&caller_type=external&record_name=R&x_tag=a&x_empty=")
	want := callevent.Event{
		ID: got.ID, Type: callevent.Answer, CallID: "1600907305.605", Side: "10", Time: at, Received: received,
		Source: callevent.Source{Type: callevent.Phone, Number: "10"}, Flow: callevent.FlowIn, Status: callevent.StatusAnswered,
		Caller: callevent.Party{Number: "2025550143"}, Called: callevent.Party{Number: "10", Name: "Reception", Extension: "10", Local: true},
		RecordingID: "R", ByUser: true, TransfersUntold: true, Attributes: map[string]string{"x_tag": "a"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	external := "&call_id=k1&caller_type=external&caller_num=2025550143"
	inside := "&call_id=k1&caller_type=internal&caller_num=10"
	clicked := "&call_id=k1&caller_type=originate&caller_num=10"
	for _, tc := range []struct {
		name, path, query string
		is                callevent.Type
		side              string
		flow              callevent.Flow
	}{
		{"a call from outside", "", "event=dial&called_num=2025550100" + external, callevent.CallStart, "", callevent.FlowIn},
		{"the same by path", "/start_call", "target_num=2025550100" + external, callevent.CallStart, "", callevent.FlowIn},
		{"without a caller type", "/start_call", "call_id=k1&caller_num=2025550143&target_num=2025550100", callevent.CallStart, "", callevent.FlowIn},
		{"a line calls", "", "event=dial&called_num=2025550143" + inside, callevent.DialOut, "10", callevent.FlowOut},
		{"a line calls, 2019", "/start_call", "call_id=k1&caller_num=10&target_num=2025550143", callevent.DialOut, "10", callevent.FlowOut},
		{"click-to-dial", "", "event=dial&called_num=2025550143" + clicked, callevent.DialOut, "10", callevent.FlowOut},
		{"a transfer", "", "event=dial&called_num=11&transfering_exten=10" + external, callevent.DialIn, "11", callevent.FlowIn}, //nolint:misspell // on the wire
		{"two r", "", "event=dial&called_num=11&transferring_exten=10" + external, callevent.DialIn, "11", callevent.FlowIn},
		{"a forwarding", "", "event=dial&called_num=2025550177&transfering_exten=10" + external, callevent.DialOut, "outside/2025550177", callevent.FlowOut}, //nolint:misspell // on the wire
		{"a line rings", "/start_int_dial", "line_num=10" + external, callevent.DialIn, "10", callevent.FlowIn},
		{"the caller is rung first", "/start_int_dial", "line_num=10" + clicked, callevent.Progress, "10", ""},
		{"an outside number rings, by the vendor's path", "/start_int_dial", "line_num=10&direction=outgoing&call_id=k1", callevent.Progress, "10", ""},
		{"an outside number rings", "/start_ext_dial", "line_num=10" + inside, callevent.Progress, "10", ""},
		{"a forwarding rings", "/start_ext_dial", "line_num=&dialed_num=2025550177" + external, callevent.DialOut, "outside/2025550177", callevent.FlowOut},
		{"a line answers", "/answered_internal", "line_num=11" + external, callevent.Answer, "11", callevent.FlowIn},
		{"the handset is lifted", "", "event=answer_internal&exten_num=10" + clicked, callevent.Progress, "10", ""},
		{"a colleague answers click-to-dial", "", "event=answer_internal&exten_num=11" + clicked, callevent.Answer, "11", callevent.FlowIn},
		{"the far side answers", "", "event=answer_external&called_num=2025550143" + inside, callevent.Answer, "10", callevent.FlowOut},
		{"the far side answers, 2019", "/answered_external", "call_id=k1&target_num=2025550143&line_num=10", callevent.Answer, "10", callevent.FlowOut},
		{"the forwarding answers", "", "event=answer_external&called_num=2025550177" + external, callevent.Answer, "outside/2025550177", callevent.FlowOut},
		{"a line leaves", "/hangup_internal", "call_id=k1&line_num=10", callevent.Hangup, "10", ""},
		{"pickup", "", "event=call_pickup&called_num=10" + external, callevent.Pickup, "", ""},
		{"into the queue", "/queue_in", "call_id=k1&queue_name=support", callevent.Progress, "", ""},
		{"an event that no document lists", "/music_on_hold", "call_id=k1&line_num=10", callevent.Progress, "10", ""},
	} {
		got := decode(t, tc.path, tc.query)
		if got.Type != tc.is || got.Side != tc.side || got.Flow != tc.flow {
			t.Errorf("%s: %s %q %q, want %s %q %q", tc.name, got.Type, got.Side, got.Flow, tc.is, tc.side, tc.flow)
		}
		if got.Type == callevent.Progress && got.WireStatus == "" {
			t.Errorf("%s: cannot be seen", tc.name)
		}
	}
	if got := decode(t, "/queue_out", "call_id=k1&queue_name=support"); got.Queue != "support" {
		t.Errorf("queue %q", got.Queue)
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for _, tc := range []struct {
		query   string
		bridged *bool
		missed  callevent.MissedRule
		lines   string
	}{
		{"caller_type=external&call_answered=t&answering_exten=10&last_dialed_exten=10", &yes, "", "10"},
		{"caller_type=external&call_answered=f&last_dialed_exten=11", &no, "", ""},
		{"caller_type=webrtc&call_answered=no", &no, "", ""},
		{"caller_type=external&call_answered=t&answering_exten=&last_dialed_exten=11", nil, callevent.MissedUnlessAnswered, ""},
		{"caller_type=external&call_answered=t&answering_exten=&last_dialed_exten=", nil, callevent.MissedIfTried, ""},
		{"caller_type=external&call_answered=&answering_exten=10", nil, callevent.MissedUnlessAnswered, "10"},
		{"caller_type=internal&caller_num=10&call_answered=1&answering_exten=&last_dial_answered=f", nil, "", "10"},
		{"caller_type=internal&caller_num=10&call_answered=yes&answering_exten=11", nil, "", "10 11"},
		{"caller_type=internal&caller_num=10&call_answered=f", nil, "", ""},
		{"caller_type=originate&caller_num=10&call_answered=t&answering_exten=10", nil, "", ""},
	} {
		events := decodeWith(t, linuxbox.Config{}, "", "event=endcall&call_id=k1&"+tc.query)
		var lines []string
		for _, e := range events[1:] {
			if e.Type != callevent.HasAnswered || e.ID == events[0].ID {
				t.Errorf("%s: %+v", tc.query, e)
			}
			lines = append(lines, e.Side)
		}
		if diff := cmp.Diff(tc.bridged, events[0].Bridged); diff != "" || events[0].Missed != tc.missed || strings.Join(lines, " ") != tc.lines {
			t.Errorf("%s: bridged %s, missed %q, lines %v", tc.query, diff, events[0].Missed, lines)
		}
	}
	if got := decode(t, "/call_end", "call_id=k1"); got.Type != callevent.CallEnd || got.Missed != callevent.MissedUnlessAnswered {
		t.Errorf("call_end: %+v", got)
	}
	strict := decodeWith(t, linuxbox.Config{SelfServiceIsMissed: true}, "", "event=endcall&call_id=k1&caller_type=external&call_answered=t")
	if strict[0].Missed != callevent.MissedUnlessAnswered {
		t.Errorf("with the setting: %q", strict[0].Missed)
	}
}

func TestTime(t *testing.T) {
	t.Parallel()
	for wire, want := range map[string]time.Time{
		"2026-01-02T10:00:00Z": at, "2026-01-02T10:00:00.5%2B00:00": at.Add(500 * time.Millisecond),
		"2026-01-02T11:00:00.00000+01:00": at, "2026-01-02T11:00:00+01:00": at, "2026-01-02T09:00:00-01:00": at,
		"2026-01-02T10:00:00.123456789Z": at.Add(123456789), "": received, "yesterday": received, "2026-01-02": received, "0001-01-01T00:00:00Z": received,
	} {
		if got := decode(t, "", "event=hangup_internal&exten_num=10&call_id=k1&ts="+wire); !got.Time.Equal(want) {
			t.Errorf("%s: %v, want %v", wire, got.Time, want)
		}
	}
	if got := decode(t, "", "event=dial&call_id=k1&ts=yesterday"); got.Attributes["ts"] != "yesterday" {
		t.Errorf("a ts that is not understood is lost: %v", got.Attributes)
	}
}

func TestID(t *testing.T) {
	t.Parallel()
	ts := "&ts=2026-01-02T10:00:00Z"
	for _, tc := range []struct {
		name, path, a, b string
		same, brief      bool
	}{
		{"cel_id", "/start_int_dial", "call_id=k1&cel_id=7&line_num=10", "call_id=k1&cel_id=7&line_num=10&x=1", true, false},
		{"another cel_id", "/start_int_dial", "call_id=k1&cel_id=7&line_num=10", "call_id=k1&cel_id=8&line_num=10", false, false},
		{"A", "", "event=hangup_internal&call_id=k1&exten_num=10" + ts, "event=hangup_internal&call_id=k1&exten_num=10&x=1" + ts, true, false},
		{"A, another line", "", "event=hangup_internal&call_id=k1&exten_num=10" + ts, "event=hangup_internal&call_id=k1&exten_num=11" + ts, false, false},
		{"A without ts", "", "event=hangup_internal&call_id=k1&exten_num=10", "event=hangup_internal&call_id=k1&exten_num=10", true, true},
		{"B", "/start_int_dial", "call_id=k1&line_num=10", "line_num=10&call_id=k1", true, true},
		{"B, another parameter", "/start_int_dial", "call_id=k1&line_num=10", "call_id=k1&line_num=11", false, true},
	} {
		a, b := decode(t, tc.path, tc.a), decode(t, tc.path, tc.b)
		if (a.ID == b.ID) != tc.same || (a.Repeat > 0) != tc.brief {
			t.Errorf("%s: ids %s and %s, repeat %v", tc.name, a.ID, b.ID, a.Repeat)
		}
	}
}

func TestConfiguredNames(t *testing.T) {
	t.Parallel()
	config := linuxbox.Config{
		EventParameter: "what", Events: map[string]linuxbox.Name{"Picked_Up": linuxbox.LineAnswered},
		Parameters: map[string]linuxbox.Name{"id": linuxbox.CallID, "Ext": linuxbox.Line}, Lines: []string{"70001", "70002"},
	}
	got := decodeWith(t, config, "", "what=picked_up&id=k1&ext=70001&caller_num=10")[0]
	if got.Type != callevent.Answer || got.CallID != "k1" || got.Side != "70001" || got.Caller.Local {
		t.Errorf("%+v", got)
	}
	if got := decodeWith(t, config, "/start_call", "id=k1&caller_num=70002&target_num=2025550143")[0]; got.Type != callevent.DialOut {
		t.Errorf("a configured line calls: %+v", got)
	}
	for _, wrong := range []linuxbox.Config{
		{Events: map[string]linuxbox.Name{"x": "Explosion"}}, {Parameters: map[string]linuxbox.Name{"x": "Colour"}},
	} {
		if _, err := linuxbox.New(wrong); err == nil || !strings.Contains(err.Error(), "expected one of") {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
}

func TestNotUnderstood(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		request callevent.Request
		says    string
	}{
		{callevent.Request{ReceivedAt: received, Query: "call_id=k1"}, "event=dial"},
		{callevent.Request{ReceivedAt: received, Path: "/", Query: "call_id=k1"}, "/start_call"},
		{callevent.Request{ReceivedAt: received, Query: "event=dial"}, "call_id"},
		{callevent.Request{Query: "event=dial&call_id=k1&ts=now"}, "ts"},
		{callevent.Request{ReceivedAt: received, ContentType: "text/xml", Body: "<dial/>"}, "text/xml"},
	} {
		if _, err := installation(t, linuxbox.Config{}).Decode(tc.request); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: %v, want an error that says %q", tc.request, err, tc.says)
		}
	}
}
