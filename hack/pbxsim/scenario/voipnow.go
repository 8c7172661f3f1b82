package scenario

import (
	"cmp"
	"net/url"
	"strings"
)

// voipNowCast is the cast of the VoipNow reference: phones 101 to 103, IVR 099, queue 900.
func voipNowCast() Cast {
	ext := func(number, id string, t ExtensionType, label string) Extension {
		return Extension{Number: "0007*" + number, ID: id, Type: t, Domain: "pbx.example.com", Label: label}
	}
	return Cast{
		Extensions: map[string]Extension{
			"101": ext("101", "7101", Phone, "Desk One"),
			"102": ext("102", "7102", Phone, "Desk Two"),
			"103": ext("103", "7103", Phone, "Desk Three"),
			"099": ext("099", "7099", IVR, "Main menu"),
			"900": ext("900", "7900", Queue, "Sales"),
		},
		Values: map[string]string{
			"customer": "12025550143", "other": "12025550177", "did": "12025550100", "client": "7",
		},
	}
}

// voipNow builds the parameters of VoipNow's notifications ("VoipNow Call Events", section 6.2 of
// the reference). The event itself is named by nothing but the URL that was registered for it.
func voipNow(y *symbols, s Scenario, l leg, e event) wire {
	caller, _ := y.party(l.Caller)
	called, _ := y.party(l.Called)
	if x, ok := y.cast.Extensions[l.Via]; ok {
		caller.extension = &x
	}
	v := url.Values{
		"CallID": {y.id(l.Call)}, "CallFlow": {l.Flow}, "CallStatus": {status(e)},
		"CallerIDNum": {caller.number}, "CallerIDName": {caller.name}, "CalledNumber": {called.number},
	}
	if caller.extension != nil {
		v.Set("CallerExtension", caller.extension.Number)
	}
	if called.extension != nil {
		v.Set("CalledExtension", called.extension.Number)
	}
	if l.DID {
		v.Set("CalledDID", y.cast.Values["did"])
	}
	if dialled, ok := y.party(l.Dialled); ok {
		v.Set("CalledNumber", dialled.number)
	}
	if api := cmp.Or(l.API, y.cast.Values["api"]); api != "" {
		v.Set("CallAPIID", VoipNowCallAPIID(y.seed, api))
	}
	for _, set := range []map[string]string{l.Set, e.Set} {
		for name, value := range set {
			v.Set(name, y.expand(value))
		}
	}
	if separator, ok := y.cast.Values["separator"]; ok {
		separate(v, separator)
	}
	w := wire{params: v, path: "/" + e.Type, rawPlus: s.quirks["rawPlus"] != ""}
	if s.quirks["oneURL"] != "" {
		w.path = ""
	}
	return w
}

// separate writes extensions as brands do that leave the asterisk out, or have another sign in its
// place.
func separate(v url.Values, separator string) {
	for _, name := range []string{"CallerIDNum", "CalledNumber", "CallerExtension", "CalledExtension"} {
		if v.Has(name) {
			v.Set(name, strings.Replace(v.Get(name), "*", separator, 1))
		}
	}
}

// VoipNowCallAPIID is the id under which UnifiedAPI knows a call, made from a symbol such as A1.
func VoipNowCallAPIID(seed, symbol string) string { return "pc" + ID(seed, symbol)[:14] }

// voipNowProfile is an event on a VoipNow 3 of the early kind: no answer events, and a hangup says
// ANSWER or UNKNOWN.
func voipNowProfile(name string, e event) event {
	if name != "early" {
		return e
	}
	if strings.HasPrefix(e.Type, "answer") {
		e.hidden = true
	}
	if e.Type == "hangup" && cmp.Or(e.Status, "ANSWER") != "ANSWER" {
		e.Status = "UNKNOWN"
	}
	return e
}

var (
	voipNowAnswers = map[string]bool{"answer-in": true, "answer-out": true}
	voipNowEnds    = map[string]bool{"hangup": true}
)

// voipNowDrop hangs up every open leg; IVRs and queues took their call themselves.
func voipNowDrop(s Scenario, happened []event) []event {
	open := unfinished(happened, voipNowAnswers, voipNowEnds)
	out := make([]event, 0, len(open))
	for _, l := range open {
		e := event{Leg: l.name, Type: "hangup"}
		sender := s.legs[l.name].Sender
		if x := voipNowCast().Extensions[sender]; !l.answered && x.Type == Phone {
			e.Status = "CANCEL"
		}
		out = append(out, e)
	}
	return out
}
