package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

const (
	// loadChunk is how many calls are looked up at once.
	loadChunk = 256
	// dueChunk is how many are looked up at once that may all be large.
	dueChunk = 16
	// eventsChunk is how many commits of the EVENTS log are read back at once. Each may have half a
	// megabyte of others' events.
	eventsChunk = 16
	// minReuse is how long after the end of a call its id may mean another one. A PBX that counts
	// its calls begins anew when it is rebooted; what comes late of a call, such as its recording
	// or its record in the history, comes within hours.
	minReuse = 24 * time.Hour
)

// load brings calls back into memory that got an event after they were forgotten or spilled.
func (p *Pipeline) load(ctx context.Context, found arrivals, now moment) error {
	_, err := p.loadCalls(ctx, p.suspects(found, p.calls.forgotten.has), now)
	return err
}

// suspects are the calls of the events, by key, that are not in memory, but spilled or otherwise
// known.
func (p *Pipeline) suspects(found arrivals, known func(key string) bool) map[string]began {
	suspects := make(map[string]began)
	for i := range found.events {
		event := found.events[i].event
		if _, inMemory := p.calls.byID[event.CallID]; inMemory || p.calls.parked.has(event.CallID) {
			continue
		}
		key := journal.CallKey(event.CallID)
		if _, ok := suspects[key]; !ok && (p.calls.spilled.has(key) || known(key)) {
			suspects[key] = beganWith(event)
		}
	}
	return suspects
}

// loadDue brings some of the calls back that wait for time to pass, or that have to make room for
// others.
func (p *Pipeline) loadDue(ctx context.Context, now moment) error {
	due := make(map[string]began)
	for _, key := range p.calls.spilled.earliest(loadChunk, now.elapsed) {
		due[key] = began{}
	}
	surplus := min(p.surplus(now), loadChunk)
	oldest := p.calls.spilled.earliest(surplus, never)
	for _, key := range oldest {
		due[key] = began{}
	}
	loaded, err := p.loadAsMemoryAllows(ctx, due, now)
	if err != nil {
		return err
	}
	chosen := make([]*call, 0, surplus)
	for _, key := range oldest {
		if c := loaded[key]; c != nil && c.life == open {
			chosen = append(chosen, c)
		}
	}
	if len(oldest) == 0 {
		chosen = p.calls.quietest(surplus)
	}
	p.closeEarly(chosen, now)
	return nil
}

// loadAsMemoryAllows is loadCalls that stops when the calls in memory take twice what they may. It
// loads some in any case, unless there are calls in memory that will go by themselves.
func (p *Pipeline) loadAsMemoryAllows(ctx context.Context, byKey map[string]began, now moment) (map[string]*call, error) {
	loaded := make(map[string]*call, len(byKey))
	for keys := range slices.Chunk(slices.Collect(maps.Keys(byKey)), dueChunk) {
		if p.calls.bytes > 2*p.callMemory() && (len(loaded) > 0 || p.calls.open < len(p.calls.byID)) {
			break
		}
		some := make(map[string]began, len(keys))
		for _, key := range keys {
			some[key] = byKey[key]
		}
		found, err := p.loadCalls(ctx, some, now)
		if err != nil {
			return nil, err
		}
		maps.Copy(loaded, found)
	}
	return loaded, nil
}

// surplus is how many open calls there are beyond those that there is room for. Room on disk is
// made a few percent at a time, as it takes seconds until closed calls have left it.
func (p *Pipeline) surplus(now moment) int {
	if len(p.calls.touched) > 0 { // the last pass has failed, and what it closed is still to be written
		return 0
	}
	if fill := p.config.Log.Fill()[journal.Calls]; fill.Size > 0 && fill.Used > fill.Size/full*most {
		p.makeRoom(now)
	}
	return max(p.calls.openCount()-p.share(p.config.MaxOpenCalls), p.toClose)
}

// Calls are closed early when the CALLS log is filled to more than most of full percent: one of
// closeShare, each time.
const (
	most, full   = 85, 100
	closeShare   = 12
	roomInterval = 5 * time.Second
)

// makeRoom has a share of the open calls closed.
func (p *Pipeline) makeRoom(now moment) {
	if p.madeRoom == 0 || now.elapsed-p.madeRoom >= roomInterval {
		p.madeRoom = now.elapsed
		p.toClose = p.calls.openCount()/closeShare + 1
	}
}

