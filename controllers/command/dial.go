package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/command/tracking"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/shorten"
)

const (
	// mostLegs and longestID are what the schema of the status allows.
	mostLegs, longestID = 32, 256
	// legsPage bounds a list of legs.
	legsPage = 500
	// defaultMaxDuration is that of the API's schema, for a call whose integration is gone.
	defaultMaxDuration = 4 * time.Hour
)

// dial sends a dial that was not sent.
func (h *handler) dial(ctx context.Context, to access, command *v1alpha1.CallCommand) (lifecycle.Done, error) {
	ctx, pbx, extension, err := to.prepare(ctx, command.Spec.Dial.Extension)
	if err != nil {
		return lifecycle.Done{}, h.unprepared(command, err, h.persistence(command))
	}
	return h.once(ctx, command, func() (lifecycle.Done, error) {
		call, err := pbx.Dial(ctx, pbxapi.Dial{Extension: extension, Number: command.Spec.Dial.Number, Reference: string(command.UID)})
		if errors.Is(err, pbxapi.ErrNotFound) && to.replaced(pbx) {
			unsent(command)
			return lifecycle.Done{}, lifecycle.Transient{Reason: v1alpha1.ReasonExtensionNotFound, Err: err}
		}
		if err != nil {
			return lifecycle.Done{}, cmp.Or(h.refused(command, err, h.persistence(command)), unknown(err))
		}
		command.Status.CallID, command.Status.CallBackID = shorten.Bytes(call.CallID, longestID), shorten.Bytes(call.CallBackID, longestID)
		return lifecycle.Done{}, lifecycle.Waitingf(v1alpha1.ReasonCommandSent, followAgain, "the PBX has taken the command")
	})
}

// persistence is until when a PBX that cannot be reached is tried.
func (h *handler) persistence(command *v1alpha1.CallCommand) time.Time {
	return command.CreationTimestamp.Add(persistence)
}

// followDial follows the call of a dial to its end.
func (h *handler) followDial(ctx context.Context, command *v1alpha1.CallCommand) (lifecycle.Done, error) {
	dial := tracking.Of(command)
	h.follower.follow(command, dial.Concerns)
	legs, err := h.callOf(ctx, command, dial)
	if err != nil {
		return lifecycle.Done{}, err
	}
	settings, err := h.callLegs(ctx, command)
	if err != nil {
		return lifecycle.Done{}, err
	}
	progress := tracking.View{
		Dial: dial, Connected: command.Status.Phase == v1alpha1.CommandConnected, Legs: legs, Now: h.clock.Now(), CallLegs: settings,
	}.Progress()
	note(command, legs)
	switch progress.Phase {
	case v1alpha1.CommandFinished:
		return h.finish(command, progress.Reason, progress.Message)
	case v1alpha1.CommandFailed:
		return lifecycle.Done{}, h.fail(command, progress.Reason, errors.New(progress.Message))
	default:
		command.Status.Phase = progress.Phase
		return lifecycle.Done{}, lifecycle.Waitingf(progress.Reason, progress.After, "%s", progress.Message)
	}
}

// note writes down what was found.
func note(command *v1alpha1.CallCommand, legs []v1alpha1.CallLeg) {
	if len(legs) == 0 {
		return
	}
	status := &command.Status
	status.CallID = cmp.Or(status.CallID, legs[0].Status.CallID)
	status.Legs = nil
	for _, leg := range legs[:min(len(legs), mostLegs)] {
		status.CallBackID = cmp.Or(status.CallBackID, leg.Status.CallBackID)
		status.Legs = append(status.Legs, leg.Name)
	}
}

// callLegs are the settings of the integration; the defaults where it is gone.
func (h *handler) callLegs(ctx context.Context, command *v1alpha1.CallCommand) (v1alpha1.CallLegs, error) {
	integration, err := h.findIntegration(ctx, command)
	if err != nil {
		return v1alpha1.CallLegs{}, err
	}
	settings := v1alpha1.CallLegs{}
	if integration != nil {
		settings = integration.Spec.CallLegs
	}
	settings.MaxDuration.Duration = cmp.Or(settings.MaxDuration.Duration, defaultMaxDuration)
	return settings, nil
}

// callOf finds the legs of the dial's call: by the ids that the PBX has told; else among the legs
// of the extension, and then all others of the same call.
func (h *handler) callOf(ctx context.Context, command *v1alpha1.CallCommand, dial tracking.Dial) ([]v1alpha1.CallLeg, error) {
	found := finder{reader: h.live, command: command, asked: map[string]bool{}}
	for _, id := range []string{dial.CallID, strings.ToLower(dial.CallID), strings.ToUpper(dial.CallID)} {
		if len(found.list) > 0 {
			break
		}
		if err := found.add(ctx, "status.callID", id); err != nil {
			return nil, err
		}
	}
	if err := found.add(ctx, "status.callBackID", dial.CallBackID); err != nil {
		return nil, err
	}
	var rivals []tracking.Dial
	if len(found.list) == 0 {
		if err := found.add(ctx, "status.extension", dial.Extension); err != nil {
			return nil, err
		}
	}
	if len(found.list) > 0 && dial.CallID == "" && dial.CallBackID == "" {
		var err error
		if rivals, err = h.rivals(ctx, command); err != nil {
			return nil, err
		}
	}
	for _, leg := range dial.Call(rivals, found.list) {
		if err := found.add(ctx, "status.callID", leg.Status.CallID); err != nil {
			return nil, err
		}
	}
	return dial.Call(rivals, found.list), nil
}

// rivals are the other dials of the integration that were sent.
func (h *handler) rivals(ctx context.Context, command *v1alpha1.CallCommand) ([]tracking.Dial, error) {
	var list v1alpha1.CallCommandList
	err := h.live.List(ctx, &list, client.InNamespace(command.Namespace),
		client.MatchingFields{lifecycle.IndexIntegration: command.Spec.IntegrationRef.Name})
	if err != nil {
		return nil, fmt.Errorf("cannot list the other commands: %w", err)
	}
	var rivals []tracking.Dial
	for i := range list.Items {
		rival := &list.Items[i]
		if rival.UID != command.UID && rival.Spec.Dial != nil && rival.Status.SentTime != nil {
			rivals = append(rivals, tracking.Of(rival))
		}
	}
	return rivals, nil
}

// finder collects CallLegs of the integration of a command.
type finder struct {
	reader  client.Reader
	command *v1alpha1.CallCommand
	asked   map[string]bool
	list    []v1alpha1.CallLeg
}

// add adds the legs with a value in a selectable field, unless that was done.
func (f *finder) add(ctx context.Context, field, value string) error {
	if value == "" || f.asked[field+"="+value] {
		return nil
	}
	var list v1alpha1.CallLegList
	err := f.reader.List(ctx, &list, client.InNamespace(f.command.Namespace), client.Limit(legsPage), client.MatchingFields{field: value},
		client.MatchingLabels{v1alpha1.LabelIntegration: f.command.Spec.IntegrationRef.Name})
	if err != nil {
		return fmt.Errorf("cannot look for the legs of the call: %w", err)
	}
	f.asked[field+"="+value] = true
	f.list = append(f.list, list.Items...)
	return nil
}
