package publish

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// TestSlowAPIServerHoldsNothingUp: calls come ten times as fast as their legs are written.
func TestSlowAPIServerHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.slow = 160 * time.Millisecond // 100 writes a second with 16 workers
		s.run(func() {
			const legs, perTick = 20000, 10
			s.deliver(ringing("live"))
			for i := 0; i < legs; i += perTick {
				for n := range perTick {
					s.deliver(finished(fmt.Sprint(i + n)))
				}
				pass(10 * time.Millisecond)
				if waiting := s.counter("pbx_receiver_callleg_pending"); waiting > float64(2*s.policy.MaxObjects) {
					t.Fatalf("%v legs wait in memory, with room for %d objects", waiting, s.policy.MaxObjects)
				}
			}
			if got := s.feed.settled.Load(); got < legs-int64(2*s.policy.MaxObjects) {
				t.Errorf("only %d of %d legs are done with: the log waits for the API server", got, legs)
			}
			if got := len(s.shown()); got > s.policy.MaxObjects {
				t.Errorf("%d objects, want at most %d", got, s.policy.MaxObjects)
			}
			pass(time.Minute)
			shown := s.shown()
			if _, ok := shown["live"]; !ok {
				t.Error("a leg that lasts was evicted")
			}
			for i := range 20 {
				if _, ok := shown[fmt.Sprint(legs-1-i)]; !ok {
					t.Errorf("leg %d of %d, among the newest, is not shown", legs-1-i, legs)
				}
			}
			created := s.made("create leg") - 1
			if skipped := int(s.counter("pbx_receiver_callleg_dropped_total", "reason=behind")); skipped+created != legs || skipped == 0 {
				t.Errorf("%d of %d legs were skipped and %d created: the others are not accounted for", skipped, legs, created)
			}
			events := s.events()
			if len(events) == 0 || len(events) > 5 || events[0].Reason != v1alpha1.ReasonPublicationBehind {
				t.Errorf("%d events: %v", len(events), events)
			}
		})
	})
}

// TestShownLegEndsHoweverManyAreNew: what is on show does not ring for ever because others came.
func TestShownLegEndsHoweverManyAreNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.policy.MaxObjects = 10
		s.run(func() {
			s.deliver(ringing("shown"))
			s.slow = time.Second
			for i := range 2000 {
				s.deliver(ringing(fmt.Sprint(i)))
			}
			s.deliver(finished("shown"))
			for i := range 2000 {
				s.deliver(finished(fmt.Sprint("more", i)))
			}
			pass(3 * time.Second)
			if leg, ok := s.shown()["shown"]; ok && leg.Status.Phase != v1alpha1.PhaseCompleted {
				t.Errorf("the leg that was shown still is %s", leg.Status.Phase)
			}
		})
	})
}

// TestAPIServerAwayForLongKeepsTheNewest: memory is bounded, and what is shown afterwards is what
// matters then.
func TestAPIServerAwayForLongKeepsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.policy.MaxObjects = 50
		away := true
		s.fault = func(string, client.Object) error {
			if away {
				return errors.New("connection refused")
			}
			return nil
		}
		s.run(func() {
			const legs = 3000
			for i := range legs {
				s.deliver(finished(fmt.Sprint(i)))
				pass(time.Second)
			}
			if waiting := s.counter("pbx_receiver_callleg_pending"); waiting > 50+workers*10 {
				t.Errorf("%v legs wait in memory", waiting)
			}
			s.change(func() { away = false })
			pass(time.Minute)
			shown := s.shown()
			for i := range 25 {
				if _, ok := shown[fmt.Sprint(legs-1-i)]; !ok {
					t.Errorf("leg %d of %d is not shown", legs-1-i, legs)
				}
			}
		})
		if lines := strings.Count(s.log.String(), "\n"); lines > 1000 {
			t.Errorf("%d lines of log", lines)
		}
	})
}
