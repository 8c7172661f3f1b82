package journal

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/backoff"
)

const (
	consumeBatch    = 256
	consumeInFlight = 4
	minMerge        = 1024
	// pollInterval is how often a log is looked at that somebody else may write to.
	pollInterval   = time.Second
	cursorInterval = time.Second
)

// redelivery are the pauses before a batch that was not taken is handed out again.
var redelivery = backoff.Pauses{First: 250 * time.Millisecond, Max: 30 * time.Second}

// cursors are the positions that the consumers of a log have reached, so that nothing unread is
// trimmed.
type cursors struct {
	mu   sync.Mutex
	read map[Log]map[string]uint64
}

func (c *cursors) set(log Log, durable string, sequence uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read == nil {
		c.read = make(map[Log]map[string]uint64)
	}
	if c.read[log] == nil {
		c.read[log] = make(map[string]uint64)
	}
	c.read[log][durable] = sequence
}

// lowest is the sequence that all consumers of a log have reached; false without consumers.
func (c *cursors) lowest(log Log) (uint64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.read[log]) == 0 {
		return 0, false
	}
	return slices.Min(slices.Collect(maps.Values(c.read[log]))), true
}

// span is a run of records that was handed out. Spans finish in any order; the cursor moves over
// finished ones at the front.
type span struct {
	first, last uint64
	finished    bool
}

// consumer reads one log for one durable name.
type consumer struct {
	journal *Journal
	log     Log
	durable string

	mu     sync.Mutex
	spans  []*span
	cursor uint64
	// mergeAt is how many spans there may be before they are merged.
	mergeAt int
}

// consume hands a log out, up to consumeInFlight batches at a time, each until handle takes it.
func (j *Journal) consume(ctx context.Context, log Log, durable string, handle func(context.Context, []message) error) error {
	c := &consumer{journal: j, log: log, durable: durable}
	slots := make(chan struct{}, consumeInFlight)
	return c.run(ctx, func(ctx context.Context, workers *sync.WaitGroup, s *span, messages []message) error {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		workers.Go(func() {
			c.deliver(ctx, s, messages, handle)
			<-slots
		})
		return nil
	})
}

// run hands out what is new in the log until ctx ends or take fails.
func (c *consumer) run(ctx context.Context, take func(context.Context, *sync.WaitGroup, *span, []message) error) error {
	if err := c.load(ctx); err != nil {
		return err
	}
	c.publishCursor()
	// The position is saved once more after the last delivery has ended.
	var workers, saver sync.WaitGroup
	saving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer saver.Wait()
	defer stop()
	defer workers.Wait()
	saver.Go(func() { c.saveLoop(saving) })
	generation := c.journal.Generation()
	for next := c.cursor + 1; ; {
		changed := c.journal.Changed(c.log)
		if now := c.journal.Generation(); now != generation {
			if last, err := c.rewind(ctx); err == nil {
				generation, next = now, min(next, last+1)
			}
		}
		messages, err := c.journal.read(ctx, c.log, next, consumeBatch)
		if err != nil || len(messages) == 0 {
			if !waitFor(ctx, changed, pollInterval) {
				return context.Cause(ctx)
			}
			continue
		}
		s := c.open(messages[0].sequence, messages[len(messages)-1].sequence)
		next = s.last + 1
		if err := take(ctx, &workers, s, messages); err != nil {
			return err
		}
	}
}

// rewind goes back to the end of the log, which a server that was restarted may have lost the tail
// of: what takes its place is new. It returns the last sequence.
func (c *consumer) rewind(ctx context.Context) (uint64, error) {
	stats, err := c.journal.Stats(ctx, c.log)
	if err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spans = slices.DeleteFunc(c.spans, func(s *span) bool { return s.last > stats.Last })
	c.cursor = min(c.cursor, stats.Last)
	c.publishCursor()
	return stats.Last, nil
}

// publishCursor lets records be trimmed that this consumer has read, if any wait for it.
func (c *consumer) publishCursor() {
	if c.log != Legs || slices.Contains(c.journal.config.LegReaders, c.durable) {
		c.journal.cursors.set(c.log, c.durable, c.cursor)
	}
}

