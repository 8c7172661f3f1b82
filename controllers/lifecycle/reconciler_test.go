package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle/lifecycletest"
)

type mapping = v1alpha1.ExtensionMapping

const interval = 10 * time.Minute

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// stub is a handler that comes to a given outcome.
type stub struct {
	done lifecycle.Done
	err  error
	// change is done to the object in Reconcile.
	change func(*mapping)
	// calls names what was asked of the handler.
	calls []string
}

func (s *stub) Suspended(m *mapping) bool { return m.Spec.Suspend }

func (s *stub) Reconcile(_ context.Context, m *mapping) (lifecycle.Done, error) {
	s.calls = append(s.calls, "reconcile")
	if s.change != nil {
		s.change(m)
	}
	return s.done, s.err
}

func (s *stub) Finalize(context.Context, *mapping) (lifecycle.Done, error) {
	s.calls = append(s.calls, "finalize")
	return s.done, s.err
}

// notebook records Events.
type notebook []string

func (n *notebook) Eventf(_, _ runtime.Object, eventtype, reason, _, note string, args ...any) {
	*n = append(*n, eventtype+" "+reason+": "+fmt.Sprintf(note, args...))
}

// bench is a Reconciler over one object.
type bench struct {
	handler    stub
	events     notebook
	writes     int
	clock      *clocktesting.FakePassiveClock
	client     client.Client
	registry   *prometheus.Registry
	reconciler *lifecycle.Reconciler[*mapping]
}

func newBench(t *testing.T, obj *mapping, funcs interceptor.Funcs) *bench {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	b := &bench{clock: clocktesting.NewFakePassiveClock(noon), registry: prometheus.NewRegistry()}
	count := func(err error) error {
		b.writes++
		return err
	}
	if funcs.SubResourcePatch == nil {
		funcs.SubResourcePatch = func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return count(c.SubResource(sub).Patch(ctx, o, p, opts...))
		}
	}
	funcs.Patch = func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
		return count(c.Patch(ctx, o, p, opts...))
	}
	b.client = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&mapping{}).WithObjects(obj).WithInterceptorFuncs(funcs).Build()
	metrics, err := lifecycle.NewMetrics(b.registry)
	if err != nil {
		t.Fatal(err)
	}
	b.reconciler = &lifecycle.Reconciler[*mapping]{
		Name: "test", Client: b.client, Recorder: &b.events, Metrics: metrics, Clock: b.clock, Interval: interval, Handler: &b.handler,
	}
	return b
}

func newMapping(change ...func(*mapping)) *mapping {
	m := &mapping{ObjectMeta: metav1.ObjectMeta{Namespace: "telephony", Name: "ann", UID: "1", Generation: 3, Finalizers: []string{v1alpha1.Finalizer}}}
	for _, apply := range change {
		apply(m)
	}
	return m
}

func readyAs(status metav1.ConditionStatus, reason string) func(*mapping) {
	return func(m *mapping) {
		lifecycle.SetCondition(m, noon.Add(-time.Hour), v1alpha1.ConditionReady, status, reason, "as before")
		m.Status.ObservedGeneration = m.Generation
	}
}

func (b *bench) pass(t *testing.T) (reconcile.Result, error) {
	t.Helper()
	return b.reconciler.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Namespace: "telephony", Name: "ann"}})
}

