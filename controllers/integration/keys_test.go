package integration_test

import (
	"context"
	"maps"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration"
	"github.com/pbx-operator/pbx-operator/controllers/integration/keyring"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/secrets"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// early is the key ring of an early version, whose tokens are made from UIDs.
func early() map[string][]byte { return map[string][]byte{"1": []byte(strings.Repeat("k", 32))} }

// telling is controllerOn with what it announces.
func telling(c client.Client) (*lifecycle.Reconciler[*v1alpha1.PBXIntegration], *events.FakeRecorder) {
	recorder := events.NewFakeRecorder(100)
	return integration.New(integration.Config{
		Client: c, Live: c, Secrets: secrets.NewReader(c, c, now), PBXes: pbx, Workload: workload.Settings{Image: receiverImage},
		Recorder: recorder, Clock: now, Interval: time.Hour,
	}).Reconciler(), recorder
}

func changeKeys(ctx context.Context, p *v1alpha1.PBXIntegration, change func(*corev1.Secret)) {
	GinkgoHelper()
	secret := keySecret(ctx, p)
	change(secret)
	Expect(api.Update(ctx, secret)).To(Succeed())
}

var _ = Describe("The Secret of the key ring", func() {
	It("keeps what others put into it, and the event URL stays", func(ctx SpecContext) {
		p := deploy(ctx, callable)
		firstEvent(ctx, p)
		shows(ctx, p, v1alpha1.ConditionEventsReceived, metav1.ConditionTrue, v1alpha1.ReasonEventsReceived)
		url, before := urlUnder(ctx, p, 1), keySecret(ctx, p)
		changeKeys(ctx, p, func(secret *corev1.Secret) {
			secret.Data["note"] = []byte("by somebody")
			secret.Labels = map[string]string{"team": "voice"}
			secret.Annotations["team"] = "voice"
			secret.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "x"}}
		})
		Eventually(func() map[string]string { return keySecret(ctx, p).Labels }).Should(HaveKeyWithValue(v1alpha1.LabelIntegration, p.Name))
		after := keySecret(ctx, p)
		Expect(after.Labels).To(HaveKeyWithValue("team", "voice"))
		Expect(after.Annotations).To(HaveKeyWithValue("team", "voice"))
		Expect(after.OwnerReferences).To(HaveLen(1))
		Expect(string(after.Data["note"])).To(Equal("by somebody"))
		delete(after.Data, "note")
		Expect(after.Data).To(Equal(before.Data))
		rotate(ctx, p, "a")
		Eventually(func() eventurl.Ring { return keys(ctx, p) }).Should(HaveLen(2))
		Expect(string(keySecret(ctx, p).Data["note"])).To(Equal("by somebody"))
		Expect(urlUnder(ctx, p, 1)).To(Equal(url))
		shows(ctx, p, v1alpha1.ConditionEventsReceived, metav1.ConditionTrue, v1alpha1.ReasonEventsReceived)
	})

	DescribeTable("is never overwritten when it cannot be read", func(ctx SpecContext, spoiled map[string][]byte) {
		p := deploy(ctx, callable)
		before, url := keySecret(ctx, p).Data, urlUnder(ctx, p, 1)
		changeKeys(ctx, p, func(secret *corev1.Secret) { secret.Data = maps.Clone(spoiled) })
		shows(ctx, p, ready, metav1.ConditionFalse, v1alpha1.ReasonKeysUnreadable)
		Expect(message(p, ready)).To(And(ContainSubstring("head-office-event-url-keys"), ContainSubstring("backup"), ContainSubstring("delete it")))
		nudge(ctx, p)
		settled(p.Namespace)
		Expect(keySecret(ctx, p).Data).To(Equal(spoiled))
		tells(ctx, p, url)

		By("going on with the keys that somebody restores")
		changeKeys(ctx, p, func(secret *corev1.Secret) { secret.Data = before })
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		tells(ctx, p, url)
	},
		Entry("for want of keys", map[string][]byte{"nonsense": []byte("x")}),
		Entry("because a key was cut", map[string][]byte{"key-1": []byte("short")}),
	)

	It("that belongs to something else is left alone", func(ctx SpecContext) {
		namespace := newNamespace(ctx)
		controls := true
		Expect(api.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: eventurl.SecretName("head-office"),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "x", Controller: &controls}},
		}, Data: early()})).To(Succeed())
		Expect(api.Create(ctx, credentials(namespace))).To(Succeed())
		p := newIntegration(namespace)
		Expect(api.Create(ctx, p)).To(Succeed())
		shows(ctx, p, ready, metav1.ConditionFalse, v1alpha1.ReasonNameTaken)
		Expect(keySecret(ctx, p).Data).To(Equal(early()))
	})

	DescribeTable("that was lost is told, and a PBX that is configured by hand is waited for again", func(ctx SpecContext, dies int) {
		p := started(ctx, callable)
		converge(ctx, controllerOn(api), p)
		firstEvent(ctx, p)
		Expect(pass(ctx, controllerOn(api), p)).To(Succeed())
		shows(ctx, p, v1alpha1.ConditionEventsReceived, metav1.ConditionTrue, v1alpha1.ReasonEventsReceived)
		url := urlUnder(ctx, p, 1)
		Expect(api.Delete(ctx, keySecret(ctx, p))).To(Succeed())
		for writes := range dies {
			_ = pass(ctx, controllerOn(mortal(writes, true)), p)
		}
		controller, recorder := telling(api)
		Expect(pass(ctx, controller, p)).To(Succeed())
		Expect(recorder.Events).To(Receive(And(HavePrefix("Warning KeysLost"), ContainSubstring("the PBX still calls the old one: enter the URL"))))
		shows(ctx, p, v1alpha1.ConditionEventsReceived, metav1.ConditionFalse, v1alpha1.ReasonAwaitingFirstEvent)
		Expect(p.Status.Events.FirstTime).To(BeNil())
		Expect(urlUnder(ctx, p, 2)).NotTo(Equal(url))
		tells(ctx, p, urlUnder(ctx, p, 2))

		By("telling it once")
		Expect(pass(ctx, controller, p)).To(Succeed())
		Expect(recorder.Events).NotTo(Receive(HavePrefix("Warning")))
		firstEvent(ctx, p)
		Expect(pass(ctx, controller, p)).To(Succeed())
		shows(ctx, p, v1alpha1.ConditionEventsReceived, metav1.ConditionTrue, v1alpha1.ReasonEventsReceived)
	},
		Entry("by one pass", 0),
		Entry("although the manager dies after it has made new keys", 1),
	)
})

