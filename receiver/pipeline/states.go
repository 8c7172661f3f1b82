package pipeline

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/backoff"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// states are those of agents and phones on their way to the AGENTS log. They are written in groups
// and beside the calls, so that no call waits for them.
type states struct {
	put func(context.Context, []journal.AgentRecord) error
	// failed is told of every attempt that failed.
	failed func(err error, pause time.Duration)

	mu      sync.Mutex
	waiting map[string]journal.AgentRecord
	wake    chan struct{}
}

func newStates(put func(context.Context, []journal.AgentRecord) error, failed func(error, time.Duration)) *states {
	return &states{put: put, failed: failed, waiting: make(map[string]journal.AgentRecord), wake: make(chan struct{}, 1)}
}

// add has records written. Of several of one agent or phone the newest counts, so what waits is
// bounded by their number.
func (s *states) add(records []journal.AgentRecord) {
	if len(records) == 0 {
		return
	}
	s.mu.Lock()
	for _, record := range records {
		key := record.Key()
		if before, ok := s.waiting[key]; !ok || !record.Since.Before(before.Since) {
			s.waiting[key] = record
		}
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx ends, and what is left once more after that.
func (s *states) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.wake:
			_ = backoff.Retry(ctx, backoff.Default, s.write, s.failed) // it gives up only when ctx ends
		}
	}
	_ = s.write(context.WithoutCancel(ctx)) // should it fail, the next event of the agent makes up for it
}

// write makes what waits durable.
func (s *states) write(ctx context.Context) error {
	s.mu.Lock()
	records := make([]journal.AgentRecord, 0, len(s.waiting))
	for _, record := range s.waiting {
		records = append(records, record)
	}
	clear(s.waiting)
	s.mu.Unlock()
	slices.SortFunc(records, func(a, b journal.AgentRecord) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Key(), b.Key()))
	})
	if err := s.put(ctx, records); err != nil {
		s.add(records)
		return err
	}
	return nil
}