// load finds out where an earlier run has stopped reading.
func (c *consumer) load(ctx context.Context) error {
	return backoff.Retry(ctx, redelivery, func(ctx context.Context) (err error) {
		c.cursor, err = c.journal.loadCursor(ctx, c.log, c.durable)
		return err
	}, func(err error, _ time.Duration) {
		c.journal.config.Logger.Warn("cannot read the position of a reader; trying again", "log", c.log, "reader", c.durable, "error", err)
	})
}

func (c *consumer) open(first, last uint64) *span {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &span{first: first, last: last}
	c.spans = append(c.spans, s)
	return s
}

// deliver hands a span to the handler until it takes it. What was replaced meanwhile comes in a
// later span, in its newest form.
func (c *consumer) deliver(ctx context.Context, s *span, messages []message, handle func(context.Context, []message) error) {
	err := backoff.Retry(ctx, redelivery, func(ctx context.Context) error {
		if messages == nil {
			var err error
			if messages, err = c.reread(ctx, s); err != nil {
				return err
			}
		}
		if len(messages) == 0 {
			return nil
		}
		err := handle(ctx, messages)
		messages = nil
		return err
	}, nil)
	if err == nil {
		c.finish(s)
	}
}

func (c *consumer) reread(ctx context.Context, s *span) ([]message, error) {
	messages, err := c.journal.read(ctx, c.log, s.first, consumeBatch)
	if err != nil {
		return nil, err
	}
	beyond := slices.IndexFunc(messages, func(m message) bool { return m.sequence > s.last })
	if beyond >= 0 {
		messages = messages[:beyond]
	}
	return messages, nil
}

func (c *consumer) finish(s *span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.finished = true
	for len(c.spans) > 0 && c.spans[0].finished {
		c.cursor, c.spans = c.spans[0].last, c.spans[1:]
	}
	c.merge()
	c.publishCursor()
}

// merge joins finished spans next to each other, so that one that takes long to finish does not
// make those behind it pile up.
func (c *consumer) merge() {
	if len(c.spans) < max(minMerge, c.mergeAt) {
		return
	}
	merged := c.spans[:1]
	for _, s := range c.spans[1:] {
		if last := merged[len(merged)-1]; last.finished && s.finished {
			last.last = s.last
			continue
		}
		merged = append(merged, s)
	}
	clear(c.spans[len(merged):])
	c.spans, c.mergeAt = merged, 2*len(merged)
}

// saveLoop makes the cursor durable once in a while. What is lost of it is handed out again.
func (c *consumer) saveLoop(ctx context.Context) {
	var saved uint64
	for alive := true; alive; {
		alive = waitFor(ctx, nil, cursorInterval)
		c.mu.Lock()
		cursor := c.cursor
		c.mu.Unlock()
		if cursor == saved {
			continue
		}
		if err := c.journal.saveCursor(context.WithoutCancel(ctx), c.log, c.durable, cursor); err != nil {
			c.journal.config.Logger.Warn("cannot keep the position of a reader", "log", c.log, "reader", c.durable, "error", err)
			continue
		}
		saved = cursor
	}
}

func (j *Journal) loadCursor(ctx context.Context, log Log, durable string) (uint64, error) {
	text, err := j.getState(ctx, "cursor", string(log), durable)
	if err != nil || text == nil {
		return 0, err
	}
	cursor, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		j.skipDamaged(State, 0, fmt.Errorf("the position of reader %s of the %s log, which reads it again: %w", durable, log, err))
		return 0, nil
	}
	// After a loss of power the log may end before what was read from it; what takes its place is
	// new.
	return min(cursor, j.lastAtStart[log]), nil
}

func (j *Journal) saveCursor(ctx context.Context, log Log, durable string, cursor uint64) error {
	return j.putState(ctx, []byte(strconv.FormatUint(cursor, 10)), "cursor", string(log), durable)
}

// waitFor waits for a change or for some time. It reports false when ctx has ended.
func waitFor(ctx context.Context, changed <-chan struct{}, atMost time.Duration) bool {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-changed:
		return true
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
