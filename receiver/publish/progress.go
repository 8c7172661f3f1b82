package publish

import (
	"sync"
	"time"
)

// Progress is how publication fares.
type Progress struct {
	// Pending is how many legs wait for the API server.
	Pending int
	// Skipped counts the legs that were not shown since the start because newer ones took their
	// places before the API server had got them.
	Skipped uint64
	// AwaySince is when the API server last took a write before it stopped; zero while it takes
	// them.
	AwaySince time.Time
}

// Progress may be called at any time, from any goroutine.
func (p *Publisher) Progress() Progress {
	return Progress{Pending: p.pending.size(), Skipped: p.skipped.Load(), AwaySince: p.away.get()}
}

// away remembers since when the API server takes no writes.
type away struct {
	mu    sync.Mutex
	since time.Time
}

func (a *away) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since.IsZero() {
		a.since = time.Now()
	}
}

func (a *away) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.since = time.Time{}
}

func (a *away) get() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.since
}
