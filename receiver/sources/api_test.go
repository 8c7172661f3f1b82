package sources_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// api is as much of a Kubernetes API server as a watch needs.
type api struct {
	mu      sync.Mutex
	version int
	objects map[string]map[string]metav1.Object // resource → name → object
	changed chan struct{}
	away    bool
	patches []string
	server  *httptest.Server
}

func newAPI(t *testing.T) *api {
	t.Helper()
	a := &api{objects: map[string]map[string]metav1.Object{}, changed: make(chan struct{})}
	a.server = httptest.NewServer(a)
	t.Cleanup(func() {
		a.server.CloseClientConnections()
		a.server.Close()
	})
	return a
}

func (a *api) config() *rest.Config { return &rest.Config{Host: a.server.URL, QPS: -1} }

func (a *api) put(resource string, object metav1.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	object.SetResourceVersion(strconv.Itoa(a.version))
	if a.objects[resource] == nil {
		a.objects[resource] = map[string]metav1.Object{}
	}
	a.objects[resource][object.GetName()] = object
	a.wake()
}

func (a *api) remove(resource, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	delete(a.objects[resource], name)
	a.wake()
}

func (a *api) setAway(away bool) {
	a.mu.Lock()
	a.away = away
	a.wake()
	a.mu.Unlock()
	if away {
		a.server.CloseClientConnections()
	}
}

func (a *api) wake() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	away := a.away
	a.mu.Unlock()
	parts := strings.Split(r.URL.Path, "/")
	switch {
	case away:
		http.Error(w, "away", http.StatusServiceUnavailable)
	case r.Method == http.MethodPatch:
		a.patch(w, r)
	case r.URL.Query().Get("watch") != "":
		a.watch(w, r, parts[len(parts)-1])
	default:
		a.list(w, r, parts[len(parts)-1])
	}
}

// selected reports whether a field selector names the object.
func selected(object metav1.Object, selector string) bool {
	field, value, _ := strings.Cut(selector, "=")
	switch field {
	case "metadata.name":
		return object.GetName() == value
	case "spec.integrationRef.name":
		mapping, ok := object.(*v1alpha1.ExtensionMapping)
		return ok && mapping.Spec.IntegrationRef.Name == value
	default:
		return false
	}
}

func (a *api) list(w http.ResponseWriter, r *http.Request, resource string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := map[string]any{"metadata": map[string]any{"resourceVersion": strconv.Itoa(a.version)}}
	kinds := map[string][2]string{
		"pbxintegrations":   {"PBXIntegrationList", v1alpha1.GroupVersion.String()},
		"extensionmappings": {"ExtensionMappingList", v1alpha1.GroupVersion.String()},
		"secrets":           {"SecretList", "v1"},
	}
	list["kind"], list["apiVersion"] = kinds[resource][0], kinds[resource][1]
	items := []any{}
	for _, object := range a.objects[resource] {
		if selected(object, r.URL.Query().Get("fieldSelector")) {
			items = append(items, object)
		}
	}
	list["items"] = items
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list)
}

// watch tells of the objects that differ from what it told before.
func (a *api) watch(w http.ResponseWriter, r *http.Request, resource string) {
	told := map[string]string{}
	w.Header().Set("Content-Type", "application/json")
	since, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	initial := r.URL.Query().Get("sendInitialEvents") == "true"
	for first := true; ; first = false {
		a.mu.Lock()
		changed, away := a.changed, a.away
		for name, object := range a.objects[resource] {
			version, _ := strconv.Atoi(object.GetResourceVersion())
			if told[name] == object.GetResourceVersion() || !selected(object, r.URL.Query().Get("fieldSelector")) {
				continue
			}
			if !first || initial || version > since {
				a.tell(w, "MODIFIED", object)
			}
			told[name] = object.GetResourceVersion()
		}
		for name := range told {
			if _, ok := a.objects[resource][name]; !ok {
				a.tell(w, "DELETED", shell(resource, name, a.version))
				delete(told, name)
			}
		}
		if first && initial {
			end := shell(resource, "", a.version)
			end.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
			a.tell(w, "BOOKMARK", end)
		}
		a.mu.Unlock()
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
		if away {
			return
		}
	}
}

// shell is an object without content.
func shell(resource, name string, version int) metav1.Object {
	meta := metav1.ObjectMeta{Namespace: "telephony", Name: name, ResourceVersion: strconv.Itoa(version)}
	switch resource {
	case "extensionmappings":
		return &v1alpha1.ExtensionMapping{TypeMeta: ours("ExtensionMapping"), ObjectMeta: meta}
	case "pbxintegrations":
		return &v1alpha1.PBXIntegration{TypeMeta: ours("PBXIntegration"), ObjectMeta: meta}
	default:
		return &corev1.Secret{TypeMeta: metav1.TypeMeta{Kind: "Secret", APIVersion: "v1"}, ObjectMeta: meta}
	}
}

func (a *api) tell(w io.Writer, kind string, object metav1.Object) {
	raw, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	_ = json.NewEncoder(w).Encode(metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: raw}})
}

func (a *api) patch(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.patches = append(a.patches, fmt.Sprintf("%s %s %s", r.URL.Path, r.URL.RawQuery, body))
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(&v1alpha1.ExtensionMapping{TypeMeta: ours("ExtensionMapping")})
}

func ours(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: v1alpha1.GroupVersion.String()}
}
