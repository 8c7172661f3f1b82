package e2e

import (
	"context"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

var _ = Describe("Two integrations on one PBX", func() {
	for name, pbx := range map[string]system{"RingMe": ringMe, "VoipNow": voipNow} {
		It("keep to their own registrations and legs, on "+name, func(ctx context.Context) {
			s := newSiteOf(ctx, pbx)
			s.connect(ctx)
			alone := s.registered(ctx)
			other := s.another(ctx)
			other.connect(ctx)
			Expect(s.registered(ctx)).To(HaveLen(2 * len(alone)))
			scenario := map[string]string{"RingMe": "S1", "VoipNow": "V1"}[name]
			call := s.call(ctx, scenario)
			for _, place := range []*site{s, other} {
				Eventually(func() []string { return place.legs(ctx, call) }).Should(HaveLen(1))
			}
			other.disconnect(ctx)
			Expect(s.registered(ctx)).To(Equal(alone))
		})
	}
})

// registered are the URLs that the PBX calls.
func (s *site) registered(ctx context.Context) []string {
	GinkgoHelper()
	registrations, err := s.pbx.Registrations(ctx)
	Expect(err).NotTo(HaveOccurred())
	urls := make([]string, len(registrations))
	for i, registration := range registrations {
		urls[i] = registration.EventType + " " + registration.URL
	}
	slices.Sort(urls)
	return urls
}

var _ = Describe("Commands", func() {
	dial := func(extension, number string) v1alpha1.CallCommandSpec {
		return v1alpha1.CallCommandSpec{Dial: &v1alpha1.Dial{Extension: extension, Number: number}}
	}

	It("dial on RingMe, and follow the call to its end", func(ctx context.Context) {
		s := newSite(ctx)
		s.connect(ctx)
		_, err := s.pbx.Change(ctx, map[string]any{"callbackSpeed": 10})
		Expect(err).NotTo(HaveOccurred())
		s.command(ctx, "dial", dial("1234*101", customer))
		Eventually(func() v1alpha1.CommandPhase { return s.commandStatus(ctx, "dial").Phase }).Should(Equal(v1alpha1.CommandConnected))
		Eventually(func() v1alpha1.CommandPhase { return s.commandStatus(ctx, "dial").Phase }).Should(Equal(v1alpha1.CommandFinished))
		status := s.commandStatus(ctx, "dial")
		Expect(status.Legs).To(HaveLen(1))
		Expect(kubectl(ctx, "-n", s.namespace, "get", "leg", status.Legs[0])).To(And(ContainSubstring("Outbound"), ContainSubstring("Answered")))
		Expect(kubectl(ctx, "-n", s.namespace, "wait", "--for=condition=Ready", "callcmd/dial", "--timeout=5s")).To(ContainSubstring("condition met"))
	})

	It("hang up on RingMe", func(ctx context.Context) {
		s := newSite(ctx)
		s.connect(ctx)
		calls, err := s.pbx.Place(ctx, simclient.CallRequest{Scenario: "S1", Speed: 2})
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() []string { return s.legs(ctx, calls[0]) }).Should(ConsistOf(ContainSubstring("Answered")))
		leg := s.legObjects(ctx, calls[0])[0]
		s.command(ctx, "hangup", v1alpha1.CallCommandSpec{Hangup: &v1alpha1.Hangup{LegRef: &v1alpha1.CallLegReference{Name: leg.Name}}})
		Eventually(func() v1alpha1.CommandPhase { return s.commandStatus(ctx, "hangup").Phase }).Should(Equal(v1alpha1.CommandFinished))
		Eventually(func() []string { return s.legs(ctx, calls[0]) }, "10s").Should(ConsistOf(ContainSubstring("Completed")))
	})

	It("dial and hang up on VoipNow", func(ctx context.Context) {
		s := newSiteOf(ctx, voipNow)
		s.connect(ctx)
		s.command(ctx, "dial", dial("0007*101", "12025550143"))
		Eventually(func() v1alpha1.CommandPhase { return s.commandStatus(ctx, "dial").Phase }).Should(Equal(v1alpha1.CommandConnected))
		s.command(ctx, "hangup", v1alpha1.CallCommandSpec{Hangup: &v1alpha1.Hangup{Extension: "0007*101"}})
		Eventually(func() v1alpha1.CommandPhase { return s.commandStatus(ctx, "hangup").Phase }).Should(Equal(v1alpha1.CommandFinished))
		Eventually(func() v1alpha1.CommandPhase { return s.commandStatus(ctx, "dial").Phase }).Should(Equal(v1alpha1.CommandFinished))
		Expect(s.commandStatus(ctx, "dial").Legs).NotTo(BeEmpty())
	})

	It("dial and hang up on LinuxBox", func(ctx context.Context) {
		s := newSiteOf(ctx, linuxBox)
		s.connect(ctx)
		s.command(ctx, "dial", dial("10", "2025550143"))
		Eventually(func() v1alpha1.CommandPhase { return s.commandStatus(ctx, "dial").Phase }).Should(Equal(v1alpha1.CommandConnected))
		s.command(ctx, "hangup", v1alpha1.CallCommandSpec{Hangup: &v1alpha1.Hangup{Extension: "10"}})
		Eventually(func() v1alpha1.CommandPhase { return s.commandStatus(ctx, "hangup").Phase }).Should(Equal(v1alpha1.CommandFinished))
		Eventually(func() v1alpha1.CommandPhase { return s.commandStatus(ctx, "dial").Phase }).Should(Equal(v1alpha1.CommandFinished))
	})

	It("fail at once on Callable, which takes none", func(ctx context.Context) {
		s := newSiteOf(ctx, callable)
		s.connect(ctx)
		s.command(ctx, "dial", dial("201", "442079460123"))
		Eventually(func() v1alpha1.CommandPhase { return s.commandStatus(ctx, "dial").Phase }, "10s").Should(Equal(v1alpha1.CommandFailed))
		Expect(kubectl(ctx, "-n", s.namespace, "get", "callcmd", "-o", "wide")).To(ContainSubstring(v1alpha1.ReasonNotSupported))
	})
})

