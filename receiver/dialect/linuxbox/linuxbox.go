// Package linuxbox understands the notifications of the LinuxBox PBX, in all three of its dialects:
// events in a parameter ("PBX API"), and events in the path as of 2019 ("PBX Notifikace") and of
// 2022 and 2024 ("PBX notifications"). The rules come from those pages, where not said otherwise.
//
// There is no leg id: a leg is a line's side of the call, and each ring of the line begins another
// attempt. What a notification tells of the call as a whole belongs to no leg.
package linuxbox

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/form"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/number"
)

// repeat is how long after it an identical notification is the same event, where it has neither an
// id nor a time.
const repeat = 2 * time.Second

// Dialect decodes the notifications of one installation, by many goroutines at once. [New] makes
// one.
type Dialect struct {
	selector    string
	events      map[string]Name
	parameters  map[Name][]string
	lines       map[string]bool // empty: by the length
	selfService bool
}

// notification is one, taken apart.
type notification struct {
	dialect *Dialect
	form    *form.Form
	wire    string // the event's name
	name    Name   // what it means; empty where no document lists it

	callerType, direction    string
	caller, called           callevent.Party
	shown                    string // the caller's number as sent
	line, lineName, transfer string
	base                     callevent.Event // what all events of this notification share
}

// Decode turns one notification into events, usually one. Events and parameters that no document
// lists are kept. It fails only where nothing says what happened in which call, or when.
func (d *Dialect) Decode(request callevent.Request) ([]callevent.Event, error) {
	f, err := form.Read(request)
	if err != nil {
		return nil, err
	}
	n := notification{dialect: d, form: f, wire: f.Short(d.selector)}
	if n.wire == "" {
		n.wire = lastSegment(request.Path)
	}
	if n.wire == "" {
		return nil, fmt.Errorf("nothing says which event this is: expected the parameter %s (for example %s=dial), or a path that ends in "+
			"the event's name (for example /start_call)", d.selector, d.selector)
	}
	n.name = d.events[strings.ToLower(n.wire)]
	if err := n.read(request); err != nil {
		return nil, err
	}
	events := n.events()
	events[0].Attributes = f.Rest()
	return events, nil
}

// lastSegment is empty where it cannot be the name of an event.
func lastSegment(of string) string {
	const longest = 64
	segment := path.Base("/" + of)
	if segment == "/" || len(segment) > longest || !utf8.ValidString(segment) {
		return ""
	}
	return segment
}

func (n *notification) text(name Name) string { return n.form.Text(n.dialect.parameters[name]...) }

func (n *notification) short(name Name) string { return n.form.Short(n.dialect.parameters[name]...) }

func (n *notification) number(name Name) string { return n.form.Number(n.dialect.parameters[name]...) }

func (n *notification) id(name Name) (string, error) {
	for _, wire := range n.dialect.parameters[name] {
		if value, err := n.form.ID(wire); err != nil || value != "" {
			return value, err
		}
	}
	return "", nil
}

// keep leaves a parameter among the unknown ones.
func (n *notification) keep(name Name) {
	for _, wire := range n.dialect.parameters[name] {
		n.form.Keep(wire)
	}
}

func (n *notification) read(request callevent.Request) error {
	var err error
	n.base = callevent.Event{Source: request.Source, RecordingID: n.text(RecordName), TransfersUntold: true, ByUser: true}
	if n.base.CallID, err = n.id(CallID); err != nil {
		return err
	}
	if n.base.CallID == "" {
		return fmt.Errorf("%s without call_id: expected the identifier of the call", n.wire)
	}
	if n.base.CallBackID, err = n.id(CustomCallID); err != nil {
		return err
	}
	n.callerType, n.direction = strings.ToLower(n.short(CallerType)), strings.ToLower(n.short(Direction))
	n.line, n.lineName, n.transfer = n.number(Line), n.text(LineName), n.number(TransferringLine)
	n.called = n.calledParty()
	n.shown = n.number(CallerNumber)
	n.caller = n.callerParty(n.number(CallerLine))
	n.caller.Name = number.Clean(n.text(CallerName))
	return n.stamp(request.ReceivedAt)
}

