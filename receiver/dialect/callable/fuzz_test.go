package callable_test

import (
	"testing"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/callable"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/dialecttest"
)

// FuzzDecode feeds the decoder what anybody may send to an event URL. Whatever it accepts must be
// fit to be stored, correlated and shown.
func FuzzDecode(f *testing.F) {
	f.Add(`{"parentCallSid":"P1","callSid":"B1","childSid":"X1","event":"phone","status":"connected","from":"442079460123","to":"sip:201@tenant.example.com","extension":"201","meta":{"a":"b"},"timestamp":1767348000000}`, int64(1767348000))
	f.Add(`[{"parentCallSid":"P1","callSid":"P1","event":"call","status":"completed","timestamp":"1767348000000","meta":null},{"callSid":"B1","event":"record","status":"trancoded"}]`, int64(1767348000))
	f.Add(`{"PARENTCALLSID":"P1","parentCallSid":7,"event":"call","status":"early-media","hops":[1,{"a":null}]}`, int64(-1))
	f.Add("{\"parentCallSid\":\"P\xff\",\"event\":\"\\ud800\",\"timestamp\":1e30}", int64(1<<40))
	speaks := callable.New(callable.Config{OwnNumbers: []string{"4420794609*"}})
	f.Fuzz(func(t *testing.T, body string, received int64) {
		request := callevent.Request{ReceivedAt: dialecttest.ReceivedAt(received), Method: "POST", ContentType: "application/json", Body: body}
		dialecttest.Decode(t, speaks, request)
	})
}
