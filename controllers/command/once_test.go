package command_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/crashtest"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

// intercepted is the client of a manager, cached as usual, with something in between.
func intercepted(config *rest.Config, options client.Options, funcs interceptor.Funcs) (client.Client, error) {
	direct, err := client.NewWithWatch(config, options)
	if err != nil {
		return nil, err
	}
	return interceptor.NewClient(direct, funcs), nil
}

var _ = Describe("An operator that is killed after any of its writes", func() {
	DescribeTable("dials once at most, and its successor tells what came of it", func(ctx SpecContext, writes, calls int, ids bool) {
		s := newSite(ctx)
		f := crashtest.NewFuse(writes)
		doomed := s.start(ctx, through(f), throughClient(f.Client))
		s.create(ctx, "dial", dialling("1234*101", customer))
		Eventually(f.Killed()).Should(BeClosed())
		doomed.stop()
		Expect(s.calls(ctx)).To(HaveLen(calls))
		hasID := s.get(ctx, Default, "dial").Status.CallID != ""
		Expect(hasID).To(Equal(ids))

		s.start(ctx)
		if calls == 0 {
			s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonOutcomeUnknown)
			s.clock.forward(time.Minute)
			s.wake(ctx, "dial")
			failed := s.becomes(ctx, "dial", v1alpha1.CommandFailed, v1alpha1.ReasonOutcomeUnknown)
			Expect(message(failed)).To(ContainSubstring("may have been made all the same"))
		} else {
			s.leg(ctx, "leg-1", s.calls(ctx)[0].ID, s.ended(v1alpha1.ResultAnswered))
			finished := s.becomes(ctx, "dial", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
			Expect(finished.Status.Legs).To(ConsistOf("leg-1"))
			Expect(finished.Status.CallID).To(Equal(s.calls(ctx)[0].ID))
		}
		Expect(s.calls(ctx)).To(HaveLen(calls))
		Expect(s.asked(ctx, dialRoute)).To(Equal(calls))
	},
		Entry("the first: the claim", 1, 0, false),
		Entry("the second: the dial", 2, 1, false),
		Entry("the third: what the PBX said", 3, 1, true),
		Entry("the fourth: that nothing was seen yet", 4, 1, true),
	)

	DescribeTable("hangs up once at most, and its successor tells of it", func(ctx SpecContext, writes, requests int, reason string) {
		s := newSite(ctx)
		_, err := s.pbx.Sim.Place(ctx, simclient.CallRequest{Scenario: "S1"})
		Expect(err).NotTo(HaveOccurred())
		f := crashtest.NewFuse(writes)
		doomed := s.start(ctx, through(f), throughClient(f.Client))
		s.create(ctx, "hangup", hangingUp("1234*101"))
		Eventually(f.Killed()).Should(BeClosed())
		doomed.stop()
		s.start(ctx)
		phase := v1alpha1.CommandFailed
		if reason == v1alpha1.ReasonFinished {
			phase = v1alpha1.CommandFinished
		}
		s.becomes(ctx, "hangup", phase, reason)
		Expect(s.asked(ctx, "DELETE /extension/{extension}/current_calls/{call}")).To(Equal(requests))
	},
		Entry("the first: the claim", 1, 0, v1alpha1.ReasonOutcomeUnknown),
		Entry("the second: the hangup", 2, 1, v1alpha1.ReasonOutcomeUnknown),
		Entry("the third: what came of it", 3, 1, v1alpha1.ReasonFinished),
	)
})

