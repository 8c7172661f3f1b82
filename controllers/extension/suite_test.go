package extension_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/format"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/extension"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle/lifecycletest"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/ringme"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/voipnow"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

const publicURL = "https://calls.example.com"

var (
	cluster    *envtest.Environment
	restConfig *rest.Config
	kube       client.Client
	logs       = &logBook{}
)

func TestExtension(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(20 * time.Second)
	SetDefaultEventuallyPollingInterval(10 * time.Millisecond)
	format.MaxLength = 0
	RunSpecs(t, "Extension")
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

// system is a kind of PBX, as the simulator has it.
type system struct {
	config func() sim.Config
	spec   func(*simtest.PBX) v1alpha1.PBX
	prefix string
	// base is the simulator's id of extension 0.
	base int
	// suffixed tells that each type of event has a URL of its own.
	suffixed bool
	// all are the events of a phone.
	all []string
}

var (
	// ringMe has no queue agents.
	ringMe = system{
		config: func() sim.Config {
			config := sim.DefaultConfig()
			config.Accounts[0].Agents = nil
			return config
		},
		spec: ringMeOf, prefix: "1234*", base: 5000, all: all,
	}
	// ringMeWithAgents has agent 77 at extension 101.
	ringMeWithAgents = system{config: sim.DefaultConfig, spec: ringMeOf, prefix: "1234*", base: 5000, all: all}
	voipNow          = system{
		config: func() sim.Config { return sim.DefaultConfigOf("voipnow") },
		spec: func(pbx *simtest.PBX) v1alpha1.PBX {
			return v1alpha1.PBX{Type: v1alpha1.PBXTypeVoipNow, VoipNow: &v1alpha1.VoipNow{
				URL: pbx.URL, CredentialsSecretRef: v1alpha1.SecretReference{Name: "head-office-pbx"}, RequestsPerMinute: 60000,
			}}
		},
		prefix: "0007*", base: 7000, suffixed: true, all: []string{"dial-in", "dial-out", "hangup", "answer-in", "answer-out"},
	}
)

func ringMeOf(pbx *simtest.PBX) v1alpha1.PBX {
	return v1alpha1.PBX{Type: v1alpha1.PBXTypeRingMe, RingMe: &v1alpha1.RingMe{
		URL: pbx.URL, CredentialsSecretRef: v1alpha1.SecretReference{Name: "head-office-pbx"}, RequestsPerMinute: 60000,
	}}
}

func (y system) number(short string) string { return y.prefix + short }

// extension is the simulator's id of an extension.
func (y system) extension(short string) int {
	number, err := strconv.Atoi(short)
	Expect(err).NotTo(HaveOccurred())
	return y.base + number
}

// site is one namespace with an integration and a PBX of its own.
type site struct {
	system
	namespace string
	pbx       *simtest.PBX
	ring      eventurl.Ring
	secrets   []string // what must not be seen anywhere
}

// newSite is newSiteOf a RingMe without queue agents.
func newSite(ctx context.Context, change ...func(*v1alpha1.PBXIntegration)) *site {
	GinkgoHelper()
	return newSiteOf(ctx, ringMe, change...)
}

// newSiteOf sets up the PBX, the integration "head-office", its credentials and its key ring. At
// the end of the test everything is checked that holds for every test.
func newSiteOf(ctx context.Context, of system, change ...func(*v1alpha1.PBXIntegration)) *site {
	GinkgoHelper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "site-"}}
	Expect(kube.Create(ctx, namespace)).To(Succeed())
	s := &site{system: of, namespace: namespace.Name, pbx: simtest.Start(GinkgoT(), of.config())}
	s.secrets = append(s.secrets, s.pbx.ClientSecret, "tok-")
	Expect(kube.Create(ctx, s.credentials())).To(Succeed())
	Expect(kube.Create(ctx, &corev1.Secret{ObjectMeta: s.meta(eventurl.SecretName("head-office")), Data: s.addKey().Data()})).To(Succeed())
	Expect(kube.Create(ctx, s.integration(change...))).To(Succeed())
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

func (s *site) integration(change ...func(*v1alpha1.PBXIntegration)) *v1alpha1.PBXIntegration {
	integration := &v1alpha1.PBXIntegration{ObjectMeta: s.meta("head-office"), Spec: v1alpha1.PBXIntegrationSpec{
		PBX:      s.spec(s.pbx),
		Receiver: v1alpha1.Receiver{PublicURL: publicURL},
	}}
	for _, c := range change {
		c(integration)
	}
	return integration
}

// addKey puts a new key in front of the ring.
func (s *site) addKey() eventurl.Ring {
	GinkgoHelper()
	key, err := eventurl.NewKey(int64(len(s.ring)+1), "head-office")
	Expect(err).NotTo(HaveOccurred())
	s.ring = append(eventurl.Ring{key}, s.ring...)
	return s.ring
}

// rotate makes a new key the one in force.
func (s *site) rotate(ctx context.Context) {
	GinkgoHelper()
	secret := &corev1.Secret{}
	Expect(kube.Get(ctx, s.key(eventurl.SecretName("head-office")), secret)).To(Succeed())
	secret.Data = s.addKey().Data()
	Expect(kube.Update(ctx, secret)).To(Succeed())
}

