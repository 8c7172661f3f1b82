package command

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	watch "sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/secrets"
)

// Options adjust the controller. The zero value is fit for production.
type Options struct {
	// Workers is how many commands are worked on at once. Default: 16.
	Workers int
	// PerIntegration is how many of the workers may be busy with commands of one integration.
	// Default: 4.
	PerIntegration int
	// BackoffBase and BackoffLimit bound the wait after failures: 1 s, doubled up to 15 s by
	// default.
	BackoffBase, BackoffLimit time.Duration
	// Outcomes may be nil.
	Outcomes *lifecycle.Metrics
	// Clock defaults to the real one.
	Clock clock.PassiveClock
	// Client and Reader default to those of the manager: the cached client, and the one that reads
	// from the API server.
	Client client.Client
	Reader client.Reader
	// Legs lists and watches CallLegs. Default: a client of its own, as a manager's cannot watch.
	Legs client.WithWatch
	// Secrets defaults to a reader by Client and Reader. It may be shared with other controllers.
	Secrets *secrets.Reader
}

func (o Options) withDefaults(mgr ctrl.Manager) Options {
	o.Workers = cmp.Or(o.Workers, 16)
	o.PerIntegration = cmp.Or(o.PerIntegration, 4)
	o.BackoffBase = cmp.Or(o.BackoffBase, time.Second)
	o.BackoffLimit = cmp.Or(o.BackoffLimit, 15*time.Second)
	o.Clock = cmp.Or[clock.PassiveClock](o.Clock, clock.RealClock{})
	o.Client = cmp.Or(o.Client, mgr.GetClient())
	o.Reader = cmp.Or(o.Reader, mgr.GetAPIReader())
	o.Secrets = cmp.Or(o.Secrets, secrets.NewReader(o.Client, o.Reader, o.Clock))
	return o
}

// +kubebuilder:rbac:groups=pbx-operator.io,resources=callcommands,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups=pbx-operator.io,resources=callcommands/status,verbs=get;patch
// +kubebuilder:rbac:groups=pbx-operator.io,resources=calllegs,verbs=get;list;watch
// +kubebuilder:rbac:groups=pbx-operator.io,resources=pbxintegrations,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

const controllerName = "callcommand"

// SetupWithManager adds the controller to a manager. The pool is shared with the other controllers.
func SetupWithManager(ctx context.Context, mgr ctrl.Manager, pool *pbxapi.Pool, options Options) error {
	options = options.withDefaults(mgr)
	if options.Legs == nil {
		legs, err := client.NewWithWatch(mgr.GetConfig(), client.Options{HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
		if err != nil {
			return fmt.Errorf("cannot watch call legs: %w", err)
		}
		options.Legs = legs
	}
	if err := indexByIntegration(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	h := &handler{
		client: options.Client, live: options.Reader, pool: pool, secrets: options.Secrets,
		clock: options.Clock, follower: newFollower(options.Legs, options.Clock),
	}
	reconciler := &lifecycle.Reconciler[*v1alpha1.CallCommand]{
		Name: controllerName, Client: options.Client, Recorder: mgr.GetEventRecorder(controllerName), Metrics: options.Outcomes,
		Clock: options.Clock, Interval: time.Hour, NoFinalizer: true, Handler: h,
	}
	backoff := workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](options.BackoffBase, options.BackoffLimit)
	shares := lifecycle.NewShares(options.PerIntegration, reconciler, lifecycle.IntegrationOfCommand(options.Client))
	err := ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		For(&v1alpha1.CallCommand{}, builder.WithPredicates(lifecycle.Asked())).
		Watches(&v1alpha1.PBXIntegration{}, watch.EnqueueRequestsFromMapFunc(h.pendingOf), builder.WithPredicates(lifecycle.Asked())).
		WatchesRawSource(source.Func(h.follower.start)).
		WithOptions(controller.Options{MaxConcurrentReconciles: options.Workers, RateLimiter: shares.Limiter(backoff)}).
		WatchesRawSource(shares.Source()).
		Complete(shares)
	if err != nil {
		return fmt.Errorf("cannot set up the controller of CallCommands: %w", err)
	}
	return nil
}

// indexByIntegration makes the cache index of commands by the name of their integration.
func indexByIntegration(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &v1alpha1.CallCommand{}, lifecycle.IndexIntegration, func(obj client.Object) []string {
		command, ok := obj.(*v1alpha1.CallCommand)
		if !ok {
			return nil
		}
		return []string{command.Spec.IntegrationRef.Name}
	})
	if err != nil {
		return fmt.Errorf("cannot index the commands by integration: %w", err)
	}
	return nil
}

// pendingOf asks for a pass over the commands that wait for an integration.
func (h *handler) pendingOf(ctx context.Context, integration client.Object) []reconcile.Request {
	var list v1alpha1.CallCommandList
	err := h.client.List(ctx, &list, client.InNamespace(integration.GetNamespace()), client.UnsafeDisableDeepCopy,
		client.MatchingFields{lifecycle.IndexIntegration: integration.GetName()})
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Cannot list commands in the cache; they wait for their next turn")
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if list.Items[i].Status.SentTime == nil && !over(&list.Items[i]) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return requests
}
