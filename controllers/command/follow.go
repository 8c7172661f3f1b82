package command

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

const (
	// gather is how long changes of the legs of one call are gathered: they come in groups.
	gather = 200 * time.Millisecond
	// watchRetry is how long a watch that failed is left alone.
	watchRetry = 5 * time.Second
	// unattended is how long a command is followed of which nobody has spoken any more.
	unattended = 3 * unwatchedRetry
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// relevant reports whether a leg matters to a command.
type relevant func(*v1alpha1.CallLeg) bool

// follower asks for a pass over a command when a leg that matters to it changes. It watches the
// legs of an integration while any of its commands is under way, and keeps none of them.
type follower struct {
	legs  client.WithWatch
	clock clock.PassiveClock

	mu sync.Mutex
	// ctx and queue are those of the controller, once it has started.
	ctx   context.Context //nolint:containedctx // that of the watches, which outlive the passes that begin them
	queue queue
	// watched are the integrations whose legs are watched, with the commands that are followed.
	watched map[types.NamespacedName]map[types.NamespacedName]interest
}

// interest is what a command waits for.
type interest struct {
	relevant relevant
	// since is when it was last told.
	since time.Time
}

func newFollower(legs client.WithWatch, clock clock.PassiveClock) *follower {
	return &follower{legs: legs, clock: clock, watched: map[types.NamespacedName]map[types.NamespacedName]interest{}}
}

// start is a source of the controller.
func (f *follower) start(ctx context.Context, queue queue) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ctx, f.queue = ctx, queue
	return nil
}

// follow has a pass made over the command whenever a leg that matters to it changes. It is called
// in each pass over a command that is under way.
func (f *follower) follow(command *v1alpha1.CallCommand, matters relevant) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx == nil {
		return
	}
	of := integrationKey(command)
	commands, watching := f.watched[of]
	if !watching {
		commands = map[types.NamespacedName]interest{}
		f.watched[of] = commands
		go f.watch(f.ctx, of)
	}
	commands[client.ObjectKeyFromObject(command)] = interest{relevant: matters, since: f.clock.Now()}
}

// forget ends that.
func (f *follower) forget(command *v1alpha1.CallCommand) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.watched[integrationKey(command)], client.ObjectKeyFromObject(command))
}

func integrationKey(command *v1alpha1.CallCommand) types.NamespacedName {
	return types.NamespacedName{Namespace: command.Namespace, Name: command.Spec.IntegrationRef.Name}
}

// watch watches the legs of an integration until none of its commands is followed any more.
func (f *follower) watch(ctx context.Context, of types.NamespacedName) {
	for f.needed(of) {
		err := f.watchOnce(ctx, of)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "Cannot watch call legs; commands look for them now and then instead", "integration", of)
			select {
			case <-ctx.Done():
				return
			case <-time.After(watchRetry):
			}
		}
	}
}

// watchOnce watches from now on. What was before, the pass over each command finds that it asks
// for.
func (f *follower) watchOnce(ctx context.Context, of types.NamespacedName) error {
	version, err := f.version(ctx, of)
	if err != nil {
		return fmt.Errorf("cannot find out where to begin: %w", err)
	}
	changes, err := watchtools.NewRetryWatcherWithContext(ctx, version, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return f.legs.Watch(ctx, &v1alpha1.CallLegList{}, client.InNamespace(of.Namespace), labelled(of.Name),
				&client.ListOptions{Raw: &options})
		},
	})
	if err != nil {
		return fmt.Errorf("cannot begin: %w", err)
	}
	defer changes.Stop()
	f.ask(of, nil)
	idle := time.NewTicker(unwatchedRetry)
	defer idle.Stop()
	for {
		select {
		case <-idle.C:
			if !f.needed(of) {
				return nil
			}
		case change, open := <-changes.ResultChan():
			if !open {
				return nil // the API server does not know the version any more
			}
			if leg, ok := change.Object.(*v1alpha1.CallLeg); ok {
				f.ask(of, leg)
			}
		}
	}
}

func labelled(integration string) client.MatchingLabels {
	return client.MatchingLabels{v1alpha1.LabelIntegration: integration}
}

// version is that of the list of legs as it is now.
func (f *follower) version(ctx context.Context, of types.NamespacedName) (string, error) {
	var list metav1.PartialObjectMetadataList
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("CallLegList"))
	if err := f.legs.List(ctx, &list, client.InNamespace(of.Namespace), labelled(of.Name), client.Limit(1)); err != nil {
		return "", err
	}
	return meta.NewAccessor().ResourceVersion(&list)
}

// ask has passes made over the followed commands to which a leg matters, or over all of them.
func (f *follower) ask(of types.NamespacedName, leg *v1alpha1.CallLeg) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for command, interest := range f.watched[of] {
		if leg == nil || interest.relevant(leg) {
			f.queue.AddAfter(reconcile.Request{NamespacedName: command}, gather)
		}
	}
}

// needed reports whether a command of the integration is followed. If not, its watch is over.
func (f *follower) needed(of types.NamespacedName) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for command, interest := range f.watched[of] {
		if f.clock.Since(interest.since) >= unattended { // it was deleted
			delete(f.watched[of], command)
		}
	}
	if len(f.watched[of]) > 0 {
		return true
	}
	delete(f.watched, of)
	return false
}
