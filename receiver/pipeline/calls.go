package pipeline

import (
	"container/heap"
	"container/list"
	"slices"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// calls are the calls that are open or have just ended.
type calls struct {
	byID    map[string]*call
	spilled spilled
	parked  parkedCalls
	touched []*call
	due     dueHeap
	// recent are the open calls in memory, the one that nothing was heard of for the longest time
	// first.
	recent *list.List
	// unsaved are the calls with events that are in the EVENTS log only, by the first of these.
	unsaved *list.List
	// lingering holds finished calls in the order in which they may go, and some that have come
	// alive again.
	lingering []*call
	// records is memory for those of one pass.
	records []journal.LegRecord
	// dismissed go as soon as their positions are written, leaving when that is on disk.
	dismissed, leaving []*call
	// open is how many of the calls in memory are, bytes about what all of them take.
	open, bytes int
	// partitions is the number of partitions of which these are the calls of one.
	partitions int
	// forgotten are the keys of the calls that may be in the LEGS log without being in memory.
	forgotten generations
	// closing are records that end the legs of calls that were parked, or of which too much is
	// lost.
	closing []journal.LegRecord
}

// pinned is the first event of a call that is in the EVENTS log only.
type pinned struct {
	call     *call
	position uint64
	since    time.Duration
	// read is how many bytes of the log had been read by then.
	read int
}

func newCalls(partitions int) *calls {
	return &calls{
		byID: make(map[string]*call), spilled: newSpilled(), recent: list.New(), unsaved: list.New(), forgotten: newGenerations(min(2*generationSize/partitions, generationSize)),
		partitions: partitions,
	}
}

// maxFinished bounds the finished calls.
func (cs *calls) maxFinished() int { return max(maxFinished/cs.partitions, 1) }

// openCount is the number of open calls, wherever they are.
func (cs *calls) openCount() int { return cs.open + cs.spilled.len() }

// quietest are the open calls in memory of which nothing was heard for the longest time.
func (cs *calls) quietest(limit int) []*call {
	var chosen []*call
	for e := cs.recent.Front(); e != nil && len(chosen) < limit; e = e.Next() {
		if c, _ := e.Value.(*call); !c.legs.isStale() {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

func (cs *calls) put(c *call) {
	cs.byID[c.id] = c
	cs.setLife(c, open, 0)
}

// add lets an event join its call, which it begins if it is the first of it. It reports false for
// one event too many.
func (cs *calls) add(found arrival, now moment, read int) bool {
	event := found.event
	c, known := cs.byID[event.CallID]
	if !known {
		c = newCall(event.CallID, beganWith(event), now)
	}
	if c.events.Held() >= maxCallEvents {
		return false
	}
	counts, changed, err := c.tryAdd(*event, found.position)
	if err != nil {
		cs.park(c, err.Error(), now)
		return true
	}
	if !counts && !known {
		return true
	}
	if !known {
		cs.put(c)
	}
	if counts {
		cs.pin(c, found.position, now, read)
	}
	if changed {
		cs.touch(c)
	}
	return true
}

// pin notes that an event of the call is in the EVENTS log only.
func (cs *calls) pin(c *call, position uint64, now moment, read int) {
	if c.pin == nil {
		c.pin = cs.unsaved.PushBack(pinned{call: c, position: position, since: now.elapsed, read: read})
	}
}

func (cs *calls) unpin(c *call) {
	if c.pin != nil {
		cs.unsaved.Remove(c.pin)
		c.pin = nil
	}
}

func (cs *calls) touch(c *call) {
	if !c.legs.isStale() {
		c.legs = c.legs.touched()
		cs.touched = append(cs.touched, c)
	}
	if c.recent != nil {
		cs.recent.MoveToBack(c.recent)
	}
}

func (cs *calls) touchAll() {
	for _, c := range cs.byID {
		cs.touch(c)
	}
}

// setLife moves a call on, or back. It does nothing if that is no step of the call's life.
func (cs *calls) setLife(c *call, to life, now time.Duration) {
	if !c.life.mayBecome(to) {
		return
	}
	if c.life == open {
		cs.recent.Remove(c.recent)
		c.recent = nil
		cs.open--
	}
	c.life, c.since = to, now
	switch to {
	case open:
		c.recent = cs.recent.PushBack(c)
		cs.open++
	case finished:
		cs.lingering = append(cs.lingering, c)
	case leaving:
		cs.leaving = append(cs.leaving, c)
	case gone, parked:
		cs.unpin(c)
		cs.schedule(c)
		cs.bytes -= c.size
		delete(cs.byID, c.id)
	case begun:
	}
}

// nextDue is when the next call waits for time to pass.
func (cs *calls) nextDue() (time.Duration, bool) {
	next, ok := cs.spilled.next()
	if len(cs.due) > 0 && (!ok || cs.due[0].deadline < next) {
		return cs.due[0].deadline, true
	}
	return next, ok && next != never
}

// tick lets time pass for the calls that wait for it. Those that got an event meanwhile may wait
// for something else by now.
func (cs *calls) tick(now moment) {
	for len(cs.due) > 0 && cs.due[0].deadline <= now.elapsed {
		c, _ := heap.Pop(&cs.due).(*call)
		if !c.legs.isStale() && c.addTick(c.tick.Event()) {
			cs.touch(c)
		}
	}
}

// schedule puts a call into the queue of those that wait for time to pass, or takes it out.
func (cs *calls) schedule(c *call) {
	waits := c.tick != nil && !c.life.isOver() && !c.isLost()
	switch {
	case c.heapSlot < 0 && waits:
		heap.Push(&cs.due, c)
	case c.heapSlot >= 0 && waits:
		heap.Fix(&cs.due, c.heapSlot)
	case c.heapSlot >= 0:
		heap.Remove(&cs.due, c.heapSlot)
	}
}

// derive brings the legs of the touched calls up to date and returns those to write.
func (cs *calls) derive(rules correlation.Rules, now moment) []journal.LegRecord {
	records := cs.records[:0]
	for _, c := range slices.Clone(cs.touched) {
		outcome, err := c.derive(rules, now)
		if err != nil {
			cs.park(c, err.Error(), now)
			continue
		}
		c.derived = c.withdraw(outcome.Legs)
		cs.follow(c, outcome, now)
		before := len(records)
		records = c.appendChanges(records)
		c.positions.state = c.positions.state.derived(len(records) > before)
	}
	cs.records = records
	return append(records, cs.closing...)
}

// follow moves a call on after its legs were derived.
func (cs *calls) follow(c *call, outcome correlation.Outcome, now moment) {
	cs.schedule(c)
	over := outcome.Finished || c.isLost()
	if over {
		cs.setLife(c, finished, now.elapsed)
	} else {
		cs.setLife(c, open, 0)
	}
}

// settle marks what was derived as written.
func (cs *calls) settle() {
	for _, c := range cs.touched {
		c.positions.state = c.positions.state.settled()
		c.written, c.derived = c.derived, nil
		c.legs = current
		cs.weigh(c)
	}
	clear(cs.touched)
	cs.touched = cs.touched[:0]
	cs.reuseRecords()
}

// reuseRecords keeps memory for the records of the next pass, unless it is much.
func (cs *calls) reuseRecords() {
	const most = 4096
	if cap(cs.records) > most {
		cs.records = nil
	}
	clear(cs.records)
}

func (cs *calls) weigh(c *call) {
	before := c.size
	c.size = c.weigh()
	cs.bytes += c.size - before
}

// dismiss picks the finished calls that may go, and returns what has to be written before. Those
// whose events were read longer than some bytes ago may go at once, and so may those for which
// there is no room.
func (cs *calls) dismiss(now moment, read, room int) []journal.LegRecord {
	for e := cs.unsaved.Front(); e != nil && overdue(e, now, read); e = e.Next() {
		if first, _ := e.Value.(pinned); first.call.life == finished {
			first.call.since = now.elapsed - first.call.linger
		}
	}
	kept, excess := cs.lingering[:0], cs.bytes-room
	for i, c := range cs.lingering {
		switch {
		case c.life != finished:
		case len(cs.lingering)-i > cs.maxFinished(), now.elapsed-c.since >= c.linger, excess > 0:
			cs.dismissed = append(cs.dismissed, c)
			excess -= c.size
		default:
			kept = append(kept, c)
		}
	}
	clear(cs.lingering[len(kept):])
	cs.lingering = kept
	var records []journal.LegRecord
	for _, c := range cs.dismissed {
		if !c.legs.isStale() {
			records = append(records, c.unwrittenPositions()...)
		}
	}
	return records
}

// forget lets the dismissed calls go, except those that an event has joined meanwhile. Those in the
// CALLS log have to be taken out of it before.
func (cs *calls) forget(now time.Duration) {
	for _, c := range cs.dismissed {
		switch {
		case c.life != finished:
		case c.legs.isStale():
			cs.lingering = append(cs.lingering, c)
		case c.saved != unsaved:
			c.positions.state = logged
			cs.setLife(c, leaving, now)
		default:
			cs.drop(c)
		}
	}
	clear(cs.dismissed)
	cs.dismissed = cs.dismissed[:0]
}

// drop takes a call out of memory whose legs are in the LEGS log.
func (cs *calls) drop(c *call) {
	cs.setLife(c, gone, 0)
	cs.forgotten.add(journal.CallKey(c.id))
}

// park sets a call aside. Its legs end without a result.
func (cs *calls) park(c *call, reason string, now moment) {
	cs.parked.add(journal.CallKey(c.id), reason, now.wall)
	cs.closing = append(cs.closing, c.endings()...)
	cs.touched = slices.DeleteFunc(cs.touched, func(other *call) bool { return other == c })
	cs.setLife(c, parked, 0)
	if c.saved != unsaved {
		cs.leaving = append(cs.leaving, c)
	}
}

// parkRefused sets the calls aside that a log refuses for good.
func (cs *calls) parkRefused(reasons map[string]string, now moment) {
	for _, c := range cs.byID {
		if reason, ok := reasons[journal.CallKey(c.id)]; ok {
			cs.park(c, reason, now)
		}
	}
}

// lowWater is the lowest sequence with an event of a call that is in the EVENTS log only; next if
// there is none.
func (cs *calls) lowWater(next uint64) uint64 {
	if front := cs.unsaved.Front(); front != nil {
		first, _ := front.Value.(pinned)
		return min(first.position, next)
	}
	return next
}

// dueHeap orders calls by when the time has passed that they wait for.
type dueHeap []*call

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].deadline < h[j].deadline }

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

// addTicks gives a call those that the log knows of.
func (cs *calls) addTicks(c *call, ticks []callevent.Event) {
	for _, tick := range ticks {
		if c.addTick(tick) {
			cs.touch(c)
		}
	}
}
