package discovery_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/discovery"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

var start = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

// office is an integration with discovery, the PBX that it is asked of, and the cluster.
type office struct {
	t          *testing.T
	client     client.Client
	clock      *clocktesting.FakePassiveClock
	controller *lifecycle.Reconciler[*v1alpha1.PBXIntegration]
	extensions []pbxapi.Extension
	// pageSize of the PBX; 0 is all at once.
	pageSize int
	err      error
	asked    []string
	events   []string
	// change is done to every mapping before it is written.
	change func(*v1alpha1.ExtensionMapping) error
	writes int
}

func newOffice(t *testing.T) *office {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	o := &office{t: t, clock: clocktesting.NewFakePassiveClock(start)}
	byIntegration := func(obj client.Object) []string {
		return []string{obj.(*v1alpha1.ExtensionMapping).Spec.IntegrationRef.Name}
	}
	o.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(&v1alpha1.PBXIntegration{
		ObjectMeta: metav1.ObjectMeta{Namespace: "telephony", Name: "head-office", UID: types.UID("u1"), Generation: 1},
		Spec: v1alpha1.PBXIntegrationSpec{Discovery: &v1alpha1.Discovery{
			Types:       []v1alpha1.ExtensionType{v1alpha1.ExtensionPhone},
			Interval:    metav1.Duration{Duration: 10 * time.Minute},
			GracePeriod: &metav1.Duration{Duration: time.Hour},
		}},
	}).WithStatusSubresource(&v1alpha1.PBXIntegration{}).
		WithIndex(&v1alpha1.ExtensionMapping{}, lifecycle.IndexIntegration, byIntegration).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, obj client.Object, options ...client.CreateOption) error {
				if mapping, ok := obj.(*v1alpha1.ExtensionMapping); ok && o.change != nil {
					if err := o.change(mapping); err != nil {
						return err
					}
				}
				return c.Create(ctx, obj, options...)
			},
			SubResourceApply: func(
				ctx context.Context, c client.Client, sub string, obj runtime.ApplyConfiguration, options ...client.SubResourceApplyOption,
			) error {
				o.writes++
				return c.SubResource(sub).Apply(ctx, obj, options...)
			},
		}).Build()
	o.restart()
	o.extensions = []pbxapi.Extension{phone("1234*101"), phone("1234*102"), {Number: "1234*900", Type: v1alpha1.ExtensionQueue}}
	return o
}

// restart takes a new manager, which remembers nothing.
func (o *office) restart() {
	o.controller = discovery.NewReconciler(discovery.Options{
		Client: o.client, Reader: o.client, Clock: o.clock, Inherited: []string{"shard"},
		Connect: func(context.Context, *v1alpha1.PBXIntegration) (pbxapi.ExtensionPager, error) { return o, nil },
	}, o)
}

// Eventf implements lifecycle.Recorder.
func (o *office) Eventf(_, _ runtime.Object, eventtype, reason, _, note string, args ...any) {
	o.events = append(o.events, eventtype+" "+reason+": "+fmt.Sprintf(note, args...))
}

func (o *office) integration() *v1alpha1.PBXIntegration {
	o.t.Helper()
	p := &v1alpha1.PBXIntegration{}
	if err := o.client.Get(context.Background(), key, p); err != nil {
		o.t.Fatal(err)
	}
	return p
}

// edit changes the integration as a user does.
func (o *office) edit(change func(*v1alpha1.PBXIntegration)) {
	o.t.Helper()
	p := o.integration()
	change(p)
	p.Generation++
	if err := o.client.Update(context.Background(), p); err != nil {
		o.t.Fatal(err)
	}
}

var key = types.NamespacedName{Namespace: "telephony", Name: "head-office"}

