package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"k8s.io/client-go/rest"

	"github.com/pbx-operator/pbx-operator/receiver/journal"
	"github.com/pbx-operator/pbx-operator/receiver/publish"
	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

// Durable names of the readers of the logs.
const (
	publishReader = "publish"
	agentsReader  = "mappings"
)

// cluster is what a receiver does in Kubernetes. The zero value does nothing.
type cluster struct {
	watch   *sources.Watch
	notices *publish.Notices
	publish *publish.Publisher
}

// findSources fills the table of event URLs and keeps it up to date until ctx ends.
func (r *receiver) findSources(ctx context.Context, running *sync.WaitGroup) (*cluster, error) {
	if r.options.sourcesFile != "" {
		return &cluster{}, r.table.LoadFile(r.options.sourcesFile)
	}
	config, err := kubeConfig()
	if err != nil {
		return nil, err
	}
	c := &cluster{}
	c.watch, err = sources.NewWatch(config, r.options.namespace, r.options.integration, r.options.dataDir, r.table, r.logger)
	if err != nil {
		return nil, err
	}
	running.Go(func() { c.watch.Run(ctx) })
	return c, c.preparePublisher(config, r)
}

// kubeConfig is that of the pod, or of $KUBECONFIG outside a cluster. Requests are limited where
// they are made.
func kubeConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, fmt.Errorf("cannot find the Kubernetes API: %w", err)
	}
	config.QPS = -1
	config.UserAgent = "pbx-receiver"
	return config, nil
}

// newClient knows the kinds that a receiver reads and writes.
func newClient(config *rest.Config) (client.Client, error) {
	scheme, err := publish.NewScheme()
	if err != nil {
		return nil, fmt.Errorf("cannot learn the kinds of the Kubernetes API: %w", err)
	}
	api, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("cannot make a client of the Kubernetes API: %w", err)
	}
	return api, nil
}

func (c *cluster) preparePublisher(config *rest.Config, r *receiver) error {
	api, err := newClient(config)
	if err != nil {
		return err
	}
	instance, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("cannot learn the name of this pod: %w", err)
	}
	integration := types.NamespacedName{Namespace: r.options.namespace, Name: r.options.integration}
	c.notices = publish.NewNotices(publish.NoticesConfig{
		Client: api, Integration: integration, Policy: c.policy, Instance: instance, Registerer: r.registry, Logger: r.logger,
	})
	c.publish = publish.New(publish.Config{
		Client: api, Integration: integration, Policy: c.policy, Place: c.place, Legs: legs{r}, Notices: c.notices,
		Registerer: r.registry, Logger: r.logger,
	})
	return nil
}

func (c *cluster) policy() (publish.Policy, bool) {
	integration, ok := c.watch.Integration()
	if !ok {
		return publish.Policy{}, false
	}
	return publish.PolicyOf(integration), true
}

func (c *cluster) place(extension string) (publish.Reference, bool) {
	mapping, ok := c.watch.MappingOf(extension)
	if !ok {
		return publish.Reference{}, false
	}
	return publish.Reference{Name: mapping.Name, UID: mapping.UID}, true
}

// quarantined puts a notice up that a request was not understood.
func (c *cluster) quarantined(reason string) {
	if c.notices != nil {
		c.notices.Quarantined(1, reason)
	}
}

// show publishes legs and the states of agents and phones until ctx ends. It begins when it is
// known whether the integration exists.
func (c *cluster) show(ctx context.Context, r *receiver) {
	if c.watch == nil || !c.watch.WaitForSync(ctx) {
		<-ctx.Done()
		return
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { c.showFirstEvent(ctx, r) })
	running.Go(func() {
		if err := c.publish.Run(ctx); err != nil && ctx.Err() == nil {
			r.logger.Error("publication has ended", "error", err)
		}
	})
	if err := r.journal.ConsumeAgents(ctx, agentsReader, c.watch.ShowStates); err != nil && ctx.Err() == nil {
		r.logger.Error("the states of agents and phones are not shown any more", "error", err)
	}
}

// watchAgents counts the agents once it is known whether the integration exists.
func (c *cluster) watchAgents(ctx context.Context, running *sync.WaitGroup, r *receiver) {
	if c.watch == nil {
		return
	}
	running.Go(func() {
		if c.watch.WaitForSync(ctx) {
			r.registry.MustRegister(newAgentCollector(c.watch, r.publishing.Load))
		}
	})
}

// firstEventInterval is how often to see whether a first event is waited for: an integration whose
// event URL has changed because its keys were lost waits anew.
const firstEventInterval = 10 * time.Second

// showFirstEvent shows when the integration's first event came in, as long as that is not known,
// until ctx ends.
func (c *cluster) showFirstEvent(ctx context.Context, r *receiver) {
	again := time.NewTicker(firstEventInterval)
	defer again.Stop()
	for {
		if integration, ok := c.watch.Integration(); ok {
			if since, awaited := sources.AwaitedSince(integration); awaited {
				showFirstEvent(ctx, r.journal, since, c.watch.ShowFirstEvent, r.logger)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

// watchOutages notes that events are taken, and shows when they were not, until ctx ends.
func (c *cluster) watchOutages(ctx context.Context, running *sync.WaitGroup, r *receiver) {
	if c.watch == nil {
		return
	}
	p := &heartbeat{
		path: heartbeatPath(r.options.dataDir), now: time.Now, ready: r.ready, show: c.watch.ShowOutage, log: r.logger,
		covered: func() bool {
			integration, ok := c.watch.Integration()
			return ok && covered(integration.Spec.Receiver)
		},
	}
	running.Go(func() { p.run(ctx) })
}

// legs hands the LEGS log to the publisher.
type legs struct{ *receiver }

// FollowLegs implements publish.Legs.
func (l legs) FollowLegs(ctx context.Context, handle func([]publish.Record, func())) error {
	return l.journal.FollowLegs(ctx, publishReader, func(batch []journal.LegRecord, done func()) {
		records := make([]publish.Record, len(batch))
		for i := range batch {
			records[i] = publish.Record{Leg: batch[i].Leg, Received: batch[i].Stored}
		}
		handle(records, done)
	})
}
