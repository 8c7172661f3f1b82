package pipeline

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStepsOfALife(t *testing.T) {
	names := []string{"begun", "open", "finished", "leaving", "gone", "parked"}
	legal := map[string][]string{
		"begun":    {"open", "parked"},
		"open":     {"finished", "gone", "parked"},
		"finished": {"open", "leaving", "gone", "parked"},
		"leaving":  {"open", "finished", "gone", "parked"},
	}
	for from := begun; from <= parked; from++ {
		var found []string
		for to := begun; to <= parked; to++ {
			if from.mayBecome(to) {
				found = append(found, names[to])
			}
		}
		if diff := cmp.Diff(legal[names[from]], found); diff != "" {
			t.Errorf("steps from %s (-want +got):\n%s", names[from], diff)
		}
		if final := len(found) == 0; final != from.isOver() {
			t.Errorf("%s is over: %v", names[from], from.isOver())
		}
	}
}

func TestStepsOfLegs(t *testing.T) {
	for _, test := range []struct {
		from, touched, doubted, replayedCertain, replayedInDoubt legsState
		derive, writeAll                                         bool
	}{
		{from: current, touched: stale, doubted: doubtful, replayedCertain: current, replayedInDoubt: doubtful},
		{from: stale, touched: stale, doubted: doubtfulStale, replayedCertain: current, replayedInDoubt: doubtful, derive: true},
		{from: doubtful, touched: doubtfulStale, doubted: doubtful, replayedCertain: doubtful, replayedInDoubt: doubtful, writeAll: true},
		{
			from: doubtfulStale, touched: doubtfulStale, doubted: doubtfulStale, replayedCertain: doubtful, replayedInDoubt: doubtful,
			derive: true, writeAll: true,
		},
	} {
		got := []legsState{test.from.touched(), test.from.doubted(), test.from.replayed(true), test.from.replayed(false)}
		if want := []legsState{test.touched, test.doubted, test.replayedCertain, test.replayedInDoubt}; !slices.Equal(got, want) {
			t.Errorf("from %d: got %v, want %v", test.from, got, want)
		}
		if test.from.isStale() != test.derive || test.from.isDoubtful() != test.writeAll {
			t.Errorf("%d: derived %v, all written %v", test.from, test.from.isStale(), test.from.isDoubtful())
		}
	}
}

func TestStepsOfPositions(t *testing.T) {
	for _, test := range []struct{ from, derived, derivedUnchanged, settled positionsState }{
		{from: unwritten, derived: sent, derivedUnchanged: unwritten, settled: unwritten},
		{from: sent, derived: sent, derivedUnchanged: unwritten, settled: logged},
		{from: logged, derived: logged, derivedUnchanged: logged, settled: logged},
	} {
		got := []positionsState{test.from.derived(true), test.from.derived(false), test.from.settled()}
		if want := []positionsState{test.derived, test.derivedUnchanged, test.settled}; !slices.Equal(got, want) {
			t.Errorf("from %d: got %v, want %v", test.from, got, want)
		}
	}
}

// What joins a call after its positions were written, or are on their way, is written too.
func TestANewPositionIsUnwritten(t *testing.T) {
	for from := unwritten; from <= logged; from++ {
		p := positions{sequences: []uint64{7}, state: from}
		if p.add(7); p.state != from {
			t.Errorf("from %d: a known position makes it %d", from, p.state)
		}
		if p.add(9); p.state != unwritten || !slices.Equal(p.sequences, []uint64{7, 9}) {
			t.Errorf("from %d: a new position makes it %d with %v", from, p.state, p.sequences)
		}
	}
}

func TestTooManyPositionsAreNotNamed(t *testing.T) {
	p := positions{state: logged}
	for sequence := range uint64(maxPositions + 1) {
		p.add(sequence)
	}
	want := positions{extent: tooMany}
	if diff := cmp.Diff(want, p, cmp.AllowUnexported(positions{})); diff != "" {
		t.Error(diff)
	}
	p.state = logged
	if p.add(maxPositions + 1); p.state != logged || p.sequences != nil {
		t.Error("the note that there are too many is written a second time")
	}
}

func TestStepsOfTheSavedState(t *testing.T) {
	for from, want := range map[savedState]savedState{unsaved: unsaved, saved: outdated, outdated: outdated} {
		if got := from.changed(); got != want {
			t.Errorf("from %d: got %d, want %d", from, got, want)
		}
	}
}
