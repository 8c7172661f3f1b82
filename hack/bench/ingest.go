package main

import (
	"context"
	"fmt"
	"time"
)

const (
	durableRatio  = "durable ingest / bare handler, 64 connections"
	expressRatio  = "durable ingest / Express + PostgreSQL INSERT per event"
	ingestCPU     = "CPU per 1000 events, ingest"
	ingestP99     = "p99 at 64 connections"
	ingestP50     = "p50 with one connection"
	stageRatio    = "durable ingest alone, without correlation / bare handler"
	stageCPU      = "CPU per 1000 events, ingest alone"
	idleMemory    = "receiver memory, idle"
	loadedMemory  = "receiver memory, most under load"
	connections   = 64
	rounds        = 3
	warmUp        = 2 * time.Second
	bareTime      = 4 * time.Second
	peerTime      = 6 * time.Second
	singleTime    = 4 * time.Second
	idleTime      = 3 * time.Second
	thousandths   = 1000
	roundsComment = "median of 3 rounds in turn"
)

func ingestGroup() group {
	return group{name: "ingest", measure: measureIngest, rows: []row{
		promise(durableRatio, "×", atLeast(0.5)),
		promise(stageRatio, "×", target{}),
		promise(expressRatio, "×", atLeast(6)),
		promise(ingestCPU, "s", atMost(0.035)),
		promise(stageCPU, "s", target{}),
		promise(ingestP99, "ms", atMost(6)),
		promise(ingestP50, "ms", atMost(0.2)),
		promise(idleMemory, "MiB", atMost(60)),
		promise(loadedMemory, "MiB", atMost(128)),
	}}
}

// contest is the servers that are loaded in turn.
type contest struct {
	*bench
	load                  *generator
	bare, stage, receiver *server
	express               *express
	// expressTotal is how many events Express has answered in the rounds.
	expressTotal int
}

func measureIngest(ctx context.Context, b *bench, s *sheet) error {
	c := &contest{bench: b}
	defer c.stop()
	if err := c.start(ctx); err != nil {
		return err
	}
	if err := c.measureIdle(ctx, s); err != nil {
		return err
	}
	var err error
	if c.express, err = b.startExpress(ctx); err != nil {
		s.failRow(expressRatio, err)
	}
	if err := c.warm(ctx); err != nil {
		return err
	}
	if err := c.measureRounds(ctx, s); err != nil {
		return err
	}
	return c.measureSingle(ctx, s)
}

func (c *contest) start(ctx context.Context) (err error) {
	if c.load, err = c.generator(ctx); err != nil {
		return err
	}
	if c.receiver, err = c.startReceiver(ctx, "receiver"); err != nil {
		return err
	}
	if c.bare, err = c.startBare(ctx); err != nil {
		return err
	}
	c.stage, err = c.startIngest(ctx)
	return err
}

func (c *contest) stop() {
	for _, s := range []*server{c.bare, c.stage, c.receiver} {
		if s != nil {
			s.stop()
		}
	}
	if c.express != nil {
		c.express.stop()
	}
}

func (c *contest) measureIdle(ctx context.Context, s *sheet) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(idleTime):
	}
	idle, err := c.receiver.memory("VmRSS")
	if err != nil {
		return err
	}
	s.set(idleMemory, idle, "VmRSS %s after the start", idleTime)
	return nil
}

func (c *contest) warm(ctx context.Context) error {
	c.progressf("warming up")
	for _, address := range c.addresses() {
		if _, err := c.load.run(ctx, address, connections, warmUp); err != nil {
			return err
		}
	}
	_, err := c.receiver.settle(ctx)
	return err
}

func (c *contest) addresses() []string {
	list := []string{c.bare.address, c.stage.address, c.receiver.address}
	if c.express != nil {
		list = append(list, c.express.address)
	}
	return list
}

// results are what the rounds saw.
type results struct {
	durable, stage, express []float64
	cpu, stageCPU, wholeCPU []float64
	p99                     []time.Duration
	rates, bareRates        []float64
	expressRates            []float64
}