func (o *office) condition() metav1.Condition {
	o.t.Helper()
	if c := meta.FindStatusCondition(o.integration().Status.Conditions, v1alpha1.ConditionDiscovered); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// after lets time pass until so long after the start.
func (o *office) after(minutes float64) {
	o.clock.SetTime(start.Add(time.Duration(minutes * float64(time.Minute))))
}

func phone(number string) pbxapi.Extension {
	return pbxapi.Extension{ID: "5" + number[len(number)-3:], Number: number, Name: "Desk " + number, Type: v1alpha1.ExtensionPhone}
}

// ExtensionPage implements pbxapi.ExtensionPager as a PBX does. An error comes after the first
// page.
func (o *office) ExtensionPage(_ context.Context, cursor string) (page pbxapi.ExtensionPage, err error) {
	o.asked = append(o.asked, cursor)
	at, size := 0, cmp.Or(o.pageSize, len(o.extensions)+1)
	if cursor != "" {
		if at, err = strconv.Atoi(cursor); err != nil {
			o.t.Error(err)
		}
	}
	if o.err != nil && (at > 0 || o.pageSize == 0) {
		return page, o.err
	}
	end := min(at+size, len(o.extensions))
	page.Extensions = o.extensions[at:end]
	if end < len(o.extensions) {
		page.Next = strconv.Itoa(end)
	}
	return page, nil
}

// pass makes passes until there is nothing to go on with at once, and returns when the next one is
// due.
func (o *office) pass() (time.Duration, error) {
	o.t.Helper()
	for {
		result, err := o.controller.Reconcile(context.Background(), reconcile.Request{NamespacedName: key})
		if err != nil || result.RequeueAfter > 50*time.Millisecond {
			return result.RequeueAfter, err
		}
		if result.RequeueAfter == 0 {
			return 0, nil
		}
	}
}

// mustPass makes a pass and returns the numbers that have a mapping afterwards.
func (o *office) mustPass() []string {
	o.t.Helper()
	if _, err := o.pass(); err != nil {
		o.t.Fatal(err)
	}
	return o.numbers()
}

func (o *office) numbers() []string {
	o.t.Helper()
	var list v1alpha1.ExtensionMappingList
	if err := o.client.List(context.Background(), &list); err != nil {
		o.t.Fatal(err)
	}
	numbers := make([]string, len(list.Items))
	for i, mapping := range list.Items {
		numbers[i] = mapping.Spec.Extension.Number
	}
	slices.Sort(numbers)
	return numbers
}

func (o *office) mapping(name string) *v1alpha1.ExtensionMapping {
	o.t.Helper()
	mapping := &v1alpha1.ExtensionMapping{}
	if err := o.client.Get(context.Background(), types.NamespacedName{Namespace: "telephony", Name: name}, mapping); err != nil {
		o.t.Fatal(err)
	}
	return mapping
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("mappings (-want +got):\n%s", diff)
	}
}