// mapping is a phone at extension 101 unless changed.
func (s *site) mapping(name string, change ...func(*v1alpha1.ExtensionMapping)) *v1alpha1.ExtensionMapping {
	mapping := &v1alpha1.ExtensionMapping{ObjectMeta: s.meta(name), Spec: v1alpha1.ExtensionMappingSpec{
		IntegrationRef: v1alpha1.IntegrationReference{Name: "head-office"},
		Extension:      v1alpha1.Extension{Number: s.number("101"), Type: v1alpha1.ExtensionPhone},
		User:           &v1alpha1.User{Name: "ann"},
	}}
	for _, c := range change {
		c(mapping)
	}
	return mapping
}

func (s *site) create(ctx context.Context, name string, change ...func(*v1alpha1.ExtensionMapping)) *v1alpha1.ExtensionMapping {
	GinkgoHelper()
	mapping := s.mapping(name, change...)
	Expect(kube.Create(ctx, mapping)).To(Succeed())
	return mapping
}

func at(number string, kind v1alpha1.ExtensionType) func(*v1alpha1.ExtensionMapping) {
	return func(m *v1alpha1.ExtensionMapping) { m.Spec.Extension.Number, m.Spec.Extension.Type = number, kind }
}

func withID(id string) func(*v1alpha1.ExtensionMapping) {
	return func(m *v1alpha1.ExtensionMapping) { m.Spec.Extension.ID = id }
}

func (s *site) get(ctx context.Context, g Gomega, name string) *v1alpha1.ExtensionMapping {
	mapping := &v1alpha1.ExtensionMapping{}
	g.Expect(kube.Get(ctx, s.key(name), mapping)).To(Succeed())
	return mapping
}

// edit changes a mapping as a user does.
func (s *site) edit(ctx context.Context, name string, change func(*v1alpha1.ExtensionMapping)) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		mapping := s.get(ctx, g, name)
		change(mapping)
		g.Expect(kube.Update(ctx, mapping)).To(Succeed())
	}).Should(Succeed())
}

// wake asks for a pass over a mapping.
func (s *site) wake(ctx context.Context, name string) {
	GinkgoHelper()
	s.edit(ctx, name, func(m *v1alpha1.ExtensionMapping) {
		m.Annotations = map[string]string{v1alpha1.AnnotationReconcile: "now"}
	})
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

// becomes waits for a Ready condition that speaks of the present spec.
func (s *site) becomes(ctx context.Context, name string, status metav1.ConditionStatus, reason string) *v1alpha1.ExtensionMapping {
	GinkgoHelper()
	var mapping *v1alpha1.ExtensionMapping
	Eventually(func(g Gomega) {
		mapping = s.get(ctx, g, name)
		ready := lifecycle.Ready(mapping)
		g.Expect(ready).NotTo(BeNil())
		g.Expect(fmt.Sprint(ready.Status, " ", ready.Reason)).To(Equal(fmt.Sprint(status, " ", reason)), ready.Message)
		g.Expect(ready.ObservedGeneration).To(Equal(mapping.Generation))
	}).Should(Succeed())
	return mapping
}

func (s *site) becomesRegistered(ctx context.Context, name string) *v1alpha1.ExtensionMapping {
	GinkgoHelper()
	return s.becomes(ctx, name, metav1.ConditionTrue, v1alpha1.ReasonRegistered)
}

func (s *site) disappears(ctx context.Context, obj client.Object) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(client.IgnoreNotFound(kube.Delete(ctx, obj))).To(Succeed())
		g.Expect(kube.Get(ctx, client.ObjectKeyFromObject(obj), obj)).NotTo(Succeed())
	}).Should(Succeed())
}

// held is what one extension carries: ours by mapping UID and event, and those of others as they
// are.
func (s *site) held(ctx context.Context, g Gomega, extensionID int) (ours, foreign []string) {
	return s.heldBy(ctx, g, exchange.Owner{Scope: exchange.OnExtension, ID: extensionID})
}

func (s *site) heldBy(ctx context.Context, g Gomega, owner exchange.Owner) (ours, foreign []string) {
	list, err := s.pbx.Sim.Registrations(ctx)
	g.Expect(err).NotTo(HaveOccurred())
	ours, foreign = []string{}, []string{}
	for _, r := range list {
		switch {
		case r.Owner != owner:
		case r.Foreign:
			foreign = append(foreign, fmt.Sprint(r))
		case r.Disabled:
			ours = append(ours, "disabled "+r.EventType+" "+r.URL)
		default:
			ours = append(ours, r.Method+" "+r.EventType+" "+r.URL)
		}
	}
	return ours, foreign
}

func sourceOf(mapping *v1alpha1.ExtensionMapping) eventurl.Source {
	return eventurl.Mapping(mapping.Name, string(mapping.UID))
}

