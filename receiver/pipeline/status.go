package pipeline

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Status is how correlation fares. It holds no numbers of people and no ids of calls in the clear.
type Status struct {
	// Lag is the age of the oldest event that is not correlated yet; 0 if there is none.
	Lag time.Duration
	// Unread is how many commits of the EVENTS log are not correlated yet.
	Unread uint64
	// OpenCalls are the calls with a leg that has not ended, or with a decision that waits for time
	// to pass; SpilledCalls are those of them that are not in memory.
	OpenCalls, SpilledCalls int
	// MemoryCalls are the calls in memory, open or not.
	MemoryCalls int
	// Through is the sequence of the EVENTS log up to which everything is correlated; the largest
	// there is when nothing is known that is not.
	Through uint64
	// ClosedEarly counts the calls that were closed with an unknown result because more were open
	// than there is room for.
	ClosedEarly uint64
	// ParkedCalls is how many calls were set aside since the start because they cannot be
	// correlated or stored; Parked are the newest of them, at most maxParked.
	ParkedCalls int
	Parked      []ParkedCall
	// Damaged counts the records of the logs that could not be read and were skipped since the
	// start.
	Damaged uint64
}

// ParkedCall is a call that was set aside, so that all others go on.
type ParkedCall struct {
	// Call is a hash of the call id, or the position of the event where the call is not known.
	Call string
	// Reason is what went wrong, without ids and numbers.
	Reason string
	Since  time.Time
}

// maxParked bounds the parked calls that are remembered.
const maxParked = 100

// progress is what Run tells Status of its work.
type progress struct {
	mu     sync.Mutex
	status Status
	// through is the last correlated commit of the EVENTS log.
	through atomic.Uint64
	// current is the time, in microseconds since 1970, up to which every event is correlated.
	current atomic.Int64
	// bytes is about how much memory the calls take.
	bytes atomic.Int64
}

// Status returns how correlation fares. It may be called at any time, from any goroutine.
func (p *Pipeline) Status() Status {
	p.progress.mu.Lock()
	status := p.progress.status
	p.progress.mu.Unlock()
	status.Damaged = p.config.Log.Damaged()
	status.Through = math.MaxUint64
	if last, through := p.config.Log.LastEvent(), p.progress.through.Load(); last > through {
		status.Through = through
		status.Unread = last - through
		status.Lag = max(p.config.Now().Sub(time.UnixMicro(p.progress.current.Load())), 0)
	}
	return status
}
