package integration_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gomegatypes "github.com/onsi/gomega/types"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration/keyring"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle/lifecycletest"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

const (
	ready   = v1alpha1.ConditionReady
	stalled = v1alpha1.ConditionStalled
)

// children are the kinds that every receiver has, and those that some have.
func kinds() []client.ObjectList {
	return []client.ObjectList{
		&corev1.ServiceAccountList{}, &corev1.ServiceList{}, &rbacv1.RoleList{}, &rbacv1.RoleBindingList{},
		&networkingv1.NetworkPolicyList{}, &appsv1.StatefulSetList{}, &appsv1.DeploymentList{}, &autoscalingv2.HorizontalPodAutoscalerList{}, &policyv1.PodDisruptionBudgetList{}, &networkingv1.IngressList{},
	}
}

func newNamespace(ctx context.Context) string {
	GinkgoHelper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "telephony-",
		Labels:       map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
	Expect(api.Create(ctx, namespace)).To(Succeed())
	return namespace.Name
}

func newIntegration(namespace string, change ...func(*v1alpha1.PBXIntegration)) *v1alpha1.PBXIntegration {
	p := &v1alpha1.PBXIntegration{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "head-office"},
		Spec: v1alpha1.PBXIntegrationSpec{
			PBX: v1alpha1.PBX{Type: v1alpha1.PBXTypeRingMe, RingMe: &v1alpha1.RingMe{
				URL: "https://pbx.example.com", CredentialsSecretRef: v1alpha1.SecretReference{Name: "pbx-credentials"},
			}},
			Receiver: v1alpha1.Receiver{PublicURL: "https://calls.example.com/pbx"},
		},
	}
	for _, apply := range change {
		apply(p)
	}
	return p
}

func credentials(namespace string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pbx-credentials"},
		Data:       map[string][]byte{"clientID": []byte("id"), "clientSecret": []byte("secret")},
	}
}

// deploy brings an integration to Ready in a namespace of its own.
func deploy(ctx context.Context, change ...func(*v1alpha1.PBXIntegration)) *v1alpha1.PBXIntegration {
	GinkgoHelper()
	namespace := newNamespace(ctx)
	Expect(api.Create(ctx, credentials(namespace))).To(Succeed())
	p := newIntegration(namespace, change...)
	Expect(api.Create(ctx, p)).To(Succeed())
	rollOut(ctx, p)
	shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
	return p
}

// shows waits for a condition and checks the whole status by the rules of kstatus.
func shows(ctx context.Context, p *v1alpha1.PBXIntegration, condition string, status metav1.ConditionStatus, reason string) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
		found := meta.FindStatusCondition(p.Status.Conditions, condition)
		g.Expect(found).NotTo(BeNil(), condition)
		g.Expect(found.Status).To(Equal(status), found.Message)
		g.Expect(found.Reason).To(Equal(reason), found.Message)
		g.Expect(found.ObservedGeneration).To(Equal(p.Generation))
	}).Should(Succeed())
	Expect(lifecycletest.Check(p)).To(BeEmpty())
}

func message(p *v1alpha1.PBXIntegration, condition string) string {
	return meta.FindStatusCondition(p.Status.Conditions, condition).Message
}

// edit changes the object as a user does.
func edit(ctx context.Context, p *v1alpha1.PBXIntegration, change func(*v1alpha1.PBXIntegration)) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
		before := p.DeepCopy()
		change(p)
		g.Expect(api.Patch(ctx, p, client.MergeFrom(before))).To(Succeed())
	}).Should(Succeed())
}

// poke asks for a pass and waits until it has asked the PBX.
func poke(ctx context.Context, p *v1alpha1.PBXIntegration) {
	GinkgoHelper()
	asked := pbx.questions(p)
	edit(ctx, p, func(p *v1alpha1.PBXIntegration) {
		metav1.SetMetaDataAnnotation(&p.ObjectMeta, v1alpha1.AnnotationReconcile, now.Now().Format(time.RFC3339Nano))
	})
	Eventually(func() int { return pbx.questions(p) }).Should(BeNumerically(">", asked))
}

// settled waits until the controller writes no more.
func settled(namespace string) {
	GinkgoHelper()
	last, since := writes.in(namespace), time.Now()
	Eventually(func() bool {
		if current := writes.in(namespace); current != last {
			last, since = current, time.Now()
		}
		return time.Since(since) > 500*time.Millisecond
	}).Should(BeTrue())
}

func keys(ctx context.Context, p *v1alpha1.PBXIntegration) eventurl.Ring {
	GinkgoHelper()
	var secret corev1.Secret
	Expect(api.Get(ctx, types.NamespacedName{Namespace: p.Namespace, Name: eventurl.SecretName(p.Name)}, &secret)).To(Succeed())
	ring, err := eventurl.ParseRing(secret.Data)
	Expect(err).NotTo(HaveOccurred())
	return ring
}

func keySecret(ctx context.Context, p *v1alpha1.PBXIntegration) *corev1.Secret {
	GinkgoHelper()
	secret := &corev1.Secret{}
	Expect(api.Get(ctx, types.NamespacedName{Namespace: p.Namespace, Name: eventurl.SecretName(p.Name)}, secret)).To(Succeed())
	return secret
}

