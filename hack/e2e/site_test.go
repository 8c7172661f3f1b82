package e2e

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

const integrationName = "head-office"

// site is a namespace with a simulated PBX of its own.
type site struct {
	namespace string
	system    system
	// pbxURL is the PBX inside the cluster.
	pbxURL string
	pbx    *simclient.Client
}

// newSite makes a namespace, starts a simulated RingMe in it, and removes both after the test.
func newSite(ctx context.Context) *site { return newSiteOf(ctx, ringMe) }

// newSiteOf is newSite for any PBX.
func newSiteOf(ctx context.Context, system system) *site {
	s := newNamespace(ctx, system)
	s.startSimulator(ctx)
	s.pbx, s.pbxURL = simclient.New(s.controlPlane()), "http://pbxsim."+s.namespace+".svc"
	return s
}

// another is a second site on the same PBX.
func (s *site) another(ctx context.Context) *site {
	other := newNamespace(ctx, s.system)
	other.pbx, other.pbxURL = s.pbx, s.pbxURL
	return other
}

func newNamespace(ctx context.Context, system system) *site {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "telephony-e2e-",
		Labels:       map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
	Expect(cluster.Create(ctx, namespace)).To(Succeed())
	s := &site{namespace: namespace.Name, system: system}
	DeferCleanup(func(ctx context.Context) {
		if CurrentSpecReport().Failed() {
			s.describe(ctx)
		}
		s.disconnect(ctx)
		s.remove(ctx)
	})
	return s
}

// disconnect deletes what connect made, while the PBX is there to be asked.
func (s *site) disconnect(ctx context.Context) {
	GinkgoHelper()
	Expect(cluster.DeleteAllOf(ctx, &v1alpha1.PBXIntegration{}, client.InNamespace(s.namespace))).To(Succeed())
	Expect(cluster.DeleteAllOf(ctx, &v1alpha1.ExtensionMapping{}, client.InNamespace(s.namespace))).To(Succeed())
	Eventually(func(g Gomega) {
		var integrations v1alpha1.PBXIntegrationList
		g.Expect(cluster.List(ctx, &integrations, client.InNamespace(s.namespace))).To(Succeed())
		g.Expect(integrations.Items).To(BeEmpty())
		var mappings v1alpha1.ExtensionMappingList
		g.Expect(cluster.List(ctx, &mappings, client.InNamespace(s.namespace))).To(Succeed())
		g.Expect(mappings.Items).To(BeEmpty())
	}, "3m").Should(Succeed())
}

// remove deletes the namespace. One that does not go away, because a finalizer does not complete,
// fails the test.
func (s *site) remove(ctx context.Context) {
	GinkgoHelper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
	Expect(client.IgnoreNotFound(cluster.Delete(ctx, namespace))).To(Succeed())
	Eventually(func() bool {
		return apierrors.IsNotFound(cluster.Get(ctx, client.ObjectKeyFromObject(namespace), namespace))
	}, "4m").Should(BeTrue(), "the namespace does not go away")
}

func (s *site) startSimulator(ctx context.Context) {
	labels := map[string]string{"app": "pbxsim"}
	meta := metav1.ObjectMeta{Namespace: s.namespace, Name: "pbxsim", Labels: labels}
	Expect(cluster.Create(ctx, &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: simulatorPod(s.system.simulator)},
	}})).To(Succeed())
	Expect(cluster.Create(ctx, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		Selector: labels,
		Ports: []corev1.ServicePort{
			{Name: "api", Port: 80, TargetPort: intstr.FromString("api")},
			{Name: "control", Port: 8081, TargetPort: intstr.FromString("control")},
		},
	}})).To(Succeed())
	Eventually(func(g Gomega) {
		var deployment appsv1.Deployment
		g.Expect(cluster.Get(ctx, s.key("pbxsim"), &deployment)).To(Succeed())
		g.Expect(deployment.Status.ReadyReplicas).To(BeEquivalentTo(1))
	}).Should(Succeed())
}

func simulatorPod(pbx string) corev1.PodSpec {
	yes, no, user := true, false, int64(65532)
	return corev1.PodSpec{
		AutomountServiceAccountToken: &no,
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: &yes, RunAsUser: &user,
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{{
			Name: "pbxsim", Image: os.Getenv("PBXSIM_IMAGE"), Args: []string{"--pbx", pbx},
			Ports: []corev1.ContainerPort{{Name: "api", ContainerPort: 8080}, {Name: "control", ContainerPort: 8081}},
			ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 10, FailureThreshold: 10, ProbeHandler: corev1.ProbeHandler{
				HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("control")},
			}},
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
				Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
		}},
	}
}

