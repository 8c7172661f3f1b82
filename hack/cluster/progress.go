package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// heartbeat is how often a long step says that it is still at work.
const heartbeat = 20 * time.Second

// progress tells the user what is going on, on standard error, so that standard
// output stays clean for results.
type progress struct {
	out   io.Writer
	start time.Time
}

func (p progress) sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(p.out, "[%6.1fs] %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}

// during runs do and reports on it every heartbeat.
func (p progress) during(what string, do func() error) error {
	return p.duringCounted(func() string { return "still " + what }, do)
}

// duringCounted is during for work that knows how far it is.
func (p progress) duringCounted(what func() string, do func() error) error {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- do() }()
	for {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
			p.sayf("  %s (%s)", what(), time.Since(began).Round(time.Second))
		}
	}
}

// errEnded tells until that waiting longer is of no use.
var errEnded = errors.New("the process ended")

// until polls check until it returns nil or errEnded; after the deadline it
// returns check's last error.
func until(ctx context.Context, deadline time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, fmt.Errorf("not within %s", deadline))
	defer cancel()
	for {
		err := check(ctx)
		if err == nil || errors.Is(err, errEnded) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
