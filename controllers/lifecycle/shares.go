package lifecycle

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// Shares bounds how many workers of a controller are busy with objects of one integration: a PBX
// that does not answer, or a slow database, holds up nobody but its own tenant. Requests over the
// share leave their worker at once, wait in order, and return to the work queue one by one as
// others end.
type Shares struct {
	most          int
	integrationOf func(context.Context, reconcile.Request) types.NamespacedName
	next          reconcile.Reconciler

	mu    sync.Mutex
	busy  map[types.NamespacedName]int
	waits map[types.NamespacedName][]reconcile.Request
	// known are all that wait.
	known map[reconcile.Request]bool
	// offered are those whose wait is over, with the integration whose worker they were given.
	offered map[reconcile.Request]types.NamespacedName
	// turnedAway are those whose pass has just ended before it began.
	turnedAway map[reconcile.Request]bool
	queue      workqueue.TypedRateLimitingInterface[reconcile.Request]
}

// NewShares makes shares of so many workers of a controller that runs next. Add Source to the
// controller as a raw source.
func NewShares(
	most int, next reconcile.Reconciler, integrationOf func(context.Context, reconcile.Request) types.NamespacedName,
) *Shares {
	return &Shares{
		most: most, next: next, integrationOf: integrationOf,
		busy: map[types.NamespacedName]int{}, waits: map[types.NamespacedName][]reconcile.Request{},
		known: map[reconcile.Request]bool{}, offered: map[reconcile.Request]types.NamespacedName{},
		turnedAway: map[reconcile.Request]bool{},
	}
}

// Limiter returns the rate limiter that the controller has to use in place of one. To wait for a
// worker is no success: it does not end the backoff of a request that has failed before.
func (s *Shares) Limiter(limiter workqueue.TypedRateLimiter[reconcile.Request]) workqueue.TypedRateLimiter[reconcile.Request] {
	return backoffs{TypedRateLimiter: limiter, shares: s}
}

type backoffs struct {
	workqueue.TypedRateLimiter[reconcile.Request]
	shares *Shares
}

// Forget is called by the controller after each pass without a failure.
func (b backoffs) Forget(request reconcile.Request) {
	b.shares.mu.Lock()
	waits := b.shares.turnedAway[request]
	delete(b.shares.turnedAway, request)
	b.shares.mu.Unlock()
	if !waits {
		b.TypedRateLimiter.Forget(request)
	}
}

// Source gives the shares the work queue that those who wait return to.
func (s *Shares) Source() source.Source {
	return source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.queue = queue
		return nil
	})
}

// Reconcile implements reconcile.Reconciler.
func (s *Shares) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	integration := s.integrationOf(ctx, request)
	if !s.enter(integration, request) {
		return reconcile.Result{}, nil
	}
	defer s.leave(integration)
	return s.next.Reconcile(ctx, request)
}

// enter takes a worker for the integration. It reports false, and lets the request wait, where its
// share is in use.
func (s *Shares) enter(integration types.NamespacedName, request reconcile.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from, ok := s.offered[request]; ok {
		delete(s.offered, request)
		if from != integration {
			s.offer(from) // its object is gone meanwhile: the worker is the next one's
		}
	}
	if s.busy[integration] < s.most {
		s.busy[integration]++
		return true
	}
	s.turnedAway[request] = true
	if !s.known[request] {
		s.known[request] = true
		s.waits[integration] = append(s.waits[integration], request)
	}
	return false
}

// leave gives the worker to the one who waits longest.
func (s *Shares) leave(integration types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[integration]--; s.busy[integration] == 0 {
		delete(s.busy, integration)
	}
	s.offer(integration)
}

// offer returns the request of the integration that waits longest to the work queue.
func (s *Shares) offer(integration types.NamespacedName) {
	waiting := s.waits[integration]
	if len(waiting) == 0 {
		return
	}
	s.offered[waiting[0]] = integration
	s.queue.Add(waiting[0])
	delete(s.known, waiting[0])
	if s.waits[integration] = waiting[1:]; len(waiting) == 1 {
		delete(s.waits, integration)
	}
}

// IntegrationOfMapping returns a function that names the integration of a mapping. A mapping that
// is gone stands for itself.
func IntegrationOfMapping(reader client.Reader) func(context.Context, reconcile.Request) types.NamespacedName {
	return func(ctx context.Context, request reconcile.Request) types.NamespacedName {
		mapping := &v1alpha1.ExtensionMapping{}
		if reader.Get(ctx, request.NamespacedName, mapping) != nil {
			return request.NamespacedName
		}
		return types.NamespacedName{Namespace: mapping.Namespace, Name: mapping.Spec.IntegrationRef.Name}
	}
}

// IntegrationOfCommand returns a function that names the integration of a command. A command that
// is gone stands for itself.
func IntegrationOfCommand(reader client.Reader) func(context.Context, reconcile.Request) types.NamespacedName {
	return func(ctx context.Context, request reconcile.Request) types.NamespacedName {
		command := &v1alpha1.CallCommand{}
		if reader.Get(ctx, request.NamespacedName, command) != nil {
			return request.NamespacedName
		}
		return types.NamespacedName{Namespace: command.Namespace, Name: command.Spec.IntegrationRef.Name}
	}
}
