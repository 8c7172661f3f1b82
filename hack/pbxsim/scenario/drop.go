package scenario

import (
	"maps"
	"slices"
	"strconv"
	"time"
)

// Leg is what was emitted so far of one leg.
type Leg struct {
	Sender Extension
	Dial   Notification  // the leg's first event
	Answer *Notification // nil while it rings
	Hangup *Notification // nil while it lasts
}

// Legs groups what was emitted of one call by leg, in order of their first events. It knows the
// events of RingMe, VoipNow and LinuxBox.
func Legs(emitted []Notification) []Leg {
	var legs []Leg
	index := map[string]int{}
	for i, n := range emitted {
		if n.LegID == "" {
			continue
		}
		at, ok := index[n.LegID]
		if !ok {
			at = len(legs)
			index[n.LegID] = at
			legs = append(legs, Leg{Sender: n.Sender, Dial: n})
		}
		switch n.EventType {
		case "answer", "answer-in", "answer-out", "answer_internal", "answered_internal":
			legs[at].Answer = &emitted[i]
		case "hangup", "hangup_internal", "release":
			legs[at].Hangup = &emitted[i]
		}
	}
	return legs
}

// Drop returns the hangups with which RingMe ends every open leg of a call that somebody
// interrupts: answered legs end with ANSWER and their talk time, ringing ones with CANCEL, IVRs and
// queues say whether a phone took the call.
func Drop(emitted []Notification, at time.Time) []Notification {
	legs := Legs(emitted)
	bridged := slices.ContainsFunc(legs, func(l Leg) bool { return l.Answer != nil && l.Sender.Type == Phone })
	var out []Notification
	for _, l := range legs {
		if l.Hangup == nil {
			out = append(out, l.hangup(at, bridged))
		}
	}
	return out
}

func (l Leg) hangup(at time.Time, bridged bool) Notification {
	n := l.Dial
	n.At, n.Offset = at, l.Dial.Offset+at.Sub(l.Dial.At)
	n.EventType = "hangup"
	n.Params = maps.Clone(l.Dial.Params)
	n.Params.Del("RemoteNumber")
	n.Params.Set("EventType", "hangup")
	n.Params.Set("EventTime", strconv.FormatInt(at.UnixMicro(), 10))
	switch {
	case l.Answer != nil:
		n.Params.Set("CallStatus", "ANSWER")
		n.Params.Set("Duration", strconv.FormatInt(at.Sub(l.Answer.At).Microseconds(), 10))
	case l.Sender.Type == Phone || n.Params.Get("CallFlow") == "out":
		n.Params.Set("CallStatus", "CANCEL")
		n.Params.Set("Duration", "0")
	default:
		n.Params.Set("CallStatus", "ANSWER")
		n.Params.Set("Bridged", map[bool]string{true: "yes", false: "no"}[bridged])
	}
	return n
}
