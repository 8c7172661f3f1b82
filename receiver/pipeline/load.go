package pipeline

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// loadChunk is how many calls are looked up at once.
const loadChunk = 256

// load brings calls back into memory that got a late event after they were forgotten.
func (p *Pipeline) load(ctx context.Context, found arrivals) error {
	suspects := make(map[string]string)
	for i := range found.events {
		id := found.events[i].event.CallID
		if _, inMemory := p.calls.get(id); inMemory {
			continue
		}
		if key := journal.CallKey(id); p.calls.forgotten.has(key) {
			suspects[key] = id
		}
	}
	return p.loadCalls(ctx, suspects)
}

// loadCalls reads back those of the calls, given by key, that have legs in the log.
func (p *Pipeline) loadCalls(ctx context.Context, byKey map[string]string) error {
	keys := make([]string, 0, len(byKey))
	for key := range byKey {
		keys = append(keys, key)
	}
	for chunk := range slices.Chunk(keys, loadChunk) {
		known, err := p.config.Log.KnownCalls(ctx, chunk)
		if err != nil {
			return fmt.Errorf("cannot look calls up: %w", err)
		}
		for key, record := range known {
			if err := p.loadCall(ctx, byKey[key], key, record); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadCall gives a call the events and ticks that the log knows of and it does not.
func (p *Pipeline) loadCall(ctx context.Context, id, key string, newest journal.LegRecord) error {
	c, ok := p.calls.get(id)
	if ok && isSubset(newest.Positions, c.positions) {
		p.addTicks(c, newest.Ticks)
		return nil
	}
	legs, err := p.config.Log.LegsOfCall(ctx, key)
	if err != nil {
		return fmt.Errorf("cannot read the legs of a call back: %w", err)
	}
	groups, err := p.config.Log.GetEvents(ctx, newest.Positions)
	if err != nil {
		return fmt.Errorf("cannot read the events of a call back: %w", err)
	}
	if !ok {
		c = p.calls.create(id)
	}
	p.config.Metrics.reloaded.Inc()
	if len(groups) < len(newest.Positions) {
		p.config.Logger.Warn("an event came so late that others of its call are gone; the legs stay as they are", "positions", newest.Positions)
		c.frozen = true
	}
	for _, arrived := range p.decode(groups).events {
		if arrived.event.CallID == id {
			p.calls.add(c, *arrived.event, arrived.position)
		}
	}
	p.addTicks(c, newest.Ticks)
	c.written, c.logged = c.written[:0], len(c.positions)
	for _, record := range legs {
		c.written = append(c.written, record.Leg)
		c.floor = max(c.floor, record.Leg.Revision)
	}
	return nil
}

func (p *Pipeline) addTicks(c *call, ticks []callevent.Event) {
	for _, tick := range ticks {
		p.calls.addTick(c, tick)
	}
}

func isSubset(some, all []uint64) bool {
	for _, one := range some {
		if _, ok := slices.BinarySearch(all, one); !ok {
			return false
		}
	}
	return true
}

// add lets events join their calls.
func (p *Pipeline) add(found arrivals, now time.Time) {
	for i := range found.events {
		event := found.events[i].event
		c, ok := p.calls.get(event.CallID)
		if !ok {
			c = p.calls.create(event.CallID)
		}
		if !p.calls.add(c, *event, found.events[i].position) {
			p.config.Metrics.overLimit.Inc()
			p.config.Logger.Warn("a call has too many events; the PBX seems to give several calls one id", "limit", maxCallEvents)
		}
		p.config.Metrics.delay.Observe(now.Sub(event.Received).Seconds())
	}
}

// recover rebuilds the calls in memory from the EVENTS log. Up to the last sequence that any leg reflects it writes nothing, so that no
// leg is ever replaced by an older revision of itself.
func (p *Pipeline) recover(ctx context.Context) error {
	p.generation = p.config.Log.Generation()
	checkpoint, err := p.config.Log.LoadCheckpoint(ctx)
	if err != nil {
		return err
	}
	through, err := p.config.Log.LegsThrough(ctx)
	if err != nil {
		return err
	}
	through = max(through, checkpoint.Processed)
	p.calls = newCalls()
	if err := p.config.Log.CallKeys(ctx, p.calls.forgotten.add); err != nil {
		return fmt.Errorf("cannot learn which calls have legs: %w", err)
	}
	p.next = max(min(checkpoint.LowWater, checkpoint.Processed+1), 1)
	for p.next <= through {
		if err := p.recoverPass(ctx, checkpoint.Processed, through); err != nil {
			return err
		}
	}
	p.next, p.marks, p.saved = through+1, nil, checkpoint
	p.config.Logger.Info("recovered", "calls", len(p.calls.byID), "from", checkpoint.LowWater, "processed", checkpoint.Processed, "through", through)
	return p.completeCalls(ctx)
}

// recoverPass replays some groups at the time at which they were received. Calls with events that may not have reached the LEGS log
// before are marked to be written.
func (p *Pipeline) recoverPass(ctx context.Context, processed, through uint64) error {
	groups, err := p.config.Log.ReadEvents(ctx, p.next, readGroups)
	if err != nil {
		return err
	}
	groups = slices.DeleteFunc(groups, func(g journal.Group) bool { return g.Sequence > through })
	if len(groups) == 0 {
		p.next = through + 1
		return nil
	}
	found := p.decode(groups)
	now := p.config.Now()
	if n := len(found.events); n > 0 {
		now = found.events[n-1].event.Received
	}
	p.add(found, now)
	p.calls.tick(now)
	last := groups[len(groups)-1].Sequence
	p.calls.replay(p.rules, now, last > processed)
	p.next = last + 1
	return nil
}

// completeCalls makes sure that every call in memory has all its events, and that calls which are not finished are written once more:
// the rules may have changed.
func (p *Pipeline) completeCalls(ctx context.Context) error {
	byKey := make(map[string]string, len(p.calls.byID))
	for id := range p.calls.byID {
		byKey[journal.CallKey(id)] = id
	}
	if err := p.loadCalls(ctx, byKey); err != nil {
		return err
	}
	for _, c := range p.calls.byID {
		if c.force || c.finished.IsZero() {
			c.force = true
			p.calls.touch(c)
		}
	}
	return nil
}
