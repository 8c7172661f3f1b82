// Package deletiontest shows that deletion leaves nothing on the PBX however long its rate limit
// makes it take: controllers, rate limiter and simulated PBX run on one fake clock.
package deletiontest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/extension"
	"github.com/pbx-operator/pbx-operator/controllers/integration"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/ringme"
	"github.com/pbx-operator/pbx-operator/controllers/secrets"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

const (
	namespace = "telephony"
	office    = "office"
	firstID   = 5000
)

var phoneEvents = []v1alpha1.EventType{v1alpha1.EventDialIn, v1alpha1.EventDialOut, v1alpha1.EventAnswer, v1alpha1.EventHangup}

// world is a namespace with one integration and its mappings, whose controllers are driven by hand.
type world struct {
	t      *testing.T
	phones int
	pbx    *transport
	kube   client.Client
	ring   eventurl.Ring
	notes  map[string]int // Events by reason

	mappings, integrations reconcile.Reconciler
	due                    map[string]time.Time
	failures               map[string]int
}

// transport leads to the simulator without a network.
type transport struct {
	simulator http.Handler
	// answer replaces the simulator's unless it returns nil and no error.
	answer func(*http.Request) (*http.Response, error)
	asked  int
}

func (p *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if p.answer != nil {
		if response, err := p.answer(request); response != nil || err != nil {
			return response, err
		}
	}
	p.asked++
	if request.Body == nil {
		request.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	p.simulator.ServeHTTP(recorder, request)
	return recorder.Result(), nil
}

type indexer struct{ *fake.ClientBuilder }

func (i indexer) IndexField(_ context.Context, obj client.Object, field string, extract client.IndexerFunc) error {
	i.WithIndex(obj, field, extract)
	return nil
}

// Eventf implements lifecycle.Recorder.
func (w *world) Eventf(_, _ runtime.Object, _, reason, _, _ string, _ ...any) { w.notes[reason]++ }

type pbxes struct{ *pbxapi.Pool }

func (p pbxes) For(of *v1alpha1.PBXIntegration, credentials map[string][]byte) (integration.PBX, error) {
	return p.Client(of, credentials)
}

func newWorld(t *testing.T, phones int) *world {
	t.Helper()
	config := sim.DefaultConfig()
	config.Accounts[0].Agents, config.Accounts[0].Extensions = nil, nil
	for i := range phones {
		config.Accounts[0].Extensions = append(config.Accounts[0].Extensions, exchange.Extension{
			ID: firstID + i, Number: fmt.Sprint(1000 + i), Type: "phone",
		})
	}
	server, err := sim.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	key, err := eventurl.NewKey(1, office)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, phones: phones, pbx: &transport{simulator: server.API()}, ring: eventurl.Ring{key}, notes: map[string]int{}, due: map[string]time.Time{},
		failures: map[string]int{},
	}
	w.kube = w.cluster()
	w.start()
	w.register()
	return w
}

// cluster holds the integration, its Secrets and a Ready mapping for each phone.
func (w *world) cluster() client.Client {
	w.t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			w.t.Fatal(err)
		}
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.PBXIntegration{}, &v1alpha1.ExtensionMapping{})
	if err := lifecycle.IndexMappings(w.t.Context(), indexer{builder}); err != nil {
		w.t.Fatal(err)
	}
	if err := extension.IndexClaims(w.t.Context(), indexer{builder}); err != nil {
		w.t.Fatal(err)
	}
	builder.WithObjects(w.integration(120), secret("pbx", map[string][]byte{
		"clientID": []byte(sim.DefaultClientID), "clientSecret": []byte(sim.DefaultClientSecret),
	}), secret(eventurl.SecretName(office), w.ring.Data()))
	for i := range w.phones {
		builder.WithObjects(mapping(i))
	}
	return builder.Build()
}

