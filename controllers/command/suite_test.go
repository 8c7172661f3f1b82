package command_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/format"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/command"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle/lifecycletest"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/linuxbox"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/pbxapitest"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/ringme"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/voipnow"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
)

const (
	customer = "+12025550143"
	// dialRoute is where a RingMe PBX takes dials.
	dialRoute = "POST /extension/{extension}/callback"
)

var (
	cluster    *envtest.Environment
	restConfig *rest.Config
	kube       client.Client
	logs       = &logBook{}
)

func TestCommand(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(30 * time.Second)
	SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	format.MaxLength = 0
	RunSpecs(t, "Command")
}

var _ = BeforeSuite(func() {
	Expect(os.Getenv("KUBEBUILDER_ASSETS")).NotTo(BeEmpty(),
		"KUBEBUILDER_ASSETS must name the directory with etcd and kube-apiserver: run `make test`, or set it to the output of `go run . envtest` in hack/cluster")
	ctrl.SetLogger(funcr.New(logs.write, funcr.Options{Verbosity: 1}))
	Expect(v1alpha1.AddToScheme(scheme.Scheme)).To(Succeed())
	cluster = &envtest.Environment{CRDDirectoryPaths: []string{"../../config/crd/bases"}, ErrorIfCRDPathMissing: true}
	var err error
	restConfig, err = cluster.Start()
	Expect(err).NotTo(HaveOccurred())
	restConfig.QPS = -1
	kube, err = client.New(restConfig, client.Options{})
	Expect(err).NotTo(HaveOccurred())
})

var _ = AfterSuite(func() {
	if restConfig != nil {
		Expect(cluster.Stop()).To(Succeed())
	}
})

// logBook keeps everything that was logged.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBook) write(prefix, args string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(&l.text, prefix, args)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// shifted is the real time, put forward as far as a test wants.
type shifted struct {
	mu sync.Mutex
	by time.Duration
}

func (s *shifted) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.by)
}

func (s *shifted) Since(t time.Time) time.Duration { return s.Now().Sub(t) }

func (s *shifted) forward(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by += by
}

// site is one namespace with an integration and a PBX of its own.
type site struct {
	namespace string
	pbx       *simtest.PBX
	clock     *shifted
	secrets   []string // what must not be seen anywhere
}

// newSite sets up a RingMe PBX, the integration "head-office" and its credentials. At the end of
// the test everything is checked that holds for every test.
func newSite(ctx context.Context, change ...func(*v1alpha1.PBXIntegration)) *site {
	GinkgoHelper()
	return newSiteWith(ctx, sim.Config{}, change...)
}

func newSiteWith(ctx context.Context, pbx sim.Config, change ...func(*v1alpha1.PBXIntegration)) *site {
	GinkgoHelper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "site-"}}
	Expect(kube.Create(ctx, namespace)).To(Succeed())
	s := &site{namespace: namespace.Name, pbx: simtest.Start(GinkgoT(), pbx), clock: &shifted{}}
	s.secrets = append(s.secrets, s.pbx.ClientSecret, "tok-", "Bearer")
	Expect(kube.Create(ctx, s.credentials())).To(Succeed())
	integration := s.integration(pbx.PBX)
	for _, c := range change {
		c(integration)
	}
	Expect(kube.Create(ctx, integration)).To(Succeed())
	DeferCleanup(s.inspect)
	return s
}

func (s *site) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: s.namespace, Name: name}
}

func (s *site) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: s.namespace, Name: name}
}

func (s *site) credentials() *corev1.Secret {
	return &corev1.Secret{ObjectMeta: s.meta("head-office-pbx"), Data: map[string][]byte{
		"clientID": []byte(s.pbx.ClientID), "clientSecret": []byte(s.pbx.ClientSecret),
	}}
}

func (s *site) integration(kind string) *v1alpha1.PBXIntegration {
	const rate = 60000
	url, ref := s.pbx.URL, v1alpha1.SecretReference{Name: "head-office-pbx"}
	pbx := v1alpha1.PBX{Type: v1alpha1.PBXTypeRingMe, RingMe: &v1alpha1.RingMe{URL: url, CredentialsSecretRef: ref, RequestsPerMinute: rate}}
	switch kind {
	case "voipnow":
		pbx = v1alpha1.PBX{Type: v1alpha1.PBXTypeVoipNow, VoipNow: &v1alpha1.VoipNow{
			URL: url, CredentialsSecretRef: ref, RequestsPerMinute: rate,
		}}
	case "linuxbox":
		pbx = v1alpha1.PBX{Type: v1alpha1.PBXTypeLinuxBox, LinuxBox: &v1alpha1.LinuxBox{URL: url, RequestsPerMinute: rate}}
	}
	return &v1alpha1.PBXIntegration{ObjectMeta: s.meta("head-office"), Spec: v1alpha1.PBXIntegrationSpec{
		PBX: pbx, Receiver: v1alpha1.Receiver{PublicURL: "https://calls.example.com"},
	}}
}

