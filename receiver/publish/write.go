package publish

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

const (
	verbCreate = "create"
	verbUpdate = "update"
	verbGet    = "get"
	verbDelete = "delete"
	verbList   = "list"
)

// maxRounds bounds how often one attempt starts anew because somebody else changed the object.
const maxRounds = 4

// errChanged says that the object is not as the object cache has it; the object cache has been
// told.
var errChanged = errors.New("the call leg was changed by somebody else")

// publish shows the leg and, once per missed call, posts its Event.
func (p *Publisher) publish(ctx context.Context, name string, record Record) error {
	policy, ok := p.Policy()
	if !ok || policy.Deleting {
		return errGone
	}
	if !policy.shows(record.Leg) {
		return nil
	}
	next, err := p.stateOf(policy, record)
	if err != nil {
		return err
	}
	if err := p.show(ctx, policy, next); err != nil {
		return err
	}
	if !missed(record.Leg) {
		return nil
	}
	return p.announce(ctx, policy, name, record.Leg)
}

// state is what is to be shown of a leg.
type state struct {
	object   *v1alpha1.CallLeg
	content  digest
	recorded time.Time
}

func (p *Publisher) stateOf(policy Policy, record Record) (state, error) {
	object := Object(p.Integration.Namespace, p.Integration.Name, record.Leg)
	own(object, policy.Integration)
	stamp(object, policy.TTLAfterFinished, time.Now())
	content, err := digestOf(object.Status, policy.Publish != v1alpha1.PublishCompleted)
	return state{object: object, content: content, recorded: record.Received}, err
}

// show brings the object to the API server in one request, if the object cache is right.
func (p *Publisher) show(ctx context.Context, policy Policy, next state) error {
	err := errChanged
	for round := 0; round < maxRounds && errors.Is(err, errChanged); round++ {
		known, exists := p.objects.get(next.object.Name)
		switch {
		case !exists:
			err = p.create(ctx, policy, next)
		case known.resourceVersion == "":
			err = p.refresh(ctx, policy, next.object.Name)
			if err == nil {
				err = errChanged
			}
		case next.object.Status.Revision <= known.revision, next.content == known.content:
			p.objects.seen(next.object.Name, next.object.Status.Revision)
			return nil
		default:
			err = p.update(ctx, next, known)
		}
	}
	if err == nil && next.object.ResourceVersion != "" && !next.recorded.IsZero() {
		p.metrics.latency.Observe(time.Since(next.recorded).Seconds())
	}
	return err
}

// create makes the object if there is room for it.
func (p *Publisher) create(ctx context.Context, policy Policy, next state) error {
	name := next.object.Name
	switch room, err := p.makeRoom(ctx, next, policy.MaxObjects); {
	case err != nil:
		return err
	case room == takenByLive:
		p.metrics.dropped.WithLabelValues(droppedLimit).Inc()
		p.Notices.limitReached(policy.MaxObjects)
		return nil
	case room == takenByNewer:
		p.countSkipped(policy)
		return nil
	}
	next.object.ResourceVersion = ""
	err := p.request(ctx, verbCreate, func(ctx context.Context) error { return p.Client.Create(ctx, next.object) })
	switch outcome := outcomeOf(err); {
	case outcome == written:
		p.shown(ctx, next, entry{})
		return nil
	case outcome == refused, outcome == gone:
		p.objects.forget(name)
		return err
	case apierrors.IsAlreadyExists(err):
		p.objects.unread(name)
		return errChanged
	default: // it may exist all the same: only reading it can tell
		p.objects.unread(name)
		return err
	}
}

// update overwrites the object only if it still is what this receiver wrote or read last.
func (p *Publisher) update(ctx context.Context, next state, known entry) error {
	object := next.object
	object.ResourceVersion, object.UID = known.resourceVersion, known.uid
	err := p.request(ctx, verbUpdate, func(ctx context.Context) error { return p.Client.Update(ctx, object) })
	switch {
	case apierrors.IsNotFound(err) && !namespaceMissing(err):
		p.objects.forget(object.Name)
		object.UID = ""
		return errChanged
	case apierrors.IsConflict(err):
		p.objects.unread(object.Name)
		return errChanged
	case err != nil:
		p.objects.unread(object.Name)
		return err
	}
	p.shown(ctx, next, known)
	return nil
}

