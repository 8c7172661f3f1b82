package extension_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

var errKilled = errors.New("the operator was killed")

// fuse kills an operator right after its n-th write, to the API server or to the PBX: the write is done, the operator never hears of
// it, and nothing that it tries afterwards has any effect.
type fuse struct {
	mu     sync.Mutex
	left   int
	killed chan struct{}
}

func newFuse(writes int) *fuse { return &fuse{left: writes, killed: make(chan struct{})} }

// write is serialised, so that no two writes can be the last one.
func (f *fuse) write(do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 {
		return errKilled
	}
	if err := do(); err != nil {
		return err
	}
	f.left--
	if f.left == 0 {
		close(f.killed)
		return errKilled
	}
	return nil
}

func (f *fuse) unspent() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.left
}

func (f *fuse) client(config *rest.Config, options client.Options) (client.Client, error) {
	direct, err := client.NewWithWatch(config, options)
	if err != nil {
		return nil, err
	}
	return interceptor.NewClient(direct, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			return f.write(func() error { return c.Create(ctx, obj, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			return f.write(func() error { return c.Update(ctx, obj, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			return f.write(func() error { return c.Patch(ctx, obj, patch, opts...) })
		},
		SubResourcePatch: func(
			ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption,
		) error {
			return f.write(func() error { return c.SubResource(sub).Patch(ctx, obj, patch, opts...) })
		},
	}), nil
}

// RoundTrip carries requests to the PBX.
func (f *fuse) RoundTrip(request *http.Request) (response *http.Response, err error) {
	if request.Method == http.MethodGet || strings.HasPrefix(request.URL.Path, "/oauth/") {
		return http.DefaultTransport.RoundTrip(request)
	}
	err = f.write(func() error {
		response, err = http.DefaultTransport.RoundTrip(request) //nolint:bodyclose // the caller closes it
		return err
	})
	if err != nil && response != nil {
		_ = response.Body.Close()
		response = nil
	}
	return response, err
}

// change is something that a user does, with what has to be there before and what has to come of it.
type change struct {
	prepare func(context.Context, *site)
	act     func(context.Context, *site)
	settle  func(context.Context, *site)
	// meanwhile is what the user does next, while no operator runs. Without a kill it follows once the mapping is registered.
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
	for _, id := range []int{5101, 5102} {
		ours, foreign := s.held(ctx, Default, id)
		fmt.Fprintln(&b, id, len(ours), "ours, foreign:", foreign)
	}
	return b.String()
}

var _ = DescribeTable("An operator that is killed after any write leaves nothing that its successor cannot put right, when a user",
	func(ctx SpecContext, change change) {
		undisturbed, writes := change.run(ctx, -1)
		Expect(undisturbed).NotTo(BeEmpty())
		Expect(writes).To(BeNumerically(">", 2))
		for n := 1; n <= writes; n++ {
			outcome, _ := change.run(ctx, n)
			Expect(outcome).To(Equal(undisturbed), "killed after write %d of %d", n, writes)
		}
	},
	Entry("creates a mapping", change{
		prepare: func(context.Context, *site) {},
		act:     func(ctx context.Context, s *site) { s.create(ctx, "ann") },
		settle: func(ctx context.Context, s *site) {
			s.carries(ctx, 5101, s.wanted(s.becomesRegistered(ctx, "ann"), all...))
		},
	}),
	Entry("edits the events", change{
		prepare: annIsRegistered,
		act: func(ctx context.Context, s *site) {
			s.edit(ctx, "ann", func(m *v1alpha1.ExtensionMapping) { m.Spec.Events = []v1alpha1.EventType{v1alpha1.EventHangup} })
		},
		settle: func(ctx context.Context, s *site) {
			s.carries(ctx, 5101, s.wanted(s.becomesRegistered(ctx, "ann"), "hangup"))
		},
	}),
	Entry("moves a mapping to another extension", change{
		prepare: annIsRegistered,
		act:     func(ctx context.Context, s *site) { s.edit(ctx, "ann", at("1234*102", v1alpha1.ExtensionPhone)) },
		settle: func(ctx context.Context, s *site) {
			s.carries(ctx, 5102, s.wanted(s.becomesRegistered(ctx, "ann"), all...))
			s.carriesNothing(ctx, 5101)
		},
	}),
	Entry("rotates the key", change{
		prepare: annIsRegistered,
		act:     func(ctx context.Context, s *site) { s.rotate(ctx) },
		settle: func(ctx context.Context, s *site) {
			Eventually(func(g Gomega) {
				g.Expect(s.get(ctx, g, "ann").Status.KeyGeneration).To(BeEquivalentTo(2))
			}).Should(Succeed())
			s.carries(ctx, 5101, s.wanted(s.becomesRegistered(ctx, "ann"), all...))
		},
	}),
	Entry("creates a mapping and moves it", change{
		prepare:   func(context.Context, *site) {},
		act:       func(ctx context.Context, s *site) { s.create(ctx, "ann") },
		meanwhile: func(ctx context.Context, s *site) { s.edit(ctx, "ann", at("1234*102", v1alpha1.ExtensionPhone)) },
		settle: func(ctx context.Context, s *site) {
			s.carries(ctx, 5102, s.wanted(s.becomesRegistered(ctx, "ann"), all...))
			s.carriesNothing(ctx, 5101)
		},
	}),
	Entry("creates a mapping and deletes it", change{
		prepare:   func(context.Context, *site) {},
		act:       func(ctx context.Context, s *site) { s.create(ctx, "ann") },
		meanwhile: func(ctx context.Context, s *site) { Expect(kube.Delete(ctx, s.mapping("ann"))).To(Succeed()) },
		settle: func(ctx context.Context, s *site) {
			s.disappears(ctx, s.mapping("ann"))
			s.carriesNothing(ctx, 5101)
		},
	}),
	Entry("deletes a mapping", change{
		prepare: annIsRegistered,
		act:     func(ctx context.Context, s *site) { Expect(kube.Delete(ctx, s.mapping("ann"))).To(Succeed()) },
		settle: func(ctx context.Context, s *site) {
			s.disappears(ctx, s.mapping("ann"))
			s.carriesNothing(ctx, 5101)
		},
	}),
)

func annIsRegistered(ctx context.Context, s *site) {
	s.create(ctx, "ann")
	s.becomesRegistered(ctx, "ann")
}

// run makes the change with an operator that is killed after some of its writes, and lets another one finish. A negative number
// kills nobody. It returns the outcome and how many writes there were.
func (c change) run(ctx context.Context, kill int) (outcome string, writes int) {
	GinkgoHelper()
	s := newSite(ctx)
	s.setForeign(ctx, "101", 3)
	first := s.start(ctx)
	c.prepare(ctx, s)
	first.stop()

	f := newFuse(kill)
	doomed := s.start(ctx, through(f), throughClient(f.client))
	c.act(ctx, s)
	switch {
	case kill > 0:
		Eventually(f.killed).Should(BeClosed())
	case c.meanwhile != nil:
		s.becomesRegistered(ctx, "ann")
	default:
		c.settle(ctx, s)
	}
	doomed.stop()
	writes = kill - f.unspent()
	if c.meanwhile != nil {
		c.meanwhile(ctx, s)
	}
	s.start(ctx)
	c.settle(ctx, s)
	return s.outcome(ctx), writes
}
