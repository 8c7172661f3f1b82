package command

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

const (
	// recordingPatience is how long after the end of its leg a recording is waited for.
	recordingPatience = 15 * time.Minute
	// recordingRetry is how often to look for one.
	recordingRetry = 10 * time.Second
	// longestURL is what the schema of the status allows.
	longestURL = 2048
)

// resolve finds out where a recording is. It changes nothing on the PBX, so that it may be repeated
// freely.
func (h *handler) resolve(ctx context.Context, to access, command *v1alpha1.CallCommand) (lifecycle.Done, error) {
	leg, err := h.leg(ctx, command, &command.Spec.Recording.LegRef)
	if err != nil {
		return lifecycle.Done{}, h.unusable(command, err)
	}
	note(command, []v1alpha1.CallLeg{*leg})
	until := h.recordedBy(command, leg)
	if leg.Status.RecordingID == "" {
		return lifecycle.Done{}, h.unrecorded(command, until,
			"the leg has no recordingID: it comes with the hangup, or is looked up in the call history some minutes after it")
	}
	pbx, err := to.pbx(ctx)
	if err != nil {
		return lifecycle.Done{}, h.wait(command, err)
	}
	address, err := pbx.RecordingURL(ctx, leg.Status.RecordingID)
	switch {
	case errors.Is(err, pbxapi.ErrNotFound):
		return lifecycle.Done{}, h.unrecorded(command, until, "the PBX does not know the recording; it may not be stored yet")
	case err != nil:
		return lifecycle.Done{}, h.unprepared(command, err, until)
	}
	if err := presentable(address); err != nil {
		return lifecycle.Done{}, h.fail(command, v1alpha1.ReasonNotSupported, err)
	}
	command.Status.RecordingURL = address
	return h.finish(command, v1alpha1.ReasonFinished, "status.recordingURL is where the recording can be fetched")
}

// recordedBy is until when a recording is waited for. It does not count while the call goes on.
func (h *handler) recordedBy(command *v1alpha1.CallCommand, leg *v1alpha1.CallLeg) time.Time {
	from := command.CreationTimestamp.Time
	switch {
	case leg.Status.Phase != v1alpha1.PhaseCompleted:
		from = h.clock.Now()
	case leg.Status.EndTime != nil && leg.Status.EndTime.After(from):
		from = leg.Status.EndTime.Time
	}
	return from.Add(recordingPatience)
}

// unrecorded waits for a recording, or gives up.
func (h *handler) unrecorded(command *v1alpha1.CallCommand, until time.Time, why string) error {
	if !h.clock.Now().Before(until) {
		return h.fail(command, v1alpha1.ReasonRecordingNotFound, errors.New(why+". Given up: the call was probably not recorded"))
	}
	return lifecycle.Waitingf(v1alpha1.ReasonProgressing, recordingRetry, "%s", why)
}

// presentable fails for an address that must not be shown: it would give away credentials of the
// PBX. A signature of its own, which opens this one recording, is fine.
func presentable(address string) error {
	at, err := url.Parse(address)
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" || len(address) > longestURL {
		return fmt.Errorf("the PBX gave no usable http or https address of the recording")
	}
	parameters := at.Query()
	secret := func(name string) bool { return parameters.Has(name) }
	if at.User != nil || slices.ContainsFunc([]string{"access_token", "refresh_token", "client_secret", "password"}, secret) {
		return errors.New("the address of the recording holds credentials of the PBX, and is not shown")
	}
	return nil
}
