package journal

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// notification is an entry with events of some calls, as the front door hands it over.
func notification(n int, calls ...string) (Entry, Decoded) {
	entry := Entry{Mapping: "m", Request: callevent.Request{ReceivedAt: time.UnixMicro(int64(n)).UTC(), Body: fmt.Sprint(n)}}
	decoded := Decoded{Mapping: "m"}
	for _, call := range calls {
		decoded.Events = append(decoded.Events, callevent.Event{ID: fmt.Sprintf("%d %s", n, call), Type: callevent.DialIn, CallID: call})
	}
	return entry, decoded
}

// seen are the calls of the events that a partition is handed, in order, whether they come from
// memory or from the log.
func seen(p *Partition, groups []Group, calls map[string][]string) []string {
	var found []string
	for _, group := range groups {
		for _, decoded := range group.Decoded {
			for _, event := range decoded.Events {
				found = append(found, event.ID)
			}
		}
		for _, entry := range group.Entries {
			for _, call := range calls[entry.Request.Body] {
				if p.Owns(entry.Mapping, &callevent.Event{CallID: call}) {
					found = append(found, entry.Request.Body+" "+call)
				}
			}
		}
	}
	return found
}

// Every event comes to exactly one partition, that of its call, in the order of the log.
func TestEveryEventComesToItsPartition(t *testing.T) {
	j := openSmall(t, Config{Partitions: 4})
	var partitions []*Partition
	for number := range 4 {
		p, err := j.Take(t.Context(), number, Term{Owner: "me"})
		if err != nil {
			t.Fatal(err)
		}
		partitions = append(partitions, p)
	}
	calls := make(map[string][]string)
	want := make([][]string, 4)
	var appending sync.WaitGroup
	for n := range 60 {
		some := []string{fmt.Sprint("c", n), fmt.Sprint("d", n/7)}[:1+n%2]
		entry, decoded := notification(n, some...)
		if n%5 == 0 { // as from an earlier receiver: nothing is known of what is in it
			decoded = Decoded{}
		}
		calls[fmt.Sprint(n)] = some
		for _, call := range some {
			p := j.partitions.of(CallKey(call))
			want[p] = append(want[p], fmt.Sprintf("%d %s", n, call))
		}
		appending.Go(func() {
			if err := j.Append(AppendEntry(nil, &entry), decoded); err != nil {
				t.Error(err)
			}
		})
	}
	appending.Wait()
	end, err := j.EventsEnd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"memory and the log", "the log"} {
		for number, p := range partitions {
			var got []string
			for next := uint64(1); next <= end; {
				groups, err := p.ReadEvents(t.Context(), next, 7)
				if err != nil || len(groups) == 0 {
					t.Fatalf("nothing from %d on, of %d: %v", next, end, err)
				}
				got = append(got, seen(p, groups, calls)...)
				next = groups[len(groups)-1].Sequence + 1
			}
			slices.Sort(got)
			slices.Sort(want[number])
			if diff := cmp.Diff(want[number], got); diff != "" {
				t.Errorf("partition %d, from %s: %s", number, source, diff)
			}
		}
		j.recent.start(4, end)
	}
}

func TestPartitionsAreTheSameForEver(t *testing.T) {
	// Changing them would tear calls apart that are in the logs.
	for call, want := range map[string]int{"": 2, "a": 2, "call-7": 14} {
		if got := partitioning(16).of(CallKey(call)); got != want {
			t.Errorf("%q is in partition %d, not %d", call, got, want)
		}
	}
}

func TestLogsKeepTheirNumberOfPartitions(t *testing.T) {
	dir := t.TempDir()
	for _, configured := range []int{4, 16} {
		j, err := Open(t.Context(), Config{Dir: dir, Partitions: configured})
		if err != nil {
			t.Fatal(err)
		}
		if got := j.Partitions(); got != 4 {
			t.Errorf("%d partitions with %d configured", got, configured)
		}
		j.Close()
	}
}

// What an earlier receiver noted for the whole holds for each partition.
func TestPartitionsBeginWhereAnEarlierReceiverStood(t *testing.T) {
	j := openSmall(t, Config{Partitions: 2})
	if err := j.putState(t.Context(), []byte(`{"processed":42,"lowWater":17}`), "checkpoint"); err != nil {
		t.Fatal(err)
	}
	if _, err := j.divide(t.Context()); err != nil {
		t.Fatal(err)
	}
	for number := range 2 {
		p, err := j.Take(t.Context(), number, Term{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.LoadCheckpoint(t.Context()); err != nil || got != (Checkpoint{Processed: 42, LowWater: 17}) {
			t.Errorf("partition %d begins at %+v, %v", number, got, err)
		}
	}
}

// The log gives way only below what the slowest partition needs.
func TestTheSlowestPartitionHoldsTheLog(t *testing.T) {
	j := openSmall(t, Config{Partitions: 2})
	for number, lowWater := range []uint64{30, 12} {
		p, err := j.Take(t.Context(), number, Term{})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.SaveCheckpoint(t.Context(), Checkpoint{Processed: 40, LowWater: lowWater}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := j.lowWater(t.Context()); err != nil || got != 12 {
		t.Errorf("records below %d give way, %v", got, err)
	}
}

func TestPartitionSetsHoldWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfDistinct(rapid.IntRange(0, MaxPartitions-1), func(n int) int { return n }).Draw(t, "partitions")
		var set PartitionSet
		for _, partition := range want {
			set.add(partition)
		}
		var got []int
		set.each(func(partition int) {
			if !set.has(partition) {
				t.Errorf("%d is not in the set", partition)
			}
			got = append(got, partition)
		})
		slices.Sort(want)
		if !slices.Equal(want, got) || set.more() != (len(want) > 1) {
			t.Errorf("want %v, got %v", want, got)
		}
	})
}

func TestALookThatIsSharedBeganAfterItWasAskedFor(t *testing.T) {
	var s shared[int]
	begun, finish := make(chan struct{}), make(chan struct{})
	looks := 0
	look := func(context.Context) (int, error) {
		looks++
		if looks == 1 {
			close(begun)
			<-finish
		}
		return looks, nil
	}
	var asking sync.WaitGroup
	asking.Go(func() {
		if got, _ := s.get(t.Context(), look); got != 1 {
			t.Errorf("the first gets look %d", got)
		}
	})
	<-begun
	for range 3 {
		asking.Go(func() {
			if got, _ := s.get(t.Context(), look); got < 2 {
				t.Error("a look that was begun before it was asked for")
			}
		})
	}
	close(finish)
	asking.Wait()
}
