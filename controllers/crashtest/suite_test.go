package crashtest_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/format"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/backfill"
	"github.com/pbx-operator/pbx-operator/controllers/crashtest"
	"github.com/pbx-operator/pbx-operator/controllers/discovery"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/ringme"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
)

var (
	restConfig *rest.Config
	kube       client.Client
)

func TestCrashes(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(30 * time.Second)
	SetDefaultEventuallyPollingInterval(10 * time.Millisecond)
	format.MaxLength = 0
	RunSpecs(t, "Crashes of discovery and backfill")
}

var _ = BeforeSuite(func() {
	Expect(os.Getenv("KUBEBUILDER_ASSETS")).NotTo(BeEmpty(), "KUBEBUILDER_ASSETS must name the directory with etcd and kube-apiserver")
	ctrl.SetLogger(zap.New(zap.WriteTo(GinkgoWriter)))
	Expect(v1alpha1.AddToScheme(scheme.Scheme)).To(Succeed())
	cluster := &envtest.Environment{CRDDirectoryPaths: []string{"../../config/crd/bases"}, ErrorIfCRDPathMissing: true}
	var err error
	restConfig, err = cluster.Start()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(cluster.Stop)
	kube, err = client.New(restConfig, client.Options{})
	Expect(err).NotTo(HaveOccurred())
})

// clock is the real one, put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) Now() time.Time                  { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }
func (c *clock) forward(by time.Duration)        { c.ahead.Add(int64(by)) }

// site is a namespace with an integration, a PBX and a receiver of its own.
type site struct {
	namespace string
	pbx       *simtest.PBX
	receiver  *receiver
	clock     clock
}

func newSite(ctx context.Context, change ...func(*v1alpha1.PBXIntegration)) *site {
	GinkgoHelper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "site-"}}
	Expect(kube.Create(ctx, namespace)).To(Succeed())
	s := &site{namespace: namespace.Name, pbx: simtest.Start(GinkgoT(), sim.DefaultConfig())}
	integration := &v1alpha1.PBXIntegration{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "office"},
		Spec: v1alpha1.PBXIntegrationSpec{
			PBX: v1alpha1.PBX{Type: v1alpha1.PBXTypeRingMe, RingMe: &v1alpha1.RingMe{
				URL: s.pbx.URL, CredentialsSecretRef: v1alpha1.SecretReference{Name: "pbx"}, RequestsPerMinute: 60000,
			}},
			Receiver: v1alpha1.Receiver{PublicURL: "https://calls.example.com"},
		},
	}
	for _, c := range change {
		c(integration)
	}
	Expect(kube.Create(ctx, integration)).To(Succeed())
	s.receiver = newReceiver()
	s.report(ctx, func(p *v1alpha1.PBXIntegration) { // an API server keeps the status of which the last field is taken away
		lifecycle.SetCondition(p, time.Now(), v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReconciled, "of another controller")
	})
	return s
}

func (s *site) integration(ctx context.Context, g Gomega) *v1alpha1.PBXIntegration {
	p := &v1alpha1.PBXIntegration{}
	g.Expect(kube.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: "office"}, p)).To(Succeed())
	return p
}

// edit changes the integration as a user does.
func (s *site) edit(ctx context.Context, change func(*v1alpha1.PBXIntegration)) {
	GinkgoHelper()
	p := s.integration(ctx, Default)
	before := p.DeepCopy()
	change(p)
	Expect(kube.Patch(ctx, p, client.MergeFrom(before))).To(Succeed())
}

// report changes the status as another controller does.
func (s *site) report(ctx context.Context, change func(*v1alpha1.PBXIntegration)) {
	GinkgoHelper()
	p := s.integration(ctx, Default)
	before := p.DeepCopy()
	change(p)
	Expect(kube.Status().Patch(ctx, p, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))).To(Succeed())
}

// poke asks for a pass.
func (s *site) poke(ctx context.Context) {
	GinkgoHelper()
	s.edit(ctx, func(p *v1alpha1.PBXIntegration) {
		metav1.SetMetaDataAnnotation(&p.ObjectMeta, v1alpha1.AnnotationReconcile, fmt.Sprint(s.clock.Now().UnixNano()))
	})
}

// operator is a running manager with both controllers.
type operator struct {
	cancel  context.CancelFunc
	stopped chan struct{}
}

func (o *operator) stop() {
	o.cancel()
	<-o.stopped
}