func (s *site) command(ctx context.Context, name string, spec v1alpha1.CallCommandSpec) {
	GinkgoHelper()
	spec.IntegrationRef.Name = integrationName
	Expect(cluster.Create(ctx, &v1alpha1.CallCommand{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}, Spec: spec,
	})).To(Succeed())
}

func (s *site) commandStatus(ctx context.Context, name string) v1alpha1.CallCommandStatus {
	GinkgoHelper()
	var command v1alpha1.CallCommand
	Expect(cluster.Get(ctx, s.key(name), &command)).To(Succeed())
	return command.Status
}

// legObjects are the CallLegs of a call.
func (s *site) legObjects(ctx context.Context, call simclient.Call) []v1alpha1.CallLeg {
	GinkgoHelper()
	var list v1alpha1.CallLegList
	Expect(cluster.List(ctx, &list, client.InNamespace(s.namespace), client.MatchingFields{"status.callID": call.CallIDs[0]})).To(Succeed())
	return list.Items
}

var _ = Describe("Discovery", func() {
	It("makes mappings of extensions as they come and go", func(ctx context.Context) {
		s := newSite(ctx)
		s.createCredentials(ctx)
		Expect(cluster.Create(ctx, s.mapping("hand-written", "1234*102", v1alpha1.ExtensionPhone))).To(Succeed())
		Expect(cluster.Create(ctx, s.integration(func(p *v1alpha1.PBXIntegration) {
			p.Spec.Discovery = &v1alpha1.Discovery{
				Types:       []v1alpha1.ExtensionType{v1alpha1.ExtensionPhone, v1alpha1.ExtensionQueue},
				Interval:    metav1.Duration{Duration: 30 * time.Second},
				GracePeriod: &metav1.Duration{Duration: time.Second},
			}
		}))).To(Succeed())
		want := []string{"1234*101", "1234*102", "1234*103", "1234*900", "1234*901"}
		Eventually(func() []string { return s.mapped(ctx) }).Should(Equal(want))
		s.ready(ctx)
		added, err := s.pbx.AddExtensions(ctx, simclient.NewExtension{Number: "104"})
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() []string { return s.mapped(ctx) }).Should(Equal(slices.Insert(slices.Clone(want), 3, "1234*104")))
		Expect(s.pbx.DeleteExtension(ctx, added[0].ID)).To(Succeed())
		Eventually(func() []string { return s.mapped(ctx) }).Should(Equal(want))
	})
})

// mapped are the numbers that have a mapping.
func (s *site) mapped(ctx context.Context) []string {
	GinkgoHelper()
	var list v1alpha1.ExtensionMappingList
	Expect(cluster.List(ctx, &list, client.InNamespace(s.namespace))).To(Succeed())
	numbers := make([]string, len(list.Items))
	for i, mapping := range list.Items {
		numbers[i] = mapping.Spec.Extension.Number
	}
	slices.Sort(numbers)
	return numbers
}

