package integration_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration"
	"github.com/pbx-operator/pbx-operator/controllers/integration/keyring"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle/lifecycletest"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/ringme"
	"github.com/pbx-operator/pbx-operator/controllers/secrets"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// byHand labels integrations that the manager of the suite leaves alone, so that a test can make
// every pass itself.
const byHand = "by-hand"

// controllerOn is a controller as after a start: without any memory, on the given client.
func controllerOn(c client.Client) *lifecycle.Reconciler[*v1alpha1.PBXIntegration] {
	return integration.New(integration.Config{
		Client:   c,
		Live:     c,
		Secrets:  secrets.NewReader(c, c, now),
		PBXes:    pbx,
		Workload: workload.Settings{Image: receiverImage},
		Recorder: &events.FakeRecorder{},
		Clock:    now,
		Interval: time.Hour,
	}).Reconciler()
}

func pass(ctx context.Context, r *lifecycle.Reconciler[*v1alpha1.PBXIntegration], p *v1alpha1.PBXIntegration) error {
	_, err := r.Reconcile(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(p)})
	return err
}

// converge makes passes, and plays the controllers that envtest has not, until the integration is
// Ready.
func converge(ctx context.Context, r *lifecycle.Reconciler[*v1alpha1.PBXIntegration], p *v1alpha1.PBXIntegration) {
	GinkgoHelper()
	for range 10 {
		Expect(pass(ctx, r, p)).To(Succeed())
		Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
		Expect(lifecycletest.Check(p)).To(BeEmpty())
		if lifecycle.IsReady(p) {
			return
		}
		collect(ctx, p)
		rollOut(ctx, p)
	}
	Fail("not Ready: " + message(p, ready))
}

// collect orphans the pods of a StatefulSet as the garbage collector does.
func collect(ctx context.Context, p *v1alpha1.PBXIntegration) {
	GinkgoHelper()
	var set appsv1.StatefulSet
	if err := api.Get(ctx, receiverKey(p), &set); apierrors.IsNotFound(err) || err == nil && set.DeletionTimestamp.IsZero() {
		return
	}
	set.Finalizers = nil
	Expect(api.Update(ctx, &set)).To(Succeed())
	Expect(pass(ctx, controllerOn(api), p)).To(Succeed())
}

func started(ctx context.Context, change ...func(*v1alpha1.PBXIntegration)) *v1alpha1.PBXIntegration {
	GinkgoHelper()
	p := newIntegration(newNamespace(ctx), change...)
	p.Labels = map[string]string{byHand: "yes"}
	Expect(api.Create(ctx, credentials(p.Namespace))).To(Succeed())
	nats := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: "nats"}, Data: map[string][]byte{"creds": []byte("x")}}
	Expect(api.Create(ctx, nats)).To(Succeed())
	Expect(api.Create(ctx, p)).To(Succeed())
	return p
}

var errKilled = errors.New("the manager was killed")

// firstPass is how many writes the first pass over a new integration makes: finalizer, key ring,
// certificates, seven objects, status.
const firstPass = 11

// process is a client that makes so many writes. With the next one it dies: either before or after
// the API server has done it.
type process struct {
	client.Client
	writes      int
	after, dead bool
}

func (p *process) write(do func() error) error {
	if p.dead {
		return errKilled
	}
	if p.writes > 0 {
		p.writes--
		return do()
	}
	p.dead = true
	if p.after {
		Expect(do()).To(Succeed())
	}
	return errKilled
}

