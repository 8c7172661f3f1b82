package main

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	sustained       = "events through ingest → correlation → LEGS log / ingest alone"
	sustainedLag    = "most that correlation was behind meanwhile"
	sustainedDrift  = "events per second, last quarter / first quarter"
	sustainedMemory = "receiver memory, most meanwhile"

	defaultSoak = 12 * time.Second
	// aloneTime is for how long ingest alone is loaded, before and after.
	aloneTime   = 4 * time.Second
	quarters    = 4
	lagInterval = 100 * time.Millisecond
)

func pipelineGroup() group {
	return group{name: "pipeline", measure: measurePipeline, rows: []row{
		promise(sustained, "×", atLeast(0.95)),
		promise(sustainedLag, "s", atMost(1)),
		promise(sustainedDrift, "×", atLeast(0.9)),
		promise(sustainedMemory, "MiB", atMost(128)),
	}}
}

// measurePipeline sends events as fast as they are taken, and counts the time until all their legs
// are in the LEGS log.
func measurePipeline(ctx context.Context, b *bench, s *sheet) error {
	load, err := b.generator(ctx)
	if err != nil {
		return err
	}
	stage, err := b.startIngest(ctx)
	if err != nil {
		return err
	}
	defer stage.stop()
	receiver, err := b.startReceiver(ctx, "pipeline")
	if err != nil {
		return err
	}
	defer receiver.stop()
	before, err := load.run(ctx, stage.address, connections, aloneTime)
	if err != nil {
		return err
	}
	whole, err := b.soakReceiver(ctx, load, receiver)
	if err != nil {
		return err
	}
	after, err := load.run(ctx, stage.address, connections, aloneTime)
	if err != nil {
		return err
	}
	most, err := receiver.memory("VmHWM")
	if err != nil {
		return err
	}
	alone := (before.rate() + after.rate()) / 2
	s.set(sustained, whole.end.correlated/whole.took.Seconds()/alone, "%s events in %s, %s revisions of legs; ingest alone %s/s before and after",
		number(whole.end.correlated), whole.took.Round(10*time.Millisecond), number(whole.end.legs), number(alone))
	s.set(sustainedLag, whole.lag, "seen every %s; %s after the last event all legs were there", lagInterval, whole.caughtUp.Round(10*time.Millisecond))
	s.set(sustainedDrift, whole.rates[quarters-1]/whole.rates[0], "of %s; -soak 10m shows more", b.soak)
	s.set(sustainedMemory, most, "VmHWM")
	return nil
}

// soaked is how a receiver fared under load.
type soaked struct {
	rates          []float64 // by quarter
	took, caughtUp time.Duration
	lag            float64
	end            counts
}

func (b *bench) soakReceiver(ctx context.Context, load *generator, receiver *server) (soaked, error) {
	var whole soaked
	group, ctx := errgroup.WithContext(ctx)
	watched, done := context.WithCancel(ctx)
	group.Go(func() (err error) {
		whole.lag, err = receiver.mostLag(watched)
		return err
	})
	start := time.Now()
	group.Go(func() (err error) {
		defer done()
		for n := range quarters {
			b.progressf("sending events, quarter %d of %d of %s", n+1, quarters, b.soak)
			sent, err := load.run(ctx, receiver.address, connections, max(b.soak/quarters, time.Second))
			if err != nil {
				return err
			}
			whole.rates = append(whole.rates, sent.rate())
		}
		last := time.Now()
		whole.end, err = receiver.settle(ctx)
		whole.took, whole.caughtUp = time.Since(start), time.Since(last)
		return err
	})
	return whole, group.Wait()
}

// mostLag looks at how far correlation is behind until ctx ends, and returns the most, in seconds.
func (s *server) mostLag(ctx context.Context) (float64, error) {
	ticker := time.NewTicker(lagInterval)
	defer ticker.Stop()
	var most float64
	for {
		select {
		case <-ctx.Done():
			return most, nil
		case <-ticker.C:
		}
		now, err := s.counts(ctx)
		if ctx.Err() != nil {
			return most, nil // the look was cut short
		}
		if err != nil {
			return most, err
		}
		most = max(most, now.lag)
	}
}
