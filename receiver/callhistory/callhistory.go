// Package callhistory is the form in which calls from a PBX's own history reach a receiver: by HTTP,
// like events, so that they are made durable, correlated and published like them. It
// is, beside package eventurl, all that controllers and receivers share.
package callhistory

import "time"

const (
	// Path follows the token of the integration's event URL.
	Path = "/history"
	// ContentType of the body, which is a JSON array of Records.
	ContentType = "application/json"
	// MaxRecords in one body, so that it stays below what a receiver takes (64 KiB).
	MaxRecords = 50
)

// Result is how a leg ended, in the words of CallLeg.
type Result string

// The results.
const (
	Answered          Result = "Answered"
	NoAnswer          Result = "NoAnswer"
	AnsweredElsewhere Result = "AnsweredElsewhere"
	Busy              Result = "Busy"
	Cancelled         Result = "Cancelled"
	Failed            Result = "Failed"
	// Unknown is a history that does not say.
	Unknown Result = "Unknown"
)

// Kind is what a leg connects.
type Kind string

// The kinds.
const (
	Extension Kind = "Extension"
	Queue     Kind = "Queue"
	IVR       Kind = "IVR"
)

// Flow is the direction of a leg as seen by its extension.
type Flow string

// The flows.
const (
	In  Flow = "In"
	Out Flow = "Out"
)

// Record is one finished leg of a call. A record read twice has the same ID.
type Record struct {
	// ID tells the records of a PBX apart.
	ID string `json:"id"`
	// CallID is that of the call's events, in the same letter case.
	CallID string `json:"callID"`
	// Kind of the leg; default Extension.
	Kind Kind `json:"kind,omitempty"`
	// Extension that the leg belongs to, without a domain. The record of a call from outside
	// without extension is that of the whole call, of an outgoing one that of an outside number to
	// which a call was sent on.
	Extension   string `json:"extension,omitempty"`
	ExtensionID string `json:"extensionID,omitempty"`
	Flow        Flow   `json:"flow"`
	// From and To are the numbers. That of an extension has the form of Extension: a call between
	// two extensions is known by it.
	From     string `json:"from,omitempty"`
	FromName string `json:"fromName,omitempty"`
	To       string `json:"to,omitempty"`
	DID      string `json:"did,omitempty"`
	// Start is the first ring. UTC, as all times.
	Start time.Time `json:"start"`
	// Answer is zero for a leg that was not answered, or whose history does not say when.
	Answer time.Time `json:"answer,omitzero"`
	// End is the hangup.
	End time.Time `json:"end"`
	// TalkSeconds is nil where the history does not say.
	TalkSeconds *float64 `json:"talkSeconds,omitempty"`
	Result      Result   `json:"result"`
	// Bridged tells, of a queue's or voice menu's leg, whether any extension took the call; nil
	// where the history does not say.
	Bridged     *bool  `json:"bridged,omitempty"`
	Transferred bool   `json:"transferred,omitempty"`
	RecordingID string `json:"recordingID,omitempty"`
}
