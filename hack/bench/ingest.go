package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	durableRatio  = "durable ingest, correlating / limit, 64 connections"
	stageRatio    = "durable ingest alone / limit"
	limitRatio    = "limit / bare handler"
	expressRatio  = "durable ingest, correlating / Express + PostgreSQL INSERT per event"
	ingestCPU     = "processor time per event / limit"
	stageCPU      = "processor time per event, ingest alone / limit"
	ingestP99     = "p99 at 64 connections / limit"
	ingestP50     = "p50 with one connection / limit"
	idleMemory    = "receiver memory, idle"
	loadedMemory  = "receiver memory, most under load"
	connections   = 64
	rounds        = 3
	warmUp        = 2 * time.Second
	bareTime      = 4 * time.Second
	peerTime      = 6 * time.Second
	singleTime    = 3 * time.Second
	idleTime      = 3 * time.Second
	thousandths   = 1000
	roundsComment = "median of 3 rounds in turn"
)

func ingestGroup() group {
	return group{name: "ingest", measure: measureIngest, rows: []row{
		promise(durableRatio, "×", atLeast(0.95)),
		promise(stageRatio, "×", target{}),
		promise(limitRatio, "×", target{}),
		promise(expressRatio, "×", atLeast(8)),
		promise(ingestCPU, "×", atMost(1.15)),
		promise(stageCPU, "×", target{}),
		promise(ingestP99, "×", atMost(1.2)),
		promise(ingestP50, "×", atMost(1.15)),
		promise(idleMemory, "MiB", atMost(60)),
		promise(loadedMemory, "MiB", atMost(128)),
	}}
}

// contest is the servers that are loaded in turn.
type contest struct {
	*bench
	load *generator

	bare, limit, stage, receiver *server

	express *express
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
	if c.limit, err = c.startLimit(ctx); err != nil {
		return err
	}
	c.stage, err = c.startIngest(ctx)
	return err
}

