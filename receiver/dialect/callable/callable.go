// Package callable understands the events that Callable posts about calls. The rules come from the
// vendor page "The Generic Event", where not said otherwise.
//
// A call has three levels. The A leg enters Callable and lasts as long as the call; its own answer
// proves no more than that Callable took it. B legs go out to a PBX, a device or an outside number.
// Behind a B leg, a listener tells of the devices of the customer's PBX: the talk is theirs where
// it does.
package callable

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/charset"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/form"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/number"
)

// Config is what the events do not tell.
type Config struct {
	// OwnNumbers are the account's public numbers, in E.164 with or without plus. A number that
	// ends in * stands for all that begin so.
	OwnNumbers []string
	// OwnDomains are the domains of the account's devices and PBXs. Default: every URI is one of
	// the account's.
	OwnDomains []string
	// SelfServiceIsMissed takes a call from outside for which no B leg was tried as missed. By
	// default the caller is taken to have got what he wanted of the voice menu.
	SelfServiceIsMissed bool
}

// Dialect decodes Callable's events. The zero value knows no own numbers; it is ready for use, by
// many goroutines at once.
type Dialect struct {
	config Config
}

// New returns the dialect of an account.
func New(config Config) *Dialect { return &Dialect{config: config} }

// Decode turns one notification into one event for each object in it. Events and statuses that no
// document lists are kept. It fails only where it cannot tell what happened in which call, or when.
func (d *Dialect) Decode(request callevent.Request) ([]callevent.Event, error) {
	objects, err := objectsOf(request)
	if err != nil {
		return nil, err
	}
	events := make([]callevent.Event, 0, len(objects))
	for i, raw := range objects {
		event, err := d.event(raw, request)
		if err != nil {
			return nil, fmt.Errorf("event %d of %d: %w", i+1, len(objects), err)
		}
		events = append(events, event)
	}
	return events, nil
}

