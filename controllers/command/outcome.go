package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

const (
	// patience is how long a dial or hangup waits to be sent. Later nobody expects it any more.
	patience = 5 * time.Minute
	// persistence is how long a PBX that cannot be reached is tried.
	persistence = time.Minute
	// unwatchedRetry is how often to look at a leg although it has not changed: a watch may be
	// interrupted.
	unwatchedRetry = 30 * time.Second
	// missingRetry is how often to look for something that a watch does not tell of.
	missingRetry = 5 * time.Second
	// followAgain is when to look for what came of a command that was sent.
	followAgain = time.Second
	// soon is when to go on with something that is due.
	soon = 50 * time.Millisecond
	// deleteRetry is when to try again to delete a command.
	deleteRetry = 10 * time.Second
)

// finish ends a command that has done its work.
func (h *handler) finish(command *v1alpha1.CallCommand, reason, message string) (lifecycle.Done, error) {
	h.end(command, v1alpha1.CommandFinished, reason, message)
	return lifecycle.Done{Reason: reason, Message: message, After: h.remaining(command)}, nil
}

// fail ends a command that did not happen, or of which nobody knows.
func (h *handler) fail(command *v1alpha1.CallCommand, reason string, err error) error {
	h.end(command, v1alpha1.CommandFailed, reason, err.Error())
	return lifecycle.Terminal{Reason: reason, After: h.remaining(command), Err: err}
}

// end notes that a command is over: in the phase, and in the condition Complete or Failed, which
// remains for good, as on a Job.
func (h *handler) end(command *v1alpha1.CallCommand, phase v1alpha1.CommandPhase, reason, message string) {
	h.follower.forget(command)
	command.Status.Phase = phase
	condition := v1alpha1.ConditionComplete
	if phase == v1alpha1.CommandFailed {
		condition = v1alpha1.ConditionFailed
	}
	lifecycle.SetCondition(command, h.clock.Now(), condition, metav1.ConditionTrue, reason, message)
	if command.Status.FinishedTime == nil {
		now := metav1.NewMicroTime(h.clock.Now().Truncate(time.Microsecond))
		command.Status.FinishedTime = &now
	}
}

// expired ends a command that has waited for too long.
func (h *handler) expired(command *v1alpha1.CallCommand, why string) error {
	return h.fail(command, v1alpha1.ReasonExpired,
		fmt.Errorf("the command could not be carried out within %s, and is not carried out late: %s", patienceWith(command), why))
}

// lastProblem is what a command has waited for so far.
func lastProblem(command *v1alpha1.CallCommand) string {
	if ready := lifecycle.Ready(command); ready != nil {
		return ready.Message
	}
	return "nobody has worked on it"
}

// wait is the outcome of a pass that has to wait for something before the PBX can be asked; it ends
// with the patience.
func (h *handler) wait(command *v1alpha1.CallCommand, err error) error {
	waiting, ok := errors.AsType[lifecycle.Waiting](err)
	if !ok {
		return err
	}
	left := patienceWith(command) - h.age(command)
	if left <= 0 {
		return h.expired(command, err.Error())
	}
	waiting.After = min(waiting.After, left)
	return waiting
}

func patienceWith(command *v1alpha1.CallCommand) time.Duration {
	if command.Spec.Recording != nil {
		return recordingPatience
	}
	return patience
}

// refused is the outcome of a request that was not sent or that the PBX has declined; nil where the
// PBX may have carried it out. What was not sent is tried again until the given time.
func (h *handler) refused(command *v1alpha1.CallCommand, err error, until time.Time) error {
	if limited, ok := errors.AsType[*pbxapi.RateLimitedError](err); ok {
		unsent(command)
		after := limited.After
		if left := patienceWith(command) - h.age(command); left > 0 {
			after = min(after, left)
		}
		return lifecycle.RateLimited{After: after, Err: err}
	}
	if reason := refusal(err); reason != "" {
		return h.fail(command, reason, err)
	}
	if !pbxapi.NotSent(err) {
		return nil
	}
	unsent(command)
	return h.retry(command, err, until)
}

