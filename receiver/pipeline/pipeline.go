// Package pipeline turns the EVENTS log into the LEGS log: it reads requests, decodes them, gathers
// the events of each call and writes the legs that changed. All it holds in memory can be rebuilt
// from the logs.
package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/backoff"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// Log is what the pipeline needs of a partition of the journal.
type Log interface {
	// Owns reports whether an event belongs to the partition.
	Owns(mapping string, event *callevent.Event) bool
	LoadCheckpoint(ctx context.Context) (journal.Checkpoint, error)
	SaveCheckpoint(ctx context.Context, checkpoint journal.Checkpoint) error
	ReadEvents(ctx context.Context, from uint64, limit int) ([]journal.Group, error)
	GetEvents(ctx context.Context, sequences []uint64) ([]journal.Group, error)
	PutLegs(ctx context.Context, records []journal.LegRecord) error
	CallKeys(ctx context.Context, yield func(callKey string)) error
	KnownCalls(ctx context.Context, callKeys []string) (map[string]journal.LegRecord, error)
	LegsOfCall(ctx context.Context, callKey string) ([]journal.LegRecord, error)
	LegsThrough(ctx context.Context) (uint64, error)
	PutAgents(ctx context.Context, records []journal.AgentRecord) error
	Changed(log journal.Log) <-chan struct{}
	PutCalls(ctx context.Context, records []journal.CallRecord) error
	GetCalls(ctx context.Context, callKeys []string) (map[string]journal.CallRecord, error)
	DropCalls(ctx context.Context, callKeys []string) error
	SavedCalls(ctx context.Context, yield func(callKey string, record journal.CallRecord)) error
	Generation() uint64
	// EventsEnd is the newest sequence that the EVENTS log really has.
	EventsEnd(ctx context.Context) (uint64, error)
	Fill() map[journal.Log]journal.Fill
	Damaged() uint64
	// LastEvent is the newest sequence of the EVENTS log that is known.
	LastEvent() uint64
}

// Config says what a pipeline works with.
type Config struct {
	Log     Log
	Dialect dialect.Dialect
	// Rules are asked for at every pass, so that a change applies at once.
	Rules func() correlation.Rules
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Elapsed is the time since some moment, by a clock that never jumps. Default: that of the
	// process.
	Elapsed func() time.Duration
	// Memory is what the process may take, in bytes: what the next two follow from. Default: 128
	// MiB.
	Memory int64
	// CallMemory is about how many bytes the open calls in memory may take; those of which nothing
	// was heard for the longest time are kept on disk. Default: an eighth of Memory, at most 16
	// MiB.
	CallMemory int
	// MaxOpenCalls is how many calls may be open at a time, in memory or not. Beyond it the oldest
	// are closed with an unknown result. Default: one for each 768 bytes of Memory beyond 64 MiB,
	// and at least 10,000.
	MaxOpenCalls int
	// Partitions is the number of partitions of which this is one. Default: one.
	Partitions int
	// Sharers is among how many pipelines the memory of this process is divided. Default: one.
	Sharers func() int
	// Taken is about how many bytes the calls of all these pipelines take in memory. Default: only
	// what those of this one take.
	Taken   func() int
	Metrics *Metrics
	Logger  *slog.Logger
}

const (
	// readGroups is how many groups one pass takes at most; the journal bounds their bytes.
	readGroups = 512
	// linger is how long a finished call stays in memory for events that come late.
	linger = 30 * time.Second
	// maxFinished bounds the finished calls in memory, of all partitions. The others are read back
	// from the logs when an event comes late.
	maxFinished        = 1024
	checkpointInterval = 2 * time.Second
	hurriedInterval    = 500 * time.Millisecond
	idleWait           = time.Second
)

// Pipeline is one run over the logs. Only Status is safe for concurrent use.
type Pipeline struct {
	config     Config
	calls      *calls
	states     *states
	rules      correlation.Rules
	next       uint64
	generation uint64
	// read is how many bytes of the EVENTS log were read.
	read int
	// spare is the memory of the last pass's events, for the next one.
	spare []arrival
	// marks are where the pipeline stood in the last seconds, oldest first. One becomes the
	// checkpoint when its legs are on disk.
	marks    []mark
	saved    journal.Checkpoint
	progress progress
	// toClose is how many open calls have to make room on disk, and madeRoom when that was last
	// decided.
	toClose  int
	madeRoom time.Duration
}

type mark struct {
	at         time.Duration
	checkpoint journal.Checkpoint
	// leaving are the calls that can be taken out of the CALLS log then.
	leaving []*call
}

