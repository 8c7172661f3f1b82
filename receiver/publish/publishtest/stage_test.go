package publishtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/publish"
)

var errNoAssets = errors.New("KUBEBUILDER_ASSETS must name the directory with etcd and kube-apiserver: run `make test`, or set it to the " +
	"output of `go run . envtest` in hack/cluster")

// server is etcd and kube-apiserver with the CRDs of this project.
type server struct {
	environment *envtest.Environment
	admin       client.Client
	// receiver may do what a receiver's Role allows, and nothing else.
	receiver *rest.Config
}

func startServer(ctx context.Context) (*server, error) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return nil, errNoAssets
	}
	if err := v1alpha1.AddToScheme(scheme.Scheme); err != nil {
		return nil, err
	}
	s := &server{environment: &envtest.Environment{CRDDirectoryPaths: []string{"../../../config/crd/bases"}, ErrorIfCRDPathMissing: true}}
	config, err := s.environment.Start()
	if err != nil {
		return nil, fmt.Errorf("cannot start the API server: %w", err)
	}
	config.QPS = -1
	if s.admin, err = client.New(config, client.Options{}); err != nil {
		return nil, err
	}
	user, err := s.environment.AddUser(envtest.User{Name: "receiver"}, nil)
	if err != nil {
		return nil, err
	}
	s.receiver = user.Config()
	s.receiver.QPS = -1
	return s, s.allow(ctx, "receiver")
}

// rules are all the permissions that publication needs, in the namespace of the integration.
func rules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"calllegs"}, Verbs: []string{"get", "list", "create", "update", "delete"}},
		{APIGroups: []string{"events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create"}},
	}
}

// allow gives a user these permissions.
func (s *server) allow(ctx context.Context, user string) error {
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: rules()}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
	}
	return errors.Join(s.admin.Create(ctx, role), s.admin.Create(ctx, binding))
}

// wire counts the requests of one receiver and breaks on demand.
type wire struct {
	next  http.RoundTripper
	fault atomic.Pointer[func(*http.Request) (*http.Response, error)]
	mu    sync.Mutex
	sent  map[string]int
}

func (w *wire) RoundTrip(request *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.sent[request.Method+" "+resourceOf(request.URL.Path)]++
	w.mu.Unlock()
	if fault := w.fault.Load(); fault != nil {
		if response, err := (*fault)(request); response != nil || err != nil {
			return response, err
		}
	}
	return w.next.RoundTrip(request)
}

func resourceOf(path string) string {
	for _, resource := range []string{"calllegs", "events"} {
		if strings.Contains(path, "/"+resource) {
			return resource
		}
	}
	return "other"
}

// requests is how many were sent, such as "POST calllegs".
func (w *wire) requests(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent[what]
}

// stage is one receiver that publishes the legs of one integration.
type stage struct {
	wire      *wire
	namespace string
	pbx       *v1alpha1.PBXIntegration
	policy    atomic.Pointer[publish.Policy]
	metrics   *prometheus.Registry
	batches   chan []publish.Record
	settled   atomic.Int64
	stop      func() error
}

func newStage(ctx context.Context, s *server, callLegs v1alpha1.CallLegs) (*stage, error) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "telephony-"}}
	if err := s.admin.Create(ctx, namespace); err != nil {
		return nil, err
	}
	pbx := &v1alpha1.PBXIntegration{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "head-office"}}
	pbx.Spec.PBX = v1alpha1.PBX{Type: v1alpha1.PBXTypeRingMe, RingMe: &v1alpha1.RingMe{
		URL: "https://pbx.example.com", CredentialsSecretRef: v1alpha1.SecretReference{Name: "head-office-pbx"},
	}}
	pbx.Spec.Receiver.PublicURL = "https://calls.example.com"
	pbx.Spec.CallLegs = callLegs
	if err := s.admin.Create(ctx, pbx); err != nil {
		return nil, err
	}
	st := &stage{
		wire: &wire{sent: map[string]int{}}, namespace: namespace.Name, pbx: pbx, metrics: prometheus.NewRegistry(), batches: make(chan []publish.Record),
	}
	policy := publish.PolicyOf(pbx)
	st.policy.Store(&policy)
	return st, nil
}

// start runs a publisher. A second one after stop is a restart.
func (st *stage) start(ctx context.Context, s *server, place func(string) (publish.Reference, bool)) error {
	known, err := publish.NewScheme()
	if err != nil {
		return err
	}
	config := rest.CopyConfig(s.receiver)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { st.wire.next = next; return st.wire })
	kube, err := client.New(config, client.Options{Scheme: known})
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	st.metrics = registry
	integration := types.NamespacedName{Namespace: st.namespace, Name: st.pbx.Name}
	policy := func() (publish.Policy, bool) { return *st.policy.Load(), true }
	logger := slog.New(slog.DiscardHandler)
	publisher := publish.New(publish.Config{
		Client: kube, Integration: integration, Policy: policy, Place: place, Legs: st, Registerer: registry, Logger: logger,
		Notices: publish.NewNotices(publish.NoticesConfig{
			Client: kube, Integration: integration, Policy: policy, Instance: "head-office-0", Registerer: registry, Logger: logger,
		}),
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- publisher.Run(ctx) }()
	st.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	return nil
}

// FollowLegs implements publish.Legs.
func (st *stage) FollowLegs(ctx context.Context, handle func([]publish.Record, func())) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case batch := <-st.batches:
			handle(batch, func() { st.settled.Add(int64(len(batch))) })
		}
	}
}

// deliver puts legs into the log, in batches.
func (st *stage) deliver(legs ...correlation.Leg) {
	const batchSize = 256
	for len(legs) > 0 {
		n := min(len(legs), batchSize)
		batch := make([]publish.Record, n)
		for i, leg := range legs[:n] {
			batch[i] = publish.Record{Leg: leg, Received: time.Now()}
		}
		st.batches <- batch
		legs = legs[n:]
	}
}

// shown are the CallLegs on the API server, by leg id.
func (st *stage) shown(ctx context.Context, s *server) (map[string]v1alpha1.CallLeg, error) {
	var list v1alpha1.CallLegList
	if err := s.admin.List(ctx, &list, client.InNamespace(st.namespace)); err != nil {
		return nil, err
	}
	found := make(map[string]v1alpha1.CallLeg, len(list.Items))
	for _, leg := range list.Items {
		found[leg.Status.LegID] = leg
	}
	return found, nil
}

// finished is a leg as it stands in the log after an ordinary call.
func finished(id string) correlation.Leg {
	begun := time.Now().Add(-65 * time.Second)
	leg := correlation.Leg{
		CallID: "call-" + id, LegID: id, Kind: correlation.Extension, Direction: correlation.Inbound, From: "+12025550143", To: "1234*101",
		DID: "12025550100", Extension: "1234*101", User: "ann", Phase: correlation.Completed, Result: correlation.Answered, Logged: true,
		Start: begun, Answer: begun.Add(5 * time.Second), End: begun.Add(65 * time.Second), Talk: time.Minute, Revision: 3,
	}
	leg.Events = []correlation.LegEvent{
		{Type: callevent.DialIn, Time: leg.Start}, {Type: callevent.Answer, Time: leg.Answer},
		{Type: callevent.Hangup, Time: leg.End, Status: "ANSWER"},
	}
	return leg
}
