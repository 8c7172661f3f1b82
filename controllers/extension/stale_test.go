package extension_test

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// frozen serves one mapping as it once was, as a cache does that lags behind or was filled by an
// outdated API server.
func frozen(snapshot *v1alpha1.ExtensionMapping) client.NewClientFunc {
	return func(config *rest.Config, options client.Options) (client.Client, error) {
		current, err := client.NewWithWatch(config, options)
		if err != nil {
			return nil, err
		}
		return interceptor.NewClient(current, interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
				if mapping, ok := obj.(*v1alpha1.ExtensionMapping); ok {
					snapshot.DeepCopyInto(mapping)
					return nil
				}
				return c.Get(ctx, key, obj, opts...)
			},
		}), nil
	}
}

var _ = Describe("An operator that sees the past", func() {
	var (
		s        *site
		snapshot *v1alpha1.ExtensionMapping
	)
	BeforeEach(func(ctx SpecContext) {
		s = newSite(ctx)
		current := s.start(ctx)
		s.create(ctx, "ann")
		snapshot = s.becomesRegistered(ctx, "ann")
		DeferCleanup(func() { current.stop() })
	})

	stays := func(ctx context.Context, extensionID int, want []string) {
		GinkgoHelper()
		before := s.asked(ctx).Total
		Eventually(func() int { return s.asked(ctx).Total }).Should(BeNumerically(">", before), "it is at work")
		Consistently(func(g Gomega) {
			ours, _ := s.held(ctx, g, extensionID)
			g.Expect(ours).To(ConsistOf(want))
		}, 500*time.Millisecond).Should(Succeed())
	}

	It("registers nothing for a mapping that has moved", func(ctx SpecContext) {
		s.edit(ctx, "ann", at("1234*102", v1alpha1.ExtensionPhone))
		mapping := s.becomesRegistered(ctx, "ann")
		s.carriesNothing(ctx, 5101)
		s.start(ctx, every(20*time.Millisecond), throughClient(frozen(snapshot)))
		s.edit(ctx, "ann", func(m *v1alpha1.ExtensionMapping) { m.Spec.User.DisplayName = "Ann" }) // wakes it
		stays(ctx, 5101, []string{})
		s.carries(ctx, 5102, s.wanted(mapping, all...))
	})

	It("registers nothing for a mapping that is gone", func(ctx SpecContext) {
		s.create(ctx, "bob", at("1234*102", v1alpha1.ExtensionPhone)) // wakes it
		s.disappears(ctx, s.mapping("ann"))
		s.carriesNothing(ctx, 5101)
		s.start(ctx, every(20*time.Millisecond), throughClient(frozen(snapshot)))
		stays(ctx, 5101, []string{})
	})
})
