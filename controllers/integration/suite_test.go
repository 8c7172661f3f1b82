package integration_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/ringme"
	"github.com/pbx-operator/pbx-operator/controllers/secrets"
)

func TestIntegration(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(15 * time.Second)
	SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	RunSpecs(t, "PBXIntegration controller")
}

const receiverImage = "example.com/receiver:test"

var (
	api    client.Client
	scheme = runtime.NewScheme()
	config *rest.Config // of the manager
	pbx    = &exchange{
		answers: map[types.UID]func(map[string][]byte) error{}, asked: map[types.UID]int{},
		simulated: pbxapi.NewPool(
			map[v1alpha1.PBXType]pbxapi.Factory{v1alpha1.PBXTypeRingMe: ringme.New}, pbxapi.Options{Pause: 50 * time.Millisecond}),
	}
	writes = &ledger{count: map[string]int{}}
	now    = &shiftedClock{}
)

var _ = BeforeSuite(func() {
	ctrl.SetLogger(zap.New(zap.WriteTo(GinkgoWriter), zap.UseDevMode(true)))
	Expect(clientgoscheme.AddToScheme(scheme)).To(Succeed())
	Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
	Expect(apiextensionsv1.AddToScheme(scheme)).To(Succeed())

	environment := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd", "bases")},
		ErrorIfCRDPathMissing: true,
		Scheme:                scheme,
	}
	admin, err := environment.Start()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(environment.Stop)
	api, err = client.New(admin, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	config = managerConfig(environment, admin)

	ctx, stop := context.WithCancel(context.Background())
	stopped := startManager(ctx)
	DeferCleanup(func() {
		stop()
		Eventually(stopped).Should(BeClosed())
	})
})

// managerConfig is for a user with the permissions of the manager and no others.
func managerConfig(environment *envtest.Environment, admin *rest.Config) *rest.Config {
	GinkgoHelper()
	manifest, err := os.ReadFile(filepath.Join("..", "..", "config", "rbac", "role.yaml"))
	Expect(err).NotTo(HaveOccurred())
	var role rbacv1.ClusterRole
	Expect(yaml.UnmarshalStrict(manifest, &role)).To(Succeed())
	Expect(api.Create(context.Background(), &role)).To(Succeed())
	Expect(api.Create(context.Background(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "manager"}},
	})).To(Succeed())
	user, err := environment.AddUser(envtest.User{Name: "manager"}, admin)
	Expect(err).NotTo(HaveOccurred())
	return user.Config()
}

func startManager(ctx context.Context) <-chan struct{} {
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:    scheme,
		Metrics:   server.Options{BindAddress: "0"},
		NewClient: countingClient,
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.PBXIntegration{}: {Label: except(byHand)},
			&corev1.Service{}:          {Label: labels.SelectorFromSet(labels.Set{workload.LabelManagedBy: workload.ManagedBy})},
		}},
	})
	Expect(err).NotTo(HaveOccurred())
	Expect(lifecycle.IndexMappings(ctx, mgr.GetFieldIndexer())).To(Succeed())
	controller := integration.New(integration.Config{
		Client:   mgr.GetClient(),
		Live:     mgr.GetAPIReader(),
		Secrets:  secrets.NewReader(mgr.GetClient(), mgr.GetAPIReader(), now),
		PBXes:    pbx,
		Workload: workload.Settings{Image: receiverImage},
		Recorder: mgr.GetEventRecorder("pbx-integration"),
		Clock:    now,
		Interval: time.Hour,
		Coalesce: 20 * time.Millisecond,

		BundleInterval: 50 * time.Millisecond,
		Concurrency:    4,
	})
	Expect(controller.SetupWithManager(ctx, mgr)).To(Succeed())
	stopped := make(chan struct{})
	go func() {
		defer GinkgoRecover()
		defer close(stopped)
		Expect(mgr.Start(ctx)).To(Succeed())
	}()
	return stopped
}

// except selects the objects without a label.
func except(label string) labels.Selector {
	GinkgoHelper()
	selector, err := labels.Parse("!" + label)
	Expect(err).NotTo(HaveOccurred())
	return selector
}

// exchange stands for all PBXs, but those that a simulator plays.
type exchange struct {
	mu        sync.Mutex
	answers   map[types.UID]func(credentials map[string][]byte) error
	asked     map[types.UID]int
	simulated *pbxapi.Pool
}

