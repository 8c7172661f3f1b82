package publish

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

const (
	// recountAtLimit is how fresh the count must be before something is evicted because of it.
	recountAtLimit = 10 * time.Second
	// listPage is how many objects one answer of the API server holds.
	listPage = 500
	// lostAfter is how long after its longest duration a live leg counts as lost.
	lostAfter = 10 * time.Minute
)

// counting lets one goroutine count at a time and remembers when that was.
type counting struct {
	counting sync.Mutex
	mu       sync.Mutex
	last     time.Time
}

func (c *counting) older(age time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.last) >= age
}

func (c *counting) done(begun time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = begun
}

// count fills the object cache at the start. It gives up only when ctx is done: without a count
// there is no cap.
func (p *Publisher) count(ctx context.Context) error {
	for {
		err := p.recount(ctx)
		if err == nil {
			p.api.Succeeded()
			return nil
		}
		if ctx.Err() == nil && p.api.Failed(retryAfter(err)) {
			p.Logger.WarnContext(ctx, "cannot list the call legs; publication waits", "error", err)
		}
		if err := p.api.Wait(ctx); err != nil {
			return err
		}
	}
}

// tidyLoop notices once in a while what others deleted, and sees to what no change of a leg will
// bring about.
func (p *Publisher) tidyLoop(ctx context.Context) {
	ticker := time.NewTicker(recountEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := p.tidy(ctx); err != nil && ctx.Err() == nil {
				p.Logger.WarnContext(ctx, "cannot tidy up the call legs; the next attempt is in a minute", "error", err)
			}
		}
	}
}

func (p *Publisher) tidy(ctx context.Context) error {
	if err := p.recount(ctx); err != nil {
		return err
	}
	policy, ok := p.Policy()
	if !ok || policy.Deleting {
		return nil
	}
	if err := p.trim(ctx, policy.MaxObjects); err != nil {
		return err
	}
	for _, name := range p.objects.lost(time.Now().Add(-policy.MaxDuration - lostAfter)) {
		if err := p.closeLost(ctx, policy, name); err != nil {
			return err
		}
	}
	return nil
}

// trim goes below a cap that was lowered.
func (p *Publisher) trim(ctx context.Context, limit int) error {
	for p.objects.size() > limit {
		name, ok := p.objects.nextToEvict()
		if !ok {
			return nil
		}
		if err := p.evict(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// closeLost ends a leg that outlived every call, because the log it came from is gone: nothing
// stays Ringing for ever. The revision stays, so that the log has the last word if it comes back.
func (p *Publisher) closeLost(ctx context.Context, policy Policy, name string) error {
	var object v1alpha1.CallLeg
	key := client.ObjectKey{Namespace: p.Integration.Namespace, Name: name}
	err := p.request(ctx, verbGet, func(ctx context.Context) error { return p.Client.Get(ctx, key, &object) })
	if err != nil || object.Status.Phase == v1alpha1.PhaseCompleted {
		return client.IgnoreNotFound(err)
	}
	object.Status.Phase, object.Status.Result = v1alpha1.PhaseCompleted, v1alpha1.ResultUnknown
	stamp(&object, policy.TTLAfterFinished, time.Now())
	p.objects.unread(name)
	return p.request(ctx, verbUpdate, func(ctx context.Context) error { return p.Client.Update(ctx, &object) })
}

// recount lists the metadata of all CallLegs of the integration.
func (p *Publisher) recount(ctx context.Context) error {
	p.counted.counting.Lock()
	defer p.counted.counting.Unlock()
	if !p.counted.older(time.Second) {
		return nil // another goroutine has just done it
	}
	begun := time.Now()
	objects := map[string]listed{}
	page := &metav1.PartialObjectMetadataList{}
	page.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("CallLegList"))
	for more := true; more; more = page.Continue != "" {
		err := p.request(ctx, verbList, func(ctx context.Context) error {
			return p.Client.List(ctx, page, client.InNamespace(p.Integration.Namespace),
				client.MatchingLabels{v1alpha1.LabelIntegration: p.Integration.Name}, client.Limit(listPage), client.Continue(page.Continue))
		})
		if err != nil {
			return err
		}
		for _, object := range page.Items {
			objects[object.Name] = listed{
				uid: object.UID, resourceVersion: object.ResourceVersion, expires: object.Labels[v1alpha1.LabelExpires],
				created: object.CreationTimestamp.Time,
			}
		}
	}
	p.objects.recount(objects, begun)
	p.counted.done(begun)
	return nil
}
