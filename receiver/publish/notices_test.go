package publish

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/receiver/backoff"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

func TestMissedCallIsOneEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		leg := missedAtQueue("m")
		s.run(func() {
			s.deliver(leg)
			s.deliver(leg)
			pass(time.Second)
			if got := s.made("create event"); got != 1 {
				t.Errorf("%d requests for one missed call", got)
			}
		})
		s.run(func() { s.deliver(leg) }) // delivered again after a crash
		events := s.events()
		if len(events) != 1 {
			t.Fatalf("%d events, want 1", len(events))
		}
		event := events[0]
		if event.Reason != "MissedCall" || event.Type != corev1.EventTypeWarning {
			t.Errorf("event: %v", event)
		}
		if want := "Missed call from +12025550143 to 12025550100 at 1234*900, waited 45 s"; event.Note != want {
			t.Errorf("note %q, want %q", event.Note, want)
		}
		wantRegarding := corev1.ObjectReference{
			APIVersion: "pbx-operator.io/v1alpha1", Kind: "ExtensionMapping", Namespace: "telephony", Name: "sales-queue", UID: "queue-uid",
		}
		if diff := cmp.Diff(wantRegarding, event.Regarding); diff != "" {
			t.Errorf("regarding (-want +got):\n%s", diff)
		}
		if event.Related == nil || event.Related.Kind != "CallLeg" || event.Related.Name != s.shown()["m"].Name {
			t.Errorf("related: %v", event.Related)
		}
	})
}

func TestMaskedNumbersAreInNoEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.policy.MaskNumbers = true
		s.run(func() {
			strange := missedAtQueue("strange")
			strange.From, strange.DID, strange.To = "ann.novak@sip.example.com", "", "1234*900"
			s.deliver(missedAtQueue("m"), strange)
			pass(time.Second)
			events := s.events()
			if len(events) != 2 {
				t.Fatalf("%d events, want 2", len(events))
			}
			notes := events[0].Note + "\n" + events[1].Note
			for _, number := range []string{"2025550143", "2025550100", "ann", "sip.example.com"} {
				if strings.Contains(notes, number) {
					t.Errorf("%s is shown in %q", number, notes)
				}
			}
			if !strings.Contains(notes, "Missed call from ***43 to ***00 at 1234*900, waited 45 s") {
				t.Errorf("the note tells too little: %q", notes)
			}
			if leg := s.shown()["m"]; leg.Status.From != "+12025550143" {
				t.Errorf("the CallLeg shows %q", leg.Status.From)
			}
		})
	})
}

func TestOnlyRecordedMissedLegsAreAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.run(func() {
			unrecorded := missedAtQueue("unrecorded")
			unrecorded.Logged = false
			old := missedAtQueue("old")
			old.End = time.Now().Add(-2 * time.Hour)
			s.deliver(unrecorded, old, finished("answered"), ringing("live"))
			if events := s.events(); len(events) != 0 {
				t.Errorf("events: %v", events)
			}
		})
	})
}

func TestMissedCallSomewhereElseRegardsTheIntegration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.run(func() {
			leg := missedAtQueue("m")
			leg.Extension, leg.From = "1234*950", ""
			s.deliver(leg)
			events := s.events()
			if len(events) != 1 || events[0].Regarding.Kind != "PBXIntegration" || events[0].Regarding.UID != "pbx-uid" {
				t.Fatalf("events: %v", events)
			}
			if want := "Missed call from an unknown number to 12025550100 at 1234*950, waited 45 s"; events[0].Note != want {
				t.Errorf("note %q", events[0].Note)
			}
		})
	})
}

func TestFloodOfMissedCallsIsCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.policy.MaxObjects = 1000
		s.run(func() {
			for i := range 100 {
				s.deliver(missedAtQueue(fmt.Sprint(i)))
			}
			if got := len(s.events()); got != missedBurst {
				t.Errorf("%d events, want %d", got, missedBurst)
			}
			if got := s.counter("pbx_receiver_notices_total", "reason=MissedCall", "outcome=suppressed"); got != 100-missedBurst {
				t.Errorf("%v suppressed, want %d", got, 100-missedBurst)
			}
			pass(missedEvery)
			s.deliver(missedAtQueue("next"))
			var told int
			for _, event := range s.events() {
				if strings.HasSuffix(event.Note, "(75 more missed calls had no Event of their own)") {
					told++
				}
			}
			if told != 1 {
				t.Errorf("%d events tell of the suppressed ones, want 1", told)
			}
			if got := len(s.shown()); got != 101 {
				t.Errorf("%d legs are shown, want all 101", got)
			}
		})
	})
}

func TestMissedCallIsAnnouncedOnceTheServerIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		away := true
		s.fault = func(_ string, object client.Object) error {
			if _, ok := object.(*eventsv1.Event); ok && away {
				return errors.New("connection reset")
			}
			return nil
		}
		s.run(func() {
			for i := range missedBurst {
				s.deliver(missedAtQueue(fmt.Sprint(i)))
			}
			pass(20 * time.Minute) // failed attempts must not use up the allowance
			s.change(func() { away = false })
			pass(longestRetry + 2*backoff.Default.Max)
			if got := len(s.events()); got != missedBurst {
				t.Errorf("%d events, want %d", got, missedBurst)
			}
			if s.made("create leg") != missedBurst || s.made("update leg") != 0 {
				t.Errorf("the legs were written more than once: %v", s.calls)
			}
		})
	})
}

func TestReceiverThatMayNotPostEventsGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.fault = func(_ string, object client.Object) error {
			if _, ok := object.(*eventsv1.Event); ok {
				return apierrors.NewForbidden(eventsv1.SchemeGroupVersion.WithResource("events").GroupResource(), object.GetName(), errors.New("no"))
			}
			return nil
		}
		s.run(func() {
			s.deliver(missedAtQueue("m"))
			if s.counter("pbx_receiver_callleg_pending") != 0 || len(s.shown()) != 1 {
				t.Error("the leg waits for its Event")
			}
			if s.counter("pbx_receiver_notices_total", "outcome=failed") != 1 {
				t.Error("the failure is not counted")
			}
		})
	})
}

func TestQuarantineIsSummedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		ctx, stop := context.WithCancel(t.Context())
		notices := NewNotices(NoticesConfig{
			Client: s.kube, Integration: types.NamespacedName{Namespace: "telephony", Name: "head-office"}, Policy: func() (Policy, bool) { return s.policy, true },
		})
		ended := make(chan error, 1)
		go func() { ended <- notices.Run(ctx) }()
		defer func() { stop(); <-ended }()
		for range 1000 {
			notices.Quarantined(2, "EventType is missing")
			synctest.Wait()
		}
		pass(noticeEvery + time.Second)
		events := s.events()
		if len(events) > noticeBurst+2 {
			t.Errorf("%d events", len(events))
		}
		var total int
		for _, event := range events {
			var count int
			if _, err := fmt.Sscanf(event.Note, "%d events of the PBX could not be understood", &count); err != nil {
				t.Errorf("note %q: %v", event.Note, err)
			}
			total += count
		}
		if total != 2000 {
			t.Errorf("the notices add up to %d, want 2000", total)
		}
	})
}

func TestMissedNote(t *testing.T) {
	short := correlation.Leg{From: "+12025550143", To: "1234*900"}
	if got, want := missedNote(short, 1, false), "Missed call from +12025550143 to 1234*900 (1 more missed call had no Event of their own)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