// callerParty is the side that calls. direction and caller_type say whether it is outside, whatever
// the number looks like; a line may show its public number, and is then in caller_exten, if
// anywhere.
func (n *notification) callerParty(line string) callevent.Party {
	switch {
	case n.fromOutside() && (number.Withheld(n.shown) || n.ours(n.shown, line)):
		return callevent.Party{Withheld: true}
	case n.fromOutside():
		return callevent.Party{Number: n.shown}
	case line != "":
		return callevent.Party{Number: line, Extension: line, Local: true}
	case n.shown != "" && number.Withheld(n.shown):
		return callevent.Party{Withheld: true, Local: n.fromInside()}
	case n.fromInside() && number.Public(n.shown):
		return callevent.Party{Number: n.shown, Local: true}
	case n.fromInside() && n.shown != "":
		return callevent.Party{Number: n.shown, Extension: n.shown, Local: true}
	default:
		return n.guess(n.shown)
	}
}

// calledParty is the side that is called.
func (n *notification) calledParty() callevent.Party {
	dialled, line := n.number(CalledNumber), n.number(CalledLine)
	switch {
	case n.direction == "outgoing", n.name == ExternalRinging, n.name == ExternalAnswered:
		return callevent.Party{Number: dialled}
	case n.direction == "internal" && line != "":
		return callevent.Party{Number: line, Extension: line, Local: true}
	case n.direction == "internal":
		return callevent.Party{Number: dialled, Local: dialled != ""}
	default:
		return n.guess(dialled)
	}
}

// guess takes a number for a line by its form, or by the list of lines, which is certain.
func (n *notification) guess(s string) callevent.Party {
	p := callevent.Party{Number: s, Local: n.dialect.isLine(s)}
	if p.Local {
		p.Extension, p.Guessed = s, n.dialect.lines == nil
	}
	return p
}

// fromOutside reports whether the PBX says that the caller is outside. Types of callers that no
// document lists are.
func (n *notification) fromOutside() bool {
	switch n.direction {
	case "incoming":
		return true
	case "outgoing", "internal":
		return false
	}
	return !n.madeInside()
}

// fromInside reports whether the PBX says that the caller is a line.
func (n *notification) fromInside() bool {
	return n.direction == "outgoing" || n.direction == "internal" || n.direction == "" && n.callerType == "internal"
}

// ours reports whether the number shown for a caller from outside is one of the PBX itself: that of
// the queue in place of the customer's.
func (n *notification) ours(shown, line string) bool {
	queue := n.short(Queue)
	n.keep(Queue)
	return shown == line || shown == n.called.Number || shown == queue || n.dialect.lines[shown]
}

func (d *Dialect) isLine(s string) bool {
	if d.lines != nil {
		return d.lines[s]
	}
	const longest = 4
	return len(s) <= longest && number.Digits(s)
}

// stamp sets time and id: cel_id where there is one, else event, call, time and line, else all
// parameters, which mean the same event for a short while only.
func (n *notification) stamp(received time.Time) error {
	wire := n.text(Time)
	at, ok := parseTime(wire)
	n.base.Time, n.base.Received = at, received.UTC()
	switch {
	case ok && received.IsZero():
		n.base.Received = at
	case !ok && received.IsZero():
		return errors.New("the event has no usable ts and no time of receipt: one of them is needed")
	case !ok:
		n.base.Time = n.base.Received
		n.keep(Time)
	}
	eventID, err := n.id(EventID)
	if err != nil {
		return err
	}
	switch {
	case eventID != "":
		n.base.ID = "cel/" + eventID
	case ok:
		n.base.ID = strings.ToLower(n.wire) + "/" + n.base.CallID + "/" + wire + "/" + n.line
	default:
		n.base.ID, n.base.Repeat = strings.ToLower(n.wire)+"/"+n.form.Digest(), repeat
	}
	return nil
}

// parseTime takes ISO 8601 with any fraction. The plus of an offset that was not encoded arrives as
// a space.
func parseTime(wire string) (time.Time, bool) {
	const offset = len("+01:00")
	if i := len(wire) - offset; i > 0 && wire[i] == ' ' {
		wire = wire[:i] + "+" + wire[i+1:]
	}
	at, err := time.Parse(time.RFC3339Nano, wire)
	return at.UTC(), err == nil && at.Year() >= 2000 && at.Year() < 2200
}

