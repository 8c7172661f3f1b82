package backfill_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
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
	"github.com/pbx-operator/pbx-operator/controllers/backfill"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

var start = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

func after(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

// office is an integration whose receiver was away for a minute, the PBX's memory, and what the
// receiver was sent.
type office struct {
	t           *testing.T
	integration *v1alpha1.PBXIntegration
	clock       *clocktesting.FakePassiveClock
	client      client.Client
	controller  *lifecycle.Reconciler[*v1alpha1.PBXIntegration]
	// pageSize of the PBX; 0 is all at once.
	pageSize int
	// refuses is the id of a record that the receiver does not understand.
	refuses   string
	events    []string
	remembers []callhistory.Record
	err       error
	asked     []pbxapi.HistoryQuery
	sent      []string
	status    int
	token     string
	receiver  backfill.Sender
}

func newOffice(t *testing.T, pbx v1alpha1.PBX, legs ...client.Object) *office {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	o := &office{t: t, clock: clocktesting.NewFakePassiveClock(after(3600)), status: http.StatusOK}
	o.integration = &v1alpha1.PBXIntegration{
		ObjectMeta: metav1.ObjectMeta{Namespace: "telephony", Name: "head-office", UID: "u1", Generation: 1},
		Spec: v1alpha1.PBXIntegrationSpec{
			PBX:      pbx,
			Backfill: v1alpha1.Backfill{Mode: v1alpha1.BackfillEnabled, After: &metav1.Duration{Duration: 30 * time.Second}},
			CallLegs: v1alpha1.CallLegs{MaxDuration: metav1.Duration{Duration: time.Hour}},
		},
		Status: v1alpha1.PBXIntegrationStatus{
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReceiverAvailable, Status: metav1.ConditionTrue}},
			Events: &v1alpha1.EventsStatus{
				FirstTime: &metav1.Time{Time: start.Add(-24 * time.Hour)},
				Outage:    &v1alpha1.Outage{Start: metav1.NewTime(after(3000)), End: metav1.NewTime(after(3060))},
			},
		},
	}
	objects := append([]client.Object{o.integration, mapping("1234*101", v1alpha1.ExtensionPhone), mapping("1234*900", v1alpha1.ExtensionQueue)}, legs...)
	o.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.PBXIntegration{}).
		WithInterceptorFuncs(interceptor.Funcs{SubResourceApply: apply}).
		WithIndex(&v1alpha1.ExtensionMapping{}, lifecycle.IndexIntegration, func(obj client.Object) []string {
			return []string{obj.(*v1alpha1.ExtensionMapping).Spec.IntegrationRef.Name}
		}).
		WithIndex(&v1alpha1.CallLeg{}, "status.result", func(obj client.Object) []string {
			return []string{string(obj.(*v1alpha1.CallLeg).Status.Result)}
		}).Build()
	o.receiver = o.newReceiver()
	o.restart()
	return o
}

// restart takes a new manager, which remembers nothing.
func (o *office) restart() {
	o.controller = backfill.NewReconciler(backfill.Options{
		Client: o.client, Reader: o.client, Clock: o.clock, Receiver: o.receiver,
		Connect: func(context.Context, *v1alpha1.PBXIntegration) (pbxapi.Historian, error) { return o, nil },
	}, o)
}

// Eventf implements lifecycle.Recorder.
func (o *office) Eventf(_, _ runtime.Object, eventtype, reason, _, note string, args ...any) {
	o.events = append(o.events, eventtype+" "+reason+": "+fmt.Sprintf(note, args...))
}

func mapping(number string, kind v1alpha1.ExtensionType) *v1alpha1.ExtensionMapping {
	return &v1alpha1.ExtensionMapping{
		ObjectMeta: metav1.ObjectMeta{Namespace: "telephony", Name: strings.ReplaceAll(number, "*", "-")},
		Spec: v1alpha1.ExtensionMappingSpec{
			IntegrationRef: v1alpha1.IntegrationReference{Name: "head-office"},
			Extension:      v1alpha1.Extension{Number: number, Type: kind},
		},
	}
}