var _ = Describe("A dial whose answer is lost", func() {
	var s *site
	BeforeEach(func(ctx SpecContext) {
		s = newSite(ctx)
		s.start(ctx)
	})

	lose := func(ctx context.Context, kind simclient.FaultKind) {
		GinkgoHelper()
		s.faults(ctx, simclient.Fault{Kind: kind, Method: "POST", Path: "/callback", Status: 502})
		s.create(ctx, "dial", dialling("1234*101", customer))
		unknown := s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonOutcomeUnknown)
		Expect(message(unknown)).To(ContainSubstring("not repeated"))
		Expect(unknown.Status.SentTime).NotTo(BeNil())
	}

	DescribeTable("is not repeated, and fails when no call is seen", func(ctx SpecContext, kind simclient.FaultKind, calls int) {
		lose(ctx, kind)
		s.leg(ctx, "before", "c0", func(leg *v1alpha1.CallLeg) { leg.Status.StartTime.Time = time.Now().Add(-time.Minute) })
		s.leg(ctx, "colleague", "c2", func(leg *v1alpha1.CallLeg) { leg.Status.Extension = "1234*102" })
		s.faults(ctx)
		s.clock.forward(time.Minute)
		s.wake(ctx, "dial")
		failed := s.becomes(ctx, "dial", v1alpha1.CommandFailed, v1alpha1.ReasonOutcomeUnknown)
		Expect(message(failed)).To(ContainSubstring("may have been made all the same"))
		Expect(s.asked(ctx, dialRoute)).To(Equal(1))
		Expect(s.calls(ctx)).To(HaveLen(calls))
	},
		Entry("after the PBX has done it", simclient.FaultResetAfter, 1),
		Entry("before the PBX has done it", simclient.FaultReset, 0),
		Entry("half-way", simclient.FaultTruncated, 1),
		Entry("behind a gateway", simclient.FaultStatus, 0),
	)

	It("is not repeated, and is found by its extension, number and time", func(ctx SpecContext) {
		lose(ctx, simclient.FaultResetAfter)
		call := s.calls(ctx)[0].ID
		leg := s.leg(ctx, "leg-1", call)
		s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		s.updateLeg(ctx, leg, s.answered)
		connected := s.becomes(ctx, "dial", v1alpha1.CommandConnected, v1alpha1.ReasonConnected)
		Expect(connected.Status.CallID).To(Equal(call))
		s.updateLeg(ctx, leg, s.ended(v1alpha1.ResultAnswered))
		s.becomes(ctx, "dial", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
		Expect(s.asked(ctx, dialRoute)).To(Equal(1))
	})

	It("shares no call with another such dial", func(ctx SpecContext) {
		lose(ctx, simclient.FaultResetAfter)
		s.create(ctx, "second", dialling("1234*101", customer))
		s.becomes(ctx, "second", v1alpha1.CommandSent, v1alpha1.ReasonOutcomeUnknown)
		s.leg(ctx, "leg-1", "c1", s.ended(v1alpha1.ResultAnswered), func(leg *v1alpha1.CallLeg) { leg.Status.StartTime = s.now() })
		first := s.becomes(ctx, "dial", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
		Expect(first.Status.Legs).To(ConsistOf("leg-1"))
		s.leg(ctx, "leg-2", "c2", s.ended(v1alpha1.ResultAnswered))
		second := s.becomes(ctx, "second", v1alpha1.CommandFinished, v1alpha1.ReasonFinished)
		Expect(second.Status.Legs).To(ConsistOf("leg-2"))
	})
})

// disconnected is the way to a PBX that takes no connection while it is down.
type disconnected struct{ down atomic.Bool }

func (d *disconnected) RoundTrip(request *http.Request) (*http.Response, error) {
	if d.down.Load() && strings.HasSuffix(request.URL.Path, "/callback/") {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	}
	return http.DefaultTransport.RoundTrip(request)
}

var _ = Describe("A PBX without a connection", func() {
	It("is tried again, as nothing was sent", func(ctx SpecContext) {
		s, way := newSite(ctx), &disconnected{}
		way.down.Store(true)
		s.start(ctx, through(way))
		s.create(ctx, "dial", dialling("1234*101", customer))
		pending := s.becomes(ctx, "dial", v1alpha1.CommandPending, v1alpha1.ReasonPBXUnreachable)
		Expect(pending.Status.SentTime).To(BeNil())
		way.down.Store(false)
		s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		Expect(s.calls(ctx)).To(HaveLen(1))
	})

	It("is not sent anything while it does not answer", func(ctx SpecContext) {
		s := newSite(ctx)
		s.faults(ctx, simclient.Fault{Kind: simclient.FaultResetAfter, Count: 8})
		s.start(ctx)
		s.create(ctx, "dial", dialling("1234*101", customer))
		pending := s.becomes(ctx, "dial", v1alpha1.CommandPending, v1alpha1.ReasonPBXUnreachable)
		Expect(pending.Status.SentTime).To(BeNil())
		s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		Expect(s.calls(ctx)).To(HaveLen(1))
	})

	It("is tried for a minute", func(ctx SpecContext) {
		s, way := newSite(ctx), &disconnected{}
		way.down.Store(true)
		s.start(ctx, through(way))
		s.create(ctx, "dial", dialling("1234*101", customer))
		s.becomes(ctx, "dial", v1alpha1.CommandPending, v1alpha1.ReasonPBXUnreachable)
		s.clock.forward(time.Minute)
		failed := s.becomes(ctx, "dial", v1alpha1.CommandFailed, v1alpha1.ReasonPBXUnreachable)
		Expect(message(failed)).To(ContainSubstring("not sent"))
		way.down.Store(false)
		s.wake(ctx, "dial")
		s.becomes(ctx, "dial", v1alpha1.CommandFailed, v1alpha1.ReasonPBXUnreachable)
		Expect(s.calls(ctx)).To(BeEmpty())
	})
})

var _ = Describe("An operator that sees the past", func() {
	It("sends nothing that was sent", func(ctx SpecContext) {
		s := newSite(ctx)
		snapshot := s.create(ctx, "dial", dialling("1234*101", customer))
		first := s.start(ctx)
		s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		first.stop()

		var claims atomic.Int32
		s.start(ctx, throughClient(func(config *rest.Config, options client.Options) (client.Client, error) {
			return intercepted(config, options, interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
					if command, ok := obj.(*v1alpha1.CallCommand); ok {
						snapshot.DeepCopyInto(command)
						return nil
					}
					return c.Get(ctx, key, obj, opts...)
				},
				SubResourcePatch: func(
					ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption,
				) error {
					claims.Add(1)
					return c.SubResource(sub).Patch(ctx, obj, patch, opts...)
				},
			})
		}))
		Eventually(claims.Load).Should(BeNumerically(">", 5), "it is at work")
		Expect(s.asked(ctx, dialRoute)).To(Equal(1))
	})
})

