package extension_test

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

var (
	callable = system{
		config: func() sim.Config { return sim.DefaultConfigOf("callable") },
		spec:   func(*simtest.PBX) v1alpha1.PBX { return v1alpha1.PBX{Type: v1alpha1.PBXTypeCallable} },
	}
	linuxBox = system{
		config: func() sim.Config { return sim.DefaultConfigOf("linuxbox") },
		spec: func(pbx *simtest.PBX) v1alpha1.PBX {
			return v1alpha1.PBX{Type: v1alpha1.PBXTypeLinuxBox, LinuxBox: &v1alpha1.LinuxBox{URL: pbx.URL}}
		},
	}
)

var _ = Describe("A PBX that is configured by hand", func() {
	both := []TableEntry{Entry("Callable", callable), Entry("LinuxBox", linuxBox)}

	DescribeTable("has its extensions mapped to users, and is asked for nothing", func(ctx SpecContext, of system) {
		s := newSiteOf(ctx, of)
		for _, name := range []string{"head-office-pbx", eventurl.SecretName("head-office")} {
			Expect(kube.Delete(ctx, &corev1.Secret{ObjectMeta: s.meta(name)})).To(Succeed()) // it takes none
		}
		s.start(ctx)
		ann := s.create(ctx, "ann")
		queue := s.create(ctx, "sales", at("900", v1alpha1.ExtensionQueue), func(m *v1alpha1.ExtensionMapping) { m.Spec.User = nil })
		mapped := s.becomes(ctx, "ann", metav1.ConditionTrue, v1alpha1.ReasonMapped)
		Expect(lifecycle.Ready(mapped).Message).To(Equal("extension 101 is mapped to user ann;" +
			" its events come by the event URL of PBXIntegration head-office, which is entered on the PBX by hand"))
		Expect(mapped.Status.ExtensionID).To(BeEmpty())
		Expect(mapped.Status.RegisteredEvents).To(HaveValue(BeZero()))
		s.becomes(ctx, "sales", metav1.ConditionTrue, v1alpha1.ReasonMapped)

		By("suspending it")
		s.edit(ctx, "ann", func(m *v1alpha1.ExtensionMapping) { m.Spec.Suspend = true })
		s.becomes(ctx, "ann", metav1.ConditionTrue, v1alpha1.ReasonSuspended)
		s.edit(ctx, "ann", func(m *v1alpha1.ExtensionMapping) { m.Spec.Suspend = false })
		s.becomes(ctx, "ann", metav1.ConditionTrue, v1alpha1.ReasonMapped)

		By("deleting the mappings, one of them without its integration")
		Expect(kube.Delete(ctx, ann)).To(Succeed())
		s.disappears(ctx, ann)
		Expect(kube.Delete(ctx, s.integration())).To(Succeed())
		s.becomes(ctx, "sales", metav1.ConditionFalse, v1alpha1.ReasonIntegrationNotFound)
		s.disappears(ctx, queue)
		Expect(s.events(ctx, Default, v1alpha1.ReasonRegistrationsLeft)).To(BeEmpty())
		Expect(s.asked(ctx).Total).To(BeZero())
	}, both)

	DescribeTable("has each extension mapped once", func(ctx SpecContext, of system) {
		s := newSiteOf(ctx, of)
		s.start(ctx)
		older := s.create(ctx, "older")
		s.becomes(ctx, "older", metav1.ConditionTrue, v1alpha1.ReasonMapped)
		Eventually(func() bool { return time.Now().Truncate(time.Second).After(older.CreationTimestamp.Time) }).Should(BeTrue())
		s.create(ctx, "younger")
		s.create(ctx, "other", at("102", v1alpha1.ExtensionPhone), withID("101")) // ids mean nothing here
		s.becomes(ctx, "younger", metav1.ConditionFalse, v1alpha1.ReasonDuplicateMapping)
		s.becomes(ctx, "other", metav1.ConditionTrue, v1alpha1.ReasonMapped)
		s.disappears(ctx, older)
		s.becomes(ctx, "younger", metav1.ConditionTrue, v1alpha1.ReasonMapped)
	}, both)

	DescribeTable("lets go of its mappings when the integration is deleted", func(ctx SpecContext, of system) {
		s := newSiteOf(ctx, of, func(i *v1alpha1.PBXIntegration) { i.Finalizers = []string{v1alpha1.Finalizer} })
		s.start(ctx)
		s.create(ctx, "ann")
		s.becomes(ctx, "ann", metav1.ConditionTrue, v1alpha1.ReasonMapped)
		Expect(kube.Delete(ctx, s.integration())).To(Succeed())
		s.becomes(ctx, "ann", metav1.ConditionFalse, v1alpha1.ReasonRegistrationsDeleted)
		s.editIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Finalizers = nil })
	}, both)
})

// branch sets up a second integration with the same PBX, and a key ring of its own.
func (s *site) branch(ctx context.Context) eventurl.Ring {
	GinkgoHelper()
	key, err := eventurl.NewKey(1, "branch")
	Expect(err).NotTo(HaveOccurred())
	ring := eventurl.Ring{key}
	Expect(kube.Create(ctx, &corev1.Secret{ObjectMeta: s.meta(eventurl.SecretName("branch")), Data: ring.Data()})).To(Succeed())
	Expect(kube.Create(ctx, s.integration(func(i *v1alpha1.PBXIntegration) { i.Name = "branch" }))).To(Succeed())
	return ring
}

var _ = DescribeTable("Two integrations with the same PBX do not touch each other's registrations", func(ctx SpecContext, of system) {
	s := newSiteOf(ctx, of)
	ring := s.branch(ctx)
	s.start(ctx, every(100*time.Millisecond))
	mine := s.create(ctx, "mine")
	theirs := s.create(ctx, "theirs", func(m *v1alpha1.ExtensionMapping) { m.Spec.IntegrationRef.Name = "branch" })
	s.becomesRegistered(ctx, "mine")
	s.becomesRegistered(ctx, "theirs")
	others := &site{system: of, ring: ring}
	extension := s.extension("101")
	s.carries(ctx, extension, append(s.wanted(mine, s.all...), others.wanted(theirs, s.all...)...))

	By("rotating one key")
	s.rotate(ctx)
	s.carries(ctx, extension, append(s.wanted(mine, s.all...), others.wanted(theirs, s.all...)...))

	By("deleting one mapping")
	s.disappears(ctx, mine)
	s.carries(ctx, extension, others.wanted(theirs, s.all...))
	s.disappears(ctx, theirs)
	s.carriesNothing(ctx, extension)
}, Entry("of RingMe", ringMe), Entry("of RingMe with queue agents", ringMeWithAgents), Entry("of VoipNow", voipNow))
