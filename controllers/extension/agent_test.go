package extension_test

import (
	"context"
	"net/http"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

// agent77 is the queue agent at extension 101.
var agent77 = exchange.Owner{Scope: exchange.OnAgent, ID: 77}

const (
	agentsRoute      = "GET /client/{client}/agent/local"
	agentEventsRoute = "GET /client/{client}/agent/{kind}/{agent}/event"
)

// agentCarries waits until the agent carries exactly these registrations of ours.
func (s *site) agentCarries(ctx context.Context, want []string) {
	GinkgoHelper()
	s.ownerCarries(ctx, agent77, want)
}

func (s *site) ownerCarries(ctx context.Context, owner exchange.Owner, want []string) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		ours, _ := s.heldBy(ctx, g, owner)
		g.Expect(ours).To(ConsistOf(want))
	}).Should(Succeed())
}

// agentOf are the registrations that agent 77 should carry for a mapping.
func (s *site) agentOf(mapping *v1alpha1.ExtensionMapping) []string {
	if mapping.Status.AgentID != "77" {
		return nil
	}
	return s.wanted(mapping, "agent-login", "agent-logout")
}

func (s *site) ignoreAgents(ctx context.Context, policy v1alpha1.QueueAgents) {
	GinkgoHelper()
	s.editIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.PBX.RingMe.QueueAgents = policy })
}

