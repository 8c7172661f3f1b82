package extension_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

var _ = Describe("Registration", func() {
	It("registers each event once, and nothing else", func(ctx SpecContext) {
		s := newSite(ctx)
		foreign := s.setForeign(ctx, "101", 3)
		s.start(ctx)
		phone := s.create(ctx, "ann")
		ivr := s.create(ctx, "menu", at("1234*099", v1alpha1.ExtensionIVR))
		queue := s.create(ctx, "sales", at("1234*900", v1alpha1.ExtensionQueue), withID("5900"))

		mapping := s.becomesRegistered(ctx, "ann")
		Expect(mapping.Status.ExtensionID).To(Equal("5101"))
		Expect(mapping.Status.RegisteredEvents).To(HaveValue(BeEquivalentTo(4)))
		Expect(mapping.Status.ExtensionEvents).To(HaveValue(BeEquivalentTo(7)))
		Expect(mapping.Status.KeyGeneration).To(BeEquivalentTo(1))
		s.carries(ctx, 5101, s.wanted(phone, all...))
		s.carries(ctx, 5099, s.wanted(ivr, "hangup"))
		s.carries(ctx, 5900, s.wanted(queue, "hangup"))
		_, after := s.held(ctx, Default, 5101)
		Expect(after).To(Equal(foreign))

		asked := s.asked(ctx)
		Expect(asked.Routes[simclient.TokenRoute].Count).To(Equal(1))
		Expect(asked.Routes[simclient.CreateEventRoute].Count).To(Equal(6), "only what is missing is created")
		Expect(asked.Routes[simclient.ListEventsRoute].Count).To(Equal(3), "one list per extension")
		Expect(asked.Routes[simclient.ExtensionsRoute].Count).To(BeNumerically("<=", 2), "one list of extensions for all")
	})

	It("asks once per extension and interval, and writes nothing, when all is well", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx, every(100*time.Millisecond))
		s.create(ctx, "ann")
		s.create(ctx, "bob", at("1234*102", v1alpha1.ExtensionPhone))
		version := s.becomesRegistered(ctx, "ann").ResourceVersion
		s.becomesRegistered(ctx, "bob")
		before := s.asked(ctx)
		Eventually(func(g Gomega) {
			lists := s.asked(ctx).Routes[simclient.ListEventsRoute].Count - before.Routes[simclient.ListEventsRoute].Count
			g.Expect(lists).To(BeNumerically(">=", 20))
		}).Should(Succeed())
		after := s.asked(ctx)
		Expect(after.Total-before.Total).To(Equal(after.Routes[simclient.ListEventsRoute].Count-before.Routes[simclient.ListEventsRoute].Count),
			"nothing but the one list per extension")
		Expect(after.Writes()).To(Equal(before.Writes()))
		Expect(s.get(ctx, Default, "ann").ResourceVersion).To(Equal(version), "no write to the API server")
	})

	It("puts right what was changed on the PBX", func(ctx SpecContext) {
		s := newSite(ctx)
		foreign := s.setForeign(ctx, "101", 2)
		s.start(ctx, every(100*time.Millisecond))
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		list, err := s.pbx.Sim.Registrations(ctx)
		Expect(err).NotTo(HaveOccurred())
		for _, r := range list {
			if !r.Foreign && r.EventType != "answer" {
				Expect(s.pbx.Sim.DeleteRegistration(ctx, r.ID)).To(Succeed())
			}
		}
		s.carries(ctx, 5101, s.wanted(mapping, all...))
		_, after := s.held(ctx, Default, 5101)
		Expect(after).To(Equal(foreign))
		Eventually(func(g Gomega) {
			g.Expect(s.events(ctx, g, v1alpha1.ReasonDriftCorrected)).NotTo(BeEmpty())
		}).Should(Succeed())
	})

	It("follows an edit of the events", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.edit(ctx, "ann", func(m *v1alpha1.ExtensionMapping) { m.Spec.Events = []v1alpha1.EventType{v1alpha1.EventHangup} })
		s.carries(ctx, 5101, s.wanted(mapping, "hangup"))
		s.edit(ctx, "ann", func(m *v1alpha1.ExtensionMapping) {
			m.Spec.Events = []v1alpha1.EventType{v1alpha1.EventDialIn, v1alpha1.EventHangup}
		})
		s.carries(ctx, 5101, s.wanted(mapping, "dial-in", "hangup"))
	})

	It("moves to another extension", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.edit(ctx, "ann", at("1234*102", v1alpha1.ExtensionPhone))
		s.carriesNothing(ctx, 5101)
		s.carries(ctx, 5102, s.wanted(mapping, all...))
		Expect(s.becomesRegistered(ctx, "ann").Status.ExtensionID).To(Equal("5102"))
		s.edit(ctx, "ann", withID("5103"))
		s.carriesNothing(ctx, 5102)
		s.carries(ctx, 5103, s.wanted(mapping, all...))
	})

	It("moves to a new public URL, and to a new key", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.rotate(ctx)
		s.carries(ctx, 5101, s.wanted(mapping, all...))
		Eventually(func(g Gomega) {
			g.Expect(s.get(ctx, g, "ann").Status.KeyGeneration).To(BeEquivalentTo(2))
			g.Expect(s.events(ctx, g, v1alpha1.ReasonKeyRotated)).To(HaveLen(1))
		}).Should(Succeed())
		s.editIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.Receiver.PublicURL = "https://other.example.com/pbx/" })
		Eventually(func(g Gomega) {
			ours, _ := s.held(ctx, g, 5101)
			g.Expect(ours).To(HaveLen(4))
			g.Expect(ours).To(HaveEach(ContainSubstring("https://other.example.com/pbx/ext-event/")))
		}).Should(Succeed())
	})

	It("follows an extension that was deleted and made anew", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx, every(100*time.Millisecond))
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		fresh, err := s.pbx.Sim.Renumber(ctx, 5101, "101")
		Expect(err).NotTo(HaveOccurred())
		s.carries(ctx, fresh.ID, s.wanted(mapping, all...))
		Eventually(func(g Gomega) {
			g.Expect(s.get(ctx, g, "ann").Status.ExtensionID).To(Equal(strconv.Itoa(fresh.ID)))
		}).Should(Succeed())
		s.becomesRegistered(ctx, "ann")
	})

	It("says what is wrong with an extension, and recovers", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx, every(100*time.Millisecond))
		s.create(ctx, "unknown", at("1234*777", v1alpha1.ExtensionPhone))
		s.create(ctx, "short", at("102", v1alpha1.ExtensionPhone))
		s.create(ctx, "wrong-id", at("1234*103", v1alpha1.ExtensionPhone), withID("9999"))
		s.create(ctx, "wrong-type", at("1234*900", v1alpha1.ExtensionPhone))
		for name, help := range map[string]string{
			"unknown":  "not among the 6 extensions",
			"short":    "did you mean 1234*102?",
			"wrong-id": "correct spec.extension.id, or leave it out",
		} {
			mapping := s.becomes(ctx, name, metav1.ConditionFalse, v1alpha1.ReasonExtensionNotFound)
			Expect(lifecycle.Ready(mapping).Message).To(ContainSubstring(help))
		}
		wrong := s.becomes(ctx, "wrong-type", metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec)
		Expect(lifecycle.Ready(wrong).Message).To(ContainSubstring("is of type Queue on the PBX"))

		_, err := s.pbx.Sim.AddExtensions(ctx, simclient.NewExtension{Number: "777"})
		Expect(err).NotTo(HaveOccurred())
		s.becomesRegistered(ctx, "unknown")
		s.edit(ctx, "wrong-id", withID(""))
		s.becomesRegistered(ctx, "wrong-id")
	})

	It("leaves the old extension when the new one does not exist", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx)
		s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.edit(ctx, "ann", at("1234*777", v1alpha1.ExtensionPhone))
		s.becomes(ctx, "ann", metav1.ConditionFalse, v1alpha1.ReasonExtensionNotFound)
		s.carriesNothing(ctx, 5101)
	})

	DescribeTable("reaches exactly one registration per event in spite of a PBX that",
		func(ctx SpecContext, faults []simclient.Fault) {
			s := newSite(ctx)
			foreign := s.setForeign(ctx, "101", 3)
			s.fault(ctx, faults...)
			s.start(ctx, timeout(200*time.Millisecond))
			mapping := s.create(ctx, "ann")
			s.becomesRegistered(ctx, "ann")
			s.carries(ctx, 5101, s.wanted(mapping, all...))
			s.edit(ctx, "ann", func(m *v1alpha1.ExtensionMapping) { m.Spec.Events = []v1alpha1.EventType{v1alpha1.EventHangup} })
			s.carries(ctx, 5101, s.wanted(mapping, "hangup"))
			s.disappears(ctx, mapping)
			s.carriesNothing(ctx, 5101)
			_, after := s.held(ctx, Default, 5101)
			Expect(after).To(Equal(foreign))
			Expect(s.asked(ctx).Total).To(BeNumerically("<", 120), "the PBX is not hammered")
		},
		Entry("answers 500 now and then", often(simclient.Fault{Kind: simclient.FaultStatus, Status: http.StatusInternalServerError})),
		Entry("resets connections", often(simclient.Fault{Kind: simclient.FaultReset})),
		Entry("does what it is asked and resets the connection", often(simclient.Fault{Kind: simclient.FaultResetAfter})),
		Entry("breaks off its answers", often(simclient.Fault{Kind: simclient.FaultTruncated})),
		Entry("is too slow, and does it all the same", often(simclient.Fault{Kind: simclient.FaultSlow, Delay: delivery.Duration(400 * time.Millisecond)})),
		Entry("limits the rate", often(simclient.Fault{Kind: simclient.FaultStatus, Status: 429, Code: "rate_limit_exceeded", Headers: map[string]string{"X-RateLimit-Reset": "1"}})),
		Entry("lets tokens die early", often(simclient.Fault{Kind: simclient.FaultStatus, Status: http.StatusUnauthorized})[:1]),
		Entry("loses registrations", []simclient.Fault{{Method: "DELETE", Kind: simclient.FaultVanished, Count: 2}}),
	)

	It("finds the registrations of a mapping whose status was lost", func(ctx SpecContext) {
		s := newSite(ctx)
		first := s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		first.stop()
		bare := s.get(ctx, Default, "ann")
		bare.Status = v1alpha1.ExtensionMappingStatus{}
		Expect(kube.Status().Update(ctx, bare)).To(Succeed())
		before := s.asked(ctx).Writes()
		s.start(ctx)
		s.becomesRegistered(ctx, "ann")
		s.carries(ctx, 5101, s.wanted(mapping, all...))
		Expect(s.asked(ctx).Writes()).To(Equal(before), "what is there already is adopted")
	})

	It("reaches the same with two operators at once", func(ctx SpecContext) {
		s := newSite(ctx)
		foreign := s.setForeign(ctx, "101", 3)
		s.start(ctx, every(200*time.Millisecond))
		s.start(ctx, every(200*time.Millisecond))
		var mappings []*v1alpha1.ExtensionMapping
		for _, number := range []string{"101", "102", "103"} {
			mappings = append(mappings, s.create(ctx, "user-"+number, at("1234*"+number, v1alpha1.ExtensionPhone)))
		}
		settled := func(events ...string) {
			GinkgoHelper()
			Eventually(func(g Gomega) {
				for i, mapping := range mappings {
					ours, _ := s.held(ctx, g, 5101+i)
					g.Expect(ours).To(ConsistOf(s.wanted(mapping, events...)))
				}
			}).Should(Succeed())
		}
		settled(all...)
		s.rotate(ctx)
		settled(all...)
		for _, mapping := range mappings {
			s.disappears(ctx, mapping)
		}
		settled()
		_, after := s.held(ctx, Default, 5101)
		Expect(after).To(Equal(foreign))
	})
})

