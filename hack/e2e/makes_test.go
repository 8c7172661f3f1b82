package e2e

import (
	"context"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

// expectation is a scenario and the legs that it leaves.
type expectation struct {
	scenario string
	legs     []string
}

// systems are the other PBXs with what their calls become. The full tables are those of replay;
// these show that the whole path works.
var systems = map[string]struct {
	system
	calls []expectation
}{
	"VoipNow": {voipNow, []expectation{
		{"V1", []string{"Inbound 12025550143 0007*101 ann Completed Answered logged"}},
		{"V2", []string{"Inbound 12025550143 0007*101 ann Completed Answered logged"}},
		{"V3", []string{
			"Inbound 12025550143 0007*101 ann Completed Cancelled",
			"Inbound 12025550143 0007*101 ann Completed NoAnswer",
			"Inbound 12025550143 0007*900 Completed Missed logged",
		}},
		{"V4", []string{"Outbound 12025550100 12025550143 ann Completed Answered logged"}},
		{"V5", []string{"Outbound 12025550100 12025550143 ann Completed Busy"}},
		{"V6", nil},
		{"V7", []string{
			"Inbound 12025550143 0007*101 ann Completed Answered logged",
			"Inbound 12025550143 0007*102 ben Completed Answered logged",
		}},
	}},
	"Callable": {callable, []expectation{
		{"C1", []string{
			"Inbound 442079460123 201 ann Completed Answered 59.9s logged",
			"Inbound 442079460123 442079460900 Completed Answered 60.1s",
			"Inbound 442079460123 442079460900 Completed Answered 60.1s",
		}},
		{"C2", []string{
			"Inbound 442079460123 201@tenant.example.com ann Completed NoAnswer",
			"Inbound 442079460123 202@tenant.example.com ben Completed NoAnswer",
			"Inbound 442079460123 442079460900 Completed Missed logged",
		}},
		{"C3", []string{
			"Outbound 201@tenant.example.com 442079460123 ann Completed Answered 60s",
			"Outbound 442079460900 442079460123 ann Completed Answered 60s logged",
		}},
	}},
	"LinuxBox": {linuxBox, []expectation{
		{"L1", []string{"Inbound 2025550143 10 ann Completed Answered 60s logged"}},
		{"L2", []string{"Inbound 2025550143 2025550100 Completed Missed logged"}},
		{"L3", []string{"Outbound 10 2025550143 ann Completed Answered 60s logged"}},
		{"L4", []string{"Outbound 10 2025550143 ann Completed NoAnswer"}},
		{"L6", []string{
			"Inbound 2025550143 10 ann Completed Answered 24s logged",
			"Inbound 2025550143 11 ben Completed Answered 60s logged",
		}},
	}},
}

var _ = Describe("The other PBXs", func() {
	for name, pbx := range systems {
		Describe(name, Ordered, func() {
			var s *site

			BeforeAll(func(ctx context.Context) {
				s = newSiteOf(ctx, pbx.system)
				s.connect(ctx)
			})

			It("turns calls into legs", func(ctx context.Context) {
				for _, expected := range pbx.calls {
					By(expected.scenario)
					s.expectCall(ctx, expected)
				}
			})

			if pbx.byHand {
				It("says that the first event has come, and where the event URL is", func(ctx context.Context) {
					Expect(kubectl(ctx, "-n", s.namespace, "wait", "--for=condition=EventsReceived", "pbx/"+integrationName, "--timeout=60s")).
						To(ContainSubstring("condition met"))
				})
			} else {
				It("is registered once for every event", func(ctx context.Context) { s.expectRegistered(ctx) })
			}

			It("loses nothing when its receiver is killed in the middle of calls", func(ctx context.Context) {
				expected := pbx.calls[0]
				calls, err := s.pbx.Place(ctx, simclient.CallRequest{
					Scenario: expected.scenario, Speed: 2, Count: 3,
					Delivery: &delivery.Options{Retries: 300, RetryDelay: delivery.Duration(200 * time.Millisecond)},
				})
				Expect(err).NotTo(HaveOccurred())
				Eventually(func() []string { return s.legs(ctx, calls...) }).ShouldNot(BeEmpty())
				killPods(ctx, s.namespace, receiverLabels)
				for _, call := range calls {
					Eventually(func() []string { return s.legs(ctx, call) }, "3m").Should(ConsistOf(expected.legs))
				}
			})

			It("takes events while suspended, and comes back after deletion", func(ctx context.Context) {
				s.suspend(ctx, true)
				s.expectCall(ctx, pbx.calls[0])
				s.suspend(ctx, false)
				Expect(cluster.Delete(ctx, s.integration())).To(Succeed())
				if !s.system.byHand {
					Eventually(func() map[string]int { return s.owned(ctx) }).Should(BeEmpty())
				}
				Eventually(func() error { return cluster.Create(ctx, s.integration()) }).Should(Succeed())
				s.ready(ctx)
				if s.system.byHand {
					s.enterURL(ctx)
				}
				s.expectCall(ctx, pbx.calls[0])
			})

			It("leaves no secret in a log, an Event or a status", func(ctx context.Context) { s.expectNoSecrets(ctx) })
		})
	}

	It("stay apart when they are busy at the same time", func(ctx context.Context) {
		sites := map[string]*site{}
		for name, pbx := range systems {
			sites[name] = newSiteOf(ctx, pbx.system)
			sites[name].connect(ctx)
		}
		placed := map[string]map[string]simclient.Call{}
		for name, pbx := range systems {
			placed[name] = map[string]simclient.Call{}
			for _, expected := range pbx.calls {
				calls, err := sites[name].pbx.Place(ctx, simclient.CallRequest{Scenario: expected.scenario, Speed: pbx.speed})
				Expect(err).NotTo(HaveOccurred())
				placed[name][expected.scenario] = calls[0]
			}
		}
		for name, pbx := range systems {
			for _, expected := range pbx.calls {
				Eventually(func() []string { return sites[name].legs(ctx, placed[name][expected.scenario]) }).
					Should(ConsistOf(expected.legs), name+" "+expected.scenario)
			}
		}
	})
})

// expectCall places one call and waits for its legs.
func (s *site) expectCall(ctx context.Context, expected expectation) {
	GinkgoHelper()
	call := s.call(ctx, expected.scenario)
	if len(expected.legs) == 0 {
		Consistently(func() []string { return s.legs(ctx, call) }, "2s").Should(BeEmpty())
		return
	}
	Eventually(func() []string { return s.legs(ctx, call) }).Should(ConsistOf(expected.legs))
}

// expectRegistered wants each of its extensions registered once for each of its events: VoipNow has
// two kinds of answers.
func (s *site) expectRegistered(ctx context.Context) {
	GinkgoHelper()
	registrations, err := s.pbx.Registrations(ctx)
	Expect(err).NotTo(HaveOccurred())
	var urls []string
	for _, registration := range registrations {
		urls = append(urls, registration.URL)
	}
	slices.Sort(urls)
	Expect(slices.Compact(slices.Clone(urls))).To(HaveLen(len(urls)), "an event must not be registered twice")
	Expect(urls).To(HaveLen(3*5 + 2))
	for _, suffix := range []string{"/dial-in", "/dial-out", "/hangup", "/answer-in", "/answer-out"} {
		Expect(slices.ContainsFunc(urls, func(url string) bool { return strings.HasSuffix(url, suffix) })).To(BeTrue(), suffix)
	}
}
