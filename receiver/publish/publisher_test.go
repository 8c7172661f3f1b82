package publish

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/backoff"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

func TestLiveLegIsShownFromTheFirstRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.run(func() {
			s.deliver(ringing("a"))
			leg := s.shown()["a"]
			if leg.Status.Phase != v1alpha1.PhaseRinging || leg.Labels[v1alpha1.LabelExpires] != "" {
				t.Errorf("after the first ring: %+v", leg)
			}
			wantOwner := []metav1.OwnerReference{{APIVersion: "pbx-operator.io/v1alpha1", Kind: "PBXIntegration", Name: "head-office", UID: "pbx-uid"}}
			if diff := cmp.Diff(wantOwner, leg.OwnerReferences); diff != "" {
				t.Errorf("owner (-want +got):\n%s", diff)
			}
			pass(time.Second)
			s.deliver(answered("a"))
			pass(time.Second)
			s.deliver(finished("a"))
			leg = s.shown()["a"]
			if diff := cmp.Diff(Object("", "head-office", finished("a")).Status, leg.Status, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("after the hangup (-want +got):\n%s", diff)
			}
			if want := time.Now().UTC().Add(time.Hour).Format("20060102T1504"); leg.Labels[v1alpha1.LabelExpires] != want {
				t.Errorf("expires %q, want %q", leg.Labels[v1alpha1.LabelExpires], want)
			}
			if s.made("create leg") != 1 || s.made("update leg") != 2 {
				t.Errorf("requests: %v", s.calls)
			}
			if got := s.counter("pbx_receiver_legs_published_total", "result=Answered", "direction=Inbound"); got != 1 {
				t.Errorf("published %v legs, want 1", got)
			}
		})
	})
}

func TestChangesOfOneLegAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.run(func() {
			for i := range 10 {
				leg := ringing("a")
				leg.FromName, leg.Revision = fmt.Sprint("name ", i), int64(i+1)
				s.deliver(leg)
				pass(30 * time.Millisecond)
			}
			s.deliver(finished("b"))
			if _, ok := s.shown()["b"]; !ok {
				t.Error("another leg had to wait")
			}
			pass(250 * time.Millisecond)
			if got := s.shown()["a"].Status.FromName; got != "name 9" {
				t.Errorf("half a second later the leg shows %q, want the last state", got)
			}
			pass(time.Minute)
			if s.made("create leg") != 2 || s.made("update leg") != 1 {
				t.Errorf("requests: %v", s.calls)
			}
		})
	})
}

func TestChangeDuringAWriteIsCoalescedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.slow = 10 * time.Millisecond
		s.run(func() {
			s.deliver(ringing("a"))
			s.deliver(answered("a"))
			pass(coalesce)
			if s.made("create leg") != 1 || s.made("update leg") != 0 {
				t.Errorf("requests: %v", s.calls)
			}
			pass(time.Second)
			if s.made("update leg") != 1 || s.shown()["a"].Status.Phase != v1alpha1.PhaseAnswered {
				t.Errorf("the last state is not shown after requests %v", s.calls)
			}
		})
	})
}

func TestCompletedIsOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.policy.Publish = v1alpha1.PublishCompleted
		s.run(func() {
			s.deliver(ringing("a"))
			s.deliver(answered("a"))
			if len(s.shown()) != 0 {
				t.Error("a live leg is shown")
			}
			s.deliver(finished("a"))
			s.deliver(finished("a"), revision(finished("a"), 4)) // redelivered, and touched by an event of another leg
			pass(time.Minute)
			if s.made("create leg") != 1 || s.made("update leg") != 0 {
				t.Errorf("requests: %v", s.calls)
			}
			corrected := revision(finished("a"), 5)
			corrected.RecordingID = "rec-1"
			s.deliver(corrected)
			if got := s.shown()["a"].Status.RecordingID; got != "rec-1" {
				t.Errorf("recording %q, want the late one", got)
			}
		})
	})
}

func TestPolicyMayChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.run(func() {
			s.deliver(ringing("a"))
			s.change(func() { s.policy.Publish = v1alpha1.PublishCompleted })
			pass(time.Second)
			s.deliver(answered("a"), ringing("b"))
			pass(time.Second)
			s.deliver(finished("a"))
			shown := s.shown()
			if _, ok := shown["b"]; ok || shown["a"].Status.Phase != v1alpha1.PhaseCompleted || s.made("update leg") != 1 {
				t.Errorf("shown %v after requests %v", shown, s.calls)
			}
		})
	})
}

func TestHigherRevisionIsNeverOverwritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		newer := revision(finished("a"), 9)
		s := newStand(t, Object("telephony", "head-office", newer))
		s.run(func() {
			s.deliver(answered("a"), ringing("b"))
			if got := s.shown()["a"].Status.Revision; got != 9 || s.made("update leg") != 0 {
				t.Errorf("revision %d after requests %v", got, s.calls)
			}
			// Behind our back, as another receiver does while the call moves over to it.
			other := s.shown()["b"]
			other.Status = Status(revision(answered("b"), 7))
			if err := s.kube.Update(t.Context(), &other); err != nil {
				t.Fatal(err)
			}
			pass(time.Second)
			s.deliver(revision(answered("b"), 5))
			if got := s.shown()["b"].Status.Revision; got != 7 {
				t.Errorf("revision 7 was overwritten by %d", got)
			}
			pass(time.Second)
			s.deliver(revision(finished("b"), 8))
			if got := s.shown()["b"].Status.Revision; got != 8 {
				t.Errorf("revision 8 did not get through: %d", got)
			}
		})
	})
}

func TestDeletedByAUserComesBackWithTheNextChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.run(func() {
			s.deliver(ringing("a"))
			leg := s.shown()["a"]
			if err := s.kube.Delete(t.Context(), &leg); err != nil {
				t.Fatal(err)
			}
			pass(time.Second)
			s.deliver(finished("a"))
			if s.shown()["a"].Status.Phase != v1alpha1.PhaseCompleted {
				t.Error("the finished leg is not shown")
			}
		})
	})
}

// TestAPIServerAway also looks at the memory and the pressure on the server: nothing is given up,
// and nothing hammers.
func TestAPIServerAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		away := true
		s.policy.MaxObjects = 1000
		s.fault = func(string, client.Object) error {
			if away {
				return errors.New("connection refused")
			}
			return nil
		}
		s.run(func() {
			const legs = 500
			for i := range legs {
				s.deliver(ringing(fmt.Sprint(i)), finished(fmt.Sprint(i)))
			}
			if s.counter("pbx_receiver_callleg_pending") != legs {
				t.Errorf("%v legs wait, want %d", s.counter("pbx_receiver_callleg_pending"), legs)
			}
			pass(time.Minute)
			if got := s.made("create leg"); got > workers*25 {
				t.Errorf("%d requests in a minute without a server", got)
			}
			s.change(func() { away = false })
			pass(longestRetry)
			shown := s.shown()
			if len(shown) != legs {
				t.Fatalf("%d legs are shown, want %d", len(shown), legs)
			}
			for id, leg := range shown {
				if leg.Status.Revision != 3 {
					t.Errorf("leg %s shows revision %d", id, leg.Status.Revision)
				}
			}
			if s.counter("pbx_receiver_callleg_pending") != 0 {
				t.Error("legs still wait")
			}
		})
		if lines := strings.Count(s.log.String(), "\n"); lines > 30 {
			t.Errorf("%d lines of log", lines)
		}
	})
}

// TestNothingIsSettledBeforeItIsWritten: what was not written is delivered again after a crash.
func TestNothingIsSettledBeforeItIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.fault = func(string, client.Object) error { return apierrors.NewTooManyRequests("busy", 30) }
		s.run(func() {
			s.deliver(finished("a"), finished("b"))
			pass(29 * time.Second)
			if got := s.feed.settled.Load(); got != 0 {
				t.Error("a batch was settled that is not written")
			}
			if got := s.made("create leg"); got > 2 {
				t.Errorf("%d requests in half a minute, though the server asked to be left alone", got)
			}
		})
		s.fault = nil
		s.run(func() {
			s.deliver(finished("a"), finished("b"))
			if got := s.feed.settled.Load(); got != 1 || len(s.shown()) != 2 {
				t.Errorf("%d batches settled, shown %v", got, s.shown())
			}
		})
	})
}

func TestRefusedLegDoesNotBlockOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.fault = func(_ string, object client.Object) error {
			if leg, ok := object.(*v1alpha1.CallLeg); ok && leg.Status.LegID == "bad" {
				return apierrors.NewInvalid(v1alpha1.GroupVersion.WithKind("CallLeg").GroupKind(), leg.Name, field.ErrorList{
					field.Invalid(field.NewPath("status", "from"), leg.Status.From, "is no number"),
				})
			}
			return nil
		}
		s.run(func() {
			s.deliver(finished("bad"), finished("good"))
			if _, ok := s.shown()["good"]; !ok {
				t.Error("the good leg is not shown")
			}
			if s.counter("pbx_receiver_callleg_pending") != 0 || s.counter("pbx_receiver_callleg_dropped_total", "reason=refused") != 1 {
				t.Error("the bad leg still waits")
			}
			events := s.events()
			if len(events) != 1 || events[0].Reason != v1alpha1.ReasonCallLegRefused || !strings.Contains(events[0].Note, "status.from") {
				t.Errorf("events: %v", events)
			}
			if got := s.counter("pbx_receiver_callleg_objects"); got != 1 {
				t.Errorf("%v objects counted, want 1", got)
			}
		})
		if text := s.log.String(); !strings.Contains(text, Name("head-office", "call-bad", "bad")) || strings.Contains(text, "2025550143") {
			t.Errorf("log: %s", text)
		}
	})
}

// TestPoisonedLegDoesNotBlockOthersForEver: an admission policy that denies one leg answers as a
// missing permission does.
func TestPoisonedLegDoesNotBlockOthersForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.fault = func(_ string, object client.Object) error {
			if leg, ok := object.(*v1alpha1.CallLeg); ok && leg.Status.LegID == "bad" {
				return apierrors.NewForbidden(v1alpha1.GroupVersion.WithResource("calllegs").GroupResource(), leg.Name, errors.New("denied by policy"))
			}
			return nil
		}
		s.run(func() {
			s.deliver(finished("bad"))
			for i := range 100 {
				pass(5 * time.Second)
				s.deliver(finished(fmt.Sprint(i)))
			}
			if got := len(s.shown()); got != 100 {
				t.Errorf("%d legs are shown, want 100", got)
			}
			if s.counter("pbx_receiver_callleg_dropped_total", "reason=refused") != 1 || s.counter("pbx_receiver_callleg_pending") != 0 {
				t.Error("the denied leg still waits")
			}
		})
	})
}

func TestMissingPermissionLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		denied := true
		s.fault = func(_ string, object client.Object) error {
			if denied {
				return apierrors.NewForbidden(v1alpha1.GroupVersion.WithResource("calllegs").GroupResource(), object.GetName(), errors.New("no role yet"))
			}
			return nil
		}
		s.run(func() {
			s.deliver(finished("a"), finished("b"))
			pass(time.Hour)
			s.change(func() { denied = false })
			pass(longestRetry + 2*backoff.Default.Max)
			if len(s.shown()) != 2 {
				t.Errorf("shown: %v", s.shown())
			}
		})
	})
}

func TestDeletingIntegrationDropsQuietly(t *testing.T) {
	terminating := apierrors.NewForbidden(v1alpha1.GroupVersion.WithResource("calllegs").GroupResource(), "a", errors.New("namespace is terminating"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for name, tc := range map[string]func(*stand){
		"deleting":              func(s *stand) { s.policy.Deleting = true },
		"gone":                  func(s *stand) { s.gone = true },
		"namespace terminating": func(s *stand) { s.fault = func(string, client.Object) error { return terminating } },
		"namespace gone": func(s *stand) {
			s.fault = func(string, client.Object) error {
				return apierrors.NewNotFound(corev1.Resource("namespaces"), "telephony")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStand(t)
				tc(s)
				s.run(func() {
					s.deliver(finished("a"))
					if s.counter("pbx_receiver_callleg_pending") != 0 || s.counter("pbx_receiver_callleg_dropped_total", "reason=deleting") != 1 {
						t.Error("the leg was not dropped")
					}
				})
				if s.log.Len() > 0 || len(s.shown()) > 0 {
					t.Errorf("shown %v, log %s", s.shown(), s.log)
				}
			})
		})
	}
}