// often makes requests about events fail: the first list, then the first create, a later create,
// and the first delete.
func often(fault simclient.Fault) []simclient.Fault {
	var faults []simclient.Fault
	for _, which := range []struct {
		method string
		skip   int
	}{{"GET", 0}, {"POST", 0}, {"POST", 2}, {"DELETE", 0}, {"DELETE", 3}} {
		f := fault
		f.Method, f.Path, f.Skip, f.Count = which.method, "/event/", which.skip, 1
		faults = append(faults, f)
	}
	return faults
}

var _ = Describe("The event limit", func() {
	It("is reported with numbers and remedies, and overcome", func(ctx SpecContext) {
		s := newSite(ctx)
		foreign := s.setForeign(ctx, "101", 16)
		s.start(ctx, every(100*time.Millisecond))
		mapping := s.create(ctx, "ann")
		full := s.becomes(ctx, "ann", metav1.ConditionFalse, v1alpha1.ReasonEventLimitReached)
		for _, part := range []string{
			"16 of 16 event registrations on extension 1234*101 (id 5101) are in use, 0 of them ours", "4 more needed",
			"Remove unused registrations", "ask the PBX administrator for a higher limit",
		} {
			Expect(lifecycle.Ready(full).Message).To(ContainSubstring(part))
		}
		Eventually(func(g Gomega) {
			events := s.events(ctx, g, v1alpha1.ReasonEventLimitReached)
			g.Expect(events).To(HaveLen(1))
			g.Expect(events[0].Type).To(Equal("Warning"))
			g.Expect(events[0].Note).To(Equal(lifecycle.Ready(full).Message))
		}).Should(Succeed())
		_, after := s.held(ctx, Default, 5101)
		Expect(after).To(Equal(foreign))
		Expect(s.asked(ctx).Writes()).To(BeZero(), "a full extension is not written to")

		s.setForeign(ctx, "101", 14)
		s.carries(ctx, 5101, s.wanted(mapping, "answer", "hangup"))
		Eventually(func(g Gomega) {
			partial := s.get(ctx, g, "ann")
			g.Expect(partial.Status.RegisteredEvents).To(HaveValue(BeEquivalentTo(2)))
			g.Expect(lifecycle.Ready(partial).Message).To(ContainSubstring("2 of them ours (Hangup, Answer); 2 more needed (DialIn, DialOut)"))
		}).Should(Succeed())

		s.setForeign(ctx, "101", 12)
		s.becomesRegistered(ctx, "ann")
		s.carries(ctx, 5101, s.wanted(mapping, all...))
	})

	It("is believed to the PBX when it takes less than the spec says", func(ctx SpecContext) {
		s := newSite(ctx)
		_, err := s.pbx.Sim.Change(ctx, map[string]any{"eventLimit": 6})
		Expect(err).NotTo(HaveOccurred())
		s.setForeign(ctx, "101", 5)
		s.start(ctx, every(100*time.Millisecond))
		mapping := s.create(ctx, "ann")
		full := s.becomes(ctx, "ann", metav1.ConditionFalse, v1alpha1.ReasonEventLimitReached)
		Expect(lifecycle.Ready(full).Message).To(And(ContainSubstring("6 of 6 event registrations"),
			ContainSubstring("although spec.pbx.ringMe.eventLimit says 16")))
		s.carries(ctx, 5101, s.wanted(mapping, "hangup"))
	})

	It("does not stand in the way of a new key", func(ctx SpecContext) {
		s := newSite(ctx)
		s.setForeign(ctx, "101", 12)
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.rotate(ctx)
		s.carries(ctx, 5101, s.wanted(mapping, all...))
	})

	It("of the spec is raised by an edit", func(ctx SpecContext) {
		s := newSite(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.PBX.RingMe.EventLimit = 2 })
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.becomes(ctx, "ann", metav1.ConditionFalse, v1alpha1.ReasonEventLimitReached)
		s.carries(ctx, 5101, s.wanted(mapping, "hangup", "answer"))
		s.editIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.PBX.RingMe.EventLimit = 16 })
		s.becomesRegistered(ctx, "ann")
	})
})

