package linuxbox

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Name is what the PBX tells, whatever a customer's installation calls it.
type Name string

// The names of events.
const (
	Dial             Name = "Dial"             // a call begins to be dialled, or goes on to another number
	StartCall        Name = "StartCall"        // a call begins
	QueueIn          Name = "QueueIn"          // the caller enters a queue
	QueueOut         Name = "QueueOut"         // the caller leaves it
	LineRinging      Name = "LineRinging"      // a line rings
	ExternalRinging  Name = "ExternalRinging"  // an outside number rings
	LineAnswered     Name = "LineAnswered"     // a line picked up
	ExternalAnswered Name = "ExternalAnswered" // the far side picked up
	Pickup           Name = "Pickup"           // the call was taken from another phone
	LineHangup       Name = "LineHangup"       // the call is over for a line
	CallEnd          Name = "CallEnd"          // the call is over
)

// The names of parameters.
const (
	CallID           Name = "CallID"
	EventID          Name = "EventID"
	Time             Name = "Time"
	CustomCallID     Name = "CustomCallID"
	RecordName       Name = "RecordName"
	CallerType       Name = "CallerType"
	CallerNumber     Name = "CallerNumber"
	CallerName       Name = "CallerName"
	CallerLine       Name = "CallerLine"
	CalledNumber     Name = "CalledNumber"
	CalledLine       Name = "CalledLine"
	Line             Name = "Line"
	LineName         Name = "LineName"
	TransferringLine Name = "TransferringLine"
	Answered         Name = "Answered"
	AnsweringLine    Name = "AnsweringLine"
	LastDialledLine  Name = "LastDialledLine"
	Queue            Name = "Queue"
	Direction        Name = "Direction"
)

// events are the defaults: those of the parameter event in "PBX API", then the paths of "PBX
// Notifikace" and "PBX notifications".
var events = map[string]Name{
	"dial": Dial, "answer_internal": LineAnswered, "answer_external": ExternalAnswered, "call_pickup": Pickup,
	"hangup_internal": LineHangup, "endcall": CallEnd,
	"start_call": StartCall, "queue_in": QueueIn, "queue_out": QueueOut, "start_int_dial": LineRinging, "start_ext_dial": ExternalRinging,
	"answered_internal": LineAnswered, "answered_external": ExternalAnswered, "call_end": CallEnd,
}

// parameters are the defaults of the same pages; of several the first that has a value counts.
var parameters = map[Name][]string{
	CallID: {"call_id"}, EventID: {"cel_id"}, Time: {"ts"}, CustomCallID: {"custom_call_id"}, RecordName: {"record_name"},
	CallerType: {"caller_type"}, CallerNumber: {"caller_num"}, CallerName: {"caller_name"},
	CallerLine:   {"caller_exten"},
	CalledNumber: {"called_num", "dialed_num", "target_num"},
	CalledLine:   {"dialed_exten"},
	Line:         {"exten_num", "line_num"}, LineName: {"exten_name", "line_name"},
	TransferringLine: {"transfering_exten", "transferring_exten"}, //nolint:misspell // as it is on the wire
	Answered:         {"call_answered"}, AnsweringLine: {"answering_exten"}, LastDialledLine: {"last_dialed_exten"},
	Queue: {"queue_name"}, Direction: {"direction"},
}

// Config is what an installation has of its own: the vendor agrees all names with each customer.
// The zero value is that of the documents.
type Config struct {
	// EventParameter is the parameter that names the event; where a notification has none, the last
	// segment of the path does. Default "event".
	EventParameter string
	// Events adds names of events: from the name on the wire, in any case, to a name of this
	// package.
	Events map[string]Name
	// Parameters adds names of parameters, in the same way. They outrank the default ones.
	Parameters map[string]Name
	// Lines are the numbers of the PBX's own lines. Default: every number of at most four digits is
	// one, unless the PBX says which side is outside.
	Lines []string
	// SelfServiceIsMissed takes a call that the voice menu answered, and that was sent to no line,
	// as missed. By default the caller is taken to have got what he wanted.
	SelfServiceIsMissed bool
}

// New returns the dialect of an installation. It fails where the configuration has names that mean
// nothing.
func New(config Config) (*Dialect, error) {
	d := &Dialect{
		selector: "event", events: maps.Clone(events), parameters: maps.Clone(parameters), selfService: config.SelfServiceIsMissed,
	}
	if config.EventParameter != "" {
		d.selector = config.EventParameter
	}
	known := slices.Collect(maps.Values(events))
	for wire, name := range config.Events {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("event %q is to mean %q: expected one of %v", wire, name, sorted(known))
		}
		d.events[strings.ToLower(wire)] = name
	}
	for _, wire := range slices.Sorted(maps.Keys(config.Parameters)) {
		name := config.Parameters[wire]
		if _, ok := parameters[name]; !ok {
			return nil, fmt.Errorf("parameter %q is to mean %q: expected one of %v", wire, name, sorted(slices.Collect(maps.Keys(parameters))))
		}
		d.parameters[name] = append([]string{wire}, d.parameters[name]...)
	}
	if len(config.Lines) > 0 {
		d.lines = make(map[string]bool, len(config.Lines))
		for _, line := range config.Lines {
			d.lines[line] = true
		}
	}
	return d, nil
}

func sorted(names []Name) []Name {
	slices.Sort(names)
	return slices.Compact(names)
}