func gone(ctx context.Context, p *v1alpha1.PBXIntegration) {
	GinkgoHelper()
	Eventually(func() bool {
		err := api.Get(ctx, client.ObjectKeyFromObject(p), &v1alpha1.PBXIntegration{})
		return client.IgnoreNotFound(err) == nil && err != nil
	}).Should(BeTrue())
}

func announces(ctx context.Context, p *v1alpha1.PBXIntegration, reason string, note gomegatypes.GomegaMatcher) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		var events eventsv1.EventList
		g.Expect(api.List(ctx, &events, client.InNamespace(p.Namespace))).To(Succeed())
		g.Expect(events.Items).To(ContainElement(And(
			HaveField("Reason", reason), HaveField("Regarding.UID", p.UID), HaveField("Note", note))))
	}).Should(Succeed())
}

func newMapping(ctx context.Context, p *v1alpha1.PBXIntegration, name string) *v1alpha1.ExtensionMapping {
	GinkgoHelper()
	mapping := &v1alpha1.ExtensionMapping{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: name},
		Spec: v1alpha1.ExtensionMappingSpec{
			IntegrationRef: v1alpha1.IntegrationReference{Name: p.Name},
			Extension:      v1alpha1.Extension{Number: "1234*" + name},
			User:           &v1alpha1.User{Name: name},
		},
	}
	Expect(api.Create(ctx, mapping)).To(Succeed())
	return mapping
}

// report does the work of the controller of mappings.
func report(ctx context.Context, mapping *v1alpha1.ExtensionMapping, events int32, key int64, status metav1.ConditionStatus, reason string) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(api.Get(ctx, client.ObjectKeyFromObject(mapping), mapping)).To(Succeed())
		mapping.Status.RegisteredEvents, mapping.Status.KeyGeneration = &events, key
		mapping.Status.ObservedGeneration = mapping.Generation
		lifecycle.SetCondition(mapping, time.Now(), ready, status, reason, "as the test wants it")
		g.Expect(api.Status().Update(ctx, mapping)).To(Succeed())
	}).Should(Succeed())
}

// countsReady waits until an integration has seen so many mappings, all of them Ready.
func countsReady(ctx context.Context, p *v1alpha1.PBXIntegration, mappings int32) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
		g.Expect(p.Status.Extensions).To(HaveValue(Equal(v1alpha1.ExtensionCounts{Total: mappings, Ready: mappings})))
	}).Should(Succeed())
}

