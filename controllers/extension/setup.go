package extension

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
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
	"github.com/pbx-operator/pbx-operator/controllers/extension/registration"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/secrets"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// Options adjust the controller. The zero value is fit for production.
type Options struct {
	// Workers is how many mappings are worked on at once. Default: 32.
	Workers int
	// PerIntegration is how many of the workers may be busy with mappings of one integration.
	// Default: 8.
	PerIntegration int
	// Interval at which the registrations of a mapping are compared with the PBX; jittered by 10 %.
	// Default: 10 min.
	Interval time.Duration
	// Retry is when to look again at what somebody has to change on the PBX: an event limit, a
	// missing extension; jittered. Default: 2 min.
	Retry time.Duration
	// DeletionDeadline is for how long the removal of registrations may fail after a deletion. Then
	// the object is let go, and an Event names what is left. Waiting for a turn at the PBX does not
	// count; see registration.Failures. A mapping that another one takes over from waits for it
	// first, for as long again at most. Default: 2 min.
	DeletionDeadline time.Duration
	// CleanUpRetry is how often the removal is tried until then. Default: 10 s.
	CleanUpRetry time.Duration
	// BackoffBase and BackoffLimit bound the wait after failures: 1 s, doubled up to 5 min by
	// default.
	BackoffBase, BackoffLimit time.Duration
	// Metrics and Outcomes may be nil.
	Metrics  *registration.Metrics
	Outcomes *lifecycle.Metrics
	// Clock defaults to the real one.
	Clock clock.PassiveClock
	// Client and Reader default to those of the manager: the cached client, and the one that reads
	// from the API server.
	Client client.Client
	Reader client.Reader
	// Secrets defaults to a reader by Client and Reader. It may be shared with other controllers.
	Secrets *secrets.Reader
}

func (o Options) withDefaults() Options {
	o.Workers = cmp.Or(o.Workers, 32)
	o.PerIntegration = cmp.Or(o.PerIntegration, 8)
	o.Interval = cmp.Or(o.Interval, 10*time.Minute)
	o.Retry = cmp.Or(o.Retry, 2*time.Minute)
	o.DeletionDeadline = cmp.Or(o.DeletionDeadline, 2*time.Minute)
	o.CleanUpRetry = cmp.Or(o.CleanUpRetry, 10*time.Second)
	o.BackoffBase = cmp.Or(o.BackoffBase, time.Second)
	o.BackoffLimit = cmp.Or(o.BackoffLimit, 5*time.Minute)
	o.Clock = cmp.Or[clock.PassiveClock](o.Clock, clock.RealClock{})
	o.Secrets = cmp.Or(o.Secrets, secrets.NewReader(o.Client, o.Reader, o.Clock))
	return o
}

// +kubebuilder:rbac:groups=pbx-operator.io,resources=extensionmappings,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=pbx-operator.io,resources=extensionmappings/status,verbs=get;patch
// +kubebuilder:rbac:groups=pbx-operator.io,resources=extensionmappings/finalizers,verbs=update
// +kubebuilder:rbac:groups=pbx-operator.io,resources=pbxintegrations,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;update
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// SetupWithManager adds the controller to a manager, on which lifecycle.IndexMappings has been
// called. The pool is shared with the other controllers.
func SetupWithManager(ctx context.Context, mgr ctrl.Manager, pool *pbxapi.Pool, options Options) error {
	options.Client = cmp.Or(options.Client, mgr.GetClient())
	options.Reader = cmp.Or(options.Reader, mgr.GetAPIReader())
	options = options.withDefaults()
	if err := IndexClaims(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	h := newHandler(pool, options)
	reconciler := h.reconciler(mgr.GetEventRecorder(controllerName))
	backoff := workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](options.BackoffBase, options.BackoffLimit)
	shares := lifecycle.NewShares(options.PerIntegration, reconciler, lifecycle.IntegrationOfMapping(options.Client))
	err := ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		For(&v1alpha1.ExtensionMapping{}, builder.WithPredicates(lifecycle.Asked())).
		Watches(&v1alpha1.ExtensionMapping{}, h.whenClaimsChange()).
		Watches(&v1alpha1.PBXIntegration{}, h.whenIntegrationChanges()).
		WatchesMetadata(&corev1.Secret{}, watch.EnqueueRequestsFromMapFunc(h.mappingsOfKeys), builder.WithPredicates(keyRings())).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: options.Workers,
			RateLimiter:             shares.Limiter(backoff),
		}).
		WatchesRawSource(shares.Source()).
		Complete(shares)
	if err != nil {
		return fmt.Errorf("cannot set up the controller of ExtensionMappings: %w", err)
	}
	return nil
}