func (e *exchange) For(p *v1alpha1.PBXIntegration, credentials map[string][]byte) (integration.PBX, error) {
	if ringMe := p.Spec.PBX.RingMe; ringMe != nil && strings.HasPrefix(ringMe.URL, "http://127.0.0.1:") {
		return e.simulated.Client(p, credentials)
	}
	return asking{exchange: e, uid: p.UID, credentials: credentials}, nil
}

func (e *exchange) Forget(uid types.UID) {
	e.simulated.Forget(uid)
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.answers, uid)
}

// answer sets what the PBX of an integration says from now on.
func (e *exchange) answer(p *v1alpha1.PBXIntegration, with func(credentials map[string][]byte) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answers[p.UID] = with
}

// questions is how often the PBX of an integration was asked.
func (e *exchange) questions(p *v1alpha1.PBXIntegration) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked[p.UID]
}

type asking struct {
	integration.Registrar // there is none
	exchange              *exchange
	uid                   types.UID
	credentials           map[string][]byte
}

func (a asking) Check(context.Context) error {
	a.exchange.mu.Lock()
	defer a.exchange.mu.Unlock()
	a.exchange.asked[a.uid]++
	if answer := a.exchange.answers[a.uid]; answer != nil {
		return answer(a.credentials)
	}
	return nil
}

// shiftedClock is the real one, set forward.
type shiftedClock struct{ ahead atomic.Int64 }

func (c *shiftedClock) Now() time.Time                  { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *shiftedClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// advance sets the clock forward until the end of the spec.
func (c *shiftedClock) advance(by time.Duration) {
	c.ahead.Add(int64(by))
	DeferCleanup(func() { c.ahead.Store(0) })
}

// ledger counts write requests by namespace.
type ledger struct {
	mu    sync.Mutex
	count map[string]int
}

func (l *ledger) add(namespace string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count[namespace]++
}

func (l *ledger) in(namespace string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[namespace]
}

func countingClient(config *rest.Config, options client.Options) (client.Client, error) {
	inner, err := client.NewWithWatch(config, options)
	if err != nil {
		return nil, err
	}
	return interceptor.NewClient(inner, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			writes.add(obj.GetNamespace())
			return c.Create(ctx, obj, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			writes.add(obj.GetNamespace())
			return c.Update(ctx, obj, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			writes.add(obj.GetNamespace())
			return c.Patch(ctx, obj, patch, opts...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			writes.add(namespaceOf(obj))
			return c.Apply(ctx, obj, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			writes.add(obj.GetNamespace())
			return c.Delete(ctx, obj, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			writes.add(obj.GetNamespace())
			return c.SubResource(sub).Patch(ctx, obj, patch, opts...)
		},
	}), nil
}

func namespaceOf(applied runtime.ApplyConfiguration) string {
	if object, ok := applied.(interface{ GetNamespace() *string }); ok && object.GetNamespace() != nil {
		return *object.GetNamespace()
	}
	if object, ok := applied.(interface{ GetNamespace() string }); ok {
		return object.GetNamespace()
	}
	return ""
}

// rollOut does the work of the controllers of StatefulSets and Deployments, which envtest has not.
func rollOut(ctx context.Context, p *v1alpha1.PBXIntegration) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		if workload.Stateless(p) {
			var deployment appsv1.Deployment
			g.Expect(api.Get(ctx, receiverKey(p), &deployment)).To(Succeed())
			count := *deployment.Spec.Replicas
			deployment.Status = appsv1.DeploymentStatus{
				ObservedGeneration: deployment.Generation, Replicas: count, ReadyReplicas: count, UpdatedReplicas: count, AvailableReplicas: count,
			}
			g.Expect(api.Status().Update(ctx, &deployment)).To(Succeed())
			return
		}
		var set appsv1.StatefulSet
		g.Expect(api.Get(ctx, receiverKey(p), &set)).To(Succeed())
		observe(ctx, g, &set)
	}).Should(Succeed())
}

// observe has all pods of a StatefulSet ready.
func observe(ctx context.Context, g Gomega, set *appsv1.StatefulSet) {
	count := *set.Spec.Replicas
	set.Status = appsv1.StatefulSetStatus{
		ObservedGeneration: set.Generation, Replicas: count, ReadyReplicas: count, UpdatedReplicas: count, AvailableReplicas: count, CurrentReplicas: count,
	}
	g.Expect(api.Status().Update(ctx, set)).To(Succeed())
}

func receiverKey(p *v1alpha1.PBXIntegration) types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: workload.Name(p.Name)}
}