func (n *notification) events() []callevent.Event {
	switch n.name {
	case Dial, StartCall:
		return []callevent.Event{n.dial()}
	case QueueIn, QueueOut:
		e := n.progress("")
		e.Queue = n.short(Queue)
		return []callevent.Event{e}
	case LineRinging, ExternalRinging:
		return []callevent.Event{n.ringing()}
	case LineAnswered:
		return []callevent.Event{n.lineAnswered()}
	case ExternalAnswered:
		return []callevent.Event{n.externalAnswered()}
	case LineHangup:
		return []callevent.Event{n.hangup()}
	case Pickup:
		return []callevent.Event{n.whole(callevent.Pickup)}
	case CallEnd:
		return n.end()
	default:
		return []callevent.Event{n.progress(n.line)}
	}
}

// whole is an event of the call as a whole.
func (n *notification) whole(t callevent.Type) callevent.Event {
	e := n.base
	e.Type, e.Caller, e.Called = t, n.caller, n.called
	if !n.called.Local {
		e.DID = n.called.Number
	}
	return e
}

// progress shows what changes nothing; on the leg of a line, where there is one.
func (n *notification) progress(line string) callevent.Event {
	e := n.base
	e.Type, e.WireStatus, e.Side = callevent.Progress, n.wire, line
	if line != "" {
		e.Source = source(line)
	}
	return e
}

func source(line string) callevent.Source {
	return callevent.Source{Type: callevent.Phone, Number: line}
}

// inward is an event of the leg that rings a line.
func (n *notification) inward(t callevent.Type, line string) callevent.Event {
	e := n.base
	e.Type, e.Side, e.Flow, e.Source, e.Caller = t, line, callevent.FlowIn, source(line), n.caller
	e.Called = callevent.Party{Number: line, Extension: line, Name: n.lineName, Local: true}
	if !n.called.Local {
		e.DID = n.called.Number
	}
	return e
}

// outward is an event of the leg with which a line calls somebody.
func (n *notification) outward(t callevent.Type, line string) callevent.Event {
	e := n.base
	e.Type, e.Side, e.Flow, e.Source, e.Caller, e.Called = t, line, callevent.FlowOut, source(line), n.caller, n.called
	switch {
	case line == "": // it is told only by its public number
		e.Side, e.Source = n.caller.Number, n.base.Source
	case e.Caller.Number == "", e.Caller.Extension == "":
		e.Caller = callevent.Party{Number: line, Extension: line, Name: cmp.Or(n.caller.Name, n.lineName), Local: true}
	}
	return e
}

// outside is an event of the leg with which a call from outside goes on to an outside number.
func (n *notification) outside(t callevent.Type) callevent.Event {
	e := n.base
	e.Type, e.Side, e.Flow, e.Level = t, "outside/"+n.called.Number, callevent.FlowOut, callevent.LevelOutside
	e.Caller, e.Called, e.Transferred = n.caller, n.called, true
	if n.transfer != "" {
		e.Caller.Extension = n.transfer
	}
	return e
}

// dial is a call's beginning, or its going on to another number: of a transferred call, and of one
// that has been forwarded.
func (n *notification) dial() callevent.Event {
	switch {
	case n.transfer != "" && n.called.Local:
		e := n.inward(callevent.DialIn, n.called.Number)
		e.Transferred, e.Caller.Extension, e.Lapses = true, n.transfer, true
		return e
	case n.transfer != "" && n.called.Number != "":
		return n.outside(callevent.DialOut)
	case n.callerType == "internal" && n.untold(): // of the line; the ring or the answer will tell
		e := n.progress("")
		e.Caller = n.caller
		return e
	case n.madeInside() && n.caller.Local:
		return n.outward(callevent.DialOut, n.caller.Extension)
	case n.callerType == "originate" || n.callerType == "dialer":
		return n.outside(callevent.DialOut)
	case n.name == Dial && n.called.Local: // the other dialects tell of the ring
		e := n.inward(callevent.DialIn, n.called.Number)
		e.Lapses = true
		return e
	}
	e := n.whole(callevent.CallStart)
	e.Flow = callevent.FlowIn
	return e
}

// madeInside reports whether a line or the information system made the call. Unknown types of
// callers are outside; 2019 has no types.
func (n *notification) madeInside() bool {
	switch n.callerType {
	case "internal", "originate", "dialer", "":
		return true
	default:
		return false
	}
}

// untold reports whether the beginning of the call did not say which line makes it: lines may show
// their public numbers there.
func (n *notification) untold() bool {
	return n.caller.Extension == "" || n.name != Dial && n.shown != n.caller.Extension
}