func (b *bench) object(t *testing.T) *mapping {
	t.Helper()
	m := &mapping{}
	if err := b.client.Get(t.Context(), client.ObjectKey{Namespace: "telephony", Name: "ann"}, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// summary is what a user sees: the conditions that are set, with their reasons.
func summary(m *mapping) map[string]string {
	result := map[string]string{}
	for _, condition := range m.Status.Conditions {
		result[condition.Type] = string(condition.Status) + " " + condition.Reason
	}
	return result
}

func TestOutcomes(t *testing.T) {
	cause := errors.New("because")
	jittered := lifecycle.Jitter(interval, "1")
	tests := map[string]struct {
		was            func(*mapping)
		done           lifecycle.Done
		err            error
		wantConditions map[string]string
		wantEvents     notebook
		wantAfter      time.Duration
		wantErr        bool
	}{
		"done": {
			wantConditions: map[string]string{"Ready": "True Reconciled"},
			wantEvents:     notebook{"Normal Reconciled: everything is as the spec asks for"},
			wantAfter:      jittered,
		},
		"done in its own words and time": {
			done:           lifecycle.Done{Reason: "Registered", Message: "4 events", After: time.Second},
			wantConditions: map[string]string{"Ready": "True Registered"},
			wantEvents:     notebook{"Normal Registered: 4 events"},
			wantAfter:      time.Second,
		},
		"done as before tells nobody": {
			was:            readyAs(metav1.ConditionTrue, "Reconciled"),
			wantConditions: map[string]string{"Ready": "True Reconciled"},
			wantAfter:      jittered,
		},
		"done as before, with a notice": {
			was:            readyAs(metav1.ConditionTrue, "Reconciled"),
			done:           lifecycle.Done{Notice: lifecycle.Notice{Reason: "DriftCorrected", Message: "one was missing", Warning: true}},
			wantConditions: map[string]string{"Ready": "True Reconciled"},
			wantEvents:     notebook{"Warning DriftCorrected: one was missing"},
			wantAfter:      jittered,
		},
		"terminal": {
			err:            lifecycle.Terminal{Reason: "InvalidSpec", Err: cause},
			wantConditions: map[string]string{"Ready": "False InvalidSpec", "Stalled": "True InvalidSpec"},
			wantEvents:     notebook{"Warning InvalidSpec: because"},
			wantAfter:      jittered,
		},
		"a wrapped outcome is still one": {
			err:            fmt.Errorf("on the way: %w", lifecycle.Terminal{Reason: "InvalidSpec", Err: cause}),
			wantConditions: map[string]string{"Ready": "False InvalidSpec", "Stalled": "True InvalidSpec"},
			wantEvents:     notebook{"Warning InvalidSpec: on the way: because"},
			wantAfter:      jittered,
		},
		"waiting": {
			err:            lifecycle.Waiting{Reason: "IntegrationNotReady", After: 7 * time.Second, Err: cause},
			wantConditions: map[string]string{"Ready": "False IntegrationNotReady", "Reconciling": "True IntegrationNotReady"},
			wantAfter:      7 * time.Second,
		},
		"terminal, but a part of the pass comes to its end sooner": {
			done:           lifecycle.Done{After: time.Second},
			err:            lifecycle.Terminal{Reason: "InvalidSpec", Err: cause},
			wantConditions: map[string]string{"Ready": "False InvalidSpec", "Stalled": "True InvalidSpec"},
			wantEvents:     notebook{"Warning InvalidSpec: because"},
			wantAfter:      time.Second,
		},
		"waiting, with a part that has more time": {
			done:           lifecycle.Done{After: time.Minute},
			err:            lifecycle.Waiting{Reason: "IntegrationNotReady", After: 7 * time.Second, Err: cause},
			wantConditions: map[string]string{"Ready": "False IntegrationNotReady", "Reconciling": "True IntegrationNotReady"},
			wantAfter:      7 * time.Second,
		},
		"transient": {
			was:            readyAs(metav1.ConditionTrue, "Reconciled"),
			err:            lifecycle.Transient{Reason: "PBXUnreachable", Err: cause},
			wantConditions: map[string]string{"Ready": "False PBXUnreachable", "Reconciling": "True PBXUnreachable"},
			wantEvents:     notebook{"Warning PBXUnreachable: because"},
			wantErr:        true,
		},
		"any other error": {
			err:            cause,
			wantConditions: map[string]string{"Ready": "False InternalError", "Reconciling": "True InternalError"},
			wantEvents:     notebook{"Warning InternalError: because"},
			wantErr:        true,
		},
		"rate limited before it was ever Ready": {
			err:            lifecycle.RateLimited{After: time.Minute, Err: cause},
			wantConditions: map[string]string{"Ready": "False RateLimited", "Reconciling": "True RateLimited"},
			wantAfter:      time.Minute,
		},
		"rate limited while Ready": {
			was:            readyAs(metav1.ConditionTrue, "Registered"),
			err:            lifecycle.RateLimited{After: time.Minute, Err: cause},
			wantConditions: map[string]string{"Ready": "True Registered"},
			wantAfter:      time.Minute,
		},
		"rate limited while Ready for an older spec": {
			was: func(m *mapping) {
				readyAs(metav1.ConditionTrue, "Registered")(m)
				m.Generation++
			},
			err:            lifecycle.RateLimited{After: time.Minute, Err: cause},
			wantConditions: map[string]string{"Ready": "False RateLimited", "Reconciling": "True RateLimited"},
			wantAfter:      time.Minute,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			obj := newMapping()
			if tc.was != nil {
				tc.was(obj)
			}
			b := newBench(t, obj, interceptor.Funcs{})
			b.handler = stub{done: tc.done, err: tc.err}
			result, err := b.pass(t)
			if (err != nil) != tc.wantErr || result.RequeueAfter != tc.wantAfter {
				t.Errorf("pass = %v, %v; want after %v, error %v", result, err, tc.wantAfter, tc.wantErr)
			}
			after := b.object(t)
			if diff := cmp.Diff(tc.wantConditions, summary(after)); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.wantEvents, b.events); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if faults := lifecycletest.Check(after); len(faults) > 0 {
				t.Errorf("status: %v", faults)
			}

			writes, events := b.writes, len(b.events)
			b.handler.done.Notice = lifecycle.Notice{}
			b.clock.SetTime(noon.Add(time.Hour))
			if _, err := b.pass(t); (err != nil) != tc.wantErr {
				t.Errorf("second pass: %v", err)
			}
			if b.writes != writes || len(b.events) != events {
				t.Errorf("a second pass with the same outcome made %d writes and %d events", b.writes-writes, len(b.events)-events)
			}
		})
	}
}

