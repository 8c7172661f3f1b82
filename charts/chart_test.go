// Package charts holds the Helm chart, and the tests of what it renders. They need bin/helm: `make
// chart` builds it and runs them.
package charts

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// render returns the objects that the chart makes with these values, by kind, namespace and name.
func render(t *testing.T, values ...string) map[string]*unstructured.Unstructured {
	t.Helper()
	text, err := template(t, values...)
	if err != nil {
		t.Fatal(err)
	}
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	objects := map[string]*unstructured.Unstructured{}
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(object.Object) > 0 {
			objects[object.GetKind()+"/"+object.GetNamespace()+"/"+object.GetName()] = object
		}
	}
}

// read reads the chart, so that `go test` runs the tests anew when it has changed.
func read(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("pbx-operator", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			_, err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func template(t *testing.T, values ...string) ([]byte, error) {
	t.Helper()
	read(t)
	helm, err := filepath.Abs("../bin/helm")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"template", "north", "pbx-operator", "--namespace", "system"}
	for _, value := range values {
		args = append(args, "--set", value)
	}
	command := exec.CommandContext(t.Context(), helm, args...)
	var problems bytes.Buffer
	command.Stderr = &problems
	text, err := command.Output()
	if errors.Is(err, exec.ErrNotFound) || err != nil && problems.Len() == 0 {
		t.Fatalf("cannot run bin/helm, which `make chart` builds: %v", err)
	}
	if err != nil {
		return nil, errors.New(problems.String())
	}
	return text, nil
}

func decode[T any](t *testing.T, objects map[string]*unstructured.Unstructured, key string) *T {
	t.Helper()
	object, ok := objects[key]
	if !ok {
		t.Fatalf("there is no %s", key)
	}
	typed := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, typed, true); err != nil {
		t.Fatal(err)
	}
	return typed
}

func kinds(objects map[string]*unstructured.Unstructured, kind string) []string {
	var found []string
	for key, object := range objects {
		if object.GetKind() == kind {
			found = append(found, strings.TrimPrefix(key, kind+"/"))
		}
	}
	slices.Sort(found)
	return found
}

func TestWithWatchedNamespacesThereIsNoClusterRole(t *testing.T) {
	objects := render(t, "watchNamespaces={a,b}")
	for _, kind := range []string{"ClusterRole", "ClusterRoleBinding"} {
		if found := kinds(objects, kind); found != nil {
			t.Errorf("%s: %v", kind, found)
		}
	}
	want := []string{
		"a/north-pbx-operator", "a/north-pbx-operator-caller", "a/north-pbx-operator-edit", "a/north-pbx-operator-view",
		"b/north-pbx-operator", "b/north-pbx-operator-caller", "b/north-pbx-operator-edit", "b/north-pbx-operator-view",
		"system/north-pbx-operator-leader-election",
	}
	if diff := cmp.Diff(want, kinds(objects, "Role")); diff != "" {
		t.Errorf("Roles (-want +got):\n%s", diff)
	}
	everywhere := decode[rbacv1.ClusterRole](t, render(t), "ClusterRole//north-pbx-operator")
	for _, namespace := range []string{"a", "b"} {
		role := decode[rbacv1.Role](t, objects, "Role/"+namespace+"/north-pbx-operator")
		if diff := cmp.Diff(everywhere.Rules, role.Rules); diff != "" {
			t.Errorf("%s has other rights than a manager of all namespaces:\n%s", namespace, diff)
		}
		binding := decode[rbacv1.RoleBinding](t, objects, "RoleBinding/"+namespace+"/north-pbx-operator")
		subject := rbacv1.Subject{Kind: "ServiceAccount", Name: "north-pbx-operator", Namespace: "system"}
		if binding.RoleRef.Kind != "Role" || binding.RoleRef.Name != role.Name || !slices.Contains(binding.Subjects, subject) {
			t.Errorf("%s: binding %+v to %+v", namespace, binding.RoleRef, binding.Subjects)
		}
	}
	if args := arguments(t, objects); !slices.Contains(args, "--watch-namespace=a,b") {
		t.Errorf("arguments: %v", args)
	}
}