// refusal is the reason for which a request will never succeed, or empty.
func refusal(err error) string {
	switch {
	case errors.Is(err, pbxapi.ErrNotSupported):
		return v1alpha1.ReasonNotSupported
	case errors.Is(err, pbxapi.ErrUnauthorized):
		return v1alpha1.ReasonCredentialsInvalid
	case errors.Is(err, pbxapi.ErrNotFound):
		return v1alpha1.ReasonExtensionNotFound
	case errors.Is(err, pbxapi.ErrInvalid):
		return v1alpha1.ReasonInvalidSpec
	case errors.Is(err, pbxapi.ErrForbidden), errors.Is(err, pbxapi.ErrRejected), errors.Is(err, pbxapi.ErrLimitReached):
		return v1alpha1.ReasonPBXRefused
	default:
		return ""
	}
}

// retry tries again what may be repeated.
func (h *handler) retry(command *v1alpha1.CallCommand, err error, until time.Time) error {
	reason := v1alpha1.ReasonInternalError
	if errors.Is(err, pbxapi.ErrUnreachable) {
		reason = v1alpha1.ReasonPBXUnreachable
	}
	if !h.clock.Now().Before(until) {
		return h.fail(command, reason, fmt.Errorf("given up; the command was not sent: %w", err))
	}
	return lifecycle.Transient{Reason: reason, Err: err}
}

// unprepared is the outcome of a pass that could not get ready to ask the PBX, or to which the PBX
// has not answered a question that changes nothing there.
func (h *handler) unprepared(command *v1alpha1.CallCommand, err error, until time.Time) error {
	if _, waiting := errors.AsType[lifecycle.Waiting](err); waiting {
		return h.wait(command, err)
	}
	if outcome := h.refused(command, err, until); outcome != nil {
		return outcome
	}
	return h.retry(command, err, until)
}

// unknown is the outcome of a request that the PBX may have carried out.
func unknown(err error) error {
	return lifecycle.Waiting{Reason: v1alpha1.ReasonOutcomeUnknown, After: followAgain, Err: fmt.Errorf(
		"whether the PBX has carried out the command is unknown; it is not repeated: %w", err)}
}

// remaining is how long the command is kept; never zero, which would mean the ordinary interval.
func (h *handler) remaining(command *v1alpha1.CallCommand) time.Duration {
	return max(h.due(command), soon)
}

// due is how long it is until the command is to be deleted.
func (h *handler) due(command *v1alpha1.CallCommand) time.Duration {
	return command.Spec.Retention() - h.clock.Since(command.Status.FinishedTime.Time)
}

// expire deletes a command whose time to live is over. Until then its outcome stays what it was.
func (h *handler) expire(ctx context.Context, command *v1alpha1.CallCommand) (lifecycle.Done, error) {
	ready := cmp.Or(lifecycle.Ready(command), &metav1.Condition{Reason: v1alpha1.ReasonFinished, Message: "the command is over"})
	h.end(command, command.Status.Phase, ready.Reason, ready.Message)
	after := h.remaining(command)
	if h.due(command) <= 0 {
		gone := &v1alpha1.CallCommand{ObjectMeta: metav1.ObjectMeta{Namespace: command.Namespace, Name: command.Name}}
		err := h.client.Delete(ctx, gone, client.Preconditions{UID: &command.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil {
			log.FromContext(ctx).Error(err, "Cannot delete a command whose time to live is over")
		}
		after = deleteRetry
	}
	if command.Status.Phase == v1alpha1.CommandFailed {
		return lifecycle.Done{}, lifecycle.Terminal{Reason: ready.Reason, After: after, Err: errors.New(ready.Message)}
	}
	return lifecycle.Done{Reason: ready.Reason, Message: ready.Message, After: after}, nil
}
