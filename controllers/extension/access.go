package extension

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/extension/registration"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

const (
	// missingRetry is how often to look for something that a watch will tell of as well.
	missingRetry = time.Minute
	// pendingRetry is how often to look for the end of what takes an integration moments.
	pendingRetry = 5 * time.Second
	// refusedRetry is how often to look again after the PBX refused something for good.
	refusedRetry = 5 * time.Minute
)

// access is what it takes to work on the registrations of one mapping.
type access struct {
	integration *v1alpha1.PBXIntegration
	pbx         *pbxapi.Client
	ring        eventurl.Ring
}

func (a access) knowsByNumber() bool { return pbxapi.KnowsByNumber(a.integration.Spec.PBX) }

// own recognises the registrations of the mapping.
func (a access) own(mapping *v1alpha1.ExtensionMapping) registration.Tokens {
	return a.ring.Tokens(sourceOf(mapping))
}

func sourceOf(mapping *v1alpha1.ExtensionMapping) eventurl.Source {
	return eventurl.Mapping(mapping.Name, string(mapping.UID))
}

// integrationOf returns the integration of a mapping, or nil.
func (h *handler) integrationOf(ctx context.Context, mapping *v1alpha1.ExtensionMapping) (*v1alpha1.PBXIntegration, error) {
	return lifecycle.FindIntegration(ctx, h.client, mapping.Namespace, mapping.Spec.IntegrationRef)
}

// errMissing marks that a Secret, or something in it, is not there.
var errMissing = errors.New("missing")

// access gathers what is needed to work on the PBX. Without a Secret the outcome is Waiting, and is
// errMissing.
func (h *handler) access(ctx context.Context, integration *v1alpha1.PBXIntegration, source pbxapi.Source) (access, error) {
	pbx, err := h.connect(ctx, integration, source)
	if err != nil {
		return access{}, err
	}
	keys := fmt.Sprintf("Secret %s with the event URL keys of PBXIntegration %s", eventurl.SecretName(integration.Name), integration.Name)
	secret, err := source.Get(ctx, types.NamespacedName{Namespace: integration.Namespace, Name: eventurl.SecretName(integration.Name)})
	if apierrors.IsNotFound(err) {
		return access{}, missing(v1alpha1.ReasonIntegrationNotReady, keys+" is missing")
	}
	if err != nil {
		return access{}, fmt.Errorf("cannot read %s: %w", keys, err)
	}
	ring, err := eventurl.ParseRing(secret.Data)
	if err != nil {
		return access{}, missing(v1alpha1.ReasonIntegrationNotReady, err.Error())
	}
	return access{integration: integration, pbx: pbx, ring: ring.InForce(integration.Status.KeyGeneration)}, nil
}

// connect is the client of the PBX.
func (h *handler) connect(ctx context.Context, integration *v1alpha1.PBXIntegration, source pbxapi.Source) (*pbxapi.Client, error) {
	credentials, err := pbxapi.Credentials(ctx, source, integration)
	if errors.Is(err, pbxapi.ErrCredentialsMissing) {
		return nil, missing(v1alpha1.ReasonCredentialsMissing, err.Error())
	}
	if err != nil {
		return nil, err
	}
	pbx, err := h.pool.Client(integration, credentials)
	if err != nil {
		return nil, missing(v1alpha1.ReasonCredentialsMissing, err.Error())
	}
	return pbx, nil
}

func missing(reason, what string) error {
	return lifecycle.Waiting{Reason: reason, After: missingRetry, Err: absence{what}}
}

// absence is an errMissing in words.
type absence struct{ text string }

func (e absence) Error() string { return e.text }
func (absence) Unwrap() error   { return errMissing }

// outcomeOf says what a failed call means for a mapping.
func outcomeOf(mapping *v1alpha1.ExtensionMapping, err error) error {
	err = pbxapi.Trouble(err)
	if limited, ok := errors.AsType[*pbxapi.RateLimitedError](err); ok {
		return lifecycle.RateLimited{After: lifecycle.Jitter(limited.After, mapping.UID), Err: err}
	}
	switch {
	case errors.Is(err, pbxapi.ErrUnauthorized):
		return lifecycle.Waiting{Reason: v1alpha1.ReasonCredentialsInvalid, After: lifecycle.Jitter(refusedRetry, mapping.UID), Err: err}
	case errors.Is(err, pbxapi.ErrInvalid):
		return lifecycle.Terminal{Reason: v1alpha1.ReasonInvalidSpec, Err: err}
	case errors.Is(err, pbxapi.ErrForbidden), errors.Is(err, pbxapi.ErrRejected):
		return lifecycle.Terminal{Reason: v1alpha1.ReasonPBXRefused, Err: err}
	case errors.Is(err, pbxapi.ErrUnreachable):
		return lifecycle.Transient{Reason: v1alpha1.ReasonPBXUnreachable, Err: err}
	default:
		return err
	}
}
