package integration_test

import (
	"context"
	"errors"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// step is one that does what a test wants, for each integration on its own.
type step struct {
	outcomes sync.Map // of func(*v1alpha1.PBXIntegration) (time.Duration, error), by UID
}

type outcome = func(*v1alpha1.PBXIntegration) (time.Duration, error)

func (s *step) Reconcile(_ context.Context, p *v1alpha1.PBXIntegration) (time.Duration, error) {
	if do, ok := s.outcomes.Load(p.UID); ok {
		return do.(outcome)(p)
	}
	return 0, nil
}

// Forget implements integration.Step.
func (s *step) Forget(uid types.UID) { s.outcomes.Delete(uid) }

// stepOf sets what a step does from now on.
func stepOf(at int, p *v1alpha1.PBXIntegration, do outcome) {
	GinkgoHelper()
	s, ok := steps[at].(*step)
	Expect(ok).To(BeTrue())
	s.outcomes.Store(p.UID, do)
}

var _ = Describe("Steps of other packages", func() {
	It("are all called, set their own status, and are called again as early as the first of them wishes", func(ctx SpecContext) {
		p := deploy(ctx)
		calls := make(chan int, 1000)
		for at, wish := range []time.Duration{300 * time.Millisecond, time.Hour} {
			stepOf(at, p, func(p *v1alpha1.PBXIntegration) (time.Duration, error) {
				calls <- at
				p.Status.Discovery = &v1alpha1.DiscoveryStatus{Extensions: int32(at)}
				return wish, nil
			})
		}
		poke(ctx, p)
		for range 3 {
			Eventually(calls).Should(Receive(Equal(0)))
			Eventually(calls).Should(Receive(Equal(1)))
		}
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		Expect(p.Status.Discovery).To(HaveValue(Equal(v1alpha1.DiscoveryStatus{Extensions: 1})))
		stepOf(0, p, func(*v1alpha1.PBXIntegration) (time.Duration, error) { return 0, nil })
	})

	It("do not hold each other up, and Ready speaks of the worst", func(ctx SpecContext) {
		p := deploy(ctx)
		second := make(chan bool, 1000)
		stepOf(0, p, func(*v1alpha1.PBXIntegration) (time.Duration, error) {
			return 0, lifecycle.Transientf(v1alpha1.ReasonDiscoveryFailed, "no answer")
		})
		stepOf(1, p, func(*v1alpha1.PBXIntegration) (time.Duration, error) {
			second <- true
			return 0, lifecycle.Terminalf(v1alpha1.ReasonNotSupported, "it has no history")
		})
		poke(ctx, p)
		shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonNotSupported)
		Expect(second).To(Receive())
		stepOf(1, p, func(*v1alpha1.PBXIntegration) (time.Duration, error) { return 0, nil })
		poke(ctx, p)
		shows(ctx, p, ready, metav1.ConditionFalse, v1alpha1.ReasonDiscoveryFailed)
		stepOf(0, p, func(*v1alpha1.PBXIntegration) (time.Duration, error) { return 0, nil })
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
	})

	DescribeTable("are called again in time although something else is amiss", func(ctx SpecContext, wish time.Duration, outcome error) {
		p := deploy(ctx)
		calls := make(chan bool, 1000)
		pbx.answer(p, func(map[string][]byte) error { return pbxapi.NewError(pbxapi.ErrForbidden, "check", "") })
		stepOf(0, p, func(*v1alpha1.PBXIntegration) (time.Duration, error) {
			calls <- true
			return wish, outcome
		})
		poke(ctx, p)
		shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonPBXRefused)
		for range 3 {
			Eventually(calls).Should(Receive())
		}
		stepOf(0, p, func(*v1alpha1.PBXIntegration) (time.Duration, error) { return 0, nil })
	},
		Entry("when they wish it", 200*time.Millisecond, nil),
		Entry("when they wait", time.Duration(0), lifecycle.Waitingf(v1alpha1.ReasonProgressing, 200*time.Millisecond, "under way")),
	)

	It("rest while the integration is suspended", func(ctx SpecContext) {
		p := deploy(ctx)
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) { p.Spec.Suspend = true })
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonSuspended)
		stepOf(0, p, func(*v1alpha1.PBXIntegration) (time.Duration, error) { return 0, errors.New("it was called") })
		nudge(ctx, p)
		settled(p.Namespace)
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonSuspended)
	})

	It("hear of what the receiver reports", func(ctx SpecContext) {
		p := deploy(ctx)
		outages := make(chan v1alpha1.Outage, 1000)
		stepOf(0, p, func(p *v1alpha1.PBXIntegration) (time.Duration, error) {
			if p.Status.Events != nil && p.Status.Events.Outage != nil {
				outages <- *p.Status.Events.Outage
			}
			return 0, nil
		})
		settled(p.Namespace)
		Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
		before, end := p.DeepCopy(), metav1.NewTime(time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC))
		p.Status.Events = &v1alpha1.EventsStatus{Outage: &v1alpha1.Outage{Start: metav1.NewTime(end.Add(-time.Minute)), End: end}}
		Expect(api.Status().Patch(ctx, p, client.MergeFrom(before))).To(Succeed())
		Eventually(outages).Should(Receive(HaveField("End.Time", BeTemporally("==", end.Time))))
	})
})
