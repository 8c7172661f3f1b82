package extension_test

import (
	"context"
	"net/http"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

// sentry lets one request at a time through to the PBX, and looks after each whether an extension
// still has a registration of ours for every type of event that it once had one for.
type sentry struct {
	site *site

	mu     sync.Mutex
	had    map[string]bool
	broken []string
}

func (y *sentry) RoundTrip(request *http.Request) (*http.Response, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	response, err := http.DefaultTransport.RoundTrip(request)
	list, problem := y.site.pbx.Sim.Registrations(context.WithoutCancel(request.Context()))
	if problem != nil {
		y.broken = append(y.broken, problem.Error())
		return response, err
	}
	has := map[string]bool{}
	for _, r := range list {
		if !r.Foreign && r.Owner.ID == y.site.extension("101") {
			has[r.EventType], y.had[r.EventType] = true, true
		}
	}
	for event := range y.had {
		if !has[event] {
			y.broken = append(y.broken, event)
		}
	}
	return response, err
}

// gaps are the types of events that were without a registration at some moment.
func (y *sentry) gaps() []string {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.broken
}

func madeByDiscovery(owner *v1alpha1.PBXIntegration) func(*v1alpha1.ExtensionMapping) {
	return func(m *v1alpha1.ExtensionMapping) {
		m.Labels = map[string]string{v1alpha1.LabelDiscovered: "true"}
		if owner != nil {
			m.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, v1alpha1.GroupVersion.WithKind("PBXIntegration"))}
		}
	}
}

// nextSecond makes what is created next younger than a mapping.
func nextSecond(mapping *v1alpha1.ExtensionMapping) {
	GinkgoHelper()
	Eventually(func() bool { return time.Now().Truncate(time.Second).After(mapping.CreationTimestamp.Time) }).Should(BeTrue())
}