// controlPlane is a local address that leads to the simulator's control plane by way of the API
// server, so that the suite needs no route into the cluster's network.
func (s *site) controlPlane() string {
	transport, err := rest.TransportFor(restConfig)
	Expect(err).NotTo(HaveOccurred())
	target, err := url.Parse(strings.TrimRight(restConfig.Host, "/") +
		"/api/v1/namespaces/" + s.namespace + "/services/pbxsim:control/proxy")
	Expect(err).NotTo(HaveOccurred())
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	server := httptest.NewServer(proxy)
	DeferCleanup(server.Close)
	return server.URL
}

func (s *site) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: s.namespace, Name: name}
}

// connect declares the integration, changed as the test wants it, and mappings for all its
// extensions.
func (s *site) connect(ctx context.Context, change ...func(*v1alpha1.PBXIntegration)) {
	GinkgoHelper()
	s.createCredentials(ctx)
	Expect(cluster.Create(ctx, s.integration(change...))).To(Succeed())
	for _, mapping := range s.mappings() {
		Expect(cluster.Create(ctx, mapping)).To(Succeed())
	}
	s.ready(ctx)
	if s.system.byHand {
		s.enterURL(ctx)
	}
}

// enterURL does what an administrator does on a PBX without an API for registrations.
func (s *site) enterURL(ctx context.Context) {
	GinkgoHelper()
	var integration v1alpha1.PBXIntegration
	Expect(cluster.Get(ctx, s.key(integrationName), &integration)).To(Succeed())
	Expect(integration.Status.EventURLSecretRef).NotTo(BeNil())
	var secret corev1.Secret
	Expect(cluster.Get(ctx, s.key(integration.Status.EventURLSecretRef.Name), &secret)).To(Succeed())
	_, err := s.pbx.SetHook(ctx, simclient.Hook{URL: string(secret.Data["url"]), Method: "POST"})
	Expect(err).NotTo(HaveOccurred())
}

func (s *site) createCredentials(ctx context.Context) {
	Expect(cluster.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "credentials"},
		StringData: map[string]string{"clientID": sim.DefaultClientID, "clientSecret": sim.DefaultClientSecret},
	})).To(Succeed())
}

func (s *site) integration(change ...func(*v1alpha1.PBXIntegration)) *v1alpha1.PBXIntegration {
	integration := &v1alpha1.PBXIntegration{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: integrationName},
		Spec: v1alpha1.PBXIntegrationSpec{
			PBX:      s.system.pbx(s.pbxURL),
			Receiver: v1alpha1.Receiver{PublicURL: "http://" + integrationName + "-receiver." + s.namespace + ".svc:8080"},
			CallLegs: v1alpha1.CallLegs{MissedGracePeriod: &metav1.Duration{Duration: time.Second}},
		},
	}
	for _, f := range change {
		f(integration)
	}
	return integration
}

func (s *site) mappings() []*v1alpha1.ExtensionMapping {
	mappings := make([]*v1alpha1.ExtensionMapping, len(s.system.extensions))
	for i, e := range s.system.extensions {
		mappings[i] = s.mapping(e.name, e.number, e.kind)
	}
	return mappings
}

func (s *site) mapping(name, number string, kind v1alpha1.ExtensionType) *v1alpha1.ExtensionMapping {
	mapping := &v1alpha1.ExtensionMapping{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name},
		Spec: v1alpha1.ExtensionMappingSpec{
			IntegrationRef: v1alpha1.IntegrationReference{Name: integrationName},
			Extension:      v1alpha1.Extension{Number: number, Type: kind},
		},
	}
	if kind == v1alpha1.ExtensionPhone {
		mapping.Spec.User = &v1alpha1.User{Name: name}
	}
	return mapping
}

// ready waits until the integration and all mappings do what their specs ask for.
func (s *site) ready(ctx context.Context) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		var integration v1alpha1.PBXIntegration
		g.Expect(cluster.Get(ctx, s.key(integrationName), &integration)).To(Succeed())
		g.Expect(isReady(&integration, integration.Status.Conditions)).To(Succeed())
		var mappings v1alpha1.ExtensionMappingList
		g.Expect(cluster.List(ctx, &mappings, client.InNamespace(s.namespace))).To(Succeed())
		for i := range mappings.Items {
			g.Expect(isReady(&mappings.Items[i], mappings.Items[i].Status.Conditions)).To(Succeed())
		}
	}, "3m").Should(Succeed())
}

// isReady decides as kubectl wait does, and ignores a condition of an older generation.
func isReady(object client.Object, conditions []metav1.Condition) error {
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	switch {
	case ready == nil:
		return fmt.Errorf("%s has no condition Ready", object.GetName())
	case ready.Status != metav1.ConditionTrue || ready.ObservedGeneration != object.GetGeneration():
		return fmt.Errorf("%s is not ready: %s: %s", object.GetName(), ready.Reason, ready.Message)
	default:
		return nil
	}
}

// call places one call and waits until its last event is delivered.
func (s *site) call(ctx context.Context, scenario string) simclient.Call {
	GinkgoHelper()
	calls, err := s.pbx.Place(ctx, simclient.CallRequest{Scenario: scenario, Speed: s.system.speed, Wait: true})
	Expect(err).NotTo(HaveOccurred())
	Expect(calls).To(HaveLen(1))
	return calls[0]
}

