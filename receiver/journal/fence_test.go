package journal_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// take makes the owner of a partition.
func take(t *testing.T, j *journal.Journal, number int, term journal.Term) *journal.Partition {
	t.Helper()
	p, err := j.Take(t.Context(), number, term)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// An owner whose partition was taken over writes nothing any more.
func TestAFormerOwnerCannotWrite(t *testing.T) {
	config := journal.Config{URL: natsServer(t, &server.Options{}).ClientURL(), Owner: office, Size: 8 << 20, Replicas: 1}
	here, there := open(t, config), open(t, config)
	defer here.Close()
	defer there.Close()
	before := take(t, here, 0, journal.Term{Number: 3, Owner: "here"})
	if err := before.PutLegs(t.Context(), []journal.LegRecord{leg("c1", "a", 1)}); err != nil {
		t.Fatal(err)
	}
	after := take(t, there, 0, journal.Term{Number: 4, Owner: "there"})
	for what, write := range map[string]func() error{
		"legs":         func() error { return before.PutLegs(t.Context(), []journal.LegRecord{leg("c1", "a", 2)}) },
		"calls":        func() error { return before.PutCalls(t.Context(), []journal.CallRecord{{CallID: "c1"}}) },
		"a checkpoint": func() error { return before.SaveCheckpoint(t.Context(), journal.Checkpoint{Processed: 1}) },
	} {
		if err := after.SaveCheckpoint(t.Context(), journal.Checkpoint{Processed: 9, LowWater: 9}); err != nil {
			t.Fatal(err)
		}
		if err := write(); !errors.Is(err, journal.ErrFenced) {
			t.Errorf("a former owner writes %s: %v", what, err)
		}
	}
	if _, err := here.Take(t.Context(), 0, journal.Term{Number: 3, Owner: "here"}); !errors.Is(err, journal.ErrFenced) {
		t.Errorf("a former owner takes the partition back: %v", err)
	}
	records, err := there.LegsOfCall(t.Context(), journal.CallKey("c1"))
	if err != nil || len(records) != 1 || records[0].Leg.Revision != 1 {
		t.Errorf("legs: %+v, %v", records, err)
	}
	if err := after.PutLegs(t.Context(), []journal.LegRecord{leg("c1", "a", 3)}); err != nil {
		t.Errorf("the owner cannot write: %v", err)
	}
}

// A pass of any size is written, and a record that is refused for good holds up no other.
func TestAnOwnerWritesWhatDoesNotFitIntoOneBatch(t *testing.T) {
	j := open(t, journal.Config{URL: natsServer(t, &server.Options{}).ClientURL(), Owner: office, Size: 64 << 20, Replicas: 1})
	defer j.Close()
	p := take(t, j, 0, journal.Term{Owner: "me"})
	records := make([]journal.LegRecord, 2500)
	for n := range records {
		records[n] = leg("call", fmt.Sprint(n), 1)
	}
	if err := p.PutLegs(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	large := leg("large", "a", 1)
	large.Leg.FromName = strings.Repeat("x", 2<<20)
	var refused *journal.RefusedError
	if err := p.PutLegs(t.Context(), []journal.LegRecord{leg("other", "a", 1), large}); !errors.As(err, &refused) || len(refused.Reasons) != 1 {
		t.Errorf("got %v", err)
	}
	if stats, err := j.Stats(t.Context(), journal.Legs); err != nil || stats.Records != 2502 { // with the head
		t.Errorf("got %+v, %v", stats, err)
	}
}
