package pipeline

import (
	"container/list"
	"fmt"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

const (
	// maxCallEvents bounds the events of one call. More of them mean that a PBX gives all its calls
	// the same id.
	maxCallEvents = 2000
	// maxPositions and maxTicks bound what each record of a leg carries of its call. A call with
	// more is kept in the CALLS log alone.
	maxPositions = 512
	maxTicks     = 64
)

// call is one call in memory.
type call struct {
	id string
	// instance tells the call from earlier ones with the same id; empty for the first.
	instance  string
	events    correlation.Call
	positions positions
	// written are its legs as they stand in the LEGS log; derived are newer ones on their way
	// there.
	written, derived []correlation.Leg
	// floor is the highest revision in the LEGS log when the call was read back: nothing below it
	// is written.
	floor int64
	legs  legsState
	saved savedState

	// began is when the first event of the call was sent and received, of those that are in memory
	// since.
	began began

	life life
	// since is when the call finished, and linger how long it stays after that.
	since, linger time.Duration

	// pin is its place among the calls with events that are in the EVENTS log only; nil if it
	// has none.
	pin *list.Element
	// recent is its place among the open calls, by when something was last heard of them.
	recent *list.Element
	size   int

	tick     *correlation.Tick
	deadline time.Duration
	anchor   moment
	heapSlot int
}

// began is when a call began.
type began struct{ sent, received time.Time }

func beganWith(event *callevent.Event) began {
	return began{sent: event.Time, received: event.Received}
}

func newCall(id string, first began, now moment) *call {
	return &call{id: strings.Clone(id), began: first, heapSlot: -1, anchor: now, linger: linger}
}

// add lets an event join. It reports whether the state of the call depends on it, and whether that
// changed.
func (c *call) add(event callevent.Event, position uint64) (counts, changed bool) {
	changed = c.events.Add(event)
	// Where the same event counts as another one after a while, a repetition may prolong that.
	if counts = changed || event.Repeat > 0 && c.events.Len() > 0; !counts {
		return false, false
	}
	c.positions.add(position)
	c.saved = c.saved.changed()
	return true, changed
}

// tryAdd is add that returns an error where correlation panics.
func (c *call) tryAdd(event callevent.Event, position uint64) (counts, changed bool, err error) {
	defer func() {
		if trouble := recover(); trouble != nil {
			err = fmt.Errorf("%w: correlation panics", errPanic)
		}
	}()
	counts, changed = c.add(event, position)
	return counts, changed, nil
}

// addTick lets time pass. It reports false if the call knew already.
func (c *call) addTick(tick callevent.Event) bool {
	if !c.events.Add(tick) {
		return false
	}
	c.positions.addTick(tick)
	c.saved = c.saved.changed()
	return true
}

// isLost reports whether events of the call are lost, so that its legs can no longer be derived.
func (c *call) isLost() bool { return c.positions.extent == lost }

// derive brings the legs up to date. It returns an error where correlation panics.
func (c *call) derive(rules correlation.Rules, now moment) (outcome correlation.Outcome, err error) {
	defer func() {
		if trouble := recover(); trouble != nil {
			err = fmt.Errorf("%w: correlation panics", errPanic)
		}
	}()
	outcome = c.outcome(rules, now)
	for i := range outcome.Legs {
		c.name(&outcome.Legs[i])
	}
	return outcome, nil
}

// outcome lets all time pass that has passed already, so that a call read back from the log ends up
// where it was.
func (c *call) outcome(rules correlation.Rules, now moment) correlation.Outcome {
	for {
		outcome := c.events.Outcome(rules)
		c.wait(outcome.Tick, now)
		if c.tick == nil || c.deadline > now.elapsed || !c.addTick(c.tick.Event()) {
			return outcome
		}
	}
}

// wait notes the tick that the call waits for, and when that is due. See [moment] for the clocks.
func (c *call) wait(tick *correlation.Tick, now moment) {
	switch {
	case tick == nil:
	case c.tick != nil && c.tick.For(tick):
		c.deadline = moved(c.deadline, tick.Time.Sub(c.tick.Time), now.until(tick.Time))
	case tick.Type == callevent.MaxDurationOver:
		c.deadline = max(c.anchor.until(tick.Time), now.until(tick.Time))
	default:
		c.deadline = now.until(tick.Time)
	}
	c.tick = tick
}

// moved is the deadline of a tick that is due by so much later, or earlier. An event from before or
// after a jump of the wall clock moves it by hours: then the time that the wall clock leaves from
// now on counts.
func moved(deadline, by, fromNow time.Duration) time.Duration {
	if by < 0 {
		return max(deadline+by, fromNow)
	}
	return min(deadline+by, max(deadline, fromNow))
}

// closeEarly ends all legs with an unknown result.
func (c *call) closeEarly(rules correlation.Rules, now moment) {
	rules.MaxDuration = 1
	for range maxCallEvents {
		outcome := c.events.Outcome(rules)
		if outcome.Tick == nil {
			return
		}
		tick := correlation.NewTick(outcome.Tick.Type, c.id, outcome.Tick.LegID, now.wall.Round(0).UTC())
		if !c.addTick(tick) {
			return
		}
	}
}

// rename gives the call, and the legs that it has, another instance.
func (c *call) rename(instance string) {
	if c.instance == instance {
		return
	}
	c.instance = instance
	for i := range c.written {
		c.name(&c.written[i])
	}
}

// name gives the legs of a call whose id was used before ids of their own.
func (c *call) name(leg *correlation.Leg) {
	if c.instance == "" {
		return
	}
	leg.LegID += "@" + c.instance
	if leg.ParentLegID != "" {
		leg.ParentLegID += "@" + c.instance
	}
}

// withdraw adds the legs that were shown and are none any more: events that came out of order have
// shown them to be a part of others. They end without a result, and count for nothing.
func (c *call) withdraw(legs []correlation.Leg) []correlation.Leg {
	derived := legs
	for i := range c.written {
		if findLeg(derived, c.written[i].LegID, i) == nil {
			legs = append(legs, withdrawn(c.written[i], int64(c.events.Len())))
		}
	}
	return legs
}

// findLeg returns the leg with the given id; nil if there is none. It is likely to be at the guess:
// legs stand in the order in which they began.
func findLeg(legs []correlation.Leg, id string, guess int) *correlation.Leg {
	if guess < len(legs) && legs[guess].LegID == id {
		return &legs[guess]
	}
	for i := range legs {
		if legs[i].LegID == id {
			return &legs[i]
		}
	}
	return nil
}

func withdrawn(leg correlation.Leg, revision int64) correlation.Leg {
	if n := len(leg.Events); n > 0 && leg.End.IsZero() {
		leg.End = leg.Events[n-1].Time
	}
	leg.Phase, leg.Result, leg.Logged, leg.Revision = correlation.Completed, correlation.Unknown, false, revision
	leg.Answer, leg.Talk = time.Time{}, 0
	return leg
}

// appendChanges appends records of the derived legs that the LEGS log does not have in this form.
func (c *call) appendChanges(records []journal.LegRecord) []journal.LegRecord {
	if c.isLost() {
		return records
	}
	for i := range c.derived {
		leg := &c.derived[i]
		if leg.Revision < c.floor {
			continue
		}
		if c.legs.isDoubtful() || !isWritten(c.written, leg, i) {
			records = append(records, c.record(*leg))
		}
	}
	return records
}

func (c *call) record(leg correlation.Leg) journal.LegRecord {
	record := journal.LegRecord{Leg: leg, Instance: c.instance}
	c.positions.fill(&record)
	return record
}

func isWritten(written []correlation.Leg, leg *correlation.Leg, guess int) bool {
	before := findLeg(written, leg.LegID, guess)
	return before != nil && leg.Same(*before)
}

// endings are records that end the legs that have not ended, without a result. No leg of the call
// is derived any more.
func (c *call) endings() []journal.LegRecord {
	var records []journal.LegRecord
	for _, leg := range c.written {
		if leg.Phase != correlation.Completed {
			leg = withdrawn(leg, leg.Revision+1)
			leg.Events = leg.Events[:min(len(leg.Events), 1)]
			records = append(records, journal.LegRecord{Leg: leg, Instance: c.instance, Incomplete: true})
		}
	}
	return records
}

// unwrittenPositions is a record to write for the sake of its positions, so that an event that
// comes after the call was forgotten finds all events before it.
func (c *call) unwrittenPositions() []journal.LegRecord {
	if c.isLost() || c.positions.state == logged {
		return nil
	}
	record := journal.Stub(c.id, int64(c.events.Len()))
	if len(c.written) > 0 {
		record.Leg = c.written[0]
	}
	if record.Leg.Revision < c.floor {
		return nil
	}
	return []journal.LegRecord{c.record(record.Leg)}
}

// toSave is the call as the CALLS log keeps it.
func (c *call) toSave(rules uint64) journal.CallRecord {
	record := journal.CallRecord{
		CallID: c.id, Instance: c.instance, Positions: c.positions.sequences,
		Incomplete: c.positions.extent != complete, State: c.events.Snapshot(), Rules: rules,
	}
	if c.tick != nil {
		record.Due = c.tick.Time
	}
	return record
}

// weigh is about how many bytes of memory the call takes.
func (c *call) weigh() int {
	const fixed, perLeg, perLegEvent, perTick = 700, 500, 56, 800
	size := fixed + c.events.Size() + 8*len(c.positions.sequences) + perTick*len(c.positions.ticks)
	for i := range c.written {
		size += perLeg + perLegEvent*len(c.written[i].Events)
	}
	return size
}
