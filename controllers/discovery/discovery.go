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

// Config is what the step works with.
type Config struct {
	// Client is cached; Live reads past the cache, which may hold some of the mappings only.
	Client  client.Client
	Live    client.Reader
	Connect Connect
	Clock   clock.PassiveClock
	// Inherited are the labels of an integration that its mappings must have as well, for a manager that sees only objects with certain labels.
	Inherited []string
}

// Step discovers the extensions of integrations that ask for it.
type Step struct {
	Config

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
func New(config Config) *Step {
	return &Step{Config: config, lists: map[types.UID]list{}}
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
	plan := Decide(p, found, mappings, s.Clock.Now())
	changed, err := s.carryOut(ctx, p, plan)
	if changed {
		s.noteChange(p)
	}
	if err != nil {
		return retry, s.failed(p, err)
	}
	s.report(p, plan)
	return s.next(p, plan), nil
}

// off removes what discovery has made.
func (s *Step) off(ctx context.Context, p *v1alpha1.PBXIntegration, mappings []v1alpha1.ExtensionMapping) error {
	s.Forget(p.UID)
	if _, err := s.carryOut(ctx, p, Decide(p, nil, mappings, s.Clock.Now())); err != nil {
		return err
	}
	p.Status.Discovery = nil
	lifecycle.RemoveCondition(p, v1alpha1.ConditionDiscovered)
	return nil
}

func (s *Step) mappings(ctx context.Context, p *v1alpha1.PBXIntegration) ([]v1alpha1.ExtensionMapping, error) {
	var list v1alpha1.ExtensionMappingList
	err := s.Client.List(ctx, &list, client.InNamespace(p.Namespace), client.MatchingFields{lifecycle.IndexIntegration: p.Name})
	return list.Items, err
}

// extensions asks the PBX, or repeats its last answer while that is fresh.
func (s *Step) extensions(ctx context.Context, p *v1alpha1.PBXIntegration) ([]pbxapi.Extension, error) {
	question := fmt.Sprintf("%d %s", p.Generation, p.Annotations[v1alpha1.AnnotationReconcile])
	now := s.Clock.Now()
	if last, ok := s.last(p.UID); ok && last.question == question && now.Sub(last.at) < p.Spec.Discovery.Interval.Duration {
		return last.found, nil
	}
	pbx, err := s.Connect(ctx, p)
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

// Forget drops what is remembered of an integration that is gone.
func (s *Step) Forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lists, uid)
}

// carryOut makes the changes of a plan, and tells whether there were any. A mapping that somebody else has deleted meanwhile is no failure.
func (s *Step) carryOut(ctx context.Context, p *v1alpha1.PBXIntegration, plan Plan) (changed bool, err error) {
	var errs []error
	done := func(err error) {
		changed = changed || err == nil
		errs = append(errs, client.IgnoreNotFound(err))
	}
	for _, mapping := range plan.Delete {
		uid := mapping.UID
		done(s.Client.Delete(ctx, mapping, client.Preconditions{UID: &uid}))
	}
	for _, mapping := range plan.Vanished {
		done(s.mark(ctx, mapping, s.Clock.Now().UTC().Format(time.RFC3339)))
	}
	for _, mapping := range plan.Returned {
		done(s.mark(ctx, mapping, ""))
	}
	for _, mapping := range plan.Create {
		made, err := s.create(ctx, p, mapping)
		changed = changed || made
		errs = append(errs, err)
	}
	return changed, errors.Join(errs...)
}

// create makes a mapping, unless the cache is behind and it is there. A mapping of something else may have its name.
func (s *Step) create(ctx context.Context, p *v1alpha1.PBXIntegration, mapping *v1alpha1.ExtensionMapping) (made bool, err error) {
	for _, label := range s.Inherited {
		if value, ok := p.Labels[label]; ok {
			mapping.Labels[label] = value
		}
	}
	err = s.Client.Create(ctx, mapping)
	if !apierrors.IsAlreadyExists(err) {
		return err == nil, err
	}
	existing := &v1alpha1.ExtensionMapping{}
	if err := s.Live.Get(ctx, client.ObjectKeyFromObject(mapping), existing); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	if isFor(existing, p, mapping.Spec.Extension.Number) {
		return false, nil
	}
	return false, fmt.Errorf("extension %s gets no mapping, because ExtensionMapping %s is that of another one: write a mapping for it, or rename that",
		mapping.Spec.Extension.Number, mapping.Name)
}

// mark notes since when an extension is gone; an empty text takes the note away.
func (s *Step) mark(ctx context.Context, mapping *v1alpha1.ExtensionMapping, since string) error {
	before := mapping.DeepCopy()
	if since == "" {
		delete(mapping.Annotations, v1alpha1.AnnotationVanished)
	} else {
		metav1.SetMetaDataAnnotation(&mapping.ObjectMeta, v1alpha1.AnnotationVanished, since)
	}
	return s.Client.Patch(ctx, mapping, client.MergeFrom(before))
}

// noteChange writes down that an extension came or went.
func (s *Step) noteChange(p *v1alpha1.PBXIntegration) {
	if p.Status.Discovery == nil {
		p.Status.Discovery = &v1alpha1.DiscoveryStatus{}
	}
	changed := metav1.NewTime(s.Clock.Now())
	p.Status.Discovery.LastChangeTime = &changed
}

// report writes down what was found. A number that stays the same costs no write.
func (s *Step) report(p *v1alpha1.PBXIntegration, plan Plan) {
	if p.Status.Discovery == nil {
		p.Status.Discovery = &v1alpha1.DiscoveryStatus{}
	}
	p.Status.Discovery.Extensions = int32(min(plan.Wanted, 1<<30))
	lifecycle.SetCondition(p, s.Clock.Now(), v1alpha1.ConditionDiscovered, metav1.ConditionTrue, v1alpha1.ReasonDiscovered,
		"every extension that spec.discovery asks for has a mapping")
}

// next is the end of the interval or of a grace period, whichever comes first.
func (s *Step) next(p *v1alpha1.PBXIntegration, plan Plan) time.Duration {
	now := s.Clock.Now()
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
	lifecycle.SetCondition(p, s.Clock.Now(), v1alpha1.ConditionDiscovered, metav1.ConditionFalse, reason, err.Error())
	return outcome
}
