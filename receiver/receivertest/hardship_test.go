package receivertest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// strangers open connections from many addresses, and send nothing.
func strangers(ctx context.Context, address string, count int) {
	GinkgoHelper()
	for n := range count {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n%40))}, Timeout: 10 * time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", address)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { _ = conn.Close() })
	}
}

var _ = Describe("A receiver in trouble", func() {
	condition := func(ctx context.Context, o *office, conditionType string) (*metav1.Condition, error) {
		var pbx v1alpha1.PBXIntegration
		err := o.admin.Get(ctx, client.ObjectKeyFromObject(o.pbx), &pbx)
		return meta.FindStatusCondition(pbx.Status.Conditions, conditionType), err
	}

	It("hears its PBX whatever strangers hold open", func(ctx SpecContext) {
		o := running(ctx, v1alpha1.PBX{Type: v1alpha1.PBXTypeCallable})
		for round := range 3 {
			strangers(ctx, o.address, 2000)
			hurry, cancel := context.WithTimeout(ctx, 5*time.Second)
			Expect(o.send(hurry, inJSON, ringing(fmt.Sprint("c", round), "442079460900"))).To(Equal(http.StatusOK))
			cancel()
		}
		// On a busy machine they come so slowly that they time out before they are too many.
		Eventually(func() string {
			strangers(ctx, o.address, 2000)
			return o.metrics(ctx)
		}).WithTimeout(time.Minute).Should(MatchRegexp(`pbx_receiver_connections_closed_total [1-9]`))
	})

	It("says how it fares in a condition that is its own", func(ctx SpecContext) {
		o := running(ctx, v1alpha1.PBX{Type: v1alpha1.PBXTypeCallable})
		degraded := func() (*metav1.Condition, error) { return condition(ctx, o, v1alpha1.ConditionDegraded) }
		healthy := And(Not(BeNil()), HaveField("Status", metav1.ConditionFalse), HaveField("Reason", v1alpha1.ReasonReceiverHealthy))
		Eventually(degraded).Should(healthy)

		By("leaving the conditions of the controllers alone, which leave it alone")
		var pbx v1alpha1.PBXIntegration
		Expect(o.admin.Get(ctx, client.ObjectKeyFromObject(o.pbx), &pbx)).To(Succeed())
		before := pbx.DeepCopy()
		meta.SetStatusCondition(&pbx.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonReconciled, Message: "all is well",
		})
		Expect(o.admin.Status().Patch(ctx, &pbx, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))).To(Succeed())
		Expect(degraded()).To(healthy)

		By("coming back when somebody removes it")
		Eventually(func() error {
			if err := o.admin.Get(ctx, client.ObjectKeyFromObject(o.pbx), &pbx); err != nil {
				return err
			}
			meta.RemoveStatusCondition(&pbx.Status.Conditions, v1alpha1.ConditionDegraded)
			return o.admin.Status().Update(ctx, &pbx)
		}).Should(Succeed())
		Eventually(degraded).WithTimeout(time.Minute).Should(healthy)
		Expect(condition(ctx, o, v1alpha1.ConditionReady)).To(HaveField("Message", "all is well"))
	})
})