func TestExtensionsBecomeMappings(t *testing.T) {
	o := newOffice(t)
	expect(t, o.mustPass(), "1234*101", "1234*102")
	made := o.mapping("head-office-1234-101")
	if owner := metav1.GetControllerOf(made); owner == nil || owner.UID != "u1" {
		t.Errorf("the mapping does not belong to the integration: %v", made.OwnerReferences)
	}
	want := v1alpha1.ExtensionMappingSpec{
		IntegrationRef: v1alpha1.IntegrationReference{Name: "head-office"},
		Extension:      v1alpha1.Extension{Number: "1234*101", Type: v1alpha1.ExtensionPhone},
		User:           &v1alpha1.User{Name: "1234-101", DisplayName: "Desk 1234*101"},
	}
	if diff := gocmp.Diff(want, made.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if o.condition().Status != metav1.ConditionTrue {
		t.Error("nothing tells that the extensions were discovered")
	}
	if got := o.integration().Status.Discovery.Extensions; got != 2 {
		t.Errorf("status.discovery.extensions = %d, want 2", got)
	}
}

func TestAShardSeesTheMappingsThatItMakes(t *testing.T) {
	o := newOffice(t)
	o.edit(func(p *v1alpha1.PBXIntegration) { p.Labels = map[string]string{"shard": "a", "other": "b"} })
	o.mustPass()
	labels := o.mapping("head-office-1234-101").Labels
	if labels["shard"] != "a" || labels["other"] != "" {
		t.Errorf("labels %v: want those that the manager selects by", labels)
	}
}

func TestATakenNameIsTold(t *testing.T) {
	o := newOffice(t)
	other := &v1alpha1.ExtensionMapping{
		ObjectMeta: metav1.ObjectMeta{Namespace: "telephony", Name: "head-office-1234-101"},
		Spec: v1alpha1.ExtensionMappingSpec{
			IntegrationRef: v1alpha1.IntegrationReference{Name: "branch"}, Extension: v1alpha1.Extension{Number: "7"},
		},
	}
	if err := o.client.Create(context.Background(), other); err != nil {
		t.Fatal(err)
	}
	o.mustPass()
	c := o.condition()
	if c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonExtensionsSkipped || !strings.Contains(c.Message, "head-office-1234-101") {
		t.Errorf("condition %v does not name the mapping in the way", c)
	}
	expect(t, o.numbers(), "1234*102", "7")
}

func TestTypesAndNumbersChoose(t *testing.T) {
	o := newOffice(t)
	o.edit(func(p *v1alpha1.PBXIntegration) {
		p.Spec.Discovery.Types = append(p.Spec.Discovery.Types, v1alpha1.ExtensionQueue)
		p.Spec.Discovery.Numbers = []string{`1234\*9*`, "1234*2"}
	})
	expect(t, o.mustPass(), "1234*102", "1234*900")
	if o.mapping("head-office-1234-900").Spec.User != nil {
		t.Error("a queue has no user")
	}
}

func TestAnEditOfADiscoveredMappingStays(t *testing.T) {
	o := newOffice(t)
	o.mustPass()
	edited := o.mapping("head-office-1234-101")
	edited.Spec.User.Name = "ann"
	if err := o.client.Update(context.Background(), edited); err != nil {
		t.Fatal(err)
	}
	o.clock.SetTime(start.Add(11 * time.Minute))
	o.mustPass()
	if got := o.mapping("head-office-1234-101").Spec.User.Name; got != "ann" {
		t.Errorf("user = %s, want that of the edit", got)
	}
}

func TestHandWrittenMappingWins(t *testing.T) {
	o := newOffice(t)
	o.mustPass()
	own := &v1alpha1.ExtensionMapping{
		ObjectMeta: metav1.ObjectMeta{Namespace: "telephony", Name: "ann"},
		Spec: v1alpha1.ExtensionMappingSpec{
			IntegrationRef: v1alpha1.IntegrationReference{Name: "head-office"}, Extension: v1alpha1.Extension{Number: "1234*101"},
		},
	}
	if err := o.client.Create(context.Background(), own); err != nil {
		t.Fatal(err)
	}
	expect(t, o.mustPass(), "1234*101", "1234*102")
	if got := o.mapping("ann").Name; got != "ann" {
		t.Errorf("the hand-written mapping is gone: %s", got)
	}
	if len(o.asked) != 1 {
		t.Errorf("the PBX was asked %d times, want once within the interval", len(o.asked))
	}
}

func TestVanishedExtensionGoesAfterTheGracePeriod(t *testing.T) {
	o := newOffice(t)
	o.mustPass()
	o.extensions = o.extensions[:1]
	o.clock.SetTime(start.Add(10 * time.Minute))
	expect(t, o.mustPass(), "1234*101", "1234*102")
	o.clock.SetTime(start.Add(69 * time.Minute))
	expect(t, o.mustPass(), "1234*101", "1234*102")
	next, err := o.pass()
	if err != nil || next > time.Minute {
		t.Errorf("next pass in %s, %v; want it at the end of the grace period", next, err)
	}
	o.clock.SetTime(start.Add(70 * time.Minute))
	expect(t, o.mustPass(), "1234*101")
}

func TestExtensionThatComesBackStays(t *testing.T) {
	o := newOffice(t)
	o.mustPass()
	all := o.extensions
	o.extensions = o.extensions[1:]
	o.clock.SetTime(start.Add(10 * time.Minute))
	o.mustPass()
	o.extensions = all
	o.clock.SetTime(start.Add(20 * time.Minute))
	o.mustPass()
	o.extensions = o.extensions[1:]
	o.clock.SetTime(start.Add(75 * time.Minute))
	expect(t, o.mustPass(), "1234*101", "1234*102")
}

func TestTurningDiscoveryOffRemovesWhatItMade(t *testing.T) {
	o := newOffice(t)
	o.mustPass()
	o.edit(func(p *v1alpha1.PBXIntegration) { p.Spec.Discovery = nil })
	expect(t, o.mustPass())
	if o.condition().Type != "" || o.integration().Status.Discovery != nil {
		t.Errorf("the status still speaks of discovery: %+v", o.integration().Status)
	}
}

func TestFailuresLeaveTheMappings(t *testing.T) {
	for _, failure := range []struct {
		err            error
		status, reason string
	}{
		{pbxapi.NewError(pbxapi.ErrUnreachable, "list the extensions", ""), "False", v1alpha1.ReasonDiscoveryFailed},
		{pbxapi.NewError(pbxapi.ErrNotSupported, "list the extensions", ""), "False", v1alpha1.ReasonNotSupported},
		{pbxapi.NewError(pbxapi.ErrForbidden, "list the extensions", ""), "False", v1alpha1.ReasonDiscoveryFailed},
		{&pbxapi.RateLimitedError{After: time.Minute}, "True", v1alpha1.ReasonDiscovered},
	} {
		o := newOffice(t)
		o.mustPass()
		o.err = failure.err
		o.after(10)
		_, _ = o.pass() // its error is that of the condition
		if c := o.condition(); string(c.Status) != failure.status || c.Reason != failure.reason {
			t.Errorf("%v: condition %v", failure.err, c)
		}
		expect(t, o.numbers(), "1234*101", "1234*102")
	}
}

// others are many phones.
func others(from, to int) (phones []pbxapi.Extension, numbers []string) {
	for i := from; i < to; i++ {
		numbers = append(numbers, fmt.Sprintf("1234*%d", 100+i))
		phones = append(phones, phone(numbers[len(numbers)-1]))
	}
	return phones, numbers
}

func TestAListGoesOnAfterTheRateLimitAndARestart(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		o := newOffice(t)
		var want []string
		o.extensions, want = others(0, 25)
		o.pageSize, o.err = 10, &pbxapi.RateLimitedError{After: time.Minute}
		if next, err := o.pass(); next != time.Minute || err != nil {
			t.Errorf("next pass in %s, %v; want 1m", next, err)
		}
		expect(t, o.numbers(), want[:10]...)
		o.err = nil
		if restarts {
			o.restart()
		}
		expect(t, o.mustPass(), want...)
		if diff := gocmp.Diff([]string{"", "10", "10", "20"}, o.asked); diff != "" {
			t.Errorf("pages that were asked for (-want +got):\n%s", diff)
		}
		if cursor := o.integration().Status.Discovery.Cursor; cursor != "" {
			t.Errorf("the cursor %q is left", cursor)
		}
	}
}

