// Package callevent is the normalised call event: the one vocabulary that all dialects speak and correlation understands.
// Units are converted here once; nothing behind a dialect knows what a PBX sends.
package callevent

import "time"

// Type is what happened.
type Type string

// The types of events. Tick types are made by the receiver's own clock and carry the passing of time into correlation as data.
const (
	DialIn  Type = "DialIn"
	DialOut Type = "DialOut"
	Answer  Type = "Answer"
	Hangup  Type = "Hangup"
	// Agent is a queue agent that became available or logged out. It belongs to no call.
	Agent Type = "Agent"
	// PhoneStatus is a change of a phone's account-defined status. It belongs to no call.
	PhoneStatus Type = "PhoneStatus"
	// Message is a text or voice message. It belongs to no call.
	Message Type = "Message"
	// Other is an event that the dialect does not know. It is kept and never changes a leg.
	Other Type = "Other"
	// GraceOver says that the grace period after the call's last hangup is over.
	GraceOver Type = "GraceOver"
	// MaxDurationOver says that the call has been open for longer than any call may last.
	MaxDurationOver Type = "MaxDurationOver"
)

// Flow is the direction of a leg as seen by the extension that sent the event.
type Flow string

// The flows.
const (
	FlowUnknown Flow = ""
	FlowIn      Flow = "In"
	FlowOut     Flow = "Out"
)

// Status is how the PBX says that a leg stands.
type Status string

// The statuses. Only StatusAnswered is a success.
const (
	StatusUnknown   Status = ""
	StatusCalling   Status = "Calling"
	StatusAnswered  Status = "Answered"
	StatusBusy      Status = "Busy"
	StatusCancelled Status = "Cancelled"
	StatusNoAnswer  Status = "NoAnswer"
	StatusFailed    Status = "Failed"
)

// SourceType is the kind of the extension that sent an event.
type SourceType string

// The source types.
const (
	SourceUnknown SourceType = ""
	Phone         SourceType = "Phone"
	IVR           SourceType = "IVR"
	Queue         SourceType = "Queue"
)

// Source is who sent an event, as far as the event URL tells. It is empty where one URL serves a whole account.
type Source struct {
	Type   SourceType `json:"type,omitempty"`
	Number string     `json:"number,omitempty"`
	ID     string     `json:"id,omitempty"`
	User   string     `json:"user,omitempty"`
}

// Party is one side of a leg, as the event describes it.
type Party struct {
	// Number is the calling or called number as the PBX sends it: an outside number or an extension.
	Number string `json:"number,omitempty"`
	// Name is the display name.
	Name string `json:"name,omitempty"`
	// Extension is the extension's number without domain, where this side is one.
	Extension string `json:"extension,omitempty"`
	// ExtensionID is the PBX's id of that extension.
	ExtensionID string `json:"extensionID,omitempty"`
	// Local tells that Number is an extension of this PBX. Only the number counts: a queue that rings an agent on a customer's behalf
	// has an Extension, but the calling Number is the customer's.
	Local bool `json:"local,omitempty"`
}

// AgentState tells whether a queue agent takes calls.
type AgentState string

// The agent states.
const (
	AgentAvailable AgentState = "Available"
	AgentLoggedOut AgentState = "LoggedOut"
)

// Event is one call event. The zero value of a member means that the PBX did not say.
type Event struct {
	// ID is the deduplication key: two events with the same ID are the same event.
	ID   string `json:"id"`
	Type Type   `json:"type"`
	// CallID is the PBX's id of the whole call; empty for events that belong to no call.
	CallID string `json:"callID,omitempty"`
	// LegID is the PBX's id of one leg within the call; empty where the PBX has none.
	LegID string `json:"legID,omitempty"`
	// Time is the PBX's own time of the event, else the time of receipt. UTC.
	Time time.Time `json:"time"`
	// Received is the time of receipt. UTC.
	Received time.Time `json:"received"`
	Source   Source    `json:"source,omitzero"`
	Flow     Flow      `json:"flow,omitempty"`
	Status   Status    `json:"status,omitempty"`
	// WireStatus is the status in the PBX's own words.
	WireStatus string `json:"wireStatus,omitempty"`
	Caller     Party  `json:"caller,omitzero"`
	Called     Party  `json:"called,omitzero"`
	// DID is the public number through which the call came in.
	DID string `json:"did,omitempty"`
	// Remote is the outside number behind a call that was handed over; it outranks the caller's number.
	Remote string `json:"remote,omitempty"`
	// Bridged tells whether any ordinary extension took the call; nil where the event does not say.
	Bridged *bool `json:"bridged,omitempty"`
	// Transferred marks a leg made by forwarding.
	Transferred bool `json:"transferred,omitempty"`
	// Talk is the talk time of the leg; nil where the event does not say.
	Talk *time.Duration `json:"talk,omitempty"`
	// CallBackID is the id of the API call that started this call.
	CallBackID string `json:"callBackID,omitempty"`
	// ControlID is the handle for commands on the running call.
	ControlID   string `json:"controlID,omitempty"`
	RecordingID string `json:"recordingID,omitempty"`
	// Agent is set on events of type Agent.
	Agent AgentState `json:"agent,omitempty"`
	// Extra holds the parameters that the dialect does not know.
	Extra map[string]string `json:"extra,omitempty"`
}

// Request is one notification as it came in: what is stored, so that a better decoder can be run over old events. Its JSON form is
// one line of a capture file.
type Request struct {
	ReceivedAt time.Time `json:"receivedAt"`
	Source     Source    `json:"source"`
	Method     string    `json:"method"`
	// Path is what follows the token in the event URL.
	Path        string `json:"path"`
	Query       string `json:"query"`
	ContentType string `json:"contentType"`
	Body        string `json:"body"`
}
