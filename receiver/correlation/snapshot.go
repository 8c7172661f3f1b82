package correlation

import (
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// Snapshot is the set of the events of a call in a form that can be stored. It keeps what legs are
// derived from, and nothing else.
type Snapshot struct {
	Events []SnapshotEvent   `json:"events,omitempty"`
	Ticks  []callevent.Event `json:"ticks,omitempty"`
}

// SnapshotEvent is one event of a snapshot.
type SnapshotEvent struct {
	callevent.Event
	// Last is when the last repetition of the event came in; zero where that is the event itself.
	Last time.Time `json:"last,omitzero"`
}

// Snapshot returns the set as it stands.
func (c *Call) Snapshot() Snapshot {
	s := Snapshot{Events: make([]SnapshotEvent, len(c.events)), Ticks: slices.Clone(c.ticks)}
	for i, e := range c.events {
		s.Events[i] = SnapshotEvent{Event: e.expand()}
		if !e.last.Equal(e.Received) {
			s.Events[i].Last = e.last
		}
	}
	return s
}

// Restore returns the call that a snapshot was taken of.
func Restore(s Snapshot) Call {
	c := Call{events: make([]*event, 0, len(s.Events)), ticks: slices.Clone(s.Ticks)}
	for i := range s.Events {
		stored := &s.Events[i]
		e, shared := compact(&stored.Event), identify(&stored.Event)
		if !stored.Last.IsZero() {
			e.last = stored.Last
		}
		c.put(e, shared)
	}
	slices.SortFunc(c.ticks, func(a, b callevent.Event) int { return strings.Compare(a.ID, b.ID) })
	return c
}

// Size is about how many bytes of memory the set takes.
func (c *Call) Size() int {
	const tickSize, mapEntry = int(unsafe.Sizeof(callevent.Event{})), 48
	size := len(c.ticks) * tickSize
	var last *identity
	for _, e := range c.events {
		size += int(unsafe.Sizeof(*e)) + len(e.ID) + len(e.WireStatus) + len(e.Remote) + len(e.RecordingID)
		for name, value := range e.Attributes {
			size += len(name) + len(value) + mapEntry
		}
		if e.identity != last {
			size += int(unsafe.Sizeof(*e.identity)) + e.textSize()
			last = e.identity
		}
	}
	return size
}

func (i *identity) textSize() int {
	return len(i.CallID) + len(i.LegID) + len(i.DID) + len(i.CallBackID) + len(i.ControlID) + len(i.Side) + len(i.ParentLegID) +
		len(i.Queue) + len(i.Source.Number) + len(i.Source.ID) + len(i.Source.User) + textSize(i.Caller) + textSize(i.Called)
}

func textSize(p callevent.Party) int {
	return len(p.Number) + len(p.Name) + len(p.Extension) + len(p.ExtensionID)
}

// expand is the inverse of compact and identify.
func (e *event) expand() callevent.Event {
	return callevent.Event{
		ID: e.ID, Type: e.Type, Time: e.Time, Received: e.Received,
		Flow: e.Flow, Status: e.Status, WireStatus: e.WireStatus, Remote: e.Remote, RecordingID: e.RecordingID,
		Bridged: e.Bridged, Talk: e.Talk, Transferred: e.Transferred, Record: e.Record,
		Missed: e.Missed, StatusOfCall: e.StatusOfCall, Lapses: e.Lapses, Secondary: e.Secondary, Repeat: e.Repeat,
		CallID: e.CallID, LegID: e.LegID, DID: e.DID, CallBackID: e.CallBackID, ControlID: e.ControlID,
		Side: e.Side, ParentLegID: e.ParentLegID, Queue: e.Queue, Level: e.Level, ByUser: e.ByUser, TransfersUntold: e.TransfersUntold,
		Source: e.Source, Caller: e.Caller, Called: e.Called, Attributes: e.Attributes,
	}
}