// newReceiver makes a receiver that notes what it is sent.
func (o *office) newReceiver() backfill.Sender {
	key, err := eventurl.NewKey(1, "office")
	if err != nil {
		o.t.Fatal(err)
	}
	ring := eventurl.Ring{key}
	o.token = key.Token(eventurl.Account("u1"))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var records []callhistory.Record
		token, rest, ok := eventurl.SplitPath(r.URL.Path)
		if err := json.NewDecoder(r.Body).Decode(&records); err != nil || !ok || token != o.token || rest != callhistory.Path ||
			r.Header.Get("Content-Type") != callhistory.ContentType {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		for _, record := range records {
			if record.ID == o.refuses {
				w.WriteHeader(http.StatusUnprocessableEntity)
				return
			}
		}
		if o.status == http.StatusOK {
			for _, record := range records {
				o.sent = append(o.sent, record.ID+" of "+record.CallID)
			}
		}
		w.WriteHeader(o.status)
	}))
	o.t.Cleanup(server.Close)
	return backfill.Sender{
		Secrets: ringOf{ring}, HTTP: server.Client(), Address: func(*v1alpha1.PBXIntegration) string { return server.URL },
	}
}

type ringOf struct{ eventurl.Ring }

func (r ringOf) Get(context.Context, types.NamespacedName) (*corev1.Secret, error) {
	return &corev1.Secret{Data: r.Data()}, nil
}

// ReadHistory implements pbxapi.Historian as a PBX does. An error comes after the first page.
func (o *office) ReadHistory(
	_ context.Context, query pbxapi.HistoryQuery, yield func(callhistory.Record) error,
) (page pbxapi.HistoryPage, err error) {
	o.asked = append(o.asked, query)
	var found []callhistory.Record
	for _, record := range o.remembers {
		if !record.Start.Before(query.From) && record.Start.Before(query.To) && !record.End.Before(query.EndedFrom) {
			found = append(found, record)
		}
	}
	at, size := 0, cmp.Or(o.pageSize, len(found)+1)
	if query.Cursor != "" {
		if at, err = strconv.Atoi(query.Cursor); err != nil {
			o.t.Error(err)
		}
	}
	if o.err != nil && (at > 0 || o.pageSize == 0) {
		return page, o.err
	}
	end := min(at+size, len(found))
	for _, record := range found[at:end] {
		if record.CallID == "" {
			page.Unusable.Add("a record without a call id")
		} else if err := yield(record); err != nil {
			return page, err
		}
	}
	if end < len(found) {
		page.Next = strconv.Itoa(end)
	}
	return page, nil
}

// apply does what an API server does: the fake one takes the conditions for one field, of which
// there is one owner.
func apply(ctx context.Context, c client.Client, _ string, applied runtime.ApplyConfiguration, _ ...client.SubResourceApplyOption) error {
	text, err := json.Marshal(applied)
	if err != nil {
		return err
	}
	part, p := &v1alpha1.PBXIntegration{}, &v1alpha1.PBXIntegration{}
	if err := json.Unmarshal(text, part); err != nil {
		return err
	}
	if err := c.Get(ctx, client.ObjectKeyFromObject(part), p); err != nil {
		return err
	}
	p.Status.Backfill = part.Status.Backfill
	lifecycle.RemoveCondition(p, v1alpha1.ConditionBackfilled)
	p.Status.Conditions = append(p.Status.Conditions, part.Status.Conditions...)
	return c.Status().Update(ctx, p)
}

// pass makes passes until there is nothing to go on with at once, and returns when the next one is
// due. Failures are read from the condition.
func (o *office) pass() time.Duration {
	o.t.Helper()
	for o.write(); ; {
		next, _ := o.onePass()
		if next > 50*time.Millisecond || next == 0 {
			return next
		}
	}
}

// write brings the integration, with its status, to the API server.
func (o *office) write() {
	o.t.Helper()
	status := o.integration.Status
	if err := o.client.Update(context.Background(), o.integration); err != nil {
		o.t.Fatal(err)
	}
	o.integration.Status = status
	if err := o.client.Status().Update(context.Background(), o.integration); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) onePass() (time.Duration, error) {
	o.t.Helper()
	key := client.ObjectKeyFromObject(o.integration)
	result, failure := o.controller.Reconcile(context.Background(), reconcile.Request{NamespacedName: key})
	o.integration = &v1alpha1.PBXIntegration{}
	if err := o.client.Get(context.Background(), key, o.integration); err != nil {
		o.t.Fatal(err)
	}
	return result.RequeueAfter, failure
}