var _ = Describe("A queue agent", func() {
	It("is registered for once, beside what others have there", func(ctx SpecContext) {
		s := newSiteOf(ctx, ringMeWithAgents)
		foreign, err := s.administrator().Register(ctx, pbxapi.AgentOwner("77"), pbxapi.Registration{
			Event: pbxapi.EventAgentLogin, URL: "https://crm.example.net/agents", Method: http.MethodPost,
		})
		Expect(err).NotTo(HaveOccurred())
		others := []string{"POST agent-login " + foreign.URL}
		s.start(ctx, every(100*time.Millisecond))
		mapping := s.create(ctx, "ann")
		s.create(ctx, "bob", at("1234*102", v1alpha1.ExtensionPhone))
		ready := s.becomesRegistered(ctx, "ann")
		Expect(ready.Status.AgentID).To(Equal("77"))
		Expect(ready.Status.RegisteredEvents).To(HaveValue(BeEquivalentTo(6)))
		Expect(ready.Status.ExtensionEvents).To(HaveValue(BeEquivalentTo(4)))
		Expect(lifecycle.Ready(ready).Message).To(ContainSubstring("AgentLogin, AgentLogout registered on queue agent 77"))
		Expect(s.becomesRegistered(ctx, "bob").Status.RegisteredEvents).To(HaveValue(BeEquivalentTo(4)))
		s.agentCarries(ctx, append(s.agentOf(ready), others...))
		s.carries(ctx, 5101, s.wanted(mapping, all...))

		By("rotating the key")
		s.rotate(ctx)
		s.agentCarries(ctx, append(s.agentOf(ready), others...))
		s.carries(ctx, 5101, s.wanted(mapping, all...))

		By("deleting the mapping")
		s.disappears(ctx, mapping)
		s.agentCarries(ctx, others)
	})

	It("costs one request per interval, and one list of agents for all mappings", func(ctx SpecContext) {
		s := newSiteOf(ctx, ringMeWithAgents)
		s.start(ctx, every(100*time.Millisecond))
		s.create(ctx, "ann")
		s.create(ctx, "bob", at("1234*102", v1alpha1.ExtensionPhone))
		version := s.becomesRegistered(ctx, "ann").ResourceVersion
		s.becomesRegistered(ctx, "bob")
		before := s.asked(ctx)
		Expect(before.Routes[agentsRoute].Count).To(BeNumerically("<=", 2), "one list, of one or two pages")
		looks := func(asked simclient.Requests) int {
			return asked.Routes[simclient.ListEventsRoute].Count + asked.Routes[agentEventsRoute].Count
		}
		Eventually(func(g Gomega) {
			g.Expect(s.asked(ctx).Routes[agentEventsRoute].Count - before.Routes[agentEventsRoute].Count).To(BeNumerically(">=", 10))
		}).Should(Succeed())
		after := s.asked(ctx)
		Expect(after.Total-before.Total).To(Equal(looks(after)-looks(before)), "one GET per extension and one per agent")
		agents := after.Routes[agentEventsRoute].Count - before.Routes[agentEventsRoute].Count
		Expect(looks(after)-looks(before)).To(BeNumerically("~", 3*agents, 5), "that is three for two extensions and one agent")
		Expect(s.get(ctx, Default, "ann").ResourceVersion).To(Equal(version), "no write to the API server")
	})

	It("is put right when its registrations were changed on the PBX", func(ctx SpecContext) {
		s := newSiteOf(ctx, ringMeWithAgents)
		s.start(ctx, every(100*time.Millisecond))
		s.create(ctx, "ann")
		ready := s.becomesRegistered(ctx, "ann")
		list, err := s.pbx.Sim.Registrations(ctx)
		Expect(err).NotTo(HaveOccurred())
		for _, r := range list {
			if r.EventType == "agent-logout" {
				Expect(s.pbx.Sim.DeleteRegistration(ctx, r.ID)).To(Succeed())
			}
		}
		s.agentCarries(ctx, s.agentOf(ready))
	})

	It("is left when the mapping moves, and followed when it comes back", func(ctx SpecContext) {
		s := newSiteOf(ctx, ringMeWithAgents)
		s.start(ctx)
		s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.reportsAgent(ctx, "ann")
		s.edit(ctx, "ann", at("1234*102", v1alpha1.ExtensionPhone))
		s.agentCarries(ctx, nil)
		moved := s.becomesRegistered(ctx, "ann")
		Expect(moved.Status.AgentID).To(BeEmpty())
		Expect(moved.Status.Agent).To(BeNil(), "nobody reports the state of an agent that is not followed")
		Expect(moved.Status.RegisteredEvents).To(HaveValue(BeEquivalentTo(4)))
		s.edit(ctx, "ann", at("1234*101", v1alpha1.ExtensionPhone))
		Eventually(func(g Gomega) { g.Expect(s.get(ctx, g, "ann").Status.AgentID).To(Equal("77")) }).Should(Succeed())
		s.agentCarries(ctx, s.agentOf(s.becomesRegistered(ctx, "ann")))
	})

	It("is left when agents are to be ignored, without a word on the phone itself", func(ctx SpecContext) {
		s := newSiteOf(ctx, ringMeWithAgents)
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		since := lifecycle.Ready(s.becomesRegistered(ctx, "ann")).LastTransitionTime
		s.ignoreAgents(ctx, v1alpha1.QueueAgentsIgnore)
		s.agentCarries(ctx, nil)
		Eventually(func(g Gomega) {
			after := s.get(ctx, g, "ann")
			g.Expect(after.Status.AgentID).To(BeEmpty())
			g.Expect(after.Status.RegisteredEvents).To(HaveValue(BeEquivalentTo(4)))
			g.Expect(lifecycle.Ready(after).LastTransitionTime).To(Equal(since), "Ready all the time")
		}).Should(Succeed())
		s.carries(ctx, 5101, s.wanted(mapping, all...))
		s.ignoreAgents(ctx, v1alpha1.QueueAgentsFollow)
		Eventually(func(g Gomega) { g.Expect(s.get(ctx, g, "ann").Status.AgentID).To(Equal("77")) }).Should(Succeed())
		s.agentCarries(ctx, s.agentOf(s.becomesRegistered(ctx, "ann")))
	})

	It("is not asked for where they are ignored from the beginning", func(ctx SpecContext) {
		s := newSiteOf(ctx, ringMeWithAgents, func(i *v1alpha1.PBXIntegration) { i.Spec.PBX.RingMe.QueueAgents = v1alpha1.QueueAgentsIgnore })
		s.start(ctx)
		s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		Expect(s.asked(ctx).Routes[agentsRoute].Count).To(BeZero())
	})

	It("is followed to a new id", func(ctx SpecContext) {
		s := newSiteOf(ctx, ringMeWithAgents)
		s.start(ctx, every(100*time.Millisecond))
		s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		fresh, err := s.pbx.Sim.Renumber(ctx, 5101, "101") // deletes the agent, too
		Expect(err).NotTo(HaveOccurred())
		agent, err := s.pbx.Sim.SetAgent(ctx, simclient.AgentState{Extension: "101", Status: exchange.Available})
		Expect(err).NotTo(HaveOccurred())
		Eventually(func(g Gomega) {
			owner := exchange.Owner{Scope: exchange.OnAgent, ID: agent.ID}
			ours, _ := s.heldBy(ctx, g, owner)
			g.Expect(ours).To(ConsistOf(s.wanted(s.get(ctx, g, "ann"), "agent-login", "agent-logout")))
		}).Should(Succeed())
		s.carries(ctx, fresh.ID, s.wanted(s.becomesRegistered(ctx, "ann"), all...))
	})

	It("does not stand in the way of call events where the PBX does not tell of agents", func(ctx SpecContext) {
		s := newSiteOf(ctx, ringMeWithAgents)
		s.fault(ctx, simclient.Fault{Path: "/agent/", Kind: simclient.FaultStatus, Status: http.StatusForbidden})
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.carries(ctx, 5101, s.wanted(mapping, all...))

		By("failing for another reason")
		t := newSiteOf(ctx, ringMeWithAgents)
		t.fault(ctx, simclient.Fault{Path: "/agent/", Kind: simclient.FaultStatus, Status: http.StatusInternalServerError})
		t.start(ctx)
		mapping = t.create(ctx, "ann")
		failed := t.becomes(ctx, "ann", metav1.ConditionFalse, v1alpha1.ReasonPBXUnreachable)
		Expect(lifecycle.Ready(failed).Message).To(ContainSubstring("agents"))
		t.carries(ctx, 5101, t.wanted(mapping, all...))
		t.fault(ctx)
		t.agentCarries(ctx, t.wanted(mapping, "agent-login", "agent-logout"))
		t.becomesRegistered(ctx, "ann")
	})

	It("is let go when nothing is left to be asked of the PBX", func(ctx SpecContext) {
		s := newSiteOf(ctx, ringMeWithAgents)
		s.start(ctx, deadline(2*time.Second))
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		s.fault(ctx, simclient.Fault{Kind: simclient.FaultStatus, Status: http.StatusServiceUnavailable})
		s.disappears(ctx, mapping)
		s.tellsOfLeftovers(ctx, "and queue agent 77 of the PBX (ids 10001, 10002, 10003, 10004, 10005, 10006)")
	})

	It("is found when the status of a deleted mapping was lost", func(ctx SpecContext) {
		s := newSiteOf(ctx, ringMeWithAgents)
		first := s.start(ctx)
		mapping := s.create(ctx, "ann")
		s.becomesRegistered(ctx, "ann")
		first.stop()
		bare := s.get(ctx, Default, "ann")
		bare.Status = v1alpha1.ExtensionMappingStatus{}
		Expect(kube.Status().Update(ctx, bare)).To(Succeed())
		Expect(kube.Delete(ctx, mapping)).To(Succeed())
		s.start(ctx)
		s.disappears(ctx, mapping)
		s.agentCarries(ctx, nil)
		s.carriesNothing(ctx, 5101)
	})

	It("that takes no more registrations is named", func(ctx SpecContext) {
		s := newSiteOf(ctx, ringMeWithAgents)
		_, err := s.pbx.Sim.Change(ctx, map[string]any{"eventLimit": 4})
		Expect(err).NotTo(HaveOccurred())
		for range 4 {
			_, err := s.administrator().Register(ctx, pbxapi.AgentOwner("77"), pbxapi.Registration{
				Event: pbxapi.EventAgentLogin, URL: "https://crm.example.net/agents", Method: http.MethodPost,
			})
			Expect(err).NotTo(HaveOccurred())
		}
		s.start(ctx)
		mapping := s.create(ctx, "ann")
		full := s.becomes(ctx, "ann", metav1.ConditionFalse, v1alpha1.ReasonEventLimitReached)
		Expect(lifecycle.Ready(full).Message).To(And(
			ContainSubstring("4 of 4 event registrations on queue agent 77 are in use, 0 of them ours; 2 more needed (AgentLogin, AgentLogout)"),
			Not(ContainSubstring("eventLimit"))), "that field does not speak of agents")
		s.carries(ctx, 5101, s.wanted(mapping, all...))
	})
})

