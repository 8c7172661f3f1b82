package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// hangupWindow is how long the end of a leg is waited for when the PBX gave no answer.
const hangupWindow = time.Minute

// hangup sends a hangup that was not sent.
func (h *handler) hangup(ctx context.Context, to access, command *v1alpha1.CallCommand) (lifecycle.Done, error) {
	request := pbxapi.Hangup{Extension: pbxapi.Extension{Number: command.Spec.Hangup.Extension}}
	var leg *v1alpha1.CallLeg
	if ref := command.Spec.Hangup.LegRef; ref != nil {
		var err error
		if leg, err = h.leg(ctx, command, ref); err != nil {
			return lifecycle.Done{}, h.unusable(command, err)
		}
		note(command, []v1alpha1.CallLeg{*leg})
		if leg.Status.Phase == v1alpha1.PhaseCompleted {
			return h.finish(command, v1alpha1.ReasonFinished, "the leg was over already: there was nothing to end")
		}
		if leg.Status.Extension == "" {
			return lifecycle.Done{}, h.fail(command, v1alpha1.ReasonInvalidSpec,
				errors.New("the leg belongs to no extension whose call could be ended: name another leg of its call"))
		}
		request = to.callOf(leg)
	}
	ctx, pbx, extension, err := to.prepare(ctx, request.Extension.Number)
	if err != nil {
		return lifecycle.Done{}, h.unprepared(command, err, h.persistence(command))
	}
	if leg != nil && to.integration.Spec.PBX.Type == v1alpha1.PBXTypeLinuxBox {
		if err := h.onlyCall(ctx, command, leg); err != nil {
			return lifecycle.Done{}, err
		}
	}
	request.Extension = extension
	return h.once(ctx, command, func() (lifecycle.Done, error) { return h.hungUp(command, pbx.Hangup(ctx, request)) })
}

// onlyCall fails a command for a call whose extension is in another one, too: a LinuxBox cannot be
// told which of them to end.
func (h *handler) onlyCall(ctx context.Context, command *v1alpha1.CallCommand, leg *v1alpha1.CallLeg) error {
	open := fields.AndSelectors(
		fields.OneTermEqualSelector("status.extension", leg.Status.Extension),
		fields.OneTermNotEqualSelector("status.phase", string(v1alpha1.PhaseCompleted)),
	)
	var legs v1alpha1.CallLegList
	err := h.live.List(ctx, &legs, client.InNamespace(command.Namespace), client.Limit(legsPage), client.MatchingFieldsSelector{Selector: open},
		client.MatchingLabels{v1alpha1.LabelIntegration: command.Spec.IntegrationRef.Name})
	if err != nil {
		return fmt.Errorf("cannot look for other calls of the extension: %w", err)
	}
	for i := range legs.Items {
		if legs.Items[i].Status.CallID != leg.Status.CallID {
			return h.fail(command, v1alpha1.ReasonNotSupported, fmt.Errorf("extension %s is in another call, too (CallLeg %s), and a PBX of type"+
				" LinuxBox cannot be told which one to end: hang up the extension instead of the leg, or wait for the other call to end",
				leg.Status.Extension, legs.Items[i].Name))
		}
	}
	return nil
}

// callOf is the call of a leg. RingMe knows it by the id of the leg, too (Current Calls).
func (a access) callOf(leg *v1alpha1.CallLeg) pbxapi.Hangup {
	call := pbxapi.Hangup{
		Extension: pbxapi.Extension{Number: leg.Status.Extension}, CallID: leg.Status.CallID, CallBackID: leg.Status.CallBackID,
	}
	if a.integration.Spec.PBX.Type == v1alpha1.PBXTypeRingMe {
		call.CallBackID = cmp.Or(call.CallBackID, leg.Status.LegID)
	}
	return call
}