// A list of which the beginning was read before a restart lacks it.
func TestHalfAListLetsNoMappingGo(t *testing.T) {
	o := newOffice(t)
	o.edit(func(p *v1alpha1.PBXIntegration) { p.Spec.Discovery.GracePeriod.Duration = 0 })
	var want []string
	o.extensions, want = others(0, 15)
	o.pageSize = 10
	o.mustPass()
	o.err = &pbxapi.RateLimitedError{After: time.Minute}
	for minutes := range 3 {
		o.after(float64(10 + 10*minutes))
		_, _ = o.pass()
	}
	o.restart()
	o.err = nil
	expect(t, o.mustPass(), want...)
	for _, number := range want {
		if mark := o.mapping("head-office-" + strings.ReplaceAll(number, "*", "-")).Annotations[v1alpha1.AnnotationVanished]; mark != "" {
			t.Errorf("%s is taken for gone", number)
		}
	}
}

func TestALongListCostsOneWrite(t *testing.T) {
	o := newOffice(t)
	o.extensions, _ = others(0, 95)
	o.pageSize = 10
	o.mustPass()
	if o.writes != 1 {
		t.Errorf("the status was written %d times", o.writes)
	}
	o.after(10)
	o.mustPass()
	if o.writes != 1 || len(o.asked) != 20 {
		t.Errorf("the status was written %d times when nothing had changed, after %d pages", o.writes, len(o.asked))
	}
}

func TestAnEmptyListIsNotBelievedAtOnce(t *testing.T) {
	o := newOffice(t)
	o.edit(func(p *v1alpha1.PBXIntegration) { p.Spec.Discovery.GracePeriod.Duration = 0 })
	o.mustPass()
	all := o.extensions
	o.extensions = nil
	for minutes := range 2 {
		o.after(float64(10 + 10*minutes))
		expect(t, o.mustPass(), "1234*101", "1234*102")
		if c := o.condition(); c.Reason != v1alpha1.ReasonTooManyVanished || !strings.Contains(c.Message, "2 discovered mappings") {
			t.Errorf("condition %v: want TooManyVanished of 2", c)
		}
	}
	o.extensions = all
	o.after(30)
	expect(t, o.mustPass(), "1234*101", "1234*102")
	if c := o.condition(); c.Status != metav1.ConditionTrue || o.integration().Status.Discovery.Missing != nil {
		t.Errorf("condition %v once the extensions are back", c)
	}
	o.extensions = nil
	for minutes := range 3 {
		o.after(float64(40 + 10*minutes))
		expect(t, o.mustPass(), "1234*101", "1234*102")
	}
	o.after(61)
	expect(t, o.mustPass())
	warnings := 0
	for _, event := range o.events {
		if strings.HasPrefix(event, "Warning TooManyVanished") {
			warnings++
		}
	}
	if warnings != 2 {
		t.Errorf("%d Warnings in %q, want one each time", warnings, o.events)
	}
}

