package integration_test

import (
	"context"
	"maps"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration"
	"github.com/pbx-operator/pbx-operator/controllers/integration/keyring"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

func callable(p *v1alpha1.PBXIntegration) { p.Spec.PBX = v1alpha1.PBX{Type: v1alpha1.PBXTypeCallable} }

// linuxBox is one that is set up as given.
func linuxBox(box v1alpha1.LinuxBox) func(*v1alpha1.PBXIntegration) {
	return func(p *v1alpha1.PBXIntegration) {
		p.Spec.PBX = v1alpha1.PBX{Type: v1alpha1.PBXTypeLinuxBox, LinuxBox: &box}
	}
}

func eventURLSecret(ctx context.Context, p *v1alpha1.PBXIntegration) *corev1.Secret {
	GinkgoHelper()
	secret := &corev1.Secret{}
	Expect(api.Get(ctx, types.NamespacedName{Namespace: p.Namespace, Name: integration.EventURLSecretName(p.Name)}, secret)).To(Succeed())
	return secret
}

// urlUnder is the event URL of an integration under one of its keys.
func urlUnder(ctx context.Context, p *v1alpha1.PBXIntegration, generation int64) string {
	GinkgoHelper()
	ring := keys(ctx, p).InForce(generation)
	Expect(ring.Current().Generation).To(Equal(generation))
	return eventurl.URL(p.Spec.Receiver.PublicURL, ring.Current().Token(eventurl.Account(string(p.UID))), "")
}

// tells waits until the event URL Secret holds a URL.
func tells(ctx context.Context, p *v1alpha1.PBXIntegration, url string) {
	GinkgoHelper()
	Eventually(func() string { return string(eventURLSecret(ctx, p).Data["url"]) }).Should(Equal(url))
}

func rotate(ctx context.Context, p *v1alpha1.PBXIntegration, value string) {
	GinkgoHelper()
	edit(ctx, p, func(p *v1alpha1.PBXIntegration) {
		metav1.SetMetaDataAnnotation(&p.ObjectMeta, v1alpha1.AnnotationRotateKey, value)
	})
}

// nudge asks for a pass over an integration whose PBX is not asked anything.
func nudge(ctx context.Context, p *v1alpha1.PBXIntegration) {
	GinkgoHelper()
	edit(ctx, p, func(p *v1alpha1.PBXIntegration) {
		metav1.SetMetaDataAnnotation(&p.ObjectMeta, v1alpha1.AnnotationReconcile, now.Now().Format(time.RFC3339Nano))
	})
}

// firstEvent does what the receiver does when the first event has come.
func firstEvent(ctx context.Context, p *v1alpha1.PBXIntegration) {
	GinkgoHelper()
	seen := metav1.NewTime(time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC))
	before := p.DeepCopy()
	p.Status.Events = &v1alpha1.EventsStatus{FirstTime: &seen}
	Expect(api.Status().Patch(ctx, p, client.MergeFrom(before))).To(Succeed())
}

