package integration_test

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
)

func threeReplicas(p *v1alpha1.PBXIntegration) { p.Spec.Receiver.Replicas = 3 }

func membersSecret(ctx context.Context, p *v1alpha1.PBXIntegration) *corev1.Secret {
	GinkgoHelper()
	secret := &corev1.Secret{}
	key := types.NamespacedName{Namespace: p.Namespace, Name: workload.MembersSecretName(p.Name)}
	Eventually(func() error { return api.Get(ctx, key, secret) }).Should(Succeed())
	return secret
}

var _ = Describe("A receiver of several replicas", func() {
	It("has certificates that only its integration owns, and all its pods at once", func(ctx SpecContext) {
		p := deploy(ctx, threeReplicas)
		secret := membersSecret(ctx, p)
		Expect(metav1.IsControlledBy(secret, p)).To(BeTrue())
		Expect(secret.Data).To(HaveKey(workload.AuthorityKey))
		var set appsv1.StatefulSet
		Expect(api.Get(ctx, receiverKey(p), &set)).To(Succeed())
		Expect(set.Spec.Replicas).To(HaveValue(BeEquivalentTo(3)))
		Expect(p.Status.Receiver).To(HaveValue(Equal(v1alpha1.ReceiverStatus{Replicas: 3, ReadyReplicas: 3})))
	})

	It("says when the pods that are left are no majority", func(ctx SpecContext) {
		p := deploy(ctx, threeReplicas)
		var set appsv1.StatefulSet
		Expect(api.Get(ctx, receiverKey(p), &set)).To(Succeed())
		set.Status.ReadyReplicas, set.Status.AvailableReplicas = 1, 1
		Expect(api.Status().Update(ctx, &set)).To(Succeed())
		Eventually(func(g Gomega) {
			nudge(ctx, p)
			condition := conditionOf(p, v1alpha1.ConditionReceiverAvailable)
			g.Expect(condition).NotTo(BeNil())
			g.Expect(condition.Status).To(Equal(metav1.ConditionFalse))
			g.Expect(condition.Message).To(ContainSubstring("majority"))
		}).Should(Succeed())
	})

	It("keeps its pods until the first of them has what they keep", func(ctx SpecContext) {
		p := deploy(ctx, threeReplicas)
		report := func(members int) {
			patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"status":{"receiver":{"members":%d}}}`, members))
			Expect(api.Status().Patch(ctx, p, patch)).To(Succeed())
		}
		pods := func(g Gomega) *int32 {
			var set appsv1.StatefulSet
			g.Expect(api.Get(ctx, receiverKey(p), &set)).To(Succeed())
			return set.Spec.Replicas
		}
		report(3)
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) { p.Spec.Receiver.Replicas = 1 })
		Eventually(func(g Gomega) {
			g.Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
			g.Expect(p.Status.Receiver.Replicas).To(BeEquivalentTo(1))
		}).Should(Succeed())
		Expect(p.Status.Receiver.Members).To(BeEquivalentTo(3))
		Expect(pods(NewWithT(GinkgoT()))).To(HaveValue(BeEquivalentTo(3)))
		report(1)
		Eventually(pods).Should(HaveValue(BeEquivalentTo(1)))
	})

	It("gets new certificates before the old ones expire, and keeps its authority", func(ctx SpecContext) {
		p := deploy(ctx, threeReplicas)
		before := membersSecret(ctx, p)
		now.advance(61 * 24 * time.Hour)
		nudge(ctx, p)
		Eventually(func() []byte { return membersSecret(ctx, p).Data[corev1.TLSCertKey] }).ShouldNot(Equal(before.Data[corev1.TLSCertKey]))
		Expect(membersSecret(ctx, p).Data[workload.AuthorityKey]).To(Equal(before.Data[workload.AuthorityKey]))
	})

	It("gets its certificates back when somebody deletes them", func(ctx SpecContext) {
		p := deploy(ctx, threeReplicas)
		before := membersSecret(ctx, p)
		Expect(api.Delete(ctx, before)).To(Succeed())
		Eventually(func() types.UID { return membersSecret(ctx, p).UID }).ShouldNot(Equal(before.UID))
	})
})

func conditionOf(p *v1alpha1.PBXIntegration, kind string) *metav1.Condition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == kind {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}