var _ = Describe("A PBXIntegration", func() {
	It("gets a receiver that Pod Security admits, and becomes Ready with it", func(ctx SpecContext) {
		namespace := newNamespace(ctx)
		Expect(api.Create(ctx, credentials(namespace))).To(Succeed())
		p := newIntegration(namespace)
		Expect(api.Create(ctx, p)).To(Succeed())

		By("not being Ready before its receiver is")
		shows(ctx, p, ready, metav1.ConditionFalse, v1alpha1.ReasonReceiverUnavailable)
		shows(ctx, p, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonReceiverUnavailable)
		rollOut(ctx, p)
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		shows(ctx, p, v1alpha1.ConditionPBXReachable, metav1.ConditionTrue, v1alpha1.ReasonPBXReachable)
		shows(ctx, p, v1alpha1.ConditionReceiverAvailable, metav1.ConditionTrue, v1alpha1.ReasonReceiverAvailable)
		Expect(p.Status.Receiver).To(HaveValue(Equal(v1alpha1.ReceiverStatus{Replicas: 1, ReadyReplicas: 1})))
		Expect(p.Status.KeyGeneration).To(BeEquivalentTo(1))
		announces(ctx, p, v1alpha1.ReasonReconciled, Not(BeEmpty()))

		By("owning everything it made")
		for name, count := range childrenOf(ctx, p) {
			Expect(count).To(Equal(map[string]int{
				"ServiceAccountList": 1, "ServiceList": 2, "RoleList": 1, "RoleBindingList": 1, "NetworkPolicyList": 1, "StatefulSetList": 1,
			}[name]), name)
		}

		By("running pods that the restricted Pod Security Standard admits")
		var set appsv1.StatefulSet
		Expect(api.Get(ctx, receiverKey(p), &set)).To(Succeed())
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "trial", Labels: set.Spec.Template.Labels}, Spec: set.Spec.Template.Spec}
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "data"})
		pod.Spec.AutomountServiceAccountToken = nil
		Expect(api.Create(ctx, pod, client.DryRunAll)).To(Succeed())
		Expect(pod.Spec.Containers[0].Image).To(Equal(receiverImage))
		Expect(pod.Spec.Containers[0].Args).To(ContainElements(
			"serve", "--integration=head-office", "--namespace=$(POD_NAMESPACE)", "--data-dir=/data", "--storage-size=1073741824",
		))
	})

	It("is left in peace once it is Ready", func(ctx SpecContext) {
		p := deploy(ctx)
		settled(p.Namespace)
		before, versions := writes.in(p.Namespace), resourceVersions(ctx, p.Namespace)

		poke(ctx, p)
		poke(ctx, p)
		settled(p.Namespace)
		Expect(writes.in(p.Namespace)).To(Equal(before), "write requests of two passes over an unchanged integration")
		Expect(resourceVersions(ctx, p.Namespace)).To(Equal(versions))
	})

	It("undoes what others do to its objects", func(ctx SpecContext) {
		p := deploy(ctx)
		var service corev1.Service
		Expect(api.Get(ctx, receiverKey(p), &service)).To(Succeed())
		service.Spec.Selector = map[string]string{"app": "other"}
		Expect(api.Update(ctx, &service)).To(Succeed())
		var set appsv1.StatefulSet
		Expect(api.Get(ctx, receiverKey(p), &set)).To(Succeed())
		Expect(api.SubResource("scale").Patch(ctx, &set, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":0}}`)))).To(Succeed())
		var policy networkingv1.NetworkPolicy
		Expect(api.Get(ctx, receiverKey(p), &policy)).To(Succeed())
		Expect(api.Delete(ctx, &policy)).To(Succeed())

		Eventually(func(g Gomega) {
			g.Expect(api.Get(ctx, receiverKey(p), &service)).To(Succeed())
			g.Expect(service.Spec.Selector).To(Equal(workload.SelectorLabels(p.Name)))
			g.Expect(api.Get(ctx, receiverKey(p), &set)).To(Succeed())
			g.Expect(set.Spec.Replicas).To(HaveValue(BeEquivalentTo(1)))
			g.Expect(api.Get(ctx, receiverKey(p), &networkingv1.NetworkPolicy{})).To(Succeed())
		}).Should(Succeed())
	})

	It("does not take over what belongs to others", func(ctx SpecContext) {
		namespace := newNamespace(ctx)
		Expect(api.Create(ctx, credentials(namespace))).To(Succeed())
		p := newIntegration(namespace)
		foreign := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: workload.Name(p.Name)},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "mine"}, Ports: []corev1.ServicePort{{Port: 80}}},
		}
		Expect(api.Create(ctx, foreign)).To(Succeed())
		Expect(api.Create(ctx, p)).To(Succeed())
		shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonNameTaken)
		Expect(message(p, ready)).To(ContainSubstring("Service head-office-receiver exists"))
		Expect(api.Get(ctx, client.ObjectKeyFromObject(foreign), foreign)).To(Succeed())
		Expect(foreign.Spec.Selector).To(Equal(map[string]string{"app": "mine"}))
		Expect(foreign.OwnerReferences).To(BeEmpty())

		Expect(api.Delete(ctx, foreign)).To(Succeed())
		poke(ctx, p)
		rollOut(ctx, p)
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
	})

	Context("without good credentials", func() {
		It("says which Secret is missing, deploys the receiver all the same, and recovers when the Secret appears", func(ctx SpecContext) {
			p := newIntegration(newNamespace(ctx))
			Expect(api.Create(ctx, p)).To(Succeed())
			shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonCredentialsMissing)
			shows(ctx, p, v1alpha1.ConditionPBXReachable, metav1.ConditionUnknown, v1alpha1.ReasonCredentialsMissing)
			Expect(message(p, ready)).To(ContainSubstring(`"pbx-credentials"`))
			announces(ctx, p, v1alpha1.ReasonCredentialsMissing, ContainSubstring("pbx-credentials"))
			rollOut(ctx, p)
			shows(ctx, p, v1alpha1.ConditionReceiverAvailable, metav1.ConditionTrue, v1alpha1.ReasonReceiverAvailable)
			Expect(pbx.questions(p)).To(BeZero())

			Expect(api.Create(ctx, credentials(p.Namespace))).To(Succeed())
			shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		})

		It("stalls on credentials that the PBX refuses, asks no more, and recovers when they change", func(ctx SpecContext) {
			p := deploy(ctx)
			pbx.answer(p, func(credentials map[string][]byte) error {
				if string(credentials["clientSecret"]) == "good" {
					return nil
				}
				return pbxapi.NewError(pbxapi.ErrUnauthorized, "get a token", "invalid_client")
			})
			poke(ctx, p)
			shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonCredentialsInvalid)
			shows(ctx, p, v1alpha1.ConditionPBXReachable, metav1.ConditionFalse, v1alpha1.ReasonCredentialsInvalid)
			settled(p.Namespace)
			asked := pbx.questions(p)
			Consistently(func() int { return pbx.questions(p) }, time.Second).Should(Equal(asked))

			secret := credentials(p.Namespace)
			secret.Data["clientSecret"] = []byte("good")
			Expect(api.Update(ctx, secret)).To(Succeed())
			shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		})

		DescribeTable("sorts what else can be wrong with the PBX",
			func(ctx SpecContext, answer error, condition, reason string, reachable metav1.ConditionStatus) {
				p := deploy(ctx)
				pbx.answer(p, func(map[string][]byte) error { return answer })
				poke(ctx, p)
				shows(ctx, p, condition, metav1.ConditionTrue, reason)
				shows(ctx, p, v1alpha1.ConditionPBXReachable, reachable, reason)

				By("recovering by itself")
				pbx.answer(p, nil)
				now.advance(time.Minute)
				poke(ctx, p)
				shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
			},
			Entry("a key is missing in the Secret", fmt.Errorf("%w: key clientID is missing", pbxapi.ErrInvalid),
				stalled, v1alpha1.ReasonCredentialsMissing, metav1.ConditionUnknown),
			Entry("the application lacks the right", pbxapi.NewError(pbxapi.ErrForbidden, "check", ""),
				stalled, v1alpha1.ReasonPBXRefused, metav1.ConditionFalse),
			Entry("it is down", pbxapi.NewError(pbxapi.ErrUnreachable, "check", "connection refused"),
				v1alpha1.ConditionReconciling, v1alpha1.ReasonPBXUnreachable, metav1.ConditionFalse),
			Entry("it answers nonsense", pbxapi.NewError(pbxapi.ErrRejected, "check", "418"),
				v1alpha1.ConditionReconciling, v1alpha1.ReasonPBXRefused, metav1.ConditionFalse),
			Entry("something unheard of", errors.New("no idea"),
				v1alpha1.ConditionReconciling, v1alpha1.ReasonPBXUnreachable, metav1.ConditionFalse),
		)

		It("comes back from an outage without hands", func(ctx SpecContext) {
			p := deploy(ctx)
			pbx.answer(p, func(map[string][]byte) error { return pbxapi.NewError(pbxapi.ErrUnreachable, "check", "down") })
			poke(ctx, p)
			shows(ctx, p, ready, metav1.ConditionFalse, v1alpha1.ReasonPBXUnreachable)
			pbx.answer(p, nil)
			now.advance(time.Minute)
			shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		})

		It("stays Ready while the PBX only asks for patience", func(ctx SpecContext) {
			p := deploy(ctx)
			pbx.answer(p, func(map[string][]byte) error { return &pbxapi.RateLimitedError{After: time.Hour, ByPBX: true} })
			settled(p.Namespace)
			before := writes.in(p.Namespace)
			poke(ctx, p)
			settled(p.Namespace)
			shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
			Expect(writes.in(p.Namespace)).To(Equal(before))
		})
	})

	Context("with a spec that makes no sense", func() {
		It("keeps the receiver as it was, says why, and recovers with a good one", func(ctx SpecContext) {
			p := deploy(ctx)
			settled(p.Namespace)
			versions := resourceVersions(ctx, p.Namespace)
			edit(ctx, p, func(p *v1alpha1.PBXIntegration) {
				p.Spec.Receiver.PublicURL = "https://user:password@calls.example.com"
				p.Spec.Receiver.AllowedSources = []string{"198.51.100.7/24"}
			})
			shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonInvalidSpec)
			Expect(message(p, ready)).To(And(ContainSubstring("publicURL"), ContainSubstring("write 198.51.100.0/24"), Not(ContainSubstring("password@"))))
			Expect(resourceVersions(ctx, p.Namespace)).To(Equal(versions))

			edit(ctx, p, func(p *v1alpha1.PBXIntegration) {
				p.Spec.Receiver.PublicURL = "https://calls.example.com"
				p.Spec.Receiver.AllowedSources = []string{"198.51.100.0/24"}
			})
			shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		})

		It("reports what only the API server can tell", func(ctx SpecContext) {
			p := deploy(ctx)
			edit(ctx, p, func(p *v1alpha1.PBXIntegration) {
				p.Spec.Receiver.Template.Tolerations = []corev1.Toleration{{Key: "not a key", Operator: corev1.TolerationOpExists}}
			})
			shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonInvalidSpec)
			Expect(message(p, ready)).To(ContainSubstring("tolerations"))
			edit(ctx, p, func(p *v1alpha1.PBXIntegration) { p.Spec.Receiver.Template.Tolerations = nil })
			shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		})
	})

	It("does nothing while it is suspended", func(ctx SpecContext) {
		p := deploy(ctx)
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) {
			p.Spec.Suspend = true
			p.Spec.Receiver.Template.Annotations = map[string]string{"new": "yes"}
		})
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonSuspended)
		settled(p.Namespace)
		before := writes.in(p.Namespace)
		var service corev1.Service
		Expect(api.Get(ctx, receiverKey(p), &service)).To(Succeed())
		Expect(api.Delete(ctx, &service)).To(Succeed())
		settled(p.Namespace)
		Expect(writes.in(p.Namespace)).To(Equal(before))

		edit(ctx, p, func(p *v1alpha1.PBXIntegration) { p.Spec.Suspend = false })
		shows(ctx, p, ready, metav1.ConditionFalse, v1alpha1.ReasonProgressing)
		rollOut(ctx, p)
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		Expect(api.Get(ctx, receiverKey(p), &service)).To(Succeed())
	})

	It("counts its mappings", func(ctx SpecContext) {
		p := deploy(ctx)
		ann, bob := newMapping(ctx, p, "ann"), newMapping(ctx, p, "bob")
		report(ctx, ann, 4, 1, metav1.ConditionTrue, v1alpha1.ReasonRegistered)
		counted := func(total, ready int32) {
			GinkgoHelper()
			Eventually(func(g Gomega) {
				g.Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
				g.Expect(p.Status.Extensions).To(HaveValue(Equal(v1alpha1.ExtensionCounts{Total: total, Ready: ready})))
			}).Should(Succeed())
			Expect(lifecycletest.Check(p)).To(BeEmpty())
		}
		counted(2, 1)
		shows(ctx, p, v1alpha1.ConditionExtensions, metav1.ConditionFalse, v1alpha1.ReasonExtensionsNotReady)
		report(ctx, bob, 0, 1, metav1.ConditionFalse, v1alpha1.ReasonEventLimitReached)
		Eventually(func(g Gomega) {
			g.Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
			g.Expect(message(p, v1alpha1.ConditionExtensions)).To(Equal("1 of 2 mappings are Ready; EventLimitReached: bob"))
		}).Should(Succeed())
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		report(ctx, bob, 4, 1, metav1.ConditionTrue, v1alpha1.ReasonRegistered)
		counted(2, 2)
		shows(ctx, p, v1alpha1.ConditionExtensions, metav1.ConditionTrue, v1alpha1.ReasonExtensionsReady)
		Expect(api.Delete(ctx, ann)).To(Succeed())
		counted(1, 1)
	})
})