func TestEveryNamespaceIsNamedOnce(t *testing.T) {
	if got := kinds(render(t, "watchNamespaces={a,a}"), "RoleBinding"); len(got) != 2 {
		t.Errorf("RoleBindings: %v", got)
	}
}

func arguments(t *testing.T, objects map[string]*unstructured.Unstructured) []string {
	t.Helper()
	return decode[appsv1.Deployment](t, objects, "Deployment/system/north-pbx-operator").Spec.Template.Spec.Containers[0].Args
}

func TestWhoMayViewANamespaceSeesNoPhoneNumbers(t *testing.T) {
	const toView = "rbac.authorization.k8s.io/aggregate-to-view"
	aggregated := func(values ...string) (resources []string) {
		for key := range render(t, values...) {
			if !strings.HasPrefix(key, "ClusterRole/") {
				continue
			}
			role := decode[rbacv1.ClusterRole](t, render(t, values...), key)
			if role.Labels[toView] != "true" {
				continue
			}
			for _, rule := range role.Rules {
				resources = append(resources, rule.Resources...)
			}
		}
		return resources
	}
	if got := aggregated(); got != nil {
		t.Errorf("by default a viewer sees %v", got)
	}
	if got := aggregated("rbac.aggregateToView=true"); !slices.Contains(got, "calllegs") {
		t.Errorf("with rbac.aggregateToView a viewer sees %v", got)
	}
}

func TestTheLeaseIsThatOfTheRelease(t *testing.T) {
	objects := render(t)
	if args := arguments(t, objects); !slices.Contains(args, "--leader-election-id=north-pbx-operator-manager") {
		t.Errorf("arguments: %v", args)
	}
	for values, want := range map[string][]string{"": {"north-pbx-operator-manager"}, "watchLabelSelector=shard=1": nil} {
		role := decode[rbacv1.Role](t, render(t, values), "Role/system/north-pbx-operator-leader-election")
		if got := role.Rules[1].ResourceNames; !slices.Equal(got, want) {
			t.Errorf("with %q: leases %v, want %v", values, got, want)
		}
	}
}

func TestProxy(t *testing.T) {
	variables := func(values ...string) map[string]string {
		got := map[string]string{}
		for _, variable := range decode[appsv1.Deployment](t, render(t, values...), "Deployment/system/north-pbx-operator").Spec.Template.Spec.Containers[0].Env {
			if strings.HasSuffix(variable.Name, "_PROXY") {
				got[variable.Name] = variable.Value
			}
		}
		return got
	}
	if got := variables(); len(got) != 0 {
		t.Errorf("by default: %v", got)
	}
	want := map[string]string{
		"HTTPS_PROXY": "http://proxy:3128",
		"NO_PROXY":    ".corp,.svc,.cluster.local,localhost,127.0.0.1,$(KUBERNETES_SERVICE_HOST)",
	}
	if diff := cmp.Diff(want, variables("proxy.httpsProxy=http://proxy:3128", "proxy.noProxy=.corp")); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
}

func TestRollout(t *testing.T) {
	args := arguments(t, render(t, "rollout.maxConcurrent=3", "rollout.pause=1m"))
	if !slices.Contains(args, "--max-concurrent-rollouts=3") || !slices.Contains(args, "--rollout-pause=1m") {
		t.Errorf("arguments: %v", args)
	}
}

func TestCombinationsOfValues(t *testing.T) {
	for _, values := range [][]string{
		{"replicas=2"}, {"metrics.podMonitor=true"}, {"metrics.podMonitor=true", "watchNamespaces={a}"}, {"crds.enabled=false"}, {"crds.keep=false"},
		{"watchNamespaces={a}", "rbac.aggregateToView=true"}, {"imagePullSecrets[0].name=registry"}, {"extraArgs={--zap-devel}"},
	} {
		if len(render(t, values...)) == 0 {
			t.Errorf("%v: nothing", values)
		}
	}
	for value, want := range map[string]string{
		"rollout.maxConcurrent=0": "maxConcurrent", "rollout.pause=soon": "pause", "rbac.watch=true": "watch", "proxy.https=x": "https",
	} {
		if _, err := template(t, value); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", value, err, want)
		}
	}
}
