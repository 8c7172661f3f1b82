package correlation

import (
	"cmp"
	"slices"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// waiting is the caller's own side of an inbound call: what IVRs and queues say of him. What a queue says of its agents is not among it.
type waiting struct {
	events   []*event
	deciding *event // the hangup with Bridged=no that outranks the others
	bridged  bool   // some IVR or queue says that an extension took the call
}

// ofWaiting tells whether a leg's events belong to an IVR or a queue. Where the URL does not tell, Bridged does: only they send it.
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

func (w *waiting) join(events []*event) {
	for _, e := range events {
		if e.Flow == callevent.FlowOut {
			continue
		}
		w.events = append(w.events, e)
		if e.Type != callevent.Hangup || e.Bridged == nil {
			continue
		}
		w.bridged = w.bridged || *e.Bridged
		if !*e.Bridged && (w.deciding == nil || outrules(e, w.deciding)) {
			w.deciding = e
		}
	}
}

// outrules orders the hangups with Bridged=no: a queue outranks an IVR, and of several queues the last one counts (RingMe: Hangup analysis
// and logic of events).
func outrules(a, b *event) bool {
	if isQueue(a) != isQueue(b) {
		return isQueue(a)
	}
	return chronological(a, b) > 0
}

func isQueue(e *event) bool { return e.Source.Type == callevent.Queue }

// last is the time of the last hangup with Bridged=no, whoever sent it.
func (w *waiting) last() time.Time {
	var last time.Time
	for _, e := range w.events {
		if e.Type == callevent.Hangup && e.Bridged != nil && !*e.Bridged {
			last = later(last, e.Time)
		}
	}
	return last
}

// leg is the caller's leg: Missed, or withdrawn because somebody took the call after all. Its id is that of the call, so that it stays the
// same whichever hangup decides.
func (w *waiting) leg(taken bool, revision int64) Leg {
	slices.SortFunc(w.events, chronological)
	e := w.deciding
	leg := Leg{
		CallID: e.CallID, LegID: e.CallID,
		Kind: kind(e), Direction: Inbound,
		From: cmp.Or(e.Remote, e.Caller.Number), FromName: e.Caller.Name,
		To: cmp.Or(e.Called.Extension, e.Called.Number), DID: w.did(),
		Extension: cmp.Or(e.Source.Number, e.Called.Extension), User: e.Source.User,
		Phase: Completed, Result: Missed, Recorded: true,
		Start: w.events[0].Time, End: e.Time,
		CallBackID: e.CallBackID, ControlID: e.ControlID,
		Revision: revision, Events: legEvents(make([]LegEvent, 0, len(w.events)), w.events),
	}
	if e.Caller.Local && e.Called.Local {
		leg.Direction = Internal
	}
	if taken {
		leg.Result, leg.Recorded = AnsweredElsewhere, false
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

func kind(e *event) Kind {
	if isQueue(e) {
		return Queue
	}
	return IVR
}
