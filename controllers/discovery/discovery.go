// Package discovery makes ExtensionMappings of the extensions that a PBX has.
//
// The list of extensions is read page by page. One that meets the rate limit, or a restart of the
// manager, goes on where it stopped; a list of which the beginning is not known any more makes
// mappings, but lets none go.
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

// Connect gives access to the PBX of an integration.
type Connect func(ctx context.Context, p *v1alpha1.PBXIntegration) (pbxapi.ExtensionPager, error)

// handler makes the passes over integrations.
type handler struct {
	client client.Client // cached
	// live reads past the cache, which may hold some of the mappings only.
	live    client.Reader
	connect Connect
	clock   clock.PassiveClock
	// inherited are the labels of an integration that its mappings must have as well.
	inherited []string

	mu sync.Mutex
	// listings can be lost: then a new list is read.
	listings map[types.NamespacedName]*listing
}

var _ lifecycle.Handler[*v1alpha1.PBXIntegration] = (*handler)(nil)

const (
	// retry is when to ask again after a failure that somebody has to see to.
	retry = time.Minute
	// passTime is how long a pass reads pages before it lets others have the worker.
	passTime = 10 * time.Second
	// nextPage is when it goes on.
	nextPage = 10 * time.Millisecond
)

// Suspended reports whether the integration is to be left alone.
func (h *handler) Suspended(p *v1alpha1.PBXIntegration) bool { return p.Spec.Suspend }

// Finalize is never called: mappings that discovery made go with their owner, the integration.
func (h *handler) Finalize(context.Context, *v1alpha1.PBXIntegration) (lifecycle.Done, error) {
	return lifecycle.Done{}, nil
}

// Reconcile brings the discovered mappings in line with the PBX.
func (h *handler) Reconcile(ctx context.Context, p *v1alpha1.PBXIntegration) (lifecycle.Done, error) {
	mappings, err := h.mappings(ctx, p)
	if err != nil {
		return lifecycle.Done{}, fmt.Errorf("cannot list the mappings: %w", err)
	}
	replaced := superseded(p, mappings)
	if err := h.delete(ctx, replaced); err != nil {
		return lifecycle.Done{}, failed(err)
	}
	h.noteChange(p, len(replaced) > 0)
	if p.Spec.Discovery == nil {
		h.forget(client.ObjectKeyFromObject(p))
		p.Status.Discovery = nil
		lifecycle.RemoveCondition(p, v1alpha1.ConditionDiscovered)
		return lifecycle.Done{}, nil
	}
	list := h.listing(p)
	if wait := list.wait(h.clock.Now()); wait > 0 {
		return lifecycle.Done{After: wait}, nil
	}
	complete, err := h.read(ctx, p, list, mappings)
	h.status(p).Cursor = list.cursor
	switch {
	case err != nil:
		return lifecycle.Done{}, failed(err)
	case !complete:
		return lifecycle.Done{After: nextPage}, nil
	}
	return h.conclude(ctx, p, list, mappings)
}

func (h *handler) mappings(ctx context.Context, p *v1alpha1.PBXIntegration) ([]v1alpha1.ExtensionMapping, error) {
	var list v1alpha1.ExtensionMappingList
	err := h.client.List(ctx, &list, client.InNamespace(p.Namespace), client.MatchingFields{lifecycle.IndexIntegration: p.Name},
		client.UnsafeDisableDeepCopy)
	return list.Items, err
}

// listing returns the read of the list that is under way, or was the last one.
func (h *handler) listing(p *v1alpha1.PBXIntegration) *listing {
	h.mu.Lock()
	defer h.mu.Unlock()
	key, question := client.ObjectKeyFromObject(p), fmt.Sprintf("%s %d %s", p.UID, p.Generation, p.Annotations[v1alpha1.AnnotationReconcile])
	list, cursor := h.listings[key], ""
	if list == nil && p.Status.Discovery != nil {
		cursor = p.Status.Discovery.Cursor
	}
	if list == nil || list.question != question || !list.finished.IsZero() && list.wait(h.clock.Now()) == 0 {
		list = newListing(question, h.clock.Now(), cursor)
		h.listings[key] = list
	}
	return list
}

// forget drops what is remembered of an integration.
func (h *handler) forget(key types.NamespacedName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.listings, key)
}

// hasten makes a new list due soon, because a mapping has gone.
func (h *handler) hasten(key types.NamespacedName) {
	const soon = 10 * time.Second // a list that was read just now need not be read again at once
	h.mu.Lock()
	defer h.mu.Unlock()
	if list := h.listings[key]; list != nil && !list.finished.IsZero() && list.finished.Add(soon).Before(list.due) {
		list.due = list.finished.Add(soon)
	}
}

