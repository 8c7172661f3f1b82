package correlation

import (
	"slices"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// Call is the set of the events of one call, kept small while the call lasts. The zero value is an empty call, ready for use by one
// goroutine at a time.
type Call struct {
	events []*event          // in canonical order
	ticks  []callevent.Event // in order of their IDs
}

// Add puts an event or a tick into the set and tells whether that changed it. Of several events with the same ID the one that was
// received first counts. Events that can change no leg are left out. The call keeps no reference to the memory of the event.
func (c *Call) Add(e callevent.Event) bool {
	switch e.Type {
	case callevent.DialIn, callevent.DialOut, callevent.Answer, callevent.Hangup:
		return c.join(&e)
	case callevent.GraceOver, callevent.MaxDurationOver:
		return c.elapse(e)
	case callevent.Agent, callevent.PhoneStatus, callevent.Message, callevent.Other:
		return false
	default:
		return false
	}
}

func (c *Call) join(e *callevent.Event) bool {
	joining, shared := compact(e), identify(e)
	var mate *identity
	for i, known := range c.events {
		if known.ID == e.ID {
			own := shared
			joining.identity = &own
			if !joining.outranks(known) {
				return false
			}
			c.events = slices.Delete(c.events, i, i+1)
			return c.join(e)
		}
		if *known.identity == shared {
			mate = known.identity
		}
	}
	joining.own(mate, shared)
	i, _ := slices.BinarySearchFunc(c.events, joining, canonical)
	c.events = slices.Insert(c.events, i, joining)
	return true
}

func (c *Call) elapse(tick callevent.Event) bool {
	i, known := slices.BinarySearchFunc(c.ticks, tick.ID, func(t callevent.Event, id string) int { return strings.Compare(t.ID, id) })
	if known {
		return false
	}
	c.ticks = slices.Insert(c.ticks, i, tick)
	return true
}

// Len is the number of distinct events and ticks in the set.
func (c *Call) Len() int { return len(c.events) + len(c.ticks) }

// LastReceived is when the latest event of the call came in; zero for an empty call.
func (c *Call) LastReceived() time.Time {
	var last time.Time
	for _, e := range c.events {
		last = later(last, e.Received)
	}
	return last
}

// canonical is the one total order of a call's events. It puts the events of one leg together, in order of time; events of the same moment
// stand as they must have happened. Nothing in it depends on the order of arrival.
func canonical(a, b *event) int {
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

func chronological(a, b *event) int {
	if n := a.Time.Compare(b.Time); n != 0 {
		return n
	}
	if n := rank(a.Type) - rank(b.Type); n != 0 {
		return n
	}
	return byID(a, b)
}

func byID(a, b *event) int { return strings.Compare(a.ID, b.ID) }

func rank(t callevent.Type) int {
	switch t {
	case callevent.DialIn, callevent.DialOut:
		return 0
	case callevent.Answer:
		return 1
	default:
		return 2
	}
}

// side is what tells the legs of a call apart where the PBX gives them no id: the extension that sent the event, and its direction.
func side(e *event) string { return sender(e) + "/" + string(e.Flow) }

func sender(e *event) string {
	if e.Source.Number != "" {
		return e.Source.Number
	}
	return e.Source.ID
}
