package sources_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 seconds: %s", what)
		}
	}
}

func key(t *testing.T, generation int64) eventurl.Key {
	t.Helper()
	k, err := eventurl.NewKey(generation, "office")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// tokenSource is what the event URLs of a mapping are made for.
func tokenSource(mapping string) eventurl.Source { return eventurl.Mapping(mapping, "uid-"+mapping) }

func integration() *v1alpha1.PBXIntegration {
	return &v1alpha1.PBXIntegration{
		TypeMeta: ours("PBXIntegration"), ObjectMeta: metav1.ObjectMeta{Namespace: "telephony", Name: "office", UID: "uid-office"},
		Spec: v1alpha1.PBXIntegrationSpec{
			PBX: v1alpha1.PBX{Type: v1alpha1.PBXTypeRingMe},
			CallLegs: v1alpha1.CallLegs{
				Scope: v1alpha1.ScopeAll, MissedGracePeriod: &metav1.Duration{Duration: 7 * time.Second}, MaxDuration: metav1.Duration{Duration: time.Hour},
			},
		},
	}
}

func ringSecret(ring eventurl.Ring) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{Kind: "Secret", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "telephony", Name: eventurl.SecretName("office")}, Data: ring.Data(),
	}
}

func mapping(name, of string) *v1alpha1.ExtensionMapping {
	return &v1alpha1.ExtensionMapping{
		TypeMeta: ours("ExtensionMapping"), ObjectMeta: metav1.ObjectMeta{Namespace: "telephony", Name: name, UID: types.UID("uid-" + name)},
		Spec: v1alpha1.ExtensionMappingSpec{
			IntegrationRef: v1alpha1.IntegrationReference{Name: of},
			Extension:      v1alpha1.Extension{Number: "1234*" + name, Type: v1alpha1.ExtensionPhone},
			User:           &v1alpha1.User{Name: "user-" + name},
		},
		Status: v1alpha1.ExtensionMappingStatus{ExtensionID: "5" + name},
	}
}

