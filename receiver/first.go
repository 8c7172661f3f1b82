package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/backoff"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

const (
	firstGroups = 64
	// firstWait is how often the log is looked at for the first event, where another receiver may
	// have taken it.
	firstWait = time.Second
)

// eventLog is what the search for the first event needs of the journal.
type eventLog interface {
	ReadEvents(ctx context.Context, from uint64, limit int) ([]journal.Group, error)
	Changed(log journal.Log) <-chan struct{}
}

// showFirstEvent waits for the first event since the given time, and shows when it came in. It is
// looked for in the log, so that it does not matter who took it, and when.
func showFirstEvent(ctx context.Context, log eventLog, since time.Time, show func(context.Context, time.Time) error, logger *slog.Logger) {
	for next := uint64(1); ; {
		changed := log.Changed(journal.Events)
		groups, err := log.ReadEvents(ctx, next, firstGroups)
		if at, ok := firstOf(groups, since); ok {
			_ = backoff.Retry(ctx, backoff.Default, func(ctx context.Context) error { return show(ctx, at) }, func(err error, _ time.Duration) {
				logger.Warn("the first event is not shown yet", "error", err)
			}) // it ends with ctx, and then nobody is waiting
			return
		}
		if len(groups) > 0 && err == nil {
			next = groups[len(groups)-1].Sequence + 1
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(firstWait):
		}
	}
}

// firstOf is when the first event of the PBX since the given time came in. What was read from the
// PBX's history is no event.
func firstOf(groups []journal.Group, since time.Time) (time.Time, bool) {
	for _, group := range groups {
		for i := range group.Entries {
			request := &group.Entries[i].Request
			if request.Path != callhistory.Path && !request.ReceivedAt.Before(since) {
				return request.ReceivedAt, true
			}
		}
		for _, decoded := range group.Decoded {
			if decoded.Path != callhistory.Path && len(decoded.Events) > 0 && !decoded.Events[0].Received.Before(since) {
				return decoded.Events[0].Received, true
			}
		}
	}
	return time.Time{}, false
}
