package pipeline

import "time"

// moment is a point in time on two clocks. The wall clock says when events came in, and may jump.
// The elapsed time since the start of the process does not.
//
// What a call waits for is stated as a time of the wall clock, counted from one of its events. It
// is due when as much time has elapsed as lay between the event and that time when they were first
// seen together. So a call is not closed because the wall clock jumps forward, nor kept open for
// long because it jumps back. Only over a restart there is nothing but the wall clock.
type moment struct {
	wall    time.Time
	elapsed time.Duration
}

// until is when, on the clock that does not jump, the wall clock will show t.
func (m moment) until(t time.Time) time.Duration { return m.elapsed + t.Sub(m.wall) }

// at is the moment at which the wall clock showed t, if it has not jumped since.
func (m moment) at(t time.Time) moment { return moment{wall: t, elapsed: m.until(t)} }

// before is the earlier of the moment and the one at which the wall clock showed t.
func (m moment) before(t time.Time) moment {
	if t.IsZero() || !t.Before(m.wall) {
		return m
	}
	return m.at(t)
}
