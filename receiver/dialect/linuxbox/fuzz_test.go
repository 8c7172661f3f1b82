package linuxbox_test

import (
	"testing"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/dialecttest"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/linuxbox"
)

// FuzzDecode feeds the decoder what anybody may send to an event URL. Whatever it accepts must be
// fit to be stored, correlated and shown.
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
		request := callevent.Request{ReceivedAt: dialecttest.ReceivedAt(received), Method: "POST", Path: path, Query: query, Body: body}
		dialecttest.Decode(t, speaks, request)
	})
}
