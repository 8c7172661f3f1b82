package ringme_test

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/ringme"
)

// FuzzDecode feeds the decoder what anybody may send to an event URL. Whatever it accepts must be fit to be stored, correlated and shown.
func FuzzDecode(f *testing.F) {
	f.Add("", "EventType=dial-in&EventTime=1767348000123456&CallID=c1&SubCallID=5101-c1&CallFlow=in&CallStatus=CALLING"+
		"&CallerIDNum=%2B12025550143&CalledNumber=1234*101&CalledExtension=1234%2A101%40sip.example.com&CalledExtensionID=5101", form, int64(1767348000))
	f.Add("EventType=hangup&CallID=c1&SubCallID=5900-l2&Bridged=no&CallStatus=ANSWER&Duration=60000000&BridgedDuration=1", "", "", int64(0))
	f.Add("", "agent_id=77&agent_status=available&extension_name=1234*101%40x", form, int64(1767348000))
	f.Add("", "event_type=call-status-change&extension_id=5101&old_status_id=null&change_dt=2026-01-02+10%3A01%3A01", form, int64(1767348000))
	f.Add("EventType=answer&CallID=c1", "CallerIDNum=+1202&Transfered=yes&RemoteNumber=1234*103", //nolint:misspell // as it is on the wire
		form+"; charset=utf-8", int64(-1))
	f.Add("%zz", "&&==&=1&a&EventType=%00&CallID=%ff", "text/plain", int64(1<<40))
	f.Fuzz(func(t *testing.T, query, body, contentType string, received int64) {
		request := callevent.Request{Method: "POST", Query: query, Body: body, ContentType: contentType}
		if received != 0 {
			request.ReceivedAt = time.Unix(received%(1<<33), 0).UTC()
		}
		events, err := ringme.Dialect{}.Decode(request)
		again, errAgain := ringme.Dialect{}.Decode(request)
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
	})
}

func check(t *testing.T, e callevent.Event) {
	t.Helper()
	if e.ID == "" || e.Type == "" || e.Time.IsZero() || e.Received.IsZero() {
		t.Fatalf("an event without id, type or time: %+v", e)
	}
	if e.Talk != nil && *e.Talk < 0 {
		t.Fatalf("a negative talk time: %+v", e)
	}
	for _, text := range []string{e.ID, e.CallID, e.LegID, e.Caller.Name, e.Caller.Number, e.Called.Number, e.WireStatus} {
		if !utf8.ValidString(text) {
			t.Fatalf("%q is not UTF-8", text)
		}
	}
	if len(e.CallID) > 256 || len(e.LegID) > 256 || len(e.Caller.Number) > 256 || len(e.Caller.Extension) > 64 || len(e.DID) > 64 {
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
	correlation.Derive([]callevent.Event{e}, correlation.DefaultRules())
}
