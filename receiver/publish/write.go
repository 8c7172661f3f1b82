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

// errChanged says that the object is not as the shelf has it; the shelf has been told.
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
	object := Object(p.Integration.Namespace, p.Integration.Name, record.Leg)
	own(object, policy.Integration)
	stamp(object, policy.TTLAfterFinished, time.Now())
	content, err := digestOf(object.Status, policy.Publish != v1alpha1.PublishCompleted)
	if err != nil {
		return err
	}
	if err := p.show(ctx, policy, object, content, record.Received); err != nil {
		return err
	}
	if !missed(record.Leg) {
		return nil
	}
	return p.announce(ctx, policy, name, record.Leg)
}

// show brings the object to the API server in one request, if the shelf is right.
func (p *Publisher) show(ctx context.Context, policy Policy, object *v1alpha1.CallLeg, content digest, received time.Time) error {
	err := errChanged
	for round := 0; round < maxRounds && errors.Is(err, errChanged); round++ {
		known, exists := p.shelf.get(object.Name)
		switch {
		case !exists:
			err = p.create(ctx, policy, object, content)
		case known.resourceVersion == "":
			err = p.refresh(ctx, policy, object.Name)
			if err == nil {
				err = errChanged
			}
		case object.Status.Revision <= known.revision, content == known.content:
			p.shelf.seen(object.Name, object.Status.Revision)
			return nil
		default:
			err = p.update(ctx, object, content, known)
		}
	}
	if err == nil && object.ResourceVersion != "" && !received.IsZero() {
		p.metrics.latency.Observe(time.Since(received).Seconds())
	}
	return err
}

// create makes the object if there is room for it.
func (p *Publisher) create(ctx context.Context, policy Policy, object *v1alpha1.CallLeg, content digest) error {
	room, err := p.makeRoom(ctx, object.Name, policy.MaxObjects)
	if err != nil {
		return err
	}
	if !room {
		p.metrics.dropped.WithLabelValues(droppedLimit).Inc()
		p.Notices.limitReached(policy.MaxObjects)
		return nil
	}
	object.ResourceVersion = ""
	err = p.request(ctx, verbCreate, func(ctx context.Context) error { return p.Client.Create(ctx, object) })
	switch outcome := judge(err); {
	case outcome == written:
		p.shown(ctx, object, content, entry{})
		return nil
	case outcome == refused, outcome == gone:
		p.shelf.forget(object.Name)
		return err
	case apierrors.IsAlreadyExists(err):
		p.shelf.unread(object.Name)
		return errChanged
	default: // it may exist all the same: only reading it can tell
		p.shelf.unread(object.Name)
		return err
	}
}

// update overwrites the object only if it still is what this receiver wrote or read last.
func (p *Publisher) update(ctx context.Context, object *v1alpha1.CallLeg, content digest, known entry) error {
	object.ResourceVersion, object.UID = known.resourceVersion, known.uid
	err := p.request(ctx, verbUpdate, func(ctx context.Context) error { return p.Client.Update(ctx, object) })
	switch {
	case apierrors.IsNotFound(err) && !namespaceMissing(err):
		p.shelf.forget(object.Name)
		object.UID = ""
		return errChanged
	case apierrors.IsConflict(err):
		p.shelf.unread(object.Name)
		return errChanged
	case err != nil:
		p.shelf.unread(object.Name)
		return err
	}
	p.shown(ctx, object, content, known)
	return nil
}

// shown puts what was written on the shelf.
func (p *Publisher) shown(ctx context.Context, object *v1alpha1.CallLeg, content digest, before entry) {
	p.succeed(ctx)
	expires := object.Labels[v1alpha1.LabelExpires]
	if expires != "" && before.expires == "" {
		p.metrics.finished(object.Status)
	}
	p.shelf.put(object.Name, entry{
		uid: object.UID, resourceVersion: object.ResourceVersion, revision: object.Status.Revision,
		content: content, expires: expires, created: before.created, written: time.Now(), announced: before.announced,
	})
}

// refresh reads an object that the shelf does not know the state of.
func (p *Publisher) refresh(ctx context.Context, policy Policy, name string) error {
	var object v1alpha1.CallLeg
	key := client.ObjectKey{Namespace: p.Integration.Namespace, Name: name}
	err := p.request(ctx, verbGet, func(ctx context.Context) error { return p.Client.Get(ctx, key, &object) })
	if apierrors.IsNotFound(err) {
		p.shelf.forget(name)
		return nil
	}
	if err != nil {
		return err
	}
	content, err := digestOf(object.Status, policy.Publish != v1alpha1.PublishCompleted)
	if err != nil {
		return err
	}
	known, _ := p.shelf.get(name)
	p.shelf.put(name, entry{
		uid: object.UID, resourceVersion: object.ResourceVersion, revision: object.Status.Revision,
		content: content, expires: object.Labels[v1alpha1.LabelExpires], created: known.created, written: known.written,
		announced: known.announced,
	})
	return nil
}

// makeRoom takes a place for a new object, at the cost of the finished ones that expire first. False: all that exist are live.
//
// The cap is exact with one receiver. Of several, each counts what the others create only now and then.
func (p *Publisher) makeRoom(ctx context.Context, name string, limit int) (bool, error) {
	for !p.shelf.reserve(name, limit) {
		if p.counted.older(recountAtLimit) {
			if err := p.recount(ctx); err != nil {
				return false, err
			}
			continue
		}
		victim, ok := p.shelf.victim()
		if !ok {
			return false, nil
		}
		if err := p.evict(ctx, victim); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (p *Publisher) evict(ctx context.Context, victim string) error {
	object := &v1alpha1.CallLeg{ObjectMeta: metav1.ObjectMeta{Namespace: p.Integration.Namespace, Name: victim}}
	err := p.request(ctx, verbDelete, func(ctx context.Context) error { return p.Client.Delete(ctx, object) })
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	p.shelf.forget(victim)
	if err == nil {
		p.metrics.evictions.Inc()
	}
	return nil
}

// announce posts the Event of a missed call, regarding the mapping of the place where it was missed.
func (p *Publisher) announce(ctx context.Context, policy Policy, name string, leg correlation.Leg) error {
	known, _ := p.shelf.get(name)
	if known.announced {
		return nil
	}
	regarding, kind := policy.Integration, kindIntegration
	if place, ok := p.Place(leg.Extension); ok {
		regarding, kind = place, kindMapping
	}
	err := p.Notices.missed(ctx, reference{kind, regarding}, reference{kindLeg, Reference{Name: name, UID: known.uid}}, leg)
	if err == nil {
		p.shelf.announced(name)
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
