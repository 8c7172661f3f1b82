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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/backoff"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

const (
	// workers write at the same time. More do not help one API server (measured: 960 creates a
	// second with 16, 1,012 with 64).
	workers = 16
	// coalesce is the shortest time between two writes of one leg.
	coalesce = 500 * time.Millisecond
	// callTimeout ends a request that the API server does not answer.
	callTimeout = 15 * time.Second
	// recountEvery is how often the object cache is compared with what really exists.
	recountEvery = time.Minute
	// firstRetry and longestRetry are the times between two attempts for one leg, while the API
	// server takes others.
	firstRetry   = 100 * time.Millisecond
	longestRetry = 15 * time.Second
)

// Legs is the LEGS log.
type Legs interface {
	// FollowLegs calls handle with the newest states of legs, at least once each, until ctx is
	// done. It goes on reading whatever becomes of them: handle does not block, and calls done when
	// the batch need not be delivered again.
	FollowLegs(ctx context.Context, handle func(batch []Record, done func())) error
}

// Config is what a Publisher needs.
type Config struct {
	// Client writes without a cache and without a rate limit of its own (rest.Config.QPS = -1); its
	// scheme is that of NewScheme.
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
	objects   *objectCache
	api       *backoff.Shared
	metrics   *metrics
	succeeded atomic.Int64
	skipped   atomic.Uint64
	counted   counting
	away      away
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
	p := &Publisher{Config: config, pending: newPending(), objects: newObjectCache(), api: backoff.NewShared(backoff.Default)}
	p.metrics = newMetrics(config.Registerer, p.pending, p.objects)
	return p
}

// Run publishes until ctx is done, and posts the notices meanwhile. What is not written by then is
// delivered again at the next start. It may be run again after it has ended.
func (p *Publisher) Run(ctx context.Context) error {
	p.pending.clear()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.Notices.Run(ctx) })
	group.Go(func() error {
		if err := p.count(ctx); err != nil {
			return nil //nolint:nilerr // count gives up only because ctx is done
		}
		for range workers {
			group.Go(func() error { p.work(ctx); return nil })
		}
		group.Go(func() error { p.tidyLoop(ctx); return nil })
		return p.follow(ctx)
	})
	return group.Wait()
}

func (p *Publisher) follow(ctx context.Context) error {
	if err := p.Legs.FollowLegs(ctx, p.handle); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot read the log of legs: %w", err)
	}
	return nil
}

// handle takes a batch in. It never waits: what the API server does not take in time gives way to
// what is newer, so that a slow one holds up neither the log nor, behind it, the intake of events.
func (p *Publisher) handle(batch []Record, done func()) {
	policy, ok := p.Policy()
	var open atomic.Int64
	open.Store(int64(len(batch)))
	settled := func() {
		if open.Add(-1) == 0 {
			done()
		}
	}
	for _, record := range batch {
		if ok && !policy.shows(record.Leg) {
			settled()
			continue
		}
		p.skip(policy, p.pending.add(p.offer(record, settled), max(policy.MaxObjects, 1)))
	}
}

// offer says how a leg is to be written.
func (p *Publisher) offer(record Record, settled func()) offer {
	name := Name(p.Integration.Name, record.Leg.CallID, record.Leg.LegID)
	known, exists := p.objects.get(name)
	return offer{name: name, record: record, exists: exists, due: known.written.Add(coalesce), settled: settled}
}

// skip accounts for legs that are in the log, but are not shown.
func (p *Publisher) skip(policy Policy, legs []correlation.Leg) {
	for _, leg := range legs {
		p.countSkipped(policy)
		if missed(leg) {
			p.Notices.suppress(1)
		}
	}
}

func (p *Publisher) countSkipped(policy Policy) {
	p.metrics.dropped.WithLabelValues(droppedBehind).Inc()
	p.skipped.Add(1)
	p.Notices.behind(policy.MaxObjects)
}

// work writes one leg after the other.
func (p *Publisher) work(ctx context.Context) {
	for p.api.Wait(ctx) == nil {
		name, record, ok := p.pending.take(ctx)
		if !ok || p.api.Wait(ctx) != nil {
			return
		}
		p.process(ctx, name, record)
	}
}

// process publishes the newest state of one leg and decides what becomes of it.
func (p *Publisher) process(ctx context.Context, name string, record Record) {
	err := p.publish(ctx, name, record)
	outcome := outcomeOf(err)
	if outcome == later && ctx.Err() == nil && refusedInEffect(err, p.pending.failed(name, p.succeeded.Load()), p.succeeded.Load()) {
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
	known, _ := p.objects.get(name)
	p.pending.settle(name, record.Leg.Revision, known.written.Add(coalesce))
}

// postpone has the leg tried again later, and all others wait a moment.
func (p *Publisher) postpone(ctx context.Context, name string, err error) {
	if ctx.Err() != nil {
		return
	}
	if p.api.Failed(retryAfter(err)) {
		p.away.begin()
		p.Logger.WarnContext(ctx, "the Kubernetes API does not take call legs; they wait in the log", "error", err, "waiting", p.pending.size())
	}
	p.pending.postpone(name)
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
	p.away.end()
	if p.api.Succeeded() {
		p.Logger.InfoContext(ctx, "the Kubernetes API takes call legs again", "waiting", p.pending.size())
	}
}
