package extension_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

var _ = Describe("A PBX that takes every request and answers none", func() {
	It("holds up no mapping of another tenant", func(ctx SpecContext) {
		const hanging, mappings = 30 * time.Second, 200
		s := newSite(ctx)
		deadTenant(ctx, s, hanging, mappings)
		s.start(ctx, timeout(hanging))
		Eventually(func(g Gomega) { // the first thing that a pass does
			g.Expect(s.underWay(ctx, g)).To(BeNumerically(">=", 8), "as many as may be held up")
		}).Should(Succeed())
		for i := range 3 {
			s.create(ctx, fmt.Sprint("alive-", i), at(s.number(fmt.Sprint(101+i)), v1alpha1.ExtensionPhone))
		}
		within := 10 * time.Second
		for i := range 3 {
			Eventually(func(g Gomega) {
				g.Expect(s.get(ctx, g, fmt.Sprint("alive-", i)).Status.RegisteredEvents).To(HaveValue(BeEquivalentTo(4)))
			}, within).Should(Succeed())
		}
	})
})

// underWay is how many mappings have had a pass.
func (s *site) underWay(ctx context.Context, g Gomega) (n int) {
	var list v1alpha1.ExtensionMappingList
	g.Expect(kube.List(ctx, &list, client.InNamespace(s.namespace))).To(Succeed())
	for _, mapping := range list.Items {
		if len(mapping.Finalizers) > 0 {
			n++
		}
	}
	return n
}

// deadTenant has so many mappings on a PBX that lets every request wait.
func deadTenant(ctx context.Context, s *site, hanging time.Duration, mappings int) {
	GinkgoHelper()
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		timer := time.NewTimer(hanging)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		case <-done:
		}
	}))
	DeferCleanup(func() {
		close(done)
		server.Close()
	})
	integration := s.integration(func(p *v1alpha1.PBXIntegration) {
		p.Name, p.Spec.PBX.RingMe.URL = "dead", server.URL
	})
	Expect(kube.Create(ctx, integration)).To(Succeed())
	keys := &corev1.Secret{ObjectMeta: s.meta(eventurl.SecretName("dead")), Data: s.ring.Data()}
	Expect(kube.Create(ctx, keys)).To(Succeed())
	for i := range mappings {
		s.create(ctx, fmt.Sprint("dead-", i), at(fmt.Sprint("1234*", 1000+i), v1alpha1.ExtensionPhone), func(m *v1alpha1.ExtensionMapping) {
			m.Spec.IntegrationRef.Name, m.Spec.Extension.ID = "dead", fmt.Sprint(900000+i) // asked for itself, not for a list
		})
	}
}
