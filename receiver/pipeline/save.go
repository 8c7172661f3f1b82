package pipeline

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// An open call is saved in the CALLS log when its events have been read so long ago, or so many
// bytes of the EVENTS log before, that they would stand in the way of that log giving way, or of a
// quick restart.
const (
	saveAfter      = 10 * time.Second
	saveAfterBytes = 2 << 20
)

// overdue reports whether the events that an entry of the unsaved calls stands for were read long
// ago.
func overdue(e *list.Element, now moment, read int) bool {
	first, _ := e.Value.(pinned)
	return now.elapsed-first.since >= saveAfter || read-first.read >= saveAfterBytes
}

// save keeps open calls in the CALLS log whose events are to go, or that have to leave memory, and
// lets go of the latter.
func (p *Pipeline) save(ctx context.Context, now moment) error {
	chosen, spill := p.calls.toSave(now, p.read), p.calls.toSpill(p.callMemory())
	rules := fingerprint(p.rules)
	var records []journal.CallRecord
	for _, calls := range [][]*call{chosen, spill} {
		for _, c := range calls {
			if c.saved != saved {
				records = append(records, c.toSave(rules))
			}
		}
	}
	err := p.config.Log.PutCalls(ctx, records)
	var refused *journal.RefusedError
	if errors.Is(err, journal.ErrFull) {
		p.config.Logger.Warn("there is no room on disk for more open calls: the oldest are closed with an unknown result")
		p.makeRoom(now)
		return nil
	}
	if err != nil && !errors.As(err, &refused) {
		return fmt.Errorf("cannot save open calls: %w", err)
	}
	p.park(refused, now)
	for _, calls := range [][]*call{chosen, spill} {
		for _, c := range calls {
			if !c.life.isOver() {
				c.saved = saved
				p.calls.unpin(c)
			}
		}
	}
	p.calls.spill(spill)
	return nil
}

// toSave are the open calls whose events were read long ago, and those that only the CALLS log can
// keep.
func (cs *calls) toSave(now moment, read int) []*call {
	var chosen []*call
	for e := cs.unsaved.Front(); e != nil && overdue(e, now, read); e = e.Next() {
		if first, _ := e.Value.(pinned); first.call.saveable() {
			chosen = append(chosen, first.call)
		}
	}
	return chosen
}

// saveable reports whether the call may be saved: it is open, and the LEGS log has what follows
// from it.
func (c *call) saveable() bool { return c.life == open && c.legs == current && !c.isLost() }

// toSpill are the open calls that have to leave memory, those of which nothing was heard for the
// longest time.
func (cs *calls) toSpill(room int) []*call {
	var chosen []*call
	excess := cs.bytes - room
	for e := cs.recent.Front(); e != nil && excess > 0; e = e.Next() {
		if c, _ := e.Value.(*call); c.saveable() {
			chosen = append(chosen, c)
			excess -= c.size
		}
	}
	return chosen
}

// spill lets go of saved calls.
func (cs *calls) spill(chosen []*call) {
	for _, c := range chosen {
		if c.life.isOver() {
			continue
		}
		deadline := never
		if c.tick != nil {
			deadline = c.deadline
		}
		cs.spilled.put(journal.CallKey(c.id), deadline)
		cs.setLife(c, gone, 0)
	}
}

// fingerprint tells rules apart, over restarts too.
func fingerprint(rules correlation.Rules) uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%+v", rules) // it never fails
	return h.Sum64()
}
