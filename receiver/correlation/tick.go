package correlation

import (
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// Tick is a passing of time that a call waits for: the end of the grace period, or of the longest
// time that a leg may last.
type Tick struct {
	Type callevent.Type
	// CallID is the call's, and LegID that of the leg; empty for the grace period.
	CallID, LegID string
	// Time is when it is due.
	Time time.Time
}

// Event is the event that joins the call when the time has passed.
func (t *Tick) Event() callevent.Event {
	return callevent.Event{
		ID: tickID(t.Type, t.CallID, t.LegID), Type: t.Type, CallID: t.CallID, LegID: t.LegID, Time: t.Time, Received: t.Time,
	}
}

// For reports whether both are ticks for the same, be they due at different times.
func (t *Tick) For(other *Tick) bool {
	return t.Type == other.Type && t.CallID == other.CallID && t.LegID == other.LegID
}

func tickID(t callevent.Type, callID, legID string) string {
	return string(t) + "/" + callID + "/" + legID
}

// NewTick returns the event of a tick.
func NewTick(t callevent.Type, callID, legID string, due time.Time) callevent.Event {
	return (&Tick{Type: t, CallID: callID, LegID: legID, Time: due}).Event()
}
