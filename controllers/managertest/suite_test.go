// Package managertest runs the manager's binary against a real API server, with the rights that the
// chart gives it and no others.
package managertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
)

var (
	environment *envtest.Environment
	admin       client.Client
	binary      string
)

func TestManager(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(time.Minute)
	SetDefaultEventuallyPollingInterval(50 * time.Millisecond)
	RunSpecs(t, "The manager with the rights of the chart")
}

var _ = BeforeSuite(func() {
	Expect(os.Getenv("KUBEBUILDER_ASSETS")).NotTo(BeEmpty(), "KUBEBUILDER_ASSETS must name the directory with etcd and kube-apiserver")
	Expect(v1alpha1.AddToScheme(scheme.Scheme)).To(Succeed())
	environment = &envtest.Environment{CRDDirectoryPaths: []string{"../../config/crd/bases"}, ErrorIfCRDPathMissing: true}
	config, err := environment.Start()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(environment.Stop)
	admin, err = client.New(config, client.Options{})
	Expect(err).NotTo(HaveOccurred())
	binary, err = gexec.Build("github.com/pbx-operator/pbx-operator/controllers")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(gexec.CleanupBuildArtifacts)
})

var _ = Describe("The manager", func() {
	It("has all the rights that it needs in the whole cluster", func(ctx SpecContext) {
		system, tenant := newNamespace(ctx, "system-"), newNamespace(ctx, "tenant-")
		manager := start(ctx, system)
		works(ctx, tenant)
		deniedNothing(manager)
	})

	It("has them with Roles in some namespaces, and does nothing elsewhere", func(ctx SpecContext) {
		system, tenant, other := newNamespace(ctx, "system-"), newNamespace(ctx, "tenant-"), newNamespace(ctx, "other-")
		elsewhere := newIntegration(ctx, other)
		manager := start(ctx, system, "watchNamespaces={"+tenant+"}")
		works(ctx, tenant)
		deniedNothing(manager)
		Expect(admin.Get(ctx, client.ObjectKeyFromObject(elsewhere), elsewhere)).To(Succeed())
		Expect(elsewhere.Status.Conditions).To(BeEmpty())
		Expect(elsewhere.Finalizers).To(BeEmpty())
	})
})

func newNamespace(ctx context.Context, prefix string) string {
	GinkgoHelper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix}}
	Expect(admin.Create(ctx, namespace)).To(Succeed())
	return namespace.Name
}

// start installs what the chart says of rights, and runs the manager as its ServiceAccount.
func start(ctx context.Context, system string, values ...string) *gexec.Session {
	GinkgoHelper()
	var account string
	var arguments []string
	for _, object := range render(ctx, system, values...) {
		switch object.GetKind() {
		case "ServiceAccount":
			account = object.GetName()
			fallthrough
		case "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding":
			Expect(admin.Create(ctx, object)).To(Succeed())
			DeferCleanup(remove, object)
		case "Deployment":
			deployment := &appsv1.Deployment{}
			Expect(runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, deployment)).To(Succeed())
			arguments = deployment.Spec.Template.Spec.Containers[0].Args
		}
	}
	arguments = append(arguments, "--metrics-bind-address=0", "--health-probe-bind-address=0", "--leader-election-namespace="+system)
	command := exec.CommandContext(ctx, binary, arguments...)
	command.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig(system, account), "POD_NAMESPACE="+system)
	session, err := gexec.Start(command, GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { session.Terminate().Wait(time.Minute) })
	return session
}

func remove(ctx context.Context, object client.Object) {
	GinkgoHelper()
	Expect(admin.Delete(ctx, object)).To(Succeed())
}

// kubeconfig is that of a ServiceAccount.
func kubeconfig(namespace, account string) string {
	GinkgoHelper()
	user, err := environment.AddUser(envtest.User{
		Name:   fmt.Sprintf("system:serviceaccount:%s:%s", namespace, account),
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}, nil)
	Expect(err).NotTo(HaveOccurred())
	text, err := user.KubeConfig()
	Expect(err).NotTo(HaveOccurred())
	path := filepath.Join(GinkgoT().TempDir(), "kubeconfig")
	Expect(os.WriteFile(path, text, 0o600)).To(Succeed())
	return path
}

const chart = "../../charts/pbx-operator"

// read reads the chart, so that `go test` runs the suite anew when it has changed.
func read() {
	GinkgoHelper()
	Expect(filepath.WalkDir(chart, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			_, err = os.ReadFile(path)
		}
		return err
	})).To(Succeed())
}