func secret(name string, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: meta(name), Data: data}
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: types.UID("uid-" + name), Generation: 1, Finalizers: []string{v1alpha1.Finalizer},
		CreationTimestamp: metav1.Now(),
	}
}

func (w *world) integration(perMinute int32) *v1alpha1.PBXIntegration {
	return &v1alpha1.PBXIntegration{ObjectMeta: meta(office), Spec: v1alpha1.PBXIntegrationSpec{
		PBX: v1alpha1.PBX{Type: v1alpha1.PBXTypeRingMe, RingMe: &v1alpha1.RingMe{
			URL: "http://pbx.example.com", CredentialsSecretRef: v1alpha1.SecretReference{Name: "pbx"}, RequestsPerMinute: perMinute,
			QueueAgents: v1alpha1.QueueAgentsIgnore,
		}},
		Receiver: v1alpha1.Receiver{PublicURL: "https://calls.example.com"},
	}}
}

func nameOf(phone int) string { return fmt.Sprintf("phone-%d", phone) }

func mapping(phone int) *v1alpha1.ExtensionMapping {
	return &v1alpha1.ExtensionMapping{
		ObjectMeta: meta(nameOf(phone)),
		Spec: v1alpha1.ExtensionMappingSpec{
			IntegrationRef: v1alpha1.IntegrationReference{Name: office},
			Extension:      v1alpha1.Extension{Number: fmt.Sprintf("1234*%d", 1000+phone), Type: v1alpha1.ExtensionPhone},
		},
		Status: v1alpha1.ExtensionMappingStatus{
			ObservedGeneration: 1, ExtensionID: fmt.Sprint(firstID + phone), RegisteredEvents: new(int32(4)), KeyGeneration: 1,
			Conditions: []metav1.Condition{{
				Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonRegistered, Message: "registered",
				ObservedGeneration: 1, LastTransitionTime: metav1.Now(),
			}},
		},
	}
}

// start makes controllers as after a start of the manager: without any memory.
func (w *world) start() {
	pool := pbxapi.NewPool(map[v1alpha1.PBXType]pbxapi.Factory{v1alpha1.PBXTypeRingMe: ringme.New}, pbxapi.Options{Transport: w.pbx})
	w.mappings = extension.NewReconciler(pool, w, extension.Options{Client: w.kube, Reader: w.kube})
	w.integrations = integration.New(integration.Config{
		Client: w.kube, Live: w.kube, Secrets: secrets.NewReader(w.kube, w.kube, clock.RealClock{}), PBXes: pbxes{pool}, Recorder: w, Clock: clock.RealClock{},
		Interval: 10 * time.Minute,
	}).Reconciler()
}

