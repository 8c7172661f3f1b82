package journal

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// maxWindow is how many reads of the EVENTS log are remembered, of up to two megabytes each.
const maxWindow = 4

// rawGroup is a message of the EVENTS log whose records have not been decoded.
type rawGroup struct {
	sequence uint64
	stored   time.Time
	bytes    int
	frames   []frame
	err      error
}

// rawGroups takes messages apart. Damage is counted and reported.
func (j *Journal) rawGroups(messages []message) []rawGroup {
	groups := make([]rawGroup, len(messages))
	for i, m := range messages {
		frames, err := splitGroup(m.data)
		if err = cmp.Or(m.damage, err); err != nil {
			j.skipDamaged(Events, m.sequence, err)
		}
		groups[i] = rawGroup{sequence: m.sequence, stored: m.stored, bytes: len(m.data), frames: frames, err: err}
	}
	return groups
}

// decode returns those entries of a group that are wanted.
func (g *rawGroup) decode(wanted func(frame) bool) Group {
	entries, err := decodeFrames(g.frames, wanted)
	return Group{Sequence: g.sequence, Stored: g.stored, Bytes: g.bytes, Entries: entries, Err: err}
}

// window holds what was read from the EVENTS log last. The partitions read the log one after the
// other, and all but the first of them find it here.
type window struct {
	mu    sync.Mutex
	reads []windowRead
}

// windowRead is what the log had from a sequence on.
type windowRead struct {
	from   uint64
	groups []rawGroup
}

// readWindow returns up to limit groups from the given sequence on.
func (j *Journal) readWindow(ctx context.Context, from uint64, limit int) ([]rawGroup, error) {
	w := &j.window
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, read := range w.reads {
		if read.from <= from && from <= read.groups[len(read.groups)-1].sequence {
			first := slices.IndexFunc(read.groups, func(g rawGroup) bool { return g.sequence >= from })
			return read.groups[first:min(first+limit, len(read.groups))], nil
		}
	}
	messages, err := j.read(ctx, Events, from, limit)
	if err != nil {
		return nil, err
	}
	if len(messages) == 0 {
		w.reads = nil
		return nil, nil
	}
	groups := j.rawGroups(messages)
	if w.reads = append(w.reads, windowRead{from, groups}); len(w.reads) > maxWindow {
		w.reads = slices.Delete(w.reads, 0, 1)
	}
	j.sawEvent(groups[len(groups)-1].sequence)
	j.recent.sawOthers(groups[len(groups)-1].sequence)
	return groups, nil
}

// forget has the log read again: its server was lost.
func (w *window) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads = nil
}
