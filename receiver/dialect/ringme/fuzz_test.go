package ringme_test

import (
	"testing"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/dialecttest"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/ringme"
)

// FuzzDecode feeds the decoder what anybody may send to an event URL. Whatever it accepts must be
// fit to be stored, correlated and shown.
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
		request := callevent.Request{ReceivedAt: dialecttest.ReceivedAt(received), Method: "POST", Query: query, Body: body, ContentType: contentType}
		for _, leg := range dialecttest.Decode(t, ringme.Dialect{}, request) {
			if len(leg.DID) > 64 || leg.Talk < 0 {
				t.Fatalf("leg %+v", leg)
			}
		}
	})
}
