// Package callevent is the normalised call event: the one vocabulary that all dialects speak and
// correlation understands. Units are converted here once; nothing behind a dialect knows what a PBX
// sends.
package callevent

import "time"

// Type is what happened.
type Type string

// The types of events. Tick types are made by the receiver's own clock and carry the passing of
// time into correlation as data.
const (
	DialIn  Type = "DialIn"
	DialOut Type = "DialOut"
	Answer  Type = "Answer"
	Hangup  Type = "Hangup"
	// CallStart is a call from outside that reached the PBX and is being routed. It belongs to no
	// leg.
	CallStart Type = "CallStart"
	// CallEnd says that the whole call is over, with all legs that it still has.
	CallEnd Type = "CallEnd"
	// HasAnswered is said at the end of a call of a party that had answered it: it makes up for a
	// lost answer.
	HasAnswered Type = "HasAnswered"
	// Pickup says that a ringing call was taken from another phone, without saying which. It
	// belongs to no leg.
	Pickup Type = "Pickup"
	// Progress happened to a leg, or to the call where it names none, without opening, answering or
	// ending it: a queue, a recording, the handset that is lifted before an API call goes out,
	// words that no document lists.
	Progress Type = "Progress"
	// History is a whole leg as the PBX's own history tells of it once it is over: to be joined
	// with what events told. Its Time is the first ring.
	History Type = "History"
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
	StatusUnknown Status = ""
	StatusCalling Status = "Calling"
	// StatusRinging tells that the called party rings.
	StatusRinging Status = "Ringing"
	// StatusUnspecified is the PBX's own word for not saying how the leg ended: an answer event
	// decides.
	StatusUnspecified Status = "Unspecified"

	StatusAnswered  Status = "Answered"
	StatusBusy      Status = "Busy"
	StatusCancelled Status = "Cancelled"
	StatusNoAnswer  Status = "NoAnswer"
	StatusFailed    Status = "Failed"
	// StatusAnsweredElsewhere is a ring that ended because another phone took the call. Only
	// histories know it.
	StatusAnsweredElsewhere Status = "AnsweredElsewhere"
)

// Level tells what a leg connects, where that does not follow from its source.
type Level string

// The levels.
const (
	// LevelExtension is the leg of an extension.
	LevelExtension Level = ""
	// LevelEntry is the leg with which the call enters the platform (the A leg). It lasts as long
	// as the call.
	LevelEntry Level = "Entry"
	// LevelDevice is a device behind another leg.
	LevelDevice Level = "Device"
	// LevelOutside is an outside number to which a call from outside was forwarded.
	LevelOutside Level = "Outside"
)

// MissedRule says what decides whether a call was missed, on an event that ends the caller's side
// of it without saying so itself.
type MissedRule string

