package history_test

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/history"
)

// FuzzDecode feeds the decoder what anybody may send to an event URL. Whatever it accepts must be fit to be stored, correlated and shown.
func FuzzDecode(f *testing.F) {
	f.Add(record(`,"extension":"1234*101","extensionID":"5101","from":"+12025550143","answer":"2026-01-02T10:00:06Z","talkSeconds":54,"result":"Answered"`), int64(1767348000))
	f.Add(record(`,"kind":"Queue","extension":"1234*900","bridged":false`), int64(1767348000))
	f.Add(record(`,"flow":"Out","to":"\ud800","fromName":"`+"\xff"+`"`), int64(-1))
	f.Add(`[{"id":"r1","callID":"c1","flow":"In","start":"2026-01-02T10:00:00+23:59","end":"2199-12-31T23:59:59.999999999Z","result":"Unknown"},null]`, int64(0))
	f.Fuzz(func(t *testing.T, body string, received int64) {
		request := callevent.Request{Method: "POST", Path: callhistory.Path, ContentType: callhistory.ContentType, Body: body}
		if received != 0 {
			request.ReceivedAt = time.Unix(received%(1<<33), 0).UTC()
		}
		speaks := history.Over(nil, callevent.VerdictLegs)
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
		for _, leg := range correlation.Derive(events, correlation.DefaultRules()) {
			outOfTime := !leg.Answer.IsZero() && (leg.Answer.Before(leg.Start) || leg.Answer.After(leg.End))
			if leg.Phase != correlation.Completed || leg.Talk < 0 || outOfTime {
				t.Fatalf("leg %+v", leg)
			}
		}
	})
}

func check(t *testing.T, e callevent.Event) {
	t.Helper()
	if e.ID == "" || e.Type != callevent.History || e.Time.IsZero() || e.Received.IsZero() || e.Record.End.Before(e.Time) {
		t.Fatalf("an event without id, type or time: %+v", e)
	}
	for _, text := range []string{e.ID, e.CallID, e.LegID, e.Caller.Name, e.Caller.Number, e.Called.Number, e.WireStatus} {
		if !utf8.ValidString(text) {
			t.Fatalf("%q is not UTF-8", text)
		}
	}
	if len(e.CallID) > 256 || len(e.LegID) > 250 || len(e.Caller.Number) > 256 || len(e.Caller.Name) > 256 {
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