var _ = Describe("A PBX that is configured by hand", func() {
	It("gets its event URL in a Secret that the status names, and Ready does not wait for events", func(ctx SpecContext) {
		p := deploy(ctx, callable)
		Expect(p.Status.EventURLSecretRef).To(HaveValue(Equal(v1alpha1.SecretReference{Name: "head-office-event-url"})))
		secret := eventURLSecret(ctx, p)
		Expect(metav1.IsControlledBy(secret, p)).To(BeTrue())
		Expect(secret.Labels).To(Equal(workload.Labels(p.Name)))
		Expect(secret.Data).To(Equal(map[string][]byte{"url": []byte(urlUnder(ctx, p, 1))}))

		By("saying what to do")
		shows(ctx, p, v1alpha1.ConditionEventsReceived, metav1.ConditionFalse, v1alpha1.ReasonAwaitingFirstEvent)
		Expect(message(p, v1alpha1.ConditionEventsReceived)).To(And(ContainSubstring("head-office-event-url"), ContainSubstring("key url")))
		Expect(message(p, ready)).To(And(ContainSubstring("head-office-event-url"), ContainSubstring("Ready does not wait")))
		Expect(meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionPBXReachable)).To(BeNil())
		Expect(pbx.questions(p)).To(BeZero())

		By("noticing the first event")
		firstEvent(ctx, p)
		shows(ctx, p, v1alpha1.ConditionEventsReceived, metav1.ConditionTrue, v1alpha1.ReasonEventsReceived)
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		Expect(message(p, ready)).To(Equal("the receiver takes events"))
		announces(ctx, p, v1alpha1.ReasonEventsReceived, ContainSubstring("2026-11-22T09:00:00Z"))
	})

	It("is left in peace once it is Ready", func(ctx SpecContext) {
		p := deploy(ctx, callable)
		settled(p.Namespace)
		before, versions := writes.in(p.Namespace), resourceVersions(ctx, p.Namespace)
		nudge(ctx, p)
		settled(p.Namespace)
		Expect(writes.in(p.Namespace)).To(Equal(before))
		Expect(resourceVersions(ctx, p.Namespace)).To(Equal(versions))
	})

	It("gets one URL for each event where the path tells them apart", func(ctx SpecContext) {
		p := deploy(ctx, linuxBox(v1alpha1.LinuxBox{Dialect: v1alpha1.LinuxBoxPath}))
		url := urlUnder(ctx, p, 1)
		want := map[string]string{"url": url}
		for _, event := range []string{
			"start_call", "queue_in", "queue_out", "start_int_dial", "start_ext_dial", "answered_internal", "answered_external",
			"hangup_internal", "call_end",
		} {
			want[event] = url + "/" + event
		}
		got := map[string]string{}
		for key, value := range eventURLSecret(ctx, p).Data {
			got[key] = string(value)
		}
		Expect(got).To(Equal(want))
		shows(ctx, p, v1alpha1.ConditionEventsReceived, metav1.ConditionFalse, v1alpha1.ReasonAwaitingFirstEvent)
		Expect(message(p, v1alpha1.ConditionEventsReceived)).To(ContainSubstring("one key for each event, such as start_call"))

		By("going back to one")
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) { p.Spec.PBX.LinuxBox.Dialect = v1alpha1.LinuxBoxParameter })
		Eventually(func() []string { return slices.Collect(maps.Keys(eventURLSecret(ctx, p).Data)) }).Should(Equal([]string{"url"}))
	})

	It("has its Secret repaired when it is edited or deleted, and moved with publicURL", func(ctx SpecContext) {
		p := deploy(ctx, callable)
		url := urlUnder(ctx, p, 1)
		secret := eventURLSecret(ctx, p)
		secret.Data = map[string][]byte{"url": []byte("https://elsewhere.example.com"), "more": nil}
		Expect(api.Update(ctx, secret)).To(Succeed())
		Eventually(func() map[string][]byte { return eventURLSecret(ctx, p).Data }).Should(Equal(map[string][]byte{"url": []byte(url)}))
		secret = eventURLSecret(ctx, p)
		secret.Labels = nil
		Expect(api.Update(ctx, secret)).To(Succeed())
		Eventually(func() map[string]string { return eventURLSecret(ctx, p).Labels }).Should(Equal(workload.Labels(p.Name)))

		Expect(api.Delete(ctx, eventURLSecret(ctx, p))).To(Succeed())
		Eventually(func() error { return api.Get(ctx, client.ObjectKeyFromObject(secret), secret) }).Should(Succeed())
		tells(ctx, p, url)

		edit(ctx, p, func(p *v1alpha1.PBXIntegration) { p.Spec.Receiver.PublicURL = "https://other.example.org" })
		tells(ctx, p, urlUnder(ctx, p, 1))
		Expect(urlUnder(ctx, p, 1)).To(HavePrefix("https://other.example.org/"))
	})

	It("does not take over a Secret that belongs to others", func(ctx SpecContext) {
		p := newIntegration(newNamespace(ctx), callable)
		foreign := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: integration.EventURLSecretName(p.Name)},
			Data:       map[string][]byte{"url": []byte("mine")},
		}
		Expect(api.Create(ctx, foreign)).To(Succeed())
		Expect(api.Create(ctx, p)).To(Succeed())
		shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonNameTaken)
		Expect(message(p, ready)).To(ContainSubstring("Secret head-office-event-url exists"))
		Expect(eventURLSecret(ctx, p).Data).To(Equal(foreign.Data))
		Expect(p.Status.EventURLSecretRef).To(BeNil())
		Expect(message(p, v1alpha1.ConditionEventsReceived)).NotTo(ContainSubstring("head-office-event-url"), "it is not ours")

		Expect(api.Delete(ctx, foreign)).To(Succeed())
		rollOut(ctx, p)
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		tells(ctx, p, urlUnder(ctx, p, 1))
	})

	It("is told of a new URL when the key rotates, and the old one works until the next rotation", func(ctx SpecContext) {
		p := deploy(ctx, callable)
		first := urlUnder(ctx, p, 1)
		firstEvent(ctx, p)
		rotate(ctx, p, "a")

		By("letting the receiver know before anybody is told")
		Eventually(func() eventurl.Ring { return keys(ctx, p) }).Should(HaveLen(2))
		settled(p.Namespace)
		tells(ctx, p, first)
		shows(ctx, p, v1alpha1.ConditionEventsReceived, metav1.ConditionTrue, v1alpha1.ReasonEventsReceived)
		Expect(message(p, v1alpha1.ConditionEventsReceived)).NotTo(ContainSubstring("rotated"))
		now.advance(keyring.Announce)
		nudge(ctx, p)
		tells(ctx, p, urlUnder(ctx, p, 2))
		announces(ctx, p, v1alpha1.ReasonKeyRotated,
			And(ContainSubstring("head-office-event-url"), ContainSubstring("until the next rotation the old one works")))
		Eventually(func(g Gomega) {
			g.Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
			g.Expect(message(p, v1alpha1.ConditionEventsReceived)).To(ContainSubstring("until the next rotation the old one works"))
			g.Expect(message(p, ready)).To(ContainSubstring("enter the URL from Secret head-office-event-url"))
		}).Should(Succeed())

		By("keeping both keys, however long it takes")
		now.advance(1000 * keyring.Overlap)
		nudge(ctx, p)
		settled(p.Namespace)
		Expect(urlUnder(ctx, p, 1)).To(Equal(first))

		By("dropping the oldest one at the next rotation")
		rotate(ctx, p, "b")
		Eventually(func() int64 { return keys(ctx, p).Current().Generation }).Should(BeEquivalentTo(3))
		Expect(keys(ctx, p)).To(HaveLen(2))
		now.advance(keyring.Announce)
		nudge(ctx, p)
		tells(ctx, p, urlUnder(ctx, p, 3))
		Expect(keys(ctx, p)[1].Generation).To(BeEquivalentTo(2))
	})

	It("never shows its URL in Events or in the status", func(ctx SpecContext) {
		p := deploy(ctx, linuxBox(v1alpha1.LinuxBox{Dialect: v1alpha1.LinuxBoxPath}))
		token := keys(ctx, p).Current().Token(eventurl.Account(string(p.UID)))
		for _, condition := range p.Status.Conditions {
			Expect(condition.Message).NotTo(Or(ContainSubstring(token), ContainSubstring(eventurl.PathPrefix)))
		}
		announces(ctx, p, v1alpha1.ReasonReconciled, Not(BeEmpty()))
		var events eventsv1.EventList
		Expect(api.List(ctx, &events, client.InNamespace(p.Namespace))).To(Succeed())
		for _, event := range events.Items {
			Expect(event.Note).NotTo(ContainSubstring(eventurl.PathPrefix))
		}
	})

	It("ends with the same Secret when the manager dies at any write on the way to it", func(ctx SpecContext) {
		for writes := range 4 { // finalizer, key ring, event URL, the first object of the receiver
			for _, after := range []bool{false, true} {
				p := started(ctx, callable)
				_ = pass(ctx, controllerOn(mortal(writes, after)), p)
				converge(ctx, controllerOn(api), p)
				want := map[string][]byte{"url": []byte(urlUnder(ctx, p, 1))}
				Expect(eventURLSecret(ctx, p).Data).To(Equal(want), "died at write %d, after it: %v", writes+1, after)
				Expect(p.Status.EventURLSecretRef).NotTo(BeNil())
			}
		}
	})

	It("is deleted like any other", func(ctx SpecContext) {
		p := deploy(ctx, callable)
		report(ctx, newMapping(ctx, p, "ann"), 0, 0, metav1.ConditionTrue, v1alpha1.ReasonMapped)
		Expect(api.Delete(ctx, p)).To(Succeed())
		shows(ctx, p, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonDeleting)
		var mapping v1alpha1.ExtensionMapping
		Expect(api.Get(ctx, types.NamespacedName{Namespace: p.Namespace, Name: "ann"}, &mapping)).To(Succeed())
		report(ctx, &mapping, 0, 0, metav1.ConditionFalse, v1alpha1.ReasonRegistrationsDeleted)
		gone(ctx, p)
	})
})

var _ = Describe("A PBX with registrations", func() {
	It("has neither an event URL Secret nor a condition about events", func(ctx SpecContext) {
		p := deploy(ctx)
		Expect(p.Status.EventURLSecretRef).To(BeNil())
		Expect(meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionEventsReceived)).To(BeNil())
		key := types.NamespacedName{Namespace: p.Namespace, Name: integration.EventURLSecretName(p.Name)}
		Expect(client.IgnoreNotFound(api.Get(ctx, key, &corev1.Secret{}))).To(Succeed())
		Expect(api.Get(ctx, key, &corev1.Secret{})).NotTo(Succeed())
	})
})