func TestTransitionTimeIsThatOfTheChange(t *testing.T) {
	b := newBench(t, newMapping(readyAs(metav1.ConditionTrue, "Reconciled")), interceptor.Funcs{})
	b.handler.err = lifecycle.Transientf("PBXUnreachable", "down")
	_, _ = b.pass(t)
	ready := lifecycle.Ready(b.object(t))
	if !ready.LastTransitionTime.Time.Equal(noon) {
		t.Errorf("transition at %v, want the clock's %v", ready.LastTransitionTime, noon)
	}
}

func TestFinalizerIsThereBeforeTheFirstStep(t *testing.T) {
	b := newBench(t, newMapping(func(m *mapping) { m.Finalizers = nil }), interceptor.Funcs{})
	seen := false
	b.handler.change = func(m *mapping) { seen = len(b.object(t).Finalizers) == 1 && len(m.Finalizers) == 1 }
	if _, err := b.pass(t); err != nil {
		t.Fatal(err)
	}
	if !seen {
		t.Error("the handler ran before the finalizer was stored")
	}
}

func TestSuspendedObjectsAreLeftAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		was  func(*mapping)
		want string
	}{
		"Ready":     {was: readyAs(metav1.ConditionTrue, "Registered"), want: "True Suspended"},
		"not Ready": {was: readyAs(metav1.ConditionFalse, "PBXUnreachable"), want: "False Suspended"},
		"new":       {was: func(*mapping) {}, want: "Unknown Suspended"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, newMapping(tc.was, func(m *mapping) { m.Spec.Suspend = true }), interceptor.Funcs{})
			result, err := b.pass(t)
			if err != nil || result != (reconcile.Result{}) {
				t.Errorf("pass = %v, %v; want no requeue", result, err)
			}
			after := b.object(t)
			if diff := cmp.Diff(map[string]string{"Ready": tc.want}, summary(after)); diff != "" {
				t.Error(diff)
			}
			if len(b.handler.calls) != 0 {
				t.Errorf("handler was asked to %v", b.handler.calls)
			}
			if faults := lifecycletest.Check(after); len(faults) > 0 {
				t.Errorf("status: %v", faults)
			}
		})
	}
}

func deleted(m *mapping) { m.DeletionTimestamp = &metav1.Time{Time: noon} }