func render(ctx context.Context, namespace string, values ...string) []*unstructured.Unstructured {
	GinkgoHelper()
	read()
	arguments := []string{"template", "north", chart, "--namespace", namespace}
	for _, value := range values {
		arguments = append(arguments, "--set", value)
	}
	command := exec.CommandContext(ctx, "../../bin/helm", arguments...)
	command.Stderr = GinkgoWriter
	text, err := command.Output()
	Expect(err).NotTo(HaveOccurred(), "`make chart` builds bin/helm")
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		Expect(err).NotTo(HaveOccurred())
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

func newIntegration(ctx context.Context, namespace string) *v1alpha1.PBXIntegration {
	GinkgoHelper()
	pbx := simtest.Start(GinkgoT(), sim.DefaultConfig())
	Expect(admin.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pbx"},
		Data:       map[string][]byte{"clientID": []byte(pbx.ClientID), "clientSecret": []byte(pbx.ClientSecret)},
	})).To(Succeed())
	integration := &v1alpha1.PBXIntegration{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "office"},
		Spec: v1alpha1.PBXIntegrationSpec{
			PBX: v1alpha1.PBX{Type: v1alpha1.PBXTypeRingMe, RingMe: &v1alpha1.RingMe{
				URL: pbx.URL, CredentialsSecretRef: v1alpha1.SecretReference{Name: "pbx"}, RequestsPerMinute: 60000,
			}},
			Receiver:  v1alpha1.Receiver{PublicURL: "https://calls.example.com"},
			Discovery: &v1alpha1.Discovery{},
		},
	}
	Expect(admin.Create(ctx, integration)).To(Succeed())
	return integration
}

// works has each controller do what it is there for, in one namespace.
func works(ctx context.Context, namespace string) {
	GinkgoHelper()
	expired := &v1alpha1.CallLeg{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "old", Labels: map[string]string{v1alpha1.LabelExpires: "20260102T1000"}},
		Status: v1alpha1.CallLegStatus{
			CallID: "old", LegID: "old", Kind: v1alpha1.LegExtension, Direction: v1alpha1.DirectionInbound, Phase: v1alpha1.PhaseRinging, Revision: 1,
		},
	}
	Expect(admin.Create(ctx, expired)).To(Succeed())
	integration := newIntegration(ctx, namespace)
	rollOut(ctx, namespace)
	isTrue(ctx, integration, v1alpha1.ConditionReady, func() []metav1.Condition { return integration.Status.Conditions })
	isTrue(ctx, integration, v1alpha1.ConditionDiscovered, func() []metav1.Condition { return integration.Status.Conditions })
	isTrue(ctx, integration, v1alpha1.ConditionExtensions, func() []metav1.Condition { return integration.Status.Conditions })
	Eventually(func() bool { return apierrors.IsNotFound(admin.Get(ctx, client.ObjectKeyFromObject(expired), expired)) }).
		Should(BeTrue(), "the expired leg is still there")

	call := &v1alpha1.CallCommand{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "call"},
		Spec: v1alpha1.CallCommandSpec{
			IntegrationRef: v1alpha1.IntegrationReference{Name: integration.Name},
			Dial:           &v1alpha1.Dial{Extension: "1234*101", Number: "+442079460123"},
		},
	}
	Expect(admin.Create(ctx, call)).To(Succeed())
	Eventually(func(g Gomega) {
		g.Expect(admin.Get(ctx, client.ObjectKeyFromObject(call), call)).To(Succeed())
		g.Expect(call.Status.CallID + call.Status.CallBackID).NotTo(BeEmpty())
	}).Should(Succeed())

	Expect(admin.DeleteAllOf(ctx, &v1alpha1.ExtensionMapping{}, client.InNamespace(namespace))).To(Succeed())
	Expect(admin.Delete(ctx, integration)).To(Succeed())
	Eventually(func() bool {
		return apierrors.IsNotFound(admin.Get(ctx, client.ObjectKeyFromObject(integration), integration))
	}).
		Should(BeTrue(), "the integration is still there")
}

// rollOut does what the controller of StatefulSets does: there is none here.
func rollOut(ctx context.Context, namespace string) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		var sets appsv1.StatefulSetList
		g.Expect(admin.List(ctx, &sets, client.InNamespace(namespace))).To(Succeed())
		g.Expect(sets.Items).NotTo(BeEmpty())
		set := &sets.Items[0]
		n := *set.Spec.Replicas
		set.Status = appsv1.StatefulSetStatus{
			ObservedGeneration: set.Generation, Replicas: n, ReadyReplicas: n, UpdatedReplicas: n, AvailableReplicas: n, CurrentReplicas: n,
		}
		g.Expect(admin.Status().Update(ctx, set)).To(Succeed())
	}).Should(Succeed())
}

func isTrue(ctx context.Context, object client.Object, condition string, conditions func() []metav1.Condition) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(admin.Get(ctx, client.ObjectKeyFromObject(object), object)).To(Succeed())
		found := meta.FindStatusCondition(conditions(), condition)
		g.Expect(found).NotTo(BeNil(), condition)
		g.Expect(found.Status).To(Equal(metav1.ConditionTrue), condition+": "+found.Message)
	}).Should(Succeed())
}

// deniedNothing makes sure that the API server has refused the manager nothing.
func deniedNothing(manager *gexec.Session) {
	GinkgoHelper()
	Expect(manager).NotTo(gexec.Exit())
	Expect(manager.Out).NotTo(gbytes.Say("(?i)forbidden"))
	for line := range strings.Lines(string(manager.Err.Contents())) {
		Expect(strings.ToLower(line)).NotTo(ContainSubstring("forbidden"))
	}
}