// read reads pages, and makes mappings of what is in them. It reports whether that was the last
// one.
func (h *handler) read(
	ctx context.Context, p *v1alpha1.PBXIntegration, list *listing, mappings []v1alpha1.ExtensionMapping,
) (complete bool, err error) {
	pbx, err := h.connect(ctx, p)
	if err != nil {
		return false, err
	}
	mapped := make(map[string]bool, len(mappings))
	for i := range mappings {
		mapped[mappings[i].Spec.Extension.Number] = true
	}
	for begun := h.clock.Now(); h.clock.Since(begun) < passTime; {
		page, err := pbx.ExtensionPage(ctx, list.cursor)
		if err != nil {
			return false, err
		}
		for _, extension := range page.Extensions {
			if err := h.take(ctx, p, list, extension, mapped); err != nil {
				return false, err
			}
		}
		for range page.Unusable.Count {
			list.unusable.Add(page.Unusable.First)
		}
		if list.cursor = page.Next; list.cursor == "" {
			return true, nil
		}
	}
	return false, nil
}

// take makes the mapping of an extension that was listed. What is odd about one extension does not
// hinder the others.
func (h *handler) take(
	ctx context.Context, p *v1alpha1.PBXIntegration, list *listing, extension pbxapi.Extension, mapped map[string]bool,
) error {
	if extension.Number == "" {
		list.unusable.Add("the PBX lists an extension without a number")
		list.skipped.add(extension, "it has no number")
		return nil
	}
	asked := wants(p.Spec.Discovery, extension.Number, extension.Type)
	list.listed[extension.Number] = list.listed[extension.Number] || asked
	if !asked || mapped[extension.Number] {
		return nil
	}
	problem, err := h.create(ctx, p, newMapping(p, extension, h.inherited))
	switch {
	case err != nil:
		return err
	case problem != "":
		list.skipped.add(extension, problem)
	default:
		mapped[extension.Number], list.changed = true, true
	}
	return nil
}

// create makes a mapping, unless the cache is behind and it is there. The problem is why it cannot
// be made, as long as nobody sees to that.
func (h *handler) create(ctx context.Context, p *v1alpha1.PBXIntegration, mapping *v1alpha1.ExtensionMapping) (problem string, err error) {
	err = h.client.Create(ctx, mapping)
	switch {
	case err == nil:
		return "", nil
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsForbidden(err):
		return err.Error(), nil
	case !apierrors.IsAlreadyExists(err):
		return "", fmt.Errorf("cannot make ExtensionMapping %s: %w", mapping.Name, err)
	}
	existing := &v1alpha1.ExtensionMapping{}
	if err := h.live.Get(ctx, client.ObjectKeyFromObject(mapping), existing); err != nil {
		return "", client.IgnoreNotFound(err)
	}
	if isFor(existing, p, mapping.Spec.Extension.Number) {
		return "", nil
	}
	return fmt.Sprintf("ExtensionMapping %s is that of another extension: write a mapping for this one, or rename that", mapping.Name), nil
}

// conclude deals with what a complete list does not have, and says what came of it.
func (h *handler) conclude(
	ctx context.Context, p *v1alpha1.PBXIntegration, list *listing, mappings []v1alpha1.ExtensionMapping,
) (lifecycle.Done, error) {
	now := h.clock.Now()
	var plan Plan
	if !list.partial && list.unusable.Count == 0 {
		plan = Decide(p, list.listed, mappings, h.status(p).Missing, now)
		h.status(p).Missing = plan.Missing
	}
	if err := h.carryOut(ctx, plan, now); err != nil {
		return lifecycle.Done{}, failed(err)
	}
	h.noteChange(p, list.changed || len(plan.Delete) > 0)
	h.report(p, list)
	list.finish(now, nextList(p, plan, now))
	after := list.wait(now)
	if problem := trouble(list, plan); problem != nil {
		problem.After = after
		return lifecycle.Done{}, *problem
	}
	return lifecycle.Done{
		Reason: v1alpha1.ReasonDiscovered, Message: "every extension that spec.discovery asks for has a mapping", After: after,
	}, nil
}

// nextList is when the next list is due: at the end of the interval, or of a grace period.
func nextList(p *v1alpha1.PBXIntegration, plan Plan, now time.Time) time.Time {
	next := now.Add(p.Spec.Discovery.Interval.Duration)
	if !plan.NextEnd.IsZero() && plan.NextEnd.Before(next) {
		next = plan.NextEnd
	}
	if soonest := now.Add(time.Second); next.Before(soonest) {
		return soonest
	}
	return next
}

