package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

func openSmall(t *testing.T, config Config) *Journal {
	t.Helper()
	config.Dir = t.TempDir()
	config.Partitions = max(config.Partitions, 1)
	j, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	return j
}

func legOf(call string) LegRecord {
	return LegRecord{Leg: correlation.Leg{CallID: call, LegID: "a", Revision: 1}, Positions: []uint64{3, 700}, Through: 9}
}

// soleOf takes the only partition of a journal.
func soleOf(t *testing.T, j *Journal) *Partition {
	t.Helper()
	p, err := j.Take(t.Context(), 0, Term{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLegsOfEarlierReceiversAreRead(t *testing.T) {
	j := openSmall(t, Config{})
	tick := correlation.NewTick(callevent.GraceOver, "c", "", recently)
	m := &nats.Msg{
		Subject: j.names.key(Legs, hash("c"), hash("a")), Data: []byte(`{"callID":"c","legID":"a","revision":4}`),
		Header: nats.Header{headerPositions: {"7,2"}, headerThrough: {"12"}, headerTicks: {`[{"id":"GraceOver/c/","type":"GraceOver","callID":"c",` +
			`"time":"2026-01-02T10:00:00Z","received":"2026-01-02T10:00:00Z"}]`}},
	}
	if _, err := j.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	records, err := j.LegsOfCall(t.Context(), CallKey("c"))
	if err != nil || len(records) != 1 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	got := records[0]
	want := LegRecord{
		Key: got.Key, Seq: got.Seq, Stored: got.Stored, Leg: correlation.Leg{CallID: "c", LegID: "a", Revision: 4},
		Positions: []uint64{7, 9}, Through: 12, Ticks: []callevent.Event{tick},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLegRecordsComeBackAsTheyWere(t *testing.T) {
	j := openSmall(t, Config{})
	want := legOf("c")
	want.Instance, want.Incomplete = "t8vq1c", true
	want.Ticks = []callevent.Event{
		correlation.NewTick(callevent.GraceOver, "c", "", recently), correlation.NewTick(callevent.MaxDurationOver, "c", "a", recently.Add(time.Nanosecond)),
	}
	if err := soleOf(t, j).PutLegs(t.Context(), []LegRecord{want}); err != nil {
		t.Fatal(err)
	}
	records, err := j.LegsOfCall(t.Context(), CallKey("c"))
	if err != nil || len(records) != 1 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	want.Key, want.Seq, want.Stored = records[0].Key, records[0].Seq, records[0].Stored
	if diff := cmp.Diff(want, records[0]); diff != "" {
		t.Error(diff)
	}
}

func TestARecordThatIsTooLargeIsRefusedAloneAndForGood(t *testing.T) {
	j := openSmall(t, Config{})
	large := legOf("large")
	large.Leg.FromName = strings.Repeat("x", 3<<20)
	err := soleOf(t, j).PutLegs(t.Context(), []LegRecord{legOf("first"), large, legOf("last")})
	var refused *RefusedError
	if !errors.As(err, &refused) || len(refused.Reasons) != 1 || refused.Reasons[CallKey("large")] == "" {
		t.Fatalf("got %v", err)
	}
	known, err := j.KnownCalls(t.Context(), []string{CallKey("first"), CallKey("last"), CallKey("large")})
	if err != nil || len(known) != 2 {
		t.Errorf("%d of the others are in the log, %v", len(known), err)
	}
}

func TestDamagedRecordsAreSkippedAndCounted(t *testing.T) {
	j := openSmall(t, Config{})
	for log, subject := range map[Log]string{Legs: j.names.key(Legs, "x", "y"), Agents: j.names.key(Agents, "x"), Calls: j.names.key(Calls, "x"), Events: j.names.subject(Events)} {
		if _, err := j.js.Publish(t.Context(), subject, []byte("garbage")); err != nil {
			t.Fatal(log, err)
		}
	}
	for _, key := range [][]string{{"checkpoint", "0"}, {"cursor", string(Legs), "reader"}} {
		if err := j.putState(t.Context(), []byte("garbage"), key...); err != nil {
			t.Fatal(err)
		}
	}
	j.writers[Legs].last, j.writers[Calls].last = 1, 1
	p := soleOf(t, j)
	if err := p.PutLegs(t.Context(), []LegRecord{legOf("c")}); err != nil {
		t.Fatal(err)
	}
	if err := p.PutCalls(t.Context(), []CallRecord{{CallID: "c"}}); err != nil {
		t.Fatal(err)
	}
	if checkpoint, err := p.LoadCheckpoint(t.Context()); err != nil || checkpoint != (Checkpoint{}) {
		t.Errorf("checkpoint: %v, %v", checkpoint, err)
	}
	saved := 0
	if err := j.SavedCalls(t.Context(), func(string, CallRecord) { saved++ }); err != nil || saved != 1 {
		t.Errorf("%d saved calls, %v", saved, err)
	}
	if groups, err := j.ReadEvents(t.Context(), 1, 10); err != nil || len(groups) != 1 || groups[0].Err == nil {
		t.Errorf("events: %v, %v", groups, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var legs []LegRecord
	_ = j.ConsumeLegs(ctx, "reader", func(_ context.Context, records []LegRecord) error {
		legs = records
		cancel()
		return nil
	})
	if len(legs) != 1 || legs[0].Leg.CallID != "c" {
		t.Errorf("a reader gets %v", legs)
	}
	if got := j.Damaged(); got != 5 {
		t.Errorf("%d damaged records are counted, want 5", got)
	}
}

func TestSavedCallsComeBackAsTheyWere(t *testing.T) {
	j := openSmall(t, Config{})
	at := recently
	want := CallRecord{CallID: "c", Due: at, Rules: 7, Positions: []uint64{1, 5}, State: correlation.Snapshot{Events: []correlation.SnapshotEvent{
		{Event: callevent.Event{ID: "i", Type: callevent.DialIn, CallID: "c", Time: at, Received: at}},
	}}}
	p := soleOf(t, j)
	if err := p.PutCalls(t.Context(), []CallRecord{want, {CallID: "other"}}); err != nil {
		t.Fatal(err)
	}
	if err := p.DropCalls(t.Context(), []string{CallKey("other")}); err != nil {
		t.Fatal(err)
	}
	got, err := j.GetCalls(t.Context(), []string{CallKey("c"), CallKey("other")})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]CallRecord{CallKey("c"): want}, got); diff != "" {
		t.Error(diff)
	}
	index := make(map[string]time.Time)
	if err := j.SavedCalls(t.Context(), func(key string, record CallRecord) { index[key] = record.Due }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]time.Time{CallKey("c"): at}, index); diff != "" {
		t.Error(diff)
	}
}

func TestASlowReaderHoldsNobodyUp(t *testing.T) {
	j := openSmall(t, Config{Size: 4 << 20, LegReaders: []string{"slow"}})
	p := soleOf(t, j)
	record := legOf("")
	record.Leg.FromName = strings.Repeat("x", 1000)
	for n := range 3000 { // several times what the log holds
		record.Leg.CallID = fmt.Sprint(n)
		if err := p.PutLegs(t.Context(), []LegRecord{record}); err != nil {
			t.Fatalf("leg %d: %v", n, err)
		}
	}
	if j.Skipped() == 0 {
		t.Error("nobody learns that legs were skipped")
	}
	if known, err := j.KnownCalls(t.Context(), []string{CallKey("2999")}); err != nil || len(known) != 1 {
		t.Errorf("the newest leg is not there: %v", err)
	}
}

func TestMoreLegsThanTheLogHoldsAreWrittenAtOnce(t *testing.T) {
	j := openSmall(t, Config{Size: 4 << 20})
	records := make([]LegRecord, 3000)
	for n := range records {
		records[n] = legOf(fmt.Sprint(n))
		records[n].Leg.FromName = strings.Repeat("x", 1000)
	}
	if err := soleOf(t, j).PutLegs(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	if known, err := j.KnownCalls(t.Context(), []string{CallKey("2999")}); err != nil || len(known) != 1 {
		t.Errorf("the newest leg is not there: %v", err)
	}
}

func TestUnansweredWritesCountByLog(t *testing.T) {
	var writes timeouts
	for range maxTimeouts - 1 {
		if writes.note(Legs, true) {
			t.Fatal("too early")
		}
		writes.note(Events, false) // another log works
	}
	if !writes.note(Legs, true) {
		t.Error("a log that does not answer is hidden by one that does")
	}
}

func TestReadersGoBackToTheEndOfALogThatLostItsTail(t *testing.T) {
	j := openSmall(t, Config{})
	if err := soleOf(t, j).PutLegs(t.Context(), []LegRecord{legOf("c")}); err != nil {
		t.Fatal(err)
	}
	c := &consumer{journal: j, log: Legs, durable: "reader", cursor: 40, spans: []*span{{first: 41, last: 50}}}
	last, err := c.rewind(t.Context())
	if err != nil || last != 3 || c.cursor != 3 || len(c.spans) != 0 {
		t.Errorf("the reader stands at %d of %d with %d batches, %v", c.cursor, last, len(c.spans), err)
	}
}

// Calls that have left leave no trace, so that the end of the log is none of damaged records.
func TestCallsThatHaveLeftAreNoDamage(t *testing.T) {
	j := openSmall(t, Config{})
	p := soleOf(t, j)
	var records []CallRecord
	var leaving []string
	for n := range 50 {
		records = append(records, CallRecord{CallID: fmt.Sprint(n)})
		leaving = append(leaving, CallKey(fmt.Sprint(n)))
	}
	if err := errors.Join(p.PutCalls(t.Context(), records), p.DropCalls(t.Context(), leaving[1:])); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for stats := (Stats{}); stats.Records != 1; {
		var err error
		if stats, err = j.Stats(ctx, Calls); err != nil || !waitFor(ctx, j.Changed(Calls), 50*time.Millisecond) {
			t.Fatalf("the marks of the calls stay: %+v, %v", stats, err)
		}
	}
	var found []string
	err := j.SavedCalls(t.Context(), func(key string, _ CallRecord) { found = append(found, key) })
	if err != nil || len(found) != 1 || found[0] != leaving[0] || j.Damaged() != 0 {
		t.Errorf("%d calls, %d damaged, %v", len(found), j.Damaged(), err)
	}
}