func mortal(writes int, after bool) *process {
	GinkgoHelper()
	inner, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	p := &process{writes: writes, after: after}
	die := p.write
	p.Client = interceptor.NewClient(inner, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return die(func() error { return c.Create(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return die(func() error { return c.Update(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return die(func() error { return c.Patch(ctx, o, p, opts...) })
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			return die(func() error { return c.Apply(ctx, o, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return die(func() error { return c.Delete(ctx, o, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return die(func() error { return c.SubResource(sub).Patch(ctx, o, p, opts...) })
		},
	})
	return p
}

// portrait is everything that an integration consists of, without what differs from one object to
// the next.
func portrait(ctx context.Context, p *v1alpha1.PBXIntegration) map[string]any {
	GinkgoHelper()
	picture := map[string]any{"status": conditionsOf(p), "keys": p.Status.KeyGeneration}
	for _, list := range kinds() {
		Expect(api.List(ctx, list, client.InNamespace(p.Namespace))).To(Succeed())
		Expect(meta.EachListItem(list, func(item runtime.Object) error {
			fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(item)
			object := unstructured.Unstructured{Object: fields}
			unstructured.RemoveNestedField(fields, "spec", "clusterIP")
			unstructured.RemoveNestedField(fields, "spec", "clusterIPs")
			unstructured.RemoveNestedField(fields, "subjects") // holds the namespace
			unstructured.RemoveNestedField(fields, "metadata", "annotations", "pbx-operator.io/generation")
			picture[fmt.Sprintf("%T %s", item, object.GetName())] = map[string]any{
				"labels": object.GetLabels(), "annotations": object.GetAnnotations(), "owners": len(object.GetOwnerReferences()),
				"spec": fields["spec"], "rules": fields["rules"], "roleRef": fields["roleRef"], "automount": fields["automountServiceAccountToken"],
			}
			return err
		})).To(Succeed())
	}
	return picture
}

func conditionsOf(p *v1alpha1.PBXIntegration) map[string]string {
	conditions := map[string]string{}
	for _, condition := range p.Status.Conditions {
		conditions[condition.Type] = string(condition.Status) + " " + condition.Reason + " " + condition.Message
	}
	return conditions
}

var _ = Describe("Whatever happens to the manager", func() {
	It("ends in the same state when it dies at any write of a deployment", func(ctx SpecContext) {
		reference := started(ctx)
		converge(ctx, controllerOn(api), reference)
		want := portrait(ctx, reference)

		for writes, alive := 0, false; !alive; writes++ {
			for _, after := range []bool{false, true} {
				p := started(ctx)
				process := mortal(writes, after)
				alive = pass(ctx, controllerOn(process), p) == nil && !process.dead
				converge(ctx, controllerOn(api), p)
				Expect(portrait(ctx, p)).To(BeComparableTo(want), "died at write %d, after it: %v", writes+1, after)
			}
			Expect(alive).To(Equal(writes >= firstPass), "dying at write %d", writes+1)
		}
	})

	It("changes nothing when it starts again", func(ctx SpecContext) {
		p := started(ctx)
		converge(ctx, controllerOn(api), p)
		versions := resourceVersions(ctx, p.Namespace)
		Expect(pass(ctx, controllerOn(api), p)).To(Succeed())
		Expect(resourceVersions(ctx, p.Namespace)).To(Equal(versions))
		version := p.ResourceVersion
		Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
		Expect(p.ResourceVersion).To(Equal(version))
	})

	It("rotates a key once when it dies at any write of a rotation", func(ctx SpecContext) {
		for writes := range 3 {
			for _, after := range []bool{false, true} {
				p := started(ctx)
				converge(ctx, controllerOn(api), p)
				edit(ctx, p, func(p *v1alpha1.PBXIntegration) {
					metav1.SetMetaDataAnnotation(&p.ObjectMeta, v1alpha1.AnnotationRotateKey, "now")
				})
				_ = pass(ctx, controllerOn(mortal(writes, after)), p)
				converge(ctx, controllerOn(api), p)
				now.advance(keyring.Announce)
				Expect(pass(ctx, controllerOn(api), p)).To(Succeed())
				Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
				Expect(keys(ctx, p).Current().Generation).To(BeEquivalentTo(2), "died at write %d, after it: %v", writes+1, after)
				Expect(p.Status.KeyGeneration).To(BeEquivalentTo(2))
			}
		}
	})

	It("makes a later key when the Secret was lost while it was away", func(ctx SpecContext) {
		p := started(ctx)
		converge(ctx, controllerOn(api), p)
		before := keys(ctx, p)
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name + "-event-url-keys"}}
		Expect(api.Delete(ctx, secret)).To(Succeed())
		converge(ctx, controllerOn(api), p)
		Expect(pass(ctx, controllerOn(api), p)).To(Succeed())
		Expect(keys(ctx, p).Current().Generation).To(BeEquivalentTo(2))
		Expect(keys(ctx, p).Current().Token(eventurl.Account("x"))).NotTo(Equal(before.Current().Token(eventurl.Account("x"))))
	})
})

// edits of the spec that a user may make one after the other, except those that the schema forbids.
func edits() []func(*v1alpha1.Receiver) {
	return []func(*v1alpha1.Receiver){
		func(r *v1alpha1.Receiver) { r.PublicURL = "https://calls.example.com/pbx" },
		func(r *v1alpha1.Receiver) { r.PublicURL = "https://other.example.org" },
		func(r *v1alpha1.Receiver) { r.Exposure = v1alpha1.Exposure{} },
		func(r *v1alpha1.Receiver) { r.Exposure = v1alpha1.Exposure{Ingress: &v1alpha1.IngressExposure{}} },
		func(r *v1alpha1.Receiver) {
			class := "nginx"
			r.Exposure = v1alpha1.Exposure{Ingress: &v1alpha1.IngressExposure{ClassName: &class, TLS: &v1alpha1.IngressTLS{SecretName: "tls"}}}
		},
		func(r *v1alpha1.Receiver) { r.AllowedSources = nil },
		func(r *v1alpha1.Receiver) { r.AllowedSources = []string{"192.0.2.0/24", "198.51.100.0/24"} },
		func(r *v1alpha1.Receiver) { r.AllowedSources = []string{"203.0.113.0/24"} },
		func(r *v1alpha1.Receiver) { r.Replicas = 1 },
		func(r *v1alpha1.Receiver) { r.Replicas = 3 },
		func(r *v1alpha1.Receiver) {
			r.Journal.NATS.CredentialsSecretRef = &v1alpha1.SecretReference{Name: "nats"}
		},
		func(r *v1alpha1.Receiver) { r.Journal.NATS.CredentialsSecretRef = nil },
		func(r *v1alpha1.Receiver) { r.Journal.NATS.URL = "tls://nats.example.com:5222" },
		func(r *v1alpha1.Receiver) { r.Template = v1alpha1.ReceiverTemplate{} },
		func(r *v1alpha1.Receiver) { r.Template.Labels = map[string]string{"team": "voice", "tier": "1"} },
		func(r *v1alpha1.Receiver) { r.Template.Labels = map[string]string{"team": "data"} },
		func(r *v1alpha1.Receiver) { r.Template.Annotations = map[string]string{"note": "yes"} },
		func(r *v1alpha1.Receiver) { r.Template.NodeSelector = map[string]string{"disk": "fast"} },
		func(r *v1alpha1.Receiver) {
			r.Template.Tolerations = []corev1.Toleration{{Key: "voice", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}
		},
		func(r *v1alpha1.Receiver) {
			r.Template.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
					TopologyKey: "zone", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
				}},
			}}
		},
		func(r *v1alpha1.Receiver) { r.Template.PriorityClassName = "system-cluster-critical" },
		func(r *v1alpha1.Receiver) {
			r.Template.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}}
		},
		func(r *v1alpha1.Receiver) {
			r.Template.Resources = corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: *quantity("128Mi")}}
		},
		func(r *v1alpha1.Receiver) {
			if r.Storage.Size.Cmp(*quantity("2Gi")) < 0 {
				r.Storage.Size = *quantity("2Gi")
			}
		},
	}
}

var _ = Describe("A chain of edits", func() {
	It("ends where a fresh deployment of the last spec does", func(ctx SpecContext) {
		random := rand.New(rand.NewPCG(uint64(GinkgoRandomSeed()), 1))
		external := func(p *v1alpha1.PBXIntegration) {
			p.Spec.Receiver.Journal.NATS = &v1alpha1.NATSJournal{URL: "nats://nats.example.com"}
		}
		edited := started(ctx, external)
		controller := controllerOn(api)
		converge(ctx, controller, edited)
		for round := range 8 {
			for range 1 + random.IntN(4) {
				change := edits()[random.IntN(len(edits()))]
				edit(ctx, edited, func(p *v1alpha1.PBXIntegration) { change(&p.Spec.Receiver) })
				if random.IntN(2) == 0 {
					converge(ctx, controller, edited)
				}
			}
			converge(ctx, controller, edited)
			fresh := started(ctx, func(p *v1alpha1.PBXIntegration) { p.Spec = *edited.Spec.DeepCopy() })
			converge(ctx, controllerOn(api), fresh)
			Expect(portrait(ctx, edited)).To(BeComparableTo(portrait(ctx, fresh)), "round %d with seed %d", round, GinkgoRandomSeed())
		}
	})
})

func quantity(text string) *resource.Quantity {
	parsed := resource.MustParse(text)
	return &parsed
}

// dead is a way to a PBX on which every connection breaks, each time with another port of ours, at
// another time, and in another manner.
type dead struct{ attempts atomic.Int64 }

func (d *dead) RoundTrip(*http.Request) (*http.Response, error) {
	n := int(d.attempts.Add(1))
	address := func(port int) *net.TCPAddr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port} }
	return nil, &net.OpError{
		Op: "read", Net: "tcp", Source: address(40000 + n), Addr: address(443), Err: fmt.Errorf("broken at %s, request id: %d", time.Now(), n),
	}
}