// watching runs a watch over the API until the test ends or stop is called.
func watching(t *testing.T, a *api, dir string) (table *sources.Table, watch *sources.Watch, stop func()) {
	t.Helper()
	table = &sources.Table{Rate: 10}
	watch, err := sources.NewWatch(a.config(), "telephony", "office", dir, table, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { watch.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return table, watch, stop
}

func TestTableFollowsTheAPI(t *testing.T) {
	a := newAPI(t)
	old, current := key(t, 1), key(t, 2)
	a.put("pbxintegrations", integration())
	a.put("secrets", ringSecret(eventurl.Ring{current, old}))
	a.put("extensionmappings", mapping("101", "office"))
	a.put("extensionmappings", mapping("201", "warehouse"))
	table, watch, _ := watching(t, a, t.TempDir())
	eventually(t, "the table is loaded", table.Loaded)
	for _, k := range []eventurl.Key{old, current} {
		target, ok := table.Resolve(k.Token(tokenSource("101")))
		if !ok {
			t.Fatalf("the token of key %d is unknown", k.Generation)
		}
		want := callevent.Source{Type: callevent.Phone, Number: "1234*101", ID: "5101", User: "user-101"}
		if diff := cmp.Diff(want, target.Source); diff != "" || target.Mapping != "uid-101" || target.Limiter == nil {
			t.Errorf("got %+v: %s", target, diff)
		}
	}
	for _, k := range []eventurl.Key{old, current} {
		target, ok := table.Resolve(k.Token(eventurl.Account("uid-office")))
		if !ok || target.Mapping != "uid-office" || target.Name != "office" || target.Source != (callevent.Source{}) {
			t.Errorf("the URL of the account with key %d: %+v", k.Generation, target)
		}
	}
	if _, ok := table.Resolve(current.Token(tokenSource("201"))); ok {
		t.Error("the mapping of another integration is served")
	}
	wantRules := correlation.Rules{Scope: correlation.ScopeAll, GracePeriod: 7 * time.Second, MaxDuration: time.Hour}
	if diff := cmp.Diff(wantRules, table.Rules()); diff != "" || table.Type() != "RingMe" || table.Targets() != 1 {
		t.Errorf("type %s, %d targets, rules %s", table.Type(), table.Targets(), diff)
	}

	begun := time.Now()
	a.put("extensionmappings", mapping("102", "office"))
	eventually(t, "a new mapping works", func() bool { _, ok := table.Resolve(current.Token(tokenSource("102"))); return ok })
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("a new mapping took %v", took)
	}
	if found, ok := watch.MappingOf("1234*102"); !ok || found.Name != "102" {
		t.Errorf("the mapping of an extension number: %v", found)
	}
	a.remove("extensionmappings", "101")
	eventually(t, "a removed mapping is gone", func() bool { _, ok := table.Resolve(current.Token(tokenSource("101"))); return !ok })
	a.put("secrets", ringSecret(eventurl.Ring{current}))
	eventually(t, "a pruned key is gone", func() bool { _, ok := table.Resolve(old.Token(tokenSource("102"))); return !ok })
	changed := integration()
	changed.Spec.CallLegs.Scope = v1alpha1.ScopeExternal
	a.put("pbxintegrations", changed)
	eventually(t, "a changed rule applies", func() bool { return table.Rules().Scope == correlation.ScopeExternal })
	if _, ok := table.Resolve(current.Token(tokenSource("102"))); !ok {
		t.Error("the new mapping was lost on the way")
	}
}

func TestTableStaysWhenItsObjectsVanish(t *testing.T) {
	a := newAPI(t)
	k := key(t, 1)
	a.put("pbxintegrations", integration())
	a.put("secrets", ringSecret(eventurl.Ring{k}))
	a.put("extensionmappings", mapping("101", "office"))
	table, _, _ := watching(t, a, t.TempDir())
	eventually(t, "the table is loaded", table.Loaded)
	a.remove("secrets", eventurl.SecretName("office"))
	a.put("extensionmappings", mapping("102", "office"))
	a.put("secrets", ringSecret(eventurl.Ring{k}))
	eventually(t, "the table moves on once the keys are back", func() bool { _, ok := table.Resolve(k.Token(tokenSource("102"))); return ok })
	if _, ok := table.Resolve(k.Token(tokenSource("101"))); !ok {
		t.Error("the old mapping is gone")
	}
}

func TestRestartWithoutTheAPIServer(t *testing.T) {
	a, dir, k := newAPI(t), t.TempDir(), key(t, 1)
	a.put("pbxintegrations", integration())
	a.put("secrets", ringSecret(eventurl.Ring{k}))
	a.put("extensionmappings", mapping("101", "office"))
	table, _, stop := watching(t, a, dir)
	eventually(t, "the copy is written", func() bool {
		_, err := os.Stat(filepath.Join(dir, "sources.json"))
		return table.Loaded() && err == nil
	})
	stop()
	a.setAway(true)
	restarted, watch, _ := watching(t, a, dir)
	if _, ok := restarted.Resolve(k.Token(tokenSource("101"))); !ok || !restarted.Loaded() || restarted.Rules().Scope != correlation.ScopeAll {
		t.Error("without the API server a restarted receiver knows nothing")
	}
	if _, ok := watch.Integration(); ok {
		t.Error("an integration was made up")
	}
	a.put("extensionmappings", mapping("102", "office"))
	a.setAway(false)
	eventually(t, "it catches up", func() bool { _, ok := restarted.Resolve(k.Token(tokenSource("102"))); return ok })
}

func TestCopyHoldsNoSecrets(t *testing.T) {
	a, dir, k := newAPI(t), t.TempDir(), key(t, 1)
	a.put("pbxintegrations", integration())
	a.put("secrets", ringSecret(eventurl.Ring{k}))
	a.put("extensionmappings", mapping("101", "office"))
	watching(t, a, dir)
	path := filepath.Join(dir, "sources.json")
	eventually(t, "the copy is written", func() bool { _, err := os.Stat(path); return err == nil })
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy has the mode %v, %v", info.Mode(), err)
	}
	if strings.Contains(string(text), k.Token(tokenSource("101"))) {
		t.Error("the copy holds a token")
	}
	if secret := k.Token(eventurl.Account("")); strings.Contains(string(text), secret) {
		t.Error("the copy holds what can be made with the key only")
	}
}

// callableOffice is an integration of a Callable account that owns the numbers.
func callableOffice(numbers ...string) *v1alpha1.PBXIntegration {
	office := integration()
	office.Spec.PBX = v1alpha1.PBX{Type: v1alpha1.PBXTypeCallable, Callable: &v1alpha1.Callable{OwnNumbers: numbers}}
	return office
}

// flowOf is the direction that the table sees in a call to a number.
func flowOf(t *testing.T, table *sources.Table) callevent.Flow {
	t.Helper()
	events, err := table.Decode(callevent.Request{ReceivedAt: time.Now(), Body: `{"parentCallSid":"p1","callSid":"p1","event":"call","status":"trying","to":"442079460900"}`})
	if err != nil || len(events) != 1 {
		t.Fatalf("%+v, %v", events, err)
	}
	return events[0].Flow
}