func (o *office) expectSent(want ...string) {
	o.t.Helper()
	if diff := gocmp.Diff(want, o.sent, cmpopts.EquateEmpty()); diff != "" {
		o.t.Errorf("records that reached the receiver (-want +got):\n%s", diff)
	}
}

func (o *office) condition() *metav1.Condition {
	return meta.FindStatusCondition(o.integration.Status.Conditions, v1alpha1.ConditionBackfilled)
}

func record(id, extension string, from, to int) callhistory.Record {
	return callhistory.Record{
		ID: id, CallID: "call-" + id, Extension: extension, Flow: callhistory.In, From: "+12025550143",
		Start: after(from), End: after(to), Result: callhistory.Answered,
	}
}

var (
	ringMe   = v1alpha1.PBX{Type: v1alpha1.PBXTypeRingMe, RingMe: &v1alpha1.RingMe{}}
	voipNow  = v1alpha1.PBX{Type: v1alpha1.PBXTypeVoipNow, VoipNow: &v1alpha1.VoipNow{}}
	linuxBox = v1alpha1.PBX{Type: v1alpha1.PBXTypeLinuxBox, LinuxBox: &v1alpha1.LinuxBox{Database: &v1alpha1.LinuxBoxDatabase{}}}
)

func TestCallsOfAnOutageAreRead(t *testing.T) {
	o := newOffice(t, ringMe)
	o.remembers = []callhistory.Record{
		record("over-before", "1234*101", 2800, 2900),
		record("ended-in-it", "1234*101", 2900, 3010),
		record("within", "1234*900", 3020, 3030),
		record("of-others", "1234*555", 3020, 3030),
		record("after", "1234*101", 3070, 3080),
	}
	o.pass()
	o.expectSent("ended-in-it of call-ended-in-it", "within of call-within")
	if c := o.condition(); c == nil || c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, "2 legs") {
		t.Errorf("condition %v does not tell of the two legs", c)
	}
}

func TestHistoryIsReadAgainForCallsThatWentOn(t *testing.T) {
	o := newOffice(t, ringMe)
	o.clock.SetTime(after(3075))
	if next := o.pass(); next != 5*time.Minute {
		t.Errorf("next pass in %s, want that for late recordings in 5m", next)
	}
	o.remembers = []callhistory.Record{record("leg-of-a-long-call", "1234*101", 2990, 3050)}
	for minute := range 120 {
		o.clock.SetTime(after(3075 + 60*minute))
		o.pass()
	}
	o.expectSent("leg-of-a-long-call of call-leg-of-a-long-call", "leg-of-a-long-call of call-leg-of-a-long-call")
	if len(o.asked) != 3 {
		t.Errorf("the PBX was asked %d times for one outage, want 3", len(o.asked))
	}
}

func TestHistoryIsGivenTimeToSettle(t *testing.T) {
	o := newOffice(t, ringMe)
	o.clock.SetTime(after(3065))
	if next := o.pass(); next != 10*time.Second || len(o.asked) != 0 {
		t.Errorf("asked %d times, next pass in %s; want none, and 10s", len(o.asked), next)
	}
}

func TestWhatIsNoOutage(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.PBXIntegration){
		"short":    func(p *v1alpha1.PBXIntegration) { p.Spec.Backfill.After.Duration = 2 * time.Minute },
		"disabled": func(p *v1alpha1.PBXIntegration) { p.Spec.Backfill.Mode = v1alpha1.BackfillDisabled },
		"none":     func(p *v1alpha1.PBXIntegration) { p.Status.Events.Outage = nil },
		"no receiver": func(p *v1alpha1.PBXIntegration) {
			p.Status.Conditions[0].Status = metav1.ConditionFalse
		},
	} {
		o := newOffice(t, ringMe)
		change(o.integration)
		o.pass()
		if len(o.asked) != 0 || o.condition() != nil {
			t.Errorf("%s: asked %d times, condition %v", name, len(o.asked), o.condition())
		}
	}
}