// closeEarly ends calls with an unknown result.
func (p *Pipeline) closeEarly(chosen []*call, now moment) {
	for _, c := range chosen {
		c.closeEarly(p.rules, now)
		c.linger = 0
		p.calls.touch(c)
	}
	p.toClose = max(p.toClose-len(chosen), 0)
	p.closed(len(chosen))
}

// closed counts calls that were closed early.
func (p *Pipeline) closed(calls int) {
	p.config.Metrics.closedEarly.Add(float64(calls))
	p.progress.mu.Lock()
	defer p.progress.mu.Unlock()
	p.progress.status.ClosedEarly += uint64(calls)
}

// loadCalls reads back those of the calls that are in the logs, and returns them by key.
func (p *Pipeline) loadCalls(ctx context.Context, byKey map[string]began, now moment) (map[string]*call, error) {
	loaded := make(map[string]*call, len(byKey))
	for chunk := range slices.Chunk(slices.Collect(maps.Keys(byKey)), loadChunk) {
		known, err := p.config.Log.KnownCalls(ctx, chunk)
		if err != nil {
			return nil, fmt.Errorf("cannot look calls up: %w", err)
		}
		saved, err := p.config.Log.GetCalls(ctx, slices.DeleteFunc(slices.Clone(chunk), func(key string) bool { return !p.calls.spilled.has(key) }))
		if err != nil {
			return nil, fmt.Errorf("cannot read calls back: %w", err)
		}
		for _, key := range chunk {
			newest, hasLegs := known[key]
			record, isSaved := saved[key]
			if isSaved || hasLegs {
				if loaded[key], err = p.loadOne(ctx, key, record, newest, byKey[key], now); err != nil {
					return nil, err
				}
			}
			p.calls.spilled.remove(key)
		}
	}
	return loaded, nil
}

// loadOne brings one call back from the CALLS log, or else from the LEGS log. One that correlation
// panics over is set aside.
func (p *Pipeline) loadOne(
	ctx context.Context, key string, record journal.CallRecord, newest journal.LegRecord, first began, now moment,
) (c *call, err error) {
	defer func() {
		if trouble := recover(); trouble != nil {
			c, err = nil, p.setAside(ctx, key, cmp.Or(record.CallID, newest.Leg.CallID), cmp.Or(record.Instance, newest.Instance), now)
		}
	}()
	if record.CallID != "" {
		return p.loadSaved(ctx, key, record, newest, now)
	}
	return p.loadCall(ctx, key, newest, first, now)
}

// setAside parks a call that cannot be brought back, with the legs that the LEGS log has of it.
func (p *Pipeline) setAside(ctx context.Context, key, callID, instance string, now moment) error {
	c, inMemory := p.calls.byID[callID]
	if !inMemory {
		c = newCall(callID, began{}, now)
		c.instance = instance
	}
	if p.calls.spilled.has(key) {
		c.saved = saved
	}
	if err := p.loadLegs(ctx, c, key); err != nil {
		return err
	}
	p.calls.park(c, fmt.Errorf("%w: correlation panics", errPanic).Error(), now)
	return nil
}

// loadSaved brings an open call back as the CALLS log has it, with what the LEGS log knows on top
// of that.
func (p *Pipeline) loadSaved(ctx context.Context, key string, record journal.CallRecord, newest journal.LegRecord, now moment) (*call, error) {
	anchor := now
	if deadline := p.calls.spilled.deadline(key); deadline != never && !record.Due.IsZero() {
		anchor = moment{wall: record.Due, elapsed: deadline}
	}
	c := newCall(record.CallID, began{}, anchor)
	c.instance, c.events, c.saved = record.Instance, correlation.Restore(record.State), saved
	c.positions = positionsOf(record)
	p.calls.put(c)
	p.config.Metrics.reloaded.Inc()
	outcome := c.events.Outcome(p.rules)
	for i := range outcome.Legs {
		c.name(&outcome.Legs[i])
	}
	c.written = outcome.Legs
	c.wait(outcome.Tick, anchor)
	if newest.Leg.CallID == c.id && newest.Instance == c.instance {
		if _, err := p.join(ctx, c, newest); err != nil {
			return nil, err
		}
		if err := p.loadLegs(ctx, c, key); err != nil {
			return nil, err
		}
	}
	c.positions.compare(newest)
	p.calls.weigh(c)
	p.calls.touch(c)
	return c, nil
}

