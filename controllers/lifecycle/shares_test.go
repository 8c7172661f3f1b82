package lifecycle_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

// tenants is a controller of which the objects of some integrations hang until they are released.
type tenants struct {
	mu       sync.Mutex
	released chan struct{}
	done     map[string]int
	busy     map[string]int
	most     int
}

func (c *tenants) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	tenant := tenantOf(ctx, request).Name
	c.mu.Lock()
	c.busy[tenant]++
	c.most = max(c.most, c.busy[tenant])
	c.mu.Unlock()
	if strings.HasPrefix(tenant, "dead") {
		<-c.released
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy[tenant]--
	c.done[tenant]++
	return reconcile.Result{}, nil
}

func (c *tenants) count(tenant string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done[tenant]
}

func (c *tenants) working(tenant string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.busy[tenant]
}

func tenantOf(_ context.Context, request reconcile.Request) types.NamespacedName {
	tenant, _, _ := strings.Cut(request.Name, "/")
	return types.NamespacedName{Name: tenant}
}

// work runs workers as a controller does.
func work(t *testing.T, shares *lifecycle.Shares, workers int) workqueue.TypedRateLimitingInterface[reconcile.Request] {
	t.Helper()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	if err := shares.Source().Start(t.Context(), queue); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for {
				request, down := queue.Get()
				if down {
					return
				}
				_, _ = shares.Reconcile(t.Context(), request)
				queue.Done(request)
			}
		})
	}
	t.Cleanup(func() {
		queue.ShutDown()
		group.Wait()
	})
	return queue
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain: " + what)
		}
		<-time.After(time.Millisecond)
	}
}

func TestATenantThatHangsHoldsUpNoOther(t *testing.T) {
	const each = 200
	c := &tenants{released: make(chan struct{}), done: map[string]int{}, busy: map[string]int{}}
	shares := lifecycle.NewShares(2, c, tenantOf)
	queue := work(t, shares, 7)
	add := func(tenant string) {
		for i := range each {
			queue.Add(reconcile.Request{NamespacedName: types.NamespacedName{Name: fmt.Sprintf("%s/%d", tenant, i)}})
		}
	}
	for _, tenant := range []string{"dead-a", "dead-b", "dead-c", "alive"} {
		add(tenant)
	}
	eventually(t, "all of the tenant that is alive", func() bool { return c.count("alive") == each })
	add("dead-a") // an event for what waits already
	close(c.released)
	for _, tenant := range []string{"dead-a", "dead-b", "dead-c"} {
		eventually(t, "all of "+tenant, func() bool { return c.count(tenant) >= each })
	}
	if c.most > 2 {
		t.Errorf("%d workers were busy with one tenant, 2 is its share", c.most)
	}
}

// requested names an object of a tenant.
func requested(name string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}
}

// TestAnObjectThatIsGoneKeepsNobodyWaiting has the one that waits longest vanish before its turn
// comes.
func TestAnObjectThatIsGoneKeepsNobodyWaiting(t *testing.T) {
	c := &tenants{released: make(chan struct{}), done: map[string]int{}, busy: map[string]int{}}
	var gone sync.Map
	shares := lifecycle.NewShares(1, c, func(ctx context.Context, request reconcile.Request) types.NamespacedName {
		if _, ok := gone.Load(request.Name); ok {
			return request.NamespacedName
		}
		return tenantOf(ctx, request)
	})
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	defer queue.ShutDown()
	if err := shares.Source().Start(t.Context(), queue); err != nil {
		t.Fatal(err)
	}
	first := make(chan struct{})
	go func() {
		defer close(first)
		_, _ = shares.Reconcile(t.Context(), requested("dead/1"))
	}()
	eventually(t, "the first to be at work", func() bool { return c.working("dead") == 1 })
	for _, name := range []string{"dead/2", "dead/3"} {
		_, _ = shares.Reconcile(t.Context(), requested(name))
	}
	gone.Store("dead/2", true)
	close(c.released)
	<-first
	for _, want := range []string{"dead/2", "dead/3"} {
		if queue.Len() == 0 {
			t.Fatalf("%s waits for ever", want)
		}
		request, _ := queue.Get()
		if request.Name != want {
			t.Errorf("%s has its turn, expected %s", request.Name, want)
		}
		_, _ = shares.Reconcile(t.Context(), request)
		queue.Done(request)
	}
}

func TestToWaitForAWorkerEndsNoBackoff(t *testing.T) {
	c := &tenants{released: make(chan struct{}), done: map[string]int{}, busy: map[string]int{}}
	shares := lifecycle.NewShares(1, c, tenantOf)
	limiter := shares.Limiter(workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Second, time.Minute))
	queue := workqueue.NewTypedRateLimitingQueue(limiter)
	defer queue.ShutDown()
	if err := shares.Source().Start(t.Context(), queue); err != nil {
		t.Fatal(err)
	}
	failed := requested("dead/2")
	limiter.When(failed)
	limiter.When(failed)
	first := make(chan struct{})
	go func() {
		defer close(first)
		_, _ = shares.Reconcile(t.Context(), requested("dead/1"))
	}()
	eventually(t, "the first to be at work", func() bool { return c.working("dead") == 1 })
	_, _ = shares.Reconcile(t.Context(), failed)
	limiter.Forget(failed) // as a controller does after a pass without an error
	if n := limiter.NumRequeues(failed); n != 2 {
		t.Errorf("%d failures are remembered of one that waits, expected 2", n)
	}
	close(c.released)
	<-first
	_, _ = shares.Reconcile(t.Context(), failed)
	limiter.Forget(failed)
	if n := limiter.NumRequeues(failed); n != 0 {
		t.Errorf("%d failures are remembered of one that succeeded, expected none", n)
	}
}
