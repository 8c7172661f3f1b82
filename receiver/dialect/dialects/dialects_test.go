package dialects_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/dialects"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/linuxbox"
)

func TestNew(t *testing.T) {
	t.Parallel()
	for pbx, request := range map[string]callevent.Request{
		"RingMe":   {Query: "EventType=dial-in&CallID=c1"},
		"VoipNow":  {Path: "/dial-in", Query: "CallID=c1"},
		"callable": {Body: `{"parentCallSid":"c1","event":"call","status":"trying"}`},
		"LINUXBOX": {Path: "/start_call", Query: "call_id=c1"},
	} {
		speaks, err := dialects.New(pbx, dialects.Settings{})
		if err != nil {
			t.Fatalf("%s: %v", pbx, err)
		}
		request.ReceivedAt = time.Unix(1767348000, 0)
		if events, err := speaks.Decode(request); err != nil || len(events) != 1 || events[0].CallID != "c1" {
			t.Errorf("%s: %+v, %v", pbx, events, err)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	if _, err := dialects.New("Asterisk", dialects.Settings{}); err == nil || !strings.Contains(err.Error(), "VoipNow") {
		t.Errorf("an unknown type: %v, want an error that lists the known ones", err)
	}
	wrong := dialects.Settings{LinuxBox: linuxbox.Config{Events: map[string]linuxbox.Name{"x": "y"}}}
	if _, err := dialects.New("LinuxBox", wrong); err == nil {
		t.Error("settings that mean nothing are accepted")
	}
	if _, err := dialects.New("VoipNow", wrong); err != nil {
		t.Errorf("the settings of another PBX: %v", err)
	}
}