// notify sends one notification to the event URL of a mapping, as the PBX would.
func (s *site) notify(ctx context.Context, mapping, body string) {
	GinkgoHelper()
	var owner v1alpha1.ExtensionMapping
	Expect(cluster.Get(ctx, s.key(mapping), &owner)).To(Succeed())
	clients, err := kubernetes.NewForConfig(restConfig)
	Expect(err).NotTo(HaveOccurred())
	path := eventurl.URL("/api/v1/namespaces/"+s.namespace+"/services/"+integrationName+"-receiver:events/proxy",
		s.keys(ctx).Current().Token(eventurl.Mapping(owner.Name, string(owner.UID))), "")
	Expect(clients.CoreV1().RESTClient().Post().AbsPath(path).
		SetHeader("Content-Type", "application/x-www-form-urlencoded").Body([]byte(body)).Do(ctx).Error()).To(Succeed())
}

// keys is the key ring of the integration.
func (s *site) keys(ctx context.Context) eventurl.Ring {
	GinkgoHelper()
	var secret corev1.Secret
	Expect(cluster.Get(ctx, s.key(eventurl.SecretName(integrationName)), &secret)).To(Succeed())
	ring, err := eventurl.ParseRing(secret.Data)
	Expect(err).NotTo(HaveOccurred())
	return ring
}

// legs are the legs of the given calls, each as one line, sorted.
func (s *site) legs(ctx context.Context, calls ...simclient.Call) []string {
	GinkgoHelper()
	var list v1alpha1.CallLegList
	Expect(cluster.List(ctx, &list, client.InNamespace(s.namespace))).To(Succeed())
	var lines []string
	for _, leg := range list.Items {
		if slices.ContainsFunc(calls, func(c simclient.Call) bool { return slices.Contains(c.CallIDs, leg.Status.CallID) }) {
			lines = append(lines, s.line(leg.Status))
		}
	}
	slices.Sort(lines)
	return lines
}

// line leaves out the talk time where the PBX gives no times: then it is that of a call played at a
// higher speed.
func (s *site) line(leg v1alpha1.CallLegStatus) string {
	logged, talk := "", ptr.Deref(leg.TalkTime, "")
	if leg.Logged {
		logged = "logged"
	}
	if s.system.untimed {
		talk = ""
	}
	return strings.Join(strings.Fields(fmt.Sprintln(
		leg.Direction, leg.From, leg.To, leg.User, leg.Phase, leg.Result, talk, logged)), " ")
}

// owned counts our registrations on the PBX by extension and event type.
func (s *site) owned(ctx context.Context) map[string]int {
	GinkgoHelper()
	registrations, err := s.pbx.Registrations(ctx)
	Expect(err).NotTo(HaveOccurred())
	counts := map[string]int{}
	for _, registration := range registrations {
		if !registration.Foreign {
			counts[strings.TrimSpace(registration.Number+" "+registration.EventType)]++
		}
	}
	return counts
}

func (s *site) foreign(ctx context.Context) []exchange.Registration {
	GinkgoHelper()
	registrations, err := s.pbx.Registrations(ctx)
	Expect(err).NotTo(HaveOccurred())
	return slices.DeleteFunc(registrations, func(r exchange.Registration) bool { return !r.Foreign })
}

// exactly lists what owned returns when each extension is registered once for what its type asks
// for. The simulated RingMe has a queue agent at 1234*101.
func exactly(phones []string, others ...string) map[string]int {
	counts := map[string]int{}
	for _, number := range phones {
		for _, event := range []string{"dial-in", "dial-out", "answer", "hangup"} {
			counts[number+" "+event] = 1
		}
		if number == "1234*101" {
			counts["agent-login"], counts["agent-logout"] = 1, 1
		}
	}
	for _, number := range others {
		counts[number+" hangup"] = 1
	}
	return counts
}

// kubectl runs as a user would.
func kubectl(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := exec.CommandContext(ctx, "kubectl", args...).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), string(out))
	return string(out)
}

// describe prints what helps to understand a failure.
func (s *site) describe(ctx context.Context) {
	for _, args := range [][]string{
		{"-n", s.namespace, "get", "pbxintegrations,extmap,pods,pvc", "-o", "wide"},
		{"-n", s.namespace, "get", "events", "--sort-by=.lastTimestamp"},
		{"-n", s.namespace, "logs", "statefulset/" + integrationName + "-receiver", "--tail", "25"},
		{"-n", systemNamespace, "logs", "deployment/pbx-operator", "--tail", "25"},
	} {
		out, _ := exec.CommandContext(ctx, "kubectl", args...).CombinedOutput()
		GinkgoWriter.Printf("$ kubectl %s\n%s\n", strings.Join(args, " "), out)
	}
}