var _ = Describe("The keys of the event URLs", func() {
	generation := func(ctx context.Context, p *v1alpha1.PBXIntegration, want int64) {
		GinkgoHelper()
		Eventually(func(g Gomega) {
			g.Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
			g.Expect(p.Status.KeyGeneration).To(Equal(want))
		}).Should(Succeed())
	}

	It("rotate once per request, and an old key stays until no registration uses it", func(ctx SpecContext) {
		p := deploy(ctx)
		ann := newMapping(ctx, p, "ann")
		report(ctx, ann, 4, 1, metav1.ConditionTrue, v1alpha1.ReasonRegistered)
		first := keys(ctx, p)
		rotate(ctx, p, "2026-11")

		By("letting receivers know before registrations use it")
		Eventually(func() eventurl.Ring { return keys(ctx, p) }).Should(HaveLen(2))
		settled(p.Namespace)
		generation(ctx, p, 1)
		now.advance(keyring.Announce)
		poke(ctx, p)
		generation(ctx, p, 2)
		Expect(keys(ctx, p)).To(HaveLen(2))
		Expect(keys(ctx, p)[1]).To(Equal(first[0]))
		announces(ctx, p, v1alpha1.ReasonKeyRotated, ContainSubstring("key 2"))

		By("keeping both while the mapping has not moved, however long it takes")
		now.advance(2 * keyring.Overlap)
		poke(ctx, p)
		settled(p.Namespace)
		Expect(keys(ctx, p)).To(HaveLen(2))

		By("dropping the old one afterwards")
		report(ctx, ann, 4, 2, metav1.ConditionTrue, v1alpha1.ReasonRegistered)
		Eventually(func() eventurl.Ring { return keys(ctx, p) }).Should(HaveLen(1))
		Expect(keys(ctx, p).Current().Generation).To(BeEquivalentTo(2))
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
	})

	It("come back when somebody deletes their Secret", func(ctx SpecContext) {
		p := deploy(ctx)
		before := keys(ctx, p)
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: eventurl.SecretName(p.Name)}}
		Expect(api.Delete(ctx, secret)).To(Succeed())
		Eventually(func() error { return api.Get(ctx, client.ObjectKeyFromObject(secret), secret) }).Should(Succeed())
		Expect(keys(ctx, p)).To(Equal(before))
	})

	It("have no owner, which garbage collection could take away from them", func(ctx SpecContext) {
		p := deploy(ctx)
		Expect(keySecret(ctx, p).OwnerReferences).To(BeEmpty())
	})

	It("never show up in Events or in the status", func(ctx SpecContext) {
		p := deploy(ctx)
		token := keys(ctx, p).Current().Token(eventurl.Account(string(p.UID)))
		Expect(fmt.Sprintf("%+v", p.Status)).NotTo(ContainSubstring(token))
		var events eventsv1.EventList
		Expect(api.List(ctx, &events, client.InNamespace(p.Namespace))).To(Succeed())
		for _, event := range events.Items {
			Expect(event.Note).NotTo(ContainSubstring(eventurl.PathPrefix))
		}
	})
})

