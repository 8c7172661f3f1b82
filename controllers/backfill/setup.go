package backfill

import (
	"cmp"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

// Options adjust the controller. Connect and Receiver are required; the rest of the zero value is
// fit for production.
type Options struct {
	Connect  Connect
	Receiver Receiver
	// Workers is how many integrations are worked on at once. Default: 4.
	Workers int
	// Settle is how long after an outage the history is read, so that the PBX has it complete.
	// Default: 15 s.
	Settle time.Duration
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
	o.Settle = cmp.Or(o.Settle, 15*time.Second)
	o.Clock = cmp.Or[clock.PassiveClock](o.Clock, clock.RealClock{})
	o.Client = cmp.Or(o.Client, mgr.GetClient())
	o.Reader = cmp.Or(o.Reader, mgr.GetAPIReader())
	return o
}

// +kubebuilder:rbac:groups=pbx-operator.io,resources=pbxintegrations,verbs=get;list;watch
// +kubebuilder:rbac:groups=pbx-operator.io,resources=pbxintegrations/status,verbs=patch
// +kubebuilder:rbac:groups=pbx-operator.io,resources=extensionmappings,verbs=get;list;watch
// +kubebuilder:rbac:groups=pbx-operator.io,resources=calllegs,verbs=get;list
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

const controllerName = "backfill"

// SetupWithManager adds the controller to a manager, on which lifecycle.IndexMappings has been
// called.
func SetupWithManager(mgr ctrl.Manager, options Options) error {
	options = options.withDefaults(mgr)
	h := newHandler(options)
	err := ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		For(&v1alpha1.PBXIntegration{}, builder.WithPredicates(predicate.Or(lifecycle.Asked(), concerned()))).
		Watches(&v1alpha1.PBXIntegration{}, lifecycle.WhenGone(h.forget)).
		WithOptions(controller.Options{MaxConcurrentReconciles: options.Workers, RateLimiter: lifecycle.RateLimiter()}).
		Complete(newReconciler(h, options, mgr.GetEventRecorder(controllerName)))
	if err != nil {
		return fmt.Errorf("cannot set up the backfill from call histories: %w", err)
	}
	return nil
}

func newHandler(options Options) *handler {
	return &handler{
		client: options.Client, live: options.Reader, connect: options.Connect, receiver: options.Receiver, clock: options.Clock,
		settle: options.Settle, memories: map[types.NamespacedName]*memory{},
	}
}

// newReconciler puts the handler into the shared skeleton. The integration is read past the cache,
// because its status has the cursor.
func newReconciler(h *handler, options Options, recorder lifecycle.Recorder) *lifecycle.Reconciler[*v1alpha1.PBXIntegration] {
	return &lifecycle.Reconciler[*v1alpha1.PBXIntegration]{
		Name: controllerName, Client: options.Client, Reader: options.Reader, Recorder: recorder, Metrics: options.Outcomes,
		Clock: options.Clock, Interval: time.Hour, NoFinalizer: true, Handler: h,
		Part: &lifecycle.Part{Condition: v1alpha1.ConditionBackfilled, Fields: []string{"backfill"}},
	}
}

// concerned lets through what the receiver has to say of the events, and that it is back.
func concerned() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		was, known := e.ObjectOld.(*v1alpha1.PBXIntegration)
		is, still := e.ObjectNew.(*v1alpha1.PBXIntegration)
		return known && still &&
			(!equality.Semantic.DeepEqual(was.Status.Events, is.Status.Events) || !available(was) && available(is))
	}}
}

// available reports whether the receiver takes records.
func available(p *v1alpha1.PBXIntegration) bool {
	return meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionReceiverAvailable)
}