func TestFailuresAreToldAndTriedAgain(t *testing.T) {
	o := newOffice(t, ringMe)
	o.remembers = []callhistory.Record{record("within", "1234*101", 3020, 3030)}
	o.status = http.StatusServiceUnavailable
	o.write()
	if _, err := o.onePass(); err == nil {
		t.Error("the failure is not tried again")
	}
	if c := o.condition(); c == nil || c.Reason != v1alpha1.ReasonBackfillFailed || strings.Contains(c.Message, o.token) {
		t.Errorf("condition %v: want BackfillFailed without the token", c)
	}
	o.status = http.StatusOK
	o.pass()
	o.expectSent("within of call-within")
	if o.condition().Status != metav1.ConditionTrue {
		t.Errorf("condition %v after it worked", o.condition())
	}
}

func TestReceiverOutOfReachDoesNotShowTheEventURL(t *testing.T) {
	o := newOffice(t, ringMe)
	receiver := o.newReceiver()
	receiver.Address = func(*v1alpha1.PBXIntegration) string { return "http://127.0.0.1:1" }
	err := receiver.Send(context.Background(), o.integration, []callhistory.Record{record("r", "1234*101", 0, 1)})
	if err == nil || strings.Contains(err.Error(), o.token) {
		t.Errorf("error %v: want one without the token", err)
	}
}

func TestPBXWithoutHistory(t *testing.T) {
	o := newOffice(t, v1alpha1.PBX{Type: v1alpha1.PBXTypeCallable})
	o.err = pbxapi.NewError(pbxapi.ErrNotSupported, "read the call history", "it has none")
	o.pass()
	if c := o.condition(); c == nil || c.Reason != v1alpha1.ReasonNotSupported || !strings.Contains(c.Message, "may be missing") {
		t.Errorf("condition %v does not say that calls may be missing", c)
	}
}

func TestManyRecordsGoInParts(t *testing.T) {
	o := newOffice(t, ringMe)
	for i := range callhistory.MaxRecords + 1 {
		o.remembers = append(o.remembers, record(fmt.Sprint(i), "1234*101", 3010, 3020))
	}
	o.pass()
	if len(o.sent) != callhistory.MaxRecords+1 {
		t.Errorf("%d records were sent, want %d", len(o.sent), callhistory.MaxRecords+1)
	}
}

func leg(name, callID, extension string, began int, change ...func(*v1alpha1.CallLegStatus)) *v1alpha1.CallLeg {
	l := &v1alpha1.CallLeg{
		ObjectMeta: metav1.ObjectMeta{Namespace: "telephony", Name: name, Labels: map[string]string{v1alpha1.LabelIntegration: "head-office"}},
		Status: v1alpha1.CallLegStatus{
			CallID: callID, LegID: name, Kind: v1alpha1.LegExtension, Direction: v1alpha1.DirectionInbound, Extension: extension,
			Phase: v1alpha1.PhaseRinging, StartTime: &metav1.MicroTime{Time: after(began)},
		},
	}
	for _, f := range change {
		f(&l.Status)
	}
	return l
}

func answered(until int) func(*v1alpha1.CallLegStatus) {
	return func(s *v1alpha1.CallLegStatus) {
		s.Phase, s.Result, s.EndTime = v1alpha1.PhaseCompleted, v1alpha1.ResultAnswered, &metav1.MicroTime{Time: after(until)}
	}
}

func TestRecordsWithoutCallIDsFindTheirCalls(t *testing.T) {
	o := newOffice(t, voipNow, leg("a", "V1", "1234*101", 2990), leg("b", "V2", "1234*101", 2500))
	o.remembers = []callhistory.Record{
		record("known", "1234*101", 2992, 3040),
		record("told-of-itself", "1234*101", 2960, 3005),
		record("within", "1234*101", 3020, 3030),
		record("went-on", "1234*101", 3050, 3090),
	}
	for minute := range 120 {
		o.clock.SetTime(after(3075 + 60*minute))
		o.pass()
	}
	o.expectSent("known of V1", "within of call-within")
}