// wanted are the registrations that a mapping should have under the key in force.
func (s *site) wanted(mapping *v1alpha1.ExtensionMapping, events ...string) []string {
	list := []string{}
	for _, event := range events {
		suffix := ""
		if s.suffixed {
			suffix = "/" + event
		}
		list = append(list, "POST "+event+" "+eventurl.URL(publicURL, s.ring.Current().Token(sourceOf(mapping)), suffix))
	}
	return list
}

var all = []string{"dial-in", "dial-out", "answer", "hangup"}

// carries waits until an extension carries exactly these registrations of ours.
func (s *site) carries(ctx context.Context, extensionID int, want []string) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		ours, _ := s.held(ctx, g, extensionID)
		g.Expect(ours).To(ConsistOf(want))
	}).Should(Succeed())
}

func (s *site) carriesNothing(ctx context.Context, extensionID int) {
	GinkgoHelper()
	s.carries(ctx, extensionID, []string{})
}

func (s *site) setForeign(ctx context.Context, number string, count int) []string {
	GinkgoHelper()
	_, err := s.pbx.Sim.SetForeign(ctx, simclient.Foreign{Extension: number, Count: count})
	Expect(err).NotTo(HaveOccurred())
	var foreign []string
	list, err := s.pbx.Sim.Registrations(ctx)
	Expect(err).NotTo(HaveOccurred())
	for _, r := range list {
		if r.Foreign {
			foreign = append(foreign, fmt.Sprint(r))
		}
	}
	return foreign
}

func (s *site) fault(ctx context.Context, faults ...simclient.Fault) {
	GinkgoHelper()
	_, err := s.pbx.Sim.SetFaults(ctx, faults...)
	Expect(err).NotTo(HaveOccurred())
}

func (s *site) asked(ctx context.Context) simclient.Requests {
	GinkgoHelper()
	requests, err := s.pbx.Sim.Requests(ctx)
	Expect(err).NotTo(HaveOccurred())
	return requests
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
	var mappings v1alpha1.ExtensionMappingList
	Expect(kube.List(ctx, &mappings, client.InNamespace(s.namespace))).To(Succeed())
	for i := range mappings.Items {
		if lifecycle.Ready(&mappings.Items[i]) != nil {
			Expect(lifecycletest.Check(&mappings.Items[i])).To(BeEmpty(), mappings.Items[i].Name)
		}
	}
	Expect(s.asked(ctx).CollectionDeletes).To(BeZero(), "the collection DELETE must never be sent")
	var events eventsv1.EventList
	Expect(kube.List(ctx, &events, client.InNamespace(s.namespace))).To(Succeed())
	public, err := json.Marshal([]any{mappings, events})
	Expect(err).NotTo(HaveOccurred())
	for _, mapping := range mappings.Items[:min(len(mappings.Items), 50)] {
		s.secrets = append(s.secrets, s.ring.Tokens(sourceOf(&mapping))...)
	}
	for where, text := range map[string]string{"a status or an Event": string(public), "the log": logs.String()} {
		for _, secret := range append(s.secrets, eventurl.PathPrefix) {
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
	extension extension.Options
	pbx       pbxapi.Options
	newClient client.NewClientFunc
}

type setting func(*settings)

func every(interval time.Duration) setting {
	return func(s *settings) { s.extension.Interval, s.extension.Retry = interval, interval }
}

func deadline(after time.Duration) setting {
	return func(s *settings) { s.extension.DeletionDeadline = after }
}

// timeout is how long the PBX is waited for.
func timeout(after time.Duration) setting {
	return func(s *settings) { s.pbx.Timeout = after }
}

func through(transport http.RoundTripper) setting {
	return func(s *settings) { s.pbx.Transport = transport }
}

func throughClient(newClient client.NewClientFunc) setting {
	return func(s *settings) { s.newClient = newClient }
}

// start runs an operator on the site's namespace until the end of the test. Unless told otherwise
// it acts on changes only.
func (s *site) start(ctx context.Context, with ...setting) *operator {
	GinkgoHelper()
	how := settings{
		extension: extension.Options{
			Interval: time.Hour, Retry: time.Hour, DeletionDeadline: time.Hour, CleanUpRetry: 100 * time.Millisecond,
			BackoffBase: 5 * time.Millisecond, BackoffLimit: 200 * time.Millisecond,
		},
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
	if err := lifecycle.IndexMappings(ctx, mgr.GetFieldIndexer()); err != nil {
		return nil, err
	}
	return mgr, extension.SetupWithManager(ctx, mgr, pbxapi.NewPool(factories, how.pbx), how.extension)
}

var factories = map[v1alpha1.PBXType]pbxapi.Factory{v1alpha1.PBXTypeRingMe: ringme.New, v1alpha1.PBXTypeVoipNow: voipnow.New}

// administrator is somebody who works on the PBX by its API.
func (s *site) administrator() *pbxapi.Client {
	GinkgoHelper()
	client, err := pbxapi.NewPool(factories, pbxapi.Options{}).Client(s.integration(), s.credentials().Data)
	Expect(err).NotTo(HaveOccurred())
	return client
}

func (o *operator) stop() {
	o.cancel()
	<-o.stopped
}
