package main

import (
	"context"
	"fmt"
	"time"
)

const (
	costOfOpen      = "processor time per event, 10,000 open calls / 100"
	costOfManyOpen  = "processor time per event, 100,000 open calls / 100"
	costOfLongCalls = "processor time per event, calls of 1,998 events / of 3"
	recoveryTime    = "recovery from kill -9 with 10,000 open calls"

	fewOpen, someOpen, manyOpen = 100, 10_000, 100_000

	costTime = 5 * time.Second
	// longLegs is how many legs the long calls have, of three events each: no call may have more
	// than 2,000 events.
	longLegs = 666
	// longCalls is how many of them are under way at a time: few enough to be in memory.
	longCalls = 6
)

func costGroup() group {
	return group{name: "cost", measure: measureCost, rows: []row{
		promise(costOfOpen, "×", atMost(1.2)),
		promise(costOfManyOpen, "×", atMost(1.2)),
		promise(recoveryTime, "s", atMost(5)),
		promise(costOfLongCalls, "×", atMost(2)),
	}}
}

// costs is a receiver whose processor time is compared with that of the limit, right after each
// other, so that a change of the machine's speed does not count.
type costs struct {
	*bench
	load            *generator
	limit, receiver *server
	opened          int
}

func measureCost(ctx context.Context, b *bench, s *sheet) error {
	c := &costs{bench: b}
	defer c.stop()
	if err := c.start(ctx); err != nil {
		return err
	}
	few, err := c.withOpenCalls(ctx, fewOpen)
	if err != nil {
		return err
	}
	some, err := c.withOpenCalls(ctx, someOpen)
	if err != nil {
		return err
	}
	s.set(costOfOpen, some/few, "each over that of the limit in the same seconds: %s and %s", number(some), number(few))
	recovered, err := c.recover(ctx)
	if err != nil {
		return err
	}
	s.set(recoveryTime, recovered.Seconds(), "from the start of the process until it is ready and correlation stands where it stood")
	many, err := c.withOpenCalls(ctx, manyOpen)
	if err != nil {
		return err
	}
	s.set(costOfManyOpen, many/few, "each over that of the limit in the same seconds: %s and %s", number(many), number(few))
	c.receiver.stop() // another one has no other open calls
	if c.receiver, err = c.startReceiver(ctx, "long"); err != nil {
		return err
	}
	return c.measureLongCalls(ctx, s)
}

func (c *costs) start(ctx context.Context) (err error) {
	if c.load, err = c.generator(ctx); err != nil {
		return err
	}
	if c.limit, err = c.startLimit(ctx); err != nil {
		return err
	}
	c.receiver, err = c.startReceiver(ctx, "cost")
	return err
}

func (c *costs) stop() {
	for _, s := range []*server{c.limit, c.receiver} {
		if s != nil {
			s.stop()
		}
	}
}

// withOpenCalls has so many calls open and returns the processor time that events of other calls
// take, over that of the limit.
func (c *costs) withOpenCalls(ctx context.Context, open int) (float64, error) {
	c.progressf("cost with %s open calls", number(float64(open)))
	first := c.opened
	c.opened = open
	if err := post(ctx, c.receiver.address, open-first, func(n int) wireEvent {
		return wireEvent{call: fmt.Sprintf("open-%d", first+n), leg: first + n, kind: dialIn}
	}); err != nil {
		return 0, err
	}
	if _, err := c.receiver.settle(ctx); err != nil {
		return 0, err
	}
	limit, err := c.perEvent(ctx, c.limit, func() (int, error) { return c.send(ctx, c.limit) })
	if err != nil {
		return 0, err
	}
	receiver, err := c.perEvent(ctx, c.receiver, func() (int, error) { return c.send(ctx, c.receiver) })
	return receiver / limit, err
}

func (c *costs) send(ctx context.Context, to *server) (int, error) {
	sent, err := c.load.run(ctx, to.address, connections, costTime)
	return sent.requests, err
}

// perEvent is the processor time that a server takes for each of the events that send sends, until
// all are correlated.
func (c *costs) perEvent(ctx context.Context, s *server, send func() (int, error)) (float64, error) {
	before, err := s.cpu()
	if err != nil {
		return 0, err
	}
	events, err := send()
	if err != nil {
		return 0, err
	}
	if s == c.receiver {
		if _, err := s.settle(ctx); err != nil {
			return 0, err
		}
	}
	after, err := s.cpu()
	return perThousand(after-before, events), err
}

// recover kills the receiver and starts it again.
func (c *costs) recover(ctx context.Context) (time.Duration, error) {
	c.progressf("recovery")
	c.receiver.kill()
	start := time.Now()
	var err error
	if c.receiver, err = c.startReceiver(ctx, "cost"); err != nil {
		return 0, err
	}
	err = until(ctx, startTime, startInterval, "the open calls are to be known again", func(ctx context.Context) (bool, error) {
		now, err := c.receiver.counts(ctx)
		return now.open >= someOpen && now.lag == 0, err
	})
	return time.Since(start), err
}

// eventOf is the n-th event of calls with so many legs. As many calls as there are long ones are
// under way at a time, and of each one leg.
func eventOf(n, legs int) wireEvent {
	together := longCalls * legs * kinds
	wave, rest := n/together, n%together
	step, call := rest/longCalls, rest%longCalls
	return wireEvent{call: fmt.Sprintf("of-%d-legs-%d", legs, wave*longCalls+call), leg: step / kinds, kind: step % kinds}
}

// measureLongCalls sends as many events in few long calls as in many short ones.
func (c *costs) measureLongCalls(ctx context.Context, s *sheet) error {
	var took []float64
	for _, legs := range []int{1, longLegs} {
		c.progressf("cost of calls of %d events", legs*kinds)
		cpu, err := c.perEvent(ctx, c.receiver, func() (int, error) {
			const events = longCalls * longLegs * kinds
			return events, post(ctx, c.receiver.address, events, func(n int) wireEvent {
				return eventOf(n, legs)
			})
		})
		if err != nil {
			return err
		}
		took = append(took, cpu)
	}
	s.set(costOfLongCalls, took[1]/took[0], "seconds per 1000 events: %s and %s; %d long calls at a time", number(took[1]), number(took[0]), longCalls)
	return nil
}