// register makes the registrations of all phones, at no cost in time.
func (w *world) register() {
	w.t.Helper()
	pool := pbxapi.NewPool(map[v1alpha1.PBXType]pbxapi.Factory{v1alpha1.PBXTypeRingMe: ringme.New}, pbxapi.Options{Transport: w.pbx})
	pbx := w.administrator(pool)
	for phone := range w.phones {
		name := nameOf(phone)
		url := eventurl.URL("https://calls.example.com", w.ring.Current().Token(eventurl.Mapping(name, "uid-"+name)), "")
		for _, event := range phoneEvents {
			registration := pbxapi.Registration{Event: event, URL: url, Method: http.MethodPost}
			if _, err := pbx.Register(w.t.Context(), fmt.Sprint(firstID+phone), registration); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

func (w *world) administrator(pool *pbxapi.Pool) *pbxapi.Client {
	w.t.Helper()
	pbx, err := pool.Client(w.integration(1_000_000), map[string][]byte{
		"clientID": []byte(sim.DefaultClientID), "clientSecret": []byte(sim.DefaultClientSecret),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return pbx
}

// left is how many registrations the PBX holds.
func (w *world) left() int {
	w.t.Helper()
	w.pbx.answer = nil
	pbx, total := w.administrator(pbxapi.NewPool(
		map[v1alpha1.PBXType]pbxapi.Factory{v1alpha1.PBXTypeRingMe: ringme.New}, pbxapi.Options{Transport: w.pbx})), 0
	for phone := range w.phones {
		held, err := pbx.Registrations(w.t.Context(), fmt.Sprint(firstID+phone))
		if err != nil {
			w.t.Fatal(err)
		}
		total += len(held)
	}
	return total
}

// delete asks for the deletion of an object, and for a pass over it.
func (w *world) delete(obj client.Object) {
	w.t.Helper()
	if err := w.kube.Delete(w.t.Context(), obj); err != nil {
		w.t.Fatal(err)
	}
	w.due[obj.GetName()] = time.Now()
}

func (w *world) deleteIntegration() {
	w.t.Helper()
	w.delete(w.integration(120))
	for phone := range w.phones {
		w.due[nameOf(phone)] = time.Now() // the watch on the integration asks for it
	}
}

// run makes passes in the order in which they are due until done, or for so long.
func (w *world) run(most time.Duration, done func() bool) time.Duration {
	w.t.Helper()
	begin := time.Now()
	for !done() {
		name := w.next()
		if name == "" || w.due[name].Sub(begin) > most {
			w.t.Fatalf("not done after %s", time.Since(begin))
		}
		time.Sleep(time.Until(w.due[name]))
		w.pass(name)
	}
	return time.Since(begin)
}

func (w *world) next() string {
	first := ""
	for name, at := range w.due {
		if first == "" || at.Before(w.due[first]) || at.Equal(w.due[first]) && name < first {
			first = name
		}
	}
	return first
}

// pass makes one, and does what a work queue does with its result.
func (w *world) pass(name string) {
	reconciler := w.integrations
	if strings.HasPrefix(name, "phone-") {
		reconciler = w.mappings
	}
	result, err := reconciler.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}})
	switch {
	case err != nil:
		w.failures[name]++
		w.due[name] = time.Now().Add(min(time.Second<<min(w.failures[name], 10), 5*time.Minute))
	case result.RequeueAfter > 0:
		delete(w.failures, name)
		w.due[name] = time.Now().Add(result.RequeueAfter)
	default:
		delete(w.due, name)
	}
}

func (w *world) integrationGone() bool {
	err := w.kube.Get(w.t.Context(), types.NamespacedName{Namespace: namespace, Name: office}, &v1alpha1.PBXIntegration{})
	if client.IgnoreNotFound(err) != nil {
		w.t.Fatal(err)
	}
	return err != nil
}

func (w *world) mappingsGone() bool {
	var list v1alpha1.ExtensionMappingList
	if err := w.kube.List(w.t.Context(), &list); err != nil {
		w.t.Fatal(err)
	}
	return len(list.Items) == 0
}

func (w *world) expectNothingLeft() {
	w.t.Helper()
	if left := w.left(); left > 0 || w.notes[v1alpha1.ReasonRegistrationsLeft] > 0 {
		w.t.Errorf("%d of %d registrations are left, and %d Events tell of it", left, w.phones*len(phoneEvents), w.notes[v1alpha1.ReasonRegistrationsLeft])
	}
}

func TestTheDeletionOfAnIntegrationLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 300)
		w.deleteIntegration()
		took := w.run(time.Hour, w.integrationGone)
		w.expectNothingLeft()
		if took < 10*time.Minute {
			t.Errorf("it took %s: the limit of 120 requests a minute was not kept", took)
		}
		t.Logf("%d phones at 120 requests a minute took %s", w.phones, took.Round(time.Second))
	})
}

func TestTheDeletionOfMappingsLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 60)
		for phone := range w.phones {
			w.delete(mapping(phone))
		}
		w.run(time.Hour, w.mappingsGone)
		w.expectNothingLeft()
	})
}

