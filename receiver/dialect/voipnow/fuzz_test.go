package voipnow_test

import (
	"testing"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/dialecttest"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/voipnow"
)

// FuzzDecode feeds the decoder what anybody may send to an event URL. Whatever it accepts must be
// fit to be stored, correlated and shown.
func FuzzDecode(f *testing.F) {
	f.Add("/dial-in", "", "CallID=c1&CallStatus=CALLING&CallFlow=IN&CallerIDNum=12025550143&CallerIDNam=x&CalledDID=12025550100&CalledExtension=0007%2A101", int64(1767348000))
	f.Add("/hangup", "CallID=c1&CallFlow=out&CallerExtension=0007*101@pbx.example.com&CallStatus=UNKNOWN", "", int64(1767348000))
	f.Add("/answer-out", "CallID=c1", "CallAPIID=pc-1&Tag=%ff", int64(-1))
	f.Add("dial-out", "%zz", "&&==&=1&CallID=%00", int64(1<<40))
	speaks := voipnow.Dialect{}
	f.Fuzz(func(t *testing.T, path, query, body string, received int64) {
		request := callevent.Request{ReceivedAt: dialecttest.ReceivedAt(received), Method: "POST", Path: path, Query: query, Body: body}
		dialecttest.Decode(t, speaks, request)
	})
}
