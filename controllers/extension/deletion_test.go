package extension_test

import (
	"context"
	"net/http"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

func (s *site) deleteSecrets(ctx context.Context) {
	GinkgoHelper()
	for _, name := range []string{"head-office-pbx", eventurl.SecretName("head-office")} {
		Expect(kube.Delete(ctx, &corev1.Secret{ObjectMeta: s.meta(name)})).To(Succeed())
	}
}

func (s *site) tellsOfLeftovers(ctx context.Context, part string) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		events := s.events(ctx, g, v1alpha1.ReasonRegistrationsLeft)
		g.Expect(events).To(HaveLen(1))
		g.Expect(events[0].Note).To(ContainSubstring(part))
		g.Expect(events[0].Note).To(ContainSubstring("1234*101 (id 5101)"))
	}).Should(Succeed())
}

var _ = Describe("Deletion", func() {
	It("removes our registrations and nothing else", func(ctx SpecContext) {
		s := newSite(ctx)
		foreign := s.setForeign(ctx, "101", 5)
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.disappears(ctx, mapping)
		s.carriesNothing(ctx, 5101)
		_, after := s.held(ctx, Default, 5101)
		Expect(after).To(Equal(foreign))
		Expect(s.events(ctx, Default, v1alpha1.ReasonRegistrationsLeft)).To(BeEmpty())
	})

	It("succeeds when the registrations, or the extension, are gone already", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx)
		ann, bob := s.create(ctx, "ann"), s.create(ctx, "bob", at("1234*102", v1alpha1.ExtensionPhone))
		s.becomesRegistered(ctx, "ann")
		s.becomesRegistered(ctx, "bob")
		list, err := s.pbx.Sim.Registrations(ctx)
		Expect(err).NotTo(HaveOccurred())
		for _, r := range list {
			Expect(s.pbx.Sim.DeleteRegistration(ctx, r.ID)).To(Succeed())
		}
		Expect(s.pbx.Sim.DeleteExtension(ctx, 5102)).To(Succeed())
		s.disappears(ctx, ann)
		s.disappears(ctx, bob)
		Expect(s.events(ctx, Default, v1alpha1.ReasonRegistrationsLeft)).To(BeEmpty())
	})

	It("uses Secrets that were deleted at the same time", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.deleteSecrets(ctx)
		s.disappears(ctx, mapping)
		s.carriesNothing(ctx, 5101)
	})

	It("completes without Secrets after a restart, and tells what is left", func(ctx SpecContext) {
		s := newSite(ctx)
		first := s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		first.stop()
		s.deleteSecrets(ctx)
		s.start(ctx)
		s.disappears(ctx, mapping)
		s.tellsOfLeftovers(ctx, `there is no Secret "head-office-pbx"`)
	})

	It("completes at the deadline when the PBX is dead, and names the ids", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx, deadline(2*time.Second))
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.fault(ctx, simclient.Fault{Kind: simclient.FaultStatus, Status: http.StatusServiceUnavailable})
		s.disappears(ctx, mapping)
		s.tellsOfLeftovers(ctx, "ids 10001, 10002, 10003, 10004")
	})

	It("completes at the deadline when the credentials are bad", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx, deadline(2*time.Second))
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		Expect(s.pbx.Sim.SetSecret(ctx, simclient.App{ClientID: s.pbx.ClientID, ClientSecret: "another"})).To(Succeed())
		Expect(s.pbx.Sim.KillTokens(ctx)).To(Succeed())
		s.disappears(ctx, mapping)
		s.tellsOfLeftovers(ctx, "does not accept the credentials")
	})

	It("completes without an integration", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx)
		mapping, never := s.create(ctx, "ann"), s.create(ctx, "never", at("1234*777", v1alpha1.ExtensionPhone))
		s.becomesRegistered(ctx, "ann")
		s.becomes(ctx, "never", metav1.ConditionFalse, v1alpha1.ReasonExtensionNotFound)
		Expect(kube.Delete(ctx, s.integration())).To(Succeed())
		s.disappears(ctx, mapping)
		s.disappears(ctx, never)
		s.tellsOfLeftovers(ctx, "the PBXIntegration is gone") // one Event: nothing was registered for the other mapping
	})

	It("leaves the registrations when the policy is Orphan", func(ctx SpecContext) {
		s := newSite(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.DeletionPolicy = v1alpha1.DeletionOrphan })
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.disappears(ctx, mapping)
		s.carries(ctx, 5101, s.wanted(mapping, all...))
		s.tellsOfLeftovers(ctx, "deletionPolicy is Orphan")
	})

	It("of the integration releases its mappings", func(ctx SpecContext) {
		hold := func(i *v1alpha1.PBXIntegration) { i.Finalizers = []string{v1alpha1.Finalizer} }
		s := newSite(ctx, hold)
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.create(ctx, "idle", at("1234*102", v1alpha1.ExtensionPhone))
		s.becomesRegistered(ctx, "ann")
		s.becomesRegistered(ctx, "idle")
		s.edit(ctx, "idle", func(m *v1alpha1.ExtensionMapping) { m.Spec.Suspend = true })
		Expect(kube.Delete(ctx, s.integration())).To(Succeed())
		s.becomes(ctx, "idle", metav1.ConditionFalse, v1alpha1.ReasonRegistrationsDeleted)
		s.carriesNothing(ctx, 5102)
		released := s.becomes(ctx, "ann", metav1.ConditionFalse, v1alpha1.ReasonRegistrationsDeleted)
		Expect(released.Status.RegisteredEvents).To(HaveValue(BeZero()))
		s.carriesNothing(ctx, 5101)

		By("letting the integration go, and making it anew")
		s.editIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Finalizers = nil })
		s.becomes(ctx, "ann", metav1.ConditionFalse, v1alpha1.ReasonIntegrationNotFound)
		Expect(kube.Create(ctx, s.integration())).To(Succeed())
		s.becomesRegistered(ctx, "ann")
		s.carries(ctx, 5101, s.wanted(mapping, all...))
	})

	It("of everything at once completes", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.deleteSecrets(ctx)
		Expect(kube.Delete(ctx, s.integration())).To(Succeed())
		Expect(kube.Delete(ctx, mapping)).To(Succeed())
		Eventually(func() error { return client.IgnoreNotFound(kube.Get(ctx, s.key("ann"), mapping)) }).Should(Succeed())
		s.disappears(ctx, mapping)
	})
})
