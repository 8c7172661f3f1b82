package extension_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/crashtest"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

// change is something that a user does, with what has to be there before and what has to come of
// it.
type change struct {
	prepare func(context.Context, *site)
	act     func(context.Context, *site)
	settle  func(context.Context, *site)
	// meanwhile is what the user does next, while no operator runs. Without a kill it follows once
	// the mapping is registered.
	meanwhile func(context.Context, *site)
}

// outcome is the state at the end, without what differs from run to run.
func (s *site) outcome(ctx context.Context) string {
	GinkgoHelper()
	var b strings.Builder
	var mappings v1alpha1.ExtensionMappingList
	Expect(kube.List(ctx, &mappings, client.InNamespace(s.namespace))).To(Succeed())
	for _, m := range mappings.Items {
		ready := lifecycle.Ready(&m)
		fmt.Fprintln(&b, m.Name, m.Finalizers, m.Status.ExtensionID, *m.Status.RegisteredEvents, *m.Status.ExtensionEvents, m.Status.KeyGeneration,
			ready.Status, ready.Reason, ready.Message)
	}
	for _, id := range []int{s.extension("101"), s.extension("102")} {
		ours, foreign := s.held(ctx, Default, id)
		fmt.Fprintln(&b, id, len(ours), "ours,", len(foreign), "foreign")
	}
	ours, _ := s.heldBy(ctx, Default, agent77)
	fmt.Fprintln(&b, len(ours), "on the agent")
	return b.String()
}

// changes are tried on each kind of PBX.
var changes = map[string]change{
	"creates a mapping": {
		prepare: func(context.Context, *site) {},
		act:     func(ctx context.Context, s *site) { s.create(ctx, "ann") },
		settle:  annIsRegisteredOn("101"),
	},
	"edits the events": {
		prepare: annIsRegistered,
		act: func(ctx context.Context, s *site) {
			s.edit(ctx, "ann", func(m *v1alpha1.ExtensionMapping) { m.Spec.Events = []v1alpha1.EventType{v1alpha1.EventHangup} })
		},
		settle: func(ctx context.Context, s *site) {
			s.carries(ctx, s.extension("101"), s.wanted(s.becomesRegistered(ctx, "ann"), "hangup"))
		},
	},
	"moves a mapping to another extension": {
		prepare: annIsRegistered,
		act:     moveAnn,
		settle:  annIsRegisteredOn("102"),
	},
	"rotates the key": {
		prepare: annIsRegistered,
		act:     func(ctx context.Context, s *site) { s.rotate(ctx) },
		settle: func(ctx context.Context, s *site) {
			Eventually(func(g Gomega) {
				g.Expect(s.get(ctx, g, "ann").Status.KeyGeneration).To(BeEquivalentTo(2))
			}).Should(Succeed())
			annIsRegisteredOn("101")(ctx, s)
		},
	},
	"creates a mapping and moves it": {
		prepare:   func(context.Context, *site) {},
		act:       func(ctx context.Context, s *site) { s.create(ctx, "ann") },
		meanwhile: moveAnn,
		settle:    annIsRegisteredOn("102"),
	},
	"creates a mapping and deletes it": {
		prepare:   func(context.Context, *site) {},
		act:       func(ctx context.Context, s *site) { s.create(ctx, "ann") },
		meanwhile: func(ctx context.Context, s *site) { Expect(kube.Delete(ctx, s.mapping("ann"))).To(Succeed()) },
		settle:    annIsGone,
	},
	"deletes a mapping": {
		prepare: annIsRegistered,
		act:     func(ctx context.Context, s *site) { Expect(kube.Delete(ctx, s.mapping("ann"))).To(Succeed()) },
		settle:  annIsGone,
	},
	"asks to put right what was deleted, disabled or given another method on the PBX": {
		prepare: annIsRegistered,
		act: func(ctx context.Context, s *site) {
			s.tamper(ctx)
			s.wake(ctx, "ann")
		},
		settle: annIsRegisteredOn("101"),
	},
}

var _ = DescribeTable("An operator that is killed after any write leaves nothing that its successor cannot put right, when a user",
	func(ctx SpecContext, of system, change change) {
		undisturbed, writes := change.run(ctx, of, -1)
		Expect(undisturbed).NotTo(BeEmpty())
		Expect(writes).To(BeNumerically(">", 2))
		for n := 1; n <= writes; n++ {
			outcome, _ := change.run(ctx, of, n)
			Expect(outcome).To(Equal(undisturbed), "killed after write %d of %d", n, writes)
		}
	},
	onEach(),
)

func onEach() []TableEntry {
	var entries []TableEntry
	for _, what := range slices.Sorted(maps.Keys(changes)) {
		entries = append(entries,
			Entry(what+", on RingMe with a queue agent", ringMeWithAgents, changes[what]), Entry(what+", on VoipNow", voipNow, changes[what]))
	}
	return entries
}

// annIsRegisteredOn waits until an extension, and the agent at it, carry all registrations of ann's
// mapping, and nothing else does.
func annIsRegisteredOn(short string) func(context.Context, *site) {
	return func(ctx context.Context, s *site) {
		GinkgoHelper()
		mapping := s.becomesRegistered(ctx, "ann")
		for _, each := range []string{"101", "102"} {
			var want []string
			if each == short {
				want = s.wanted(mapping, s.all...)
			}
			s.carries(ctx, s.extension(each), want)
		}
		s.agentCarries(ctx, s.agentOf(mapping))
	}
}

func annIsGone(ctx context.Context, s *site) {
	GinkgoHelper()
	s.disappears(ctx, s.mapping("ann"))
	s.carriesNothing(ctx, s.extension("101"))
	s.agentCarries(ctx, nil)
}

func moveAnn(ctx context.Context, s *site) {
	GinkgoHelper()
	s.edit(ctx, "ann", at(s.number("102"), v1alpha1.ExtensionPhone))
}

func annIsRegistered(ctx context.Context, s *site) {
	s.create(ctx, "ann")
	s.becomesRegistered(ctx, "ann")
}

// run makes the change with an operator that is killed after some of its writes, and lets another
// one finish. A negative number kills nobody. It returns the outcome and how many writes there
// were.
func (c change) run(ctx context.Context, of system, kill int) (outcome string, writes int) {
	GinkgoHelper()
	s := newSiteOf(ctx, of)
	foreign := s.setForeign(ctx, "101", 3)
	first := s.start(ctx)
	c.prepare(ctx, s)
	first.stop()

	f := crashtest.NewFuse(kill)
	doomed := s.start(ctx, through(f), throughClient(f.Client))
	c.act(ctx, s)
	switch {
	case kill > 0:
		Eventually(f.Killed()).Should(BeClosed())
	case c.meanwhile != nil:
		s.becomesRegistered(ctx, "ann")
	default:
		c.settle(ctx, s)
	}
	doomed.stop()
	writes = kill - f.Left()
	if c.meanwhile != nil {
		c.meanwhile(ctx, s)
	}
	s.start(ctx)
	c.settle(ctx, s)
	_, after := s.held(ctx, Default, s.extension("101"))
	Expect(after).To(Equal(foreign))
	return s.outcome(ctx), writes
}
