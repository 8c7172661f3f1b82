package discovery

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	watch "sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

// Options adjust the controller. Connect is required; the rest of the zero value is fit for
// production.
type Options struct {
	Connect Connect
	// Inherited are the labels of an integration that its mappings must have as well, for a manager
	// that sees only objects with certain labels.
	Inherited []string
	// Workers is how many integrations are worked on at once. Default: 4.
	Workers int
	// Coalesce is how long changes of mappings are gathered. Default: 2 s.
	Coalesce time.Duration
	// Outcomes may be nil.
	Outcomes *lifecycle.Metrics
	// Clock defaults to the real one.
	Clock clock.PassiveClock
	// Client and Reader default to those of the manager: the cached client, and the one that reads
	// from the API server.
	Client client.Client
	Reader client.Reader
}

func (o Options) withDefaults(mgr ctrl.Manager) Options {
	o.Workers = cmp.Or(o.Workers, 4)
	o.Coalesce = cmp.Or(o.Coalesce, 2*time.Second)
	o.Clock = cmp.Or[clock.PassiveClock](o.Clock, clock.RealClock{})
	o.Client = cmp.Or(o.Client, mgr.GetClient())
	o.Reader = cmp.Or(o.Reader, mgr.GetAPIReader())
	return o
}

// +kubebuilder:rbac:groups=pbx-operator.io,resources=pbxintegrations,verbs=get;list;watch
// +kubebuilder:rbac:groups=pbx-operator.io,resources=pbxintegrations/status,verbs=patch
// +kubebuilder:rbac:groups=pbx-operator.io,resources=extensionmappings,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

const controllerName = "discovery"

// SetupWithManager adds the controller to a manager, on which lifecycle.IndexMappings has been
// called.
func SetupWithManager(mgr ctrl.Manager, options Options) error {
	options = options.withDefaults(mgr)
	h := newHandler(options)
	err := ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		For(&v1alpha1.PBXIntegration{}, builder.WithPredicates(predicate.Or(lifecycle.Asked(), reachable()))).
		Watches(&v1alpha1.PBXIntegration{}, lifecycle.WhenGone(h.forget)).
		Watches(&v1alpha1.ExtensionMapping{}, h.whenMappingsChange(options.Coalesce)).
		WithOptions(controller.Options{MaxConcurrentReconciles: options.Workers, RateLimiter: lifecycle.RateLimiter()}).
		Complete(newReconciler(h, options, mgr.GetEventRecorder(controllerName)))
	if err != nil {
		return fmt.Errorf("cannot set up the discovery of extensions: %w", err)
	}
	return nil
}

func newHandler(options Options) *handler {
	return &handler{
		client: options.Client, live: options.Reader, connect: options.Connect, clock: options.Clock, inherited: options.Inherited,
		listings: map[types.NamespacedName]*listing{},
	}
}

// newReconciler puts the handler into the shared skeleton. The integration is read past the cache,
// because its status has the cursor.
func newReconciler(h *handler, options Options, recorder lifecycle.Recorder) *lifecycle.Reconciler[*v1alpha1.PBXIntegration] {
	return &lifecycle.Reconciler[*v1alpha1.PBXIntegration]{
		Name: controllerName, Client: options.Client, Reader: options.Reader, Recorder: recorder, Metrics: options.Outcomes,
		Clock: options.Clock, Interval: time.Hour, NoFinalizer: true, Handler: h,
		Part: &lifecycle.Part{Condition: v1alpha1.ConditionDiscovered, Fields: []string{"discovery"}},
	}
}

// reachable lets through that the PBX can be reached again.
func reachable() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		was, known := e.ObjectOld.(*v1alpha1.PBXIntegration)
		is, still := e.ObjectNew.(*v1alpha1.PBXIntegration)
		return known && still && !meta.IsStatusConditionTrue(was.Status.Conditions, v1alpha1.ConditionPBXReachable) &&
			meta.IsStatusConditionTrue(is.Status.Conditions, v1alpha1.ConditionPBXReachable)
	}}
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// whenMappingsChange asks for a pass when a mapping may replace a discovered one, and for a new
// list when one has gone.
func (h *handler) whenMappingsChange(delay time.Duration) watch.EventHandler {
	enqueue := func(obj client.Object, gone bool, q queue) {
		mapping, ok := obj.(*v1alpha1.ExtensionMapping)
		if !ok {
			return
		}
		key := types.NamespacedName{Namespace: mapping.Namespace, Name: mapping.Spec.IntegrationRef.Name}
		if gone {
			h.hasten(key)
		}
		q.AddAfter(reconcile.Request{NamespacedName: key}, delay)
	}
	return watch.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { enqueue(e.Object, false, q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() || discovered(e.ObjectOld) != discovered(e.ObjectNew) {
				enqueue(e.ObjectNew, true, q)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { enqueue(e.Object, true, q) },
	}
}

func discovered(obj client.Object) string { return obj.GetLabels()[v1alpha1.LabelDiscovered] }