func (c *contest) stop() {
	for _, s := range []*server{c.bare, c.limit, c.stage, c.receiver} {
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
	list := []string{c.bare.address, c.limit.address, c.stage.address, c.receiver.address}
	if c.express != nil {
		list = append(list, c.express.address)
	}
	return list
}

// loaded is what one server did in one round.
type loaded struct {
	round
	// cpu is the processor time for 1000 events.
	cpu float64
}

// results are what the rounds saw, by server.
type results struct {
	bare, limit, stage, receiver, express []loaded
	// receiverWhole is the receiver's processor time for 1000 events with what it caught up on
	// after the load.
	receiverWhole []float64
}

// ratio is the median of a figure of one server over that of another in the same round.
func ratio(these, those []loaded, figure func(loaded) float64) float64 {
	ratios := make([]float64, 0, len(these))
	for i := range these {
		ratios = append(ratios, figure(these[i])/figure(those[i]))
	}
	return median(ratios)
}

func middle(of []loaded, figure func(loaded) float64) string {
	values := make([]float64, 0, len(of))
	for _, l := range of {
		values = append(values, figure(l))
	}
	return number(median(values))
}

func rateOf(l loaded) float64 { return l.rate() }
func cpuOf(l loaded) float64  { return l.cpu }
func p50Of(l loaded) float64  { return milliseconds(l.p50) }
func p99Of(l loaded) float64  { return milliseconds(l.p99) }

func (c *contest) measureRounds(ctx context.Context, s *sheet) error {
	r := &results{}
	for n := range rounds {
		c.progressf("round %d of %d", n+1, rounds)
		if err := c.round(ctx, r); err != nil {
			return err
		}
	}
	r.report(s, c.express != nil)
	most, err := c.receiver.memory("VmHWM")
	if err != nil {
		return err
	}
	s.set(loadedMemory, most, "VmHWM after the rounds; GOMEMLIMIT as the operator sets it, 230 MiB")
	return nil
}

func (r *results) report(s *sheet, withExpress bool) {
	s.set(durableRatio, ratio(r.receiver, r.limit, rateOf), "%s; receiver %s/s, limit %s/s", roundsComment, middle(r.receiver, rateOf), middle(r.limit, rateOf))
	s.set(stageRatio, ratio(r.stage, r.limit, rateOf), "explains the row above: the same handler and log in a process without the other stages")
	s.set(limitRatio, ratio(r.limit, r.bare, rateOf), "bare %s/s", middle(r.bare, rateOf))
	s.set(ingestCPU, ratio(r.receiver, r.limit, cpuOf), "seconds per 1000 events: receiver %s, %s with what it caught up on afterwards, limit %s",
		middle(r.receiver, cpuOf), number(median(r.receiverWhole)), middle(r.limit, cpuOf))
	s.set(stageCPU, ratio(r.stage, r.limit, cpuOf), "explains the row above")
	s.set(ingestP99, ratio(r.receiver, r.limit, p99Of), "receiver %s ms, limit %s ms", middle(r.receiver, p99Of), middle(r.limit, p99Of))
	if withExpress {
		s.set(expressRatio, ratio(r.receiver, r.express, rateOf), "%s; Express %s/s", roundsComment, middle(r.express, rateOf))
	}
}

// round loads each server once. The limit comes right before the receiver.
func (c *contest) round(ctx context.Context, r *results) error {
	for _, turn := range []struct {
		server *server
		time   time.Duration
		result *[]loaded
	}{{c.bare, bareTime, &r.bare}, {c.stage, bareTime, &r.stage}, {c.limit, peerTime, &r.limit}} {
		result, err := c.loadOne(ctx, turn.server, connections, turn.time)
		if err != nil {
			return err
		}
		*turn.result = append(*turn.result, result)
	}
	return errors.Join(c.receiverRound(ctx, r), c.expressRound(ctx, r))
}

// loadOne loads a server and takes its processor time meanwhile.
func (c *contest) loadOne(ctx context.Context, s *server, connections int, duration time.Duration) (loaded, error) {
	before, err := s.cpu()
	if err != nil {
		return loaded{}, err
	}
	result, err := c.load.run(ctx, s.address, connections, duration)
	if err != nil {
		return loaded{}, fmt.Errorf("%s: %w", s.name, err)
	}
	after, err := s.cpu()
	return loaded{round: result, cpu: perThousand(after-before, result.requests)}, err
}

// receiverRound loads the receiver and waits until it has caught up, so that it is quiet in the
// rounds of others.
func (c *contest) receiverRound(ctx context.Context, r *results) error {
	start, err := c.receiver.counts(ctx)
	if err != nil {
		return err
	}
	before, err := c.receiver.cpu()
	if err != nil {
		return err
	}
	result, err := c.loadOne(ctx, c.receiver, connections, peerTime)
	if err != nil {
		return err
	}
	end, err := c.receiver.settle(ctx)
	if err != nil {
		return err
	}
	settled, err := c.receiver.cpu()
	if err != nil {
		return err
	}
	if stored := int(end.correlated - start.correlated); stored < result.requests {
		return fmt.Errorf("%d events were answered, but only %d correlated", result.requests, stored)
	}
	r.receiver = append(r.receiver, result)
	r.receiverWhole = append(r.receiverWhole, perThousand(settled-before, result.requests))
	return nil
}

func (c *contest) expressRound(ctx context.Context, r *results) error {
	if c.express == nil {
		return nil
	}
	peer, err := c.loadOne(ctx, c.express.server, connections, peerTime)
	if err != nil {
		return err
	}
	c.expressTotal += peer.requests
	stored, err := c.express.stored(ctx)
	if err != nil {
		return err
	}
	if stored < c.expressTotal {
		return fmt.Errorf("express answered %d events, but stored only %d", c.expressTotal, stored)
	}
	r.express = append(r.express, peer)
	return nil
}

// measureSingle compares the time that one event takes when no other is under way.
func (c *contest) measureSingle(ctx context.Context, s *sheet) error {
	var limits, receivers []loaded
	for n := range rounds {
		c.progressf("one connection, round %d of %d", n+1, rounds)
		limit, err := c.loadOne(ctx, c.limit, 1, singleTime)
		if err != nil {
			return err
		}
		receiver, err := c.loadOne(ctx, c.receiver, 1, singleTime)
		if err != nil {
			return err
		}
		limits, receivers = append(limits, limit), append(receivers, receiver)
	}
	s.set(ingestP50, ratio(receivers, limits, p50Of), "%s; receiver %s ms, limit %s ms; p99 %s and %s ms", roundsComment,
		middle(receivers, p50Of), middle(limits, p50Of), middle(receivers, p99Of), middle(limits, p99Of))
	return nil
}

func perThousand(used time.Duration, events int) float64 {
	return used.Seconds() / float64(events) * thousandths
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