var _ = Describe("Two mappings of one extension", func() {
	It("are told apart by age", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx)
		older := s.create(ctx, "older")
		s.becomesRegistered(ctx, "older")
		Eventually(func() bool { return time.Now().Truncate(time.Second).After(older.CreationTimestamp.Time) }).Should(BeTrue())
		younger := s.create(ctx, "younger", at("1234*200", v1alpha1.ExtensionPhone), withID("5101"))
		refused := s.becomes(ctx, "younger", metav1.ConditionFalse, v1alpha1.ReasonDuplicateMapping)
		Expect(lifecycle.Ready(refused).Message).To(ContainSubstring("the older ExtensionMapping older"))
		s.carries(ctx, 5101, s.wanted(older, all...))

		By("moving the older away")
		s.edit(ctx, "older", at("1234*102", v1alpha1.ExtensionPhone))
		s.becomesRegistered(ctx, "younger")
		s.carries(ctx, 5101, s.wanted(younger, all...))
		s.carries(ctx, 5102, s.wanted(older, all...))

		By("moving the older back")
		s.edit(ctx, "older", at("1234*101", v1alpha1.ExtensionPhone))
		s.becomes(ctx, "younger", metav1.ConditionFalse, v1alpha1.ReasonDuplicateMapping)
		s.carries(ctx, 5101, s.wanted(older, all...))

		By("deleting the older")
		s.disappears(ctx, older)
		s.becomesRegistered(ctx, "younger")
		s.carries(ctx, 5101, s.wanted(younger, all...))
	})

	It("may swap their extensions", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx)
		ann := s.create(ctx, "ann")
		bob := s.create(ctx, "bob", at("1234*102", v1alpha1.ExtensionPhone))
		s.becomesRegistered(ctx, "ann")
		s.becomesRegistered(ctx, "bob")
		s.edit(ctx, "ann", at("1234*102", v1alpha1.ExtensionPhone))
		s.edit(ctx, "bob", at("1234*101", v1alpha1.ExtensionPhone))
		s.carries(ctx, 5101, s.wanted(bob, all...))
		s.carries(ctx, 5102, s.wanted(ann, all...))
		s.becomesRegistered(ctx, "ann")
		s.becomesRegistered(ctx, "bob")
	})
})

