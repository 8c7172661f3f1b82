package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/publish"
)

const (
	publishRatio  = "CallLeg publication / bare client-go create loop"
	publishWrites = "API writes per finished leg, publish: Completed"

	publishedLegs = 2500
	revisions     = 3
	// createWorkers of the bare loop; as many as the publisher has.
	createWorkers = 16
	// batchLegs and batchesInFlight are what the journal delivers at a time.
	batchLegs, batchesInFlight = 256, 4
	requestsMetric             = "pbx_receiver_callleg_requests_total"
)

func publishGroup() group {
	return group{name: "publish", measure: measurePublish, rows: []row{
		promise(publishRatio, "×", atLeast(0.8)),
		promise(publishWrites, "", atMost(1)),
	}}
}

func measurePublish(ctx context.Context, b *bench, s *sheet) error {
	cluster, err := b.startAPI()
	if err != nil {
		return err
	}
	defer cluster.stop()
	var ratios, bares, products, writes []float64
	for n := range rounds {
		b.progressf("round %d of %d: %d objects each", n+1, rounds, publishedLegs)
		bare, err := cluster.createLegs(ctx, fmt.Sprintf("bare-%d", n), finishedLegs(n))
		if err != nil {
			return fmt.Errorf("bare create loop: %w", err)
		}
		product, requests, err := cluster.publishLegs(ctx, fmt.Sprintf("product-%d", n), finishedLegs(n))
		if err != nil {
			return fmt.Errorf("publisher: %w", err)
		}
		ratios, bares = append(ratios, product/bare), append(bares, bare)
		products, writes = append(products, product), append(writes, requests/publishedLegs)
	}
	s.set(publishRatio, median(ratios), "%s; publisher %s/s, bare loop %s/s", roundsComment, number(median(products)), number(median(bares)))
	s.set(publishWrites, slices.Max(writes), "each leg was delivered ringing, answered and completed; %d legs a round", publishedLegs)
	return nil
}

// story is the revisions of one leg: ringing, answered, completed.
type story [revisions]correlation.Leg

// finishedLegs are the legs of calls like those that form.lua makes.
func finishedLegs(series int) []story {
	legs := make([]story, publishedLegs)
	for i := range legs {
		var call correlation.Call
		for step, event := range callEvents(series*publishedLegs + i) {
			call.Add(event)
			legs[i][step] = call.Outcome(correlation.DefaultRules()).Legs[0]
		}
	}
	return legs
}

// createLegs creates the objects of finished legs in the plainest way, and returns how many a
// second.
func (a *api) createLegs(ctx context.Context, integration string, legs []story) (float64, error) {
	objects, err := unstructuredLegs(integration, legs)
	if err != nil {
		return 0, err
	}
	dynamicClient, err := dynamic.NewForConfig(a.config)
	if err != nil {
		return 0, fmt.Errorf("cannot make a client: %w", err)
	}
	resource := dynamicClient.Resource(v1alpha1.GroupVersion.WithResource("calllegs")).Namespace(namespace)
	var next atomic.Int64
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range createWorkers {
		group.Go(func() error {
			for i := next.Add(1) - 1; int(i) < len(objects); i = next.Add(1) - 1 {
				if _, err := resource.Create(ctx, objects[i], metav1.CreateOptions{}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = group.Wait()
	return float64(len(objects)) / time.Since(start).Seconds(), err
}

func unstructuredLegs(integration string, legs []story) ([]*unstructured.Unstructured, error) {
	objects := make([]*unstructured.Unstructured, len(legs))
	for i := range legs {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(publish.Object(namespace, integration, legs[i][revisions-1]))
		if err != nil {
			return nil, fmt.Errorf("cannot encode a call leg: %w", err)
		}
		objects[i] = &unstructured.Unstructured{Object: content}
	}
	return objects, nil
}

// publishLegs has the legs published as a receiver does it, and returns how many a second, and how
// many writes that took.
func (a *api) publishLegs(ctx context.Context, integration string, legs []story) (perSecond, writes float64, err error) {
	scheme, err := publish.NewScheme()
	if err != nil {
		return 0, 0, err
	}
	writer, err := client.New(a.config, client.Options{Scheme: scheme})
	if err != nil {
		return 0, 0, fmt.Errorf("cannot make a client: %w", err)
	}
	registry, delivery := prometheus.NewRegistry(), &delivery{legs: legs, done: make(chan struct{})}
	publisher := newPublisher(writer, integration, registry, delivery)
	running, stop := context.WithCancel(ctx)
	failed := make(chan error, 1)
	go func() { failed <- publisher.Run(running) }()
	select {
	case <-delivery.done:
	case err = <-failed:
		err = errors.Join(errors.New("it has ended early"), err)
	}
	stop()
	if err != nil {
		return 0, 0, err
	}
	err = <-failed
	writes, err2 := countWrites(registry)
	return float64(len(legs)) / delivery.took.Seconds(), writes, errors.Join(err, err2, delivery.err)
}

func newPublisher(writer client.Client, integration string, registry *prometheus.Registry, legs publish.Legs) *publish.Publisher {
	name := types.NamespacedName{Namespace: namespace, Name: integration}
	policy := func() (publish.Policy, bool) {
		return publish.Policy{
			Integration: publish.Reference{Name: integration, UID: types.UID(integration)}, Publish: v1alpha1.PublishCompleted,
			TTLAfterFinished: time.Hour, MaxObjects: 2 * publishedLegs,
		}, true
	}
	logger := slog.New(slog.DiscardHandler)
	return publish.New(publish.Config{
		Client: writer, Integration: name, Policy: policy, Legs: legs, Registerer: registry, Logger: logger,
		Place: func(string) (publish.Reference, bool) { return publish.Reference{}, false },
		Notices: publish.NewNotices(publish.NoticesConfig{
			Client: writer, Integration: name, Policy: policy, Instance: "bench", Registerer: registry, Logger: logger,
		}),
	})
}

// delivery stands for the LEGS log: it delivers every revision of every leg.
type delivery struct {
	legs []story
	took time.Duration
	err  error
	done chan struct{}
}

// FollowLegs implements publish.Legs. It does not run ahead, so that every revision counts.
func (d *delivery) FollowLegs(ctx context.Context, handle func([]publish.Record, func())) error {
	start := time.Now()
	group, handling := errgroup.WithContext(ctx)
	group.SetLimit(batchesInFlight)
	for batch := range slices.Chunk(d.legs, batchLegs) {
		group.Go(func() error { return deliverBatch(handling, batch, handle) })
	}
	d.err = group.Wait()
	d.took = time.Since(start)
	close(d.done)
	<-ctx.Done()
	return nil
}

func deliverBatch(ctx context.Context, batch []story, handle func([]publish.Record, func())) error {
	for step := range revisions {
		records := make([]publish.Record, len(batch))
		for i := range batch {
			records[i] = publish.Record{Leg: batch[i][step], Received: time.Now()}
		}
		settled := make(chan struct{})
		handle(records, func() { close(settled) })
		select {
		case <-settled:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// countWrites is how many creates, updates and deletes the publisher has made, successful or not.
func countWrites(registry *prometheus.Registry) (float64, error) {
	families, err := registry.Gather()
	if err != nil {
		return 0, fmt.Errorf("cannot read the metrics of the publisher: %w", err)
	}
	var writes float64
	for _, family := range families {
		if family.GetName() != requestsMetric {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "verb" && slices.Contains([]string{"create", "update", "patch", "delete"}, label.GetValue()) {
					writes += metric.GetCounter().GetValue()
				}
			}
		}
	}
	return writes, nil
}

var _ publish.Legs = (*delivery)(nil)
