package journal

import (
	"slices"
	"sync"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// Decoded is what an Entry says.
type Decoded struct {
	// Mapping is that of the entry, and Path that of its request.
	Mapping, Path string
	Events        []callevent.Event
}

// maxRecent bounds the events in memory, about 1 KiB each. A reader that lags further behind reads
// the log.
const maxRecent = 8192

// recent holds the newest groups of the EVENTS log, so that what was decoded at the door a moment
// ago need not be read back.
type recent struct {
	mu sync.Mutex
	// groups in order of their sequences. There may be gaps: commits whose outcome or contents are
	// not known.
	groups []Group
	events int
	// last is the sequence of the newest commit; 0 while it is not known.
	last uint64
	// polled is when the log itself was looked at.
	polled time.Time
}

// note takes over what was committed.
func (r *recent) note(c commit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.sequence <= r.last {
		r.discard(len(r.groups))
	}
	r.last = c.sequence
	if c.err != nil {
		return
	}
	group := Group{Sequence: c.sequence, Bytes: c.bytes, Decoded: make([]Decoded, 0, len(c.members))}
	for _, w := range c.members {
		switch {
		case len(w.record) == 0: // a probe
		case len(w.decoded.Events) == 0:
			return
		default:
			group.Decoded = append(group.Decoded, w.decoded)
		}
	}
	r.groups, r.events = append(r.groups, group), r.events+group.size()
	for r.events > maxRecent {
		r.discard(1)
	}
}

// from returns up to limit groups from the given sequence on, and forgets those before it. It
// reports false if the log has to be read instead: the groups are not in memory, or it was not
// looked for a while whether there are others than those known here.
func (r *recent) from(sequence uint64, limit int, now time.Time) ([]Group, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	read := 0
	for read < len(r.groups) && r.groups[read].Sequence < sequence {
		read++
	}
	r.discard(read)
	n := 0
	for n < min(limit, len(r.groups)) && r.groups[n].Sequence == sequence+uint64(n) {
		n++
	}
	upToDate := sequence == r.last+1 && r.last > 0
	if n > 0 || upToDate && now.Sub(r.polled) < pollInterval {
		return slices.Clone(r.groups[:n]), true
	}
	r.polled = now
	return nil, false
}

func (r *recent) discard(n int) {
	for _, group := range r.groups[:n] {
		r.events -= group.size()
	}
	r.groups = slices.Delete(r.groups, 0, n)
}

// size is the number of events in a group in memory.
func (g *Group) size() int {
	size := 0
	for i := range g.Decoded {
		size += len(g.Decoded[i].Events)
	}
	return size
}
