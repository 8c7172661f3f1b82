// Package discovery makes ExtensionMappings of the extensions that a PBX has. It is a step of the reconciliation of PBXIntegrations.
package discovery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// +kubebuilder:rbac:groups=pbx-operator.io,resources=extensionmappings,verbs=get;list;watch;create;patch;delete

// PBX is what discovery asks of a PBX.
type PBX interface {
	// Extensions lists all extensions.
	Extensions(ctx context.Context) ([]pbxapi.Extension, error)
}

// Connect gives access to the PBX of an integration.
type Connect func(ctx context.Context, p *v1alpha1.PBXIntegration) (PBX, error)

// Step discovers the extensions of integrations that ask for it.
type Step struct {
	client  client.Client
	connect Connect
	clock   clock.PassiveClock

	mu    sync.Mutex
	lists map[types.UID]list
}

// list is what a PBX had. Passes for other reasons than the interval use it again, so that a mapping that somebody writes by hand replaces
// a discovered one at once.
type list struct {
	question string
	at       time.Time
	found    []pbxapi.Extension
}

// New makes the step. lifecycle.IndexMappings must have been called.
func New(cached client.Client, connect Connect, clock clock.PassiveClock) *Step {
	return &Step{client: cached, connect: connect, clock: clock, lists: map[types.UID]list{}}
}

// retry is when to ask again after a failure.
const retry = time.Minute

// Reconcile brings the discovered mappings in line with the PBX, and says when to look again.
func (s *Step) Reconcile(ctx context.Context, p *v1alpha1.PBXIntegration) (time.Duration, error) {
	mappings, err := s.mappings(ctx, p)
	if err != nil {
		return 0, fmt.Errorf("cannot list the mappings: %w", err)
	}
	if p.Spec.Discovery == nil {
		return 0, s.off(ctx, p, mappings)
	}
	found, err := s.extensions(ctx, p)
	if err != nil {
		return retry, s.failed(p, err)
	}
	plan := Decide(p, found, mappings, s.clock.Now())
	if err := s.carryOut(ctx, plan); err != nil {
		return retry, s.failed(p, err)
	}
	s.report(p, plan)
	return s.next(p, plan), nil
}

// off removes what discovery has made.
func (s *Step) off(ctx context.Context, p *v1alpha1.PBXIntegration, mappings []v1alpha1.ExtensionMapping) error {
	s.forget(p.UID)
	if err := s.carryOut(ctx, Decide(p, nil, mappings, s.clock.Now())); err != nil {
		return err
	}
	p.Status.Discovery = nil
	lifecycle.RemoveCondition(p, v1alpha1.ConditionExtensionsDiscovered)
	return nil
}

func (s *Step) mappings(ctx context.Context, p *v1alpha1.PBXIntegration) ([]v1alpha1.ExtensionMapping, error) {
	var list v1alpha1.ExtensionMappingList
	err := s.client.List(ctx, &list, client.InNamespace(p.Namespace), client.MatchingFields{lifecycle.IndexIntegration: p.Name})
	return list.Items, err
}

// extensions asks the PBX, or repeats its last answer while that is fresh.
func (s *Step) extensions(ctx context.Context, p *v1alpha1.PBXIntegration) ([]pbxapi.Extension, error) {
	question := fmt.Sprintf("%d %s", p.Generation, p.Annotations[v1alpha1.AnnotationReconcile])
	now := s.clock.Now()
	if last, ok := s.last(p.UID); ok && last.question == question && now.Sub(last.at) < p.Spec.Discovery.Interval.Duration {
		return last.found, nil
	}
	pbx, err := s.connect(ctx, p)
	if err != nil {
		return nil, err
	}
	found, err := pbx.Extensions(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists[p.UID] = list{question: question, at: now, found: found}
	return found, nil
}

func (s *Step) last(uid types.UID) (list, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, ok := s.lists[uid]
	return last, ok
}

func (s *Step) forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lists, uid)
}