var _ = Describe("Two operators at once", func() {
	It("dial once", func(ctx SpecContext) {
		s := newSite(ctx)
		const dials = 20
		s.start(ctx)
		s.start(ctx)
		for i := range dials {
			s.create(ctx, fmt.Sprint("dial-", i), dialling("1234*101", customer))
		}
		for i := range dials {
			s.becomes(ctx, fmt.Sprint("dial-", i), v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		}
		Expect(s.calls(ctx)).To(HaveLen(dials))
		Expect(s.asked(ctx, dialRoute)).To(Equal(dials))
		ids := map[string]bool{}
		for i := range dials {
			ids[s.get(ctx, Default, fmt.Sprint("dial-", i)).Status.CallID] = true
		}
		Expect(ids).To(HaveLen(dials))
	})
})

// meanwhile does something right before a dial reaches the PBX.
type meanwhile func()

func (m meanwhile) RoundTrip(request *http.Request) (*http.Response, error) {
	if strings.HasSuffix(request.URL.Path, "/callback/") {
		m()
	}
	return http.DefaultTransport.RoundTrip(request)
}

var _ = Describe("A command that changes while it is being sent", func() {
	It("keeps what the PBX said", func(ctx SpecContext) {
		s := newSite(ctx)
		s.start(ctx, through(meanwhile(func() {
			defer GinkgoRecover()
			s.patch(ctx, "dial", `{"metadata":{"labels":{"team":"sales"}}}`)
		})))
		s.create(ctx, "dial", dialling("1234*101", customer))
		sent := s.becomes(ctx, "dial", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		Expect(sent.Labels).To(HaveKeyWithValue("team", "sales"))
		Expect(sent.Status.CallID).To(Equal(s.calls(ctx)[0].ID))
	})

	It("is not sent once it is deleted", func(ctx SpecContext) {
		s := newSite(ctx)
		claimed := make(chan struct{})
		s.start(ctx, throughClient(func(config *rest.Config, options client.Options) (client.Client, error) {
			return intercepted(config, options, interceptor.Funcs{SubResourcePatch: func(
				ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption,
			) error {
				if err := c.SubResource(sub).Patch(ctx, obj, patch, opts...); err != nil {
					return err
				}
				if obj.GetName() == "dial" {
					defer close(claimed)
					return kube.Delete(ctx, s.command("dial", v1alpha1.CallCommandSpec{}))
				}
				return nil
			}})
		}))
		s.create(ctx, "dial", dialling("1234*101", customer))
		Eventually(claimed).Should(BeClosed())
		s.create(ctx, "next", dialling("1234*102", customer))
		s.becomes(ctx, "next", v1alpha1.CommandSent, v1alpha1.ReasonCommandSent)
		Expect(s.calls(ctx)).To(HaveLen(1))
	})
})
