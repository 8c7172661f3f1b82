// Package ringme understands the notifications of the RingMe platform, also sold as Telphin and
// UCom. The rules come from the vendor pages "Events on Extension Numbers" and "Extension Number
// Events", where not said otherwise.
package ringme

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/number"
	"github.com/pbx-operator/pbx-operator/receiver/shorten"
)

// Dialect decodes RingMe's notifications. The zero value is ready for use, by many goroutines at
// once.
type Dialect struct{}

// Decode turns one notification into one event. Kinds of events and parameters that no document
// lists are kept, not refused; it fails only where it cannot tell what happened: nothing says which
// event it is, the parameters cannot be decoded, or a call's event does not name the call.
func (Dialect) Decode(request callevent.Request) ([]callevent.Event, error) {
	var f form
	if err := f.read(request); err != nil {
		return nil, err
	}
	event, err := f.event(request)
	if err != nil {
		return nil, err
	}
	event.Attributes = f.extra
	return []callevent.Event{event}, nil
}

// event tells the kinds of notifications apart by the parameter that is present, as agent and
// status events carry no EventType ("Queue Agent events", "Global events of all telephone terminals
// in PBX").
func (f *form) event(request callevent.Request) (callevent.Event, error) {
	switch {
	case f.values[eventType] != "":
		return f.callEvent(request)
	case f.values[snakeEventType] != "":
		return f.statusEvent(request)
	case f.values[agentStatus] != "":
		return f.agentEvent(request)
	default:
		return callevent.Event{}, errors.New("nothing says which event this is: expected the form parameter EventType " +
			"(for example EventType=dial-in&CallID=…), event_type or agent_status")
	}
}

func typeOf(wire string) callevent.Type {
	switch strings.ToLower(wire) {
	case "dial-in":
		return callevent.DialIn
	case "dial-out":
		return callevent.DialOut
	case "answer":
		return callevent.Answer
	case "hangup":
		return callevent.Hangup
	case "message-in", "message-out", "voicemail":
		return callevent.Message
	default: // among others call_interactive, which belongs to another feature and wants no attention here
		return callevent.Other
	}
}

func ofCall(t callevent.Type) bool {
	return t == callevent.DialIn || t == callevent.DialOut || t == callevent.Answer || t == callevent.Hangup
}

func (f *form) callEvent(request callevent.Request) (callevent.Event, error) {
	event := callevent.Event{
		Type:        typeOf(f.values[eventType]),
		CallID:      f.values[callID],
		LegID:       f.values[subCallID],
		Source:      request.Source,
		Status:      statusOf(f.values[callStatus]),
		WireStatus:  f.values[callStatus],
		Caller:      f.caller(),
		Called:      f.called(),
		DID:         f.number(calledDID),
		CallBackID:  f.values[callBackID],
		ControlID:   f.values[callAPIID],
		RecordingID: f.values[recID],
		Transferred: f.yes(forwarded) || f.yes(forwardedRR),
		Talk:        f.talk(),
		Bridged:     f.bridged(),
	}
	if !ofCall(event.Type) {
		f.keepParam(eventType)
	} else if event.CallID == "" {
		return event, fmt.Errorf("EventType=%s without CallID: expected the identifier of the call", f.values[eventType])
	}
	f.remote(&event)
	event.Flow = f.flow(event.Type)
	if event.Source == (callevent.Source{}) {
		event.Source = sender(&event)
	}
	if ofCall(event.Type) {
		f.sides(&event)
	}
	if err := f.times(&event, request.ReceivedAt); err != nil {
		return event, err
	}
	event.ID = f.id(&event)
	return event, nil
}

// id is RingMe's (EventType, SubCallID, EventTime), or with CallStatus where EventTime is missing.
// The call and the sender stand in for a missing SubCallID.
func (f *form) id(event *callevent.Event) string {
	what := string(event.Type)
	if !ofCall(event.Type) {
		what = strings.ToLower(f.values[eventType])
	}
	leg := event.LegID
	if leg == "" {
		leg = event.CallID + "/" + cmp.Or(event.Source.ID, event.Source.Number) + "/" + string(event.Flow)
	}
	when := f.values[eventTime]
	switch {
	case f.extra[specs[eventTime].name] == "" && when != "":
	case event.CallID != "":
		when = strings.ToLower(f.values[callStatus])
	default:
		when = strconv.FormatInt(event.Received.UnixNano(), 10)
	}
	return what + "/" + leg + "/" + when
}

// caller prefers the parameter's name on the wire to the one that the description of the filter
// prints.
func (f *form) caller() callevent.Party {
	return f.party(f.first(callerIDNum, callerNum), f.values[callerIDName], callerExtension, callerExtensionID)
}

func (f *form) called() callevent.Party {
	return f.party(f.first(calledNumber, calledNum), "", calledExtension, calledExtensionID)
}

