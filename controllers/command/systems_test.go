package command_test

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/voipnow"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

// system is another PBX than RingMe.
type system struct {
	pbx, extension, number string
	dial, hangup           string // routes
	change                 func(*v1alpha1.PBXIntegration)
	// identify gives a leg what the PBX's events would tell of the command.
	identify func(*v1alpha1.CallCommand, *v1alpha1.CallLeg)
}

var (
	voipNow = system{
		pbx: "voipnow", extension: "0007*101", number: "12025550143",
		dial: simclient.VoipNowSimpleCallRoute, hangup: "DELETE /phoneCalls/{user}/{extension}/{call}",
		identify: func(command *v1alpha1.CallCommand, leg *v1alpha1.CallLeg) {
			Expect(command.Status.CallBackID).NotTo(BeEmpty())
			leg.Status.CallBackID = command.Status.CallBackID
		},
	}
	linuxBox = system{
		pbx: "linuxbox", extension: "10", number: "2025550143", dial: simclient.LinuxBoxDialRoute, hangup: simclient.LinuxBoxHangupRoute,
		identify: func(*v1alpha1.CallCommand, *v1alpha1.CallLeg) {},
	}
	linuxBoxWithID = system{
		pbx: "linuxbox", extension: "10", number: "2025550143", dial: simclient.LinuxBoxDialRoute, hangup: simclient.LinuxBoxHangupRoute,
		change: func(i *v1alpha1.PBXIntegration) { i.Spec.PBX.LinuxBox.CustomCallID = v1alpha1.CustomCallIDAlways },
		identify: func(command *v1alpha1.CallCommand, leg *v1alpha1.CallLeg) {
			leg.Status.CallBackID, leg.Status.To = string(command.UID), "anything"
		},
	}
)

func (y system) site(ctx context.Context, with ...setting) *site {
	GinkgoHelper()
	s := newSiteWith(ctx, sim.Config{PBX: y.pbx}, func(i *v1alpha1.PBXIntegration) {
		if y.change != nil {
			y.change(i)
		}
	})
	s.start(ctx, with...)
	return s
}

func (y system) leg(command *v1alpha1.CallCommand) func(*v1alpha1.CallLeg) {
	return func(leg *v1alpha1.CallLeg) {
		leg.Status.Extension, leg.Status.From, leg.Status.To = y.extension, y.extension, y.number
		y.identify(command, leg)
	}
}

// vague is a PBX that cannot find the call that is to be ended.
type vague struct{ pbxapi.API }

func (vague) Dial(context.Context, pbxapi.Dial) (pbxapi.Call, error) { return pbxapi.Call{}, nil }

func (vague) Hangup(context.Context, pbxapi.Hangup) error {
	return pbxapi.NewError(pbxapi.ErrNotSupported, "hang up", "which call is meant is unknown")
}

var _ = Describe("The hangup of a leg", func() {
	It("fails where the PBX cannot tell its call from others", func(ctx SpecContext) {
		s := voipNow.site(ctx, withVoipNow(func(settings pbxapi.Settings) (pbxapi.API, error) {
			api, err := voipnow.New(settings)
			return vague{api}, err
		}))
		s.leg(ctx, "leg-1", "k1", func(leg *v1alpha1.CallLeg) { leg.Status.Extension = voipNow.extension })
		s.create(ctx, "hangup", hangingUpLeg("leg-1"))
		failed := s.becomes(ctx, "hangup", v1alpha1.CommandFailed, v1alpha1.ReasonNotSupported)
		Expect(message(failed)).To(ContainSubstring("which call is meant is unknown"))
	})

	It("does not end another call of a LinuxBox", func(ctx SpecContext) {
		s := linuxBox.site(ctx)
		on := func(extension string) func(*v1alpha1.CallLeg) {
			return func(leg *v1alpha1.CallLeg) { leg.Status.Extension = extension }
		}
		s.leg(ctx, "leg-1", "k1", on("10"))
		other := s.leg(ctx, "other", "k2", on("10"), s.answered)
		s.create(ctx, "hangup", hangingUpLeg("leg-1"))
		failed := s.becomes(ctx, "hangup", v1alpha1.CommandFailed, v1alpha1.ReasonNotSupported)
		Expect(message(failed)).To(And(ContainSubstring("CallLeg other"), ContainSubstring("hang up the extension instead")))
		Expect(failed.Status.SentTime).To(BeNil())
		Expect(s.asked(ctx, linuxBox.hangup)).To(BeZero())

		By("waiting for the other call to end; a leg of the same call, and calls of others, do not matter")
		s.updateLeg(ctx, other, s.ended(v1alpha1.ResultAnswered))
		s.leg(ctx, "same", "k1", on("10"))
		s.leg(ctx, "elsewhere", "k3", on("11"))
		s.leg(ctx, "foreign", "k4", on("10"), func(leg *v1alpha1.CallLeg) { leg.Labels[v1alpha1.LabelIntegration] = "branch-office" })
		s.create(ctx, "again", hangingUpLeg("leg-1"))
		s.becomes(ctx, "again", v1alpha1.CommandFinished, v1alpha1.ReasonNoCall)
		Expect(s.asked(ctx, linuxBox.hangup)).To(Equal(1))
	})
})

