// Package backoff repeats steps that fail, with growing pauses: the one retry loop of the receiver.
package backoff

import (
	"context"
	"errors"
	"math"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// jitter lets a pause be longer by up to this share of it, so that what failed together does not
// come back together.
const jitter = 0.2

// Pauses are those between attempts: First, then twice as long each time, up to Max.
type Pauses struct{ First, Max time.Duration }

// Default suits the logs and the Kubernetes API.
var Default = Pauses{First: 100 * time.Millisecond, Max: 5 * time.Second}

// steps yields the pauses one after the other.
func (p Pauses) steps() *wait.Backoff {
	return &wait.Backoff{Duration: p.First, Cap: p.Max, Factor: 2, Jitter: jitter, Steps: math.MaxInt32}
}

// Retry repeats step until it succeeds or ctx ends. It tells failed of every attempt that failed
// and of the pause that follows; failed may be nil. Retry returns nil after a success, else the
// cause of the end of ctx together with the error of the last attempt.
func Retry(ctx context.Context, pauses Pauses, step func(context.Context) error, failed func(err error, pause time.Duration)) error {
	steps := pauses.steps()
	for {
		err := step(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		pause := steps.Step()
		if failed != nil {
			failed(err, pause)
		}
		if !Sleep(ctx, pause) {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// Sleep waits, and reports false when ctx ends before the time is over.
func Sleep(ctx context.Context, duration time.Duration) bool {
	if duration <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