// The rules.
const (
	// MissedUnsaid leaves the question to other events, or to Bridged.
	MissedUnsaid MissedRule = ""
	// MissedUnlessAnswered takes the call as missed unless a leg was answered.
	MissedUnlessAnswered MissedRule = "Legs"
	// MissedIfTried does the same, but a call that tried nobody was self-service.
	MissedIfTried MissedRule = "TriedLegs"
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

// Source is who sent an event, as far as the event URL tells. It is empty where one URL serves a
// whole account.
type Source struct {
	Type   SourceType `json:"type,omitempty"`
	Number string     `json:"number,omitempty"`
	ID     string     `json:"id,omitempty"`
	User   string     `json:"user,omitempty"`
}

// Party is one side of a leg, as the event describes it.
type Party struct {
	// Number is the calling or called number as the PBX sends it: an outside number or an
	// extension.
	Number string `json:"number,omitempty"`
	// Name is the display name.
	Name string `json:"name,omitempty"`
	// Extension is the extension's number without domain, where this side is one.
	Extension string `json:"extension,omitempty"`
	// ExtensionID is the PBX's id of that extension.
	ExtensionID string `json:"extensionID,omitempty"`
	// Local tells that Number is an extension of this PBX. Only the number counts: a queue that
	// rings an agent on a customer's behalf has an Extension, but the calling Number is the
	// customer's.
	Local bool `json:"local,omitempty"`
	// Guessed tells that Local follows from the form of the number alone; an event of the leg that
	// says which side is outside outranks it.
	Guessed bool `json:"guessed,omitempty"`
	// Withheld tells that the caller hides the number: Number is empty, and the Extension, if any,
	// is not the caller's own but that of the queue or phone that rings on the caller's behalf.
	Withheld bool `json:"withheld,omitempty"`
	// Own tells that Number is a public number of this PBX.
	Own bool `json:"own,omitempty"`
}

// AgentState reports whether a queue agent takes calls.
type AgentState string

// The agent states.
const (
	AgentAvailable AgentState = "Available"
	AgentLoggedOut AgentState = "LoggedOut"
)

// Record is what only an event of type History says.
type Record struct {
	// Answer is zero where the leg was not answered, or the history does not say when.
	Answer time.Time `json:"answer,omitzero"`
	// End is the hangup.
	End time.Time `json:"end"`
}

// Event is one call event. The zero value of a member means that the PBX did not say.
type Event struct {
	// ID is the deduplication key: two events with the same ID are the same event.
	ID   string `json:"id"`
	Type Type   `json:"type"`
	// CallID is the PBX's id of the whole call; empty for events that belong to no call.
	CallID string `json:"callID,omitempty"`
	// LegID is the PBX's id of one leg within the call; empty where the PBX has none.
	LegID string `json:"legID,omitempty"`
	// Side is, where the PBX has no leg ids, what the events of one party's legs have in common;
	// each dial event of a side begins another attempt.
	Side string `json:"side,omitempty"`
	// ParentLegID is the leg behind which this one lies.
	ParentLegID string `json:"parentLegID,omitempty"`
	Level       Level  `json:"level,omitempty"`
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
	// Remote is the outside number behind a call that was handed over; it outranks the caller's
	// number.
	Remote string `json:"remote,omitempty"`
	// Bridged reports whether any ordinary extension took the call; nil where the event does not
	// say.
	Bridged *bool `json:"bridged,omitempty"`
	// Missed says what decides whether the call was missed, where Bridged does not.
	Missed MissedRule `json:"missed,omitempty"`
	// StatusOfCall tells that a hangup's status may be that of the call and not of the leg: where
	// some leg has an answer event, it counts only together with the leg's own.
	StatusOfCall bool `json:"statusOfCall,omitempty"`
	// Lapses marks a ring whose end need not be told: it is over when somebody takes the call.
	Lapses bool `json:"lapses,omitempty"`
	// Secondary marks an event that counts only where its leg has no other of its kind.
	Secondary bool `json:"secondary,omitempty"`
	// TransfersUntold tells that the PBX need not mark transfers: a leg that begins after another
	// was answered came out of it.
	TransfersUntold bool `json:"transfersUntold,omitempty"`
	// Repeat is for how long after it the same ID means the same event; 0 is for ever. It is for
	// PBXs whose events have neither id nor time, so that another attempt repeats them word by
	// word.
	Repeat time.Duration `json:"repeat,omitempty"`
	// Queue is the name of the queue in which the caller waits.
	Queue string `json:"queue,omitempty"`
	// Transferred marks a leg made by forwarding.
	Transferred bool `json:"transferred,omitempty"`
	// Talk is the talk time of the leg; nil where the event does not say.
	Talk *time.Duration `json:"talk,omitempty"`
	// CallBackID is the id of the API call that started this call.
	CallBackID string `json:"callBackID,omitempty"`
	// ByUser tells that the API call was made for the user of the extension, so that the leg is the
	// user's.
	ByUser bool `json:"byUser,omitempty"`
	// ControlID is the handle for commands on the running call.
	ControlID   string `json:"controlID,omitempty"`
	RecordingID string `json:"recordingID,omitempty"`
	// Record is set on events of type History.
	Record *Record `json:"record,omitempty"`
	// Agent is set on events of type Agent.
	Agent AgentState `json:"agent,omitempty"`
	// Attributes are what else the PBX says of the call: parameters that the dialect does not know,
	// under their names on the wire, and tags that users of the PBX attached to the call, as
	// tag.NAME. At most 16, of which no one holds a URL or a credential.
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Request is one notification as it came in: what is stored, so that a better decoder can be run
// over old events. Its JSON form is one line of a capture file.
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