var _ = Describe("On every PBX with commands", func() {
	DescribeTable("a dial is followed to the end of its call", func(ctx SpecContext, y system) {
		s := y.site(ctx)
		s.create(ctx, "dial", dialling(y.extension, y.number))
		sent := s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		leg := s.leg(ctx, "leg-1", "k1", y.leg(sent))
		s.leg(ctx, "other", "k2", func(leg *v1alpha1.CallLeg) { leg.Status.Extension, leg.Status.To = y.extension, "2025550177" })
		s.updateLeg(ctx, leg, s.answered)
		connected := s.becomes(ctx, "dial", v1alpha1.CommandConnected, v1alpha1.ReasonConnected)
		Expect(connected.Status.CallID).To(Equal("k1"))
		s.updateLeg(ctx, leg, s.ended(v1alpha1.ResultAnswered))
		finished := s.becomes(ctx, "dial", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
		Expect(finished.Status.Legs).To(ConsistOf("leg-1"))
		Expect(s.asked(ctx, y.dial)).To(Equal(1))
	},
		Entry("VoipNow", voipNow),
		Entry("LinuxBox", linuxBox),
		Entry("LinuxBox with custom_call_id", linuxBoxWithID),
	)

	DescribeTable("a dial whose answer is lost is sent once", func(ctx SpecContext, y system) {
		s := y.site(ctx)
		s.create(ctx, "hangup", hangingUp(y.extension)) // leaves a connection that can be used again
		s.becomes(ctx, "hangup", v1alpha1.CommandFinished, v1alpha1.ReasonNoCall)
		s.faults(ctx, simclient.Fault{Kind: simclient.FaultResetAfter, Path: "simple|dial", Count: 1})
		s.create(ctx, "dial", dialling(y.extension, y.number))
		Eventually(func(g Gomega) {
			g.Expect(s.get(ctx, g, "dial").Status.Phase).To(Equal(v1alpha1.CommandSent))
			g.Expect(message(s.get(ctx, g, "dial"))).NotTo(ContainSubstring("being sent"))
		}).Should(Succeed())
		Expect(s.asked(ctx, y.dial)).To(Equal(1))
		Expect(s.calls(ctx)).To(HaveLen(1))
		s.leg(ctx, "leg-1", "k1", s.ended(v1alpha1.ResultAnswered), func(leg *v1alpha1.CallLeg) {
			y.leg(s.get(ctx, Default, "dial"))(leg)
		})
		s.becomes(ctx, "dial", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
		Expect(s.asked(ctx, y.dial)).To(Equal(1))
	},
		Entry("VoipNow", voipNow),
		Entry("LinuxBox", linuxBox),
		Entry("LinuxBox with custom_call_id", linuxBoxWithID),
	)

	DescribeTable("a dial that is answered by 503 is sent once", func(ctx SpecContext, y system) {
		s := y.site(ctx)
		s.faults(ctx, simclient.Fault{Kind: simclient.FaultStatus, Path: "simple|dial", Status: 503, Count: 1})
		s.create(ctx, "dial", dialling(y.extension, y.number))
		s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonOutcomeUnknown)
		s.clock.forward(time.Minute)
		s.becomes(ctx, "dial", v1alpha1.CommandFailed, v1alpha1.ReasonOutcomeUnknown)
		Expect(s.asked(ctx, y.dial)).To(Equal(1))
	},
		Entry("VoipNow", voipNow),
		Entry("LinuxBox", linuxBox),
		Entry("LinuxBox with custom_call_id", linuxBoxWithID),
	)

	DescribeTable("a hangup ends the call", func(ctx SpecContext, y system) {
		s := y.site(ctx)
		s.create(ctx, "dial", dialling(y.extension, y.number))
		s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		s.create(ctx, "hangup", hangingUp(y.extension))
		s.becomes(ctx, "hangup", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
		Expect(s.asked(ctx, y.hangup)).To(Equal(1))
		Eventually(func() bool { return s.calls(ctx)[0].Done }).Should(BeTrue())
	},
		Entry("VoipNow", voipNow),
		Entry("LinuxBox", linuxBox),
	)

	DescribeTable("an extension that the PBX does not know fails the dial", func(ctx SpecContext, y system) {
		s := y.site(ctx)
		s.create(ctx, "dial", dialling("99", y.number))
		s.becomes(ctx, "dial", v1alpha1.CommandFailed, v1alpha1.ReasonExtensionNotFound)
	},
		Entry("LinuxBox", linuxBox),
	)
})