var _ = Describe("A dead PBX", func() {
	It("costs one write of the status, however often it is looked at", func(ctx SpecContext) {
		p := started(ctx)
		way := &dead{}
		pool := pbxapi.NewPool(map[v1alpha1.PBXType]pbxapi.Factory{v1alpha1.PBXTypeRingMe: ringme.New}, pbxapi.Options{
			Transport: way, Pause: time.Millisecond,
		})
		controller := integration.New(integration.Config{
			Client: api, Live: api, Secrets: secrets.NewReader(api, api, now), PBXes: pooled{pool}, Workload: workload.Settings{Image: receiverImage},
			Recorder: &events.FakeRecorder{}, Clock: now, Interval: time.Hour,
		}).Reconciler()
		_ = pass(ctx, controller, p)
		rollOut(ctx, p)
		for range 2 {
			_ = pass(ctx, controller, p)
		}
		Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
		Expect(lifecycle.Ready(p).Reason).To(Equal(v1alpha1.ReasonPBXUnreachable))
		version := p.ResourceVersion
		for range 20 {
			now.advance(time.Minute)
			_ = pass(ctx, controller, p)
		}
		Expect(way.attempts.Load()).To(BeNumerically(">", 10), "the PBX must be asked, or this proves nothing")
		Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
		Expect(p.ResourceVersion).To(Equal(version), message(p, ready))
	})
})

