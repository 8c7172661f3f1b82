package correlation

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// event is a call event as it is kept: without what no rule asks for, and with what all events of a
// leg repeat held once.
type event struct {
	*identity
	ID          string
	Type        callevent.Type
	Time        time.Time
	Received    time.Time
	Flow        callevent.Flow
	Status      callevent.Status
	WireStatus  string
	Remote      string
	RecordingID string
	Bridged     *bool
	Talk        *time.Duration
	Transferred bool
	Record      *callevent.Record
	Attributes  map[string]string // bounded

	Missed                          callevent.MissedRule
	StatusOfCall, Lapses, Secondary bool
	Repeat                          time.Duration
	last                            time.Time // when the last repetition came in
}

// identity is what the events of a leg have in common.
type identity struct {
	CallID, LegID, DID, CallBackID, ControlID string
	Side, ParentLegID, Queue                  string

	Level                   callevent.Level
	ByUser, TransfersUntold bool

	Source         callevent.Source
	Caller, Called callevent.Party
}

// compact drops the monotonic clock from the times, so that a leg is the same before and after it
// was stored.
func compact(e *callevent.Event) *event {
	return &event{
		ID: e.ID, Type: e.Type, Time: e.Time.Round(0).UTC(), Received: e.Received.Round(0).UTC(),
		Flow: e.Flow, Status: e.Status, WireStatus: e.WireStatus, Remote: e.Remote, RecordingID: e.RecordingID,
		Bridged: e.Bridged, Talk: e.Talk, Transferred: e.Transferred, Record: e.Record,
		Missed: e.Missed, StatusOfCall: e.StatusOfCall, Lapses: e.Lapses, Secondary: e.Secondary,
		Repeat: e.Repeat, last: e.Received.Round(0).UTC(), Attributes: attributesOf(e),
	}
}

func identify(e *callevent.Event) identity {
	return identity{
		CallID: e.CallID, LegID: e.LegID, DID: e.DID, CallBackID: e.CallBackID, ControlID: e.ControlID,
		Side: e.Side, ParentLegID: e.ParentLegID, Queue: e.Queue, Level: e.Level, ByUser: e.ByUser, TransfersUntold: e.TransfersUntold,
		Source: e.Source, Caller: e.Caller, Called: e.Called,
	}
}

// own gives the event the identity of another one of its leg, where there is an equal one, and
// copies its texts into memory of their own, apart from the request that they were cut out of.
func (e *event) own(mate *identity, shared identity) {
	texts := append(make([]*string, 0, 23), &e.ID, &e.WireStatus, &e.Remote, &e.RecordingID)
	if e.identity = mate; mate == nil {
		i := new(identity)
		*i = shared
		texts = append(texts, &i.CallID, &i.LegID, &i.DID, &i.CallBackID, &i.ControlID, &i.Side, &i.ParentLegID, &i.Queue, &i.Source.Number, &i.Source.ID, &i.Source.User,
			&i.Caller.Number, &i.Caller.Name, &i.Caller.Extension, &i.Caller.ExtensionID,
			&i.Called.Number, &i.Called.Name, &i.Called.Extension, &i.Called.ExtensionID)
		e.identity = i
	}
	size := 0
	for _, text := range texts {
		size += len(*text)
	}
	var memory strings.Builder
	memory.Grow(size)
	for _, text := range texts {
		start := memory.Len()
		memory.WriteString(*text)
		*text = memory.String()[start:]
	}
}

// repeats reports whether two events with the same ID are the same event.
func (e *event) repeats(other *event) bool {
	if e.Repeat == 0 {
		return true
	}
	return !e.Received.After(other.last.Add(e.Repeat)) && !other.Received.After(e.last.Add(e.Repeat))
}

// weight is what an event adds to the revision. Repetitions add nothing, unless they are so many
// that they could have been events of their own before others came in between: the revision must
// not fall when those become one.
func (e *event) weight() int {
	if e.Repeat == 0 {
		return 1
	}
	return 1 + 2*int(e.last.Sub(e.Received)/e.Repeat)
}

// outranks reports whether e takes the place of another event with the same ID: it was received
// first. Of two that were received at the same moment, and ought to be equal, the choice is
// arbitrary but always the same.
func (e *event) outranks(other *event) bool {
	if n := e.Received.Compare(other.Received); n != 0 {
		return n < 0
	}
	return e.content() < other.content()
}

// content orders events that differ in nothing but what they say.
func (e *event) content() string {
	text, err := json.Marshal(e)
	if err != nil { // a time beyond the year 9999; the event is as good as any other
		return ""
	}
	return string(text)
}