func TestLateRecordingsAreLookedFor(t *testing.T) {
	o := newOffice(t, ringMe, leg("a", "c1", "1234*101", 2000, answered(2100)), leg("fresh", "c2", "1234*101", 3500, answered(3590)))
	o.integration.Status.Events.Outage = nil
	known := record("r", "1234*101", 2000, 2100)
	known.CallID, known.RecordingID = "c1", "5101-R1"
	known.Start = after(1500) // the call began in a queue
	other := record("s", "1234*101", 2001, 2100)
	other.RecordingID = "5101-R2"
	o.remembers = []callhistory.Record{known, other}
	if next := o.pass(); next != 5*time.Minute {
		t.Errorf("next read in %s, want 5m", next)
	}
	o.expectSent("r of c1")
	o.pass()
	if len(o.asked) != 1 {
		t.Errorf("the PBX was asked %d times within the interval", len(o.asked))
	}
}

func TestCallsWithoutRecordingAreNotAskedForEver(t *testing.T) {
	o := newOffice(t, ringMe, leg("a", "c1", "1234*101", 2000, answered(2100)))
	o.integration.Status.Events.Outage = nil
	for minute := range 120 {
		o.clock.SetTime(after(2100 + 60*minute))
		o.pass()
	}
	if len(o.asked) != 3 {
		t.Errorf("the PBX was asked %d times for a call without recording, want 3", len(o.asked))
	}
}

func TestRowsOfADatabaseAreSentOnce(t *testing.T) {
	o := newOffice(t, linuxBox)
	o.integration.Status.Events.Outage = nil
	o.remembers = []callhistory.Record{record("r", "10", 3500, 3510)}
	o.pass()
	o.clock.SetTime(after(3661))
	o.remembers = append(o.remembers, record("s", "11", 3620, 3630))
	o.pass()
	o.expectSent("r of call-r", "s of call-s")
}

func TestABadRowDoesNotHoldUpTheOthers(t *testing.T) {
	o := newOffice(t, linuxBox)
	o.integration.Status.Events.Outage = nil
	bad := record("bad", "10", 3500, 3510)
	bad.CallID = ""
	o.remembers = []callhistory.Record{bad, record("r", "10", 3500, 3510), record("refused", "10", 3500, 3510), record("s", "10", 3500, 3510)}
	o.refuses = "refused"
	for minute := range 3 {
		o.clock.SetTime(after(3600 + 61*minute))
		o.pass()
	}
	o.expectSent("r of call-r", "s of call-s")
	if len(o.events) != 1 || !strings.HasPrefix(o.events[0], "Warning RecordsSkipped") {
		t.Errorf("Events %q, want one of what was skipped", o.events)
	}
}

func TestAnOddRecordOfAnOutageIsTold(t *testing.T) {
	o := newOffice(t, ringMe)
	bad := record("bad", "1234*101", 3020, 3030)
	bad.CallID = ""
	o.remembers = []callhistory.Record{bad, record("within", "1234*101", 3020, 3030)}
	o.pass()
	o.expectSent("within of call-within")
	if c := o.condition(); c == nil || c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, "1 legs") || !strings.Contains(c.Message, "1 records are of no use") {
		t.Errorf("condition %v does not tell of both", c)
	}
}

func TestAReadGoesOnAfterTheRateLimitAndARestart(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		o := newOffice(t, voipNow)
		o.pageSize, o.err = 2, &pbxapi.RateLimitedError{After: time.Minute}
		var want []string
		for i := range 5 {
			o.remembers = append(o.remembers, record(fmt.Sprint(i), "1234*101", 3010+i, 3020+i))
			want = append(want, fmt.Sprintf("%d of call-%d", i, i))
		}
		if next := o.pass(); next != time.Minute {
			t.Errorf("next pass in %s, want 1m", next)
		}
		o.expectSent(want[:2]...)
		if c := o.condition(); c != nil {
			t.Errorf("condition %v: a rate limit says nothing of the calls", c)
		}
		o.err = nil
		if restarts {
			o.restart()
		}
		o.pass()
		o.expectSent(want...)
		var cursors []string
		for _, query := range o.asked {
			cursors = append(cursors, query.Cursor)
		}
		if diff := gocmp.Diff([]string{"", "2", "2", "4"}, cursors); diff != "" {
			t.Errorf("pages that were asked for (-want +got):\n%s", diff)
		}
		if filled := o.integration.Status.Backfill; filled.Records != 5 || filled.Reads != 1 || filled.Cursor != "" {
			t.Errorf("status %+v: want 5 records in one read", filled)
		}
	}
}

