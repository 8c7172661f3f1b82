// Package lifecycle is the one skeleton that all controllers share: fetch, finalize or add the
// finalizer, honour suspend, run the controller's own steps, and settle what came of it once:
// conditions, at most one Event, a metric, one status patch, and when to look again. The outcome
// alone decides all of these; see Done, Terminal, Waiting, Transient and RateLimited.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// Object is a kind of this API with conditions.
type Object interface {
	client.Object
	GetConditions() *[]metav1.Condition
	SetObservedGeneration(generation int64)
}

// Handler is what sets one controller apart from another. It may change the status of the object it
// is given, in memory; the skeleton writes it. It must change neither spec nor metadata.
type Handler[T Object] interface {
	// Suspended reports whether the spec asks to leave the object alone. Deletion is not held up by
	// it.
	Suspended(obj T) bool
	// Reconcile runs the steps towards the spec. It returns a Done, or one of the outcome errors.
	Reconcile(ctx context.Context, obj T) (Done, error)
	// Finalize cleans up what is outside the cluster. The finalizer is removed when it returns no
	// error; of Done only the Notice counts. Any error is tried again, a Terminal one too: it is
	// for Finalize to give up at its deadline.
	Finalize(ctx context.Context, obj T) (Done, error)
}

// Recorder emits Kubernetes Events (events.k8s.io).
type Recorder interface {
	Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any)
}

// Reconciler runs a Handler in the skeleton.
type Reconciler[T Object] struct {
	// Name of the controller, in metrics.
	Name     string
	Client   client.Client
	Recorder Recorder
	// Metrics may be nil.
	Metrics *Metrics
	Clock   clock.PassiveClock
	// Interval at which an object is looked at although nothing asked for it; jittered.
	Interval time.Duration
	// NoFinalizer is for objects that leave nothing behind outside the cluster, or whose finalizer
	// is the business of another controller. Finalize is never called, and an object that is being
	// deleted is left alone.
	NoFinalizer bool
	// Part is for a controller that shares its objects with others; it needs NoFinalizer as well.
	// Default: the whole status.
	Part *Part
	// Reader reads the object of a pass. One that reads past the cache is for passes that go on
	// where the last one stopped. Default: Client.
	Reader  client.Reader
	Handler Handler[T]

	written ownWrites
}

// Reconcile makes one pass over one object.
func (r *Reconciler[T]) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	obj := newObject[T]()
	if err := r.reader().Get(ctx, request.NamespacedName, obj); err != nil {
		r.written.forget(request.NamespacedName)
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !obj.GetDeletionTimestamp().IsZero() {
		return r.finalize(ctx, obj)
	}
	if err := r.addFinalizer(ctx, obj); err != nil {
		return r.unwritten(obj, err)
	}
	before := deepCopy(obj)
	result := r.run(ctx, obj)
	if result.then != nil {
		return r.carryOut(ctx, before, obj, result)
	}
	return r.finish(ctx, before, obj, result)
}

func (r *Reconciler[T]) reader() client.Reader {
	if r.Reader != nil {
		return r.Reader
	}
	return r.Client
}

// carryOut writes an Intent down, and does then what was intended.
func (r *Reconciler[T]) carryOut(ctx context.Context, before, obj T, intent outcome) (reconcile.Result, error) {
	settle(obj, r.Clock.Now(), intent)
	changed, err := r.writeStatus(ctx, before, obj, lockedPatch(before))
	if err != nil {
		return r.unwritten(obj, err)
	}
	if !changed {
		return reconcile.Result{}, fmt.Errorf("%s does not write down what it is about to do", r.Name)
	}
	written := deepCopy(obj)
	result := outcomeOf(intent.then())
	result.unlocked = true
	return r.finish(ctx, written, obj, result)
}

// LeftAlone says what it means to be suspended.
const LeftAlone = "nothing is checked or changed, and an edited spec is not applied; Ready keeps the status it had"

// run is the pass proper.
func (r *Reconciler[T]) run(ctx context.Context, obj T) outcome {
	if r.Handler.Suspended(obj) {
		return outcome{kind: kindSuspended, reason: v1alpha1.ReasonSuspended, message: "spec.suspend is set: " + LeftAlone}
	}
	done, err := r.Handler.Reconcile(ctx, obj)
	return outcomeOf(done, err)
}

func (r *Reconciler[T]) addFinalizer(ctx context.Context, obj T) error {
	before := deepCopy(obj)
	if r.NoFinalizer || !controllerutil.AddFinalizer(obj, v1alpha1.Finalizer) {
		return nil
	}
	return r.Client.Patch(ctx, obj, lockedPatch(before))
}

func (r *Reconciler[T]) finalize(ctx context.Context, obj T) (reconcile.Result, error) {
	if r.NoFinalizer || !controllerutil.ContainsFinalizer(obj, v1alpha1.Finalizer) {
		return reconcile.Result{}, nil
	}
	before := deepCopy(obj)
	done, err := r.Handler.Finalize(ctx, obj)
	if err != nil {
		return r.finish(ctx, before, obj, retried(outcomeOf(done, err)))
	}
	controllerutil.RemoveFinalizer(obj, v1alpha1.Finalizer)
	if err := r.Client.Patch(ctx, obj, lockedPatch(before)); err != nil {
		return r.unwritten(obj, client.IgnoreNotFound(err))
	}
	r.announce(obj, done.Notice)
	r.Metrics.observe(r.Name, outcome{kind: kindDeleted, reason: v1alpha1.ReasonDeleting})
	log.FromContext(ctx).Info("Finalized")
	return reconcile.Result{}, nil
}

// retried makes an outcome of Finalize one that is tried again.
func retried(result outcome) outcome {
	if result.kind == kindTerminal {
		result.kind = kindTransient
	}
	return result
}