// As when a namespace is deleted: everything at once, the Secrets first.
func TestTheDeletionOfEverythingLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 60)
		w.pass(office) // the controllers have seen the Secrets
		w.pass(nameOf(0))
		for _, name := range []string{"pbx", eventurl.SecretName(office)} {
			held := secret(name, nil)
			if err := w.kube.Get(t.Context(), client.ObjectKeyFromObject(held), held); err != nil {
				t.Fatal(err)
			}
			held.Finalizers = nil
			if err := w.kube.Update(t.Context(), held); err != nil {
				t.Fatal(err)
			}
			if err := w.kube.Delete(t.Context(), held); err != nil {
				t.Fatal(err)
			}
		}
		w.deleteIntegration()
		for phone := range w.phones {
			w.delete(mapping(phone))
		}
		w.run(time.Hour, func() bool { return w.integrationGone() && w.mappingsGone() })
		w.expectNothingLeft()
	})
}

// RingMe counts requests by the hour and says in a header when it takes more (API Request Rules).
func TestTheQuotaOfThePBXIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 60)
		reset := time.Now().Add(50 * time.Minute)
		w.pbx.answer = func(request *http.Request) (*http.Response, error) {
			if time.Now().After(reset) || strings.HasPrefix(request.URL.Path, "/oauth/") {
				return nil, nil
			}
			recorder := httptest.NewRecorder()
			recorder.Header().Set("X-RateLimit-Reset", fmt.Sprint(int(time.Until(reset).Seconds())+1))
			recorder.WriteHeader(http.StatusTooManyRequests)
			_, _ = recorder.WriteString(`{"status":"rate_limit_exceeded"}`)
			return recorder.Result(), nil
		}
		w.deleteIntegration()
		if took := w.run(2*time.Hour, w.integrationGone); took < 50*time.Minute {
			t.Errorf("it took %s", took)
		}
		w.expectNothingLeft()
	})
}

// An outage that is shorter than the deadline leaves nothing either.
func TestAnOutageIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 60)
		over := time.Now().Add(time.Minute)
		w.pbx.answer = func(*http.Request) (*http.Response, error) {
			if time.Now().After(over) {
				return nil, nil
			}
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		w.deleteIntegration()
		w.run(time.Hour, w.integrationGone)
		w.expectNothingLeft()
	})
}

// As kubectl delete does with a directory of manifests: the mappings are gone before the
// integration is.
func TestTheKeysStayWhenMappingsThatAreGoneLeftRegistrations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.pbx.answer = func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		w.deleteIntegration()
		for phone := range w.phones {
			w.delete(mapping(phone))
		}
		w.run(time.Hour, func() bool { return w.integrationGone() && w.mappingsGone() })
		w.expectTheKeysStay()
		if told := w.notes[v1alpha1.ReasonRegistrationsLeft]; told != w.phones+1 {
			t.Errorf("%d Events tell of what is left, want one for each mapping and one for the integration", told)
		}
	})
}

func (w *world) expectTheKeysStay() {
	w.t.Helper()
	ring := secret(eventurl.SecretName(office), nil)
	if err := w.kube.Get(w.t.Context(), client.ObjectKeyFromObject(ring), ring); err != nil || len(ring.OwnerReferences) > 0 {
		w.t.Errorf("the keys are gone, or go with the integration: %v, %v", ring.OwnerReferences, err)
	}
}

// A PBX that is gone for good holds nothing up for long, and what may be left on it is told. The
// keys by which it can be recognised stay.
func TestADeadPBXIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 60)
		w.pbx.answer = func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		w.deleteIntegration()
		took := w.run(time.Hour, w.integrationGone)
		if took > 10*time.Minute {
			t.Errorf("it took %s", took)
		}
		if told := w.notes[v1alpha1.ReasonRegistrationsLeft]; told != w.phones+1 {
			t.Errorf("%d Events tell of what is left, want one for each mapping and one for the integration", told)
		}
		w.expectTheKeysStay()
	})
}