// shown notes what was written.
func (p *Publisher) shown(ctx context.Context, next state, before entry) {
	p.succeed(ctx)
	object := next.object
	expires := object.Labels[v1alpha1.LabelExpires]
	if expires != "" && before.expires == "" {
		p.metrics.finished(object.Status)
	}
	p.objects.put(object.Name, entry{
		uid: object.UID, resourceVersion: object.ResourceVersion, revision: object.Status.Revision,
		content: next.content, expires: expires, created: before.created, written: time.Now(), recorded: next.recorded,
		announced: before.announced,
	})
}

// refresh reads an object that the object cache does not know the state of.
func (p *Publisher) refresh(ctx context.Context, policy Policy, name string) error {
	var object v1alpha1.CallLeg
	key := client.ObjectKey{Namespace: p.Integration.Namespace, Name: name}
	err := p.request(ctx, verbGet, func(ctx context.Context) error { return p.Client.Get(ctx, key, &object) })
	if apierrors.IsNotFound(err) {
		p.objects.forget(name)
		return nil
	}
	if err != nil {
		return err
	}
	content, err := digestOf(object.Status, policy.Publish != v1alpha1.PublishCompleted)
	if err != nil {
		return err
	}
	known, _ := p.objects.get(name)
	p.objects.put(name, entry{
		uid: object.UID, resourceVersion: object.ResourceVersion, revision: object.Status.Revision,
		content: content, expires: object.Labels[v1alpha1.LabelExpires], created: known.created, written: known.written,
		recorded: known.recorded, announced: known.announced,
	})
	return nil
}

// room says whether there is a place for a new object.
type room int

const (
	free room = iota
	// takenByLive: all objects are of legs that last.
	takenByLive
	// takenByNewer: the leg is finished, and all others that are came after it.
	takenByNewer
)

// makeRoom takes a place for a new object, at the cost of the oldest finished ones.
//
// The cap is exact with one receiver. Of several, each counts what the others create only now and
// then.
func (p *Publisher) makeRoom(ctx context.Context, next state, limit int) (room, error) {
	for !p.objects.reserve(next.object.Name, limit) {
		if p.counted.older(recountAtLimit) {
			if err := p.recount(ctx); err != nil {
				return free, err
			}
			continue
		}
		name, ok := p.objects.nextToEvict()
		if !ok {
			return takenByLive, nil
		}
		oldest, _ := p.objects.get(name)
		if next.object.Status.Phase == v1alpha1.PhaseCompleted && oldest.recorded.After(next.recorded) {
			p.objects.keep(name)
			return takenByNewer, nil
		}
		if err := p.evict(ctx, name); err != nil {
			return free, err
		}
	}
	return free, nil
}

func (p *Publisher) evict(ctx context.Context, name string) error {
	object := &v1alpha1.CallLeg{ObjectMeta: metav1.ObjectMeta{Namespace: p.Integration.Namespace, Name: name}}
	err := p.request(ctx, verbDelete, func(ctx context.Context) error { return p.Client.Delete(ctx, object) })
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	p.objects.forget(name)
	if err == nil {
		p.metrics.evictions.Inc()
	}
	return nil
}

// announce posts the Event of a missed call, regarding the mapping of the place where it was
// missed.
func (p *Publisher) announce(ctx context.Context, policy Policy, name string, leg correlation.Leg) error {
	known, _ := p.objects.get(name)
	if known.announced {
		return nil
	}
	regarding, kind := policy.Integration, kindIntegration
	if place, ok := p.Place(leg.Extension); ok {
		regarding, kind = place, kindMapping
	}
	err := p.Notices.missed(ctx, reference{kind, regarding}, reference{kindLeg, Reference{Name: name, UID: known.uid}}, leg)
	if err == nil {
		p.objects.announced(name)
	}
	return err
}

// request makes one request with a deadline and counts it.
func (p *Publisher) request(ctx context.Context, verb string, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := call(ctx)
	p.metrics.request(verb, err)
	return err
}
