package extension

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/extension/registration"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// work is one pass over the registrations of one extension.
type work struct {
	handler *handler
	to      access
	mapping *v1alpha1.ExtensionMapping
	// current is what the extension carries, kept up to date with each step.
	current []pbxapi.Registration
	// limit is that of the spec, or less where the PBX took less.
	limit   int
	blocked []v1alpha1.EventType
	created int
	removed int
}

// converge plans and carries out. Where the PBX refuses a registration although the limit of the spec leaves room, a new plan is
// made with the limit that the PBX has just shown.
func (w *work) converge(ctx context.Context) error {
	confirmed := false
	for {
		p := registration.Decide(w.current, w.to.desired(w.mapping), w.to.own(w.mapping), w.limit)
		w.blocked = p.Blocked
		if len(p.Steps) == 0 {
			return nil
		}
		if !confirmed {
			if err := w.handler.confirm(ctx, w.mapping); err != nil {
				return err
			}
			confirmed = true
		}
		err := w.carryOut(ctx, p.Steps)
		if !w.full(err) {
			return err
		}
		w.limit = len(w.current)
	}
}

// full tells whether a registration was refused for want of room, although the limit left some.
func (w *work) full(err error) bool {
	return errors.Is(err, pbxapi.ErrLimitReached) && len(w.current) < w.limit
}

func (w *work) carryOut(ctx context.Context, steps []registration.Step) error {
	for _, s := range steps {
		if err := w.carryOutOne(ctx, s); err != nil {
			return err
		}
		w.handler.metrics.changed(s.Operation)
	}
	return nil
}

func (w *work) carryOutOne(ctx context.Context, s registration.Step) error {
	extensionID := w.mapping.Status.ExtensionID
	switch s.Operation {
	case registration.Create:
		made, err := w.to.pbx.Register(ctx, extensionID, s.Registration)
		if err != nil {
			return err
		}
		s.Registration.ID = made.ID
		w.current = append(w.current, s.Registration)
		w.created++
	case registration.Delete:
		if err := w.to.pbx.Unregister(ctx, extensionID, s.Registration.ID); err != nil {
			return err
		}
		w.current = slices.DeleteFunc(w.current, func(r pbxapi.Registration) bool { return r.ID == s.Registration.ID })
		w.removed++
	}
	return nil
}

// ours are the registrations of the mapping.
func (w *work) ours() []pbxapi.Registration {
	own := w.to.own(w.mapping)
	return slices.DeleteFunc(slices.Clone(w.current), func(r pbxapi.Registration) bool { return !own.Own(r) })
}

// report writes down what the extension carries.
func (w *work) report() {
	ours := w.ours()
	w.handler.seen.note(w.mapping.UID, idsOf(ours))
	w.mapping.Status.RegisteredEvents = new(int32(len(ours)))
	w.mapping.Status.ExtensionEvents = new(int32(len(w.current)))
}

// limitError tells what is used, what is needed, and what to do.
func (w *work) limitError() error {
	var b strings.Builder
	ours := w.ours()
	fmt.Fprintf(&b, "%d of %d event registrations on extension %s are in use, %d of them ours", len(w.current), w.limit, nameOf(w.mapping), len(ours))
	if len(ours) > 0 {
		fmt.Fprintf(&b, " (%s)", join(eventsOf(ours)))
	}
	fmt.Fprintf(&b, "; %d more needed (%s). ", len(w.blocked), join(w.blocked))
	if declared := pbxapi.EventLimit(w.to.integration.Spec.PBX); w.limit < declared {
		fmt.Fprintf(&b, "The PBX takes no more, although spec.pbx.ringMe.eventLimit says %d. ", declared)
	}
	fmt.Fprintf(&b, "Remove unused registrations on the PBX, or ask the PBX administrator for a higher limit and set"+
		" spec.pbx.ringMe.eventLimit of PBXIntegration %s to it. The operator keeps trying by itself", w.to.integration.Name)
	return errors.New(b.String())
}

// done sums up a pass that reached its end. was is the mapping at its beginning.
func (w *work) done(was *v1alpha1.ExtensionMapping) lifecycle.Done {
	done := lifecycle.Done{
		Reason:  v1alpha1.ReasonRegistered,
		Message: fmt.Sprintf("%s registered on extension %s", join(eventsOf(w.to.desired(w.mapping))), nameOf(w.mapping)),
	}
	changed := w.created+w.removed > 0
	if ready := lifecycle.Ready(was); ready != nil && ready.Reason == v1alpha1.ReasonPBXUnreachable || changed && lifecycle.IsReady(was) {
		done.After = lifecycle.Jitter(secondLook, w.mapping.UID)
	}
	if changed && lifecycle.IsReady(was) {
		done.Notice = w.correction(was)
	}
	return done
}

// correction tells why registrations changed although the spec did not.
func (w *work) correction(was *v1alpha1.ExtensionMapping) lifecycle.Notice {
	what := fmt.Sprintf("registrations on extension %s: %d created, %d deleted", nameOf(w.mapping), w.created, w.removed)
	if was.Status.KeyGeneration != w.mapping.Status.KeyGeneration {
		return lifecycle.Notice{Reason: v1alpha1.ReasonKeyRotated, Message: "moved to a new event URL key; " + what}
	}
	w.handler.metrics.drifted()
	return lifecycle.Notice{Reason: v1alpha1.ReasonDriftCorrected, Message: "the PBX differed from the spec; " + what}
}

func eventsOf(registrations []pbxapi.Registration) []v1alpha1.EventType {
	events := make([]v1alpha1.EventType, len(registrations))
	for i, registration := range registrations {
		events[i] = registration.Event
	}
	return events
}

// join lists events in the order of their priority.
func join(events []v1alpha1.EventType) string {
	var names []string
	for _, event := range registration.Priority {
		if slices.Contains(events, event) {
			names = append(names, string(event))
		}
	}
	return strings.Join(names, ", ")
}

func isNotFound(err error) bool { return errors.Is(err, pbxapi.ErrNotFound) }