var _ = Describe("Suspension", func() {
	DescribeTable("stops all calls to the PBX, but not a deletion", func(ctx SpecContext, suspend func(context.Context, *site, bool)) {
		s := newSite(ctx)
		s.start(ctx, every(50*time.Millisecond))
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		suspend(ctx, s, true)
		Eventually(func(g Gomega) {
			ready := lifecycle.Ready(s.get(ctx, g, "ann"))
			g.Expect(ready.Reason).To(Equal(v1alpha1.ReasonSuspended))
			g.Expect(ready.Status).To(Equal(metav1.ConditionTrue), "what was Ready stays so")
		}).Should(Succeed())
		before := s.asked(ctx).Total
		s.rotate(ctx)
		Consistently(func() int { return s.asked(ctx).Total }, 500*time.Millisecond).Should(Equal(before))

		suspend(ctx, s, false)
		s.becomesRegistered(ctx, "ann")
		s.carries(ctx, 5101, s.wanted(mapping, all...))
		suspend(ctx, s, true)
		s.disappears(ctx, mapping)
		s.carriesNothing(ctx, 5101)
	},
		Entry("of a mapping", func(ctx context.Context, s *site, on bool) {
			s.edit(ctx, "ann", func(m *v1alpha1.ExtensionMapping) { m.Spec.Suspend = on })
		}),
		Entry("of an integration", func(ctx context.Context, s *site, on bool) {
			s.editIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.Suspend = on })
		}),
	)
})

