// Package ownership decides which of several receivers owns what: each partition of the logs, and
// the publication. It is a pure decision over what the receivers have noted in a log, and a loop that
// carries it out. It alone is no fence: two receivers may think for a moment that they own the same,
// and what they write has to be guarded by the term.
package ownership

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"
)

// Holding tells who owns something.
type Holding struct {
	// Owner is a member, or empty where there is none.
	Owner string `json:"owner"`
	// Term grows with every owner.
	Term uint64 `json:"term"`
	// Sequence is that of the record.
	Sequence uint64 `json:"-"`
}

// View is what one member knows.
type View struct {
	Self string
	// Slots are the things to own, and Holdings their owners.
	Slots    []string
	Holdings map[string]Holding
	// Alive are the members that were heard of lately, this one among them. Doubtful are those that
	// may be alive: only an old heartbeat of theirs was seen so far. They are given nothing, and what
	// they own is not taken from them.
	Alive, Doubtful []string
	// Held are the slots that this member works on.
	Held map[string]bool
}

// Decision is what a member does next.
type Decision struct {
	// Take are slots to claim.
	Take []string
	// Release are slots to stop working on and to leave to others.
	Release []string
	// Drop are slots to stop working on, because others own them.
	Drop []string
	// Vacate are slots to leave to others that this member owns without working on them: it was not
	// told that it had claimed them, or could not release them.
	Vacate []string
}

// Decide returns what is to be done. A slot whose owner is alive stays with it until that releases
// it.
func Decide(v View) (d Decision) {
	share := Share(v.Slots, v.Alive)
	for _, slot := range v.Slots {
		owner := v.Holdings[slot].Owner
		free := owner == "" || owner == v.Self || !slices.Contains(v.Alive, owner) && !slices.Contains(v.Doubtful, owner)
		switch {
		case v.Held[slot] && owner != v.Self:
			d.Drop = append(d.Drop, slot)
		case v.Held[slot] && share[slot] != v.Self:
			d.Release = append(d.Release, slot)
		case !v.Held[slot] && free && share[slot] == v.Self:
			d.Take = append(d.Take, slot)
		case !v.Held[slot] && owner == v.Self:
			d.Vacate = append(d.Vacate, slot)
		}
	}
	return d
}

// Share gives every slot to one of the members, so that no two have numbers of slots that differ by
// more than one, and so that few slots change hands when a member comes or goes. Everybody who knows
// the same members finds the same.
func Share(slots, members []string) map[string]string {
	share := make(map[string]string, len(slots))
	taken := make(map[string]int, len(members))
	for i, slot := range slots {
		candidates := slices.Clone(members)
		slices.SortFunc(candidates, func(a, b string) int {
			return cmp.Or(cmp.Compare(score(slot, b), score(slot, a)), cmp.Compare(a, b))
		})
		most := i / max(len(members), 1) // nobody gets the next one before all have as many
		for _, member := range candidates {
			if taken[member] <= most {
				share[slot] = member
				taken[member]++
				break
			}
		}
	}
	return share
}

// score is how much a slot prefers a member.
func score(slot, member string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(slot + "\x00" + member)) // it never fails
	const mix = 0xff51afd7ed558ccd
	sum := h.Sum64()
	sum = (sum ^ sum>>33) * mix
	return sum ^ sum>>33
}

// Watch tells which members are alive: those whose heartbeat has changed within a time to live, by
// the clock of whoever watches. Clocks are never compared.
type Watch struct {
	TTL  time.Duration
	seen map[string]beat
}

type beat struct {
	sequence uint64
	at       time.Duration
	// changed tells that there was an earlier one.
	changed bool
}

// Look takes in the newest heartbeat of each member, and returns those that are alive, and those of
// which that is not known yet, sorted.
func (w *Watch) Look(beats map[string]uint64, now time.Duration) (alive, doubtful []string) {
	seen := make(map[string]beat, len(beats))
	for member, sequence := range beats {
		last, known := w.seen[member]
		if !known || last.sequence != sequence {
			last = beat{sequence: sequence, at: now, changed: known}
		}
		seen[member] = last
		switch {
		case now-last.at >= w.TTL:
		case last.changed:
			alive = append(alive, member)
		default:
			doubtful = append(doubtful, member)
		}
	}
	w.seen = seen
	slices.Sort(alive)
	slices.Sort(doubtful)
	return alive, doubtful
}

// Gone returns the members that were not heard of for the given time.
func (w *Watch) Gone(since, now time.Duration) []string {
	var gone []string
	for member, last := range w.seen {
		if now-last.at >= since {
			gone = append(gone, member)
		}
	}
	return gone
}