const controllerName = "extensionmapping"

// NewReconciler makes the passes of the controller without a manager. Options.Client and
// Options.Reader must be given, and the client must know the indexes of IndexClaims and
// lifecycle.IndexMappings.
func NewReconciler(pool *pbxapi.Pool, recorder lifecycle.Recorder, options Options) *lifecycle.Reconciler[*v1alpha1.ExtensionMapping] {
	return newHandler(pool, options.withDefaults()).reconciler(recorder)
}

func newHandler(pool *pbxapi.Pool, options Options) *handler {
	return &handler{
		client: options.Client, live: options.Reader, pool: pool, secrets: options.Secrets,
		clock: options.Clock, options: options, metrics: options.Metrics, seen: newSightings(), failures: registration.NewFailures(),
	}
}

func (h *handler) reconciler(recorder lifecycle.Recorder) *lifecycle.Reconciler[*v1alpha1.ExtensionMapping] {
	return &lifecycle.Reconciler[*v1alpha1.ExtensionMapping]{
		Name: controllerName, Client: h.client, Recorder: recorder, Metrics: h.options.Outcomes, Clock: h.clock, Interval: h.options.Interval,
		Handler: h,
	}
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// whenIntegrationChanges asks for a pass over the mappings of an integration when something changed
// that matters to them.
func (h *handler) whenIntegrationChanges() watch.EventHandler {
	return watch.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { h.enqueue(ctx, e.Object, q, everyone) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			was, isIntegration := e.ObjectOld.(*v1alpha1.PBXIntegration)
			is, same := e.ObjectNew.(*v1alpha1.PBXIntegration)
			switch {
			case !isIntegration || !same:
			case concernsAll(was, is):
				h.enqueue(ctx, is, q, everyone)
			case !reachable(was) && reachable(is):
				h.enqueue(ctx, is, q, unready)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			if integration, ok := e.Object.(*v1alpha1.PBXIntegration); ok {
				h.secrets.Forget(secretsOf(integration)...)
			}
			h.enqueue(ctx, e.Object, q, everyone)
		},
	}
}

// concernsAll reports whether a change of an integration concerns all its mappings: a change of
// counts, or of how calls are published, must not make them all ask the PBX.
func concernsAll(was, is *v1alpha1.PBXIntegration) bool {
	return was.UID != is.UID ||
		was.DeletionTimestamp.IsZero() != is.DeletionTimestamp.IsZero() ||
		was.Spec.Suspend != is.Spec.Suspend ||
		was.Spec.DeletionPolicy != is.Spec.DeletionPolicy ||
		was.Spec.Receiver.PublicURL != is.Spec.Receiver.PublicURL ||
		pbxapi.EventLimit(was.Spec.PBX) != pbxapi.EventLimit(is.Spec.PBX) ||
		was.Status.KeyGeneration != is.Status.KeyGeneration ||
		accountWide(was) != accountWide(is) ||
		followsAgents(was) != followsAgents(is)
}

func reachable(integration *v1alpha1.PBXIntegration) bool {
	return meta.IsStatusConditionTrue(integration.Status.Conditions, v1alpha1.ConditionPBXReachable)
}

func secretsOf(integration *v1alpha1.PBXIntegration) []types.NamespacedName {
	names := append(pbxapi.ReferredSecrets(integration.Spec.PBX), eventurl.SecretName(integration.Name))
	keys := make([]types.NamespacedName, len(names))
	for i, name := range names {
		keys[i] = types.NamespacedName{Namespace: integration.Namespace, Name: name}
	}
	return keys
}

func everyone(*v1alpha1.ExtensionMapping) bool { return true }

func unready(mapping *v1alpha1.ExtensionMapping) bool { return !lifecycle.IsReady(mapping) }

func terminating(mapping *v1alpha1.ExtensionMapping) bool { return !mapping.DeletionTimestamp.IsZero() }

func (h *handler) enqueue(ctx context.Context, integration client.Object, q queue, which func(*v1alpha1.ExtensionMapping) bool) {
	for _, request := range h.mappingsOf(ctx, integration.GetNamespace(), integration.GetName(), which) {
		q.Add(request)
	}
}

func (h *handler) mappingsOf(
	ctx context.Context, namespace, integration string, which func(*v1alpha1.ExtensionMapping) bool,
) []reconcile.Request {
	return h.requests(ctx, namespace, client.MatchingFields{lifecycle.IndexIntegration: integration}, which)
}

// requests are for the mappings of a namespace that a cache index finds.
func (h *handler) requests(
	ctx context.Context, namespace string, fields client.MatchingFields, which func(*v1alpha1.ExtensionMapping) bool,
) []reconcile.Request {
	var list v1alpha1.ExtensionMappingList
	err := h.client.List(ctx, &list, client.InNamespace(namespace), fields, client.UnsafeDisableDeepCopy)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Cannot list mappings in the cache; they wait for their next turn")
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if which(&list.Items[i]) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return requests
}

// keyRings lets through changes of key ring Secrets.
func keyRings() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(obj client.Object) bool { return strings.HasSuffix(obj.GetName(), keyRingSuffix) })
}