// carryOut makes the changes of a plan. A mapping that somebody else has made or deleted meanwhile is no failure.
func (s *Step) carryOut(ctx context.Context, plan Plan) error {
	errs := make([]error, 0, len(plan.Delete)+len(plan.Vanished)+len(plan.Returned)+len(plan.Create))
	for _, mapping := range plan.Delete {
		uid := mapping.UID
		errs = append(errs, client.IgnoreNotFound(s.client.Delete(ctx, mapping, client.Preconditions{UID: &uid})))
	}
	for _, mapping := range plan.Vanished {
		errs = append(errs, s.mark(ctx, mapping, s.clock.Now().UTC().Format(time.RFC3339)))
	}
	for _, mapping := range plan.Returned {
		errs = append(errs, s.mark(ctx, mapping, ""))
	}
	for _, mapping := range plan.Create {
		errs = append(errs, client.IgnoreAlreadyExists(s.client.Create(ctx, mapping)))
	}
	return errors.Join(errs...)
}

// mark notes since when an extension is gone; an empty text takes the note away.
func (s *Step) mark(ctx context.Context, mapping *v1alpha1.ExtensionMapping, since string) error {
	before := mapping.DeepCopy()
	if since == "" {
		delete(mapping.Annotations, v1alpha1.AnnotationVanished)
	} else {
		metav1.SetMetaDataAnnotation(&mapping.ObjectMeta, v1alpha1.AnnotationVanished, since)
	}
	return client.IgnoreNotFound(s.client.Patch(ctx, mapping, client.MergeFrom(before)))
}

// report writes down what was found. A number that stays the same costs no write.
func (s *Step) report(p *v1alpha1.PBXIntegration, plan Plan) {
	now := s.clock.Now()
	if p.Status.Discovery == nil {
		p.Status.Discovery = &v1alpha1.DiscoveryStatus{}
	}
	if len(plan.Create)+len(plan.Delete)+len(plan.Vanished)+len(plan.Returned) > 0 {
		changed := metav1.NewTime(now)
		p.Status.Discovery.LastChangeTime = &changed
	}
	p.Status.Discovery.Extensions = int32(min(plan.Wanted, 1<<30))
	lifecycle.SetCondition(p, now, v1alpha1.ConditionExtensionsDiscovered, metav1.ConditionTrue, v1alpha1.ReasonDiscovered,
		"every extension that spec.discovery asks for has a mapping")
}

// next is the end of the interval or of a grace period, whichever comes first.
func (s *Step) next(p *v1alpha1.PBXIntegration, plan Plan) time.Duration {
	now := s.clock.Now()
	next := p.Spec.Discovery.Interval.Duration
	if last, ok := s.last(p.UID); ok {
		next -= now.Sub(last.at)
	}
	if !plan.NextEnd.IsZero() {
		next = min(next, plan.NextEnd.Sub(now))
	}
	return max(next, time.Second)
}

// failed says what an error means for the integration. What hinders the PBX as a whole has its own condition already.
func (s *Step) failed(p *v1alpha1.PBXIntegration, err error) error {
	if limited, ok := errors.AsType[*pbxapi.RateLimitedError](err); ok {
		return lifecycle.RateLimited{After: limited.After, Err: err}
	}
	var outcome error = lifecycle.Transient{Reason: v1alpha1.ReasonDiscoveryFailed, Err: err}
	switch {
	case errors.Is(err, pbxapi.ErrNotSupported):
		outcome = lifecycle.Terminalf(v1alpha1.ReasonNotSupported, "remove spec.discovery: %w", err)
	case errors.Is(err, pbxapi.ErrForbidden), errors.Is(err, pbxapi.ErrUnauthorized), errors.Is(err, pbxapi.ErrInvalid):
		outcome = lifecycle.Waiting{Reason: v1alpha1.ReasonDiscoveryFailed, After: retry, Err: err}
	case apierrors.IsInvalid(err):
		outcome = lifecycle.Terminal{Reason: v1alpha1.ReasonDiscoveryFailed, Err: err}
	}
	reason := v1alpha1.ReasonDiscoveryFailed
	if errors.Is(err, pbxapi.ErrNotSupported) {
		reason = v1alpha1.ReasonNotSupported
	}
	lifecycle.SetCondition(p, s.clock.Now(), v1alpha1.ConditionExtensionsDiscovered, metav1.ConditionFalse, reason, err.Error())
	return outcome
}
