package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

var _ = Describe("Registrations", func() {
	phones := []string{"1234*101", "1234*102", "1234*103"}

	It("are exact through the life of their mappings, and those of others stay as they were", func(ctx context.Context) {
		s := newSite(ctx)
		_, err := s.pbx.SetForeign(ctx, simclient.Foreign{Extension: "1234*101", Count: 5})
		Expect(err).NotTo(HaveOccurred())
		foreign := s.foreign(ctx)
		Expect(foreign).To(HaveLen(5))

		By("declaring everything")
		s.connect(ctx)
		Expect(s.owned(ctx)).To(Equal(exactly(phones, "1234*099", "1234*900")))

		By("moving a mapping to another extension")
		s.update(ctx, "support", func(m *v1alpha1.ExtensionMapping) { m.Spec.Extension.Number = "1234*901" })
		s.ready(ctx)
		Expect(s.owned(ctx)).To(Equal(exactly(phones, "1234*099", "1234*901")))

		By("asking for fewer events")
		s.update(ctx, "cleo", func(m *v1alpha1.ExtensionMapping) { m.Spec.Events = []v1alpha1.EventType{v1alpha1.EventHangup} })
		s.ready(ctx)
		Expect(s.owned(ctx)).To(Equal(exactly(phones[:2], "1234*103", "1234*099", "1234*901")))

		By("deleting a mapping")
		Expect(cluster.Delete(ctx, s.mapping("ben", "", ""))).To(Succeed())
		Eventually(func() map[string]int { return s.owned(ctx) }).Should(Equal(exactly(phones[:1], "1234*103", "1234*099", "1234*901")))

		By("suspending the integration, which keeps its hands off")
		s.suspend(ctx, true)
		Expect(cluster.Delete(ctx, s.mapping("menu", "", ""))).To(Succeed())
		s.suspend(ctx, false)
		Eventually(func() map[string]int { return s.owned(ctx) }).Should(Equal(exactly(phones[:1], "1234*103", "1234*901")))

		By("deleting the integration")
		Expect(cluster.Delete(ctx, s.integration())).To(Succeed())
		Eventually(func() map[string]int { return s.owned(ctx) }).Should(BeEmpty())

		By("creating it anew")
		Eventually(func() error { return cluster.Create(ctx, s.integration()) }).Should(Succeed())
		s.ready(ctx)
		Expect(s.owned(ctx)).To(Equal(exactly(phones[:1], "1234*103", "1234*901")))

		Expect(s.foreign(ctx)).To(Equal(foreign))
		requests, err := s.pbx.Requests(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(requests.CollectionDeletes).To(BeZero())
	})

	It("are exact although the operator is killed while it makes them and the PBX misbehaves", func(ctx context.Context) {
		s := newSite(ctx)
		_, err := s.pbx.SetFaults(ctx,
			simclient.Fault{Method: "POST", Path: "/event", Kind: simclient.FaultResetAfter, Skip: 2, Count: 2},
			simclient.Fault{Method: "POST", Path: "/event", Kind: simclient.FaultStatus, Status: 502, Skip: 6, Count: 1},
			simclient.Fault{Method: "GET", Path: "/event", Kind: simclient.FaultSlow, Delay: simclient.Duration(time.Second)},
		)
		Expect(err).NotTo(HaveOccurred())
		s.createCredentials(ctx)
		Expect(cluster.Create(ctx, s.integration())).To(Succeed())
		for _, mapping := range s.mappings() {
			Expect(cluster.Create(ctx, mapping)).To(Succeed())
		}
		for range 3 {
			before := len(s.owned(ctx))
			Eventually(func() int { return len(s.owned(ctx)) }).Should(Or(BeNumerically(">", before), Equal(16)))
			Eventually(func() int { return pods(ctx, systemNamespace, managerLabels) }).Should(Equal(1))
			killPods(ctx, systemNamespace, managerLabels)
		}
		s.ready(ctx)
		Expect(s.owned(ctx)).To(Equal(exactly(phones, "1234*099", "1234*900")))
	})

	It("hold up nobody who deletes the namespace, PBX and all", func(ctx context.Context) {
		s := newSite(ctx)
		s.connect(ctx)
		s.remove(ctx)
	})

	It("tell the user what to do when the PBX takes no more", func(ctx context.Context) {
		s := newSite(ctx)
		_, err := s.pbx.SetForeign(ctx, simclient.Foreign{Extension: "1234*101", Count: 16})
		Expect(err).NotTo(HaveOccurred())
		s.createCredentials(ctx)
		Expect(cluster.Create(ctx, s.integration())).To(Succeed())
		Expect(cluster.Create(ctx, s.mapping("ann", "1234*101", v1alpha1.ExtensionPhone))).To(Succeed())
		Eventually(func() string {
			return kubectl(ctx, "-n", s.namespace, "get", "extmap", "ann", "-o", "wide")
		}).Should(And(ContainSubstring(v1alpha1.ReasonEventLimitReached), ContainSubstring("16"), ContainSubstring("administrator")))
		Eventually(func() string {
			return kubectl(ctx, "-n", s.namespace, "get", "events", "--field-selector", "type=Warning,reason="+v1alpha1.ReasonEventLimitReached)
		}).Should(And(ContainSubstring("16"), ContainSubstring("administrator")))

		_, err = s.pbx.SetForeign(ctx, simclient.Foreign{Extension: "1234*101", Count: 12})
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() map[string]int { return s.owned(ctx) }, "6m", "2s").Should(Equal(exactly([]string{"1234*101"})))
		s.ready(ctx)
	})
})

func (s *site) update(ctx context.Context, name string, change func(*v1alpha1.ExtensionMapping)) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		var mapping v1alpha1.ExtensionMapping
		g.Expect(cluster.Get(ctx, s.key(name), &mapping)).To(Succeed())
		change(&mapping)
		g.Expect(cluster.Update(ctx, &mapping)).To(Succeed())
	}).Should(Succeed())
}

func (s *site) changeIntegration(ctx context.Context, change func(*v1alpha1.PBXIntegration)) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		var integration v1alpha1.PBXIntegration
		g.Expect(cluster.Get(ctx, s.key(integrationName), &integration)).To(Succeed())
		change(&integration)
		g.Expect(cluster.Update(ctx, &integration)).To(Succeed())
	}).Should(Succeed())
}

func (s *site) suspend(ctx context.Context, on bool) {
	GinkgoHelper()
	s.changeIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.Suspend = on })
}

var managerLabels = client.MatchingLabels{"app.kubernetes.io/name": "pbx-operator"}

func pods(ctx context.Context, namespace string, labels client.MatchingLabels) int {
	GinkgoHelper()
	var list corev1.PodList
	Expect(cluster.List(ctx, &list, client.InNamespace(namespace), labels)).To(Succeed())
	return len(list.Items)
}

// killPods ends pods without a chance to clean up.
func killPods(ctx context.Context, namespace string, labels client.MatchingLabels) {
	GinkgoHelper()
	Expect(pods(ctx, namespace, labels)).NotTo(BeZero(), "there is nothing to kill")
	Expect(cluster.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(namespace), labels,
		client.GracePeriodSeconds(0))).To(Succeed())
}