var _ = Describe("Backfill", func() {
	for name, expected := range map[string]struct {
		system
		expectation
	}{
		// The simulator plays a call fast, but stamps it as one that took its time: the first
		// attempt at the agent ended before the outage.
		"RingMe": {ringMe, expectation{"S3", []string{
			"Inbound " + customer + " 1234*101 ann Completed Cancelled",
			"Inbound " + customer + " 1234*900 Completed Missed logged",
		}}},
		"VoipNow": {voipNow, expectation{"V5", []string{"Outbound 12025550100 12025550143 ann Completed Busy"}}},
	} {
		It("reads the calls of an outage from the history, on "+name, func(ctx context.Context) {
			s := newSiteOf(ctx, expected.system)
			s.connect(ctx, func(p *v1alpha1.PBXIntegration) { p.Spec.Backfill.After = &metav1.Duration{Duration: time.Second} })
			s.withoutReceiver(ctx, func() {
				// Long enough to be told from a restart.
				Consistently(func() int { return readyPods(ctx, s.namespace) }, "8s").Should(BeZero())
				s.call(ctx, expected.scenario)
			})
			Eventually(func() bool {
				var integration v1alpha1.PBXIntegration
				Expect(cluster.Get(ctx, s.key(integrationName), &integration)).To(Succeed())
				return integration.Status.Backfill != nil && integration.Status.Backfill.Records > 0
			}).Should(BeTrue())
			Eventually(func() []string { return s.allLegs(ctx) }).Should(ConsistOf(expected.legs))
		})
	}
})

// withoutReceiver does something while the receiver is away.
func (s *site) withoutReceiver(ctx context.Context, do func()) {
	GinkgoHelper()
	s.suspend(ctx, true)
	s.scaleReceiver(ctx, 0)
	Eventually(func() int { return pods(ctx, s.namespace, receiverLabels) }).Should(BeZero())
	do()
	s.scaleReceiver(ctx, 1)
	s.suspend(ctx, false)
}

func (s *site) scaleReceiver(ctx context.Context, replicas int32) {
	GinkgoHelper()
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: integrationName + "-receiver"}}
	Expect(cluster.Get(ctx, client.ObjectKeyFromObject(set), set)).To(Succeed())
	before := set.DeepCopy()
	set.Spec.Replicas = &replicas
	Expect(cluster.Patch(ctx, set, client.MergeFrom(before))).To(Succeed())
}

// allLegs are the legs of the namespace, each as one line.
func (s *site) allLegs(ctx context.Context) []string {
	GinkgoHelper()
	var list v1alpha1.CallLegList
	Expect(cluster.List(ctx, &list, client.InNamespace(s.namespace))).To(Succeed())
	var lines []string
	for _, leg := range list.Items {
		lines = append(lines, s.line(leg.Status))
	}
	return lines
}

var _ = Describe("RingMe's account-wide registration", func() {
	It("takes the place of those of the phones, and back, and no call counts twice", func(ctx context.Context) {
		s := newSite(ctx)
		s.connect(ctx)
		account := func() int {
			registrations, err := s.pbx.Registrations(ctx)
			Expect(err).NotTo(HaveOccurred())
			return len(slices.DeleteFunc(registrations, func(r exchange.Registration) bool { return r.Owner.Scope != exchange.OnAccount }))
		}
		legs := []string{
			"Inbound " + customer + " 1234*101 ann Completed AnsweredElsewhere",
			"Inbound " + customer + " 1234*102 ben Completed Answered 60s logged",
			"Inbound " + customer + " 1234*103 cleo Completed AnsweredElsewhere",
		}
		s.changeIntegration(ctx, func(p *v1alpha1.PBXIntegration) { p.Spec.PBX.RingMe.Registration = v1alpha1.RegistrationAccount })
		Eventually(account).Should(Equal(5))
		s.expectCall(ctx, expectation{"S9", legs})
		Eventually(func() map[string]int { return s.owned(ctx) }).Should(And(HaveKey("1234*900 hangup"), Not(HaveKey("1234*101 hangup")), Not(HaveKey("1234*103 dial-in"))))
		s.ready(ctx)
		s.expectCall(ctx, expectation{"S9", legs})
		s.changeIntegration(ctx, func(p *v1alpha1.PBXIntegration) { p.Spec.PBX.RingMe.Registration = v1alpha1.RegistrationExtension })
		Eventually(account).Should(BeZero())
		s.expectCall(ctx, expectation{"S9", legs})
		Expect(s.owned(ctx)).To(Equal(exactly([]string{"1234*101", "1234*102", "1234*103"}, "1234*099", "1234*900")))
	})

	It("brings the states of queue agents from the PBX", func(ctx context.Context) {
		s := newSite(ctx)
		s.connect(ctx)
		// An agent is logged out to begin with; only a change is told.
		for _, state := range []struct {
			status string
			want   v1alpha1.AgentState
		}{{"available", v1alpha1.AgentAvailable}, {"logged_out", v1alpha1.AgentLoggedOut}} {
			_, err := s.pbx.SetAgent(ctx, simclient.AgentState{Extension: "1234*101", Status: state.status})
			Expect(err).NotTo(HaveOccurred())
			Eventually(func(g Gomega) {
				var mapping v1alpha1.ExtensionMapping
				g.Expect(cluster.Get(ctx, s.key("ann"), &mapping)).To(Succeed())
				g.Expect(mapping.Status.Agent).NotTo(BeNil())
				g.Expect(mapping.Status.Agent.State).To(Equal(state.want))
			}).Should(Succeed())
		}
	})
})
