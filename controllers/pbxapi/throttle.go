package pbxapi

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// shortWait is the longest that a call waits for its turn. A longer wait is a RateLimitedError.
	shortWait = time.Second
	// longestTicket bounds how far in the future a refused caller is asked to come back.
	longestTicket = 5 * time.Minute
	// smallestBurst lets one whole pass over an extension through at once, also at the lowest of
	// rates: a pass that were cut short every time would repeat its first request for ever.
	smallestBurst = 10
)

// throttle is the ceiling on the requests of one integration.
//
// No minute sees more than requestsPerMinute: the burst is taken out of the sustained rate. Below
// 20 a minute the ceiling holds on average only, because of smallestBurst.
type throttle struct {
	limiter *rate.Limiter

	mu          sync.Mutex
	closedUntil time.Time
	nextTicket  time.Time
}

func newThrottle(perMinute int) *throttle {
	return &throttle{limiter: rate.NewLimiter(ceiling(perMinute))}
}

func (t *throttle) set(perMinute int) {
	limit, burst := ceiling(perMinute)
	t.limiter.SetLimit(limit)
	t.limiter.SetBurst(burst)
}

func ceiling(perMinute int) (rate.Limit, int) {
	burst := max(perMinute/10, smallestBurst)
	sustained := max(perMinute-burst, (perMinute+1)/2)
	return rate.Limit(float64(sustained) / time.Minute.Seconds()), burst
}

// close lets nothing through for a while, as the PBX has asked.
func (t *throttle) close(after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if until := time.Now().Add(after); until.After(t.closedUntil) {
		t.closedUntil = until
	}
}

// closed returns an error while the PBX has asked for silence.
func (t *throttle) closed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if wait := time.Until(t.closedUntil); wait > 0 {
		return &RateLimitedError{After: wait, ByPBX: true}
	}
	return nil
}

// budget is what is left of the requests that a pass has been admitted with.
type budget struct{ left atomic.Int64 }

func (b *budget) take() bool { return b != nil && b.left.Add(-1) >= 0 }

type contextKey int

const (
	budgetKey contextKey = iota
	patientKey
	urgentKey
)

// admit reserves n requests at once. The calls made with the context that it returns use them up
// before they queue again. What is not urgent leaves half of the burst to what is: routine checks
// take one request each, and would never let a place for several come together.
func (t *throttle) admit(ctx context.Context, n int, routine bool) (context.Context, error) {
	n = min(n, t.limiter.Burst())
	now := time.Now()
	if short := float64(t.limiter.Burst()/2+n) - t.limiter.TokensAt(now); routine && short > 0 {
		wait := time.Duration(short / float64(t.limiter.Limit()) * float64(time.Second))
		return ctx, &RateLimitedError{After: t.ticket(now, wait, n)}
	}
	if err := t.reserve(ctx, n, shortWait); err != nil {
		return ctx, err
	}
	pass := &budget{}
	pass.left.Store(int64(n))
	return context.WithValue(ctx, budgetKey, pass), nil
}

// patient marks a call that waits for its turn as long as its context lives.
func patient(ctx context.Context) context.Context { return context.WithValue(ctx, patientKey, true) }

// Urgent marks a call that counts, but does not wait: a token request, and the one repetition after
// a token died early. It is part of a call that has been admitted already.
func Urgent(ctx context.Context) context.Context { return context.WithValue(ctx, urgentKey, true) }

// turn waits until one request may be made.
func (t *throttle) turn(ctx context.Context) error {
	if err := t.closed(); err != nil {
		return err
	}
	if ctx.Value(urgentKey) != nil {
		t.limiter.ReserveN(time.Now(), 1)
		return nil
	}
	if pass, _ := ctx.Value(budgetKey).(*budget); pass.take() {
		return nil
	}
	if ctx.Value(patientKey) != nil {
		if t.limiter.Wait(ctx) != nil {
			return &RateLimitedError{After: shortWait}
		}
		return nil
	}
	return t.reserve(ctx, 1, shortWait)
}

func (t *throttle) reserve(ctx context.Context, n int, longest time.Duration) error {
	if err := t.closed(); err != nil {
		return err
	}
	now := time.Now()
	reservation := t.limiter.ReserveN(now, n)
	wait := reservation.DelayFrom(now)
	if wait > longest {
		reservation.CancelAt(now)
		return &RateLimitedError{After: t.ticket(now, wait, n)}
	}
	if wait == 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ticket says when to come back. Each refused caller gets a later time, so that they do not all
// return at once.
func (t *throttle) ticket(now time.Time, wait time.Duration, n int) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	spacing := time.Duration(float64(n) / float64(t.limiter.Limit()) * float64(time.Second))
	at := now.Add(wait)
	if at.Before(t.nextTicket) {
		at = t.nextTicket
	}
	if latest := now.Add(longestTicket); at.After(latest) {
		at = latest
	}
	t.nextTicket = at.Add(spacing)
	return at.Sub(now)
}