var _ = Describe("The receiver", func() {
	It("is exposed as the spec says, and no longer when it does not", func(ctx SpecContext) {
		p := deploy(ctx, func(p *v1alpha1.PBXIntegration) {
			p.Spec.Receiver.Exposure.Ingress = &v1alpha1.IngressExposure{TLS: &v1alpha1.IngressTLS{SecretName: "calls-tls"}}
		})
		var ingress networkingv1.Ingress
		Expect(api.Get(ctx, receiverKey(p), &ingress)).To(Succeed())
		Expect(ingress.Spec.Rules[0].Host).To(Equal("calls.example.com"))
		Expect(ingress.Spec.Rules[0].HTTP.Paths[0].Path).To(Equal("/pbx/ext-event/"))

		By("moving to the Gateway API, which this cluster does not have")
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) {
			p.Spec.Receiver.Exposure = v1alpha1.Exposure{Gateway: &v1alpha1.GatewayExposure{
				ParentRefs: []v1alpha1.GatewayReference{{Name: "public"}},
			}}
		})
		shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonGatewayAPIMissing)
		Eventually(func() error { return client.IgnoreNotFound(api.Get(ctx, receiverKey(p), &ingress)) }).Should(Succeed())

		By("recovering once it is installed")
		installGatewayAPI(ctx)
		poke(ctx, p)
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		route := &unstructured.Unstructured{}
		route.SetAPIVersion(workload.HTTPRouteVersion)
		route.SetKind("HTTPRoute")
		Expect(api.Get(ctx, receiverKey(p), route)).To(Succeed())
		Expect(metav1.IsControlledBy(route, p)).To(BeTrue())
		settled(p.Namespace)
		before := writes.in(p.Namespace)
		poke(ctx, p)
		settled(p.Namespace)
		Expect(writes.in(p.Namespace)).To(Equal(before), "writes of a pass over an unchanged HTTPRoute")

		By("going back to none")
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) { p.Spec.Receiver.Exposure = v1alpha1.Exposure{} })
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		Eventually(func() error { return api.Get(ctx, receiverKey(p), &ingress) }).ShouldNot(Succeed())
		Eventually(func() error { return api.Get(ctx, receiverKey(p), route) }).ShouldNot(Succeed())
	})

	It("keeps its quorum, and loses the disruption budget when it needs none", func(ctx SpecContext) {
		p := deploy(ctx, func(p *v1alpha1.PBXIntegration) {
			p.Spec.Receiver.Replicas = 2
			p.Spec.Receiver.Journal.NATS = &v1alpha1.NATSJournal{URL: "nats://nats.example.com:4222"}
		})
		Expect(api.Get(ctx, receiverKey(p), &policyv1.PodDisruptionBudget{})).To(Succeed())
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) { p.Spec.Receiver.Replicas = 1 })
		Eventually(func() error { return api.Get(ctx, receiverKey(p), &policyv1.PodDisruptionBudget{}) }).ShouldNot(Succeed())
		rollOut(ctx, p)
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
	})

	It("moves to a stateless receiver and back without a moment in which none is ready", func(ctx SpecContext) {
		p := deploy(ctx)
		var set appsv1.StatefulSet
		Expect(api.Get(ctx, receiverKey(p), &set)).To(Succeed())
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) {
			p.Spec.Receiver.Journal.NATS = &v1alpha1.NATSJournal{URL: "nats://nats.example.com:4222"}
			p.Spec.Receiver.Autoscaling = &v1alpha1.ReceiverAutoscaling{MaxReplicas: 4}
		})
		var deployment appsv1.Deployment
		Eventually(func() error { return api.Get(ctx, receiverKey(p), &deployment) }).Should(Succeed())
		settled(p.Namespace)
		Expect(api.Get(ctx, receiverKey(p), &set)).To(Succeed(), "the former pods stay until the new ones are ready")
		shows(ctx, p, v1alpha1.ConditionReceiverAvailable, metav1.ConditionTrue, v1alpha1.ReasonReceiverAvailable)
		Expect(api.Get(ctx, receiverKey(p), &autoscalingv2.HorizontalPodAutoscaler{})).To(Succeed())

		By("keeping the volumes with the embedded logs")
		rollOut(ctx, p)
		Eventually(func(g Gomega) {
			g.Expect(api.Get(ctx, receiverKey(p), &set)).To(Succeed())
			g.Expect(set.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted).To(Equal(appsv1.RetainPersistentVolumeClaimRetentionPolicyType))
			observe(ctx, g, &set)
		}).Should(Succeed())
		Eventually(func() bool { return apierrors.IsNotFound(api.Get(ctx, receiverKey(p), &set)) }).Should(BeTrue())
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		Expect(p.Status.Receiver.Replicas).To(Equal(int32(2)))

		By("following the autoscaler")
		Expect(api.Get(ctx, receiverKey(p), &deployment)).To(Succeed())
		deployment.Spec.Replicas = new(int32(4))
		Expect(api.Update(ctx, &deployment)).To(Succeed())
		rollOut(ctx, p)
		Eventually(func(g Gomega) {
			g.Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
			g.Expect(p.Status.Receiver).To(HaveValue(Equal(v1alpha1.ReceiverStatus{Replicas: 4, ReadyReplicas: 4})))
		}).Should(Succeed())

		By("going back")
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) {
			p.Spec.Receiver.Journal.NATS, p.Spec.Receiver.Autoscaling = nil, nil
		})
		rollOut(ctx, p)
		Eventually(func() bool { return apierrors.IsNotFound(api.Get(ctx, receiverKey(p), &deployment)) }).Should(BeTrue())
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		Expect(apierrors.IsNotFound(api.Get(ctx, receiverKey(p), &autoscalingv2.HorizontalPodAutoscaler{}))).To(BeTrue())
	})

	It("replaces the StatefulSet that an earlier version made for an external journal", func(ctx SpecContext) {
		p := deploy(ctx, func(p *v1alpha1.PBXIntegration) {
			p.Spec.Receiver.Journal.NATS = &v1alpha1.NATSJournal{URL: "nats://nats.example.com:4222"}
		})
		var deployment appsv1.Deployment
		Expect(api.Get(ctx, receiverKey(p), &deployment)).To(Succeed())
		set := &appsv1.StatefulSet{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: p.Namespace, Name: deployment.Name, Labels: deployment.Labels, OwnerReferences: deployment.OwnerReferences,
			},
			Spec: appsv1.StatefulSetSpec{Selector: deployment.Spec.Selector, Template: deployment.Spec.Template},
		}
		Expect(api.Create(ctx, set)).To(Succeed())
		Eventually(func() bool { return apierrors.IsNotFound(api.Get(ctx, receiverKey(p), set)) }).Should(BeTrue())
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
	})

	It("says what an answered event is worth", func(ctx SpecContext) {
		p := deploy(ctx)
		shows(ctx, p, v1alpha1.ConditionDurable, metav1.ConditionTrue, v1alpha1.ReasonOnDisk)
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) {
			p.Spec.Receiver.Journal.NATS = &v1alpha1.NATSJournal{URL: "nats://nats.example.com:4222", Replicas: 1}
		})
		shows(ctx, p, v1alpha1.ConditionDurable, metav1.ConditionFalse, v1alpha1.ReasonNotSynced)
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) { p.Spec.Receiver.Journal.NATS.Sync = v1alpha1.NATSSyncAlways })
		shows(ctx, p, v1alpha1.ConditionDurable, metav1.ConditionTrue, v1alpha1.ReasonOnDisk)
	})

	It("misses the credentials of its journal at once, and recovers when they come", func(ctx SpecContext) {
		p := deploy(ctx, func(p *v1alpha1.PBXIntegration) {
			p.Spec.Receiver.Journal.NATS = &v1alpha1.NATSJournal{URL: "nats://nats.example.com"}
		})
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) {
			p.Spec.Receiver.Journal.NATS = &v1alpha1.NATSJournal{
				URL: "nats://nats.example.com", CredentialsSecretRef: &v1alpha1.SecretReference{Name: "nats"},
			}
		})
		shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonCredentialsMissing)
		Expect(message(p, ready)).To(ContainSubstring(`"nats"`))
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: "nats"}, Data: map[string][]byte{"creds": []byte("x")}}
		Expect(api.Create(ctx, secret)).To(Succeed())
		rollOut(ctx, p)
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
	})

	It("says so while pods are missing", func(ctx SpecContext) {
		p := deploy(ctx)
		var set appsv1.StatefulSet
		Expect(api.Get(ctx, receiverKey(p), &set)).To(Succeed())
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: "head-office-receiver-0", Labels: set.Spec.Template.Labels},
			Spec:       set.Spec.Template.Spec,
		}
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "data"})
		Expect(api.Create(ctx, pod)).To(Succeed())
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "receiver", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}},
		}}
		Expect(api.Status().Update(ctx, pod)).To(Succeed())
		set.Status.ReadyReplicas, set.Status.AvailableReplicas = 0, 0
		Expect(api.Status().Update(ctx, &set)).To(Succeed())
		shows(ctx, p, ready, metav1.ConditionFalse, v1alpha1.ReasonReceiverUnavailable)
		Expect(message(p, ready)).To(Equal("0 of 1 receiver pods are ready; pod head-office-receiver-0: ImagePullBackOff"))
		shows(ctx, p, v1alpha1.ConditionReceiverAvailable, metav1.ConditionFalse, v1alpha1.ReasonReceiverUnavailable)
		rollOut(ctx, p)
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
	})

	It("tells when its volume cannot grow, and runs on with what it has", func(ctx SpecContext) {
		p := deploy(ctx)
		claim := &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: workload.VolumeClaim(p.Name, 0)},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		}
		Expect(api.Create(ctx, claim)).To(Succeed())
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) { p.Spec.Receiver.Storage.Size = resource.MustParse("2Gi") })
		shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonVolumeNotExpandable)
		var set appsv1.StatefulSet
		Expect(api.Get(ctx, receiverKey(p), &set)).To(Succeed())
		Expect(set.Spec.Template.Spec.Containers[0].Args).To(ContainElement("--storage-size=1073741824"))
		Expect(set.DeletionTimestamp).To(BeNil())
	})

	It("gets larger volumes by being made anew around its pods", func(ctx SpecContext) {
		p := deploy(ctx)
		var before appsv1.StatefulSet
		Expect(api.Get(ctx, receiverKey(p), &before)).To(Succeed())
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) { p.Spec.Receiver.Storage.Size = resource.MustParse("2Gi") })
		var set appsv1.StatefulSet
		Eventually(func(g Gomega) {
			g.Expect(api.Get(ctx, receiverKey(p), &set)).To(Succeed())
			g.Expect(set.Finalizers).To(ContainElement(metav1.FinalizerOrphanDependents))
		}).Should(Succeed())
		shows(ctx, p, ready, metav1.ConditionFalse, v1alpha1.ReasonProgressing)
		set.Finalizers = nil // the garbage collector, which envtest has not, has orphaned the pods
		Expect(api.Update(ctx, &set)).To(Succeed())
		Eventually(func(g Gomega) {
			g.Expect(api.Get(ctx, receiverKey(p), &set)).To(Succeed())
			g.Expect(set.UID).NotTo(Equal(before.UID))
			g.Expect(set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage().String()).To(Equal("2Gi"))
		}).Should(Succeed())
		rollOut(ctx, p)
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
	})
})

