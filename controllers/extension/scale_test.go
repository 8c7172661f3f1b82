package extension_test

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

// scale is the number of mappings; PBX_OPERATOR_SCALE=10000 is the size that the operator is made
// for.
func scale() int {
	if n, err := strconv.Atoi(os.Getenv("PBX_OPERATOR_SCALE")); err == nil && n > 0 {
		return n
	}
	return 300
}

var _ = Describe("Many mappings", Label("scale"), func() {
	It("cost one list and the missing creates each, and nothing but one list afterwards", func(ctx SpecContext) {
		SetDefaultEventuallyTimeout(10 * time.Minute)
		DeferCleanup(SetDefaultEventuallyTimeout, 20*time.Second)
		n := scale()
		s := newSite(ctx)
		_, err := s.pbx.Sim.AddExtensions(ctx, simclient.NewExtension{Number: "10000", Count: n})
		Expect(err).NotTo(HaveOccurred())
		inParallel(n, func(i int) {
			s.create(ctx, fmt.Sprintf("user-%d", i), at(fmt.Sprintf("1234*%d", 10000+i), v1alpha1.ExtensionPhone))
		})

		start := time.Now()
		op := s.start(ctx)
		ready := func() int {
			var list v1alpha1.ExtensionMappingList
			Expect(kube.List(ctx, &list, client.InNamespace(s.namespace))).To(Succeed())
			count := 0
			for i := range list.Items {
				if lifecycle.IsReady(&list.Items[i]) {
					count++
				}
			}
			return count
		}
		Eventually(ready).WithPolling(time.Second).Should(Equal(n))
		took := time.Since(start)
		asked := s.asked(ctx)
		Expect(asked.Routes[simclient.CreateEventRoute].Count).To(Equal(4 * n))
		Expect(asked.Routes[simclient.ListEventsRoute].Count).To(Equal(n))
		Expect(asked.Routes[simclient.ExtensionsRoute].Count).To(BeNumerically("<=", n/500+3))
		AddReportEntry("converged", fmt.Sprintf("%d mappings in %s, %d requests to the PBX", n, took.Round(time.Millisecond), asked.Total))

		By("restarting the operator")
		op.stop()
		s.start(ctx)
		Eventually(func() int { return s.asked(ctx).Routes[simclient.ListEventsRoute].Count }).WithPolling(time.Second).Should(Equal(2 * n))
		again := s.asked(ctx)
		Expect(again.Writes()).To(Equal(asked.Writes()))
		Expect(again.Total).To(Equal(asked.Total+n+2), "one list each, one token, and one list of queue agents")
	})
})

func inParallel(n int, do func(int)) {
	var group sync.WaitGroup
	for worker := range 16 {
		group.Go(func() {
			defer GinkgoRecover()
			for i := worker; i < n; i += 16 {
				do(i)
			}
		})
	}
	group.Wait()
}