// reportsAgent does what a receiver does when the agent logs in.
func (s *site) reportsAgent(ctx context.Context, name string) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		mapping := s.get(ctx, g, name)
		mapping.Status.Agent = &v1alpha1.AgentStatus{State: v1alpha1.AgentAvailable, Since: metav1.Now()}
		g.Expect(kube.Status().Update(ctx, mapping)).To(Succeed())
	}).Should(Succeed())
}

var _ = Describe("Registrations for all phones of the account", func() {
	wanted := func(i *v1alpha1.PBXIntegration) { i.Spec.PBX.RingMe.Registration = v1alpha1.RegistrationAccount }
	// inPlace does what the controller of integrations does when they are registered, or not any
	// more.
	inPlace := func(ctx context.Context, s *site, count int32) {
		GinkgoHelper()
		Eventually(func(g Gomega) {
			integration := &v1alpha1.PBXIntegration{}
			g.Expect(kube.Get(ctx, s.key("head-office"), integration)).To(Succeed())
			integration.Status.RegisteredEvents = &count
			lifecycle.SetCondition(integration, time.Now(), v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReconciled, "by the test")
			g.Expect(kube.Status().Update(ctx, integration)).To(Succeed())
		}).Should(Succeed())
	}

	It("take the place of those of each phone, and give it back", func(ctx SpecContext) {
		s := newSiteOf(ctx, ringMeWithAgents, wanted)
		foreign := s.setForeign(ctx, "101", 3)
		s.start(ctx)
		ann, menu := s.create(ctx, "ann"), s.create(ctx, "menu", at("1234*099", v1alpha1.ExtensionIVR))
		s.becomes(ctx, "ann", metav1.ConditionFalse, v1alpha1.ReasonIntegrationNotReady)
		s.carriesNothing(ctx, 5101)
		inPlace(ctx, s, 0) // the PBX has refused them
		s.wake(ctx, "ann")
		own := s.becomesRegistered(ctx, "ann")
		s.becomesRegistered(ctx, "menu")
		s.carries(ctx, 5101, s.wanted(ann, all...))

		By("registering on the account")
		since := lifecycle.Ready(own).LastTransitionTime
		inPlace(ctx, s, 5)
		s.carriesNothing(ctx, 5101)
		Eventually(func(g Gomega) {
			after := s.get(ctx, g, "ann")
			g.Expect(lifecycle.Ready(after).Message).To(ContainSubstring("come by the registrations of PBXIntegration head-office for all phones"))
			g.Expect(lifecycle.Ready(after).LastTransitionTime).To(Equal(since), "Ready all the time")
			g.Expect(after.Status.RegisteredEvents).To(HaveValue(BeEquivalentTo(2)), "those on the agent")
			g.Expect(after.Status.ExtensionEvents).To(HaveValue(BeEquivalentTo(3)))
		}).Should(Succeed())
		s.agentCarries(ctx, s.agentOf(own))
		s.carries(ctx, 5099, s.wanted(menu, "hangup"))
		Expect(s.events(ctx, Default, v1alpha1.ReasonDriftCorrected)).To(BeEmpty())
		bob := s.create(ctx, "bob", at("1234*102", v1alpha1.ExtensionPhone))
		Expect(s.becomesRegistered(ctx, "bob").Status.RegisteredEvents).To(HaveValue(BeZero()))
		s.carriesNothing(ctx, 5102)

		By("losing them")
		inPlace(ctx, s, 0)
		s.carries(ctx, 5101, s.wanted(ann, all...))
		s.carries(ctx, 5102, s.wanted(bob, all...))
		inPlace(ctx, s, 5)
		s.carriesNothing(ctx, 5101)

		By("switching back")
		s.editIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.PBX.RingMe.Registration = v1alpha1.RegistrationExtension })
		s.carries(ctx, 5101, s.wanted(ann, all...))
		s.carries(ctx, 5102, s.wanted(bob, all...))
		_, after := s.held(ctx, Default, 5101)
		Expect(after).To(Equal(foreign))
	})

	It("leave a full extension alone", func(ctx SpecContext) {
		s := newSite(ctx, wanted)
		s.setForeign(ctx, "101", 16)
		inPlace(ctx, s, 0) // the PBX has refused them
		s.start(ctx)
		s.create(ctx, "ann")
		s.becomes(ctx, "ann", metav1.ConditionFalse, v1alpha1.ReasonEventLimitReached)
		inPlace(ctx, s, 5)
		s.becomesRegistered(ctx, "ann")
		Expect(s.asked(ctx).Writes()).To(BeZero())
	})
})
