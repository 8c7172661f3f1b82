package receivertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

var errNoAssets = errors.New("KUBEBUILDER_ASSETS must name the directory with etcd and kube-apiserver: run `make test`, or set it to the " +
	"output of `go run . envtest` in hack/cluster")

// cluster is etcd and kube-apiserver with the CRDs of this project, and the binary of the receiver.
type cluster struct {
	environment        *envtest.Environment
	admin              client.Client
	binary, kubeconfig string
}

func startCluster(ctx context.Context, dir string) (*cluster, error) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return nil, errNoAssets
	}
	c := &cluster{
		environment: &envtest.Environment{CRDDirectoryPaths: []string{"../../config/crd/bases"}, ErrorIfCRDPathMissing: true},
		binary:      filepath.Join(dir, "receiver"), kubeconfig: filepath.Join(dir, "kubeconfig"),
	}
	if text, err := exec.CommandContext(ctx, "go", "build", "-o", c.binary, "..").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot build the receiver: %w: %s", err, text)
	}
	if err := v1alpha1.AddToScheme(scheme.Scheme); err != nil {
		return nil, err
	}
	config, err := c.environment.Start()
	if err != nil {
		return nil, fmt.Errorf("cannot start the API server: %w", err)
	}
	if c.admin, err = client.New(config, client.Options{}); err != nil {
		return nil, err
	}
	user, err := c.environment.AddUser(envtest.User{Name: "receiver"}, nil)
	if err != nil {
		return nil, err
	}
	text, err := user.KubeConfig()
	if err != nil {
		return nil, err
	}
	return c, errors.Join(os.WriteFile(c.kubeconfig, text, 0o600), c.allow(ctx))
}

// allow gives the receiver the permissions of its Role.
func (c *cluster) allow(ctx context.Context) error {
	rule := func(group, resource string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}
	}
	ours := v1alpha1.GroupVersion.Group
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "receiver"}, Rules: []rbacv1.PolicyRule{
		rule(ours, "pbxintegrations", "get", "list", "watch"), rule(ours, "pbxintegrations/status", "get", "patch"),
		rule(ours, "extensionmappings", "get", "list", "watch"), rule(ours, "extensionmappings/status", "patch"),
		rule(ours, "calllegs", "get", "list", "create", "update", "delete"),
		rule("", "secrets", "get", "list", "watch"), rule("events.k8s.io", "events", "create"),
	}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "receiver"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "receiver"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "receiver"}},
	}
	return errors.Join(c.admin.Create(ctx, role), c.admin.Create(ctx, binding))
}

// office is an integration with its receiver.
type office struct {
	*cluster
	pbx             *v1alpha1.PBXIntegration
	key             eventurl.Key
	dir             string
	address, probes string
	command         *exec.Cmd
}

// open declares an integration in a namespace of its own. The receiver is not started yet.
func (c *cluster) open(ctx context.Context, dir string, pbx v1alpha1.PBX) (*office, error) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "telephony-"}}
	if err := c.admin.Create(ctx, namespace); err != nil {
		return nil, err
	}
	o := &office{cluster: c, dir: dir, address: freeAddress(), probes: freeAddress()}
	o.pbx = &v1alpha1.PBXIntegration{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "office"}}
	o.pbx.Spec.PBX, o.pbx.Spec.Receiver.PublicURL = pbx, "https://calls.example.com"
	var err error
	if o.key, err = eventurl.NewKey(1, "office"); err != nil {
		return nil, err
	}
	keys := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: eventurl.SecretName("office")}, Data: eventurl.Ring{o.key}.Data(),
	}
	return o, errors.Join(c.admin.Create(ctx, o.pbx), c.admin.Create(ctx, keys))
}

// freeAddress is one that stays free while no receiver listens on it: connections do not come from
// its host.
func freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.1.1:0")
	if err != nil {
		return ""
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// staff maps an extension to a user.
func (o *office) staff(ctx context.Context, name, number, id string) error {
	return o.admin.Create(ctx, &v1alpha1.ExtensionMapping{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.pbx.Namespace, Name: name},
		Spec: v1alpha1.ExtensionMappingSpec{
			IntegrationRef: v1alpha1.IntegrationReference{Name: "office"}, Extension: v1alpha1.Extension{Number: number, ID: id, Type: v1alpha1.ExtensionPhone},
			User: &v1alpha1.User{Name: name},
		},
	})
}

func (o *office) start() error {
	o.command = exec.Command(o.binary, "serve", "--integration", "office", "--namespace", o.pbx.Namespace, "--data-dir", o.dir,
		"--listen", o.address, "--probe-listen", o.probes, "--log-level", "warn")
	o.command.Env = append(os.Environ(), "KUBECONFIG="+o.kubeconfig)
	o.command.Stderr = GinkgoWriter
	return o.command.Start()
}

// kill ends the receiver as a loss of its node would.
func (o *office) kill() {
	if o.command != nil {
		_ = o.command.Process.Signal(syscall.SIGKILL)
		_ = o.command.Wait()
		o.command = nil
	}
}

// send sends a notification to the URL of the account and returns the status; 0: nobody answers.
func (o *office) send(ctx context.Context, contentType, body string) int {
	url := "http://" + o.address + eventurl.PathPrefix + o.key.Token(eventurl.Account(string(o.pbx.UID)))
	status, _ := do(ctx, http.MethodPost, url, contentType, body)
	return status
}

func (o *office) metrics(ctx context.Context) string {
	_, text := do(ctx, http.MethodGet, "http://"+o.probes+"/metrics", "", "")
	return text
}

func do(ctx context.Context, method, url, contentType, body string) (status int, text string) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, ""
	}
	request.Header.Set("Content-Type", contentType)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = response.Body.Close() }()
	answer, _ := io.ReadAll(response.Body) // what is missing is missed by whoever looks for it
	return response.StatusCode, string(answer)
}

// events is what the receiver says of events in the status.
func (o *office) events(ctx context.Context) (v1alpha1.EventsStatus, error) {
	var pbx v1alpha1.PBXIntegration
	if err := o.admin.Get(ctx, client.ObjectKeyFromObject(o.pbx), &pbx); err != nil || pbx.Status.Events == nil {
		return v1alpha1.EventsStatus{}, err
	}
	return *pbx.Status.Events, nil
}

// legs describes the CallLegs.
func (o *office) legs(ctx context.Context) ([]string, error) {
	var legs v1alpha1.CallLegList
	if err := o.admin.List(ctx, &legs, client.InNamespace(o.pbx.Namespace)); err != nil {
		return nil, err
	}
	found := make([]string, 0, len(legs.Items))
	for i := range legs.Items {
		s := legs.Items[i].Status
		found = append(found, fmt.Sprintf("%s %s %s %s of %s", s.CallID, s.Kind, s.Direction, s.Phase, s.User))
	}
	return found, nil
}

// forget has the receiver believe that it took the last events a while ago.
func (o *office) forget(ago time.Duration) error {
	text := fmt.Sprintf(`{"taking":%q}`, time.Now().Add(-ago).Format(time.RFC3339Nano))
	return os.WriteFile(filepath.Join(o.dir, "taking-events.json"), []byte(text), 0o600)
}