// pooled are real clients.
type pooled struct{ *pbxapi.Pool }

func (p pooled) For(of *v1alpha1.PBXIntegration, credentials map[string][]byte) (integration.PBX, error) {
	return p.Client(of, credentials)
}

var _ = Describe("A condition that somebody else applies", func() {
	It("stays theirs: we neither drop it nor hold on to it", func(ctx SpecContext) {
		p := started(ctx)
		controller := controllerOn(api)
		converge(ctx, controller, p)
		apply := func(conditions ...any) {
			GinkgoHelper()
			status := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": v1alpha1.GroupVersion.String(), "kind": "PBXIntegration",
				"metadata": map[string]any{"name": p.Name, "namespace": p.Namespace},
				"status":   map[string]any{"conditions": conditions},
			}}
			Expect(api.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(status), client.FieldOwner("receiver"))).To(Succeed())
			Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
		}
		apply(map[string]any{
			"type": v1alpha1.ConditionDegraded, "status": "True", "reason": v1alpha1.ReasonCallsParked, "message": "one call is parked",
			"lastTransitionTime": "2026-11-29T10:00:00Z", "observedGeneration": int64(1),
		})
		for _, answer := range []error{pbxapi.NewError(pbxapi.ErrUnreachable, "check", "down"), nil} {
			pbx.answer(p, func(map[string][]byte) error { return answer })
			now.advance(time.Hour)
			_ = pass(ctx, controller, p)
			Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
			Expect(lifecycle.IsReady(p)).To(Equal(answer == nil))
			Expect(meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionDegraded)).To(BeTrue())
		}
		apply()
		Expect(meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionDegraded)).To(BeNil())
		Expect(meta.FindStatusCondition(p.Status.Conditions, ready)).NotTo(BeNil())
	})
})