func (s *site) editIntegration(ctx context.Context, change func(*v1alpha1.PBXIntegration)) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		integration := &v1alpha1.PBXIntegration{}
		g.Expect(kube.Get(ctx, s.key("head-office"), integration)).To(Succeed())
		change(integration)
		g.Expect(kube.Update(ctx, integration)).To(Succeed())
	}).Should(Succeed())
}

// command is one with a spec of the integration.
func (s *site) command(name string, spec v1alpha1.CallCommandSpec) *v1alpha1.CallCommand {
	spec.IntegrationRef = v1alpha1.IntegrationReference{Name: "head-office"}
	return &v1alpha1.CallCommand{ObjectMeta: s.meta(name), Spec: spec}
}

func (s *site) create(ctx context.Context, name string, spec v1alpha1.CallCommandSpec) *v1alpha1.CallCommand {
	GinkgoHelper()
	command := s.command(name, spec)
	Expect(kube.Create(ctx, command)).To(Succeed())
	return command
}

func dialling(extension, number string) v1alpha1.CallCommandSpec {
	return v1alpha1.CallCommandSpec{Dial: &v1alpha1.Dial{Extension: extension, Number: number}}
}

func hangingUp(extension string) v1alpha1.CallCommandSpec {
	return v1alpha1.CallCommandSpec{Hangup: &v1alpha1.Hangup{Extension: extension}}
}

func hangingUpLeg(leg string) v1alpha1.CallCommandSpec {
	return v1alpha1.CallCommandSpec{Hangup: &v1alpha1.Hangup{LegRef: &v1alpha1.CallLegReference{Name: leg}}}
}

func resolving(leg string) v1alpha1.CallCommandSpec {
	return v1alpha1.CallCommandSpec{Recording: &v1alpha1.Recording{LegRef: v1alpha1.CallLegReference{Name: leg}}}
}

func (s *site) get(ctx context.Context, g Gomega, name string) *v1alpha1.CallCommand {
	command := &v1alpha1.CallCommand{}
	g.Expect(kube.Get(ctx, s.key(name), command)).To(Succeed())
	return command
}

// becomes waits for a phase and a reason of the Ready condition.
func (s *site) becomes(ctx context.Context, name string, phase v1alpha1.CommandPhase, reason string) *v1alpha1.CallCommand {
	GinkgoHelper()
	var command *v1alpha1.CallCommand
	Eventually(func(g Gomega) {
		command = s.get(ctx, g, name)
		ready := lifecycle.Ready(command)
		g.Expect(ready).NotTo(BeNil())
		g.Expect(fmt.Sprint(command.Status.Phase, " ", ready.Reason)).To(Equal(fmt.Sprint(phase, " ", reason)), ready.Message)
	}).Should(Succeed())
	Expect(lifecycletest.Check(command)).To(BeEmpty())
	ended := phase == v1alpha1.CommandFinished || phase == v1alpha1.CommandFailed
	Expect(command.Status.FinishedTime != nil).To(Equal(ended))
	Expect(lifecycle.IsReady(command)).To(Equal(phase == v1alpha1.CommandFinished))
	complete := meta.IsStatusConditionTrue(command.Status.Conditions, v1alpha1.ConditionComplete)
	Expect(complete).To(Equal(phase == v1alpha1.CommandFinished), "the condition Complete")
	failed := meta.IsStatusConditionTrue(command.Status.Conditions, v1alpha1.ConditionFailed)
	Expect(failed).To(Equal(phase == v1alpha1.CommandFailed), "the condition Failed")
	Expect(command.Finalizers).To(BeEmpty())
	return command
}

func message(command *v1alpha1.CallCommand) string { return lifecycle.Ready(command).Message }

// wake asks for a pass over a command.
func (s *site) wake(ctx context.Context, name string) {
	GinkgoHelper()
	s.patch(ctx, name, fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationReconcile, time.Now().String()))
}

