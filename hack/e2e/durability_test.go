package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

var receiverLabels = client.MatchingLabels{
	"app.kubernetes.io/name": "pbx-receiver", v1alpha1.LabelIntegration: integrationName,
}

var _ = Describe("Durability", func() {
	completed := func(i *v1alpha1.PBXIntegration) {
		i.Spec.CallLegs.Publish = v1alpha1.PublishCompleted
		i.Spec.CallLegs.MaxObjects = 10000
	}

	It("keeps every acknowledged event when the receiver is killed under load", func(ctx context.Context) {
		s := newSite(ctx)
		s.connect(ctx, completed)
		for range 2 {
			load := s.startLoad(ctx, 600, 60)
			Eventually(func() int { return s.loadState(ctx, load).Delivered }).Should(BeNumerically(">", 300))
			killPods(ctx, s.namespace, receiverLabels)
			s.expectAcknowledged(ctx, s.endOfLoad(ctx, load))
			Eventually(func() int { return readyPods(ctx, s.namespace) }).Should(Equal(1))
		}
	})

	It("moves the event URLs to a new key under load without losing an event", func(ctx context.Context) {
		s := newSite(ctx)
		s.connect(ctx, completed)
		before := s.urls(ctx)
		load := s.startLoad(ctx, 600, 60)
		s.changeIntegration(ctx, func(i *v1alpha1.PBXIntegration) {
			i.Annotations = map[string]string{v1alpha1.AnnotationRotateKey: "now"}
		})
		Eventually(func() []string { return s.urls(ctx) }).Should(And(HaveLen(len(before)), Not(ContainElements(before))))
		final := s.endOfLoad(ctx, load)
		Expect(final.Failed).To(BeZero(), final.LastError)
		s.expectAcknowledged(ctx, final)
		Eventually(func() int {
			return len(s.keys(ctx))
		}).Should(Equal(1), "the old key must go")
	})

	// Only a cluster whose API server this suite may stop can show this; hack/cluster is one.
	if stopper := os.Getenv("CLUSTER_COMMAND"); stopper != "" {
		It("keeps taking events while the API server is away, and publishes the legs afterwards", func(ctx context.Context) {
			s := newSite(ctx)
			s.connect(ctx, completed)
			s.pbx = simclient.New(s.directControlPlane(ctx))
			load := s.startLoad(ctx, 700, 10)
			control := func(ctx context.Context, verb string) {
				out, err := exec.CommandContext(ctx, "bash", "-c", stopper+" "+verb+" kube-apiserver").CombinedOutput()
				Expect(err).NotTo(HaveOccurred(), string(out))
			}
			control(ctx, "stop")
			DeferCleanup(func(ctx context.Context) { control(ctx, "start") })
			stopped := time.Now()
			Eventually(func() time.Duration { return time.Since(stopped) }, "2m", "1s").Should(BeNumerically(">", time.Minute))
			duringOutage := s.loadState(ctx, load)
			Expect(duringOutage.Done).To(BeFalse(), "the load must last longer than the outage")
			Expect(duringOutage.Failed).To(BeZero(), duringOutage.LastError)
			control(ctx, "start")
			final := s.endOfLoad(ctx, load)
			Expect(final.Failed).To(BeZero(), final.LastError)
			s.expectAcknowledged(ctx, final)
		})
	}
})

// startLoad places answered inbound calls at a rate per second, spread over three phones.
func (s *site) startLoad(ctx context.Context, calls int, rate float64) string {
	GinkgoHelper()
	load, err := s.pbx.Load(ctx, simclient.LoadRequest{
		Scenario: "S1", Calls: calls, Rate: rate, Detail: true,
		Extensions: map[string][]string{"101": {"101", "102", "103"}},
	})
	Expect(err).NotTo(HaveOccurred())
	return load.ID
}

func (s *site) loadState(ctx context.Context, id string) simclient.Load {
	GinkgoHelper()
	load, err := s.pbx.LoadState(ctx, id)
	Expect(err).NotTo(HaveOccurred())
	return load
}

func (s *site) endOfLoad(ctx context.Context, id string) simclient.Load {
	GinkgoHelper()
	Eventually(func() bool { return s.loadState(ctx, id).Done }, "4m", "1s").Should(BeTrue())
	return s.loadState(ctx, id)
}

// expectAcknowledged holds the legs against what the PBX was told: a call whose hangup was
// acknowledged has exactly one leg, and it is Answered when its answer was acknowledged, too, or
// when the hangup says so.
func (s *site) expectAcknowledged(ctx context.Context, load simclient.Load) {
	GinkgoHelper()
	Expect(load.Acknowledged).NotTo(BeEmpty())
	want := map[string]bool{}
	for _, call := range load.Acknowledged {
		for _, event := range call.Events {
			if event.EventType == "hangup" {
				want[event.CallID] = true
			}
		}
	}
	Expect(len(want)).To(BeNumerically(">", 50), "the load must have got through")
	Eventually(func() error {
		var list v1alpha1.CallLegList
		if err := cluster.List(ctx, &list, client.InNamespace(s.namespace)); err != nil {
			return err
		}
		return compare(want, list.Items)
	}, "3m", "2s").Should(Succeed())
}

func compare(want map[string]bool, legs []v1alpha1.CallLeg) error {
	have := map[string]int{}
	for _, leg := range legs {
		if leg.Status.Phase == v1alpha1.PhaseCompleted && leg.Status.Result == v1alpha1.ResultAnswered {
			have[leg.Status.CallID]++
		}
	}
	missing := 0
	for call := range want {
		switch have[call] {
		case 0:
			missing++
		case 1:
		default:
			return fmt.Errorf("call %s has %d legs", call, have[call])
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d acknowledged calls have no leg", missing, len(want))
	}
	return nil
}

func (s *site) urls(ctx context.Context) []string {
	GinkgoHelper()
	registrations, err := s.pbx.Registrations(ctx)
	Expect(err).NotTo(HaveOccurred())
	var urls []string
	for _, registration := range registrations {
		urls = append(urls, registration.EventType+" "+registration.URL)
	}
	return urls
}

// directControlPlane is the simulator's pod address, for when the API server cannot be the way.
func (s *site) directControlPlane(ctx context.Context) string {
	GinkgoHelper()
	var pods corev1.PodList
	Expect(cluster.List(ctx, &pods, client.InNamespace(s.namespace), client.MatchingLabels{"app": "pbxsim"})).To(Succeed())
	Expect(pods.Items).To(HaveLen(1))
	return "http://" + pods.Items[0].Status.PodIP + ":8081"
}

func readyPods(ctx context.Context, namespace string) int {
	GinkgoHelper()
	var pods corev1.PodList
	Expect(cluster.List(ctx, &pods, client.InNamespace(namespace), receiverLabels)).To(Succeed())
	ready := 0
	for _, pod := range pods.Items {
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil {
				ready++
			}
		}
	}
	return ready
}
