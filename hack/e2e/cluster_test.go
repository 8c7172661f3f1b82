package e2e

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

var _ = Describe("Three receivers with one embedded log", func() {
	It("lose no acknowledged event when one after the other is deleted under load", func(ctx context.Context) {
		s := newSite(ctx)
		s.connect(ctx, func(i *v1alpha1.PBXIntegration) {
			i.Spec.Receiver.Replicas = 3
			i.Spec.CallLegs.Publish = v1alpha1.PublishCompleted
			i.Spec.CallLegs.MaxObjects = 10000
		})
		Eventually(func() int { return readyPods(ctx, s.namespace) }, "3m").Should(Equal(3))
		for _, name := range []string{integrationName + "-receiver-1", integrationName + "-receiver-0"} {
			load := s.startLoad(ctx, 600, 30)
			Eventually(func() int { return s.loadState(ctx, load).Delivered }).Should(BeNumerically(">", 300))
			pod := &corev1.Pod{}
			pod.Namespace, pod.Name = s.namespace, name
			Expect(cluster.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
			s.expectAcknowledged(ctx, s.endOfLoad(ctx, load))
			Eventually(func() int { return readyPods(ctx, s.namespace) }, "3m").Should(Equal(3))
		}
	})
})

var _ = Describe("The number of receivers with an embedded log", func() {
	It("goes from one to three and back, and no acknowledged event is lost", func(ctx context.Context) {
		s := newSite(ctx)
		s.connect(ctx, func(i *v1alpha1.PBXIntegration) {
			i.Spec.CallLegs.Publish = v1alpha1.PublishCompleted
			i.Spec.CallLegs.MaxObjects = 10000
		})
		for _, replicas := range []int32{3, 1} {
			load := s.startLoad(ctx, 600, 30)
			Eventually(func() int { return s.loadState(ctx, load).Delivered }).Should(BeNumerically(">", 300))
			s.changeIntegration(ctx, func(i *v1alpha1.PBXIntegration) { i.Spec.Receiver.Replicas = replicas })
			s.expectAcknowledged(ctx, s.endOfLoad(ctx, load))
			Eventually(func() int { return receiverPods(ctx, s.namespace) }, "4m").Should(Equal(int(replicas)))
			Eventually(func() int { return readyPods(ctx, s.namespace) }, "4m").Should(Equal(int(replicas)))
			after := s.startLoad(ctx, 200, 30)
			s.expectAcknowledged(ctx, s.endOfLoad(ctx, after))
		}
	})
})

func receiverPods(ctx context.Context, namespace string) int {
	GinkgoHelper()
	var pods corev1.PodList
	Expect(cluster.List(ctx, &pods, client.InNamespace(namespace), receiverLabels)).To(Succeed())
	return len(pods.Items)
}
