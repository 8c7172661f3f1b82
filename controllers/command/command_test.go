package command_test

import (
	"context"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

var _ = Describe("A dial", func() {
	var s *site
	BeforeEach(func(ctx SpecContext) { s = newSite(ctx) })

	It("is followed from the first ring to the end of its call", func(ctx SpecContext) {
		s.start(ctx)
		s.create(ctx, "dial", dialling("1234*101", customer))
		sent := s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		calls := s.calls(ctx)
		Expect(calls).To(HaveLen(1))
		Expect(sent.Status.CallID).To(Equal(calls[0].ID))
		Expect(sent.Status.SentTime).NotTo(BeNil())

		leg := s.leg(ctx, "leg-1", strings.ToUpper(calls[0].ID))
		s.leg(ctx, "leg-2", "of-another-call")
		Eventually(func(g Gomega) {
			g.Expect(s.get(ctx, g, "dial").Status.Legs).To(ConsistOf("leg-1"))
		}).Should(Succeed())
		s.updateLeg(ctx, leg, s.answered)
		s.becomes(ctx, "dial", v1alpha1.CommandConnected, v1alpha1.ReasonConnected)
		s.updateLeg(ctx, leg, s.ended(v1alpha1.ResultAnswered))
		finished := s.becomes(ctx, "dial", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
		Expect(message(finished)).To(ContainSubstring("60s of talk"))
		Expect(s.asked(ctx, dialRoute)).To(Equal(1))
		Eventually(func(g Gomega) { g.Expect(s.events(ctx, g, v1alpha1.ReasonFinished)).To(HaveLen(1)) }).Should(Succeed())
	})

	It("costs the API server a few requests for each change of its legs, and none in between", func(ctx SpecContext) {
		var count requests
		s.start(ctx, counting(&count))
		s.create(ctx, "dial", dialling("1234*101", customer))
		sent := s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		leg := s.leg(ctx, "leg-1", sent.Status.CallID)
		Eventually(func(g Gomega) { g.Expect(s.get(ctx, g, "dial").Status.Legs).To(ConsistOf("leg-1")) }).Should(Succeed())
		s.updateLeg(ctx, leg, s.answered)
		s.becomes(ctx, "dial", v1alpha1.CommandConnected, v1alpha1.ReasonConnected)
		var before int64
		Eventually(func() bool { // until the pass that has just been seen is over
			last := before
			before = count.Load()
			return last == before
		}).WithPolling(time.Second).Should(BeTrue())
		Consistently(count.Load).WithTimeout(6 * time.Second).WithPolling(time.Second).Should(Equal(before))
		s.updateLeg(ctx, leg, s.ended(v1alpha1.ResultAnswered))
		s.becomes(ctx, "dial", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
		AddReportEntry("requests for CallLegs", count.Load())
		Expect(count.Load()).To(BeNumerically("<=", 30))
	})

	It("that nobody answers has done its work", func(ctx SpecContext) {
		s.start(ctx)
		s.create(ctx, "dial", dialling("1234*101", customer))
		sent := s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		s.leg(ctx, "leg-1", sent.Status.CallID, s.ended(v1alpha1.ResultBusy))
		finished := s.becomes(ctx, "dial", v1alpha1.CommandFinished, v1alpha1.ReasonNotConnected)
		Expect(message(finished)).To(ContainSubstring("Busy"))
	})

	It("goes from Sent to Finished where legs show at their end only", func(ctx SpecContext) {
		s.editIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.CallLegs.Publish = v1alpha1.PublishCompleted })
		s.start(ctx)
		s.create(ctx, "dial", dialling("1234*101", customer))
		sent := s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		s.clock.forward(20 * time.Minute)
		s.wake(ctx, "dial")
		Eventually(func(g Gomega) { g.Expect(message(s.get(ctx, g, "dial"))).To(ContainSubstring("at its end only")) }).Should(Succeed())
		s.leg(ctx, "leg-1", sent.Status.CallID, s.ended(v1alpha1.ResultAnswered))
		s.wake(ctx, "dial")
		s.becomes(ctx, "dial", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
	})

	It("fails when its extension does not pick up, which leaves no trace", func(ctx SpecContext) {
		s.start(ctx)
		s.create(ctx, "dial", dialling("1234*101", customer))
		s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		s.clock.forward(time.Minute)
		s.wake(ctx, "dial")
		failed := s.becomes(ctx, "dial", v1alpha1.CommandFailed, v1alpha1.ReasonNoCall)
		Expect(message(failed)).To(ContainSubstring("callLegs.scope External"))
	})

	It("is followed by an operator that has not sent it", func(ctx SpecContext) {
		first := s.start(ctx)
		s.create(ctx, "dial", dialling("1234*101", customer))
		sent := s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		first.stop()
		s.leg(ctx, "leg-1", sent.Status.CallID, s.ended(v1alpha1.ResultAnswered))
		s.start(ctx)
		s.becomes(ctx, "dial", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
		Expect(s.asked(ctx, dialRoute)).To(Equal(1))
	})

	It("does not take the leg of another integration for its own", func(ctx SpecContext) {
		s.start(ctx)
		s.create(ctx, "dial", dialling("1234*101", customer))
		sent := s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		s.leg(ctx, "leg-1", sent.Status.CallID, s.ended(v1alpha1.ResultAnswered), func(leg *v1alpha1.CallLeg) {
			leg.Labels[v1alpha1.LabelIntegration] = "branch-office"
		})
		s.clock.forward(time.Minute)
		s.wake(ctx, "dial")
		s.becomes(ctx, "dial", v1alpha1.CommandFailed, v1alpha1.ReasonNoCall)
	})

	It("fails for an extension that the PBX does not know", func(ctx SpecContext) {
		s.start(ctx)
		s.create(ctx, "dial", dialling("1234*777", customer))
		failed := s.becomes(ctx, "dial", v1alpha1.CommandFailed, v1alpha1.ReasonExtensionNotFound)
		Expect(failed.Status.SentTime).To(BeNil())
		Eventually(func(g Gomega) { g.Expect(s.events(ctx, g, v1alpha1.ReasonExtensionNotFound)).To(HaveLen(1)) }).Should(Succeed())
	})

	It("finds an extension that has come back under another id", func(ctx SpecContext) {
		s.start(ctx, rescan(time.Nanosecond))
		s.create(ctx, "first", dialling("1234*101", customer))
		s.becomes(ctx, "first", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		_, err := s.pbx.Sim.Renumber(ctx, 5101, "101")
		Expect(err).NotTo(HaveOccurred())
		s.create(ctx, "second", dialling("1234*101", customer))
		s.becomes(ctx, "second", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
	})

	DescribeTable("fails when the PBX refuses", func(ctx SpecContext, fault simclient.Fault, reason string) {
		fault.Kind, fault.Method, fault.Path = simclient.FaultStatus, "POST", "/callback"
		s.faults(ctx, fault)
		s.start(ctx)
		s.create(ctx, "dial", dialling("1234*101", customer))
		s.becomes(ctx, "dial", v1alpha1.CommandFailed, reason)
		s.clock.forward(time.Hour / 2)
		s.wake(ctx, "dial")
		s.faults(ctx)
		s.becomes(ctx, "dial", v1alpha1.CommandFailed, reason)
		Expect(s.calls(ctx)).To(BeEmpty())
	},
		Entry("the right", simclient.Fault{Status: 403, Code: "access_denied"}, v1alpha1.ReasonPBXRefused),
		Entry("the number", simclient.Fault{Status: 400}, v1alpha1.ReasonPBXRefused),
		Entry("the credentials", simclient.Fault{Status: 401}, v1alpha1.ReasonCredentialsInvalid),
	)

	It("waits when the PBX limits the rate", func(ctx SpecContext) {
		s.faults(ctx, simclient.Fault{
			Kind: simclient.FaultStatus, Method: "POST", Path: "/callback", Status: 429, Code: "rate_limit_exceeded", Count: 1,
			Headers: map[string]string{"X-RateLimit-Reset": "2"},
		})
		s.start(ctx)
		s.create(ctx, "dial", dialling("1234*101", customer))
		limited := s.becomes(ctx, "dial", v1alpha1.CommandPending, v1alpha1.ReasonRateLimited)
		Expect(limited.Status.SentTime).To(BeNil())
		s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		Expect(s.calls(ctx)).To(HaveLen(1))
	})

	It("waits for its integration", func(ctx SpecContext) {
		integration := s.integration("")
		Expect(kube.Delete(ctx, integration)).To(Succeed())
		s.start(ctx)
		s.create(ctx, "dial", dialling("1234*101", customer))
		s.becomes(ctx, "dial", v1alpha1.CommandPending, v1alpha1.ReasonIntegrationNotFound)
		integration.ResourceVersion = ""
		Expect(kube.Create(ctx, integration)).To(Succeed())
		s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
	})

	It("waits for its integration to resume, and for its credentials", func(ctx SpecContext) {
		s.editIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.Suspend = true })
		Expect(kube.Delete(ctx, s.credentials())).To(Succeed())
		s.start(ctx)
		s.create(ctx, "dial", dialling("1234*101", customer))
		s.becomes(ctx, "dial", v1alpha1.CommandPending, v1alpha1.ReasonSuspended)
		s.editIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.Suspend = false })
		s.becomes(ctx, "dial", v1alpha1.CommandPending, v1alpha1.ReasonCredentialsMissing)
		Expect(kube.Create(ctx, s.credentials())).To(Succeed())
		s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
	})

	It("does not fire late", func(ctx SpecContext) {
		s.editIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.Suspend = true })
		s.start(ctx)
		s.create(ctx, "dial", dialling("1234*101", customer))
		s.becomes(ctx, "dial", v1alpha1.CommandPending, v1alpha1.ReasonSuspended)
		s.clock.forward(5 * time.Minute)
		s.editIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.Suspend = false })
		failed := s.becomes(ctx, "dial", v1alpha1.CommandFailed, v1alpha1.ReasonExpired)
		Expect(message(failed)).To(ContainSubstring("suspended"))
		Expect(s.asked(ctx, dialRoute)).To(BeZero())
	})

	It("does not fire late after a time without an operator", func(ctx SpecContext) {
		s.create(ctx, "dial", dialling("1234*101", customer))
		s.clock.forward(5 * time.Minute)
		s.start(ctx)
		s.becomes(ctx, "dial", v1alpha1.CommandFailed, v1alpha1.ReasonExpired)
		Expect(s.asked(ctx, dialRoute)).To(BeZero())
	})

	It("fails at once on a PBX without commands", func(ctx SpecContext) {
		s.start(ctx)
		for name, pbx := range map[string]v1alpha1.PBX{
			"callable": {Type: v1alpha1.PBXTypeCallable}, "linuxbox": {Type: v1alpha1.PBXTypeLinuxBox},
		} {
			integration := s.integration("")
			integration.Name, integration.Spec.PBX = name, pbx
			Expect(kube.Create(ctx, integration)).To(Succeed())
			for kind, spec := range map[string]v1alpha1.CallCommandSpec{"dial": dialling("10", "2025550143"), "hangup": hangingUp("10")} {
				command := s.command(name+"-"+kind, spec)
				command.Spec.IntegrationRef.Name = name
				Expect(kube.Create(ctx, command)).To(Succeed())
				failed := s.becomes(ctx, command.Name, v1alpha1.CommandFailed, v1alpha1.ReasonNotSupported)
				Expect(message(failed)).To(ContainSubstring(string(pbx.Type)))
				Expect(failed.Status.SentTime).To(BeNil())
			}
		}
	})

	It("is deleted when its time to live is over, and not before", func(ctx SpecContext) {
		s.start(ctx)
		spec := dialling("1234*777", customer)
		spec.TTLAfterFinished = &metav1.Duration{Duration: time.Hour}
		s.create(ctx, "dial", spec)
		s.becomes(ctx, "dial", v1alpha1.CommandFailed, v1alpha1.ReasonExtensionNotFound)
		s.clock.forward(59 * time.Minute)
		s.wake(ctx, "dial")
		Consistently(func() error { return kube.Get(ctx, s.key("dial"), &v1alpha1.CallCommand{}) }, 300*time.Millisecond).Should(Succeed())
		s.becomes(ctx, "dial", v1alpha1.CommandFailed, v1alpha1.ReasonExtensionNotFound)
		s.clock.forward(time.Minute)
		s.wake(ctx, "dial")
		Eventually(func() error {
			return client.IgnoreNotFound(kube.Get(ctx, s.key("dial"), &v1alpha1.CallCommand{}))
		}).Should(Succeed())
		Eventually(func() bool { return kube.Get(ctx, s.key("dial"), &v1alpha1.CallCommand{}) != nil }).Should(BeTrue())
	})

	It("is deleted by itself, a short time after it finished", func(ctx SpecContext) {
		s.start(ctx)
		spec := dialling("1234*777", customer)
		spec.TTLAfterFinished = &metav1.Duration{Duration: time.Second}
		s.create(ctx, "dial", spec)
		Eventually(func() bool { return kube.Get(ctx, s.key("dial"), &v1alpha1.CallCommand{}) != nil }).Should(BeTrue())
	})
})