// New makes a pipeline. Run starts it.
func New(config Config) *Pipeline {
	config = config.withDefaults()
	p := &Pipeline{config: config, calls: newCalls(config.Partitions), rules: config.Rules()}
	p.progress.current.Store(config.Now().UnixMicro())
	p.states = newStates(config.Log.PutAgents, func(err error, pause time.Duration) {
		p.config.Logger.Warn("cannot keep the states of agents and phones; trying again", "error", err, "in", pause)
	})
	return p
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Elapsed == nil {
		start := time.Now()
		c.Elapsed = func() time.Duration { return time.Since(start) }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Partitions == 0 {
		c.Partitions = 1
	}
	if c.Sharers == nil {
		c.Sharers = func() int { return 1 }
	}
	if c.Taken == nil {
		c.Taken = func() int { return 0 }
	}
	const defaultMemory, base, perCall, leastCalls = 128 << 20, 64 << 20, 768, 10_000
	const share, mostInMemory = 8, 16 << 20
	if c.Memory == 0 || c.Memory == math.MaxInt64 {
		c.Memory = defaultMemory
	}
	if c.CallMemory == 0 {
		c.CallMemory = int(min(c.Memory/share, mostInMemory))
	}
	if c.MaxOpenCalls == 0 {
		c.MaxOpenCalls = int(max((c.Memory-base)/perCall, leastCalls))
	}
	return c
}

// now is the present moment.
func (p *Pipeline) now() moment { return moment{wall: p.config.Now(), elapsed: p.config.Elapsed()} }

// Run works until ctx ends, or returns journal.ErrFenced once the partition has another owner.
// Trouble with the logs is waited out.
func (p *Pipeline) Run(ctx context.Context) error {
	var states sync.WaitGroup
	defer states.Wait()
	states.Go(func() { p.states.run(ctx) })
	if err := p.persist(ctx, "recover", p.recover); err != nil {
		return err
	}
	for ctx.Err() == nil {
		changed := p.config.Log.Changed(journal.Events)
		var worked bool
		err := p.persist(ctx, "correlate", func(ctx context.Context) (err error) {
			worked, err = p.pass(ctx)
			return err
		})
		switch {
		case errors.Is(err, journal.ErrFenced):
			return err
		case err != nil:
		case worked:
			backoff.Sleep(ctx, p.pause())
		default:
			p.wait(ctx, changed)
		}
	}
	return context.Cause(ctx)
}

// persist repeats step with growing pauses until it succeeds, ctx ends or the partition has another
// owner.
func (p *Pipeline) persist(ctx context.Context, what string, step func(context.Context) error) error {
	var fenced error
	err := backoff.Retry(ctx, backoff.Default, func(ctx context.Context) error {
		err := step(ctx)
		if errors.Is(err, journal.ErrFenced) {
			fenced = err
			return nil
		}
		return err
	}, func(err error, pause time.Duration) {
		p.config.Metrics.failures.Inc()
		p.config.Logger.Warn("cannot "+what+"; trying again", "error", err, "in", pause)
	})
	return cmp.Or(err, fenced)
}

// share is the part of a limit of all pipelines that falls to this one.
func (p *Pipeline) share(limit int) int { return max(limit/max(p.config.Sharers(), 1), 1) }

// callMemory is about how many bytes the open calls in memory may take: what the other pipelines
// leave, and at least a share of it all.
func (p *Pipeline) callMemory() int {
	others := max(p.config.Taken()-int(p.progress.bytes.Load()), 0)
	return max(p.config.CallMemory-others, p.share(p.config.CallMemory))
}

// wait returns when there may be something to do.
func (p *Pipeline) wait(ctx context.Context, changed <-chan struct{}) {
	atMost := idleWait
	if due, ok := p.calls.nextDue(); ok {
		atMost = min(atMost, max(due-p.config.Elapsed(), pace))
	}
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-timer.C:
	}
}

