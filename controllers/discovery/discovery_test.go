package discovery_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/discovery"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

var start = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

// office is an integration with discovery, the PBX that it is asked of, and the cluster.
type office struct {
	t           *testing.T
	integration *v1alpha1.PBXIntegration
	client      client.Client
	clock       *clocktesting.FakePassiveClock
	step        *discovery.Step
	extensions  []pbxapi.Extension
	err         error
	asked       int
}

func newOffice(t *testing.T) *office {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	o := &office{t: t, clock: clocktesting.NewFakePassiveClock(start)}
	o.integration = &v1alpha1.PBXIntegration{
		ObjectMeta: metav1.ObjectMeta{Namespace: "telephony", Name: "head-office", UID: types.UID("u1"), Generation: 1},
		Spec: v1alpha1.PBXIntegrationSpec{Discovery: &v1alpha1.Discovery{
			Types:       []v1alpha1.ExtensionType{v1alpha1.ExtensionPhone},
			Interval:    metav1.Duration{Duration: 10 * time.Minute},
			GracePeriod: &metav1.Duration{Duration: time.Hour},
		}},
	}
	byIntegration := func(obj client.Object) []string {
		return []string{obj.(*v1alpha1.ExtensionMapping).Spec.IntegrationRef.Name}
	}
	o.client = fake.NewClientBuilder().WithScheme(scheme).
		WithIndex(&v1alpha1.ExtensionMapping{}, lifecycle.IndexIntegration, byIntegration).Build()
	o.step = discovery.New(discovery.Config{
		Client: o.client, Live: o.client, Clock: o.clock, Inherited: []string{"shard"},
		Connect: func(context.Context, *v1alpha1.PBXIntegration) (discovery.PBX, error) { return o, nil },
	})
	o.extensions = []pbxapi.Extension{phone("1234*101"), phone("1234*102"), {Number: "1234*900", Type: v1alpha1.ExtensionQueue}}
	return o
}

func phone(number string) pbxapi.Extension {
	return pbxapi.Extension{ID: "5" + number[len(number)-3:], Number: number, Name: "Desk " + number, Type: v1alpha1.ExtensionPhone}
}

// Extensions implements discovery.PBX.
func (o *office) Extensions(context.Context) ([]pbxapi.Extension, error) {
	o.asked++
	return o.extensions, o.err
}

func (o *office) pass() (time.Duration, error) {
	o.t.Helper()
	return o.step.Reconcile(context.Background(), o.integration)
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
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("mappings (-want +got):\n%s", diff)
	}
}

func TestExtensionsBecomeMappings(t *testing.T) {
	o := newOffice(t)
	expect(t, o.mustPass(), "1234*101", "1234*102")
	made := o.mapping("head-office-1234-101")
	if owner := metav1.GetControllerOf(made); owner == nil || owner.UID != o.integration.UID {
		t.Errorf("the mapping does not belong to the integration: %v", made.OwnerReferences)
	}
	want := v1alpha1.ExtensionMappingSpec{
		IntegrationRef: v1alpha1.IntegrationReference{Name: "head-office"},
		Extension:      v1alpha1.Extension{Number: "1234*101", Type: v1alpha1.ExtensionPhone},
		User:           &v1alpha1.User{Name: "1234-101", DisplayName: "Desk 1234*101"},
	}
	if diff := cmp.Diff(want, made.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if !meta.IsStatusConditionTrue(o.integration.Status.Conditions, v1alpha1.ConditionDiscovered) {
		t.Error("nothing tells that the extensions were discovered")
	}
	if got := o.integration.Status.Discovery.Extensions; got != 2 {
		t.Errorf("status.discovery.extensions = %d, want 2", got)
	}
}

func TestAShardSeesTheMappingsThatItMakes(t *testing.T) {
	o := newOffice(t)
	o.integration.Labels = map[string]string{"shard": "a", "other": "b"}
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
	if _, err := o.pass(); err == nil {
		t.Error("nothing tells that 1234*101 has no mapping")
	}
	c := meta.FindStatusCondition(o.integration.Status.Conditions, v1alpha1.ConditionDiscovered)
	if c == nil || c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "head-office-1234-101") {
		t.Errorf("condition %v does not name the mapping in the way", c)
	}
	expect(t, o.numbers(), "1234*102", "7")
}

func TestTypesAndNumbersChoose(t *testing.T) {
	o := newOffice(t)
	o.integration.Spec.Discovery.Types = append(o.integration.Spec.Discovery.Types, v1alpha1.ExtensionQueue)
	o.integration.Spec.Discovery.Numbers = []string{`1234\*9*`, "1234*2"}
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
	if o.asked != 1 {
		t.Errorf("the PBX was asked %d times, want once within the interval", o.asked)
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
	o.extensions = nil
	o.clock.SetTime(start.Add(10 * time.Minute))
	o.mustPass()
	o.extensions = all
	o.clock.SetTime(start.Add(20 * time.Minute))
	o.mustPass()
	o.extensions = nil
	o.clock.SetTime(start.Add(75 * time.Minute))
	expect(t, o.mustPass(), "1234*101", "1234*102")
}

func TestTurningDiscoveryOffRemovesWhatItMade(t *testing.T) {
	o := newOffice(t)
	o.mustPass()
	o.integration.Spec.Discovery = nil
	expect(t, o.mustPass())
	if meta.FindStatusCondition(o.integration.Status.Conditions, v1alpha1.ConditionDiscovered) != nil || o.integration.Status.Discovery != nil {
		t.Error("the status still speaks of discovery")
	}
}

func TestFailuresLeaveTheMappings(t *testing.T) {
	for _, failure := range []struct {
		err     error
		outcome any
	}{
		{pbxapi.NewError(pbxapi.ErrUnreachable, "list the extensions", ""), new(lifecycle.Transient)},
		{pbxapi.NewError(pbxapi.ErrNotSupported, "list the extensions", ""), new(lifecycle.Terminal)},
		{pbxapi.NewError(pbxapi.ErrForbidden, "list the extensions", ""), new(lifecycle.Waiting)},
		{&pbxapi.RateLimitedError{After: time.Minute}, new(lifecycle.RateLimited)},
	} {
		o := newOffice(t)
		o.mustPass()
		o.err = failure.err
		o.clock.SetTime(start.Add(10 * time.Minute))
		if _, err := o.pass(); !errors.As(err, failure.outcome) {
			t.Errorf("%v: outcome %T, want %T", failure.err, err, failure.outcome)
		}
		expect(t, o.numbers(), "1234*101", "1234*102")
	}
}
