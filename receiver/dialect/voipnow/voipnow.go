// Package voipnow understands the Call Events of 4PSA VoipNow. The rules come from the vendor pages
// "How to integrate VoipNow with remote applications using Call Events" and "VoipNow Call Events",
// where not said otherwise.
//
// A notification has neither a type nor a time, a duration or the id of a leg. The type is the last
// segment of the event URL; the time is that of receipt; a leg is the extension's side of the call,
// in one direction, and each dial event begins another attempt. Where one URL was registered for
// all types, CallStatus and CallFlow tell most of them.
package voipnow

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/form"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/number"
)

// repeat is how long after it an identical notification is the same event. The second attempt at an
// extension repeats all parameters of the first, but no phone rings that briefly.
const repeat = 3 * time.Second

// Dialect decodes VoipNow's notifications. The zero value is ready for use, by many goroutines at
// once.
type Dialect struct{}

// kind is what the URL says of an event.
type kind struct {
	event callevent.Type
	flow  callevent.Flow
}

var kinds = map[string]kind{
	"dial-in":    {callevent.DialIn, callevent.FlowIn},
	"dial-out":   {callevent.DialOut, callevent.FlowOut},
	"hangup":     {callevent.Hangup, callevent.FlowUnknown},
	"answer-in":  {callevent.Answer, callevent.FlowIn},
	"answer-out": {callevent.Answer, callevent.FlowOut},
}

// Decode turns one notification into one event. No parameter is guaranteed by the documents; it
// fails only where it cannot tell what happened in which call, or when.
func (Dialect) Decode(request callevent.Request) ([]callevent.Event, error) {
	f, err := form.Read(request)
	if err != nil {
		return nil, err
	}
	segment := strings.ToLower(strings.Trim(request.Path, "/"))
	if segment == "" {
		segment = typeOf(f)
	}
	k, ok := kinds[segment]
	if !ok {
		return nil, fmt.Errorf("the event URL ends in %.64q, and CallStatus is %.64q: expected /dial-in, /dial-out, /hangup, /answer-in or "+
			"/answer-out at the end of the URL, as a VoipNow event does not name its type", segment, f.Text("CallStatus"))
	}
	if request.ReceivedAt.IsZero() {
		return nil, errors.New("the time of receipt is missing: a VoipNow event has no time of its own")
	}
	event, err := decode(k, f, request)
	if err != nil {
		return nil, err
	}
	event.ID = segment + "/" + event.Side + "/" + f.Digest()
	event.Attributes = f.Rest()
	return []callevent.Event{event}, nil
}

// typeOf is the type of an event whose URL does not tell. Dial events say CALLING, answer events
// ANSWER, and hangups how the call ended; a hangup that says ANSWER too cannot be told from the
// answer, and is taken for its repetition. It is empty where nothing tells.
func typeOf(f *form.Form) string {
	directions := map[string]string{"in": "in", "out": "out"}
	direction, known := directions[strings.ToLower(f.Text("CallFlow"))]
	switch status := strings.ToUpper(f.Text("CallStatus")); {
	case status == "HANGUP", status == "UNKNOWN", ended(statusOf(status)):
		return "hangup"
	case !known:
		return ""
	case status == "CALLING":
		return "dial-" + direction
	case status == "ANSWER":
		return "answer-" + direction
	default:
		return ""
	}
}

// ended reports whether a status is that of a call that was not answered.
func ended(s callevent.Status) bool {
	return s == callevent.StatusBusy || s == callevent.StatusNoAnswer || s == callevent.StatusCancelled || s == callevent.StatusFailed
}

func decode(k kind, f *form.Form, request callevent.Request) (callevent.Event, error) {
	event := callevent.Event{
		Type: k.event, Source: request.Source, Time: request.ReceivedAt.UTC(), Received: request.ReceivedAt.UTC(), Repeat: repeat,
		WireStatus: f.Text("CallStatus"), DID: f.Number("CalledDID"), TransfersUntold: true, ByUser: true,
	}
	var err error
	if event.CallID, err = f.ID("CallID"); err != nil {
		return event, err
	}
	if event.CallID == "" {
		return event, errors.New("CallID is missing: expected the identifier of the call")
	}
	// The id of the call for UnifiedAPI, on every call. Of one that a request made it is the id
	// that the request was answered with.
	if event.ControlID, err = f.ID("CallAPIID"); err != nil {
		return event, err
	}
	event.CallBackID = event.ControlID
	event.Caller = party(f.Text("CallerIDNum"), f.Text("CallerIDName", "CallerIDNam"), f.Short("CallerExtension"))
	event.Called = party(f.Text("CalledNumber"), "", f.Short("CalledExtension"))
	callerShown := f.Has("CallerIDNum")
	event.Flow = flow(k, f, &event)
	if event.Source == (callevent.Source{}) {
		event.Source.Number = own(&event)
	}
	settle(&event)
	withhold(&event, callerShown)
	event.Side = cmp.Or(event.Source.Number, event.Source.ID) + "/" + string(event.Flow)
	state(&event)
	return event, nil
}

