package journal

import (
	"context"
	"slices"
	"sync"
)

// FollowLegs hands the newest revision of every leg to handle, at least once, in the order of the
// log, until ctx ends. It does not wait for what handle does with a batch: handle calls done, once,
// when the batch need not come again after a restart. The position is kept under the durable name.
//
// A follower holds nobody up: the LEGS log may discard records that it has not done with, or not
// even read. A record that cannot be read is reported and skipped.
func (j *Journal) FollowLegs(ctx context.Context, durable string, handle func(records []LegRecord, done func())) error {
	c := &consumer{journal: j, log: Legs, durable: durable}
	return c.run(ctx, func(_ context.Context, _ *sync.WaitGroup, s *span, messages []message) error {
		if records := slices.DeleteFunc(j.parseLegs(messages), func(r LegRecord) bool { return r.isStub() }); len(records) > 0 {
			handle(records, func() { c.finish(s) })
		} else {
			c.finish(s)
		}
		return nil
	})
}