// restore copies what belongs to an integration into another namespace, as a backup does: without
// owners and without status.
func restore(ctx context.Context, p *v1alpha1.PBXIntegration, children bool) *v1alpha1.PBXIntegration {
	GinkgoHelper()
	namespace := newNamespace(ctx)
	lists := []client.ObjectList{&corev1.SecretList{}}
	if children {
		lists = append(lists, kinds()...)
	}
	for _, list := range lists {
		Expect(api.List(ctx, list, client.InNamespace(p.Namespace))).To(Succeed())
		Expect(meta.EachListItem(list, func(item runtime.Object) error {
			object, _ := item.(client.Object)
			if service, ok := object.(*corev1.Service); ok && service.Spec.ClusterIP != corev1.ClusterIPNone {
				service.Spec.ClusterIP, service.Spec.ClusterIPs = "", nil
			}
			kept := metav1.ObjectMeta{
				Namespace: namespace, Name: object.GetName(), Labels: object.GetLabels(), Annotations: object.GetAnnotations(),
			}
			object.SetUID("")
			object.SetResourceVersion("")
			object.SetOwnerReferences(nil)
			object.SetManagedFields(nil)
			object.SetNamespace(kept.Namespace)
			return client.IgnoreAlreadyExists(api.Create(ctx, object))
		})).To(Succeed())
	}
	again := &v1alpha1.PBXIntegration{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: p.Name, Annotations: p.Annotations}, Spec: *p.Spec.DeepCopy(),
	}
	again.Spec.Suspend = false
	Expect(api.Create(ctx, again)).To(Succeed())
	return again
}