// start runs an operator until the end of the test.
func (s *site) start(ctx context.Context, fuse *crashtest.Fuse) *operator {
	GinkgoHelper()
	skip, grace := true, time.Duration(0)
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{
		Metrics:                 server.Options{BindAddress: "0"},
		Controller:              config.Controller{SkipNameValidation: &skip},
		Cache:                   cache.Options{DefaultNamespaces: map[string]cache.Config{s.namespace: {}}},
		NewClient:               fuse.Client,
		GracefulShutdownTimeout: &grace,
	})
	Expect(err).NotTo(HaveOccurred())
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	op := &operator{cancel: cancel, stopped: make(chan struct{})}
	Expect(lifecycle.IndexMappings(ctx, mgr.GetFieldIndexer())).To(Succeed())
	s.addControllers(mgr, fuse)
	DeferCleanup(op.stop)
	go func() {
		defer close(op.stopped)
		_ = mgr.Start(ctx)
	}()
	return op
}

func (s *site) addControllers(mgr ctrl.Manager, fuse *crashtest.Fuse) {
	GinkgoHelper()
	pool := pbxapi.NewPool(
		map[v1alpha1.PBXType]pbxapi.Factory{v1alpha1.PBXTypeRingMe: ringme.New}, pbxapi.Options{Transport: smallPages{fuse}})
	pbx := func(p *v1alpha1.PBXIntegration) (*pbxapi.Client, error) {
		return pool.Client(p, map[string][]byte{"clientID": []byte(s.pbx.ClientID), "clientSecret": []byte(s.pbx.ClientSecret)})
	}
	Expect(discovery.SetupWithManager(mgr, discovery.Options{
		Connect:  func(_ context.Context, p *v1alpha1.PBXIntegration) (pbxapi.ExtensionPager, error) { return pbx(p) },
		Coalesce: 10 * time.Millisecond, Clock: &s.clock,
	})).To(Succeed())
	Expect(backfill.SetupWithManager(mgr, backfill.Options{
		Connect:  func(_ context.Context, p *v1alpha1.PBXIntegration) (pbxapi.Historian, error) { return pbx(p) },
		Receiver: s.receiver.sender(fuse), Clock: &s.clock,
	})).To(Succeed())
}

// smallPages is the way to a PBX that shows two items at a time.
type smallPages struct{ http.RoundTripper }

func (p smallPages) RoundTrip(request *http.Request) (*http.Response, error) {
	if query := request.URL.Query(); query.Has("per_page") {
		request = request.Clone(request.Context())
		query.Set("per_page", "2")
		request.URL.RawQuery = query.Encode()
	}
	return p.RoundTripper.RoundTrip(request)
}

// scenario is something that happens, with what has to be there before and what has to come of it.
type scenario struct {
	change  func(*v1alpha1.PBXIntegration)
	prepare func(context.Context, *site)
	act     func(context.Context, *site)
	settle  func(context.Context, *site)
	// drive lets time pass, where something is done only then.
	drive   func(context.Context, *site)
	outcome func(context.Context, *site) string
}

// run lets it happen with an operator that is killed after some of its writes, and lets another one
// finish. A negative number kills nobody. It returns the outcome and how many writes there were.
func (c scenario) run(ctx context.Context, kill int) (outcome string, writes int) {
	GinkgoHelper()
	s := newSite(ctx, c.change)
	if c.prepare != nil {
		first := s.start(ctx, crashtest.NewFuse(-1))
		c.prepare(ctx, s)
		first.stop()
	}
	fuse := crashtest.NewFuse(kill)
	doomed := s.start(ctx, fuse)
	c.act(ctx, s)
	if kill > 0 {
		Eventually(func() <-chan struct{} {
			if c.drive != nil {
				c.drive(ctx, s)
			}
			return fuse.Killed()
		}, "30s", "300ms").Should(BeClosed())
	} else {
		c.settle(ctx, s)
	}
	doomed.stop()
	s.start(ctx, crashtest.NewFuse(-1))
	c.settle(ctx, s)
	return c.outcome(ctx, s), kill - fuse.Left()
}

// survives kills an operator after each of its writes.
func survives(ctx SpecContext, c scenario) {
	GinkgoHelper()
	undisturbed, writes := c.run(ctx, -1)
	Expect(writes).To(BeNumerically(">", 1))
	for n := 1; n <= writes; n++ {
		outcome, _ := c.run(ctx, n)
		Expect(outcome).To(Equal(undisturbed), "killed after write %d of %d", n, writes)
	}
}
