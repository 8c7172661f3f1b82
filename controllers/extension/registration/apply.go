package registration

import (
	"context"
	"errors"
	"slices"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// PBX holds registrations; see pbxapi.API.
type PBX interface {
	Registrations(ctx context.Context, owner string) ([]pbxapi.Registration, error)
	Register(ctx context.Context, owner string, registration pbxapi.Registration) (pbxapi.Registration, error)
	Update(ctx context.Context, owner string, registration pbxapi.Registration) error
	Unregister(ctx context.Context, owner, registrationID string) error
}

// NoLimit stands for the limit of owners that have none.
const NoLimit = 1 << 20

// Work is to have one owner of registrations (an extension, a queue agent or the account) carry
// each of the desired ones once, and nothing else of ours.
type Work struct {
	PBX   PBX
	Owner string
	// Own recognises our registrations; those of others are never touched.
	Own     Tokens
	Desired []pbxapi.Registration
	// Limit is how many registrations the owner may carry, those of others included.
	Limit int
	// Confirm is called before a change: it fails when somebody has changed meanwhile what is
	// wanted.
	Confirm func(context.Context) error
	// Metrics may be nil.
	Metrics *Metrics
}

// Result is what a Work came to, also where it failed.
type Result struct {
	// Listed tells that the PBX has said what the owner carries. Current is that, kept up to date
	// with each change.
	Listed  bool
	Current []pbxapi.Registration
	// Limit is that of the Work, or less where the PBX took less.
	Limit int
	// Blocked are the desired events for which there is no room.
	Blocked []v1alpha1.EventType

	Created, Updated, Deleted int
}

// Changes is how many registrations were changed.
func (r Result) Changes() int { return r.Created + r.Updated + r.Deleted }

// Ours are the registrations that are ours.
func (r Result) Ours(own Tokens) []pbxapi.Registration {
	return slices.DeleteFunc(slices.Clone(r.Current), func(registration pbxapi.Registration) bool { return !own.Own(registration) })
}

// Apply looks at what the owner carries, plans, and carries out. Where the PBX turns out to differ
// from what it said, a new plan is made: with the limit that it has just shown when it refuses a
// registration although the declared one leaves room, and without a registration that somebody
// deleted meanwhile. The error is one of package pbxapi, or that of Confirm.
func (w Work) Apply(ctx context.Context) (Result, error) {
	current, err := w.PBX.Registrations(ctx, w.Owner)
	if err != nil {
		return Result{}, err
	}
	r := run{Work: w, result: Result{Listed: true, Current: slices.Clone(current), Limit: w.Limit}}
	err = r.converge(ctx)
	return r.result, err
}

type run struct {
	Work
	result Result
}

func (r *run) converge(ctx context.Context) error {
	for {
		plan := Decide(r.result.Current, r.Desired, r.Own, r.result.Limit)
		r.result.Blocked = plan.Blocked
		if len(plan.Steps) == 0 {
			return nil
		}
		if err := r.Confirm(ctx); err != nil {
			return err
		}
		switch err := r.carryOut(ctx, plan.Steps); {
		case r.full(err):
			r.result.Limit = len(r.result.Current)
		case !errors.Is(err, errVanished):
			return err
		}
	}
}

// full reports whether a registration was refused for want of room, although the limit left some.
func (r *run) full(err error) bool {
	return errors.Is(err, pbxapi.ErrLimitReached) && len(r.result.Current) < r.result.Limit
}

func (r *run) carryOut(ctx context.Context, steps []Step) error {
	for _, step := range steps {
		if err := r.step(ctx, step); err != nil {
			return err
		}
		r.Metrics.Changed(step.Operation)
	}
	return nil
}

func (r *run) step(ctx context.Context, step Step) error {
	switch step.Operation {
	case Create:
		return r.create(ctx, step.Registration)
	case Update:
		return r.update(ctx, step.Registration)
	case Delete:
		return r.delete(ctx, step.Registration.ID)
	}
	return nil
}

func (r *run) create(ctx context.Context, wanted pbxapi.Registration) error {
	made, err := r.PBX.Register(ctx, r.Owner, wanted)
	if err != nil {
		return err
	}
	wanted.ID = made.ID
	r.result.Current = append(r.result.Current, wanted)
	r.result.Created++
	return nil
}

// errVanished marks that a registration was deleted by somebody else.
var errVanished = errors.New("the registration is gone")

func (r *run) update(ctx context.Context, wanted pbxapi.Registration) error {
	err := r.PBX.Update(ctx, r.Owner, wanted)
	if err != nil && !errors.Is(err, pbxapi.ErrNotFound) {
		return err
	}
	r.drop(wanted.ID)
	if err != nil {
		return errVanished
	}
	r.result.Current = append(r.result.Current, wanted)
	r.result.Updated++
	return nil
}

func (r *run) delete(ctx context.Context, id string) error {
	if err := r.PBX.Unregister(ctx, r.Owner, id); err != nil {
		return err
	}
	r.drop(id)
	r.result.Deleted++
	return nil
}

func (r *run) drop(id string) {
	r.result.Current = slices.DeleteFunc(r.result.Current, func(registration pbxapi.Registration) bool { return registration.ID == id })
}

// IDs are those of registrations, in their order.
func IDs(registrations []pbxapi.Registration) []string {
	ids := make([]string, len(registrations))
	for i, registration := range registrations {
		ids[i] = registration.ID
	}
	return ids
}
