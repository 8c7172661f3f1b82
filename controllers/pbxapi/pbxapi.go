// Package pbxapi is the port to the management APIs of the PBXs. Each PBX has a package of its own
// below this one.
//
// A Pool holds one Client per integration. Whoever asks something of that PBX does it through this
// Client, so that all of them share one token, one rate limit, one list of extensions, and the
// knowledge that a credential is bad.
package pbxapi

import (
	"context"
	"strings"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// Extension is an extension as the PBX knows it.
type Extension struct {
	ID     string
	Number string
	// Name for people; may be empty.
	Name string
	// Type is empty for a type that the operator does not know.
	Type v1alpha1.ExtensionType
}

// Registration asks the PBX to call a URL when an event happens. The URL is a credential.
type Registration struct {
	// ID is given by the PBX; empty before creation.
	ID string
	// Event is empty for a type of event that the operator does not use.
	Event  v1alpha1.EventType
	URL    string
	Method string
	// Disabled tells that the PBX keeps the registration but does not call it.
	Disabled bool
}

// Events that a PBX knows beside those of the API.
const (
	// EventAnswerIn and EventAnswerOut are what VoipNow makes of an answer: that of an incoming
	// call, and that of the other party.
	EventAnswerIn  v1alpha1.EventType = "AnswerIn"
	EventAnswerOut v1alpha1.EventType = "AnswerOut"
	// EventAgentLogin and EventAgentLogout are registered on queue agents.
	EventAgentLogin  v1alpha1.EventType = "AgentLogin"
	EventAgentLogout v1alpha1.EventType = "AgentLogout"
	// EventPhoneStatus is registered on the account.
	EventPhoneStatus v1alpha1.EventType = "PhoneStatus"
)

// AccountOwner stands, where the id of an extension is asked for, for all phones of the account.
const AccountOwner = "account"

const agentPrefix = "agent/"

// AgentOwner stands, where the id of an extension is asked for, for a queue agent.
func AgentOwner(agentID string) string { return agentPrefix + agentID }

// AgentID is the inverse of AgentOwner; false for anything else.
func AgentID(owner string) (string, bool) { return strings.CutPrefix(owner, agentPrefix) }

// Agent is a queue agent that is an extension.
type Agent struct {
	ID string
	// Number of the extension.
	Number string
}

// Dial is a call to start.
type Dial struct {
	Extension Extension
	Number    string
	// Reference is sent along where the PBX takes such a thing: it tells the call from others.
	Reference string
}

// Call is what a PBX says of a call that it has started. Either may be empty.
type Call struct {
	CallID     string
	CallBackID string
}

// Hangup says which calls of an extension to end.
type Hangup struct {
	Extension Extension
	// CallID and CallBackID are those of the call; without either all calls of the extension are
	// meant.
	CallID, CallBackID string
}

// Commander is a PBX that takes commands.
type Commander interface {
	// Dial starts a call. It must not be repeated unless NotSent tells that the PBX cannot have got
	// it.
	Dial(ctx context.Context, dial Dial) (Call, error)
	// Hangup ends calls. It returns ErrNotFound where there are none.
	Hangup(ctx context.Context, hangup Hangup) error
}

// Recordings is a PBX that tells where a recording is.
type Recordings interface {
	// RecordingURL is an address that works without the credentials of the PBX. It returns
	// ErrNotFound for an unknown recording.
	RecordingURL(ctx context.Context, recordingID string) (string, error)
}

// AgentLister is a PBX with queue agents.
type AgentLister interface {
	// Agents lists the queue agents that are extensions.
	Agents(ctx context.Context) ([]Agent, error)
}

// API is what a PBX offers to the controllers. All calls are idempotent, or safe to repeat after
// looking again. Their errors are those of this package. There is deliberately no call that deletes
// more than one registration. The owner of registrations is the id of an extension, AccountOwner or
// AgentOwner. An API may also be a Commander, Recordings, a Historian or an AgentLister.
type API interface {
	// Check makes one cheap authenticated request.
	Check(ctx context.Context) error
	// Extensions lists all extensions.
	Extensions(ctx context.Context) ([]Extension, error)
	// Registrations lists all registrations on an extension, those of others included. It returns
	// ErrNotFound for an unknown extension.
	Registrations(ctx context.Context, extensionID string) ([]Registration, error)
	// Register creates one registration. It returns ErrLimitReached when the PBX says that the
	// extension takes no more.
	Register(ctx context.Context, extensionID string, registration Registration) (Registration, error)
	// Update makes a registration, known by its ID, what it should be. It returns ErrNotFound when
	// that is gone.
	Update(ctx context.Context, extensionID string, registration Registration) error
	// Unregister deletes one registration. A registration that is gone already is no error.
	Unregister(ctx context.Context, extensionID, registrationID string) error
}

// HasRegistrations reports whether the PBX can be asked for events. On the others an administrator
// enters the event URL by hand.
func HasRegistrations(pbx v1alpha1.PBX) bool {
	return pbx.Type == v1alpha1.PBXTypeRingMe || pbx.Type == v1alpha1.PBXTypeVoipNow
}

// KnowsByNumber reports whether the PBX calls extensions by their numbers. Only RingMe has ids of
// its own for them; to the others an id that was given or found elsewhere means nothing.
func KnowsByNumber(pbx v1alpha1.PBX) bool { return pbx.Type != v1alpha1.PBXTypeRingMe }

// HistoryNamesCalls reports whether the records of the PBX's history have the call ids of its
// events. Those of VoipNow are single legs (VoipNow: CDR).
func HistoryNamesCalls(pbx v1alpha1.PBX) bool { return pbx.Type != v1alpha1.PBXTypeVoipNow }

// CredentialsSecret is the name of the Secret with the credentials for the PBX; empty for a PBX
// that needs none.
func CredentialsSecret(pbx v1alpha1.PBX) string {
	switch {
	case pbx.RingMe != nil:
		return pbx.RingMe.CredentialsSecretRef.Name
	case pbx.VoipNow != nil:
		return pbx.VoipNow.CredentialsSecretRef.Name
	case pbx.LinuxBox != nil && pbx.LinuxBox.CredentialsSecretRef != nil:
		return pbx.LinuxBox.CredentialsSecretRef.Name
	default:
		return ""
	}
}

// KeyDatabaseURL is where Settings.Credentials have the address of the PBX's database: the key url
// of the Secret that DatabaseSecret names. Whoever reads the Secrets merges it with the data of the
// one that CredentialsSecret names, if there is one.
const KeyDatabaseURL = "databaseURL"

// KeyCABundle is where Settings.Credentials have the certificates to trust, in PEM, of
// spec.pbx.tls.
const KeyCABundle = "caBundle"

// DatabaseSecret is the name of the Secret with the address of the PBX's database; empty for a PBX
// whose database is not read.
func DatabaseSecret(pbx v1alpha1.PBX) string {
	if pbx.LinuxBox == nil || pbx.LinuxBox.Database == nil {
		return ""
	}
	return pbx.LinuxBox.Database.CredentialsSecretRef.Name
}

// Subscription is an event to register for, and what follows the token in its event URL.
type Subscription struct {
	Event  v1alpha1.EventType
	Suffix string
}

// Subscriptions are what a PBX must be asked for to hear of these events. VoipNow's notifications
// do not say what happened, so that each type needs a URL of its own, and it has two kinds of
// answers (VoipNow: Call Events).
func Subscriptions(pbx v1alpha1.PBX, events []v1alpha1.EventType) []Subscription {
	list := make([]Subscription, 0, len(events)+1)
	for _, event := range events {
		switch {
		case pbx.Type != v1alpha1.PBXTypeVoipNow:
			list = append(list, Subscription{Event: event})
		case event == v1alpha1.EventDialIn:
			list = append(list, Subscription{event, "/dial-in"})
		case event == v1alpha1.EventDialOut:
			list = append(list, Subscription{event, "/dial-out"})
		case event == v1alpha1.EventHangup:
			list = append(list, Subscription{event, "/hangup"})
		case event == v1alpha1.EventAnswer:
			list = append(list, Subscription{EventAnswerIn, "/answer-in"}, Subscription{EventAnswerOut, "/answer-out"})
		}
	}
	return list
}

const (
	// defaultEventLimit is the standard tolerance of RingMe (Events on Extension Numbers).
	defaultEventLimit = 16
	// noEventLimit stands for that of VoipNow, whose documents name none.
	noEventLimit = 1 << 20
)

// EventLimit is how many registrations one extension may carry, those of others included.
func EventLimit(pbx v1alpha1.PBX) int {
	switch {
	case pbx.Type == v1alpha1.PBXTypeVoipNow:
		return noEventLimit
	case pbx.RingMe == nil || pbx.RingMe.EventLimit == 0:
		return defaultEventLimit
	default:
		return int(pbx.RingMe.EventLimit)
	}
}

// defaultRequestsPerMinute is the default of the API's schema.
const defaultRequestsPerMinute = 120

func requestsPerMinute(pbx v1alpha1.PBX) int {
	var given int32
	switch {
	case pbx.RingMe != nil:
		given = pbx.RingMe.RequestsPerMinute
	case pbx.VoipNow != nil:
		given = pbx.VoipNow.RequestsPerMinute
	case pbx.LinuxBox != nil:
		given = pbx.LinuxBox.RequestsPerMinute
	}
	if given == 0 {
		return defaultRequestsPerMinute
	}
	return int(given)
}