func TestChangedSettingsApplyAtOnceAndSurviveARestart(t *testing.T) {
	a, dir := newAPI(t), t.TempDir()
	a.put("pbxintegrations", callableOffice())
	a.put("secrets", ringSecret(eventurl.Ring{key(t, 1)}))
	table, _, stop := watching(t, a, dir)
	if _, err := table.Decode(callevent.Request{Body: "{}"}); err == nil {
		t.Error("notifications are understood before it is known from which PBX")
	}
	eventually(t, "the table is loaded", table.Loaded)
	if flow := flowOf(t, table); flow != callevent.FlowUnknown {
		t.Errorf("a call to an unknown number is %s", flow)
	}
	a.put("pbxintegrations", callableOffice("+4420794609*"))
	eventually(t, "the numbers are known", func() bool { return flowOf(t, table) == callevent.FlowIn })
	eventually(t, "the copy is written", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "sources.json"))
		return err == nil && strings.Contains(string(text), "4420794609")
	})
	stop()
	a.setAway(true)
	restarted, _, _ := watching(t, a, dir)
	if flow := flowOf(t, restarted); flow != callevent.FlowIn {
		t.Errorf("after a restart without the API server the call is %q", flow)
	}
}

// The schema refuses such names. Should one come through, events go on to be understood.
func TestRefusedSettingsChangeNothing(t *testing.T) {
	a, dir := newAPI(t), t.TempDir()
	box := func(means v1alpha1.LinuxBoxName) *v1alpha1.PBXIntegration {
		office := integration()
		office.Spec.PBX = v1alpha1.PBX{
			Type: v1alpha1.PBXTypeLinuxBox, LinuxBox: &v1alpha1.LinuxBox{Events: map[string]v1alpha1.LinuxBoxName{"hovor": means}},
		}
		return office
	}
	a.put("pbxintegrations", box("StartCall"))
	a.put("secrets", ringSecret(eventurl.Ring{key(t, 1)}))
	table, _, _ := watching(t, a, dir)
	eventually(t, "the table is loaded", table.Loaded)
	begins := func() bool {
		events, err := table.Decode(callevent.Request{ReceivedAt: time.Now(), Path: "/hovor", Query: "call_id=c1&caller_type=external"})
		return err == nil && events[0].Type == callevent.CallStart
	}
	if !begins() {
		t.Error("the name of an event is not known")
	}
	wrong := box("Nonsense")
	wrong.Spec.CallLegs.Scope = v1alpha1.ScopeExternal
	a.put("pbxintegrations", wrong)
	eventually(t, "the rules change", func() bool { return table.Rules().Scope == correlation.ScopeExternal })
	if !begins() {
		t.Error("the name of an event is lost")
	}
}

func TestEventsAreShownAtTheirIntegration(t *testing.T) {
	a := newAPI(t)
	_, watch, _ := watching(t, a, t.TempDir())
	at := time.Date(2026, 1, 2, 10, 0, 0, 700_000_000, time.UTC)
	if err := watch.ShowFirstEvent(t.Context(), at); err == nil {
		t.Error("an event was shown at an integration that nobody has seen")
	}
	a.put("pbxintegrations", integration())
	eventually(t, "the integration is seen", func() bool { _, ok := watch.Integration(); return ok })
	if err := watch.ShowFirstEvent(t.Context(), at); err != nil {
		t.Error(err)
	}
	if err := watch.ShowOutage(t.Context(), at, at.Add(time.Minute)); err != nil {
		t.Error(err)
	}
	path := "/apis/pbx-operator.io/v1alpha1/namespaces/telephony/pbxintegrations/office/status fieldManager=pbx-receiver "
	want := []string{
		path + `{"status":{"events":{"firstTime":"2026-01-02T10:00:00Z"}}}`,
		path + `{"status":{"events":{"outage":{"start":"2026-01-02T10:00:00Z","end":"2026-01-02T10:01:01Z"}}}}`,
	}
	if diff := cmp.Diff(want, a.patches); diff != "" {
		t.Error(diff)
	}
	a.setAway(true)
	if watch.ShowFirstEvent(t.Context(), at) == nil || watch.ShowOutage(t.Context(), at, at) == nil {
		t.Error("what could not be shown was taken for shown")
	}
}