// loadCall gives a call the events and ticks that the LEGS log knows of and it does not.
func (p *Pipeline) loadCall(ctx context.Context, key string, newest journal.LegRecord, first began, now moment) (*call, error) {
	c, inMemory := p.calls.byID[newest.Leg.CallID]
	if inMemory && (c.saved != unsaved || c.hasAllOf(newest)) {
		c.rename(newest.Instance)
		p.calls.addTicks(c, newest.Ticks)
		return c, nil
	}
	earlier := newCall(newest.Leg.CallID, first, now)
	earlier.instance = newest.Instance
	if err := p.loadLegs(ctx, earlier, key); err != nil {
		return nil, err
	}
	if inMemory {
		first = c.began
	}
	reused := reused(earlier.written, newest.Stored, first, p.rules)
	switch {
	case !inMemory:
		c = earlier
		p.calls.put(c)
	case !reused:
		c.instance, c.written, c.floor = earlier.instance, earlier.written, earlier.floor
	}
	if reused {
		c.rename(strconv.FormatInt(first.received.Unix(), 36))
		c.written, c.floor = nil, 0
		return c, nil
	}
	p.config.Metrics.reloaded.Inc()
	complete, err := p.join(ctx, c, newest)
	if err != nil {
		return nil, err
	}
	if !complete || newest.Incomplete {
		p.config.Logger.Warn("an event came so late that others of its call are gone; the legs stay as they are")
		c.positions.lose()
		p.calls.closing = append(p.calls.closing, c.endings()...)
	}
	c.positions.compare(newest)
	p.calls.touch(c)
	return c, nil
}

// hasAllOf reports whether the call has all events that a record of the LEGS log knows of. Where
// that has too many to name them, the revision tells.
func (c *call) hasAllOf(newest journal.LegRecord) bool {
	if newest.Incomplete {
		return int64(c.events.Len()) >= newest.Leg.Revision
	}
	return isSubset(newest.Positions, c.positions.sequences)
}

// reused reports whether a call that began after another one with the same id was over is not the
// same: the other one ended, and its last record was written, more than a day before, or more than
// the longest time that a call may last.
func reused(legs []correlation.Leg, stored time.Time, first began, rules correlation.Rules) bool {
	if len(legs) == 0 || first.sent.IsZero() {
		return false
	}
	var over time.Time
	for i := range legs {
		if legs[i].Phase != correlation.Completed {
			return false
		}
		if legs[i].End.After(over) {
			over = legs[i].End
		}
	}
	after := max(minReuse, rules.MaxDuration)
	return first.sent.Sub(over) > after && first.received.Sub(stored) > after
}

// join adds the events and ticks that a record of the LEGS log knows of. It reports whether all of
// them are still there.
func (p *Pipeline) join(ctx context.Context, c *call, newest journal.LegRecord) (complete bool, err error) {
	missing := slices.DeleteFunc(slices.Clone(newest.Positions), func(position uint64) bool {
		_, known := slices.BinarySearch(c.positions.sequences, position)
		return known
	})
	found := make(map[uint64]bool)
	for chunk := range slices.Chunk(missing, eventsChunk) {
		groups, err := p.config.Log.GetEvents(ctx, chunk)
		if err != nil {
			return false, fmt.Errorf("cannot read the events of a call back: %w", err)
		}
		for _, arrived := range p.decode(groups).events {
			if arrived.event.CallID == c.id {
				found[arrived.position] = true
				c.add(*arrived.event, arrived.position)
			}
		}
	}
	p.calls.addTicks(c, newest.Ticks)
	return len(found) == len(missing), nil
}

// loadLegs reads the legs of a call back as they were written.
func (p *Pipeline) loadLegs(ctx context.Context, c *call, key string) error {
	legs, err := p.config.Log.LegsOfCall(ctx, key)
	if err != nil {
		return fmt.Errorf("cannot read the legs of a call back: %w", err)
	}
	legs = slices.DeleteFunc(legs, func(record journal.LegRecord) bool { return record.Instance != c.instance })
	if len(legs) > 0 {
		c.written = nil
	}
	for _, record := range legs {
		c.written = append(c.written, record.Leg)
		c.floor = max(c.floor, record.Leg.Revision)
	}
	return nil
}

// add lets events join their calls.
func (p *Pipeline) add(found arrivals, now moment) {
	for i := range found.events {
		event := found.events[i].event
		if p.calls.parked.has(event.CallID) {
			p.config.Metrics.parked.Inc()
			continue
		}
		if !p.calls.add(found.events[i], now, p.read) {
			p.config.Metrics.overLimit.Inc()
		}
		p.config.Metrics.delay.Observe(now.wall.Sub(event.Received).Seconds())
	}
}