func TestDeletion(t *testing.T) {
	suspended := func(m *mapping) { m.Spec.Suspend = true }
	t.Run("ends with the object gone, also when it is suspended", func(t *testing.T) {
		b := newBench(t, newMapping(deleted, suspended), interceptor.Funcs{})
		b.handler.done.Notice = lifecycle.Notice{Reason: "RegistrationsLeft", Message: "17, 18", Warning: true}
		if _, err := b.pass(t); err != nil {
			t.Fatal(err)
		}
		err := b.client.Get(t.Context(), client.ObjectKey{Namespace: "telephony", Name: "ann"}, &mapping{})
		if !apierrors.IsNotFound(err) {
			t.Errorf("object after finalization: %v", err)
		}
		if diff := cmp.Diff(notebook{"Warning RegistrationsLeft: 17, 18"}, b.events); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("is tried again after any error", func(t *testing.T) {
		b := newBench(t, newMapping(deleted), interceptor.Funcs{})
		b.handler.err = lifecycle.Terminalf("CredentialsMissing", "no Secret")
		if _, err := b.pass(t); err == nil {
			t.Error("a Terminal outcome of Finalize must be tried again")
		}
		if got := b.object(t); len(got.Finalizers) != 1 || len(lifecycletest.Check(got)) > 0 {
			t.Errorf("object: %v, %v", got.Finalizers, lifecycletest.Check(got))
		}
	})
	t.Run("of others' finalizers is none of our business", func(t *testing.T) {
		b := newBench(t, newMapping(deleted, func(m *mapping) { m.Finalizers = []string{"example.com/other"} }), interceptor.Funcs{})
		if _, err := b.pass(t); err != nil || len(b.handler.calls) != 0 || b.writes != 0 {
			t.Errorf("pass: %v, calls %v, writes %d", err, b.handler.calls, b.writes)
		}
	})
}

func TestObjectThatIsGone(t *testing.T) {
	b := newBench(t, newMapping(func(m *mapping) { m.Name = "bob" }), interceptor.Funcs{})
	if result, err := b.pass(t); err != nil || result != (reconcile.Result{}) {
		t.Errorf("pass = %v, %v", result, err)
	}
}

func TestConflictIsQuietAndSoonTriedAgain(t *testing.T) {
	b := newBench(t, newMapping(), interceptor.Funcs{
		SubResourcePatch: func(context.Context, client.Client, string, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
			return apierrors.NewConflict(schema.GroupResource{Resource: "extensionmappings"}, "ann", errors.New("changed"))
		},
	})
	result, err := b.pass(t)
	if err != nil || result.RequeueAfter == 0 || result.RequeueAfter > time.Second || len(b.events) != 0 {
		t.Errorf("pass = %v, %v, events %v", result, err, b.events)
	}
}

func TestStatusOfAnOutdatedCopyIsNotWritten(t *testing.T) {
	b := newBench(t, newMapping(), interceptor.Funcs{})
	b.handler.change = func(m *mapping) {
		other := b.object(t)
		other.Status.KeyGeneration = 7
		if err := b.client.Status().Update(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		m.Status.ExtensionID = "from the outdated copy"
	}
	if _, err := b.pass(t); err != nil {
		t.Fatal(err)
	}
	if got := b.object(t).Status; got.ExtensionID != "" || got.KeyGeneration != 7 {
		t.Errorf("status %+v was written over a newer one", got)
	}
}

// lagging is a cache that has an older copy than the API server.
type lagging struct {
	client.Reader
	copy *mapping
}

func (l *lagging) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	into, ok := obj.(*mapping)
	if !ok || l.copy == nil {
		return l.Reader.Get(ctx, key, obj, opts...)
	}
	l.copy.DeepCopyInto(into)
	return nil
}

func TestAPassThatSeesAnOlderCopyDoesNotLeaveANewerStatusStanding(t *testing.T) {
	b := newBench(t, newMapping(), interceptor.Funcs{})
	cache := &lagging{Reader: b.client}
	b.reconciler.Reader = cache
	for _, err := range []error{nil, lifecycle.Waitingf(v1alpha1.ReasonProgressing, 0, "not yet"), nil} {
		b.handler.err = err
		before := b.object(t)
		result, err := b.pass(t)
		if err != nil {
			t.Fatal(err)
		}
		if result.RequeueAfter > 0 && result.RequeueAfter < time.Second {
			cache.copy = nil
			if _, err := b.pass(t); err != nil {
				t.Fatal(err)
			}
		}
		if b.handler.err != nil {
			cache.copy = before
		}
	}
	if got := summary(b.object(t)); !strings.HasPrefix(got[v1alpha1.ConditionReady], "True") {
		t.Errorf("conditions %v", got)
	}
}

// A spec that was edited while the object was suspended is not applied, and nobody may take it for
// that.
func TestEditsWhileSuspendedStayUnobserved(t *testing.T) {
	for name, tc := range map[string]struct {
		was        string // reason of Ready, of the generation before
		behind     int64
		elsewhere  bool
		wantBehind int64
	}{
		"the edit that suspends":                         {"Registered", 1, false, 0},
		"nothing edited":                                 {"Suspended", 0, false, 0},
		"an edit while it is suspended":                  {"Suspended", 1, false, 1},
		"two edits at once, of which one suspends":       {"Registered", 2, false, 2},
		"suspended elsewhere, nothing edited":            {"Registered", 0, true, 0},
		"an edit while another object suspends it":       {"Registered", 1, true, 1},
		"a second edit while another object suspends it": {"Suspended", 2, true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, newMapping(readyAs(metav1.ConditionTrue, tc.was), func(m *mapping) {
				m.Spec.Suspend = !tc.elsewhere
				m.Status.Conditions[0].ObservedGeneration = m.Generation - tc.behind
				m.Status.ObservedGeneration = m.Generation - tc.behind
			}), interceptor.Funcs{})
			b.handler.err = lifecycle.Suspended{Elsewhere: true, Err: errors.New("another object is suspended")}
			for range 2 {
				if result, err := b.pass(t); err != nil || result.RequeueAfter != 0 {
					t.Fatalf("%v, %v", result, err)
				}
			}
			got := b.object(t)
			ready := lifecycle.Ready(got)
			if ready.Status != metav1.ConditionTrue || ready.Reason != "Suspended" {
				t.Errorf("Ready is %s %s", ready.Status, ready.Reason)
			}
			if behind := got.Generation - ready.ObservedGeneration; behind != tc.wantBehind || got.Status.ObservedGeneration != ready.ObservedGeneration {
				t.Errorf("Ready is %d generations behind, want %d", behind, tc.wantBehind)
			}
			if faults := lifecycletest.Check(got); len(faults) > 0 {
				t.Error(faults)
			}
		})
	}
}

