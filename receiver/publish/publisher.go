package publish

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

const (
	// durable names the publisher's own progress in the LEGS log.
	durable = "calllegs"
	// workers write at the same time. More do not help one API server (measured: 960 creates a second with 16, 1,012 with 64).
	workers = 16
	// coalesce is the shortest time between two writes of one leg.
	coalesce = 500 * time.Millisecond
	// callTimeout ends a request that the API server does not answer.
	callTimeout = 15 * time.Second
	// recountEvery is how often the shelf is compared with what really exists.
	recountEvery = time.Minute
	// longestRetry is the longest time between two attempts for one leg, while the API server takes others.
	longestRetry = 15 * time.Second
)

// Legs is the LEGS log.
type Legs interface {
	// ConsumeLegs calls handle with the newest states of legs, at least once each, until ctx is done. A batch is consumed once handle has
	// returned nil; else it is delivered again. handle may be called concurrently. It returns when the API server has got the whole batch,
	// so it blocks while the API server is away.
	ConsumeLegs(ctx context.Context, durable string, handle func(context.Context, []Record) error) error
}

// Config is what a Publisher needs.
type Config struct {
	// Client writes without a cache and without a rate limit of its own (rest.Config.QPS = -1); its scheme is that of NewScheme.
	Client client.Client
	// Integration is the PBXIntegration that this receiver belongs to.
	Integration types.NamespacedName
	// Policy is the newest policy; false when the integration is gone.
	Policy func() (Policy, bool)
	// Place is the ExtensionMapping of an extension number, for the Event of a missed call.
	Place      func(extension string) (Reference, bool)
	Legs       Legs
	Notices    *Notices
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Publisher keeps the CallLeg objects of one integration in step with its LEGS log.
type Publisher struct {
	Config
	pending   *pending
	shelf     *shelf
	gate      gate
	queue     workqueue.TypedRateLimitingInterface[string]
	metrics   *metrics
	succeeded atomic.Int64
	counted   counting
}

// NewScheme knows the kinds that a Publisher reads and writes.
func NewScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{metav1.AddMetaToScheme, v1alpha1.AddToScheme, eventsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("cannot make a scheme: %w", err)
		}
	}
	return scheme, nil
}

// New makes a Publisher. It does nothing before Run.
func New(config Config) *Publisher {
	p := &Publisher{Config: config, pending: newPending(), shelf: newShelf()}
	p.metrics = newMetrics(config.Registerer, p.pending, p.shelf)
	p.queue = workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstPause, longestRetry))
	return p
}

// Run publishes until ctx is done, and posts the notices meanwhile. What is not written by then is delivered again at the next start.
func (p *Publisher) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.Notices.Run(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		p.queue.ShutDown()
		return nil
	})
	group.Go(func() error {
		if err := p.count(ctx); err != nil {
			return nil //nolint:nilerr // count gives up only because ctx is done
		}
		for range workers {
			group.Go(func() error { p.work(ctx); return nil })
		}
		group.Go(func() error { p.keepHouse(ctx); return nil })
		return p.consume(ctx)
	})
	return group.Wait()
}

func (p *Publisher) consume(ctx context.Context) error {
	if err := p.Legs.ConsumeLegs(ctx, durable, p.handle); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot read the log of legs: %w", err)
	}
	return nil
}

// handle returns when the whole batch is settled.
func (p *Publisher) handle(ctx context.Context, batch []Record) error {
	settled := make(chan struct{}, len(batch))
	for _, record := range batch {
		name := Name(p.Integration.Name, record.Leg.CallID, record.Leg.LegID)
		p.pending.offer(name, record, func() { settled <- struct{}{} })
		p.enqueue(name)
	}
	for range batch {
		select {
		case <-settled:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// enqueue has a leg written now, or as soon as its last write is long enough ago.
func (p *Publisher) enqueue(name string) {
	known, _ := p.shelf.get(name)
	p.queue.AddAfter(name, time.Until(known.written.Add(coalesce)))
}

func (p *Publisher) work(ctx context.Context) {
	for {
		name, shutdown := p.queue.Get()
		if shutdown {
			return
		}
		p.process(ctx, name)
		p.queue.Done(name)
	}
}

// process publishes the newest state of one leg and decides what becomes of it.
func (p *Publisher) process(ctx context.Context, name string) {
	if known, ok := p.shelf.get(name); ok && time.Since(known.written) < coalesce {
		p.enqueue(name)
		return
	}
	if p.gate.wait(ctx) != nil {
		return
	}
	record, ok := p.pending.newest(name)
	if !ok {
		return
	}
	err := p.publish(ctx, name, record)
	outcome := judge(err)
	if outcome == later && ctx.Err() == nil && poison(err, p.pending.failed(name, p.succeeded.Load()), p.succeeded.Load()) {
		outcome = refused
	}
	switch outcome {
	case later:
		p.postpone(ctx, name, err)
		return
	case gone:
		p.metrics.dropped.WithLabelValues(droppedDeleting).Inc()
	case refused:
		p.refuse(name, err)
	case written:
	}
	p.queue.Forget(name)
	p.pending.settle(name, record.Leg.Revision)
}

// postpone has the leg tried again later, and all others wait a moment.
func (p *Publisher) postpone(ctx context.Context, name string, err error) {
	if ctx.Err() != nil {
		return
	}
	if p.gate.trip(retryAfter(err)) {
		p.Logger.WarnContext(ctx, "the Kubernetes API does not take call legs; they wait in the log", "error", err, "waiting", p.pending.size())
	}
	p.queue.AddRateLimited(name)
}

func (p *Publisher) refuse(name string, err error) {
	why := refusal(err)
	p.metrics.dropped.WithLabelValues(droppedRefused).Inc()
	p.Logger.Error("the Kubernetes API refuses a call leg; it stays in the log", "callleg", name, "why", why)
	p.Notices.refused(why)
}

// succeed notes that the API server takes writes.
func (p *Publisher) succeed(ctx context.Context) {
	p.succeeded.Add(1)
	if p.gate.open() {
		p.Logger.InfoContext(ctx, "the Kubernetes API takes call legs again", "waiting", p.pending.size())
	}
}
