package extension_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

// tamper changes our registrations on extension 101 as an administrator may: one is deleted, others
// get another method or are, where the PBX knows that (VoipNow), disabled.
func (s *site) tamper(ctx context.Context) {
	GinkgoHelper()
	extension := s.number("101")
	if !s.suffixed {
		extension = "5101"
	}
	administrator := s.administrator()
	list, err := administrator.Registrations(ctx, extension)
	Expect(err).NotTo(HaveOccurred())
	ours := slices.DeleteFunc(list, func(r pbxapi.Registration) bool { return !strings.HasPrefix(r.URL, publicURL) })
	Expect(ours).To(HaveLen(len(s.all)))
	Expect(administrator.Unregister(ctx, extension, ours[0].ID)).To(Succeed())
	for i, r := range ours[1:] {
		if r.Disabled = s.suffixed && i > 0; !r.Disabled {
			r.Method = http.MethodGet
		}
		Expect(administrator.Update(ctx, extension, r)).To(Succeed())
	}
}

var _ = Describe("VoipNow", func() {
	It("gets a registration with a URL of its own for each type of event", func(ctx SpecContext) {
		s := newSiteOf(ctx, voipNow)
		foreign := s.setForeign(ctx, "101", 30)
		s.start(ctx)
		phone := s.create(ctx, "ann", withID("no-id-counts-here"))
		queue := s.create(ctx, "sales", at("0007*900", v1alpha1.ExtensionQueue))
		mapping := s.becomesRegistered(ctx, "ann")
		s.becomesRegistered(ctx, "sales")
		s.carries(ctx, 7101, s.wanted(phone, s.all...))
		s.carries(ctx, 7900, s.wanted(queue, "hangup"))
		ours, after := s.held(ctx, Default, 7101)
		Expect(ours).To(ConsistOf(
			HaveSuffix("/dial-in"), HaveSuffix("/dial-out"), HaveSuffix("/hangup"), HaveSuffix("/answer-in"), HaveSuffix("/answer-out")))
		Expect(after).To(Equal(foreign))
		Expect(mapping.Status.ExtensionID).To(Equal("0007*101"))
		Expect(mapping.Status.RegisteredEvents).To(HaveValue(BeEquivalentTo(5)))
		Expect(mapping.Status.ExtensionEvents).To(HaveValue(BeEquivalentTo(35)))
		Expect(lifecycle.Ready(mapping).Message).To(Equal("Hangup, DialIn, DialOut, AnswerIn, AnswerOut registered on extension 0007*101"))
		asked := s.asked(ctx)
		Expect(asked.Routes[simclient.VoipNowListEventsRoute].Count).To(Equal(2), "one list per extension")
		Expect(asked.Routes[simclient.VoipNowCreateEventRoute].Count).To(Equal(6))
		Expect(asked.Total).To(Equal(9), "and one token")
	})

	It("is asked once per extension and interval when all is well", func(ctx SpecContext) {
		s := newSiteOf(ctx, voipNow)
		s.start(ctx, every(50*time.Millisecond))
		s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		before := s.asked(ctx)
		Eventually(func() int { return s.asked(ctx).Total }).Should(BeNumerically(">=", before.Total+10))
		after := s.asked(ctx)
		Expect(after.Total - before.Total).To(Equal(
			after.Routes[simclient.VoipNowListEventsRoute].Count - before.Routes[simclient.VoipNowListEventsRoute].Count))
	})

	DescribeTable("is put right", func(ctx SpecContext, settings map[string]any) {
		s := newSiteOf(ctx, voipNow)
		_, err := s.pbx.Sim.Change(ctx, settings)
		Expect(err).NotTo(HaveOccurred())
		foreign := s.setForeign(ctx, "101", 3)
		s.start(ctx, every(100*time.Millisecond))
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.carries(ctx, 7101, s.wanted(mapping, s.all...))
		Expect(s.pbx.Sim.ResetRequests(ctx)).To(Succeed())
		s.tamper(ctx)
		s.carries(ctx, 7101, s.wanted(mapping, s.all...))
		asked := s.asked(ctx)
		Expect(asked.Routes[simclient.VoipNowCreateEventRoute].Count).To(Equal(1))
		Expect(asked.Routes[simclient.VoipNowDeleteEventRoute].Count).To(Equal(1), "that of the administrator")
		_, held := s.held(ctx, Default, 7101)
		Expect(held).To(Equal(foreign))
		Eventually(func(g Gomega) {
			g.Expect(s.events(ctx, g, v1alpha1.ReasonDriftCorrected)).NotTo(BeEmpty())
		}).Should(Succeed())

		By("rotating the key")
		s.rotate(ctx)
		s.carries(ctx, 7101, s.wanted(mapping, s.all...))

		By("deleting the mapping")
		s.disappears(ctx, mapping)
		s.carriesNothing(ctx, 7101)
		_, held = s.held(ctx, Default, 7101)
		Expect(held).To(Equal(foreign))
	},
		Entry("as documented", map[string]any{}),
		Entry("with numbers, and without bodies", map[string]any{
			"numericTypes": true, "createAnswer": "none", "updateAnswer": "none", "deleteAnswer": "none",
		}),
		Entry("with bare arrays", map[string]any{"createAnswer": "array", "listAnswer": "array"}),
	)

	It("may lose a registration just when it is to be enabled", func(ctx SpecContext) {
		s := newSiteOf(ctx, voipNow)
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.tamper(ctx)
		s.fault(ctx, simclient.Fault{Method: http.MethodPut, Kind: simclient.FaultVanished, Count: 2})
		s.wake(ctx, "ann")
		s.carries(ctx, 7101, s.wanted(mapping, s.all...))
		asked := s.asked(ctx)
		Expect(asked.Routes[simclient.VoipNowUpdateEventRoute].Statuses[http.StatusBadRequest]).To(Equal(2))
		s.becomesRegistered(ctx, "ann")
	})

	It("of an early version is registered for all but the answers", func(ctx SpecContext) {
		s := newSiteOf(ctx, voipNow)
		_, err := s.pbx.Sim.Change(ctx, map[string]any{"profile": "early"})
		Expect(err).NotTo(HaveOccurred())
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		refused := s.becomes(ctx, "ann", metav1.ConditionFalse, v1alpha1.ReasonPBXRefused)
		Expect(lifecycle.Ready(refused).Message).To(ContainSubstring("leave Answer out"))
		Expect(refused.Status.RegisteredEvents).To(HaveValue(BeEquivalentTo(3)))
		s.carries(ctx, 7101, s.wanted(mapping, "hangup", "dial-in", "dial-out"))

		By("doing what the message says")
		s.edit(ctx, "ann", func(m *v1alpha1.ExtensionMapping) {
			m.Spec.Events = []v1alpha1.EventType{v1alpha1.EventDialIn, v1alpha1.EventHangup}
		})
		s.becomesRegistered(ctx, "ann")
		s.carries(ctx, 7101, s.wanted(mapping, "hangup", "dial-in"))
	})

	It("says of an extension that it does not exist, and is asked again", func(ctx SpecContext) {
		s := newSiteOf(ctx, voipNow)
		s.start(ctx, every(100*time.Millisecond))
		mapping := s.create(ctx, "ann", at("0007*777", v1alpha1.ExtensionPhone))
		unknown := s.becomes(ctx, "ann", metav1.ConditionFalse, v1alpha1.ReasonExtensionNotFound)
		Expect(lifecycle.Ready(unknown).Message).To(ContainSubstring("correct spec.extension.number"))
		before := s.asked(ctx).Total
		Consistently(func() int { return s.asked(ctx).Total - before }, 500*time.Millisecond).
			Should(BeNumerically("<", 10), "no faster than by the interval")
		added, err := s.pbx.Sim.AddExtensions(ctx, simclient.NewExtension{Number: "777"})
		Expect(err).NotTo(HaveOccurred())
		s.becomesRegistered(ctx, "ann")
		s.carries(ctx, added[0].ID, s.wanted(mapping, s.all...))
		s.edit(ctx, "ann", at("0007*102", v1alpha1.ExtensionPhone))
		s.carriesNothing(ctx, added[0].ID)
		s.carries(ctx, 7102, s.wanted(mapping, s.all...))
	})

	It("refuses the younger of two mappings of an extension", func(ctx SpecContext) {
		s := newSiteOf(ctx, voipNow)
		s.start(ctx)
		older := s.create(ctx, "a-older")
		s.becomesRegistered(ctx, "a-older")
		Eventually(func() bool { return time.Now().Truncate(time.Second).After(older.CreationTimestamp.Time) }).Should(BeTrue())
		younger := s.create(ctx, "younger")
		s.becomes(ctx, "younger", metav1.ConditionFalse, v1alpha1.ReasonDuplicateMapping)
		s.disappears(ctx, older)
		s.becomesRegistered(ctx, "younger")
		s.carries(ctx, 7101, s.wanted(younger, s.all...))
	})
})
