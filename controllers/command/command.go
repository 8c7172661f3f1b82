// Package command has PBXs carry out CallCommands: dial, hang up, and tell where a recording is.
//
// A dial or hangup is sent at most once. Before it is sent, status.sentTime is written under a
// lock, and only the pass that has written it sends; see lifecycle.Intent. A command has no
// finalizer: deleting it neither ends its call nor waits for it.
package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/secrets"
)

// handler makes the passes over commands.
type handler struct {
	client  client.Client // cached
	live    client.Reader
	pool    *pbxapi.Pool
	secrets *secrets.Reader
	clock   clock.PassiveClock
	// follower has passes made when legs change.
	follower *follower
}

var _ lifecycle.Handler[*v1alpha1.CallCommand] = (*handler)(nil)

// Suspended is false: only an integration can be suspended, and the calls of commands that were
// sent are followed all the same.
func (h *handler) Suspended(*v1alpha1.CallCommand) bool { return false }

// Finalize has nothing to clean up.
func (h *handler) Finalize(context.Context, *v1alpha1.CallCommand) (lifecycle.Done, error) {
	return lifecycle.Done{}, nil
}

// Reconcile takes a command one step further.
func (h *handler) Reconcile(ctx context.Context, command *v1alpha1.CallCommand) (lifecycle.Done, error) {
	switch {
	case over(command):
		return h.expire(ctx, command)
	case command.Status.SentTime == nil:
		return h.submit(ctx, command)
	case command.Spec.Dial != nil:
		return h.followDial(ctx, command)
	default:
		return h.followHangup(ctx, command)
	}
}

// over reports whether nothing will happen any more.
func over(command *v1alpha1.CallCommand) bool {
	return command.Status.Phase == v1alpha1.CommandFinished || command.Status.Phase == v1alpha1.CommandFailed
}

// submit works on a command that was not sent.
func (h *handler) submit(ctx context.Context, command *v1alpha1.CallCommand) (lifecycle.Done, error) {
	command.Status.Phase = v1alpha1.CommandPending
	if command.Spec.Recording == nil && h.age(command) >= patience {
		return lifecycle.Done{}, h.expired(command, lastProblem(command))
	}
	integration, err := h.integrationOf(ctx, command)
	if err != nil {
		return lifecycle.Done{}, h.wait(command, err)
	}
	if why := unsupported(integration.Spec.PBX, &command.Spec); why != "" {
		return lifecycle.Done{}, h.fail(command, v1alpha1.ReasonNotSupported, errors.New(why))
	}
	to := access{handler: h, integration: integration}
	switch {
	case command.Spec.Dial != nil:
		return h.dial(ctx, to, command)
	case command.Spec.Hangup != nil:
		return h.hangup(ctx, to, command)
	default:
		return h.resolve(ctx, to, command)
	}
}

// once sends a command, unless another pass has or the command is gone.
func (h *handler) once(ctx context.Context, command *v1alpha1.CallCommand, send func() (lifecycle.Done, error)) (lifecycle.Done, error) {
	sent := metav1.NewMicroTime(h.clock.Now().Truncate(time.Microsecond))
	command.Status.Phase, command.Status.SentTime = v1alpha1.CommandSent, &sent
	return lifecycle.Done{}, lifecycle.Intent{
		Reason: v1alpha1.ReasonProgressing,
		Err:    errors.New("the command is being sent to the PBX"),
		Then: func() (lifecycle.Done, error) {
			if err := h.confirm(ctx, command); err != nil {
				unsent(command)
				return lifecycle.Done{}, err
			}
			return send()
		},
	}
}

// confirm makes sure that the command still exists, and that it was this pass which has claimed it.
func (h *handler) confirm(ctx context.Context, command *v1alpha1.CallCommand) error {
	fresh := &v1alpha1.CallCommand{}
	if err := h.live.Get(ctx, client.ObjectKeyFromObject(command), fresh); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot confirm the command: %w", err)
	}
	if fresh.UID == command.UID && fresh.DeletionTimestamp.IsZero() && fresh.Status.SentTime.Equal(command.Status.SentTime) {
		return nil
	}
	return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("callcommands").GroupResource(), command.Name,
		errors.New("it has changed meanwhile"))
}

// unsent takes back that a command was about to be sent.
func unsent(command *v1alpha1.CallCommand) {
	command.Status.Phase, command.Status.SentTime = v1alpha1.CommandPending, nil
}

func (h *handler) age(command *v1alpha1.CallCommand) time.Duration {
	return h.clock.Since(command.CreationTimestamp.Time)
}
