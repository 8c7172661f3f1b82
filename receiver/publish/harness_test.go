package publish

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// stand is a Publisher on a fake API server, fed by hand.
type stand struct {
	t       *testing.T
	kube    client.WithWatch
	policy  Policy
	gone    bool
	metrics *prometheus.Registry
	log     *bytes.Buffer
	feed    *feed
	// fault, when set, is asked before every write.
	fault func(verb string, object client.Object) error
	// slow is how long every write takes.
	slow time.Duration

	mu    sync.Mutex
	calls map[string]int
}

// feed stands in for the LEGS log and counts the batches that it need not deliver again.
type feed struct {
	batches chan []Record
	settled atomic.Int64
}

func (f *feed) FollowLegs(ctx context.Context, handle func([]Record, func())) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case batch := <-f.batches:
			handle(batch, func() { f.settled.Add(1) })
		}
	}
}

func newStand(t *testing.T, objects ...client.Object) *stand {
	t.Helper()
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{
		t: t, metrics: prometheus.NewRegistry(), log: &bytes.Buffer{}, feed: &feed{batches: make(chan []Record)}, calls: map[string]int{},
		policy: Policy{
			Integration: Reference{Name: "head-office", UID: "pbx-uid"}, Publish: v1alpha1.PublishLive, TTLAfterFinished: time.Hour,
			MaxDuration: 4 * time.Hour, MaxObjects: 100,
		},
	}
	s.kube = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
			if err := s.called("create", object); err != nil {
				return err
			}
			return c.Create(ctx, object, options...)
		},
		Update: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.UpdateOption) error {
			if err := s.called("update", object); err != nil {
				return err
			}
			return c.Update(ctx, object, options...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteOption) error {
			if err := s.called("delete", object); err != nil {
				return err
			}
			return c.Delete(ctx, object, options...)
		},
	}).Build()
	return s
}

func (s *stand) called(verb string, object client.Object) error {
	time.Sleep(s.slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := "leg"
	if _, ok := object.(*eventsv1.Event); ok {
		kind = "event"
	}
	s.calls[verb+" "+kind]++
	if s.fault != nil {
		return s.fault(verb, object)
	}
	return nil
}

// change alters the world while the publisher runs.
func (s *stand) change(what func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what()
}

// pass lets time go by, and all happen that is due by then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// made is how many requests of a kind were made, such as "create leg".
func (s *stand) made(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[what]
}

// run publishes while during runs, in a bubble of its own time. A restart is a second run.
func (s *stand) run(during func()) {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	s.metrics = prometheus.NewRegistry()
	policy := func() (Policy, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.policy, !s.gone
	}
	logger := slog.New(slog.NewTextHandler(s.log, nil))
	integration := types.NamespacedName{Namespace: "telephony", Name: "head-office"}
	notices := NewNotices(NoticesConfig{
		Client: s.kube, Integration: integration, Policy: policy, Instance: "head-office-0", Registerer: s.metrics, Logger: logger,
	})
	publisher := New(Config{
		Client: s.kube, Integration: integration, Policy: policy, Legs: s.feed, Notices: notices, Registerer: s.metrics, Logger: logger,
		Place: func(extension string) (Reference, bool) {
			return Reference{Name: "sales-queue", UID: "queue-uid"}, extension == "1234*900"
		},
	})
	ended := make(chan error, 1)
	go func() { ended <- publisher.Run(ctx) }()
	synctest.Wait()
	during()
	stop()
	if err := <-ended; err != nil && ctx.Err() == nil {
		s.t.Errorf("Run ended with %v", err)
	}
}

// deliver hands over legs as one batch and returns when all has been done that can be done at once.
func (s *stand) deliver(legs ...correlation.Leg) {
	s.t.Helper()
	batch := make([]Record, len(legs))
	for i, leg := range legs {
		batch[i] = Record{Leg: leg, Received: time.Now()}
	}
	s.feed.batches <- batch
	synctest.Wait()
}

// shown are the CallLegs on the API server by leg id.
func (s *stand) shown() map[string]v1alpha1.CallLeg {
	s.t.Helper()
	var list v1alpha1.CallLegList
	if err := s.kube.List(s.t.Context(), &list, client.InNamespace("telephony")); err != nil {
		s.t.Fatal(err)
	}
	found := map[string]v1alpha1.CallLeg{}
	for _, leg := range list.Items {
		found[leg.Status.LegID] = leg
	}
	return found
}

func (s *stand) events() []eventsv1.Event {
	s.t.Helper()
	var list eventsv1.EventList
	if err := s.kube.List(s.t.Context(), &list, client.InNamespace("telephony")); err != nil {
		s.t.Fatal(err)
	}
	return list.Items
}

// counter sums up a metric over its labels, of which those given must match.
func (s *stand) counter(name string, labels ...string) float64 {
	s.t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	var sum float64
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			matched := 0
			for _, pair := range metric.GetLabel() {
				for _, label := range labels {
					if pair.GetName()+"="+pair.GetValue() == label {
						matched++
					}
				}
			}
			if matched == len(labels) {
				sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return sum
}

var start = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

func ringing(id string) correlation.Leg {
	return correlation.Leg{
		CallID: "call-" + id, LegID: id, Kind: correlation.Extension, Direction: correlation.Inbound,
		From: "+12025550143", To: "1234*101", DID: "12025550100", Extension: "1234*101", User: "ann", Phase: correlation.Ringing, Start: start, Revision: 1,
	}
}

func answered(id string) correlation.Leg {
	leg := ringing(id)
	leg.Phase, leg.Answer, leg.Revision = correlation.Talking, start.Add(5*time.Second), 2
	return leg
}

func finished(id string) correlation.Leg {
	leg := answered(id)
	leg.Phase, leg.Result, leg.Logged, leg.End, leg.Talk = correlation.Completed, correlation.Answered, true, start.Add(65*time.Second), time.Minute
	leg.Revision = 3
	return leg
}

func missedAtQueue(id string) correlation.Leg {
	leg := ringing(id)
	leg.Kind, leg.To, leg.Extension, leg.User = correlation.Queue, "1234*900", "1234*900", ""
	leg.Phase, leg.Result, leg.Logged, leg.Revision = correlation.Completed, correlation.Missed, true, 2
	leg.Start, leg.End = time.Now().Add(-45*time.Second), time.Now()
	return leg
}

func revision(leg correlation.Leg, n int64) correlation.Leg {
	leg.Revision = n
	return leg
}
