package correlation

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// Kind tells what a leg connects.
type Kind string

// The kinds of legs.
const (
	Extension Kind = "Extension"
	Queue     Kind = "Queue"
	IVR       Kind = "IVR"
	Trunk     Kind = "Trunk"
	Device    Kind = "Device"
)

// Direction of a leg, seen from the PBX's own extensions.
type Direction string

// The directions.
const (
	Inbound  Direction = "Inbound"
	Outbound Direction = "Outbound"
	Internal Direction = "Internal"
)

// Phase is how far a leg has come.
type Phase string

// The phases.
const (
	Ringing   Phase = "Ringing"
	Talking   Phase = "Answered"
	Completed Phase = "Completed"
)

// Result is how a leg ended; empty while it lasts.
type Result string

// The results.
const (
	Answered          Result = "Answered"
	Missed            Result = "Missed"
	NoAnswer          Result = "NoAnswer"
	AnsweredElsewhere Result = "AnsweredElsewhere"
	Busy              Result = "Busy"
	Cancelled         Result = "Cancelled"
	Failed            Result = "Failed"
	Unknown           Result = "Unknown"
)

// Leg is one attempt to connect one party of a call. Its members are those of CallLegStatus.
type Leg struct {
	CallID      string    `json:"callID"`
	LegID       string    `json:"legID"`
	ParentLegID string    `json:"parentLegID,omitempty"`
	Kind        Kind      `json:"kind"`
	Direction   Direction `json:"direction"`
	From        string    `json:"from,omitempty"`
	FromName    string    `json:"fromName,omitempty"`
	To          string    `json:"to,omitempty"`
	DID         string    `json:"did,omitempty"`
	Extension   string    `json:"extension,omitempty"`
	User        string    `json:"user,omitempty"`
	Phase       Phase     `json:"phase"`
	Result      Result    `json:"result,omitempty"`
	// Logged tells that this leg counts as a logged call.
	Logged      bool          `json:"logged"`
	Start       time.Time     `json:"start,omitzero"`
	Answer      time.Time     `json:"answer,omitzero"`
	End         time.Time     `json:"end,omitzero"`
	Talk        time.Duration `json:"talk,omitempty"`
	Transferred bool          `json:"transferred,omitempty"`
	CallBackID  string        `json:"callBackID,omitempty"`
	ControlID   string        `json:"controlID,omitempty"`
	RecordingID string        `json:"recordingID,omitempty"`
	// Backfilled tells that the leg, or a part of it, comes from the PBX's history.
	Backfilled bool `json:"backfilled,omitempty"`
	// Revision grows with every event that joined the call.
	Revision int64 `json:"revision"`
	// Attributes are the tags of the call, as tag.NAME, and the parameters that no rule asks for.
	// At most 16.
	Attributes map[string]string `json:"attributes,omitempty"`
	// Events that joined the leg, in canonical order: of more than 64 the first and the last 32.
	Events []LegEvent `json:"events,omitempty"`
}

// UnmarshalJSON also reads what earlier receivers stored: they called Logged recorded.
func (l *Leg) UnmarshalJSON(data []byte) error {
	type plain Leg
	stored := struct {
		*plain
		Recorded bool `json:"recorded"`
	}{plain: (*plain)(l)}
	err := json.Unmarshal(data, &stored)
	l.Logged = l.Logged || stored.Recorded
	return err
}

// Same reports whether two states of a leg differ in nothing but the revision, which also grows
// with the events of the call's other legs.
func (l Leg) Same(other Leg) bool {
	return l.sameParties(&other) && l.sameCourse(&other) && maps.Equal(l.Attributes, other.Attributes) &&
		slices.EqualFunc(l.Events, other.Events, LegEvent.same)
}

// sameParties compares what a leg is.
func (l *Leg) sameParties(o *Leg) bool {
	return l.CallID == o.CallID && l.LegID == o.LegID && l.ParentLegID == o.ParentLegID && l.Kind == o.Kind && l.Direction == o.Direction &&
		l.From == o.From && l.FromName == o.FromName && l.To == o.To && l.DID == o.DID && l.Extension == o.Extension && l.User == o.User &&
		l.CallBackID == o.CallBackID && l.ControlID == o.ControlID
}

// sameCourse compares how a leg goes.
func (l *Leg) sameCourse(o *Leg) bool {
	return l.Phase == o.Phase && l.Result == o.Result && l.Logged == o.Logged && l.Talk == o.Talk &&
		l.Start.Equal(o.Start) && l.Answer.Equal(o.Answer) && l.End.Equal(o.End) &&
		l.Transferred == o.Transferred && l.RecordingID == o.RecordingID && l.Backfilled == o.Backfilled
}

// LegEvent is one event that joined a leg.
type LegEvent struct {
	Type   callevent.Type `json:"type"`
	Time   time.Time      `json:"time"`
	Status string         `json:"status,omitempty"`
}

func (e LegEvent) same(other LegEvent) bool {
	return e.Type == other.Type && e.Status == other.Status && e.Time.Equal(other.Time)
}