var _ = Describe("A mapping that is edited while its integration is suspended", func() {
	It("is not taken for applied, and moves when the integration resumes", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.editIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.Suspend = true })
		s.becomes(ctx, "ann", metav1.ConditionTrue, v1alpha1.ReasonSuspended)
		s.edit(ctx, "ann", at("1234*102", v1alpha1.ExtensionPhone))
		Consistently(func(g Gomega) {
			edited := s.get(ctx, g, "ann")
			g.Expect(lifecycle.IsReady(edited)).To(BeFalse())
			g.Expect(edited.Status.ObservedGeneration).To(BeNumerically("<", edited.Generation))
		}, 300*time.Millisecond).Should(Succeed())
		s.editIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.Suspend = false })
		s.becomesRegistered(ctx, "ann")
		s.carries(ctx, 5102, s.wanted(mapping, all...))
		s.carriesNothing(ctx, 5101)
	})
})

var _ = Describe("An integration that is not ready", func() {
	It("is waited for", func(ctx SpecContext) {
		s := newSite(ctx)
		Expect(kube.Delete(ctx, s.integration())).To(Succeed())
		s.start(ctx)
		s.create(ctx, "ann")
		s.becomes(ctx, "ann", metav1.ConditionFalse, v1alpha1.ReasonIntegrationNotFound)
		Expect(kube.Create(ctx, s.integration())).To(Succeed())
		s.becomesRegistered(ctx, "ann")
	})

	It("with bad credentials is not asked by each mapping, and recovers", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx)
		bad := s.credentials()
		bad.Data["clientSecret"] = []byte("wrong")
		Expect(kube.Update(ctx, bad)).To(Succeed())
		_, err := s.pbx.Sim.AddExtensions(ctx, simclient.NewExtension{Number: "200", Count: 30})
		Expect(err).NotTo(HaveOccurred())
		for i := range 30 {
			s.create(ctx, fmt.Sprintf("user-%d", i), at(fmt.Sprintf("1234*%d", 200+i), v1alpha1.ExtensionPhone))
		}
		for i := range 30 {
			s.becomes(ctx, fmt.Sprintf("user-%d", i), metav1.ConditionFalse, v1alpha1.ReasonCredentialsInvalid)
		}
		Expect(s.asked(ctx).Total).To(BeNumerically("<=", 3))
		good := s.credentials()
		Expect(kube.Update(ctx, good)).To(Succeed())
		s.becomesReachable(ctx)
		for i := range 30 {
			s.becomesRegistered(ctx, fmt.Sprintf("user-%d", i))
		}
	})

	It("for want of credentials is named", func(ctx SpecContext) {
		s := newSite(ctx)
		Expect(kube.Delete(ctx, s.credentials())).To(Succeed())
		s.start(ctx)
		s.create(ctx, "ann")
		waiting := s.becomes(ctx, "ann", metav1.ConditionFalse, v1alpha1.ReasonCredentialsMissing)
		Expect(lifecycle.Ready(waiting).Message).To(ContainSubstring(`there is no Secret "head-office-pbx": create it with the keys clientID and clientSecret`))
		incomplete := s.credentials()
		delete(incomplete.Data, "clientSecret")
		Expect(kube.Create(ctx, incomplete)).To(Succeed())
		s.becomesReachable(ctx)
		Eventually(func(g Gomega) {
			g.Expect(lifecycle.Ready(s.get(ctx, g, "ann")).Message).To(ContainSubstring("the Secret head-office-pbx has no key clientSecret"))
		}).Should(Succeed())
		Expect(kube.Update(ctx, s.credentials())).To(Succeed())
		s.becomesUnreachable(ctx)
		s.becomesReachable(ctx)
		s.becomesRegistered(ctx, "ann")
	})
})

func (s *site) becomesUnreachable(ctx context.Context) {
	GinkgoHelper()
	s.setReachable(ctx, metav1.ConditionFalse, v1alpha1.ReasonCredentialsMissing)
}

// becomesReachable does what the controller of integrations does when the PBX accepts the
// credentials.
func (s *site) becomesReachable(ctx context.Context) {
	GinkgoHelper()
	s.setReachable(ctx, metav1.ConditionTrue, v1alpha1.ReasonPBXReachable)
}

func (s *site) setReachable(ctx context.Context, status metav1.ConditionStatus, reason string) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		integration := &v1alpha1.PBXIntegration{}
		g.Expect(kube.Get(ctx, s.key("head-office"), integration)).To(Succeed())
		lifecycle.SetCondition(integration, time.Now(), v1alpha1.ConditionPBXReachable, status, reason, "as a test says")
		g.Expect(kube.Status().Update(ctx, integration)).To(Succeed())
	}).Should(Succeed())
}