func (f *form) party(shown, name string, extension, id param) callevent.Party {
	p := callevent.Party{
		Number:      plain(shown),
		Name:        shorten.Characters(number.Clean(name), nameLength),
		Extension:   number.WithoutDomain(f.values[extension]),
		ExtensionID: f.values[id],
	}
	// The rules that ask for an extension id ask for a numeric one.
	if !number.Digits(p.ExtensionID) {
		f.keepParam(id)
		p.ExtensionID = ""
	}
	if len(p.Extension) > shortLength {
		f.keepParam(extension)
		p.Extension = ""
	}
	if local := number.WithoutDomain(p.Number); number.Names(local, p.Extension) {
		p.Number = local
	}
	p.Local = isExtension(p.Number) || number.Names(p.Number, p.Extension)
	return p
}

// remote is the outside number behind a call that was handed over by #1 or *2. An extension there
// is no outside number: it is the caller of an internal call that was handed over.
func (f *form) remote(event *callevent.Event) {
	remote := plain(f.values[remoteNumber])
	switch {
	case isExtension(remote):
		event.Caller.Number, event.Caller.Local = remote, true
	case !number.Withheld(remote):
		event.Remote = remote
	}
}

func (f *form) number(p param) string { return plain(f.values[p]) }

func (f *form) flow(t callevent.Type) callevent.Flow {
	switch strings.ToLower(f.values[callFlow]) {
	case "in":
		return callevent.FlowIn
	case "out":
		return callevent.FlowOut
	case "":
	default:
		f.keepParam(callFlow)
	}
	switch t {
	case callevent.DialIn:
		return callevent.FlowIn
	case callevent.DialOut:
		return callevent.FlowOut
	default:
		return callevent.FlowUnknown
	}
}

// statusOf knows the values of "Event Logic on Extension Numbers"; others are announced as possible
// and mean no success.
func statusOf(wire string) callevent.Status {
	switch strings.ToUpper(wire) {
	case "CALLING":
		return callevent.StatusCalling
	case "ANSWER":
		return callevent.StatusAnswered
	case "BUSY":
		return callevent.StatusBusy
	case "CANCEL":
		return callevent.StatusCancelled
	case "NOANSWER":
		return callevent.StatusNoAnswer
	case "CONGESTION", "CHANUNAVAIL":
		return callevent.StatusFailed
	default:
		return callevent.StatusUnknown
	}
}

func (f *form) yes(p param) bool {
	value, known := yesNo(f.values[p])
	if !known {
		f.keepParam(p)
	}
	return value
}

func (f *form) bridged() *bool {
	value, known := yesNo(f.values[bridged])
	if !known {
		f.keepParam(bridged)
		return nil
	}
	return &value
}

func yesNo(s string) (value, known bool) {
	switch strings.ToLower(s) {
	case "yes", "true", "1":
		return true, true
	case "no", "false", "0":
		return false, true
	default:
		return false, false
	}
}

// talk prefers BridgedDuration, which newer PBXs send as the talk time; Duration is then the total.
// Both are microseconds.
func (f *form) talk() *time.Duration {
	total := f.microseconds(duration)
	if talked := f.microseconds(bridgedDuration); talked != nil {
		return talked
	}
	return total
}

// longestTalk is far above any call and far below what a time.Duration can hold.
const longestTalk = 365 * 24 * time.Hour

func (f *form) microseconds(p param) *time.Duration {
	if f.values[p] == "" {
		return nil
	}
	n, err := strconv.ParseInt(f.values[p], 10, 64)
	if err != nil || n < 0 || n > longestTalk.Microseconds() {
		f.keepParam(p)
		return nil
	}
	d := time.Duration(n) * time.Microsecond
	return &d
}

// An EventTime out of this range is not in microseconds, or not a time at all. Inside it the PBX's
// clock is believed however wrong it is: the differences between the events of a call are worth
// more than the date.
var (
	earliestTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	latestTime   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
)

// times sets the event's time, which is EventTime in microseconds, else the time of receipt.
func (f *form) times(event *callevent.Event, received time.Time) error {
	event.Received = received.UTC()
	micros, err := strconv.ParseInt(f.values[eventTime], 10, 64)
	if err == nil && earliestTime <= micros && micros < latestTime {
		event.Time = time.UnixMicro(micros).UTC()
		if received.IsZero() {
			event.Received = event.Time
		}
		return nil
	}
	f.keepParam(eventTime)
	if received.IsZero() {
		return errors.New("the event has no usable EventTime (microseconds since 1970) and no time of receipt: one of them is needed")
	}
	event.Time = event.Received
	return nil
}

// sender finds out who sent an event of an account-wide registration. The part of SubCallID before
// the first dash is the extension's id.
func sender(event *callevent.Event) callevent.Source {
	id, _, _ := strings.Cut(event.LegID, "-")
	own := &event.Called
	switch {
	case id != "" && id == event.Called.ExtensionID:
	case id != "" && id == event.Caller.ExtensionID, event.Flow == callevent.FlowOut:
		own = &event.Caller
	}
	source := callevent.Source{ID: own.ExtensionID, Number: own.Extension}
	if source.Number == "" && isExtension(own.Number) {
		source.Number = own.Number
	}
	if source.ID == "" && number.Digits(id) && len(id) <= shortLength {
		source.ID = id
	}
	return source
}