var _ = Describe("A hangup", func() {
	var s *site
	const dropRoute = "DELETE /extension/{extension}/current_calls/{call}"
	BeforeEach(func(ctx SpecContext) {
		s = newSite(ctx)
		s.start(ctx)
	})

	over := func(ctx context.Context, call string) {
		GinkgoHelper()
		Eventually(func(g Gomega) {
			is, err := s.pbx.Sim.Call(ctx, call)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(is.Done).To(BeTrue())
		}).Should(Succeed())
	}

	It("ends the calls of an extension", func(ctx SpecContext) {
		calls, err := s.pbx.Sim.Place(ctx, simclient.CallRequest{Scenario: "S1"})
		Expect(err).NotTo(HaveOccurred())
		s.create(ctx, "hangup", hangingUp("1234*101"))
		s.becomes(ctx, "hangup", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
		over(ctx, calls[0].ID)
	})

	It("ends the call of a leg", func(ctx SpecContext) {
		s.create(ctx, "dial", dialling("1234*101", customer))
		sent := s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		s.leg(ctx, "leg-1", sent.Status.CallID, func(leg *v1alpha1.CallLeg) { leg.Status.LegID = "5101-" + sent.Status.CallID })
		s.create(ctx, "hangup", hangingUpLeg("leg-1"))
		finished := s.becomes(ctx, "hangup", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
		Expect(finished.Status.Legs).To(ConsistOf("leg-1"))
		Expect(finished.Status.CallID).To(Equal(sent.Status.CallID))
		over(ctx, sent.Status.CallID)
	})

	It("has done its work when there is no call", func(ctx SpecContext) {
		s.create(ctx, "hangup", hangingUp("1234*101"))
		s.becomes(ctx, "hangup", v1alpha1.CommandFinished, v1alpha1.ReasonNoCall)
	})

	It("asks the PBX nothing for a leg that is over", func(ctx SpecContext) {
		s.leg(ctx, "leg-1", "c1", s.ended(v1alpha1.ResultAnswered))
		s.create(ctx, "hangup", hangingUpLeg("leg-1"))
		finished := s.becomes(ctx, "hangup", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
		Expect(message(finished)).To(ContainSubstring("nothing to end"))
		Expect(finished.Status.SentTime).To(BeNil())
	})

	It("fails for a leg that does not exist, or is not one of its integration", func(ctx SpecContext) {
		s.create(ctx, "hangup", hangingUpLeg("leg-1"))
		s.becomes(ctx, "hangup", v1alpha1.CommandFailed, v1alpha1.ReasonLegNotFound)
		s.leg(ctx, "foreign", "c1", func(leg *v1alpha1.CallLeg) { leg.Labels[v1alpha1.LabelIntegration] = "branch-office" })
		s.create(ctx, "other", hangingUpLeg("foreign"))
		s.becomes(ctx, "other", v1alpha1.CommandFailed, v1alpha1.ReasonInvalidSpec)
	})

	It("is not repeated when its answer is lost", func(ctx SpecContext) {
		_, err := s.pbx.Sim.Place(ctx, simclient.CallRequest{Scenario: "S1"})
		Expect(err).NotTo(HaveOccurred())
		s.faults(ctx, simclient.Fault{Kind: simclient.FaultReset, Method: "DELETE", Path: "/current_calls/"})
		s.create(ctx, "hangup", hangingUp("1234*101"))
		failed := s.becomes(ctx, "hangup", v1alpha1.CommandFailed, v1alpha1.ReasonOutcomeUnknown)
		Expect(message(failed)).To(ContainSubstring("not repeated"))
		Expect(s.asked(ctx, dropRoute)).To(Equal(1))
	})

	DescribeTable("for a leg looks whether it has ended when its answer is lost", func(ctx SpecContext, ends bool) {
		leg := s.leg(ctx, "leg-1", strings.Repeat("a", 32))
		s.faults(ctx, simclient.Fault{Kind: simclient.FaultReset, Method: "GET", Path: "/current_calls"})
		s.create(ctx, "hangup", hangingUpLeg("leg-1"))
		s.becomes(ctx, "hangup", v1alpha1.CommandSent, v1alpha1.ReasonOutcomeUnknown)
		if ends {
			s.updateLeg(ctx, leg, s.ended(v1alpha1.ResultAnswered))
			s.becomes(ctx, "hangup", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
			return
		}
		s.clock.forward(time.Minute)
		s.wake(ctx, "hangup")
		s.becomes(ctx, "hangup", v1alpha1.CommandFailed, v1alpha1.ReasonOutcomeUnknown)
	},
		Entry("and it has", true),
		Entry("and it has not", false),
	)
})

var _ = Describe("A recording", func() {
	var s *site
	BeforeEach(func(ctx SpecContext) {
		s = newSite(ctx)
		s.start(ctx)
	})

	recording := func(id string) func(*v1alpha1.CallLeg) {
		return func(leg *v1alpha1.CallLeg) { leg.Status.RecordingID = id }
	}

	It("is found where the PBX stores it", func(ctx SpecContext) {
		calls, err := s.pbx.Sim.Place(ctx, simclient.CallRequest{Scenario: "S1", Speed: 1000, Wait: true})
		Expect(err).NotTo(HaveOccurred())
		Expect(calls).To(HaveLen(1))
		s.leg(ctx, "leg-1", calls[0].ID, s.ended(v1alpha1.ResultAnswered), recording(s.recordingOf(ctx)))
		s.create(ctx, "recording", resolving("leg-1"))
		finished := s.becomes(ctx, "recording", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
		Expect(finished.Status.RecordingURL).To(HavePrefix("http"))
		Expect(finished.Status.SentTime).To(BeNil())
		Expect(fetch(ctx, finished.Status.RecordingURL)).To(Equal(200))
	})

	It("is waited for until it is looked up in the call history", func(ctx SpecContext) {
		leg := s.leg(ctx, "leg-1", "c1")
		s.create(ctx, "recording", resolving("leg-1"))
		waiting := s.becomes(ctx, "recording", v1alpha1.CommandPending, v1alpha1.ReasonProgressing)
		Expect(message(waiting)).To(ContainSubstring("call history"))
		s.clock.forward(time.Hour) // the call goes on
		s.wake(ctx, "recording")
		s.becomes(ctx, "recording", v1alpha1.CommandPending, v1alpha1.ReasonProgressing)
		s.updateLeg(ctx, leg, s.ended(v1alpha1.ResultAnswered))
		s.clock.forward(10 * time.Minute)
		s.wake(ctx, "recording")
		s.becomes(ctx, "recording", v1alpha1.CommandPending, v1alpha1.ReasonProgressing)
		s.clock.forward(5 * time.Minute)
		s.wake(ctx, "recording")
		s.becomes(ctx, "recording", v1alpha1.CommandFailed, v1alpha1.ReasonRecordingNotFound)
	})

	It("is waited for although the PBX does not answer", func(ctx SpecContext) {
		s.leg(ctx, "leg-1", "c1", s.ended(v1alpha1.ResultAnswered), recording("5101-r1"))
		s.faults(ctx, simclient.Fault{Kind: simclient.FaultReset, Method: "GET", Path: "/record/", Count: 5})
		s.create(ctx, "recording", resolving("leg-1"))
		s.becomes(ctx, "recording", v1alpha1.CommandPending, v1alpha1.ReasonPBXUnreachable)
		unknown := s.becomes(ctx, "recording", v1alpha1.CommandPending, v1alpha1.ReasonProgressing)
		Expect(message(unknown)).To(ContainSubstring("does not know the recording"))
	})

	It("fails without its leg", func(ctx SpecContext) {
		s.create(ctx, "recording", resolving("leg-1"))
		s.becomes(ctx, "recording", v1alpha1.CommandFailed, v1alpha1.ReasonLegNotFound)
	})

	It("fails at once where the PBX does not tell", func(ctx SpecContext) {
		for i, pbx := range []v1alpha1.PBX{
			{Type: v1alpha1.PBXTypeCallable},
			{Type: v1alpha1.PBXTypeLinuxBox, LinuxBox: &v1alpha1.LinuxBox{URL: s.pbx.URL}},
			{Type: v1alpha1.PBXTypeVoipNow, VoipNow: &v1alpha1.VoipNow{
				URL: s.pbx.URL, CredentialsSecretRef: v1alpha1.SecretReference{Name: "head-office-pbx"},
			}},
		} {
			integration := s.integration("")
			integration.Name, integration.Spec.PBX = "other-"+strconv.Itoa(i), pbx
			Expect(kube.Create(ctx, integration)).To(Succeed())
			command := s.command(integration.Name, resolving("leg-1"))
			command.Spec.IntegrationRef.Name = integration.Name
			Expect(kube.Create(ctx, command)).To(Succeed())
			s.becomes(ctx, command.Name, v1alpha1.CommandFailed, v1alpha1.ReasonNotSupported)
		}
	})

	DescribeTable("never gives away credentials", func(ctx SpecContext, template string) {
		integration := s.integration("linuxbox")
		integration.Name = "linuxbox"
		integration.Spec.PBX.LinuxBox.RecordingURL = template
		Expect(kube.Create(ctx, integration)).To(Succeed())
		s.leg(ctx, "leg-1", "k1", s.ended(v1alpha1.ResultAnswered), recording("r1"), func(leg *v1alpha1.CallLeg) {
			leg.Labels[v1alpha1.LabelIntegration] = "linuxbox"
		})
		command := s.command("recording", resolving("leg-1"))
		command.Spec.IntegrationRef.Name = "linuxbox"
		Expect(kube.Create(ctx, command)).To(Succeed())
		Eventually(func(g Gomega) { g.Expect(s.get(ctx, g, "recording").Status.Phase).To(Equal(v1alpha1.CommandFailed)) }).Should(Succeed())
		failed := s.get(ctx, Default, "recording")
		Expect(failed.Status.RecordingURL).To(BeEmpty())
		Expect(message(failed)).NotTo(ContainSubstring("hunter2"))
	},
		Entry("of a user", "https://reader:hunter2@pbx.example.com/{record_name}"),
		Entry("of the API", "https://pbx.example.com/{record_name}?access_token=hunter2"),
	)
})
