package correlation

import (
	"cmp"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// facts are what is known of the call as a whole, from events that belong to no leg, or to the one
// with which it entered.
type facts struct {
	caller, called *callevent.Party
	did            string
	inbound        bool      // the call came from outside
	entry          Direction // of the leg with which the call entered; empty where the PBX tells of none
	user           string    // of the extension with which it entered
	over           time.Time // when the call ended with all its legs
	pickups        []*event  // when the call was taken from another phone, in order of time
	routed         []*event  // the CallStart events, in order of time
	tried          bool      // somebody was rung or dialled
	related        bool      // the legs say less than all of themselves, so that one tells of another
}

func factsOf(events []*event) facts {
	var f facts
	for _, e := range events {
		f.related = f.related || e.Side != "" || e.Level != callevent.LevelExtension
		switch {
		case ofCall(e):
			f.join(e)
		case e.Level == callevent.LevelEntry:
			f.join(e)
			f.enter(e)
		default:
			f.tried = true
		}
	}
	return f
}

func (f *facts) join(e *event) {
	switch e.Type { //nolint:exhaustive // the others say nothing of the whole call
	case callevent.CallStart:
		f.routed = append(f.routed, e)
		f.inbound = true
	case callevent.CallEnd:
		f.over = later(f.over, e.Time)
		f.inbound = f.inbound || e.Flow == callevent.FlowIn
	case callevent.Pickup:
		f.pickups = append(f.pickups, e)
	}
	if f.caller == nil && (e.Caller.Number != "" || e.Caller.Withheld) {
		f.caller, f.called = &e.Caller, &e.Called
	}
	f.did = cmp.Or(f.did, e.DID)
}

func (f *facts) enter(e *event) {
	if e.Type == callevent.Hangup {
		f.over = later(f.over, e.Time)
	}
	if f.entry == "" || e.Flow != callevent.FlowUnknown {
		f.entry = Inbound
		if e.Flow == callevent.FlowOut {
			f.entry = Outbound
		}
	}
	if f.caller == nil {
		f.caller, f.called = &e.Caller, &e.Called
	}
	f.user = cmp.Or(f.user, e.Source.User)
}

// undecided reports whether an event ends the caller's side without anybody having taken the call,
// as far as it says.
func (f *facts) undecided(e *event) bool {
	switch {
	case e.Type == callevent.CallEnd && !f.inbound:
		return false
	case e.Bridged != nil:
		return !*e.Bridged
	default:
		return e.Missed == callevent.MissedUnlessAnswered || e.Missed == callevent.MissedIfTried && f.tried
	}
}

// lastPickup is the last time before another one that the call was taken from another phone; zero
// where it was not.
func (f *facts) lastPickup(before time.Time) time.Time {
	var last time.Time
	for _, e := range f.pickups {
		if !e.Time.After(before) {
			last = e.Time
		}
	}
	return last
}
