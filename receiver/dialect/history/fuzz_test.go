package history_test

import (
	"testing"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/dialecttest"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/history"
)

// FuzzDecode feeds the decoder what anybody may send to an event URL. Whatever it accepts must be
// fit to be stored, correlated and shown.
func FuzzDecode(f *testing.F) {
	f.Add(record(`,"extension":"1234*101","extensionID":"5101","from":"+12025550143","answer":"2026-01-02T10:00:06Z","talkSeconds":54,"result":"Answered"`), int64(1767348000))
	f.Add(record(`,"kind":"Queue","extension":"1234*900","bridged":false`), int64(1767348000))
	f.Add(record(`,"flow":"Out","to":"\ud800","fromName":"`+"\xff"+`"`), int64(-1))
	f.Add(`[{"id":"r1","callID":"c1","flow":"In","start":"2026-01-02T10:00:00+23:59","end":"2199-12-31T23:59:59.999999999Z","result":"Unknown"},null]`, int64(0))
	f.Fuzz(func(t *testing.T, body string, received int64) {
		request := callevent.Request{
			ReceivedAt: dialecttest.ReceivedAt(received), Method: "POST", Path: callhistory.Path, ContentType: callhistory.ContentType, Body: body,
		}
		for _, leg := range dialecttest.Decode(t, history.Over(nil, callevent.MissedUnlessAnswered), request) {
			outOfTime := !leg.Answer.IsZero() && (leg.Answer.Before(leg.Start) || leg.Answer.After(leg.End))
			if leg.Phase != correlation.Completed || leg.Talk < 0 || outOfTime {
				t.Fatalf("leg %+v", leg)
			}
		}
	})
}
