package journal

import (
	"context"
	"sync"
)

// shared is a look at a log that several readers need at about the same time. Each gets one that
// began after it asked.
type shared[T any] struct {
	mu      sync.Mutex
	next    *look[T]
	looking sync.Mutex
}

type look[T any] struct {
	done  chan struct{}
	found T
	err   error
}

// get returns what look finds.
func (s *shared[T]) get(ctx context.Context, find func(context.Context) (T, error)) (T, error) {
	s.mu.Lock()
	l := s.next
	if l == nil {
		l = &look[T]{done: make(chan struct{})}
		s.next = l
		go s.run(context.WithoutCancel(ctx), l, find)
	}
	s.mu.Unlock()
	select {
	case <-l.done:
		return l.found, l.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

func (s *shared[T]) run(ctx context.Context, l *look[T], find func(context.Context) (T, error)) {
	s.looking.Lock()
	defer s.looking.Unlock()
	s.mu.Lock()
	s.next = nil
	s.mu.Unlock()
	l.found, l.err = find(ctx)
	close(l.done)
}