// trouble is what somebody should know about a list.
func trouble(list *listing, plan Plan) *lifecycle.Terminal {
	n := len(list.skipped.numbers)
	switch missing := plan.Missing; {
	case missing != nil && missing.Lists < confirmations:
		return &lifecycle.Terminal{Reason: v1alpha1.ReasonTooManyVanished, Err: fmt.Errorf(
			"the PBX does not list the extensions of %d discovered mappings, more than the %d that may vanish at once; they are kept until %d lists "+
				"in a row lack the same. If the extensions are there, see to the rights of the credentials; delete the mappings if they are not",
			missing.Extensions, plan.Limit, confirmations)}
	case missing != nil:
		return &lifecycle.Terminal{Reason: v1alpha1.ReasonTooManyVanished, Err: fmt.Errorf(
			"%d lists in a row lack the extensions of %d discovered mappings: these go after the grace period unless the extensions come back. "+
				"Take the label %s off those to keep", confirmations, missing.Extensions, v1alpha1.LabelDiscovered)}
	case n > 0:
		return &lifecycle.Terminal{Reason: v1alpha1.ReasonExtensionsSkipped, Err: fmt.Errorf("%d extensions get no mapping: %s", n, &list.skipped)}
	case list.unusable.Count > 0:
		return &lifecycle.Terminal{Reason: v1alpha1.ReasonExtensionsSkipped, Err: fmt.Errorf(
			"%d items of the PBX's list cannot be read, so no mapping goes meanwhile: %s", list.unusable.Count, list.unusable.First)}
	default:
		return nil
	}
}

// carryOut makes the changes of a plan. A mapping that somebody else has deleted meanwhile is no
// failure.
func (h *handler) carryOut(ctx context.Context, plan Plan, now time.Time) error {
	errs := make([]error, 0, 1+len(plan.Vanished)+len(plan.Returned))
	errs = append(errs, h.delete(ctx, plan.Delete))
	for _, mapping := range plan.Vanished {
		errs = append(errs, h.mark(ctx, mapping, now.UTC().Format(time.RFC3339)))
	}
	for _, mapping := range plan.Returned {
		errs = append(errs, h.mark(ctx, mapping, ""))
	}
	return errors.Join(errs...)
}

func (h *handler) delete(ctx context.Context, mappings []*v1alpha1.ExtensionMapping) error {
	errs := make([]error, 0, len(mappings))
	for _, mapping := range mappings {
		uid := mapping.UID
		errs = append(errs, client.IgnoreNotFound(h.client.Delete(ctx, mapping.DeepCopy(), client.Preconditions{UID: &uid})))
	}
	return errors.Join(errs...)
}

// mark notes since when an extension is gone; an empty text takes the note away.
func (h *handler) mark(ctx context.Context, mapping *v1alpha1.ExtensionMapping, since string) error {
	changed := mapping.DeepCopy()
	if since == "" {
		delete(changed.Annotations, v1alpha1.AnnotationVanished)
	} else {
		metav1.SetMetaDataAnnotation(&changed.ObjectMeta, v1alpha1.AnnotationVanished, since)
	}
	return client.IgnoreNotFound(h.client.Patch(ctx, changed, client.MergeFrom(mapping)))
}

func (h *handler) status(p *v1alpha1.PBXIntegration) *v1alpha1.DiscoveryStatus {
	if p.Status.Discovery == nil {
		p.Status.Discovery = &v1alpha1.DiscoveryStatus{}
	}
	return p.Status.Discovery
}

// noteChange writes down that an extension came or went.
func (h *handler) noteChange(p *v1alpha1.PBXIntegration, changed bool) {
	if changed {
		h.status(p).LastChangeTime = new(metav1.NewTime(h.clock.Now()))
	}
}

// report writes down what was found. A number that stays the same costs no write.
func (h *handler) report(p *v1alpha1.PBXIntegration, list *listing) {
	status := h.status(p)
	status.Skipped, status.SkippedExtensions = list.skipped.named, nil
	if n := len(list.skipped.numbers); n > 0 {
		status.SkippedExtensions = new(int32(min(n, 1<<30)))
	}
	if !list.partial {
		status.Extensions = list.wanted()
	}
}

// failed says what an error means for the condition Discovered.
func failed(err error) error {
	if limited, ok := errors.AsType[*pbxapi.RateLimitedError](err); ok {
		return lifecycle.RateLimited{After: limited.After, Err: err}
	}
	switch {
	case errors.Is(err, pbxapi.ErrNotSupported):
		return lifecycle.Terminalf(v1alpha1.ReasonNotSupported, "remove spec.discovery: %w", err)
	case errors.Is(err, pbxapi.ErrCredentialsMissing):
		return lifecycle.Waiting{Reason: v1alpha1.ReasonCredentialsMissing, After: retry, Err: err}
	case errors.Is(err, pbxapi.ErrForbidden), errors.Is(err, pbxapi.ErrUnauthorized), errors.Is(err, pbxapi.ErrInvalid):
		return lifecycle.Waiting{Reason: v1alpha1.ReasonDiscoveryFailed, After: retry, Err: err}
	default:
		return lifecycle.Transient{Reason: v1alpha1.ReasonDiscoveryFailed, Err: err}
	}
}
