package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nuid"

	"github.com/pbx-operator/pbx-operator/receiver/backoff"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
	"github.com/pbx-operator/pbx-operator/receiver/ownership"
	"github.com/pbx-operator/pbx-operator/receiver/pipeline"
)

// publisherSlot is what the receiver owns that publishes the legs of all partitions.
const publisherSlot = "publisher"

// duties are what one receiver at a time does: correlate a partition, or publish.
type duties struct {
	*receiver
	cluster    *cluster
	correlator *pipeline.Set
	// member is the name of this process among the receivers.
	member string
}

// takeDuties does what falls to this receiver until ctx ends: everything where no other one can open
// the logs, else its share.
func (r *receiver) takeDuties(ctx context.Context, running *sync.WaitGroup, c *cluster, fail func(error)) {
	d := &duties{receiver: r, cluster: c, member: r.options.pod + "/" + nuid.Next()}
	d.correlator = pipeline.NewSet(pipeline.Config{
		Dialect: r.table, Rules: r.table.Rules, Metrics: pipeline.NewMetrics(r.registry), Logger: r.logger,
		Memory: r.options.memory, MaxOpenCalls: r.options.maxOpenCalls, Partitions: r.journal.Partitions(),
	}, r.journal.LastEvent)
	d.correlator.Register(r.registry)
	r.correlator.Store(d.correlator)
	slots := append(make([]string, 0, r.journal.Partitions()+1), publisherSlot)
	for partition := range r.journal.Partitions() {
		slots = append(slots, strconv.Itoa(partition))
	}
	if r.journal.Shared() {
		start := time.Now()
		running.Go(func() {
			ownership.New(ownership.Config{
				Self: d.member, Slots: slots, Store: journal.Owners{Journal: r.journal}, Work: d.work,
				Elapsed: func() time.Duration { return time.Since(start) }, Logger: r.logger,
			}).Run(ctx)
		})
		return
	}
	for _, slot := range slots {
		running.Go(func() {
			if err := d.work(ctx, slot, 0); err != nil && ctx.Err() == nil {
				fail(err)
			}
		})
	}
}

// work does one duty until ctx ends, or until it finds that it is somebody else's.
func (d *duties) work(ctx context.Context, slot string, term uint64) error {
	if slot == publisherSlot {
		d.publishing.Store(true)
		defer d.publishing.Store(false)
		d.cluster.show(ctx, d.receiver)
		return nil
	}
	partition, err := strconv.Atoi(slot)
	if err != nil {
		return fmt.Errorf("there is no such duty: %w", err)
	}
	return d.correlate(ctx, partition, journal.Term{Number: term, Owner: d.member})
}

// correlate takes a partition and correlates it.
func (d *duties) correlate(ctx context.Context, partition int, term journal.Term) error {
	begun := time.Now()
	var taken *journal.Partition
	var fenced error
	err := backoff.Retry(ctx, backoff.Default, func(ctx context.Context) (err error) {
		taken, err = d.journal.Take(ctx, partition, term)
		if errors.Is(err, journal.ErrFenced) {
			fenced, err = err, nil
		}
		return err
	}, func(err error, pause time.Duration) {
		d.logger.Warn("cannot take a partition; trying again", "partition", partition, "error", err, "in", pause)
	})
	if err = cmp.Or(err, fenced); err != nil {
		return fmt.Errorf("cannot take partition %d: %w", partition, err)
	}
	d.logger.Info("a partition is taken", "partition", partition, "term", term.Number, "took", time.Since(begun))
	return d.correlator.Run(ctx, partition, taken)
}