func TestMetricCountsOutcomes(t *testing.T) {
	b := newBench(t, newMapping(), interceptor.Funcs{})
	b.handler.err = lifecycle.Terminalf("InvalidSpec", "no")
	_, _ = b.pass(t)
	_, _ = b.pass(t)
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			labels := make([]string, 0, len(metric.GetLabel()))
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetName()+"="+label.GetValue())
			}
			got[family.GetName()+" "+strings.Join(labels, " ")] = metric.GetCounter().GetValue()
		}
	}
	want := map[string]float64{"pbx_operator_reconcile_outcomes_total controller=test outcome=terminal reason=InvalidSpec": 2}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCredentialsStayOutOfMessages(t *testing.T) {
	token := "abcdefghijklmnopqrstuvwxyz234567"
	b := newBench(t, newMapping(), interceptor.Funcs{})
	b.handler.err = lifecycle.Transientf("PBXUnreachable", "cannot register https://calls.example.com/pbx/ext-event/%s/dial-in", token)
	_, err := b.pass(t)
	for where, text := range map[string]string{
		"error": err.Error(), "condition": lifecycle.Ready(b.object(t)).Message, "event": b.events[0],
	} {
		if strings.Contains(text, token) {
			t.Errorf("%s holds the token: %s", where, text)
		}
	}
}

func TestCheckFindsFaults(t *testing.T) {
	condition := func(conditionType string, status metav1.ConditionStatus) metav1.Condition {
		return metav1.Condition{
			Type: conditionType, Status: status, Reason: "R", Message: "m", ObservedGeneration: 3, LastTransitionTime: metav1.NewTime(noon),
		}
	}
	for name, conditions := range map[string][]metav1.Condition{
		"no Ready":                    {condition("PBXReachable", "True")},
		"Ready while Reconciling":     {condition("Ready", "True"), condition("Reconciling", "True")},
		"Ready while Stalled":         {condition("Ready", "True"), condition("Stalled", "True")},
		"Reconciling and Stalled":     {condition("Ready", "False"), condition("Reconciling", "True"), condition("Stalled", "True")},
		"Stalled=False kept":          {condition("Ready", "True"), condition("Stalled", "False")},
		"not Ready for no reason":     {condition("Ready", "False")},
		"a condition of the future":   {func() metav1.Condition { c := condition("Ready", "True"); c.ObservedGeneration = 4; return c }()},
		"a condition without message": {func() metav1.Condition { c := condition("Ready", "True"); c.Message = ""; return c }()},
		"a token in a message":        {func() metav1.Condition { c := condition("Ready", "True"); c.Message = "/ext-event/abc"; return c }()},
		"a message that is too long": {func() metav1.Condition {
			c := condition("Ready", "True")
			c.Message = strings.Repeat("x", 1025)
			return c
		}()},
		"a condition that comes twice": {condition("Ready", "True"), condition("Ready", "True")},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMapping()
			m.Status.Conditions, m.Status.ObservedGeneration = conditions, 3
			if len(lifecycletest.Check(m)) == 0 {
				t.Error("nothing found")
			}
		})
	}
	healthy := newMapping()
	meta.SetStatusCondition(&healthy.Status.Conditions, condition("Ready", "True"))
	for _, generation := range []int64{2, 4} {
		healthy.Status.ObservedGeneration = generation
		if len(lifecycletest.Check(healthy)) == 0 {
			t.Errorf("status of generation %d beside conditions of generation 3: nothing found", generation)
		}
	}
	healthy.Status.ObservedGeneration = 3
	if faults := lifecycletest.Check(healthy); len(faults) > 0 {
		t.Errorf("a healthy status: %v", faults)
	}
}