var _ = Describe("An integration whose key ring was kept", func() {
	DescribeTable("recognises its registrations when a backup is restored elsewhere", func(ctx SpecContext, children bool) {
		a := newAccount(ctx)
		p := a.deploy(ctx)
		counts(ctx, p, new(int32(5)))
		rotate(ctx, p, "a") // and the annotation comes along
		now.advance(keyring.Announce)
		Eventually(func(g Gomega) {
			nudge(ctx, p)
			g.Expect(p.Status.KeyGeneration).To(BeEquivalentTo(2))
		}).Should(Succeed())
		url := urlUnder(ctx, p, 2)
		a.carries(ctx, url)
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) { p.Spec.Suspend = true }) // the old cluster is gone
		settled(p.Namespace)
		_, changes := a.looks(ctx)

		again := restore(ctx, p, children)
		rollOut(ctx, again)
		shows(ctx, again, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		Expect(again.UID).NotTo(Equal(p.UID))
		counts(ctx, again, new(int32(5)))
		Expect(urlUnder(ctx, again, 2)).To(Equal(url))
		a.carries(ctx, url)
		_, after := a.looks(ctx)
		Expect(after).To(Equal(changes), "a registration was made or deleted")
		Expect(childrenOf(ctx, again)["StatefulSetList"]).To(Equal(1))
	},
		Entry("Secrets only", false),
		Entry("and everything else", true),
	)

	It("has the event URL that was entered by hand", func(ctx SpecContext) {
		p := deploy(ctx, callable)
		again := restore(ctx, p, true)
		rollOut(ctx, again)
		shows(ctx, again, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		Expect(eventURLSecret(ctx, again).Data).To(Equal(eventURLSecret(ctx, p).Data))
		Expect(metav1.IsControlledBy(eventURLSecret(ctx, again), again)).To(BeTrue())
	})

	It("recognises its registrations when it is made anew after they were to stay", func(ctx SpecContext) {
		a := newAccount(ctx)
		p := a.deploy(ctx, func(p *v1alpha1.PBXIntegration) { p.Spec.DeletionPolicy = v1alpha1.DeletionOrphan })
		counts(ctx, p, new(int32(5)))
		url := urlUnder(ctx, p, 1)
		Expect(api.Delete(ctx, p)).To(Succeed())
		gone(ctx, p)
		_, changes := a.looks(ctx)

		again := newIntegration(p.Namespace, a.wanted(v1alpha1.RegistrationAccount))
		Expect(api.Create(ctx, again)).To(Succeed())
		counts(ctx, again, new(int32(5)))
		a.carries(ctx, url)
		_, after := a.looks(ctx)
		Expect(after).To(Equal(changes))
	})
})

var _ = Describe("A key ring of an early version", func() {
	withEarlyRing := func(ctx context.Context, p *v1alpha1.PBXIntegration) {
		GinkgoHelper()
		Expect(api.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: eventurl.SecretName(p.Name)}, Data: early(),
		})).To(Succeed())
	}

	It("is replaced once the receivers know of it, and no event is lost on the way", func(ctx SpecContext) {
		a := newAccount(ctx)
		p := a.create(ctx, func(p *v1alpha1.PBXIntegration) { p.Labels = map[string]string{byHand: "yes"} })
		withEarlyRing(ctx, p)
		controller := controllerOn(api)
		for range 3 {
			Expect(pass(ctx, controller, p)).To(Succeed())
		}
		Expect(keySecret(ctx, p).Data).To(Equal(early()), "receivers of the early version can read no other")
		old := urlUnder(ctx, p, 1)
		a.carries(ctx, old)

		converge(ctx, controller, p)
		Expect(pass(ctx, controller, p)).To(Succeed())
		Expect(keys(ctx, p)).To(HaveLen(2))
		Expect(keys(ctx, p).FromUIDs()).To(BeFalse())
		a.carries(ctx, old)
		now.advance(keyring.Announce)
		for range 2 {
			Expect(pass(ctx, controller, p)).To(Succeed())
		}
		a.carries(ctx, urlUnder(ctx, p, 2))
		now.advance(keyring.Overlap)
		Expect(pass(ctx, controller, p)).To(Succeed())
		Expect(keys(ctx, p)).To(HaveLen(1))
		Expect(keys(ctx, p).Account()).To(Equal(string(p.UID)))
		a.carries(ctx, urlUnder(ctx, p, 2))
	})

	It("stays as long as a pinned image may know no other", func(ctx SpecContext) {
		p := started(ctx, func(p *v1alpha1.PBXIntegration) { p.Spec.Receiver.Image = "example.com/receiver:old" })
		withEarlyRing(ctx, p)
		converge(ctx, controllerOn(api), p)
		Expect(pass(ctx, controllerOn(api), p)).To(Succeed())
		Expect(keySecret(ctx, p).Data).To(Equal(early()))
	})

	It("goes on with the event URL that was entered by hand", func(ctx SpecContext) {
		p := started(ctx, callable)
		withEarlyRing(ctx, p)
		converge(ctx, controllerOn(api), p)
		url := urlUnder(ctx, p, 1)
		Expect(pass(ctx, controllerOn(api), p)).To(Succeed())
		Expect(keys(ctx, p)).To(HaveLen(1))
		Expect(keys(ctx, p).Account()).To(Equal(string(p.UID)))
		tells(ctx, p, url)
		again := restore(ctx, p, false)
		Eventually(func(g Gomega) {
			secret := &corev1.Secret{}
			key := types.NamespacedName{Namespace: again.Namespace, Name: integration.EventURLSecretName(again.Name)}
			g.Expect(api.Get(ctx, key, secret)).To(Succeed())
			g.Expect(string(secret.Data["url"])).To(Equal(url))
		}).Should(Succeed())
	})
})
