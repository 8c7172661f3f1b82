package journal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

func open(t *testing.T, config journal.Config) *journal.Journal {
	t.Helper()
	if config.Dir == "" {
		config.Dir = t.TempDir()
	}
	config.Partitions = max(config.Partitions, 1)
	j, err := journal.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// soleOf takes the only partition of a journal.
func soleOf(t *testing.T, j *journal.Journal) *journal.Partition {
	t.Helper()
	p, err := j.Take(t.Context(), 0, journal.Term{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 seconds: %s", what)
		}
	}
}

func entry(n int) journal.Entry {
	return journal.Entry{Mapping: "m", Request: callevent.Request{
		ReceivedAt: time.UnixMicro(1_700_000_000_000_000 + int64(n)).UTC(),
		Source:     callevent.Source{Type: callevent.Phone, Number: "1234*101", ID: "5101", User: "ann"},
		Method:     "POST", Path: "/dial-in", Query: "a=b", ContentType: "text/plain", Body: fmt.Sprintf("n=%d", n),
	}}
}

func appendEntry(j *journal.Journal, n int) error {
	e := entry(n)
	return j.Append(journal.AppendEntry(nil, &e), journal.Decoded{})
}

func readAll(t *testing.T, j *journal.Journal) []journal.Entry {
	t.Helper()
	var entries []journal.Entry
	for next := uint64(1); ; {
		groups, err := j.ReadEvents(t.Context(), next, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(groups) == 0 {
			return entries
		}
		for _, group := range groups {
			if group.Err != nil {
				t.Fatal(group.Err)
			}
			entries = append(entries, group.Entries...)
		}
		next = groups[len(groups)-1].Sequence + 1
	}
}

func TestEventsSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	j := open(t, journal.Config{Dir: dir})
	var writers sync.WaitGroup
	const writersCount, each = 16, 50
	for w := range writersCount {
		writers.Go(func() {
			for i := range each {
				if err := appendEntry(j, w*each+i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	j.Close()
	j = open(t, journal.Config{Dir: dir})
	defer j.Close()
	got := readAll(t, j)
	slices.SortFunc(got, func(a, b journal.Entry) int { return a.Request.ReceivedAt.Compare(b.Request.ReceivedAt) })
	want := make([]journal.Entry, writersCount*each)
	for i := range want {
		want[i] = entry(i)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestConcurrentRecordsShareCommits(t *testing.T) {
	var mu sync.Mutex
	records, commits := 0, 0
	j := open(t, journal.Config{Observe: func(log journal.Log, n, _ int, _ time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		if log == journal.Events && err == nil {
			records, commits = records+n, commits+1
		}
	}})
	defer j.Close()
	var writers sync.WaitGroup
	for w := range 32 {
		writers.Go(func() {
			for i := range 20 {
				if err := appendEntry(j, w*20+i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	mu.Lock()
	defer mu.Unlock()
	if records != 640 || commits > records/2 {
		t.Errorf("%d records took %d commits; expected 640 in at most half as many", records, commits)
	}
}

func TestFullLogRefusesAndRecovers(t *testing.T) {
	j := open(t, journal.Config{Size: 4 << 20}) // EVENTS gets 45 % of it
	defer j.Close()
	big := journal.Entry{Request: callevent.Request{Body: strings.Repeat("x", 60<<10)}}
	record := journal.AppendEntry(nil, &big)
	var err error
	taken := 0
	for ; err == nil && taken < 100; taken++ {
		err = j.Append(record, journal.Decoded{})
	}
	if !errors.Is(err, journal.ErrFull) {
		t.Fatalf("a full log answers %v after %d records, expected ErrFull", err, taken)
	}
	if got := len(readAll(t, j)); got != taken-1 {
		t.Errorf("%d of %d acknowledged records are left: unprocessed events were discarded", got, taken-1)
	}
	if err := soleOf(t, j).SaveCheckpoint(t.Context(), journal.Checkpoint{Processed: uint64(taken), LowWater: uint64(taken)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "processed events give way to new ones", func() bool { return j.Append(record, journal.Decoded{}) == nil })
	if err := j.Check(); err != nil {
		t.Errorf("after the recovery: %v", err)
	}
}

func TestAFullLogIsWaitedForWhileItIsRead(t *testing.T) {
	j := open(t, journal.Config{Size: 4 << 20})
	defer j.Close()
	big := journal.Entry{Request: callevent.Request{Body: strings.Repeat("x", 60<<10)}}
	record := journal.AppendEntry(nil, &big)
	partition, ended := soleOf(t, j), make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for sequence := uint64(1); ; sequence++ { // slower than the events come
			select {
			case <-ended:
				return
			case <-time.After(10 * time.Millisecond):
			}
			if err := partition.SaveCheckpoint(context.Background(), journal.Checkpoint{Processed: sequence, LowWater: sequence + 1}); err != nil {
				t.Error(err)
			}
		}
	})
	for n := range 200 {
		if err := j.Append(record, journal.Decoded{}); err != nil {
			t.Errorf("record %d: %v", n, err)
			break
		}
	}
	close(ended)
	reading.Wait()
}

func TestNothingIsTrimmedAboveTheLowWater(t *testing.T) {
	j := open(t, journal.Config{Size: 4 << 20, EventAge: time.Nanosecond})
	defer j.Close()
	for n := range 20 {
		if err := appendEntry(j, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := soleOf(t, j).SaveCheckpoint(t.Context(), journal.Checkpoint{Processed: 20, LowWater: 11}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "old processed events are trimmed", func() bool {
		stats, err := j.Stats(t.Context(), journal.Events)
		return err == nil && stats.First == 11 && stats.Last == 20
	})
}

func TestServerThatGaveUpIsRestarted(t *testing.T) {
	j := open(t, journal.Config{})
	defer j.Close()
	if err := appendEntry(j, 1); err != nil {
		t.Fatal(err)
	}
	generation := j.Generation()
	journal.BreakServer(j) // as JetStream does when the disk is full
	if err := appendEntry(j, 2); err == nil {
		t.Error("a record was acknowledged by a broken log")
	}
	eventually(t, "the log takes records again", func() bool { return appendEntry(j, 3) == nil })
	if j.Generation() == generation {
		t.Error("the generation did not change, so nobody learns that legs may be lost")
	}
	bodies := make([]string, 0, 3)
	for _, e := range readAll(t, j) {
		bodies = append(bodies, e.Request.Body)
	}
	if !slices.Contains(bodies, "n=1") || !slices.Contains(bodies, "n=3") {
		t.Errorf("acknowledged records are missing: %v", bodies)
	}
}

func TestClosedJournalRefuses(t *testing.T) {
	j := open(t, journal.Config{})
	j.Close()
	if err := appendEntry(j, 1); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestQuarantineDiscardsTheOldest(t *testing.T) {
	j := open(t, journal.Config{Size: 8 << 20})
	defer j.Close()
	e := journal.Entry{Request: callevent.Request{Body: strings.Repeat("x", 60<<10)}}
	record := journal.AppendEntry(nil, &e)
	for range 20 {
		if err := j.AppendQuarantine(record); err != nil {
			t.Fatal(err)
		}
	}
	stats, err := j.Stats(t.Context(), journal.Quarantine)
	if err != nil || stats.Records == 0 || stats.Records == 20 || stats.Bytes > stats.Limit {
		t.Errorf("after 20 large requests: %+v, %v", stats, err)
	}
}

func leg(call, id string, revision int64) journal.LegRecord {
	return journal.LegRecord{
		Leg:       correlation.Leg{CallID: call, LegID: id, Revision: revision, Kind: correlation.Extension},
		Positions: []uint64{7, 9, 8}, Through: uint64(revision),
	}
}

func TestLegsKeepTheNewestRevision(t *testing.T) {
	dir := t.TempDir()
	j := open(t, journal.Config{Dir: dir})
	put(t, j, leg("c1", "a", 1), leg("c1", "b", 1), leg("c2", "a", 1))
	put(t, j, leg("c1", "a", 2))
	j.Close()
	j = open(t, journal.Config{Dir: dir})
	defer j.Close()
	records, err := j.LegsOfCall(t.Context(), journal.CallKey("c1"))
	if err != nil || len(records) != 2 {
		t.Fatalf("got %d legs, %v", len(records), err)
	}
	byID := map[string]journal.LegRecord{records[0].Leg.LegID: records[0], records[1].Leg.LegID: records[1]}
	if got := byID["a"]; got.Leg.Revision != 2 || !slices.Equal(got.Positions, []uint64{7, 9, 8}) {
		t.Errorf("got %+v", got)
	}
	known, err := j.KnownCalls(t.Context(), []string{journal.CallKey("c1"), journal.CallKey("c2"), journal.CallKey("c3")})
	if err != nil || len(known) != 2 || known[journal.CallKey("c1")].Leg.Revision != 2 {
		t.Errorf("known calls: %+v, %v", known, err)
	}
	keys := map[string]bool{}
	if err := j.CallKeys(t.Context(), func(key string) { keys[key] = true }); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(map[string]bool{journal.CallKey("c1"): true, journal.CallKey("c2"): true}, keys); diff != "" {
		t.Error(diff)
	}
	if through, err := soleOf(t, j).LegsThrough(t.Context()); err != nil || through != 2 {
		t.Errorf("through %d, %v", through, err)
	}
}

func put(t *testing.T, j *journal.Journal, records ...journal.LegRecord) {
	t.Helper()
	if err := soleOf(t, j).PutLegs(t.Context(), records); err != nil {
		t.Fatal(err)
	}
}

func TestManyLegsInOneWrite(t *testing.T) {
	j := open(t, journal.Config{})
	defer j.Close()
	records := make([]journal.LegRecord, 1700)
	for i := range records {
		records[i] = leg("call", fmt.Sprint(i), 1)
	}
	put(t, j, records...)
	stats, err := j.Stats(t.Context(), journal.Legs)
	if err != nil || stats.Records != 1701 {
		t.Errorf("got %+v, %v", stats, err)
	}
	found, err := j.LegsOfCall(t.Context(), journal.CallKey("call"))
	if err != nil || len(found) < 500 {
		t.Errorf("%d legs of the call come back: %v", len(found), err)
	}
}

// reader collects what a consumer of the LEGS log is handed.
type reader struct {
	mu     sync.Mutex
	newest map[string]int64
	fail   bool
	calls  int
}

func (r *reader) handle(_ context.Context, records []journal.LegRecord) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if r.fail {
		return errors.New("the API server is away")
	}
	if r.newest == nil {
		r.newest = make(map[string]int64)
	}
	for _, record := range records {
		r.newest[record.Key] = max(r.newest[record.Key], record.Leg.Revision)
	}
	return nil
}

func (r *reader) sum() (sum int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, revision := range r.newest {
		sum += revision
	}
	return sum
}

func consume(t *testing.T, j *journal.Journal, r *reader) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := j.ConsumeLegs(ctx, "reader", r.handle); !errors.Is(err, context.Canceled) {
			t.Errorf("the consumer ended with %v", err)
		}
	})
	return func() { cancel(); running.Wait() }
}

func TestConsumerGetsNewestRevisionsAfterAnOutage(t *testing.T) {
	dir := t.TempDir()
	j := open(t, journal.Config{Dir: dir, LegReaders: []string{"reader"}})
	defer func() { j.Close() }()
	r := &reader{fail: true}
	stop := consume(t, j, r)
	for revision := range int64(3) {
		for n := range 400 {
			put(t, j, leg("call", fmt.Sprint(n), revision+1))
		}
	}
	eventually(t, "the handler is tried again", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.calls > 3 })
	r.mu.Lock()
	r.fail = false
	r.mu.Unlock()
	eventually(t, "all newest revisions arrive", func() bool { return r.sum() == 3*400 && j.AllRead() })
	stop()

	j.Close()
	j = open(t, journal.Config{Dir: dir})
	put(t, j, leg("call", "0", 4))
	again := &reader{}
	stop = consume(t, j, again)
	eventually(t, "the new revision arrives", func() bool { return again.sum() >= 4 })
	stop()
	if got := again.sum(); got != 4 {
		t.Errorf("a reader that had read everything was handed %d revisions again", got-4)
	}
}

func TestOneSlowBatchHoldsNobodyUp(t *testing.T) {
	j := open(t, journal.Config{})
	defer j.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	release, begun := make(chan struct{}), make(chan struct{})
	arrived := make(chan string, 10)
	var running sync.WaitGroup
	running.Go(func() {
		_ = j.ConsumeLegs(ctx, "reader", func(_ context.Context, records []journal.LegRecord) error {
			if records[0].Leg.LegID == "slow" {
				close(begun)
				<-release
			}
			arrived <- records[0].Leg.LegID
			return nil
		})
	})
	put(t, j, leg("call", "slow", 1))
	<-begun
	put(t, j, leg("call", "quick", 1))
	select {
	case got := <-arrived:
		if got != "quick" {
			t.Errorf("%s came first", got)
		}
	case <-time.After(10 * time.Second):
		t.Error("the second batch waits for the first")
	}
	close(release)
	<-arrived
	cancel()
	running.Wait()
}

func TestFollowerReadsOnWhileNothingIsDone(t *testing.T) {
	dir := t.TempDir()
	j := open(t, journal.Config{Dir: dir})
	defer func() { j.Close() }()
	const legs = 3000 // more than are handed out at a time to those that are waited for
	for n := range legs {
		put(t, j, leg("call", fmt.Sprint(n), 1))
	}
	seen := func(j *journal.Journal, want int, finish bool) (got int) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_ = j.FollowLegs(ctx, "follower", func(records []journal.LegRecord, done func()) {
			if got += len(records); finish {
				done()
			}
			if got >= want {
				cancel()
			}
		})
		return got
	}
	if got := seen(j, legs, false); got != legs {
		t.Fatalf("a follower that was done with nothing read %d legs, want %d", got, legs)
	}
	j.Close()
	j = open(t, journal.Config{Dir: dir})
	if got := seen(j, legs, true); got != legs {
		t.Fatalf("%d legs came again, want all %d that were not done", got, legs)
	}
	j.Close()
	j = open(t, journal.Config{Dir: dir})
	put(t, j, leg("call", "new", 1))
	if got := seen(j, 1, true); got != 1 {
		t.Errorf("%d legs came again, want the new one", got)
	}
}

func TestAgentsKeepTheNewestState(t *testing.T) {
	j := open(t, journal.Config{})
	defer j.Close()
	since := time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
	for i, state := range []string{"Available", "LoggedOut"} {
		record := journal.AgentRecord{Mapping: "m", Extension: "1234*101", State: state, Since: since.Add(time.Duration(i) * time.Minute)}
		if err := j.PutAgents(t.Context(), []journal.AgentRecord{record}); err != nil {
			t.Fatal(err)
		}
	}
	for i, state := range []string{"3", ""} {
		at := since.Add(time.Duration(i+1) * time.Minute)
		record := journal.AgentRecord{Phone: true, Mapping: "m", Extension: "1234*101", ExtensionID: "5101", State: state, Since: at}
		if err := j.PutAgents(t.Context(), []journal.AgentRecord{record}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan []journal.AgentRecord, 1)
	var running sync.WaitGroup
	running.Go(func() {
		_ = j.ConsumeAgents(ctx, "reader", func(_ context.Context, records []journal.AgentRecord) error { got <- records; return nil })
	})
	want := []journal.AgentRecord{
		{Mapping: "m", Extension: "1234*101", State: "LoggedOut", Since: since.Add(time.Minute)},
		{Phone: true, Mapping: "m", Extension: "1234*101", ExtensionID: "5101", Since: since.Add(2 * time.Minute)},
	}
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Error(diff)
	}
	cancel()
	running.Wait()
}

func TestCheckpointSurvives(t *testing.T) {
	dir := t.TempDir()
	j := open(t, journal.Config{Dir: dir})
	want := journal.Checkpoint{Processed: 42, LowWater: 17}
	if err := soleOf(t, j).SaveCheckpoint(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	j.Close()
	j = open(t, journal.Config{Dir: dir})
	defer j.Close()
	if got, err := soleOf(t, j).LoadCheckpoint(t.Context()); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}
