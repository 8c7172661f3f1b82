package publishtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/publish"
)

const (
	// benchLegs are written per round, by each side.
	benchLegs = 1000
	// benchWriters is the number of goroutines of the bare loop, and of the publisher.
	benchWriters = 16
)

// BenchmarkPublish compares publication with a loop that does nothing but create the same objects:
// the ratio is legs per second of the publisher to those of the loop, the median over rounds that
// alternate. One iteration is one round of both.
func BenchmarkPublish(b *testing.B) {
	ctx := b.Context()
	log.SetLogger(logr.Discard())
	s, err := startServer(ctx)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.environment.Stop(); err != nil {
			b.Error(err)
		}
	})
	var bare, published, ratios []float64
	for b.Loop() {
		bare = append(bare, bareRound(ctx, b, s))
		published = append(published, publishRound(ctx, b, s))
		ratios = append(ratios, published[len(published)-1]/bare[len(bare)-1])
	}
	b.ReportMetric(median(bare), "bare-creates/s")
	b.ReportMetric(median(published), "legs/s")
	b.ReportMetric(median(ratios), "ratio")
}

func bareRound(ctx context.Context, b *testing.B, s *server) float64 {
	b.Helper()
	st, err := newStage(ctx, s, v1alpha1.CallLegs{MaxObjects: 10_000})
	if err != nil {
		b.Fatal(err)
	}
	known, err := publish.NewScheme()
	if err != nil {
		b.Fatal(err)
	}
	kube, err := client.New(rest.CopyConfig(s.receiver), client.Options{Scheme: known})
	if err != nil {
		b.Fatal(err)
	}
	objects := make(chan *v1alpha1.CallLeg, benchLegs)
	for _, leg := range many("bare", benchLegs) {
		objects <- publish.Object(st.namespace, st.pbx.Name, leg)
	}
	close(objects)
	began := time.Now()
	var writers sync.WaitGroup
	for range benchWriters {
		writers.Go(func() {
			for object := range objects {
				if err := kube.Create(ctx, object); err != nil {
					b.Error(err)
				}
			}
		})
	}
	writers.Wait()
	rate := benchLegs / time.Since(began).Seconds()
	sweep(ctx, b, s, st)
	return rate
}

func publishRound(ctx context.Context, b *testing.B, s *server) float64 {
	b.Helper()
	st, err := newStage(ctx, s, v1alpha1.CallLegs{MaxObjects: 10_000, Publish: v1alpha1.PublishCompleted})
	if err != nil {
		b.Fatal(err)
	}
	if err := st.start(ctx, s, func(string) (publish.Reference, bool) { return publish.Reference{}, false }); err != nil {
		b.Fatal(err)
	}
	legs := many("leg", benchLegs)
	began := time.Now()
	st.deliver(legs...)
	for st.settled.Load() < benchLegs {
		time.Sleep(time.Millisecond)
	}
	rate := benchLegs / time.Since(began).Seconds()
	if err := st.stop(); err != nil && ctx.Err() == nil {
		b.Log(err)
	}
	if sent := st.wire.requests("POST calllegs"); sent != benchLegs {
		b.Errorf("%d requests for %d legs", sent, benchLegs)
	}
	sweep(ctx, b, s, st)
	return rate
}

// sweep deletes the legs of a round, so that all rounds find the same server.
func sweep(ctx context.Context, b *testing.B, s *server, st *stage) {
	b.Helper()
	if err := s.admin.DeleteAllOf(ctx, &v1alpha1.CallLeg{}, client.InNamespace(st.namespace)); err != nil {
		b.Error(fmt.Errorf("cannot delete the legs of the round: %w", err))
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
