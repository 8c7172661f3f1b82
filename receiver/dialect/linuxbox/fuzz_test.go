package linuxbox_test

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/linuxbox"
)

// FuzzDecode feeds the decoder what anybody may send to an event URL. Whatever it accepts must be fit to be stored, correlated and shown.
func FuzzDecode(f *testing.F) {
	f.Add("", "event=dial&ts=2026-01-02T11:00:00.00000+01:00&call_id=1600907305.605&caller_type=external&caller_num=2025550143&called_num=2025550100", "", int64(1767348000))
	f.Add("/start_int_dial", "call_id=k1&cel_id=7&line_num=10&caller_num=2025550143&direction=incoming&custom_call_id=x", "", int64(1767348000))
	f.Add("", "", "event=endcall&call_id=k1&caller_type=external&call_answered=t&answering_exten=10&last_dialed_exten=11&ts=2026-01-02T10:00:00Z", int64(0))
	f.Add("/queue_in", "call_id=k1&queue_name=%ff", "", int64(-1))
	f.Add("/a/b/../music_on_hold", "%zz", "call_id=k1", int64(1<<40))
	speaks, err := linuxbox.New(linuxbox.Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path, query, body string, received int64) {
		request := callevent.Request{Method: "POST", Path: path, Query: query, Body: body}
		if received != 0 {
			request.ReceivedAt = time.Unix(received%(1<<33), 0).UTC()
		}
		events, err := speaks.Decode(request)
		again, errAgain := speaks.Decode(request)
		if (err == nil) != (errAgain == nil) || !cmp.Equal(events, again) {
			t.Fatalf("decoded twice: %+v, %v and %+v, %v", events, err, again, errAgain)
		}
		if err != nil {
			if err.Error() == "" || len(err.Error()) > 1000 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		for _, e := range events {
			check(t, e)
		}
		correlation.Derive(events, correlation.DefaultRules())
	})
}

func check(t *testing.T, e callevent.Event) {
	t.Helper()
	if e.ID == "" || e.Type == "" || e.Time.IsZero() || e.Received.IsZero() {
		t.Fatalf("an event without id, type or time: %+v", e)
	}
	for _, text := range []string{e.ID, e.CallID, e.LegID, e.Side, e.Caller.Name, e.Caller.Number, e.Called.Number, e.WireStatus} {
		if !utf8.ValidString(text) {
			t.Fatalf("%q is not UTF-8", text)
		}
	}
	if len(e.CallID) > 256 || len(e.LegID) > 250 || len(e.Side) > 250 || len(e.Caller.Number) > 256 {
		t.Fatalf("longer than a CallLeg can show: %+v", e)
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatalf("not fit to be stored: %v", err)
	}
	var stored callevent.Event
	if err := json.Unmarshal(text, &stored); err != nil || !cmp.Equal(stored, e) {
		t.Fatalf("stored and read back: %v\n%s", err, cmp.Diff(e, stored))
	}
}