func TestManyThatVanishAtOnceNeedConfirmation(t *testing.T) {
	for _, test := range []struct{ gone, lists int }{{20, 1}, {21, 3}} {
		o := newOffice(t)
		o.edit(func(p *v1alpha1.PBXIntegration) { p.Spec.Discovery.GracePeriod.Duration = 0 })
		o.extensions, _ = others(0, 100)
		o.mustPass()
		o.extensions = o.extensions[test.gone:]
		lists := 0
		for o.after(10); len(o.numbers()) == 100 && lists < 10; lists++ {
			if next, err := o.pass(); err == nil {
				o.clock.SetTime(o.clock.Now().Add(next))
			}
		}
		if got := len(o.numbers()); got != 100-test.gone || lists != test.lists+1 {
			t.Errorf("%d of 100 are gone: %d mappings are left after %d lists, want %d after %d", test.gone, got, lists, 100-test.gone, test.lists+1)
		}
	}
}

// Lists that lack others each time confirm nothing.
func TestListsThatDifferAreNotBelieved(t *testing.T) {
	o := newOffice(t)
	o.edit(func(p *v1alpha1.PBXIntegration) { p.Spec.Discovery.GracePeriod.Duration = 0 })
	all, want := others(0, 100)
	o.extensions = all
	o.mustPass()
	for list := range 10 {
		o.extensions = append(slices.Clone(all[:list*5]), all[list*5+50:]...)
		o.after(float64(10 * (list + 1)))
		o.mustPass()
	}
	expect(t, o.numbers(), want...)
}

func TestAnOddExtensionIsReportedAndSkipped(t *testing.T) {
	o := newOffice(t)
	o.extensions = []pbxapi.Extension{phone("1234*101"), phone("1234*1 02"), {ID: "7", Type: v1alpha1.ExtensionPhone}, phone("1234*103")}
	o.change = func(mapping *v1alpha1.ExtensionMapping) error {
		if strings.Contains(mapping.Spec.Extension.Number, " ") {
			return apierrors.NewInvalid(v1alpha1.GroupVersion.WithKind("ExtensionMapping").GroupKind(), mapping.Name, nil)
		}
		return nil
	}
	for pass := range 3 {
		o.after(float64(10 * pass))
		expect(t, o.mustPass(), "1234*101", "1234*103")
	}
	c, status := o.condition(), o.integration().Status.Discovery
	if c.Reason != v1alpha1.ReasonExtensionsSkipped || !strings.Contains(c.Message, "1234*1 02") || !strings.Contains(c.Message, "the id 7") {
		t.Errorf("condition %v does not tell of both", c)
	}
	if status.SkippedExtensions == nil || *status.SkippedExtensions != 2 || len(status.Skipped) != 2 || status.Skipped[1].ID != "7" {
		t.Errorf("status %+v does not name both", status)
	}
	if len(o.events) != 1 || o.writes != 1 {
		t.Errorf("%d writes, Events %q: want one each", o.writes, o.events)
	}
}

func TestWhenTheAPIServerCannotTakeAMappingTheListGoesOnLater(t *testing.T) {
	o := newOffice(t)
	failures := 1
	o.change = func(mapping *v1alpha1.ExtensionMapping) error {
		if failures--; failures >= 0 && mapping.Spec.Extension.Number == "1234*101" {
			return apierrors.NewServiceUnavailable("overloaded")
		}
		return nil
	}
	if _, err := o.pass(); err == nil {
		t.Error("the failure is not tried again")
	}
	expect(t, o.mustPass(), "1234*101", "1234*102")
}

func TestASuspendedOrDeletedIntegrationIsLeftAlone(t *testing.T) {
	o := newOffice(t)
	o.edit(func(p *v1alpha1.PBXIntegration) { p.Spec.Suspend = true })
	expect(t, o.mustPass())
	o.edit(func(p *v1alpha1.PBXIntegration) { p.Spec.Suspend, p.Finalizers = false, []string{v1alpha1.Finalizer} })
	if err := o.client.Delete(context.Background(), o.integration()); err != nil {
		t.Fatal(err)
	}
	expect(t, o.mustPass())
	if o.integration().Finalizers[0] != v1alpha1.Finalizer || len(o.asked) != 0 {
		t.Error("the finalizer belongs to another controller")
	}
}
