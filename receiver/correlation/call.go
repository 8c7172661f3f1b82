package correlation

import (
	"slices"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// Call is the set of the events of one call, kept small while the call lasts. The zero value is an
// empty call, ready for use by one goroutine at a time.
type Call struct {
	events []*event          // in canonical order
	known  map[string]bool   // their IDs, of a call with many events
	ticks  []callevent.Event // in order of their IDs
}

// Add puts an event or a tick into the set and reports whether that changed it. Of several events
// with the same ID the one that was received first counts. Events that can change no leg are left
// out. The call keeps no reference to the memory of the event.
func (c *Call) Add(e callevent.Event) bool {
	switch e.Type {
	case callevent.DialIn, callevent.DialOut, callevent.Answer, callevent.Hangup,
		callevent.CallStart, callevent.CallEnd, callevent.HasAnswered, callevent.Pickup, callevent.Progress, callevent.History:
		return c.join(&e)
	case callevent.GraceOver, callevent.MaxDurationOver:
		return c.elapse(e)
	case callevent.Agent, callevent.PhoneStatus, callevent.Message, callevent.Other:
		return false
	default:
		return false
	}
}

// manyEvents is from how many on a call keeps an index of their IDs. Few calls have as many.
const manyEvents = 32

func (c *Call) join(e *callevent.Event) bool {
	joining, shared := compact(e), identify(e)
	if c.repeated(joining) {
		return c.repeat(e)
	}
	c.put(joining, shared)
	return true
}

// put inserts an event that the set does not have.
func (c *Call) put(e *event, shared identity) {
	e.own(c.mate(e, shared), shared)
	c.insert(e)
	c.index(e)
}

// repeated reports whether the set has the event.
func (c *Call) repeated(e *event) bool {
	if c.known != nil && !c.known[e.ID] {
		return false
	}
	return slices.ContainsFunc(c.events, func(known *event) bool { return known.ID == e.ID && known.repeats(e) })
}

func (c *Call) index(e *event) {
	switch {
	case c.known != nil:
		c.known[e.ID] = true
	case len(c.events) > manyEvents:
		c.known = make(map[string]bool, 2*len(c.events))
		for _, known := range c.events {
			c.known[known.ID] = true
		}
	}
}

// mate is an identity of the call that equals the given one; nil if there is none. Of a call with
// many events only those are looked at that stand next to the event.
func (c *Call) mate(e *event, shared identity) *identity {
	candidates := c.events
	if len(candidates) > manyEvents {
		own := shared
		e.identity = &own
		at, _ := slices.BinarySearchFunc(c.events, e, canonical)
		candidates = c.around(at)
	}
	for _, known := range candidates {
		if *known.identity == shared {
			return known.identity
		}
	}
	return nil
}

// around returns the events next to a place in the set: those of the same leg are among them.
func (c *Call) around(at int) []*event {
	const neighbours = 8
	return c.events[max(at-neighbours, 0):min(at+neighbours, len(c.events))]
}

// repeat makes one event of those that repeat each other: the first one stands for all.
func (c *Call) repeat(e *callevent.Event) bool {
	joining := compact(e)
	joining.own(nil, identify(e))
	first, last, weight := joining, joining.last, 0
	same := slices.DeleteFunc(slices.Clone(c.events), func(known *event) bool { return known.ID != joining.ID || !known.repeats(joining) })
	for _, known := range same {
		if !first.outranks(known) {
			first = known
		}
		last, weight = later(last, known.last), weight+known.weight()
	}
	first.last = last
	if len(same) == 1 && first == same[0] {
		return first.weight() != weight
	}
	c.events = slices.DeleteFunc(c.events, func(known *event) bool { return slices.Contains(same, known) })
	c.insert(first)
	return true
}

func (c *Call) insert(e *event) {
	at, _ := slices.BinarySearchFunc(c.events, e, canonical)
	if len(e.Attributes) > 0 {
		for _, known := range c.around(at) {
			e.shareAttributes(known)
		}
	}
	c.events = slices.Insert(c.events, at, e)
}

// Held is the number of events that the call holds: those that repeat each other are one.
// [Call.Len], the revision, may be more.
func (c *Call) Held() int { return len(c.events) }

func (c *Call) elapse(tick callevent.Event) bool {
	i, known := c.findTick(tick.ID)
	if known {
		return false
	}
	c.ticks = slices.Insert(c.ticks, i, tick)
	return true
}

func (c *Call) findTick(id string) (at int, known bool) {
	return slices.BinarySearchFunc(c.ticks, id, func(t callevent.Event, id string) int { return strings.Compare(t.ID, id) })
}

// elapsed is the tick of a leg, if there is one.
func (c *Call) elapsed(t callevent.Type, callID, legID string) (*callevent.Event, bool) {
	if len(c.ticks) == 0 {
		return nil, false
	}
	at, known := c.findTick(tickID(t, callID, legID))
	if !known {
		return nil, false
	}
	return &c.ticks[at], true
}

// Len is the number of distinct events and ticks in the set.
func (c *Call) Len() int {
	n := len(c.ticks)
	for _, e := range c.events {
		n += e.weight()
	}
	return n
}

// LastReceived is when the latest event of the call came in; zero for an empty call.
func (c *Call) LastReceived() time.Time {
	var last time.Time
	for _, e := range c.events {
		last = later(last, e.Received)
	}
	return last
}

// canonical is the one total order of a call's events. It puts the events of the call as a whole
// first, the records of the history last, and those of one leg together, in order of time; events
// of the same moment stand as they must have happened. Nothing in it depends on the order of
// arrival.
func canonical(a, b *event) int {
	if n := place(a) - place(b); n != 0 {
		return n
	}
	if n := strings.Compare(a.LegID, b.LegID); n != 0 {
		return n
	}
	if a.LegID == "" {
		if n := strings.Compare(side(a), side(b)); n != 0 {
			return n
		}
	}
	return chronological(a, b)
}

func place(e *event) int {
	switch {
	case e.Type == callevent.History:
		return 2
	case ofCall(e):
		return 0
	default:
		return 1
	}
}

func chronological(a, b *event) int {
	if n := a.Time.Compare(b.Time); n != 0 {
		return n
	}
	if n := rank(a.Type) - rank(b.Type); n != 0 {
		return n
	}
	if n := byID(a, b); n != 0 {
		return n
	}
	return a.Received.Compare(b.Received)
}

// ofCall reports whether an event is one of the call as a whole.
func ofCall(e *event) bool {
	switch e.Type {
	case callevent.CallStart, callevent.CallEnd, callevent.Pickup:
		return true
	case callevent.Progress:
		return e.LegID == "" && e.Side == ""
	default:
		return false
	}
}

func byID(a, b *event) int { return strings.Compare(a.ID, b.ID) }

func rank(t callevent.Type) int {
	switch t {
	case callevent.DialIn, callevent.DialOut:
		return 0
	case callevent.Answer:
		return 1
	case callevent.CallEnd, callevent.HasAnswered:
		return 3
	default:
		return 2
	}
}

// side is what tells the legs of a call apart where the PBX gives them no id: what its
// dialect says, or the extension that sent the event, and its direction.
func side(e *event) string {
	if e.Side != "" {
		return e.Side
	}
	return sender(e) + "/" + string(e.Flow)
}

func sender(e *event) string {
	if e.Source.Number != "" {
		return e.Source.Number
	}
	return e.Source.ID
}
