package pipeline

import (
	"container/heap"
	"slices"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// call is one call in memory.
type call struct {
	id     string
	events correlation.Call
	// positions are the EVENTS sequences that hold its events.
	positions []uint64
	// ticks are those that joined the call.
	ticks []callevent.Event
	// written are its legs as they stand in the LEGS log; derived are newer ones on their way there.
	written, derived []correlation.Leg
	// floor is the highest revision in the LEGS log when the call was read back: nothing below it is written.
	floor int64
	// logged tells how many of the positions are in the LEGS log.
	logged int
	// frozen tells that events of the call were trimmed, so that its legs can no longer be derived.
	frozen bool
	// force has all legs written, changed or not.
	force    bool
	touched  bool
	writing  bool
	tick     *callevent.Event
	heapSlot int
	// finished is when the call was found finished; zero while it is not.
	finished time.Time
}

// calls are the calls in memory.
type calls struct {
	byID    map[string]*call
	touched []*call
	due     dueHeap
	// done holds finished calls in the order in which they may be forgotten, and some that have come alive again; leaving those to be
	// forgotten as soon as their positions are written.
	done, leaving []*call
	// finished is how many of the calls in memory are.
	finished int
	// forgotten are the keys of the calls that may be in the LEGS log without being in memory.
	forgotten generations
}

func newCalls() *calls {
	return &calls{byID: make(map[string]*call), forgotten: newGenerations()}
}

func (cs *calls) get(id string) (*call, bool) {
	c, ok := cs.byID[id]
	return c, ok
}

func (cs *calls) create(id string) *call {
	c := &call{id: strings.Clone(id), heapSlot: -1}
	cs.byID[c.id] = c
	return c
}

// add lets an event join its call. It reports false for one too many.
func (cs *calls) add(c *call, event callevent.Event, position uint64) bool {
	if c.events.Len() >= maxCallEvents {
		return false
	}
	if c.events.Add(event) {
		cs.touch(c)
	}
	if at, known := slices.BinarySearch(c.positions, position); !known {
		c.positions = slices.Insert(c.positions, at, position)
	}
	return true
}

func (cs *calls) touch(c *call) {
	if !c.touched {
		c.touched = true
		cs.touched = append(cs.touched, c)
	}
}

func (cs *calls) touchAll() {
	for _, c := range cs.byID {
		cs.touch(c)
	}
}

// nextDue is when the next call waits for time to pass.
func (cs *calls) nextDue() (time.Time, bool) {
	if len(cs.due) == 0 {
		return time.Time{}, false
	}
	return cs.due[0].tick.Time, true
}

// tick lets time pass for the calls that wait for it.
func (cs *calls) tick(now time.Time) {
	for len(cs.due) > 0 && !cs.due[0].tick.Time.After(now) {
		c := cs.due[0]
		cs.addTick(c, *c.tick)
		cs.schedule(c, nil)
	}
}

// addTick lets time pass for one call. It reports false if the call knew already.
func (cs *calls) addTick(c *call, tick callevent.Event) bool {
	if !c.events.Add(tick) {
		return false
	}
	c.ticks = append(c.ticks, tick)
	cs.touch(c)
	return true
}

func (cs *calls) schedule(c *call, tick *callevent.Event) {
	if c.heapSlot >= 0 {
		heap.Remove(&cs.due, c.heapSlot)
	}
	c.tick = tick
	if tick != nil {
		heap.Push(&cs.due, c)
	}
}

// derive brings the legs of the touched calls up to date and returns those to write.
func (cs *calls) derive(rules correlation.Rules, now time.Time) []journal.LegRecord {
	var records []journal.LegRecord
	for _, c := range cs.touched {
		outcome := cs.outcome(c, rules, now)
		c.derived = c.withdraw(outcome.Legs)
		cs.schedule(c, outcome.Tick)
		cs.noteFinished(c, outcome.Finished, now)
		changes := c.changes()
		c.writing = len(changes) > 0
		records = append(records, changes...)
	}
	return records
}

// withdraw adds the legs that were shown and are none any more: events that came out of order have shown them to be a part of others. They
// end without a result, and count for nothing.
func (c *call) withdraw(legs []correlation.Leg) []correlation.Leg {
	for _, leg := range c.written {
		if slices.ContainsFunc(legs, func(other correlation.Leg) bool { return other.LegID == leg.LegID }) {
			continue
		}
		if n := len(leg.Events); n > 0 && leg.End.IsZero() {
			leg.End = leg.Events[n-1].Time
		}
		leg.Phase, leg.Result, leg.Logged, leg.Revision = correlation.Completed, correlation.Unknown, false, int64(c.events.Len())
		leg.Answer, leg.Talk = time.Time{}, 0
		legs = append(legs, leg)
	}
	return legs
}

// outcome lets all time pass that has passed already, so that a call read back from the log ends up where it was.
func (cs *calls) outcome(c *call, rules correlation.Rules, now time.Time) correlation.Outcome {
	for {
		outcome := c.events.Outcome(rules)
		if outcome.Tick == nil || outcome.Tick.Time.After(now) || !cs.addTick(c, *outcome.Tick) {
			return outcome
		}
	}
}

func (cs *calls) noteFinished(c *call, finished bool, now time.Time) {
	switch {
	case !finished && !c.finished.IsZero():
		c.finished = time.Time{}
		cs.finished--
	case finished && c.finished.IsZero():
		c.finished = now
		cs.finished++
		cs.done = append(cs.done, c)
	}
}

// changes are the derived legs that the LEGS log does not have in this form.
func (c *call) changes() []journal.LegRecord {
	if c.frozen {
		return nil
	}
	var records []journal.LegRecord
	for _, leg := range c.derived {
		if leg.Revision < c.floor {
			continue
		}
		if c.force || !isWritten(c.written, leg) {
			records = append(records, journal.LegRecord{Leg: leg, Positions: c.positions, Ticks: c.ticks})
		}
	}
	return records
}

func isWritten(written []correlation.Leg, leg correlation.Leg) bool {
	for i := range written {
		if written[i].LegID == leg.LegID {
			return leg.Same(written[i])
		}
	}
	return false
}

// unwrittenPositions is a record to write for the sake of its positions, so that an event that comes after the call was forgotten finds
// all events before it.
func (c *call) unwrittenPositions() []journal.LegRecord {
	record := journal.Stub(c.id, int64(c.events.Len()))
	if len(c.written) > 0 {
		record.Leg = c.written[0]
	}
	if c.frozen || c.logged == len(c.positions) || record.Leg.Revision < c.floor {
		return nil
	}
	record.Positions, record.Ticks = c.positions, c.ticks
	return []journal.LegRecord{record}
}

// settle marks what was derived as written.
func (cs *calls) settle() {
	for _, c := range cs.touched {
		if c.writing {
			c.logged = len(c.positions)
		}
		c.written, c.derived = c.derived, nil
		c.touched, c.force, c.writing = false, false, false
	}
	cs.touched = cs.touched[:0]
}

// dismiss picks the finished calls that may be forgotten, and returns what has to be written before.
func (cs *calls) dismiss(now time.Time) []journal.LegRecord {
	for len(cs.done) > 0 {
		c := cs.done[0]
		if !c.finished.IsZero() && len(cs.done) <= maxFinished && now.Sub(c.finished) < linger {
			break
		}
		cs.done = cs.done[1:]
		if !c.finished.IsZero() {
			cs.leaving = append(cs.leaving, c)
		}
	}
	var records []journal.LegRecord
	for _, c := range cs.leaving {
		if !c.touched {
			records = append(records, c.unwrittenPositions()...)
		}
	}
	return records
}

// forget lets the dismissed calls go, except those that an event has joined meanwhile.
func (cs *calls) forget() {
	for _, c := range cs.leaving {
		switch {
		case c.finished.IsZero():
		case c.touched:
			cs.done = append(cs.done, c)
		default:
			cs.drop(c)
		}
	}
	clear(cs.leaving)
	cs.leaving = cs.leaving[:0]
}

// replay brings the touched calls up to date without anything to write: their legs are in the log, except those of forced calls, whose
// turn comes later.
func (cs *calls) replay(rules correlation.Rules, now time.Time, force bool) {
	for _, c := range cs.touched {
		outcome := cs.outcome(c, rules, now)
		c.written, c.touched, c.force = outcome.Legs, false, c.force || force
		cs.schedule(c, outcome.Tick)
		cs.noteFinished(c, outcome.Finished, now)
	}
	cs.touched = cs.touched[:0]
	for excess := len(cs.done) - maxReplayed; excess > 0; excess-- {
		c := cs.done[0]
		cs.done = cs.done[1:]
		switch {
		case c.force:
			cs.done = append(cs.done, c)
		case !c.finished.IsZero():
			cs.drop(c)
		}
	}
}

// drop takes a call out of memory. One that was finished several times comes here as often.
func (cs *calls) drop(c *call) {
	if cs.byID[c.id] != c {
		return
	}
	cs.schedule(c, nil)
	if !c.finished.IsZero() {
		cs.finished--
	}
	delete(cs.byID, c.id)
	cs.forgotten.add(journal.CallKey(c.id))
}

// lowWater is the lowest sequence that a call in memory has an event in; next if there is no call.
func (cs *calls) lowWater(next uint64) uint64 {
	lowest := next
	for _, c := range cs.byID {
		if len(c.positions) > 0 {
			lowest = min(lowest, c.positions[0])
		}
	}
	return lowest
}

// dueHeap orders calls by the time they wait for.
type dueHeap []*call

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].tick.Time.Before(h[j].tick.Time) }

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapSlot, h[j].heapSlot = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	c, _ := x.(*call)
	c.heapSlot = len(*h)
	*h = append(*h, c)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h, c.heapSlot = old[:len(old)-1], -1
	return c
}
