package scenario

import (
	"net/url"
	"strconv"
)

// party is one end of a leg: an extension or an outside number.
type party struct {
	number    string
	name      string
	extension *Extension
}

func (y *symbols) party(name string) (party, bool) {
	if x, ok := y.cast.Extensions[name]; ok {
		return party{number: x.Number, name: x.Label, extension: &x}, true
	}
	number, ok := y.cast.Values[name]
	return party{number: number, name: number}, ok
}

// ringme builds the parameters of RingMe's notifications ("Extension Number Events", sections 6.2
// to 6.6 of the reference). Events without a leg (agents, phone status) carry nothing but what the
// scenario sets.
func ringme(y *symbols, s Scenario, l leg, e event) wire {
	v := url.Values{}
	if e.Leg != "" {
		identity(v, y, l)
		observation(v, y, l, e)
		for name, value := range l.Set {
			v.Set(name, y.expand(value))
		}
	}
	for name, value := range e.Set {
		v.Set(name, y.expand(value))
	}
	return wire{params: v, rawPlus: s.quirks["rawPlus"] != ""}
}

// identity sets what every event of a leg repeats.
func identity(v url.Values, y *symbols, l leg) {
	api := l.API
	if api == "" {
		api = l.Call
	}
	v.Set("CallID", y.id(l.Call))
	v.Set("SubCallID", y.legID(l))
	v.Set("CallAPIID", y.cast.Values["node"]+"-"+dashed(y.id(api)))
	v.Set("CallFlow", l.Flow)

	caller, _ := y.party(l.Caller)
	v.Set("CallerIDNum", caller.number)
	if caller.name != "" {
		v.Set("CallerIDName", caller.name)
	}
	if x, ok := y.cast.Extensions[l.Via]; ok {
		caller.extension = &x
	}
	setExtension(v, "CallerExtension", y.at(caller.extension))

	called, _ := y.party(l.Called)
	v.Set("CalledNumber", called.number)
	setExtension(v, "CalledExtension", y.at(called.extension))
	if l.DID {
		v.Set("CalledDID", y.cast.Values["did"])
	}
	if l.Callback != "" {
		v.Set("CallBackID", y.id(l.Callback))
	}
}

// at is an extension under the domain of this installation.
func (y *symbols) at(x *Extension) *Extension {
	domain := y.cast.Values["domain"]
	if x == nil || domain == "" {
		return x
	}
	moved := *x
	moved.Domain = domain
	return &moved
}

func setExtension(v url.Values, name string, x *Extension) {
	if x == nil {
		return
	}
	v.Set(name, x.SIP())
	v.Set(name+"ID", x.ID)
}

// observation sets what belongs to this event alone.
func observation(v url.Values, y *symbols, l leg, e event) {
	v.Set("EventType", e.Type)
	v.Set("EventTime", strconv.FormatInt(y.now.UnixMicro(), 10))
	v.Set("CallStatus", status(e))
	if l.Remote != "" && isDial(e.Type) {
		remote, _ := y.party(l.Remote)
		v.Set("RemoteNumber", remote.number)
	}
	if e.Talk != nil {
		v.Set("Duration", strconv.FormatInt(seconds(*e.Talk).Microseconds(), 10))
	}
	if e.Record != "" && e.RecordLate == 0 {
		v.Set("RecID", y.extension(l.Sender).ID+"-"+y.id(e.Record))
	}
	if e.Bridged != nil {
		v.Set("Bridged", map[bool]string{true: "yes", false: "no"}[*e.Bridged])
	}
}

func isDial(eventType string) bool { return eventType == "dial-in" || eventType == "dial-out" }

func status(e event) string {
	switch {
	case e.Status != "":
		return e.Status
	case isDial(e.Type):
		return "CALLING"
	default:
		return "ANSWER"
	}
}
