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

// recent holds the newest groups of the EVENTS log by partition, so that what was decoded at the
// door a moment ago need not be read back.
type recent struct {
	mu     sync.Mutex
	queues []queue
	events int
	// last is the sequence of the newest commit that is known; 0 while none is.
	last uint64
	// bytes is the size of all commits so far.
	bytes int
	// polled is when the log itself was looked at.
	polled time.Time
}

// queue holds what one partition has not read yet.
type queue struct {
	// groups in order of their sequences.
	groups []Group
	// complete is the sequence from which on the groups are all that there is for the partition.
	complete uint64
	// touched is the newest commit with something for the partition.
	touched uint64
	// read is how many bytes of the log had been committed when the partition last read.
	read int
}

// start begins with a log that has commits up to the given one.
func (r *recent) start(n partitioning, last uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queues, r.last = make([]queue, n), last
	r.forget(last + 1)
}

// note takes over what was committed.
func (r *recent) note(c commit, n partitioning) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.err != nil {
		r.polled = time.Time{} // it may have been committed all the same
		return
	}
	if c.sequence != r.last+1 {
		r.forget(c.sequence)
	}
	r.last, r.bytes = c.sequence, r.bytes+c.bytes
	for _, w := range c.members {
		switch {
		case len(w.record) == 0: // a probe
		case len(w.decoded.Events) == 0:
			r.forget(c.sequence + 1)
			return
		case w.touched.more():
			w.touched.each(func(partition int) { r.add(partition, c.sequence, n.only(w.decoded, partition)) })
		default:
			w.touched.each(func(partition int) { r.add(partition, c.sequence, w.decoded) })
		}
	}
	for r.events > maxRecent {
		r.evict()
	}
}

// add appends one notification to what a partition has to read.
func (r *recent) add(partition int, sequence uint64, decoded Decoded) {
	q := &r.queues[partition]
	q.touched = sequence
	if n := len(q.groups); n == 0 || q.groups[n-1].Sequence != sequence {
		q.groups = append(q.groups, Group{Sequence: sequence})
	}
	last := &q.groups[len(q.groups)-1]
	last.Decoded = append(last.Decoded, decoded)
	r.events += len(decoded.Events)
}

// forget has every partition read the log for what was committed before the given sequence.
func (r *recent) forget(before uint64) {
	for i := range r.queues {
		q := &r.queues[i]
		r.discard(q, len(q.groups))
		q.complete, q.touched = before, before-1
	}
}

// evict takes the oldest group from memory.
func (r *recent) evict() {
	var oldest *queue
	for i := range r.queues {
		if q := &r.queues[i]; len(q.groups) > 0 && (oldest == nil || q.groups[0].Sequence < oldest.groups[0].Sequence) {
			oldest = q
		}
	}
	oldest.complete = oldest.groups[0].Sequence + 1
	r.discard(oldest, 1)
}

func (r *recent) discard(q *queue, n int) {
	for _, group := range q.groups[:n] {
		r.events -= group.size()
	}
	q.groups = slices.Delete(q.groups, 0, n)
}

// from returns up to limit groups of a partition from the given sequence on, and forgets those
// before it. The last one tells how far the partition has read, and may be empty. It reports false
// if the log has to be read instead: not everything is in memory, or it was not looked for a while
// whether there are others than those known here.
func (r *recent) from(partition int, sequence uint64, limit int, now time.Time) ([]Group, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := &r.queues[partition]
	read := 0
	for read < len(q.groups) && q.groups[read].Sequence < sequence {
		read++
	}
	if read > 0 { // who takes the partition over may have to begin before that, and reads the log
		r.discard(q, read)
		q.complete = max(q.complete, sequence)
	}
	switch {
	case r.last == 0 || sequence < q.complete || sequence > r.last+1:
		return nil, false
	case sequence == r.last+1:
		if now.Sub(r.polled) < pollInterval {
			return nil, true
		}
		r.polled = now
		return nil, false
	}
	groups := slices.Clone(q.groups[:min(limit, len(q.groups))])
	if n := len(groups); n == len(q.groups) && (n == 0 || groups[n-1].Sequence < r.last) {
		groups = append(groups, Group{Sequence: r.last})
	}
	groups[len(groups)-1].Bytes, q.read = r.bytes-q.read, r.bytes
	return groups, true
}

// sawOthers notes that the log has a commit that was not made here.
func (r *recent) sawOthers(sequence uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if sequence > r.last {
		r.forget(sequence + 1)
		r.last = sequence
	}
}

// lookAgain has the log looked at when a partition reads next: others have written to it.
func (r *recent) lookAgain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.polled = time.Time{}
}

// touched is the newest sequence that may have something for a partition.
func (r *recent) touched(partition int) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.queues[partition].touched
}

// size is the number of events in a group in memory.
func (g *Group) size() int {
	size := 0
	for i := range g.Decoded {
		size += len(g.Decoded[i].Events)
	}
	return size
}