func TestPhonesAreShownAtTheirMapping(t *testing.T) {
	a := newAPI(t)
	a.put("pbxintegrations", integration())
	a.put("secrets", ringSecret(eventurl.Ring{key(t, 1)}))
	since := time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
	a.put("extensionmappings", mapping("101", "office"))
	shown := mapping("102", "office")
	shown.Status.Phone = &v1alpha1.PhoneStatus{ID: "3", Since: metav1.NewTime(since)}
	a.put("extensionmappings", shown)
	table, watch, _ := watching(t, a, t.TempDir())
	eventually(t, "the table is loaded", table.Loaded)
	phone := func(number, id, state string, after time.Duration) journal.AgentRecord {
		return journal.AgentRecord{Phone: true, Mapping: "uid-office", Extension: number, ExtensionID: id, State: state, Since: since.Add(after)}
	}
	err := watch.ShowStates(t.Context(), []journal.AgentRecord{
		phone("1234*101", "5101", "7", 0),
		phone("", "5101", "8", 0),                    // by its id
		phone("1234*101", "5101", "", 0),             // it has none
		phone("1234*102", "5102", "3", time.Minute),  // no change
		phone("1234*102", "5102", "4", -time.Minute), // old news
		phone("1234*102", "5102", "", time.Minute),   // removed
		phone("1234*999", "5999", "7", 0),            // nobody
	})
	if err != nil {
		t.Fatal(err)
	}
	prefix := "/apis/pbx-operator.io/v1alpha1/namespaces/telephony/extensionmappings/"
	want := []string{
		prefix + `101/status fieldManager=pbx-receiver {"status":{"phone":{"id":"7","since":"2026-01-02T10:00:00Z"}}}`,
		prefix + `101/status fieldManager=pbx-receiver {"status":{"phone":{"id":"8","since":"2026-01-02T10:00:00Z"}}}`,
		prefix + `102/status fieldManager=pbx-receiver {"status":{"phone":null}}`,
	}
	if diff := cmp.Diff(want, a.patches); diff != "" {
		t.Error(diff)
	}
}

func TestAgentsAreCounted(t *testing.T) {
	a := newAPI(t)
	for number, state := range map[string]v1alpha1.AgentState{"101": "Available", "102": "Available", "103": "LoggedOut", "104": ""} {
		agent := mapping(number, "office")
		if state != "" {
			agent.Status.Agent = &v1alpha1.AgentStatus{State: state}
		}
		a.put("extensionmappings", agent)
	}
	_, watch, _ := watching(t, a, t.TempDir())
	if !watch.WaitForSync(t.Context()) {
		t.Fatal("the watch does not see the mappings")
	}
	want := map[v1alpha1.AgentState]int{v1alpha1.AgentAvailable: 2, v1alpha1.AgentLoggedOut: 1}
	if diff := cmp.Diff(want, watch.AgentStates()); diff != "" {
		t.Error(diff)
	}
}

func TestAgentsAreShownAtTheirMapping(t *testing.T) {
	a := newAPI(t)
	a.put("pbxintegrations", integration())
	a.put("secrets", ringSecret(eventurl.Ring{key(t, 1)}))
	a.put("extensionmappings", mapping("101", "office"))
	shown := mapping("102", "office")
	since := time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
	shown.Status.Agent = &v1alpha1.AgentStatus{State: v1alpha1.AgentAvailable, Since: metav1.NewTime(since)}
	a.put("extensionmappings", shown)
	table, watch, _ := watching(t, a, t.TempDir())
	eventually(t, "the table is loaded", table.Loaded)
	err := watch.ShowStates(t.Context(), []journal.AgentRecord{
		{Mapping: "uid-900", Extension: "1234*101", State: "LoggedOut", Since: since},
		{Mapping: "uid-900", Extension: "1234*102", State: "Available", Since: since.Add(time.Minute)},  // no change
		{Mapping: "uid-900", Extension: "1234*102", State: "LoggedOut", Since: since.Add(-time.Minute)}, // old news
		{Mapping: "uid-102", Extension: "+12025550177", State: "LoggedOut", Since: since.Add(time.Hour)},
		{Mapping: "uid-900", Extension: "1234*999", State: "LoggedOut", Since: since}, // nobody
	})
	if err != nil {
		t.Fatal(err)
	}
	prefix := "/apis/pbx-operator.io/v1alpha1/namespaces/telephony/extensionmappings/"
	want := []string{
		prefix + `101/status fieldManager=pbx-receiver {"status":{"agent":{"state":"LoggedOut","since":"2026-01-02T10:00:00Z"}}}`,
		prefix + `102/status fieldManager=pbx-receiver {"status":{"agent":{"state":"LoggedOut","since":"2026-01-02T11:00:00Z"}}}`,
	}
	if diff := cmp.Diff(want, a.patches); diff != "" {
		t.Error(diff)
	}
	a.setAway(true)
	if err := watch.ShowStates(t.Context(), []journal.AgentRecord{{Extension: "1234*101", State: "Available", Since: since}}); err == nil {
		t.Error("a state that could not be shown was taken for shown")
	}
}
