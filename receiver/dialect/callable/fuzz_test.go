package callable_test

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/callable"
)

// FuzzDecode feeds the decoder what anybody may send to an event URL. Whatever it accepts must be fit to be stored, correlated and shown.
func FuzzDecode(f *testing.F) {
	f.Add(`{"parentCallSid":"P1","callSid":"B1","childSid":"X1","event":"phone","status":"connected","from":"442079460123","to":"sip:201@tenant.example.com","extension":"201","meta":{"a":"b"},"timestamp":1767348000000}`, int64(1767348000))
	f.Add(`[{"parentCallSid":"P1","callSid":"P1","event":"call","status":"completed","timestamp":"1767348000000","meta":null},{"callSid":"B1","event":"record","status":"trancoded"}]`, int64(1767348000))
	f.Add(`{"PARENTCALLSID":"P1","parentCallSid":7,"event":"call","status":"early-media","hops":[1,{"a":null}]}`, int64(-1))
	f.Add("{\"parentCallSid\":\"P\xff\",\"event\":\"\\ud800\",\"timestamp\":1e30}", int64(1<<40))
	speaks := callable.New(callable.Config{OwnNumbers: []string{"4420794609*"}})
	f.Fuzz(func(t *testing.T, body string, received int64) {
		request := callevent.Request{Method: "POST", ContentType: "application/json", Body: body}
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
