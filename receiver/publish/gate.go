package publish

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	firstPause = 100 * time.Millisecond
	longPause  = 5 * time.Second
	jitter     = 0.5
)

// gate holds all writers back together while the API server is in trouble, so that a queue of thousands does not press on it.
type gate struct {
	mu    sync.Mutex
	until time.Time
	pause time.Duration
}

// wait returns when writing may be tried, or with the error of ctx.
func (g *gate) wait(ctx context.Context) error {
	for {
		g.mu.Lock()
		remaining := time.Until(g.until)
		g.mu.Unlock()
		if remaining <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(remaining)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// trip closes the gate for a while: twice as long each time, with jitter, and at least as long as the server asks for. It reports
// whether this failure closed it; others that were under way at the same time do not count again.
func (g *gate) trip(asked time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if now.Before(g.until) {
		return false
	}
	g.pause = min(max(2*g.pause, firstPause), longPause)
	g.until = now.Add(max(wait.Jitter(g.pause, jitter), asked))
	return true
}

// open says that the server answers. It reports whether it did not before.
func (g *gate) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.pause > 0
	g.until, g.pause = time.Time{}, 0
	return was
}