var _ = Describe("Deletion of a PBXIntegration", func() {
	It("is immediate without mappings", func(ctx SpecContext) {
		p := deploy(ctx)
		Expect(api.Delete(ctx, p)).To(Succeed())
		gone(ctx, p)
	})

	It("waits until the mappings have let go, with its keys in place", func(ctx SpecContext) {
		p := deploy(ctx)
		ann := newMapping(ctx, p, "ann")
		report(ctx, ann, 4, 1, metav1.ConditionTrue, v1alpha1.ReasonRegistered)
		countsReady(ctx, p, 1)
		Expect(api.Delete(ctx, p)).To(Succeed())
		shows(ctx, p, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonDeleting)
		Expect(message(p, ready)).To(ContainSubstring("1 mappings"))
		Expect(keys(ctx, p)).To(HaveLen(1))
		report(ctx, ann, 0, 1, metav1.ConditionFalse, v1alpha1.ReasonRegistrationsDeleted)
		gone(ctx, p)
	})

	It("completes without credentials, without a PBX, and while suspended", func(ctx SpecContext) {
		p := deploy(ctx)
		pbx.answer(p, func(map[string][]byte) error { return pbxapi.NewError(pbxapi.ErrUnreachable, "check", "down") })
		Expect(api.Delete(ctx, credentials(p.Namespace))).To(Succeed())
		edit(ctx, p, func(p *v1alpha1.PBXIntegration) { p.Spec.Suspend = true })
		Expect(api.Delete(ctx, p)).To(Succeed())
		gone(ctx, p)
	})

	It("waits for mappings however long their turn takes, and names those that have given up", func(ctx SpecContext) {
		p := deploy(ctx)
		ann := newMapping(ctx, p, "ann")
		report(ctx, ann, 4, 1, metav1.ConditionTrue, v1alpha1.ReasonRegistered)
		countsReady(ctx, p, 1)
		Expect(api.Delete(ctx, p)).To(Succeed())
		shows(ctx, p, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonDeleting)
		now.advance(24 * time.Hour)
		newMapping(ctx, p, "bob") // any change asks for the next pass
		settled(p.Namespace)
		Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
		var bob v1alpha1.ExtensionMapping
		Expect(api.Get(ctx, types.NamespacedName{Namespace: p.Namespace, Name: "bob"}, &bob)).To(Succeed())
		report(ctx, &bob, 0, 1, metav1.ConditionFalse, v1alpha1.ReasonRegistrationsDeleted)
		report(ctx, ann, 0, 1, metav1.ConditionFalse, v1alpha1.ReasonRegistrationsLeft)
		gone(ctx, p)
		announces(ctx, p, v1alpha1.ReasonRegistrationsLeft, ContainSubstring("mappings ann:"))
		Expect(keySecret(ctx, p).OwnerReferences).To(BeEmpty(), "what is left can be recognised by the keys only")
	})

	It("has the keys collected as garbage where nothing is left, and keeps them where something may be", func(ctx SpecContext) {
		p := deploy(ctx)
		Expect(api.Delete(ctx, p)).To(Succeed())
		gone(ctx, p)
		Expect(metav1.IsControlledBy(keySecret(ctx, p), p)).To(BeTrue())

		orphan := deploy(ctx, func(p *v1alpha1.PBXIntegration) { p.Spec.DeletionPolicy = v1alpha1.DeletionOrphan })
		Expect(api.Delete(ctx, orphan)).To(Succeed())
		gone(ctx, orphan)
		Expect(keySecret(ctx, orphan).OwnerReferences).To(BeEmpty())
	})

	It("leaves the registrations at once where they are to stay", func(ctx SpecContext) {
		p := deploy(ctx, func(p *v1alpha1.PBXIntegration) { p.Spec.DeletionPolicy = v1alpha1.DeletionOrphan })
		report(ctx, newMapping(ctx, p, "ann"), 4, 1, metav1.ConditionTrue, v1alpha1.ReasonRegistered)
		Expect(api.Delete(ctx, p)).To(Succeed())
		gone(ctx, p)
	})
})

