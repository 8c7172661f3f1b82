package correlation

import (
	"cmp"
	"slices"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// waiting is the caller's own side of an inbound call: what IVRs and queues say of him. What a
// queue says of its agents is not among it.
type waiting struct {
	events    []*event
	deciding  *event    // the event that says that nobody took the call, or that he gave up, and that outranks the others
	bridged   bool      // some IVR or queue says that an extension took the call
	unbridged bool      // some IVR or queue says that none did
	last      time.Time // when the last of those that can decide was sent

	backfilled bool // the history tells of it
	left       bool // the history tells that he left, and not only of a leg after which the call may have gone on
}

// ofWaiting reports whether a leg's events belong to an IVR or a queue. Where the URL does not
// tell, Bridged does: only they send it.
func ofWaiting(events []*event) bool {
	switch events[0].Source.Type {
	case callevent.IVR, callevent.Queue:
		return true
	case callevent.Phone:
		return false
	case callevent.SourceUnknown:
	}
	return slices.ContainsFunc(events, func(e *event) bool { return e.Bridged != nil })
}

// forwardsOut reports whether this is the leg with which a queue or IVR sends the call on to an
// outside number: marked as forwarded, or by a PBX that marks nothing. What a queue says of its
// agents has neither (RingMe: Extension Number Events).
func forwardsOut(events []*event) bool {
	return slices.ContainsFunc(events, func(e *event) bool {
		return e.Flow == callevent.FlowOut && (e.Transferred || e.TransfersUntold) && e.Called.Number != "" && !e.Called.Local && e.Called.Extension == ""
	})
}

func (w *waiting) join(events []*event, facts *facts) {
	for _, e := range events {
		if e.Flow == callevent.FlowOut && e.Type != callevent.Progress {
			continue
		}
		w.events = append(w.events, e)
		w.hear(e, facts)
	}
}

func (w *waiting) hear(e *event, facts *facts) {
	if e.Type != callevent.Hangup && e.Type != callevent.CallEnd {
		return
	}
	w.bridged = w.bridged || e.Bridged != nil && *e.Bridged
	w.unbridged = w.unbridged || e.Bridged != nil && !*e.Bridged
	if !facts.undecided(e) {
		return
	}
	w.last = later(w.last, e.Time)
	if w.deciding == nil || outrules(e, w.deciding) {
		w.deciding = e
	}
}

// outrules orders the hangups with Bridged=no: a queue outranks an IVR, and of several queues the
// last one counts (RingMe: Hangup analysis and logic of events).
func outrules(a, b *event) bool {
	if isQueue(a) != isQueue(b) {
		return isQueue(a)
	}
	return chronological(a, b) > 0
}

func isQueue(e *event) bool { return e.Source.Type == callevent.Queue }

// leg is the caller's leg: Missed, or withdrawn because somebody took the call after all. Its id is
// that of the call, so that it stays the same whichever hangup decides.
func (w *waiting) leg(taken bool, facts *facts) Leg {
	slices.SortFunc(w.events, chronological)
	e := w.deciding
	caller, called := &e.Caller, &e.Called
	if ofCall(e) && facts.caller != nil {
		caller, called = facts.caller, facts.called
	}
	leg := Leg{
		CallID: e.CallID, LegID: e.CallID,
		Kind: w.kind(), Direction: Inbound,
		From: cmp.Or(e.Remote, caller.Number), FromName: caller.Name,
		To: cmp.Or(called.Extension, called.Number), DID: w.did(),
		Extension: cmp.Or(e.Source.Number, called.Extension, w.queue()), User: e.Source.User,
		Phase: Completed, Result: Missed, Logged: true,
		Start: w.events[0].Time, End: e.Time,
		CallBackID: e.CallBackID, ControlID: e.ControlID, Backfilled: w.backfilled,
		Attributes: attributes(w.events), Events: legEvents(make([]LegEvent, 0, len(w.events)), w.events),
	}
	if caller.Local && called.Local {
		leg.Direction = Internal
	}
	if taken {
		leg.Result, leg.Logged = AnsweredElsewhere, false
	}
	return leg
}

// did is the public number through which the call came in: a queue behind an IVR need not know it.
func (w *waiting) did() string {
	did := w.deciding.DID
	for _, e := range w.events {
		did = cmp.Or(did, e.DID)
	}
	return did
}

// queue is the name of the last queue that the caller came to, where there is more than a name to
// it.
func (w *waiting) queue() string {
	name := ""
	for _, e := range w.events {
		name = cmp.Or(e.Queue, name)
	}
	return name
}

func (w *waiting) kind() Kind {
	switch {
	case isQueue(w.deciding), w.queue() != "":
		return Queue
	case ofCall(w.deciding):
		return Trunk
	default:
		return IVR
	}
}
