package journal

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

var (
	errAway  = errors.New("the log is away")
	recently = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
)

// group is a commit of some records whose contents are known.
func group(sequence uint64, records int) commit {
	c := commit{sequence: sequence}
	for range records {
		c.members = append(c.members, &waiting{record: []byte("record"), touched: 1, decoded: Decoded{Mapping: "uid", Events: make([]callevent.Event, 1)}})
	}
	return c
}

// sequencesFrom are the sequences that a reader gets from memory; nil: it has to read the log.
func sequencesFrom(r *recent, from uint64, now time.Time) []uint64 {
	groups, ok := r.from(0, from, 100, now)
	if !ok {
		return nil
	}
	found := make([]uint64, 0, len(groups))
	for _, g := range groups {
		found = append(found, g.Sequence)
	}
	return found
}

func TestRecentGroupsAreHandedOutWithoutGaps(t *testing.T) {
	cases := map[string]struct {
		commits []commit
		from    uint64
		want    []uint64
	}{
		"all of them":                                {[]commit{group(7, 1), group(8, 2), group(9, 1)}, 7, []uint64{7, 8, 9}},
		"those not read yet":                         {[]commit{group(7, 1), group(8, 2), group(9, 1)}, 9, []uint64{9}},
		"older ones are in the log":                  {[]commit{group(7, 1), group(8, 2)}, 6, nil},
		"those before a gap are in the log":          {[]commit{group(7, 1), group(9, 1)}, 7, nil},
		"not in a gap":                               {[]commit{group(7, 1), group(9, 1)}, 8, nil},
		"a commit without answer may have succeeded": {[]commit{group(7, 1), {err: errAway}}, 8, nil},
		"contents unknown":                           {[]commit{group(7, 1), {sequence: 8, members: []*waiting{{record: []byte("record")}}}}, 8, nil},
		"a probe has no contents":                    {[]commit{{sequence: 7, members: []*waiting{{}}}, group(8, 1)}, 7, []uint64{8}},
		"a log that began anew":                      {[]commit{group(7, 1), group(8, 1), group(3, 1)}, 7, nil},
		"too many":                                   {[]commit{group(7, maxRecent), group(8, 1)}, 7, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var r recent
			r.start(1, 0)
			for _, commit := range c.commits {
				r.note(commit, 1)
			}
			if diff := cmp.Diff(c.want, sequencesFrom(&r, c.from, recently)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Who takes a partition over once more begins where its last checkpoint is, before what it had read
// itself when it owned the partition the last time.
func TestWhatWasReadIsInTheLogForWhoBeginsBefore(t *testing.T) {
	var r recent
	r.start(1, 0)
	for _, commit := range []commit{group(1, 1), group(2, 1), group(3, 1)} {
		r.note(commit, 1)
	}
	if diff := cmp.Diff([]uint64{3}, sequencesFrom(&r, 3, recently)); diff != "" {
		t.Error(diff)
	}
	if _, ok := r.from(0, 2, 10, recently); ok {
		t.Error("the second commit is passed over")
	}
}

func TestTheLogIsLookedAtOnceInAWhile(t *testing.T) {
	var r recent
	r.start(1, 0)
	r.note(group(7, 1), 1)
	for _, step := range []struct {
		after time.Duration
		want  []uint64
	}{{0, nil}, {time.Millisecond, []uint64{}}, {pollInterval, nil}, {pollInterval + time.Millisecond, []uint64{}}} {
		if diff := cmp.Diff(step.want, sequencesFrom(&r, 8, recently.Add(step.after))); diff != "" {
			t.Errorf("after %s: %s", step.after, diff)
		}
	}
}
