package main

import (
	"context"
	"time"
)

const (
	sustained    = "events through ingest → correlation → LEGS log"
	pipelineTime = 12 * time.Second
)

func pipelineGroup() group {
	return group{name: "pipeline", measure: measurePipeline, rows: []row{
		promise(sustained, "/s", atLeast(20_000)),
	}}
}

// measurePipeline sends events as fast as they are taken, and counts the time until all their legs
// are in the LEGS log.
func measurePipeline(ctx context.Context, b *bench, s *sheet) error {
	load, err := b.generator(ctx)
	if err != nil {
		return err
	}
	receiver, err := b.startReceiver(ctx, "pipeline")
	if err != nil {
		return err
	}
	defer receiver.stop()
	b.progressf("sending events for %s", pipelineTime)
	start := time.Now()
	sent, err := load.run(ctx, receiver.address, connections, pipelineTime)
	if err != nil {
		return err
	}
	lag := time.Now()
	b.progressf("%d events sent, waiting for their legs", sent.requests)
	end, err := receiver.settle(ctx)
	if err != nil {
		return err
	}
	s.set(sustained, end.correlated/time.Since(start).Seconds(), "%s events, %s revisions of legs; %s after the last event all were there",
		number(end.correlated), number(end.legs), time.Since(lag).Round(10*time.Millisecond))
	return nil
}