func (s *site) patch(ctx context.Context, name, patch string) {
	GinkgoHelper()
	command := s.command(name, v1alpha1.CallCommandSpec{})
	Expect(kube.Patch(ctx, command, client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
}

// leg is an outgoing leg of 101 to the customer, as a receiver writes it, unless changed.
func (s *site) leg(ctx context.Context, name, callID string, change ...func(*v1alpha1.CallLeg)) *v1alpha1.CallLeg {
	GinkgoHelper()
	leg := &v1alpha1.CallLeg{ObjectMeta: s.meta(name), Status: v1alpha1.CallLegStatus{
		CallID: callID, LegID: name, Kind: v1alpha1.LegExtension, Direction: v1alpha1.DirectionOutbound, Revision: 1,
		Extension: "1234*101", From: "1234*101", To: customer, Phase: v1alpha1.PhaseRinging, StartTime: s.now(),
	}}
	leg.Labels = map[string]string{v1alpha1.LabelIntegration: "head-office"}
	for _, c := range change {
		c(leg)
	}
	Expect(kube.Create(ctx, leg)).To(Succeed())
	return leg
}

func (s *site) now() *metav1.MicroTime {
	now := metav1.NewMicroTime(s.clock.Now())
	return &now
}

func (s *site) updateLeg(ctx context.Context, leg *v1alpha1.CallLeg, change ...func(*v1alpha1.CallLeg)) {
	GinkgoHelper()
	for _, c := range change {
		c(leg)
	}
	Expect(kube.Update(ctx, leg)).To(Succeed())
}

func (s *site) answered(leg *v1alpha1.CallLeg) {
	leg.Status.Phase, leg.Status.AnswerTime = v1alpha1.PhaseAnswered, s.now()
}

// ended is a leg that was over some time ago.
func (s *site) ended(result v1alpha1.LegResult) func(*v1alpha1.CallLeg) {
	return func(leg *v1alpha1.CallLeg) {
		end := metav1.NewMicroTime(s.clock.Now().Add(-time.Minute))
		leg.Status.Phase, leg.Status.Result, leg.Status.EndTime = v1alpha1.PhaseCompleted, result, &end
		if result == v1alpha1.ResultAnswered {
			leg.Status.AnswerTime, leg.Status.TalkTime = &end, new("60s")
		}
	}
}

// asked is how often the PBX was asked for something.
func (s *site) asked(ctx context.Context, route string) int {
	GinkgoHelper()
	requests, err := s.pbx.Sim.Requests(ctx)
	Expect(err).NotTo(HaveOccurred())
	return requests.Routes[route].Count
}

// calls are those that the PBX has placed.
func (s *site) calls(ctx context.Context) []simclient.Call {
	GinkgoHelper()
	calls, err := s.pbx.Sim.Calls(ctx)
	Expect(err).NotTo(HaveOccurred())
	return calls
}

func (s *site) faults(ctx context.Context, faults ...simclient.Fault) {
	GinkgoHelper()
	_, err := s.pbx.Sim.SetFaults(ctx, faults...)
	Expect(err).NotTo(HaveOccurred())
}

// recordingOf is the id of a recording that the PBX has in its history.
func (s *site) recordingOf(ctx context.Context) string {
	GinkgoHelper()
	pbx, err := ringme.New(pbxapi.Settings{
		PBX: s.integration("").Spec.PBX, Credentials: s.credentials().Data, HTTP: http.DefaultClient, Timeout: 5 * time.Second,
		Turn: func(context.Context) error { return nil },
	})
	Expect(err).NotTo(HaveOccurred())
	records, err := pbxapitest.History(ctx, pbx.(pbxapi.Historian), time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	Expect(err).NotTo(HaveOccurred())
	for _, record := range records {
		if record.RecordingID != "" {
			return record.RecordingID
		}
	}
	Fail("the history has no recording")
	return ""
}

// fetch asks for an address without any credentials.
func fetch(ctx context.Context, address string) int {
	GinkgoHelper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	Expect(err).NotTo(HaveOccurred())
	response, err := http.DefaultClient.Do(request)
	Expect(err).NotTo(HaveOccurred())
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode
}

// events are the Kubernetes Events with a reason.
func (s *site) events(ctx context.Context, g Gomega, reason string) []eventsv1.Event {
	var list eventsv1.EventList
	g.Expect(kube.List(ctx, &list, client.InNamespace(s.namespace))).To(Succeed())
	var found []eventsv1.Event
	for _, event := range list.Items {
		if event.Reason == reason {
			found = append(found, event)
		}
	}
	return found
}

// inspect checks what must hold at the end of every test.
func (s *site) inspect(ctx context.Context) {
	var commands v1alpha1.CallCommandList
	Expect(kube.List(ctx, &commands, client.InNamespace(s.namespace))).To(Succeed())
	for i := range commands.Items {
		if lifecycle.Ready(&commands.Items[i]) != nil {
			Expect(lifecycletest.Check(&commands.Items[i])).To(BeEmpty(), commands.Items[i].Name)
		}
	}
	var events eventsv1.EventList
	Expect(kube.List(ctx, &events, client.InNamespace(s.namespace))).To(Succeed())
	public, err := json.Marshal([]any{commands, events})
	Expect(err).NotTo(HaveOccurred())
	for where, text := range map[string]string{"a status or an Event": string(public), "the log": logs.String()} {
		for _, secret := range s.secrets {
			Expect(strings.Contains(text, secret)).To(BeFalse(), "%s gives away %q", where, secret)
		}
	}
}

// operator is a running manager with the controller under test.
type operator struct {
	cancel  context.CancelFunc
	stopped chan struct{}
}

// settings are how an operator is run.
type settings struct {
	command   command.Options
	pbx       pbxapi.Options
	newClient client.NewClientFunc
	voipNow   pbxapi.Factory
}

type setting func(*settings)

func through(transport http.RoundTripper) setting {
	return func(s *settings) { s.pbx.Transport = transport }
}

// rescan is the least age at which a list of extensions is read again.
func rescan(after time.Duration) setting {
	return func(s *settings) { s.pbx.DirectoryRescan = after }
}

func withVoipNow(factory pbxapi.Factory) setting {
	return func(s *settings) { s.voipNow = factory }
}

func throughClient(newClient client.NewClientFunc) setting {
	return func(s *settings) { s.newClient = newClient }
}

// requests counts those about CallLegs and about other commands that a follower makes.
type requests = atomic.Int64

// counting counts what is asked of the API server past the cache.
func counting(count *requests) setting {
	GinkgoHelper()
	reader, err := client.NewWithWatch(restConfig, client.Options{})
	Expect(err).NotTo(HaveOccurred())
	counted := interceptor.NewClient(reader, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, options ...client.GetOption) error {
			count.Add(1)
			return c.Get(ctx, key, obj, options...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			count.Add(1)
			return c.List(ctx, list, options...)
		},
		Watch: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) (watch.Interface, error) {
			count.Add(1)
			return c.Watch(ctx, list, options...)
		},
	})
	return func(s *settings) { s.command.Reader, s.command.Legs = counted, counted }
}

// start runs an operator on the site's namespace until the end of the test.
func (s *site) start(ctx context.Context, with ...setting) *operator {
	GinkgoHelper()
	how := settings{
		voipNow: voipnow.New,
		command: command.Options{BackoffBase: 5 * time.Millisecond, BackoffLimit: 200 * time.Millisecond, Clock: s.clock},
		pbx: pbxapi.Options{
			Timeout: 5 * time.Second, Pause: 100 * time.Millisecond, DirectoryRescan: 50 * time.Millisecond, BadCredentialRetry: time.Hour,
		},
	}
	for _, set := range with {
		set(&how)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	mgr, err := s.manager(ctx, how)
	op := &operator{cancel: cancel, stopped: make(chan struct{})}
	DeferCleanup(op.stop)
	go func() {
		defer close(op.stopped)
		if err == nil {
			_ = mgr.Start(ctx)
		}
	}()
	Expect(err).NotTo(HaveOccurred())
	return op
}

func (s *site) manager(ctx context.Context, how settings) (ctrl.Manager, error) {
	skip, grace := true, time.Duration(0)
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{
		Metrics:                 server.Options{BindAddress: "0"},
		Controller:              config.Controller{SkipNameValidation: &skip},
		Cache:                   cache.Options{DefaultNamespaces: map[string]cache.Config{s.namespace: {}}},
		NewClient:               how.newClient,
		GracefulShutdownTimeout: &grace,
	})
	if err != nil {
		return nil, err
	}
	pool := pbxapi.NewPool(map[v1alpha1.PBXType]pbxapi.Factory{
		v1alpha1.PBXTypeRingMe: ringme.New, v1alpha1.PBXTypeVoipNow: how.voipNow, v1alpha1.PBXTypeLinuxBox: linuxbox.New,
	}, how.pbx)
	return mgr, command.SetupWithManager(ctx, mgr, pool, how.command)
}

func (o *operator) stop() {
	o.cancel()
	<-o.stopped
}