var _ = Describe("A mapping that replaces another", func() {
	var (
		s    *site
		old  *v1alpha1.ExtensionMapping
		seen *sentry
	)
	begin := func(ctx context.Context, of system, with ...setting) {
		GinkgoHelper()
		s = newSiteOf(ctx, of)
		seen = &sentry{site: s, had: map[string]bool{}}
		s.start(ctx, append(with, through(seen))...)
		old = s.create(ctx, "old")
		s.becomesRegistered(ctx, "old")
		nextSecond(old)
	}
	refuseNew := func(ctx context.Context) {
		GinkgoHelper()
		s.fault(ctx, simclient.Fault{Method: http.MethodPost, Path: "vent", Kind: simclient.FaultStatus, Status: http.StatusInternalServerError})
	}
	gone := func(ctx context.Context, name string) {
		GinkgoHelper()
		Eventually(func() error { return kube.Get(ctx, s.key(name), &v1alpha1.ExtensionMapping{}) }).ShouldNot(Succeed())
	}

	DescribeTable("leaves no moment without registrations", func(ctx SpecContext, of system) {
		begin(ctx, of)
		fresh := s.create(ctx, "new")
		s.becomes(ctx, "new", metav1.ConditionFalse, v1alpha1.ReasonDuplicateMapping)
		refuseNew(ctx)
		Expect(kube.Delete(ctx, old)).To(Succeed())
		s.becomes(ctx, "new", metav1.ConditionFalse, v1alpha1.ReasonPBXUnreachable)
		waiting := s.becomes(ctx, "old", metav1.ConditionFalse, v1alpha1.ReasonDeleting)
		Expect(lifecycle.Ready(waiting).Message).To(HavePrefix("ExtensionMapping new takes over extension " + s.number("101")))
		Consistently(func(g Gomega) {
			ours, _ := s.held(ctx, g, s.extension("101"))
			g.Expect(ours).To(ConsistOf(s.wanted(old, s.all...)))
		}, 500*time.Millisecond).Should(Succeed())

		By("letting the new one register")
		s.fault(ctx)
		s.becomesRegistered(ctx, "new")
		gone(ctx, "old")
		s.carries(ctx, s.extension("101"), s.wanted(fresh, s.all...))
		Expect(seen.gaps()).To(BeEmpty())
	}, Entry("on RingMe", ringMe), Entry("on VoipNow", voipNow))

	It("is not waited for beyond the deadline", func(ctx SpecContext) {
		begin(ctx, ringMe, deadline(2*time.Second))
		s.create(ctx, "new")
		refuseNew(ctx)
		Expect(kube.Delete(ctx, old)).To(Succeed())
		gone(ctx, "old")
		s.carriesNothing(ctx, 5101)
		Expect(s.events(ctx, Default, v1alpha1.ReasonRegistrationsLeft)).To(BeEmpty())
	})

	It("is waited for as long as it waits for its turn at the PBX", func(ctx SpecContext) {
		begin(ctx, ringMe, deadline(3*time.Second))
		s.fault(ctx, simclient.Fault{
			Method: http.MethodPost, Path: "/event/", Kind: simclient.FaultStatus, Status: http.StatusTooManyRequests, Code: "rate_limit_exceeded",
			Headers: map[string]string{"X-RateLimit-Reset": "5"}, Count: 1,
		})
		fresh := s.create(ctx, "new")
		Expect(kube.Delete(ctx, old)).To(Succeed())
		gone(ctx, "old")
		s.becomesRegistered(ctx, "new")
		s.carries(ctx, 5101, s.wanted(fresh, all...))
		Expect(seen.gaps()).To(BeEmpty())
	})

	It("gets the places of the old one where there are no others", func(ctx SpecContext) {
		begin(ctx, ringMe)
		s.setForeign(ctx, "101", 12)
		fresh := s.create(ctx, "new")
		Expect(kube.Delete(ctx, old)).To(Succeed())
		gone(ctx, "old")
		s.becomesRegistered(ctx, "new")
		s.carries(ctx, 5101, s.wanted(fresh, all...))
	})

	It("holds nothing up when it is deleted, too", func(ctx SpecContext) {
		begin(ctx, ringMe)
		fresh := s.create(ctx, "new")
		refuseNew(ctx)
		Expect(kube.Delete(ctx, old)).To(Succeed())
		s.becomes(ctx, "new", metav1.ConditionFalse, v1alpha1.ReasonPBXUnreachable)
		s.becomes(ctx, "old", metav1.ConditionFalse, v1alpha1.ReasonDeleting)
		Expect(kube.Delete(ctx, fresh)).To(Succeed())
		gone(ctx, "old")
		gone(ctx, "new")
		s.carriesNothing(ctx, 5101)
	})

	It("made by hand, waits for discovery to delete its own", func(ctx SpecContext) {
		s = newSite(ctx)
		seen = &sentry{site: s, had: map[string]bool{}}
		s.start(ctx, through(seen))
		owner := s.integration()
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(owner), owner)).To(Succeed())
		old = s.create(ctx, "old", madeByDiscovery(owner))
		s.becomesRegistered(ctx, "old")
		nextSecond(old)
		fresh := s.create(ctx, "new")
		waiting := s.becomes(ctx, "new", metav1.ConditionFalse, v1alpha1.ReasonDuplicateMapping)
		Expect(meta.IsStatusConditionTrue(waiting.Status.Conditions, v1alpha1.ConditionReconciling)).To(BeTrue())
		Expect(lifecycle.Ready(waiting).Message).To(ContainSubstring("waiting for discovery to delete that one"))
		Expect(s.events(ctx, Default, v1alpha1.ReasonDuplicateMapping)).To(BeEmpty())

		By("naming the same extension by its id only, or being discovered")
		s.create(ctx, "by-id", at("1234*200", v1alpha1.ExtensionPhone), withID("5101"))
		s.create(ctx, "again", madeByDiscovery(owner))
		for _, name := range []string{"by-id", "again"} {
			refused := s.becomes(ctx, name, metav1.ConditionFalse, v1alpha1.ReasonDuplicateMapping)
			Expect(meta.IsStatusConditionTrue(refused.Status.Conditions, v1alpha1.ConditionStalled)).To(BeTrue(), name)
			s.disappears(ctx, refused)
		}

		By("deleting the discovered one")
		Expect(kube.Delete(ctx, old)).To(Succeed())
		s.becomesRegistered(ctx, "new")
		gone(ctx, "old")
		s.carries(ctx, 5101, s.wanted(fresh, all...))
		Expect(seen.gaps()).To(BeEmpty())
	})

	It("is refused where the other only looks discovered", func(ctx SpecContext) {
		s = newSite(ctx)
		s.start(ctx)
		copied := s.create(ctx, "copied", madeByDiscovery(nil))
		s.becomesRegistered(ctx, "copied")
		nextSecond(copied)
		s.create(ctx, "new")
		refused := s.becomes(ctx, "new", metav1.ConditionFalse, v1alpha1.ReasonDuplicateMapping)
		Expect(meta.IsStatusConditionTrue(refused.Status.Conditions, v1alpha1.ConditionStalled)).To(BeTrue())
	})
})