var keyRingSuffix = eventurl.SecretName("")

func (h *handler) mappingsOfKeys(ctx context.Context, secret client.Object) []reconcile.Request {
	return h.mappingsOf(ctx, secret.GetNamespace(), strings.TrimSuffix(secret.GetName(), keyRingSuffix), everyone)
}

// whenClaimsChange asks for a pass over those that a change of another mapping's claims concerns:
// rivals for an extension that it now wants; when it gave one up, those that were refused; those
// being deleted that it takes over from; and, when it is gone, those that it has left room for.
func (h *handler) whenClaimsChange() watch.EventHandler {
	return watch.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			h.claimed(ctx, e.Object, claimsOf(e.Object), everyone, q)
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			was, is := claimsOf(e.ObjectOld), claimsOf(e.ObjectNew)
			h.claimed(ctx, e.ObjectNew, without(is, was), everyone, q)
			if gone := without(was, is); len(gone) > 0 {
				h.claimed(ctx, e.ObjectNew, gone, everyone, q) // one that is about to be refused is no refused one yet
				h.givenUp(ctx, e.ObjectNew, q)
			}
			if !takesOver(e.ObjectOld) && takesOver(e.ObjectNew) {
				h.claimed(ctx, e.ObjectNew, is, terminating, q)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			h.givenUp(ctx, e.Object, q)
			if mapping, ok := e.Object.(*v1alpha1.ExtensionMapping); ok {
				h.claimed(ctx, mapping, claims(mapping), short, q)
			}
		},
	}
}

// claimsOf are the claims that count: one that is being deleted has none.
func claimsOf(obj client.Object) []string {
	mapping, ok := obj.(*v1alpha1.ExtensionMapping)
	if !ok || !mapping.DeletionTimestamp.IsZero() {
		return nil
	}
	return claims(mapping)
}

func (h *handler) claimed(
	ctx context.Context, by client.Object, claims []string, which func(*v1alpha1.ExtensionMapping) bool, q queue,
) {
	others := func(rival *v1alpha1.ExtensionMapping) bool { return rival.UID != by.GetUID() && which(rival) }
	for _, claim := range claims {
		for _, request := range h.requests(ctx, by.GetNamespace(), client.MatchingFields{indexClaims: claim}, others) {
			q.Add(request)
		}
	}
}

func (h *handler) givenUp(ctx context.Context, by client.Object, q queue) {
	mapping, ok := by.(*v1alpha1.ExtensionMapping)
	if !ok {
		return
	}
	refused := client.MatchingFields{indexRefused: mapping.Spec.IntegrationRef.Name}
	for _, request := range h.requests(ctx, mapping.Namespace, refused, everyone) {
		q.Add(request)
	}
}

func without(list, remove []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(item string) bool { return slices.Contains(remove, item) })
}