func TestCapEvictsTheOldestFinishedLegs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.policy.MaxObjects = 4
		s.run(func() {
			s.deliver(ringing("live"))
			for _, id := range []string{"1", "2", "3", "4"} {
				pass(time.Minute)
				s.deliver(finished(id))
				if got := len(s.shown()); got > 4 {
					t.Errorf("%d objects", got)
				}
			}
			shown := s.shown()
			for _, id := range []string{"live", "2", "3", "4"} {
				if _, ok := shown[id]; !ok {
					t.Errorf("leg %s is gone", id)
				}
			}
			if got := s.counter("pbx_receiver_callleg_evictions_total"); got != 1 {
				t.Errorf("%v evictions, want 1", got)
			}
		})
	})
}

func TestCapOfLiveLegsIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.policy.MaxObjects = 2
		s.run(func() {
			s.deliver(ringing("1"), ringing("2"))
			for i := range 30 {
				s.deliver(ringing(fmt.Sprint("more", i)))
			}
			if got := len(s.shown()); got != 2 {
				t.Errorf("%d objects, want 2", got)
			}
			if s.counter("pbx_receiver_callleg_dropped_total", "reason=limit") != 30 || s.counter("pbx_receiver_callleg_pending") != 0 {
				t.Error("the legs beyond the limit were not let go")
			}
			pass(10 * time.Minute)
			events := s.events()
			if len(events) == 0 || len(events) > 4 || events[0].Reason != v1alpha1.ReasonCallLegLimitReached || events[0].Regarding.Name != "head-office" {
				t.Errorf("%d events: %v", len(events), events)
			}
			s.deliver(finished("1"))
			s.deliver(answered("more1"))
			if _, ok := s.shown()["more1"]; !ok {
				t.Error("a leg that finished did not make room")
			}
		})
	})
}

func TestLoweredCapIsReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.run(func() {
			s.deliver(ringing("live"), finished("1"), finished("2"), finished("3"))
			s.change(func() { s.policy.MaxObjects = 2 })
			pass(recountEvery)
			if shown := s.shown(); len(shown) != 2 || shown["live"].Name == "" {
				t.Errorf("shown: %v", shown)
			}
		})
	})
}

// TestLostLegIsClosed: its log was on a volume that is gone.
func TestLostLegIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := Object("telephony", "head-office", ringing("lost"))
		lost.CreationTimestamp = metav1.Now()
		young := Object("telephony", "head-office", ringing("young"))
		young.CreationTimestamp = metav1.NewTime(time.Now().Add(time.Hour))
		s := newStand(t, lost, young)
		s.run(func() {
			pass(4 * time.Hour)
			if leg := s.shown()["lost"]; leg.Status.Phase != v1alpha1.PhaseRinging {
				t.Errorf("closed too early: %+v", leg.Status)
			}
			pass(lostAfter + recountEvery)
			leg := s.shown()["lost"]
			if leg.Status.Phase != v1alpha1.PhaseCompleted || leg.Status.Result != v1alpha1.ResultUnknown || leg.Labels[v1alpha1.LabelExpires] == "" {
				t.Errorf("not closed: %+v", leg)
			}
			if leg := s.shown()["young"]; leg.Status.Phase != v1alpha1.PhaseRinging {
				t.Errorf("closed too early: %+v", leg.Status)
			}
			s.deliver(finished("lost"))
			if leg := s.shown()["lost"]; leg.Status.Result != v1alpha1.ResultAnswered {
				t.Errorf("the log has not the last word: %+v", leg.Status)
			}
			pass(time.Hour)
			if got := s.made("update leg"); got != 3 {
				t.Errorf("%d updates, want one for each closed leg and one for the log", got)
			}
		})
	})
}