// finish settles a pass: conditions, Event, metric, one status patch, and when to come back.
func (r *Reconciler[T]) finish(ctx context.Context, before, obj T, result outcome) (reconcile.Result, error) {
	if outdated(result.err) {
		return r.unwritten(obj, result.err)
	}
	if errors.Is(result.err, context.Canceled) && ctx.Err() != nil {
		return reconcile.Result{}, ctx.Err()
	}
	r.settle(obj, result)
	patch := lockedPatch(before)
	if result.unlocked {
		patch = client.MergeFrom(before)
	}
	changed, err := r.writeStatus(ctx, before, obj, patch)
	if err != nil {
		return r.unwritten(obj, err)
	}
	moved := transition(before, obj, r.summary())
	r.announce(obj, announcement(result, moved))
	r.Metrics.observe(r.Name, result)
	logOutcome(log.FromContext(ctx), result, moved, changed)
	return r.next(obj, result)
}

// unwritten ends a pass whose result could not be written. A conflict means that the object was
// read before its last change had reached the cache: a new pass sees it, and nobody needs to hear
// of it.
func (r *Reconciler[T]) unwritten(obj T, err error) (reconcile.Result, error) {
	if outdated(err) {
		r.Metrics.observe(r.Name, outcome{kind: kindConflict, reason: string(metav1.StatusReasonConflict)})
		return reconcile.Result{RequeueAfter: conflictWait}, nil
	}
	if apierrors.IsNotFound(err) && !obj.GetDeletionTimestamp().IsZero() {
		return reconcile.Result{}, nil
	}
	if err == nil {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, scrubbed{message: Scrub(err.Error()), cause: err}
}

// outdated reports whether something was written or made meanwhile that this pass has not seen.
func outdated(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }

const conflictWait = 100 * time.Millisecond

// next tells when to look again. A Transient failure leaves that to the backoff of the work queue.
func (r *Reconciler[T]) next(obj T, result outcome) (reconcile.Result, error) {
	switch result.kind {
	case kindTransient:
		return reconcile.Result{}, result.err
	case kindSuspended:
		return reconcile.Result{}, nil
	case kindWaiting, kindRateLimited:
		return reconcile.Result{RequeueAfter: result.after}, nil
	case kindDone, kindTerminal, kindDeleted, kindConflict:
	}
	if result.after > 0 {
		return reconcile.Result{RequeueAfter: result.after}, nil
	}
	return reconcile.Result{RequeueAfter: Jitter(r.Interval, obj.GetUID())}, nil
}

// writeStatus patches what changed, and nothing when nothing did. A locked patch keeps a pass over
// an outdated copy from undoing a newer one.
func (r *Reconciler[T]) writeStatus(ctx context.Context, before, obj T, patch client.Patch) (changed bool, err error) {
	if r.Part != nil {
		return r.Part.write(ctx, r.Client, fieldOwnerPrefix+r.Name, before, obj)
	}
	data, err := client.MergeFrom(before).Data(obj)
	if err != nil {
		return false, fmt.Errorf("cannot compare the status: %w", err)
	}
	if string(data) == "{}" {
		return false, r.written.check(before)
	}
	err = r.Client.Status().Patch(ctx, obj, patch)
	if err == nil {
		r.written.note(obj)
	}
	return true, err
}

func lockedPatch[T Object](before T) client.Patch {
	return client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
}

// fieldOwnerPrefix precedes the name of a controller with a Part where the API server notes who
// owns a field.
const fieldOwnerPrefix = "pbx-operator-"

// settle writes an outcome into the conditions.
func (r *Reconciler[T]) settle(obj T, result outcome) {
	if r.Part != nil {
		r.Part.settle(obj, metav1.NewTime(r.Clock.Now()), result)
		return
	}
	settle(obj, r.Clock.Now(), result)
}

// transition reports whether a condition says something else than before, apart from its message.
func transition(before, after Object, conditionType string) bool {
	was := meta.FindStatusCondition(*before.GetConditions(), conditionType)
	is := meta.FindStatusCondition(*after.GetConditions(), conditionType)
	if was == nil || is == nil {
		return is != nil
	}
	return was.Status != is.Status || was.Reason != is.Reason
}

// announcement is what to tell: the outcome when it is new, else the notice of the handler.
func announcement(result outcome, moved bool) Notice {
	if moved {
		switch result.kind {
		case kindDone, kindSuspended:
			return Notice{Reason: result.reason, Message: result.message}
		case kindTerminal, kindTransient:
			return Notice{Reason: result.reason, Message: result.message, Warning: true}
		case kindWaiting, kindRateLimited, kindDeleted, kindConflict:
		}
	}
	return result.notice
}

func (r *Reconciler[T]) announce(obj T, notice Notice) {
	if notice.Reason == "" {
		return
	}
	eventType := corev1.EventTypeNormal
	if notice.Warning {
		eventType = corev1.EventTypeWarning
	}
	r.Recorder.Eventf(obj, nil, eventType, notice.Reason, "Reconcile", "%s", Scrub(notice.Message))
}

// logOutcome tells operators of the operator; users read conditions and Events. The manager logs
// Transient errors itself, once more at every try.
func logOutcome(logger logr.Logger, result outcome, moved, written bool) {
	level := 1
	if moved {
		level = 0
	}
	logger.V(level).Info("Reconciled", "outcome", result.kind, "reason", result.reason, "detail", result.message, "statusWritten", written)
}

func newObject[T Object]() T {
	return reflect.New(reflect.TypeFor[T]().Elem()).Interface().(T) //nolint:forcetypeassert // it was made from T
}

func deepCopy[T Object](obj T) T {
	return obj.DeepCopyObject().(T) //nolint:forcetypeassert // a copy has the type of its original
}
