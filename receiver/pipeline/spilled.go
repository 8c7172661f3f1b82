package pipeline

import (
	"container/heap"
	"encoding/hex"
	"time"
)

// callKey is the key of a call in the logs in the smallest form.
type callKey [12]byte

func toKey(key string) (k callKey) {
	_, _ = hex.Decode(k[:], []byte(key)) // keys are made by the journal
	return k
}

func (k callKey) String() string { return hex.EncodeToString(k[:]) }

// never is the deadline of a call that does not wait for time to pass.
const never = time.Duration(1<<63 - 1)

// spilled are the open calls that are in the CALLS log only: their keys, and when they wait for
// time to pass. About 80 bytes each.
type spilled struct {
	deadlines map[callKey]time.Duration
	// order has an entry for every deadline, and some that are out of date.
	order spillHeap
}

type spillEntry struct {
	deadline time.Duration
	key      callKey
}

func newSpilled() spilled { return spilled{deadlines: make(map[callKey]time.Duration)} }

func (s *spilled) len() int { return len(s.deadlines) }

func (s *spilled) has(key string) bool {
	_, ok := s.deadlines[toKey(key)]
	return ok
}

// deadline of a call; never where it has none, or is not spilled.
func (s *spilled) deadline(key string) time.Duration {
	if deadline, ok := s.deadlines[toKey(key)]; ok {
		return deadline
	}
	return never
}

func (s *spilled) put(key string, deadline time.Duration) {
	k := toKey(key)
	s.deadlines[k] = deadline
	heap.Push(&s.order, spillEntry{deadline, k})
}

// remove takes a call out.
func (s *spilled) remove(key string) {
	delete(s.deadlines, toKey(key))
	if len(s.order) > 2*len(s.deadlines)+loadChunk {
		s.compact()
	}
}

// compact drops what is out of date.
func (s *spilled) compact() {
	s.order = make(spillHeap, 0, len(s.deadlines))
	for k, deadline := range s.deadlines {
		s.order = append(s.order, spillEntry{deadline, k})
	}
	heap.Init(&s.order)
}

// next is the earliest deadline.
func (s *spilled) next() (time.Duration, bool) {
	s.clean()
	if len(s.order) == 0 {
		return 0, false
	}
	return s.order[0].deadline, true
}

// clean takes entries that are out of date from the top.
func (s *spilled) clean() {
	for len(s.order) > 0 {
		top := s.order[0]
		if deadline, ok := s.deadlines[top.key]; ok && deadline == top.deadline {
			return
		}
		heap.Pop(&s.order)
	}
}

// earliest returns the keys of up to limit calls with the earliest deadlines, of those not after
// until. They stay where they are.
func (s *spilled) earliest(limit int, until time.Duration) []string {
	var found []spillEntry
	for len(found) < limit {
		s.clean()
		if len(s.order) == 0 || s.order[0].deadline > until {
			break
		}
		entry, _ := heap.Pop(&s.order).(spillEntry)
		if n := len(found); n == 0 || found[n-1] != entry {
			found = append(found, entry)
		}
	}
	keys := make([]string, len(found))
	for i, entry := range found {
		heap.Push(&s.order, entry)
		keys[i] = entry.key.String()
	}
	return keys
}

// wake has all calls looked at now, because they may wait for something else.
func (s *spilled) wake(now time.Duration) {
	for k := range s.deadlines {
		s.deadlines[k] = min(s.deadlines[k], now)
	}
	s.compact()
}

// spillHeap orders calls by deadline.
type spillHeap []spillEntry

func (h spillHeap) Len() int           { return len(h) }
func (h spillHeap) Less(i, j int) bool { return h[i].deadline < h[j].deadline }
func (h spillHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *spillHeap) Push(x any) {
	entry, _ := x.(spillEntry)
	*h = append(*h, entry)
}

// Pop implements heap.Interface.
func (h *spillHeap) Pop() any {
	old := *h
	entry := old[len(old)-1]
	*h = old[:len(old)-1]
	return entry
}