// TestCapCountsWhatIsThereAtTheStart: after a restart, and after the retention controller deleted
// what this receiver had made.
func TestCapCountsWhatIsThereAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.policy.MaxObjects = 2
		s.run(func() { s.deliver(ringing("1"), ringing("2")) })
		s.run(func() {
			s.deliver(ringing("3"))
			if len(s.shown()) != 2 {
				t.Errorf("shown: %v", s.shown())
			}
			for _, leg := range s.shown() {
				if err := s.kube.Delete(t.Context(), &leg); err != nil {
					t.Fatal(err)
				}
			}
			pass(recountAtLimit)
			s.deliver(answered("3"), answered("4"))
			if len(s.shown()) != 2 {
				t.Errorf("shown: %v", s.shown())
			}
		})
	})
}

// TestAnyOrderOfDeliveriesShowsTheHighestRevision: duplicates, old states and failures included.
func TestAnyOrderOfDeliveriesShowsTheHighestRevision(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		revisions := rapid.SliceOfN(rapid.Int64Range(1, 9), 1, 30).Draw(rt, "revisions")
		ids := rapid.SliceOfN(rapid.IntRange(0, 2), len(revisions), len(revisions)).Draw(rt, "legs")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 700), len(revisions), len(revisions)).Draw(rt, "pauses in ms")
		faults := rapid.SliceOfN(rapid.SampledFrom([]int{0, 0, 0, http.StatusInternalServerError, http.StatusConflict}), 20, 20).Draw(rt, "faults")
		want, got := map[string]int64{}, map[string]int64{}
		synctest.Test(t, func(t *testing.T) {
			s := newStand(t)
			s.fault = func(string, client.Object) error {
				if len(faults) == 0 {
					return nil
				}
				code := faults[0]
				faults = faults[1:]
				if code == 0 {
					return nil
				}
				return apierrors.NewGenericServerResponse(code, "write", v1alpha1.GroupVersion.WithResource("calllegs").GroupResource(), "", "", 0, false)
			}
			s.run(func() {
				for i, n := range revisions {
					id := fmt.Sprint(ids[i])
					leg := revision(ringing(id), n)
					leg.FromName = fmt.Sprint(n)
					s.deliver(leg)
					want[id] = max(want[id], n)
					pass(time.Duration(pauses[i]) * time.Millisecond)
				}
				pass(5 * time.Minute)
			})
			for id, leg := range s.shown() {
				got[id] = leg.Status.Revision
			}
		})
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("revisions (-want +got):\n%s", diff)
		}
	})
}

func TestStatusFitsTheSchemaWhateverThePBXSends(t *testing.T) {
	long := strings.Repeat("ü", 1000)
	leg := correlation.Leg{CallID: long, LegID: long, From: long, FromName: long, To: long, DID: long, Extension: long, User: long,
		RecordingID: long, Result: correlation.Answered, Talk: -time.Second, Events: []correlation.LegEvent{{Status: long}}}
	status := Status(leg)
	for name, tc := range map[string]struct {
		value string
		limit int
	}{
		"callID": {status.CallID, 256}, "from": {status.From, 256}, "did": {status.DID, 64}, "extension": {status.Extension, 64},
		"user": {status.User, 63}, "event status": {status.Events[0].Status, 64},
	} {
		if got := len([]rune(tc.value)); got != tc.limit {
			t.Errorf("%s has %d characters, want %d", name, got, tc.limit)
		}
	}
}

func TestTalkTimeIsAbsentWhereItIsNotKnown(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*correlation.Leg)
		want   *string
	}{
		"a minute":                    {func(*correlation.Leg) {}, new("60s")},
		"hung up at once":             {func(leg *correlation.Leg) { leg.Talk = 0 }, new("0s")},
		"clocks that differ":          {func(leg *correlation.Leg) { leg.Talk = -time.Second }, new("0s")},
		"answered nobody knows when":  {func(leg *correlation.Leg) { leg.Talk, leg.Answer = 0, time.Time{} }, nil},
		"the PBX told how long only":  {func(leg *correlation.Leg) { leg.Answer = time.Time{} }, new("60s")},
		"nobody answered":             {func(leg *correlation.Leg) { leg.Result, leg.Talk = correlation.NoAnswer, 0 }, nil},
		"fractions of a second count": {func(leg *correlation.Leg) { leg.Talk = 1400 * time.Millisecond }, new("1.4s")},
	} {
		leg := finished("a")
		tc.change(&leg)
		if diff := cmp.Diff(tc.want, Status(leg).TalkTime); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