func (c *contest) measureRounds(ctx context.Context, s *sheet) error {
	r := &results{}
	for n := range rounds {
		c.progressf("round %d of %d", n+1, rounds)
		if err := c.round(ctx, r); err != nil {
			return err
		}
	}
	rates := func(list []float64) string { return number(median(list)) + "/s" }
	s.set(durableRatio, median(r.durable), "%s; receiver %s, correlating all the while; bare %s", roundsComment, rates(r.rates), rates(r.bareRates))
	s.set(stageRatio, median(r.stage), "explains the row above: the same handler and log in a process without the other stages")
	s.set(ingestCPU, median(r.cpu), "receiver process during the load; %s s with what it caught up on afterwards", number(median(r.wholeCPU)))
	s.set(stageCPU, median(r.stageCPU), "explains the row above")
	s.set(ingestP99, milliseconds(median(r.p99)), "the client at saturation: about 64 / rate")
	if c.express != nil {
		s.set(expressRatio, median(r.express), "%s; Express %s", roundsComment, rates(r.expressRates))
	}
	most, err := c.receiver.memory("VmHWM")
	if err != nil {
		return err
	}
	s.set(loadedMemory, most, "VmHWM after the rounds; GOMEMLIMIT as the operator sets it, 230 MiB")
	return nil
}

// round loads each server once. The bare handler comes right before the receiver, and before the
// ingest stage.
func (c *contest) round(ctx context.Context, r *results) error {
	bare, err := c.load.run(ctx, c.bare.address, connections, bareTime)
	if err != nil {
		return fmt.Errorf("bare handler: %w", err)
	}
	product, err := c.receiverRound(ctx, r)
	if err != nil {
		return fmt.Errorf("receiver: %w", err)
	}
	before, err := c.stage.cpu()
	if err != nil {
		return err
	}
	stage, err := c.load.run(ctx, c.stage.address, connections, bareTime)
	if err != nil {
		return fmt.Errorf("ingest alone: %w", err)
	}
	after, err := c.stage.cpu()
	if err != nil {
		return err
	}
	r.durable = append(r.durable, product.rate()/bare.rate())
	r.rates = append(r.rates, product.rate())
	r.bareRates = append(r.bareRates, bare.rate())
	r.p99 = append(r.p99, product.p99)
	r.stage = append(r.stage, stage.rate()/bare.rate())
	r.stageCPU = append(r.stageCPU, perThousand(after-before, stage.requests))
	return c.expressRound(ctx, r, product)
}

// receiverRound loads the receiver and waits until it has caught up, so that it is quiet in the
// rounds of others.
func (c *contest) receiverRound(ctx context.Context, r *results) (round, error) {
	start, err := c.receiver.counts(ctx)
	if err != nil {
		return round{}, err
	}
	before, err := c.receiver.cpu()
	if err != nil {
		return round{}, err
	}
	product, err := c.load.run(ctx, c.receiver.address, connections, peerTime)
	if err != nil {
		return round{}, err
	}
	loaded, err := c.receiver.cpu()
	if err != nil {
		return round{}, err
	}
	end, err := c.receiver.settle(ctx)
	if err != nil {
		return round{}, err
	}
	settled, err := c.receiver.cpu()
	if err != nil {
		return round{}, err
	}
	if stored := int(end.correlated - start.correlated); stored < product.requests {
		return round{}, fmt.Errorf("%d events were answered, but only %d correlated", product.requests, stored)
	}
	r.cpu = append(r.cpu, perThousand(loaded-before, product.requests))
	r.wholeCPU = append(r.wholeCPU, perThousand(settled-before, product.requests))
	return product, nil
}

func (c *contest) expressRound(ctx context.Context, r *results, product round) error {
	if c.express == nil {
		return nil
	}
	peer, err := c.load.run(ctx, c.express.address, connections, peerTime)
	if err != nil {
		return fmt.Errorf("express: %w", err)
	}
	c.expressTotal += peer.requests
	stored, err := c.express.stored(ctx)
	if err != nil {
		return err
	}
	if stored < c.expressTotal {
		return fmt.Errorf("express answered %d events, but stored only %d", c.expressTotal, stored)
	}
	r.express = append(r.express, product.rate()/peer.rate())
	r.expressRates = append(r.expressRates, peer.rate())
	return nil
}

func (c *contest) measureSingle(ctx context.Context, s *sheet) error {
	c.progressf("one connection")
	single, err := c.load.run(ctx, c.receiver.address, 1, singleTime)
	if err != nil {
		return err
	}
	s.set(ingestP50, milliseconds(single.p50), "p99 %s ms; %s/s", number(milliseconds(single.p99)), number(single.rate()))
	return nil
}

func perThousand(used time.Duration, events int) float64 {
	return used.Seconds() / float64(events) * thousandths
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
