package publishtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/publish"
)

// open starts a publisher for an integration in a namespace of its own.
func open(ctx context.Context, callLegs v1alpha1.CallLegs) *stage {
	GinkgoHelper()
	st, err := newStage(ctx, cluster, callLegs)
	Expect(err).NotTo(HaveOccurred())
	begin(ctx, st)
	DeferCleanup(func() { _ = st.stop() })
	return st
}

func begin(ctx context.Context, st *stage) {
	GinkgoHelper()
	Expect(st.start(ctx, cluster, func(string) (publish.Reference, bool) { return publish.Reference{}, false })).To(Succeed())
}

func shown(ctx context.Context, st *stage) map[string]v1alpha1.CallLeg {
	GinkgoHelper()
	legs, err := st.shown(ctx, cluster)
	Expect(err).NotTo(HaveOccurred())
	return legs
}

func settled(st *stage, count int) {
	GinkgoHelper()
	Eventually(st.settled.Load).Should(BeEquivalentTo(count))
}

func many(prefix string, count int) []correlation.Leg {
	legs := make([]correlation.Leg, count)
	for i := range legs {
		legs[i] = finished(fmt.Sprint(prefix, i))
	}
	return legs
}

var _ = Describe("Publication", func() {
	It("shows a live leg from its first ring to its end", func(ctx context.Context) {
		st := open(ctx, v1alpha1.CallLegs{Publish: v1alpha1.PublishLive})
		leg := finished("a")
		ringing := leg
		ringing.Phase, ringing.Result, ringing.Logged, ringing.Revision, ringing.Talk = correlation.Ringing, "", false, 1, 0
		ringing.Answer, ringing.End, ringing.Events = time.Time{}, time.Time{}, leg.Events[:1]

		st.deliver(ringing)
		settled(st, 1)
		Expect(shown(ctx, st)["a"].Status.Phase).To(Equal(v1alpha1.PhaseRinging))
		Expect(shown(ctx, st)["a"].Labels).NotTo(HaveKey(v1alpha1.LabelExpires))
		st.deliver(leg)
		settled(st, 2)
		final := shown(ctx, st)["a"]
		Expect(final.Status.Result).To(Equal(v1alpha1.ResultAnswered))
		Expect(final.Status.TalkTime).To(HaveValue(Equal("60s")))
		Expect(final.Status.Events).To(HaveLen(3))
		Expect(final.Labels).To(HaveKey(v1alpha1.LabelExpires))
		Expect(final.OwnerReferences).To(ConsistOf(HaveField("UID", st.pbx.UID)))
		Expect(st.wire.requests("POST calllegs")).To(Equal(1))
		Expect(st.wire.requests("PUT calllegs")).To(Equal(1))
	})

	It("makes one write per finished leg with publish: Completed", func(ctx context.Context) {
		st := open(ctx, v1alpha1.CallLegs{Publish: v1alpha1.PublishCompleted})
		legs := many("leg", 300)
		for _, leg := range legs[:50] {
			leg.Phase, leg.Result, leg.Revision = correlation.Ringing, "", 1
			st.deliver(leg)
		}
		st.deliver(legs...)
		st.deliver(legs...)
		settled(st, 650)
		Expect(shown(ctx, st)).To(HaveLen(300))
		Expect(st.wire.requests("POST calllegs")).To(Equal(300))
		Expect(st.wire.requests("PUT calllegs") + st.wire.requests("PATCH calllegs") + st.wire.requests("DELETE calllegs")).To(BeZero())
	})

	It("loses nothing while the API server cannot be reached", func(ctx context.Context) {
		st := open(ctx, v1alpha1.CallLegs{})
		st.deliver(many("before", 100)...)
		settled(st, 100)
		unreachable := func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
		st.wire.fault.Store(&unreachable)
		st.deliver(many("during", 300)...)
		Consistently(st.settled.Load).WithTimeout(3 * time.Second).Should(BeEquivalentTo(100))
		attempts := st.wire.requests("POST calllegs")
		Expect(attempts).To(BeNumerically("<", 600), "a server in trouble must not be pressed")
		st.wire.fault.Store(nil)
		settled(st, 400)
		Expect(shown(ctx, st)).To(HaveLen(400))
	})

	It("finds its legs again when only the answer was lost", func(ctx context.Context) {
		st := open(ctx, v1alpha1.CallLegs{})
		swallow := func(request *http.Request) (*http.Response, error) {
			if request.Method != http.MethodPost {
				return nil, nil //nolint:nilnil // no fault
			}
			response, err := st.wire.next.RoundTrip(request)
			if err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("reset after the request was done: %w", response.Body.Close())
		}
		st.wire.fault.Store(&swallow)
		st.deliver(many("leg", 20)...)
		settled(st, 20)
		Expect(shown(ctx, st)).To(HaveLen(20))
	})

	It("waits as long as the API server asks for", func(ctx context.Context) {
		st := open(ctx, v1alpha1.CallLegs{})
		busyUntil := time.Now().Add(2 * time.Second)
		busy := func(request *http.Request) (*http.Response, error) {
			if time.Now().After(busyUntil) {
				return nil, nil //nolint:nilnil // no fault
			}
			return &http.Response{
				StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"1"}}, Request: request,
				Body: io.NopCloser(strings.NewReader("")),
			}, nil
		}
		st.wire.fault.Store(&busy)
		st.deliver(many("leg", 50)...)
		settled(st, 50)
		Expect(shown(ctx, st)).To(HaveLen(50))
		Expect(st.wire.requests("POST calllegs")).To(BeNumerically("<=", 50+3*16))
	})

	It("never overwrites a higher revision, also after a restart", func(ctx context.Context) {
		st := open(ctx, v1alpha1.CallLegs{})
		leg := finished("a")
		leg.Revision = 9
		st.deliver(leg)
		settled(st, 1)
		Expect(st.stop()).To(Succeed())
		begin(ctx, st)
		older := finished("a")
		older.Revision, older.FromName = 8, "older"
		st.deliver(older)
		settled(st, 2)
		Expect(shown(ctx, st)["a"].Status.Revision).To(BeEquivalentTo(9))
		newer := finished("a")
		newer.Revision, newer.RecordingID = 10, "rec-1"
		st.deliver(newer)
		settled(st, 3)
		Expect(shown(ctx, st)["a"].Status.RecordingID).To(Equal("rec-1"))
	})

	It("keeps the cap, at the cost of the finished legs that expire first", func(ctx context.Context) {
		st := open(ctx, v1alpha1.CallLegs{MaxObjects: 50, TTLAfterFinished: &metav1.Duration{Duration: time.Hour}})
		st.deliver(many("old", 50)...)
		settled(st, 50)
		later := *st.policy.Load()
		later.TTLAfterFinished = 2 * time.Hour
		st.policy.Store(&later)
		st.deliver(many("new", 40)...)
		settled(st, 90)
		legs := shown(ctx, st)
		Expect(legs).To(HaveLen(50))
		for _, leg := range many("new", 40) {
			Expect(legs).To(HaveKey(leg.LegID))
		}
	})

	It("goes on when the API server refuses one leg", func(ctx context.Context) {
		st := open(ctx, v1alpha1.CallLegs{})
		bad := finished("bad")
		bad.Direction = "Sideways"
		st.deliver(append(many("good", 10), bad)...)
		settled(st, 11)
		Expect(shown(ctx, st)).To(HaveLen(10))
		Eventually(func() []string { return notes(ctx, st, "reason="+v1alpha1.ReasonCallLegRefused) }).
			Should(ConsistOf(ContainSubstring("status.direction")))
	})

	It("drops legs quietly once the namespace is terminating", func(ctx context.Context) {
		st := open(ctx, v1alpha1.CallLegs{})
		Expect(cluster.admin.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: st.namespace}})).To(Succeed())
		Eventually(func() corev1.NamespacePhase {
			var namespace corev1.Namespace
			Expect(cluster.admin.Get(ctx, client.ObjectKey{Name: st.namespace}, &namespace)).To(Succeed())
			return namespace.Status.Phase
		}).Should(Equal(corev1.NamespaceTerminating))
		st.deliver(many("leg", 5)...)
		settled(st, 5)
	})

	It("announces a missed call once, where kubectl describe looks for it", func(ctx context.Context) {
		st := open(ctx, v1alpha1.CallLegs{})
		Expect(st.stop()).To(Succeed())
		queue := &v1alpha1.ExtensionMapping{ObjectMeta: metav1.ObjectMeta{Namespace: st.namespace, Name: "sales-queue"}}
		queue.Spec.IntegrationRef.Name = "head-office"
		queue.Spec.Extension = v1alpha1.Extension{Number: "1234*900", Type: v1alpha1.ExtensionQueue}
		Expect(cluster.admin.Create(ctx, queue)).To(Succeed())
		place := func(extension string) (publish.Reference, bool) {
			return publish.Reference{Name: queue.Name, UID: queue.UID}, extension == "1234*900"
		}
		missed := finished("m")
		missed.Kind, missed.To, missed.Extension, missed.User = correlation.Queue, "1234*900", "1234*900", ""
		missed.Result, missed.Talk, missed.Start = correlation.Missed, 0, missed.End.Add(-45*time.Second)
		for restart := range 2 {
			Expect(st.start(ctx, cluster, place)).To(Succeed())
			st.deliver(missed)
			settled(st, restart+1)
			Expect(st.stop()).To(Succeed())
		}
		Expect(notes(ctx, st, "involvedObject.kind=ExtensionMapping,involvedObject.name=sales-queue,involvedObject.uid="+string(queue.UID))).
			To(Equal([]string{"Missed call from +12025550143 to 12025550100 at 1234*900, waited 45 s"}))
	})
})

// notes are the texts of the Events that a field selector finds, as kubectl asks for them.
func notes(ctx context.Context, st *stage, selector string) []string {
	GinkgoHelper()
	var list corev1.EventList
	Expect(cluster.admin.List(ctx, &list, client.InNamespace(st.namespace),
		client.MatchingFieldsSelector{Selector: fields.ParseSelectorOrDie(selector)})).To(Succeed())
	texts := make([]string, 0, len(list.Items))
	for _, event := range list.Items {
		texts = append(texts, event.Message)
	}
	return texts
}