// hungUp is the outcome of a hangup that was sent.
func (h *handler) hungUp(command *v1alpha1.CallCommand, err error) (lifecycle.Done, error) {
	switch {
	case err == nil:
		return h.finish(command, v1alpha1.ReasonFinished, "the PBX has ended "+what(command.Spec.Hangup))
	case errors.Is(err, pbxapi.ErrNotFound):
		return h.finish(command, v1alpha1.ReasonNoCall, "the PBX knows of no such call: there was nothing to end")
	}
	return lifecycle.Done{}, cmp.Or(h.refused(command, err, h.persistence(command)), unknown(err))
}

// followHangup finds out what became of a hangup without an answer: the leg has ended or not.
func (h *handler) followHangup(ctx context.Context, command *v1alpha1.CallCommand) (lifecycle.Done, error) {
	lost := errors.New("the PBX gave no usable answer: whether it has ended the call is unknown. The command was not repeated;" +
		" another does no harm")
	if command.Spec.Hangup == nil || command.Spec.Hangup.LegRef == nil {
		return lifecycle.Done{}, h.fail(command, v1alpha1.ReasonOutcomeUnknown, lost)
	}
	ref := command.Spec.Hangup.LegRef
	h.follower.follow(command, func(leg *v1alpha1.CallLeg) bool { return leg.Name == ref.Name })
	leg, err := h.leg(ctx, command, ref)
	left := hangupWindow - h.clock.Since(command.Status.SentTime.Time)
	switch {
	case err != nil && !errors.Is(err, errUnusable):
		return lifecycle.Done{}, err
	case err != nil || leg.Status.Phase == v1alpha1.PhaseCompleted:
		return h.finish(command, v1alpha1.ReasonFinished, "the PBX gave no usable answer, but the leg has ended")
	case left <= 0:
		return lifecycle.Done{}, h.fail(command, v1alpha1.ReasonOutcomeUnknown, lost)
	}
	return lifecycle.Done{}, lifecycle.Waitingf(v1alpha1.ReasonOutcomeUnknown, min(left, unwatchedRetry),
		"whether the PBX has taken the command is unknown; it is not repeated. Waiting for the leg to end")
}

// errUnusable marks a leg that cannot be the object of a command.
var errUnusable = errors.New("unusable")

// legError is an errUnusable in words.
type legError struct{ reason, text string }

func (e legError) Error() string { return e.text }
func (legError) Unwrap() error   { return errUnusable }

// leg reads the leg that a command names. The error is a legError where there is none of the
// integration.
func (h *handler) leg(ctx context.Context, command *v1alpha1.CallCommand, ref *v1alpha1.CallLegReference) (*v1alpha1.CallLeg, error) {
	leg := &v1alpha1.CallLeg{}
	err := h.live.Get(ctx, types.NamespacedName{Namespace: command.Namespace, Name: ref.Name}, leg)
	if apierrors.IsNotFound(err) {
		return nil, legError{v1alpha1.ReasonLegNotFound, fmt.Sprintf("there is no CallLeg %s in this namespace", ref.Name)}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the CallLeg: %w", err)
	}
	if of := leg.Labels[v1alpha1.LabelIntegration]; of != command.Spec.IntegrationRef.Name {
		return nil, legError{v1alpha1.ReasonInvalidSpec,
			fmt.Sprintf("CallLeg %s belongs to PBXIntegration %q, not to %q", ref.Name, of, command.Spec.IntegrationRef.Name)}
	}
	return leg, nil
}

// unusable fails a command whose leg cannot be used.
func (h *handler) unusable(command *v1alpha1.CallCommand, err error) error {
	if problem, ok := errors.AsType[legError](err); ok {
		return h.fail(command, problem.reason, err)
	}
	return err
}

// what names the calls that a hangup ends.
func what(hangup *v1alpha1.Hangup) string {
	if hangup.LegRef != nil {
		return "the call of leg " + hangup.LegRef.Name
	}
	return "the calls of extension " + hangup.Extension
}