func TestARestartOfTheReceiverLosesNoPage(t *testing.T) {
	o := newOffice(t, ringMe)
	o.pageSize = 1
	o.remembers = []callhistory.Record{record("a", "1234*101", 3010, 3020), record("b", "1234*101", 3030, 3040)}
	o.write()
	if _, err := o.onePass(); err != nil {
		t.Error(err)
	}
	o.status = http.StatusServiceUnavailable
	if _, err := o.onePass(); err == nil {
		t.Error("nothing tells that the receiver is away")
	}
	o.status = http.StatusOK
	o.pass()
	o.expectSent("a of call-a", "b of call-b")
}

func TestAnotherOutageIsReadFromItsBegin(t *testing.T) {
	o := newOffice(t, ringMe)
	o.pageSize = 1
	o.remembers = []callhistory.Record{record("a", "1234*101", 3010, 3020), record("b", "1234*101", 3030, 3040)}
	o.write()
	_, _ = o.onePass()
	o.integration.Status.Events.Outage.End = metav1.NewTime(after(3070))
	o.pass()
	o.expectSent("a of call-a", "a of call-a", "b of call-b")
}

func TestOnlyNewRowsOfADatabaseAreRead(t *testing.T) {
	o := newOffice(t, linuxBox)
	o.integration.Status.Events.Outage = nil
	o.remembers = []callhistory.Record{record("r", "10", 3500, 3510)}
	o.pass()
	position := o.integration.Status.Backfill.Position
	if position == nil || !position.Time.Equal(after(3600)) {
		t.Fatalf("position %v, want the present", position)
	}
	o.restart()
	o.clock.SetTime(after(3661))
	o.pass()
	if query := o.asked[1]; !query.EndedFrom.Equal(after(3000)) || !query.To.Equal(after(3661)) {
		t.Errorf("asked for what ended from %s on, want ten minutes before the position", query.EndedFrom)
	}
	position = o.integration.Status.Backfill.Position
	o.clock.SetTime(after(3722))
	if o.pass(); !o.integration.Status.Backfill.Position.Equal(position) {
		t.Error("the status was written although nothing was new")
	}
	if o.clock.SetTime(after(3600 + 10*3600)); o.pass() == 0 {
		t.Error("the database is not followed any more")
	}
	for i, query := range o.asked[2:] {
		if span := query.To.Sub(query.EndedFrom); span > 2*time.Hour+10*time.Minute {
			t.Errorf("read %d spans %s", i, span)
		}
	}
	if last := o.asked[len(o.asked)-1]; !last.To.Equal(o.clock.Now()) || len(o.asked) != 8 {
		t.Errorf("%d reads, up to %s", len(o.asked), last.To)
	}
}

func TestDatabaseOutOfReachIsTold(t *testing.T) {
	o := newOffice(t, linuxBox)
	o.integration.Status.Events.Outage = nil
	o.err = pbxapi.NewError(pbxapi.ErrUnauthorized, "read the call history", "")
	o.pass()
	if c := o.condition(); c == nil || c.Reason != v1alpha1.ReasonBackfillFailed {
		t.Errorf("condition %v: want BackfillFailed", c)
	}
	o.err = nil
	o.pass()
	if c := o.condition(); c != nil {
		t.Errorf("condition %v after it worked", c)
	}
}

func TestRowsFromBeforeTheFirstEventAreNotOurs(t *testing.T) {
	o := newOffice(t, linuxBox)
	o.integration.Status.Events.Outage = nil
	o.integration.Status.Events.FirstTime = &metav1.Time{Time: after(3550)}
	o.remembers = []callhistory.Record{record("r", "10", 3500, 3510), record("s", "10", 3550, 3560)}
	o.pass()
	o.expectSent("s of call-s")
}