// installGatewayAPI makes HTTPRoute known, with a schema that takes anything.
func installGatewayAPI(ctx context.Context) {
	GinkgoHelper()
	open := true
	names := apiextensionsv1.CustomResourceDefinitionNames{Plural: "httproutes", Singular: "httproute", Kind: "HTTPRoute", ListKind: "HTTPRouteList"}
	definition := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{
			Name:        "httproutes.gateway.networking.k8s.io",
			Annotations: map[string]string{apiextensionsv1.KubeAPIApprovedAnnotation: "unapproved, for a test"},
		},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "gateway.networking.k8s.io", Scope: apiextensionsv1.NamespaceScoped, Names: names,
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type: "object", XPreserveUnknownFields: &open,
				}},
			}},
		},
	}
	Expect(api.Create(ctx, definition)).To(Succeed())
	Eventually(func() error {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion(workload.HTTPRouteVersion)
		list.SetKind("HTTPRouteList")
		return api.List(ctx, list)
	}).Should(Succeed())
}

// childrenOf counts the objects that an integration controls, by kind.
func childrenOf(ctx context.Context, p *v1alpha1.PBXIntegration) map[string]int {
	GinkgoHelper()
	counts := map[string]int{}
	for _, list := range kinds() {
		Expect(api.List(ctx, list, client.InNamespace(p.Namespace))).To(Succeed())
		name := strings.TrimPrefix(fmt.Sprintf("%T", list), "*v1.")
		counts[name] = 0
		Expect(meta.EachListItem(list, func(item runtime.Object) error {
			if object, ok := item.(client.Object); ok && metav1.IsControlledBy(object, p) {
				counts[name]++
			}
			return nil
		})).To(Succeed())
	}
	return counts
}

// resourceVersions of everything that a receiver consists of.
func resourceVersions(ctx context.Context, namespace string) map[string]string {
	GinkgoHelper()
	versions := map[string]string{}
	for _, list := range append(kinds(), &corev1.SecretList{}) {
		Expect(api.List(ctx, list, client.InNamespace(namespace))).To(Succeed())
		Expect(meta.EachListItem(list, func(item runtime.Object) error {
			object, err := meta.Accessor(item)
			versions[fmt.Sprintf("%T %s", item, object.GetName())] = object.GetResourceVersion()
			return err
		})).To(Succeed())
	}
	return versions
}