// pass takes what is new, lets time pass, and makes the legs that changed durable. A pass that
// fails may be repeated: events that are already in their calls change nothing, and legs count as
// written only when they are.
func (p *Pipeline) pass(ctx context.Context) (worked bool, err error) {
	if p.generation != p.config.Log.Generation() {
		if err := p.recover(ctx); err != nil {
			return false, err
		}
	}
	groups, err := p.config.Log.ReadEvents(ctx, p.next, readGroups)
	if err != nil {
		return false, err
	}
	p.applyRules()
	arrivals := p.decode(groups)
	defer p.reuse(arrivals)
	through := p.next - 1
	if len(groups) > 0 {
		through = groups[len(groups)-1].Sequence
	}
	heard := lastHeard(arrivals, groups)
	now := p.present(heard, through)
	if err := p.load(ctx, arrivals, now); err != nil {
		return false, err
	}
	if err := p.loadDue(ctx, now); err != nil {
		return false, err
	}
	p.states.add(arrivals.agents)
	p.add(arrivals, now)
	p.calls.tick(now)
	if err := p.write(ctx, through, now); err != nil {
		return false, err
	}
	if err := p.save(ctx, now); err != nil {
		return false, err
	}
	p.next = through + 1
	p.config.Metrics.events.Add(float64(len(arrivals.events)))
	p.note(through, heard)
	return len(groups) > 0, p.mark(ctx)
}

// lastHeard is when what a pass has read came in, by its last event. Where all of it belongs to other
// partitions, it is when it was stored. Zero if neither is known.
func lastHeard(found arrivals, groups []journal.Group) time.Time {
	if n := len(found.events); n > 0 {
		return found.events[n-1].event.Received
	}
	if n := len(groups); n > 0 {
		return groups[n-1].Stored
	}
	return time.Time{}
}

// present is the moment at which a pass takes place. While correlation lags behind, time passes as
// the log tells: what a call waits for may be among the events that are still to be read.
func (p *Pipeline) present(heard time.Time, through uint64) moment {
	now := p.now()
	if p.config.Log.LastEvent() > through {
		return now.before(heard)
	}
	return now
}

// note tells Status how far correlation has come.
func (p *Pipeline) note(through uint64, heard time.Time) {
	current := heard
	if current.IsZero() {
		current = p.config.Now()
	}
	p.progress.current.Store(current.UnixMicro())
	p.progress.through.Store(through)
	p.progress.bytes.Store(int64(p.calls.bytes))
	p.progress.mu.Lock()
	defer p.progress.mu.Unlock()
	status := &p.progress.status
	status.OpenCalls, status.SpilledCalls, status.MemoryCalls = p.calls.openCount(), p.calls.spilled.len(), len(p.calls.byID)
	status.ParkedCalls = p.calls.parked.total
	status.Parked = slices.Clone(p.calls.parked.calls)
}

// applyRules has every call looked at again when the rules have changed.
func (p *Pipeline) applyRules() {
	if rules := p.config.Rules(); rules != p.rules {
		p.rules = rules
		p.calls.touchAll()
		p.calls.spilled.wake(p.config.Elapsed())
	}
}

// write derives the legs of the touched calls and makes durable what changed; then finished calls
// may go. A call that the log refuses is set aside.
func (p *Pipeline) write(ctx context.Context, through uint64, now moment) error {
	records := p.calls.derive(p.rules, now)
	records = append(records, p.calls.dismiss(now, p.read, p.callMemory())...)
	for i := range records {
		records[i].Through = through
	}
	err := p.config.Log.PutLegs(ctx, records)
	var refused *journal.RefusedError
	if err != nil && !errors.As(err, &refused) {
		return fmt.Errorf("cannot write legs: %w", err)
	}
	p.config.Metrics.legs.Add(float64(len(records)))
	p.calls.closing = nil
	p.park(refused, now)
	p.calls.forget(now.elapsed)
	p.calls.settle()
	return nil
}

// park sets the calls aside whose records are refused for good.
func (p *Pipeline) park(refused *journal.RefusedError, now moment) {
	if refused == nil {
		return
	}
	p.config.Logger.Error("a log refuses the records of some calls; these calls are set aside", "calls", len(refused.Reasons))
	p.calls.parkRefused(refused.Reasons, now)
}

// mark notes now and then where the pipeline stands, and makes the newest mark whose legs have
// settled the checkpoint.
func (p *Pipeline) mark(ctx context.Context) error {
	now := p.config.Elapsed()
	if n := len(p.marks); n > 0 && now-p.marks[n-1].at < p.checkpointPause() {
		return nil
	}
	here := journal.Checkpoint{Processed: p.next - 1, LowWater: p.calls.lowWater(p.next)}
	p.marks = append(p.marks, mark{at: now, checkpoint: here, leaving: p.calls.leaving})
	p.calls.leaving = nil
	settled := 0
	for settled < len(p.marks) && now-p.marks[settled].at >= journal.SettleTime {
		settled++
	}
	if settled == 0 || p.generation != p.config.Log.Generation() {
		return nil
	}
	if newest := p.marks[settled-1].checkpoint; newest != p.saved {
		if err := p.config.Log.SaveCheckpoint(ctx, newest); err != nil {
			return fmt.Errorf("cannot keep the checkpoint: %w", err)
		}
		p.saved = newest
	}
	if err := p.leave(ctx, p.marks[:settled]); err != nil {
		return err
	}
	p.marks = slices.Delete(p.marks, 0, settled)
	return nil
}

