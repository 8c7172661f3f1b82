package voipnow_test

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/voipnow"
)

// FuzzDecode feeds the decoder what anybody may send to an event URL. Whatever it accepts must be fit to be stored, correlated and shown.
func FuzzDecode(f *testing.F) {
	f.Add("/dial-in", "", "CallID=c1&CallStatus=CALLING&CallFlow=IN&CallerIDNum=12025550143&CallerIDNam=x&CalledDID=12025550100&CalledExtension=0007%2A101", int64(1767348000))
	f.Add("/hangup", "CallID=c1&CallFlow=out&CallerExtension=0007*101@pbx.example.com&CallStatus=UNKNOWN", "", int64(1767348000))
	f.Add("/answer-out", "CallID=c1", "CallAPIID=pc-1&Tag=%ff", int64(-1))
	f.Add("dial-out", "%zz", "&&==&=1&CallID=%00", int64(1<<40))
	speaks := voipnow.Dialect{}
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
