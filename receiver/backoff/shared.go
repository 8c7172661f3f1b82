package backoff

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Shared holds all callers of one server back together while it is in trouble, so that a queue of
// thousands does not press on it.
type Shared struct {
	pauses Pauses
	mu     sync.Mutex
	until  time.Time
	steps  *wait.Backoff
}

// NewShared makes a Shared that lets everybody through.
func NewShared(pauses Pauses) *Shared { return &Shared{pauses: pauses} }

// Wait returns nil when the server may be tried, or the error of ctx.
func (s *Shared) Wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		remaining := time.Until(s.until)
		s.mu.Unlock()
		if remaining <= 0 {
			return ctx.Err()
		}
		if !Sleep(ctx, remaining) {
			return ctx.Err()
		}
	}
}

// Failed has everybody wait, twice as long each time, and at least as long as the server asks for.
// It reports whether this failure began the wait: others that were under way at the same time do
// not count again.
func (s *Shared) Failed(asked time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Before(s.until) {
		return false
	}
	if s.steps == nil {
		s.steps = s.pauses.steps()
	}
	s.until = now.Add(max(s.steps.Step(), asked))
	return true
}

// Succeeded lets everybody through. It reports whether the server was in trouble before.
func (s *Shared) Succeeded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.steps != nil
	s.until, s.steps = time.Time{}, nil
	return was
}
