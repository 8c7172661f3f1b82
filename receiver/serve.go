package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"k8s.io/klog/v2"

	"github.com/pbx-operator/pbx-operator/receiver/dialect/dialects"
	"github.com/pbx-operator/pbx-operator/receiver/ingest"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
	"github.com/pbx-operator/pbx-operator/receiver/pipeline"
	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

func serve(ctx context.Context, args []string, stderr io.Writer) int {
	options, err := parseFlags(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		_, _ = fmt.Fprintln(stderr, err)
		return exitUsage
	}
	options.memory = limitMemory()
	go watchHeap(ctx, options.memory)
	logger := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: options.logLevel}))
	klog.SetSlogLogger(logger)
	err = newReceiver(options, logger).run(ctx)
	for errors.Is(err, errResized) {
		err = newReceiver(options, logger).run(ctx)
	}
	if err != nil {
		logger.Error("the receiver has failed", "error", err)
		return exitFailure
	}
	return 0
}

// receiver is one running receiver.
type receiver struct {
	options  options
	logger   *slog.Logger
	registry *prometheus.Registry
	table    *sources.Table
	journal  *journal.Journal
	// correlator is nil until the logs are open.
	correlator atomic.Pointer[pipeline.Set]
	progress   progress
	stopping   atomic.Bool
	// publishing tells that this receiver is the one that publishes.
	publishing atomic.Bool
	opened     atomic.Bool
	taking     atomic.Bool
	// unopened says why the logs cannot be opened yet.
	unopened atomic.Pointer[string]
}

func newReceiver(o options, logger *slog.Logger) *receiver {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &receiver{options: o, logger: logger, registry: registry, table: &sources.Table{Rate: o.sourceRate}}
}

// run serves until ctx ends, then finishes what it has begun.
func (r *receiver) run(ctx context.Context) error {
	probes, err := listenProbes(ctx, r)
	if err != nil {
		return err
	}
	defer probes.close()
	if err := r.learnReplicas(ctx); err != nil {
		return err
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer stop()
	cluster, err := r.findSources(watching, &watchers)
	if err != nil {
		return err
	}
	r.journal, err = r.openJournal(ctx, cluster, newJournalMetrics(r.registry))
	if err != nil || r.journal == nil {
		return err
	}
	defer r.journal.Close()
	r.registry.MustRegister(newLogCollector(r.journal), newCorrelationCollector(r))
	r.opened.Store(true)
	return r.serveEvents(ctx, cluster)
}

// serveEvents runs the workers behind the port for events, opens it, and closes them all in the opposite
// order.
func (r *receiver) serveEvents(ctx context.Context, cluster *cluster) error {
	workers, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	failed := make(chan error, 1)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	if !r.awaitSources(ctx) {
		return nil
	}
	handler := ingest.New(ingest.Config{
		Resolver: r.table, Journal: r.journal, Dialect: r.table, ContentTypes: dialects.ContentTypes(r.table.Type()),
		Metrics: ingest.NewMetrics(r.registry), Logger: r.logger, Quarantined: cluster.quarantined,
	})
	limits := ingest.DefaultLimits()
	limits.Connections = r.options.maxConnections
	server, err := ingest.Listen(ctx, r.options.listen, handler, limits, r.logger)
	if err != nil {
		return err
	}
	running.Go(func() {
		if err := server.Serve(); err != nil {
			fail(err)
		}
	})
	r.taking.Store(true)
	r.takeDuties(workers, &running, cluster, fail)
	cluster.watchOutages(workers, &running, r)
	cluster.watchAgents(workers, &running, r)
	running.Go(func() { r.newMonitor(cluster).run(workers) })
	running.Go(func() {
		if err := r.followReplicas(workers, cluster); err != nil {
			fail(err)
		}
	})
	r.logger.Info("taking events", "address", server.Addr().String(), "extensions", r.table.Targets())
	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
	}
	return errors.Join(err, r.drain(ctx, server))
}

// drain ends the intake of events.
func (r *receiver) drain(ctx context.Context, server *ingest.Server) error {
	r.stopping.Store(true)
	r.logger.Info("stopping")
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.options.shutdownGrace)
	defer cancel()
	return server.Shutdown(grace)
}

// awaitSources waits until it is known what the integration looks like; false when ctx ends before.
func (r *receiver) awaitSources(ctx context.Context) bool {
	const often = 20 * time.Millisecond
	ticker := time.NewTicker(often)
	defer ticker.Stop()
	for !r.table.Loaded() {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}