// ofCaller reports whether the event is about the line that makes the call, which for a call of the
// information system is rung first.
func (n *notification) ofCaller() bool {
	return n.direction == "outgoing" || n.line == n.caller.Number && !n.fromOutside() || n.callerType == "originate" && !n.caller.Local
}

// ringing tells lines and outside numbers apart: the vendor's page gives the same path for both.
func (n *notification) ringing() callevent.Event {
	switch {
	case n.line == "" && n.name == ExternalRinging && n.called.Number != "" && !n.caller.Local:
		return n.outside(callevent.DialOut)
	case n.line != "" && n.direction == "outgoing" && n.callerType == "internal" && n.untold():
		return n.outward(callevent.DialOut, n.line)
	case n.line == "", n.name == ExternalRinging, n.ofCaller():
		e := n.progress(n.line)
		if !n.called.Guessed {
			e.Called = n.called
		}
		return e
	}
	e := n.inward(callevent.DialIn, n.line)
	e.Status, e.Lapses = callevent.StatusRinging, true
	return e
}

// lineAnswered is the handset that was lifted; of the line that makes the call it is not yet the
// answer.
func (n *notification) lineAnswered() callevent.Event {
	if n.line == "" || n.ofCaller() {
		return n.progress(n.line)
	}
	e := n.inward(callevent.Answer, n.line)
	e.Status = callevent.StatusAnswered
	return e
}

func (n *notification) externalAnswered() callevent.Event {
	line := cmp.Or(n.line, n.caller.Extension)
	var e callevent.Event
	switch {
	case (line != "" || n.caller.Local) && n.madeInside():
		e = n.outward(callevent.Answer, line)
	case n.called.Number != "":
		e = n.outside(callevent.Answer)
	default:
		return n.progress(line)
	}
	e.Status = callevent.StatusAnswered
	return e
}

func (n *notification) hangup() callevent.Event {
	if n.line == "" {
		return n.progress("")
	}
	e := n.base
	e.Type, e.Side, e.Source = callevent.Hangup, n.line, source(n.line)
	e.Called = callevent.Party{Number: n.line, Extension: n.line, Name: n.lineName, Local: true}
	return e
}

// end closes the call, and makes up for answers that were lost: answering_exten names the line that
// answered last, and of a line's own call call_answered tells of the far side. Of a call that the
// information system made it may tell of the handset.
func (n *notification) end() []callevent.Event {
	e := n.whole(callevent.CallEnd)
	answered, known := boolean(n.text(Answered))
	if !known {
		n.keep(Answered)
	}
	by, tried := n.number(AnsweringLine), n.number(LastDialledLine)
	events := []callevent.Event{e}
	switch n.callerType {
	case "originate", "dialer":
		events[0].Flow = callevent.FlowOut
	case "internal":
		events[0].Flow = callevent.FlowOut
		if answered && n.caller.Extension != "" {
			events = append(events, n.hasAnswered(n.caller.Extension))
		}
		if by != "" && by != n.caller.Extension {
			events = append(events, n.hasAnswered(by))
		}
	case "":
		events[0].Missed = callevent.MissedUnlessAnswered
	default:
		events[0].Flow = callevent.FlowIn
		n.decide(&events[0], answered, known, by, tried)
		if by != "" {
			events = append(events, n.hasAnswered(by))
		} else if tried != "" {
			events[0].Source = source(tried) // where the caller was last
		}
	}
	return events
}

// decide says whether a call from outside was taken. That call_answered is set without an answering
// line may be the voice menu's doing.
func (n *notification) decide(e *callevent.Event, answered, known bool, by, tried string) {
	switch {
	case !known, answered && by == "" && tried != "":
		e.Missed = callevent.MissedUnlessAnswered
	case answered && by == "" && n.dialect.selfService:
		e.Missed = callevent.MissedUnlessAnswered
	case answered && by == "":
		e.Missed = callevent.MissedIfTried
	default:
		e.Bridged = &answered
	}
}

func (n *notification) hasAnswered(line string) callevent.Event {
	e := n.inward(callevent.HasAnswered, line)
	if line == n.caller.Extension {
		e = n.outward(callevent.HasAnswered, line)
	}
	e.ID += "/answered/" + line
	return e
}

// boolean reads t and f, and what other installations may send. An empty one is unknown.
func boolean(wire string) (value, known bool) {
	switch strings.ToLower(wire) {
	case "t", "true", "1", "yes":
		return true, true
	case "f", "false", "0", "no":
		return false, true
	default:
		return false, false
	}
}