// objectsOf takes the events from the body, or from the query where the body says nothing.
func objectsOf(request callevent.Request) ([]json.RawMessage, error) {
	if request.Query == "" || !form.Blank(request.Body) {
		return split(charset.UTF8(request.Body, request.ContentType))
	}
	members := map[string]json.RawMessage{}
	err := form.Walk(request, func(name, value string) error {
		text, err := json.Marshal(value)
		if members[name] = text; strings.HasPrefix(value, "{") && json.Valid([]byte(value)) { // meta
			members[name] = json.RawMessage(value)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	object, err := json.Marshal(members)
	return []json.RawMessage{object}, err
}

// split accepts one object, which is documented, and an array of them.
func split(body string) ([]json.RawMessage, error) {
	text := []byte(strings.TrimSpace(body))
	if len(text) == 0 {
		return nil, errors.New("the body is empty: expected a JSON object with parentCallSid, callSid, event and status")
	}
	if text[0] != '[' {
		return []json.RawMessage{text}, nil
	}
	var objects []json.RawMessage
	if err := json.Unmarshal(text, &objects); err != nil {
		return nil, fmt.Errorf("not a JSON array of events: %w", err)
	}
	if len(objects) == 0 {
		return nil, errors.New("the array is empty: expected at least one event")
	}
	return objects, nil
}

// notice is one object, as far as it is understood.
type notice struct {
	parent, call, child string
	event, status       string
	from, to, extension string
	at                  time.Time
	attributes          map[string]string
}

func (d *Dialect) event(raw json.RawMessage, request callevent.Request) (callevent.Event, error) {
	n, err := read(raw)
	if err != nil {
		return callevent.Event{}, err
	}
	event := callevent.Event{
		CallID: n.parent, Source: request.Source, Time: n.at, Received: request.ReceivedAt.UTC(), WireStatus: n.status,
		Caller: d.party(n.from), Called: d.party(n.to), Attributes: n.attributes, TransfersUntold: true,
	}
	withhold(&event, n)
	switch {
	case event.Time.IsZero() && event.Received.IsZero():
		return event, errors.New("the event has no usable timestamp (milliseconds since 1970) and no time of receipt: one of them is needed")
	case event.Time.IsZero():
		event.Time = event.Received
	case request.ReceivedAt.IsZero():
		event.Received = event.Time
	}
	event.ID = strings.Join([]string{n.call, n.child, n.extension, n.event, n.status, event.Time.Format(time.RFC3339Nano)}, "/")
	event.Flow = flow(&event)
	d.place(&event, n)
	return event, nil
}

// flow is the direction of the A leg and of B legs. It is not told: what the account owns decides.
func flow(event *callevent.Event) callevent.Flow {
	switch {
	case event.Caller.Local, event.Caller.Own:
		return callevent.FlowOut
	case event.Called.Local, event.Called.Own:
		return callevent.FlowIn
	default:
		return callevent.FlowUnknown
	}
}

// place finds the level of an event, and what it says there.
func (d *Dialect) place(event *callevent.Event, n *notice) {
	switch {
	case n.parent == "": // a call within the customer's PBX, of which Callable knows nothing else
		event.Type, event.WireStatus = callevent.Other, n.event+"/"+n.status
	case n.child != "" || n.event == "phone" || n.event == "extension":
		device(event, n)
	case n.event == "record":
		event.LegID, event.ParentLegID = n.call, n.parent
		event.RecordingID = n.call // nothing else names it
		event.Type, event.WireStatus = callevent.Progress, "record/"+n.status
	case n.call == n.parent:
		event.LegID, event.Level = n.call, callevent.LevelEntry
		state(event, n)
		if event.Flow == callevent.FlowIn && !strings.Contains(event.Called.Number, "@") {
			event.DID = event.Called.Number
		}
		if event.Type == callevent.Hangup {
			event.Missed = callevent.MissedIfTried
			if d.config.SelfServiceIsMissed {
				event.Missed = callevent.MissedUnlessAnswered
			}
		}
	default:
		event.LegID, event.ParentLegID = n.call, n.parent
		state(event, n)
	}
}

// state draws what an event of level 1 or 2 says. Only completed and failed are documented ends;
// the others are those that platforms of this kind send. Completed is no success by itself: a leg
// that was never in progress completes too.
func state(event *callevent.Event, n *notice) {
	event.Type = callevent.DialIn
	if event.Flow == callevent.FlowOut {
		event.Type = callevent.DialOut
	}
	if n.event != "call" {
		event.Type, event.WireStatus = callevent.Progress, n.event+"/"+n.status
		return
	}
	switch n.status {
	case "trying":
		event.Status = callevent.StatusCalling
	case "ringing":
		event.Status = callevent.StatusRinging
	case "in-progress":
		event.Type, event.Status = callevent.Answer, callevent.StatusAnswered
	default:
		end(event, n.status)
	}
}

func end(event *callevent.Event, status string) {
	event.Type = callevent.Hangup
	switch status {
	case "completed":
		event.Status = callevent.StatusUnspecified
	case "failed", "error", "unavailable", "congestion":
		event.Status = callevent.StatusFailed
	case "busy", "rejected", "declined":
		event.Status = callevent.StatusBusy
	case "no-answer", "noanswer", "timeout":
		event.Status = callevent.StatusNoAnswer
	case "canceled", "cancelled":
		event.Status = callevent.StatusCancelled
	default:
		event.Type = callevent.Progress
	}
}

// device is an event of level 3. The PBX may keep its id when the call moves to another device, so
// that a leg is told by both. A device that parks the call leaves it. What is said of the extension
// counts only where nothing is said of the phone.
func device(event *callevent.Event, n *notice) {
	event.Level, event.ParentLegID = callevent.LevelDevice, n.call
	event.Side = n.call + "/" + n.child + "/" + n.extension
	event.Source = callevent.Source{Type: callevent.Phone, Number: n.extension}
	event.Secondary = n.event == "extension"
	event.Type = callevent.Progress
	if n.event != "phone" && n.event != "extension" {
		event.WireStatus = n.event + "/" + n.status
		return
	}
	switch n.status {
	case "connected":
		event.Type, event.Status = callevent.Answer, callevent.StatusAnswered
	case "disconnected", "parked":
		event.Type, event.Status = callevent.Hangup, callevent.StatusUnspecified
	default:
		event.WireStatus = n.event + "/" + n.status
	}
}

// party is one side of a leg: a number, or a URI with or without scheme and display name.
func (d *Dialect) party(shown string) callevent.Party {
	address := number.Address(number.Clean(shown))
	user, domain, isURI := strings.Cut(address, "@")
	if isURI {
		p := callevent.Party{Number: address, Local: d.ownsDomain(domain)}
		if p.Local {
			p.Extension = user
		}
		return p
	}
	digits := strings.TrimPrefix(address, "+")
	return callevent.Party{Number: digits, Own: d.owns(digits)}
}

// withhold takes the caller's number as hidden where Callable says so, or puts the number that was
// called in its place.
func withhold(event *callevent.Event, n *notice) {
	if number.Withheld(n.from) || event.Caller.Number == event.Called.Number {
		event.Caller = callevent.Party{Withheld: true}
	}
}

// ownsDomain reports whether a domain is one of the account's. The domain .invalid is nobody's,
// whatever the account says.
func (d *Dialect) ownsDomain(domain string) bool {
	if number.Nobodys(domain) {
		return false
	}
	domain, _, _ = strings.Cut(domain, ":")
	for _, own := range d.config.OwnDomains {
		if strings.EqualFold(own, domain) {
			return true
		}
	}
	return len(d.config.OwnDomains) == 0
}

func (d *Dialect) owns(digits string) bool {
	for _, own := range d.config.OwnNumbers {
		own = strings.TrimPrefix(own, "+")
		prefix, isRange := strings.CutSuffix(own, "*")
		if own == digits || isRange && strings.HasPrefix(digits, prefix) {
			return digits != ""
		}
	}
	return false
}

const (
	idLength   = 80 // three of them make the id of a leg
	textLength = 256
)

// check refuses what cannot be shown in a CallLeg, as an id that is cut becomes another.
func (n *notice) check() error {
	switch {
	case n.parent == "" && n.call == "":
		return errors.New("parentCallSid and callSid are missing: expected the ids of the call (its A leg) and of the leg")
	case n.event == "":
		return errors.New("event is missing: expected call, record, phone or extension")
	}
	for name, id := range map[string]string{
		"parentCallSid": n.parent, "callSid": n.call, "childSid": n.child, "extension": n.extension, "event": n.event, "status": n.status,
	} {
		if len(id) > idLength {
			return fmt.Errorf("%s has %d bytes: at most %d are expected", name, len(id), idLength)
		}
	}
	for name, text := range map[string]string{"from": n.from, "to": n.to} {
		if len(text) > textLength {
			return fmt.Errorf("%s has %d bytes: at most %d are expected", name, len(text), textLength)
		}
	}
	return nil
}

// read takes an object apart. Names are compared without case; null is the same as nothing.
func read(raw json.RawMessage) (*notice, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return nil, fmt.Errorf("not a JSON object: %w", cmp.Or(err, errors.New("expected one with parentCallSid, callSid, event and status")))
	}
	n := &notice{}
	texts := map[string]*string{
		"parentcallsid": &n.parent, "callsid": &n.call, "childsid": &n.child, "event": &n.event, "status": &n.status,
		"from": &n.from, "to": &n.to, "extension": &n.extension,
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		value, known := members[name], false
		switch lower := strings.ToLower(name); lower {
		case "timestamp":
			n.at, known = moment(value)
		case "meta":
			known = n.tag(value)
		case "type":
			known = text(value) == "voice"
		case "accountid", "accountname": // who the integration is for
			known = true
		default:
			if target := texts[lower]; target != nil {
				*target, known = text(value), true
			}
		}
		if !known {
			n.keep(name, value)
		}
	}
	n.event, n.status = strings.ToLower(n.event), strings.ToLower(n.status)
	n.call = cmp.Or(n.call, n.parent)
	return n, n.check()
}

// keep stores what is not understood: text as it is, anything else as JSON.
func (n *notice) keep(name string, value json.RawMessage) {
	plain := text(value)
	if plain == "" {
		return
	}
	n.attribute(name, plain)
}

func (n *notice) attribute(name, value string) {
	if n.attributes == nil {
		n.attributes = map[string]string{}
	}
	n.attributes[name] = value
}

// text is a member as text; numbers are taken as they are written, null is nothing.
func text(value json.RawMessage) string {
	var plain *string
	if json.Unmarshal(value, &plain) == nil {
		if plain == nil {
			return ""
		}
		return *plain
	}
	return strings.ToValidUTF8(string(value), "\uFFFD")
}

// tag reads the call tags; texts only, as documented.
func (n *notice) tag(value json.RawMessage) (known bool) {
	var tags map[string]string
	if err := json.Unmarshal(value, &tags); err != nil {
		return false
	}
	for name, text := range tags {
		n.attribute("tag."+name, text)
	}
	return true
}

// moment reads milliseconds since 1970, as a number or as text.
func moment(value json.RawMessage) (time.Time, bool) {
	var millis json.Number
	if err := json.Unmarshal(value, &millis); err != nil {
		return time.Time{}, false
	}
	n, err := millis.Int64()
	if err != nil {
		return time.Time{}, false
	}
	at := time.UnixMilli(n).UTC()
	if at.Year() < 2000 || at.Year() >= 2200 {
		return time.Time{}, false
	}
	return at, true
}
