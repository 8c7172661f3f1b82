package ownership_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/receiver/ownership"
)

var slots = func() (names []string) {
	for n := range 16 {
		names = append(names, fmt.Sprint(n))
	}
	return append(names, "publisher")
}()

func membersGen() *rapid.Generator[[]string] {
	return rapid.SliceOfNDistinct(rapid.StringMatching(`receiver-[0-9]/[a-z]{4}`), 1, 7, rapid.ID[string])
}

func TestSharesAreEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := membersGen().Draw(t, "members")
		count := make(map[string]int)
		for slot, member := range ownership.Share(slots, members) {
			if !slices.Contains(members, member) {
				t.Fatalf("%s is given to %q", slot, member)
			}
			count[member]++
		}
		least, most := len(slots), 0
		for _, member := range members {
			least, most = min(least, count[member]), max(most, count[member])
		}
		if most-least > 1 {
			t.Errorf("shares: %v", count)
		}
	})
}

// world is a log of holdings with members that look at it and act at times of their own.
type world struct {
	holdings map[string]ownership.Holding
	beats    map[string]uint64
	sequence uint64
	now      time.Duration
}

// member is one receiver in the world. It works on what it has claimed with the term that it got.
type member struct {
	name    string
	watch   ownership.Watch
	working map[string]uint64
	dead    bool
}

func (w *world) step(m *member) {
	if m.dead {
		return
	}
	w.sequence++
	w.beats[m.name] = w.sequence
	held := make(map[string]bool)
	for slot := range m.working {
		held[slot] = true
	}
	alive, doubtful := m.watch.Look(w.beats, w.now)
	if !slices.Contains(alive, m.name) {
		return
	}
	d := ownership.Decide(ownership.View{Self: m.name, Slots: slots, Holdings: w.holdings, Alive: alive, Doubtful: doubtful, Held: held})
	for _, slot := range d.Drop {
		delete(m.working, slot)
	}
	for _, slot := range d.Release {
		delete(m.working, slot)
		w.holdings[slot] = ownership.Holding{Term: w.holdings[slot].Term}
	}
	for _, slot := range d.Take {
		term := w.holdings[slot].Term + 1
		w.holdings[slot] = ownership.Holding{Owner: m.name, Term: term}
		m.working[slot] = term
	}
}

// Whatever the order in which members act, pause and die: of two that work on one slot, one has an
// older term than the log, so that it is fenced. When all is quiet, everything is owned once, by
// members that are alive, in even shares.
func TestEverythingIsOwnedOnceInTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{holdings: make(map[string]ownership.Holding), beats: make(map[string]uint64)}
		var members []*member
		for n := range rapid.IntRange(1, 5).Draw(t, "members") {
			members = append(members, &member{
				name: fmt.Sprint("receiver-", n), watch: ownership.Watch{TTL: ownership.DefaultTTL}, working: make(map[string]uint64),
			})
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			w.now += time.Duration(rapid.IntRange(0, 4000).Draw(t, "pause")) * time.Millisecond
			m := members[rapid.IntRange(0, len(members)-1).Draw(t, "who")]
			if rapid.IntRange(0, 19).Draw(t, "fate") == 0 && m != members[0] {
				m.dead = true
			}
			w.step(m)
			w.requireFenced(t, members)
		}
		for range 10 + len(slots) {
			w.now += ownership.DefaultInterval
			for _, m := range members {
				w.step(m)
			}
		}
		w.requireFenced(t, members)
		w.requireShared(t, members)
	})
}

func (w *world) requireFenced(t *rapid.T, members []*member) {
	for _, slot := range slots {
		current := 0
		for _, m := range members {
			if term, works := m.working[slot]; works && term == w.holdings[slot].Term && w.holdings[slot].Owner == m.name {
				current++
			}
		}
		if current > 1 {
			t.Fatalf("slot %s has %d owners with the newest term", slot, current)
		}
	}
}

func (w *world) requireShared(t *rapid.T, members []*member) {
	var alive []string
	for _, m := range members {
		if !m.dead {
			alive = append(alive, m.name)
		}
	}
	least, most := len(slots), 0
	for _, m := range members {
		if m.dead {
			continue
		}
		for slot := range m.working {
			if w.holdings[slot].Owner != m.name {
				t.Errorf("%s works on %s, which is owned by %q", m.name, slot, w.holdings[slot].Owner)
			}
		}
		least, most = min(least, len(m.working)), max(most, len(m.working))
	}
	for _, slot := range slots {
		if owner := w.holdings[slot].Owner; !slices.Contains(alive, owner) {
			t.Errorf("%s is owned by %q", slot, owner)
		}
	}
	if most-least > 1 {
		t.Errorf("shares from %d to %d", least, most)
	}
}
