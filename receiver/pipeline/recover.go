package pipeline

import (
	"context"
	"fmt"
	"slices"

	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// replayed is how many times as many finished calls may be in memory while they are rebuilt after
// a start: so what is dropped then had been forgotten, and its positions written, before.
const replayed = 4

// recover rebuilds what was in memory: of the calls in the CALLS log it learns that they are there,
// and those with later events are rebuilt from the EVENTS log. Up to the last sequence that any leg
// reflects it writes no legs, so that none is ever replaced by an older revision of itself.
func (p *Pipeline) recover(ctx context.Context) error {
	p.generation = p.config.Log.Generation()
	checkpoint, through, err := p.start(ctx)
	if err != nil {
		return err
	}
	p.calls = newCallsAfter(p.calls)
	if err := p.config.Log.CallKeys(ctx, p.calls.forgotten.add); err != nil {
		return fmt.Errorf("cannot learn which calls have legs: %w", err)
	}
	if err := p.index(ctx); err != nil {
		return err
	}
	p.next = max(min(checkpoint.LowWater, checkpoint.Processed+1), 1)
	from := p.next
	for p.next <= through {
		if err := p.recoverPass(ctx, checkpoint.Processed, through); err != nil {
			return err
		}
	}
	p.next, p.marks, p.saved = through+1, nil, checkpoint
	p.progress.through.Store(through)
	p.config.Logger.Info("recovered", "calls", len(p.calls.byID), "saved", p.calls.spilled.len(), "from", from,
		"processed", checkpoint.Processed, "through", through)
	return p.completeCalls(ctx)
}

// newCallsAfter keeps what is not in the logs.
func newCallsAfter(before *calls) *calls {
	cs := newCalls(before.partitions)
	cs.parked = before.parked
	return cs
}

// start is where correlation stood, and the last sequence that any leg reflects. Neither lies
// behind the end of the EVENTS log: a volume may have been restored from a backup in which its logs
// are not of the same moment.
func (p *Pipeline) start(ctx context.Context) (journal.Checkpoint, uint64, error) {
	checkpoint, err := p.config.Log.LoadCheckpoint(ctx)
	if err != nil {
		return checkpoint, 0, err
	}
	through, err := p.config.Log.LegsThrough(ctx)
	if err != nil {
		return checkpoint, 0, err
	}
	end, err := p.config.Log.EventsEnd(ctx)
	if err != nil {
		return checkpoint, 0, err
	}
	if stood := max(through, checkpoint.Processed); stood > end {
		p.config.Logger.Error("the EVENTS log ends before what was correlated: events are lost, or the volume was restored", "end", end, "correlated", stood)
	}
	checkpoint.Processed = min(checkpoint.Processed, end)
	checkpoint.LowWater = min(checkpoint.LowWater, checkpoint.Processed+1)
	return checkpoint, min(max(through, checkpoint.Processed), end), nil
}

// index learns which calls are in the CALLS log. Where the rules have changed since they were
// saved, they are looked at soon.
func (p *Pipeline) index(ctx context.Context) error {
	now, rules := p.now(), fingerprint(p.rules)
	err := p.config.Log.SavedCalls(ctx, func(key string, record journal.CallRecord) {
		deadline := never
		switch {
		case record.Rules != rules:
			deadline = now.elapsed
		case !record.Due.IsZero():
			deadline = now.until(record.Due)
		}
		p.calls.spilled.put(key, deadline)
	})
	if err != nil {
		return fmt.Errorf("cannot learn which calls are open: %w", err)
	}
	return nil
}

// recoverPass replays some groups at the time at which they were received. Calls with events that
// may not have reached the LEGS log before are marked to be written.
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
	now := p.now()
	if heard := lastHeard(found, groups); !heard.IsZero() {
		now = now.at(heard)
	}
	saved := p.suspects(found, func(string) bool { return false })
	if _, err := p.loadCalls(ctx, saved, now); err != nil {
		return err
	}
	p.states.add(found.agents)
	p.add(found, now)
	p.calls.tick(now)
	last := groups[len(groups)-1].Sequence
	p.replay(now, last <= processed)
	p.next = last + 1
	p.progress.through.Store(last) // whoever watches for a standstill sees that there is none
	return p.save(ctx, now)
}

// replay brings the touched calls up to date without anything to write: their legs are in the log,
// except those of which that is not sure, whose turn comes later.
func (p *Pipeline) replay(now moment, certain bool) {
	cs := p.calls
	for _, c := range slices.Clone(cs.touched) {
		outcome, err := c.derive(p.rules, now)
		if err != nil {
			cs.park(c, err.Error(), now)
			continue
		}
		if c.saved == unsaved {
			c.written = outcome.Legs
		}
		c.legs = c.legs.replayed(certain && c.saved == unsaved)
		cs.follow(c, outcome, now)
		cs.weigh(c)
	}
	cs.touched = cs.touched[:0]
	for excess := len(cs.lingering) - replayed*cs.maxFinished(); excess > 0; excess-- {
		c := cs.lingering[0]
		cs.lingering = cs.lingering[1:]
		switch {
		case c.legs.isDoubtful() || c.saved != unsaved:
			cs.lingering = append(cs.lingering, c)
		case c.life == finished:
			cs.drop(c)
		}
	}
}

// completeCalls makes sure that every call in memory has all its events, and that calls which are
// not finished are written once more: the rules may have changed.
func (p *Pipeline) completeCalls(ctx context.Context) error {
	byKey := make(map[string]began, len(p.calls.byID))
	for id := range p.calls.byID {
		byKey[journal.CallKey(id)] = began{}
	}
	if _, err := p.loadCalls(ctx, byKey, p.now()); err != nil {
		return err
	}
	for _, c := range p.calls.byID {
		if c.legs.isDoubtful() { // the log may have legs that are none any more
			if err := p.loadLegs(ctx, c, journal.CallKey(c.id)); err != nil {
				return err
			}
		}
		if c.legs.isDoubtful() || c.life == open {
			c.legs = c.legs.doubted()
			p.calls.touch(c)
		}
	}
	return nil
}