// settle says what the numbers are. A call that came in is for the extension: the number that was
// dialled is its public one, if any. A call between two extensions may show a public number as the
// caller's.
func settle(event *callevent.Event) {
	switch event.Flow {
	case callevent.FlowIn:
		const longest = 64
		if !event.Called.Local && len(event.Called.Number) <= longest {
			event.DID = cmp.Or(event.DID, event.Called.Number)
		}
		between := event.Caller.Extension != "" && event.Called.Extension != "" && event.DID == ""
		if between && !number.Public(event.Caller.Number) && !number.Withheld(event.Caller.Number) {
			event.Caller.Local = true
		}
		event.Called.Extension = cmp.Or(event.Called.Extension, event.Source.Number)
		if event.Called.Extension != "" {
			event.Called.Number, event.Called.Local = event.Called.Extension, true
		}
	case callevent.FlowOut:
		between := event.Caller.Extension != "" && event.Called.Extension != ""
		event.Caller.Local = event.Caller.Local || between
		if between || event.Called.Local && event.Called.Extension != "" {
			event.Called.Number, event.Called.Local = event.Called.Extension, true
		}
	case callevent.FlowUnknown:
	}
}

// state draws what the status says. IVRs and queues answer the call themselves, so that their
// status tells nothing of a talk: the phones' legs decide whether the call was missed.
func state(event *callevent.Event) {
	event.Status = statusOf(event.WireStatus)
	ofSystem := event.Source.Type == callevent.IVR || event.Source.Type == callevent.Queue
	switch {
	case event.Type == callevent.Hangup && ofSystem:
		event.Missed = callevent.MissedUnlessAnswered
	case event.Type == callevent.Hangup:
		event.StatusOfCall = event.Status == callevent.StatusAnswered
	case event.Type == callevent.Answer:
		// No document gives the status of an answer event; the event itself is the answer.
		switch event.Status { //nolint:exhaustive // the others contradict it
		case callevent.StatusCalling, callevent.StatusUnspecified:
			event.Status = callevent.StatusAnswered
		}
	}
}

// flow prefers what the URL says; CallFlow may say otherwise only of hangups.
func flow(k kind, f *form.Form, event *callevent.Event) callevent.Flow {
	said := f.Text("CallFlow")
	switch {
	case k.flow != callevent.FlowUnknown:
		return k.flow
	case strings.EqualFold(said, "in"):
		return callevent.FlowIn
	case strings.EqualFold(said, "out"):
		return callevent.FlowOut
	}
	f.Keep("CallFlow")
	if number := event.Source.Number; number != "" && number == event.Caller.Extension && number != event.Called.Extension {
		return callevent.FlowOut
	}
	return callevent.FlowIn
}

// own is the extension that sent an event whose URL does not tell.
func own(event *callevent.Event) string {
	if event.Flow == callevent.FlowOut {
		return event.Caller.Extension
	}
	return event.Called.Extension
}

// statusOf knows both lists: ANSWER and UNKNOWN of the older document, six values of the newer. A
// word of neither says as little as UNKNOWN.
func statusOf(wire string) callevent.Status {
	switch strings.ToUpper(wire) {
	case "CALLING":
		return callevent.StatusCalling
	case "ANSWER":
		return callevent.StatusAnswered
	case "BUSY":
		return callevent.StatusBusy
	case "NOANSWER":
		return callevent.StatusNoAnswer
	case "CANCEL":
		return callevent.StatusCancelled
	case "CONGESTION", "CHANUNAVAIL":
		return callevent.StatusFailed
	default:
		return callevent.StatusUnspecified
	}
}

// party is one side of a call. Its number is an extension in the extended form yyyy*zzz, or in a
// form of the extension given: brands that leave the asterisk out show the end of it (2001 of
// 2007102001).
func party(shown, name, extension string) callevent.Party {
	extension = number.WithoutDomain(number.Clean(extension))
	shown = number.Clean(shown)
	if local := number.WithoutDomain(shown); number.Extended(local) || number.Names(local, extension) {
		shown = local
	}
	return callevent.Party{
		Number: shown, Name: number.Clean(name), Extension: extension, Local: number.Extended(shown) || number.Names(shown, extension),
	}
}

// withhold takes the caller's number as hidden where the PBX says so, or puts one of its own in the
// place: a call that came through a public number has no extension for a caller. Local calls have
// none (V6 of the reference).
func withhold(event *callevent.Event, sent bool) {
	caller := &event.Caller
	ours := caller.Local && event.Flow == callevent.FlowIn && (number.Public(event.DID) || caller.Number == event.Called.Number)
	silent := caller.Number == "" && (event.Flow == callevent.FlowIn && number.Public(event.DID) || sent)
	if ours || silent || caller.Number != "" && number.Withheld(caller.Number) {
		if ours { // so is the name
			caller.Name = ""
		}
		local := caller.Local && event.Flow == callevent.FlowOut
		caller.Number, caller.Local, caller.Withheld = "", local, true
	}
}
