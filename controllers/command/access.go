package command

import (
	"context"
	"errors"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// access is the way to the PBX of a command.
type access struct {
	handler     *handler
	integration *v1alpha1.PBXIntegration
}

// integrationOf returns the integration of a command, once it works.
func (h *handler) integrationOf(ctx context.Context, command *v1alpha1.CallCommand) (*v1alpha1.PBXIntegration, error) {
	integration, err := h.findIntegration(ctx, command)
	switch {
	case err != nil:
		return nil, err
	case integration == nil:
		return nil, lifecycle.Waitingf(v1alpha1.ReasonIntegrationNotFound, missingRetry,
			"there is no PBXIntegration %s in this namespace", command.Spec.IntegrationRef.Name)
	case !integration.DeletionTimestamp.IsZero():
		return nil, lifecycle.Waitingf(v1alpha1.ReasonIntegrationNotReady, missingRetry, "PBXIntegration %s is being deleted", integration.Name)
	case integration.Spec.Suspend:
		return nil, lifecycle.Waitingf(v1alpha1.ReasonSuspended, missingRetry,
			"PBXIntegration %s is suspended: the command waits for it to resume", integration.Name)
	}
	return integration, nil
}

// findIntegration returns the integration of a command, or nil.
func (h *handler) findIntegration(ctx context.Context, command *v1alpha1.CallCommand) (*v1alpha1.PBXIntegration, error) {
	return lifecycle.FindIntegration(ctx, h.client, command.Namespace, command.Spec.IntegrationRef)
}

// unsupported tells why this kind of PBX, as it is set up, cannot carry out a command; empty if it
// can.
func unsupported(pbx v1alpha1.PBX, spec *v1alpha1.CallCommandSpec) string {
	switch {
	case pbx.Type == v1alpha1.PBXTypeCallable:
		return "a PBX of type Callable takes no commands: it has no API"
	case spec.Recording != nil && pbx.Type == v1alpha1.PBXTypeVoipNow:
		return "a PBX of type VoipNow does not tell where recordings are"
	case spec.Recording != nil && pbx.Type == v1alpha1.PBXTypeLinuxBox && (pbx.LinuxBox == nil || pbx.LinuxBox.RecordingURL == ""):
		return "where recordings of a PBX of type LinuxBox are is known only with spec.pbx.linuxBox.recordingURL of the PBXIntegration"
	case spec.Recording == nil && pbx.Type == v1alpha1.PBXTypeLinuxBox && (pbx.LinuxBox == nil || pbx.LinuxBox.URL == ""):
		return "a PBX of type LinuxBox takes commands only with spec.pbx.linuxBox.url of the PBXIntegration"
	default:
		return ""
	}
}

// pbx is the client of the PBX. Without credentials the outcome is Waiting.
func (a access) pbx(ctx context.Context) (*pbxapi.Client, error) {
	credentials, err := pbxapi.Credentials(ctx, a.handler.secrets, a.integration)
	if errors.Is(err, pbxapi.ErrCredentialsMissing) {
		return nil, lifecycle.Waiting{Reason: v1alpha1.ReasonCredentialsMissing, After: missingRetry, Err: err}
	}
	if err != nil {
		return nil, err
	}
	pbx, err := a.handler.pool.Client(a.integration, credentials)
	if err != nil {
		return nil, lifecycle.Waiting{Reason: v1alpha1.ReasonCredentialsMissing, After: missingRetry, Err: err}
	}
	return pbx, nil
}

// extension is the extension with a number.
func (a access) extension(ctx context.Context, pbx *pbxapi.Client, number string) (pbxapi.Extension, error) {
	if pbxapi.KnowsByNumber(a.integration.Spec.PBX) {
		return pbxapi.Extension{ID: number, Number: number}, nil
	}
	return pbx.Extension(ctx, number)
}

// replaced reports whether an extension which the PBX disowns may have come back under another id,
// as an id always means one number.
func (a access) replaced(pbx *pbxapi.Client) bool {
	return !pbxapi.KnowsByNumber(a.integration.Spec.PBX) && pbx.ForgetExtensions()
}

// prepare makes sure that a command for an extension can be sent now. The check renews the access
// token where that is due, and finds out whether the PBX answers at all while nothing is lost if it
// does not.
func (a access) prepare(ctx context.Context, number string) (context.Context, *pbxapi.Client, pbxapi.Extension, error) {
	pbx, err := a.pbx(ctx)
	if err != nil {
		return ctx, nil, pbxapi.Extension{}, err
	}
	extension, err := a.extension(ctx, pbx, number)
	if err != nil {
		return ctx, nil, pbxapi.Extension{}, err
	}
	ctx, err = pbx.Admit(ctx, requests)
	if err != nil {
		return ctx, nil, pbxapi.Extension{}, err
	}
	return ctx, pbx, extension, pbx.Check(ctx)
}

// requests is how many a command takes: the check, to look for the call to be ended, and to end it.
const requests = 3
