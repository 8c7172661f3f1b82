package retention_test

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/retention"
)

var (
	cluster *envtest.Environment
	kube    client.WithWatch
)

func TestRetention(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(30 * time.Second) // the machine may be busy
	RunSpecs(t, "Retention")
}

var _ = BeforeSuite(func() {
	Expect(os.Getenv("KUBEBUILDER_ASSETS")).NotTo(BeEmpty(),
		"KUBEBUILDER_ASSETS must name the directory with etcd and kube-apiserver: run `make test`, or set it to the output of `go run . envtest` in hack/cluster")
	Expect(v1alpha1.AddToScheme(scheme.Scheme)).To(Succeed())
	cluster = &envtest.Environment{CRDDirectoryPaths: []string{"../../config/crd/bases"}, ErrorIfCRDPathMissing: true}
	config, err := cluster.Start()
	Expect(err).NotTo(HaveOccurred())
	config.QPS = -1
	kube, err = client.NewWithWatch(config, client.Options{})
	Expect(err).NotTo(HaveOccurred())
})

var _ = AfterSuite(func() {
	if cluster != nil {
		Expect(cluster.Stop()).To(Succeed())
	}
})

// stage is a running Controller at a time of our own.
type stage struct {
	clock    *testclock.FakeClock
	registry *prometheus.Registry
	mu       sync.Mutex
	requests map[string]int
	away     bool
	stop     func()
}

// noon is when all these tests begin.
var noon = time.Date(2026, 1, 2, 12, 0, 30, 0, time.UTC)

var errAway = context.DeadlineExceeded

func begin(away bool) *stage {
	GinkgoHelper()
	return beginAs(kube, away)
}

func beginAs(user client.WithWatch, away bool, namespaces ...string) *stage {
	GinkgoHelper()
	s := &stage{clock: testclock.NewFakeClock(noon), registry: prometheus.NewRegistry(), requests: map[string]int{}, away: away}
	watched := interceptor.NewClient(user, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			if s.request("list") {
				return errAway
			}
			return c.List(ctx, list, options...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteOption) error {
			s.request("delete")
			return c.Delete(ctx, object, options...)
		},
		DeleteAllOf: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteAllOfOption) error {
			s.request("deletecollection")
			return c.DeleteAllOf(ctx, object, options...)
		},
	})
	controller := retention.New(watched, watched, s.clock, s.registry, namespaces...)
	Expect(controller.NeedLeaderElection()).To(BeTrue())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- controller.Start(ctx) }()
	s.stop = func() {
		GinkgoHelper()
		cancel()
		Expect(<-ended).To(Succeed())
	}
	DeferCleanup(s.stop)
	Eventually(s.passes).Should(BeNumerically(">=", 1))
	return s
}

// limited is a client that may list the legs of one namespace only, as with a Role in place of a
// ClusterRole.
func limited(ctx context.Context, namespace string) client.WithWatch {
	GinkgoHelper()
	user, err := cluster.AddUser(envtest.User{Name: "manager-" + namespace}, nil)
	Expect(err).NotTo(HaveOccurred())
	name := metav1.ObjectMeta{Namespace: namespace, Name: "manager"}
	Expect(kube.Create(ctx, &rbacv1.Role{ObjectMeta: name, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"calllegs"}, Verbs: []string{"list", "deletecollection"},
	}}})).To(Succeed())
	Expect(kube.Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: name, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "manager"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "manager-" + namespace}},
	})).To(Succeed())
	reader, err := client.NewWithWatch(user.Config(), client.Options{})
	Expect(err).NotTo(HaveOccurred())
	return reader
}

// request counts a request and reports whether it fails.
func (s *stage) request(verb string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[verb]++
	return s.away
}

func (s *stage) made(verb string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[verb]
}

func (s *stage) passes() int { return s.made("list") }

// pass lets the clock go on and one pass happen.
func (s *stage) pass(d time.Duration) {
	GinkgoHelper()
	before := s.passes()
	Eventually(s.clock.HasWaiters).Should(BeTrue())
	s.clock.Step(d)
	Eventually(s.passes).Should(BeNumerically(">", before))
}

func (s *stage) deleted() float64 {
	GinkgoHelper()
	families, err := s.registry.Gather()
	Expect(err).NotTo(HaveOccurred())
	Expect(families).To(HaveLen(1))
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

func namespace(ctx context.Context) string {
	GinkgoHelper()
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "telephony-"}}
	Expect(kube.Create(ctx, object)).To(Succeed())
	DeferCleanup(func(ctx context.Context) {
		Expect(kube.DeleteAllOf(ctx, &v1alpha1.CallLeg{}, client.InNamespace(object.Name))).To(Succeed())
	})
	return object.Name
}

// leg makes a CallLeg that expires in the given minute; a live one if that is empty.
func leg(ctx context.Context, namespace, name, expires string) {
	GinkgoHelper()
	object := &v1alpha1.CallLeg{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Status: v1alpha1.CallLegStatus{
		CallID: name, LegID: name, Kind: v1alpha1.LegExtension, Direction: v1alpha1.DirectionInbound, Phase: v1alpha1.PhaseRinging, Revision: 1,
	}}
	if expires != "" {
		object.Labels = map[string]string{v1alpha1.LabelExpires: expires}
	}
	Expect(kube.Create(ctx, object)).To(Succeed())
}

// left are the names of the legs that exist.
func left(ctx context.Context, namespace string) func() []string {
	return func() []string {
		GinkgoHelper()
		var list v1alpha1.CallLegList
		Expect(kube.List(ctx, &list, client.InNamespace(namespace))).To(Succeed())
		names := []string{}
		for _, leg := range list.Items {
			names = append(names, leg.Name)
		}
		return names
	}
}
