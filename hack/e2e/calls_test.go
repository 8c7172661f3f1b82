package e2e

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

const customer = "+12025550143"

var _ = Describe("Calls", Ordered, func() {
	var s *site

	BeforeAll(func(ctx context.Context) {
		s = newSite(ctx)
		s.connect(ctx)
	})

	DescribeTable("become legs", func(ctx context.Context, scenario string, want ...string) {
		call := s.call(ctx, scenario)
		Eventually(func() []string { return s.legs(ctx, call) }).Should(ConsistOf(want))
		Consistently(func() []string { return s.legs(ctx, call) }, "2s").Should(ConsistOf(want))
	},
		Entry("answered inbound", "S1",
			"Inbound "+customer+" 1234*101 ann Completed Answered 60s logged"),
		Entry("IVR, queue, agent: the queue's own hangup adds nothing", "S2",
			"Inbound "+customer+" 1234*101 ann Completed Answered 60s logged"),
		Entry("given up in the queue: one missed call, at the queue", "S3",
			"Inbound "+customer+" 1234*101 ann Completed Cancelled",
			"Inbound "+customer+" 1234*101 ann Completed NoAnswer",
			"Inbound "+customer+" 1234*900 Completed Missed logged"),
		Entry("given up in the menu", "S3b",
			"Inbound "+customer+" 1234*099 Completed Missed logged"),
		Entry("outgoing", "S4",
			"Outbound 1234*101 "+customer+" ann Completed Answered 11.4s logged"),
		Entry("outgoing, busy: no success", "S5",
			"Outbound 1234*101 "+customer+" ann Completed Busy"),
		Entry("internal: out of scope", "S6"),
		Entry("transfer: two logged legs, one customer", "S7",
			"Inbound "+customer+" 1234*101 ann Completed Answered 24s logged",
			"Inbound "+customer+" 1234*102 ben Completed Answered 60s logged"),
		Entry("parallel ring: one answered, the others elsewhere", "S9",
			"Inbound "+customer+" 1234*101 ann Completed AnsweredElsewhere",
			"Inbound "+customer+" 1234*102 ben Completed Answered 60s logged",
			"Inbound "+customer+" 1234*103 cleo Completed AnsweredElsewhere"),
	)

	It("are the same legs when every event comes twice and out of order", func(ctx context.Context) {
		_, err := s.pbx.Change(ctx, map[string]any{"delivery": map[string]any{"duplicates": 1, "reorder": "500ms"}})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx context.Context) {
			_, err := s.pbx.Change(ctx, map[string]any{"delivery": map[string]any{"duplicates": 0, "reorder": "0s"}})
			Expect(err).NotTo(HaveOccurred())
		})
		call := s.call(ctx, "S7")
		Eventually(func() []string { return s.legs(ctx, call) }).Should(Equal([]string{
			"Inbound " + customer + " 1234*101 ann Completed Answered 24s logged",
			"Inbound " + customer + " 1234*102 ben Completed Answered 60s logged",
		}))
	})

	It("can be watched from the first ring", func(ctx context.Context) {
		calls, err := s.pbx.Place(ctx, simclient.CallRequest{Scenario: "S1", Speed: 5})
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() []string { return s.legs(ctx, calls[0]) }).Should(ConsistOf(ContainSubstring("Ringing")))
		Eventually(func() []string { return s.legs(ctx, calls[0]) }).Should(ConsistOf(ContainSubstring("Answered")))
		Eventually(func() []string { return s.legs(ctx, calls[0]) }).Should(ConsistOf(ContainSubstring("Completed Answered 60s")))
	})

	It("raise one Event when missed", func(ctx context.Context) {
		call := s.call(ctx, "S3")
		missed := func() []eventsv1.Event {
			var leg v1alpha1.CallLegList
			Expect(cluster.List(ctx, &leg, client.InNamespace(s.namespace), client.MatchingFields{
				"status.result": "Missed", "status.callID": call.CallIDs[0],
			})).To(Succeed())
			var events eventsv1.EventList
			Expect(cluster.List(ctx, &events, client.InNamespace(s.namespace))).To(Succeed())
			var found []eventsv1.Event
			for _, event := range events.Items {
				if event.Reason == v1alpha1.ReasonMissedCall && event.Related != nil && len(leg.Items) == 1 &&
					event.Related.Name == leg.Items[0].Name {
					found = append(found, event)
				}
			}
			return found
		}
		Eventually(missed).Should(HaveLen(1))
		Expect(missed()[0].Note).To(And(ContainSubstring(customer), ContainSubstring("1234*900")))
		Expect(missed()[0].Regarding.Name).To(Equal("support"))
	})

	It("come with the state of queue agents", func(ctx context.Context) {
		for status, want := range map[string]v1alpha1.AgentState{
			"available": v1alpha1.AgentAvailable, "logged_out": v1alpha1.AgentLoggedOut,
		} {
			s.notify(ctx, "ann", "agent_id=77&agent_status="+status+
				"&agent_type=local&extension_name=1234*101%40sip.example.com&event_source=api")
			Eventually(func(g Gomega) {
				var mapping v1alpha1.ExtensionMapping
				g.Expect(cluster.Get(ctx, s.key("ann"), &mapping)).To(Succeed())
				g.Expect(mapping.Status.Agent).NotTo(BeNil())
				g.Expect(mapping.Status.Agent.State).To(Equal(want))
				g.Expect(isReady(&mapping, mapping.Status.Conditions)).To(Succeed())
			}).Should(Succeed())
		}
	})

	It("can be selected, explained and waited for", func(ctx context.Context) {
		call := s.call(ctx, "S3b")
		Eventually(func() []string { return s.legs(ctx, call) }).Should(HaveLen(1))
		Expect(kubectl(ctx, "-n", s.namespace, "get", "leg", "--field-selector", "status.result=Missed")).
			To(And(ContainSubstring("Missed"), ContainSubstring("DIRECTION"), Not(ContainSubstring("AnsweredElsewhere"))))
		Expect(kubectl(ctx, "explain", "callleg.status")).To(And(ContainSubstring("talkTime"), ContainSubstring("how it ended")))
		Expect(kubectl(ctx, "-n", s.namespace, "wait", "--for=condition=Ready", "pbx/"+integrationName, "--timeout=5s")).
			To(ContainSubstring("condition met"))
		Expect(kubectl(ctx, "-n", s.namespace, "get", "pbx")).To(ContainSubstring("RingMe"))
	})

	It("leave no secret in a log, an Event or a status", func(ctx context.Context) { s.expectNoSecrets(ctx) })
})