// checkpointPause is the time between checkpoints. It is shorter while the EVENTS log fills up, as
// nothing in that gives way before a checkpoint says so.
func (p *Pipeline) checkpointPause() time.Duration {
	if fill := p.config.Log.Fill()[journal.Events]; fill.Used > fill.Size/2 {
		return hurriedInterval
	}
	return checkpointInterval
}

// leave takes calls out of the CALLS log whose last records have settled, and out of memory.
func (p *Pipeline) leave(ctx context.Context, settled []mark) error {
	var calls []*call
	var keys []string
	for _, m := range settled {
		for _, c := range m.leaving {
			if c.saved != unsaved && (c.life == parked || c.life == leaving && !c.legs.isStale() && c.since <= m.at) {
				calls, keys = append(calls, c), append(keys, journal.CallKey(c.id))
			}
		}
	}
	if len(keys) == 0 {
		return nil
	}
	if err := p.config.Log.DropCalls(ctx, keys); err != nil {
		return fmt.Errorf("cannot take finished calls out of the CALLS log: %w", err)
	}
	for _, c := range calls {
		if c.saved = unsaved; c.life == leaving {
			p.calls.drop(c)
		}
	}
	return nil
}

// arrivals are the decoded events of one pass.
type arrivals struct {
	events []arrival
	agents []journal.AgentRecord
}

type arrival struct {
	event    *callevent.Event
	position uint64
}

func (p *Pipeline) decode(groups []journal.Group) arrivals {
	found := arrivals{events: p.spare}
	p.spare = nil
	for _, group := range groups {
		p.read += group.Bytes
		if group.Err != nil {
			p.config.Metrics.undecodable.Inc()
			p.config.Logger.Error("a group of events cannot be read", "sequence", group.Sequence, "error", group.Err)
		}
		for _, decoded := range group.Decoded {
			found.take(decoded.Mapping, decoded.Events, group.Sequence)
		}
		for i := range group.Entries {
			p.decodeEntry(&group.Entries[i], group.Sequence, &found)
		}
	}
	return found
}

// reuse keeps the memory of events that have joined their calls.
func (p *Pipeline) reuse(found arrivals) {
	clear(found.events)
	p.spare = found.events[:0]
}

func (p *Pipeline) decodeEntry(entry *journal.Entry, position uint64, found *arrivals) {
	events, err := p.tryDecode(entry.Request)
	if errors.Is(err, errPanic) {
		p.calls.parked.add("event "+strconv.FormatUint(position, 10), err.Error(), p.config.Now())
	}
	if err != nil {
		p.config.Metrics.undecodable.Inc()
		p.config.Logger.Warn("an accepted request cannot be decoded any more", "sequence", position, "error", err)
		return
	}
	events = slices.DeleteFunc(events, func(event callevent.Event) bool { return !p.config.Log.Owns(entry.Mapping, &event) })
	found.take(entry.Mapping, events, position)
}

// tryDecode is Decode that returns an error where the dialect panics.
func (p *Pipeline) tryDecode(request callevent.Request) (events []callevent.Event, err error) {
	defer func() {
		if trouble := recover(); trouble != nil {
			err = fmt.Errorf("%w: decoding panics", errPanic)
		}
	}()
	return p.config.Dialect.Decode(request)
}

// take adds the events of one notification.
func (a *arrivals) take(mapping string, events []callevent.Event, position uint64) {
	for i := range events {
		switch event := &events[i]; {
		case event.Type == callevent.Agent, event.Type == callevent.PhoneStatus:
			a.agents = append(a.agents, agentRecord(mapping, event))
		case event.CallID != "":
			a.events = append(a.events, arrival{event: event, position: position})
		}
	}
}

func agentRecord(mapping string, event *callevent.Event) journal.AgentRecord {
	record := journal.AgentRecord{
		Mapping: mapping, Extension: cmp.Or(event.Called.Extension, event.Called.Number), ExtensionID: event.Called.ExtensionID,
		State: string(event.Agent), Since: event.Time,
	}
	if event.Type == callevent.PhoneStatus {
		record.Phone, record.State = true, event.WireStatus
	}
	return record
}
