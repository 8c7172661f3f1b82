// Package pbxapi is the port to the management APIs of the PBXs. Each PBX has a package of its own below this one.
//
// A Pool holds one Client per integration. Whoever asks something of that PBX does it through this Client, so that all of
// them share one token, one rate limit, one list of extensions, and the knowledge that a credential is bad.
package pbxapi

import (
	"context"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// Extension is an extension as the PBX knows it.
type Extension struct {
	ID     string
	Number string
	// Type is empty for a type that the operator does not know.
	Type v1alpha1.ExtensionType
}

// Registration asks the PBX to call a URL when an event happens. The URL is a credential.
type Registration struct {
	// ID is given by the PBX; empty before creation.
	ID string
	// Event is empty for a type of event that the operator does not use.
	Event  v1alpha1.EventType
	URL    string
	Method string
}

// API is what a PBX offers to the controllers. All calls are idempotent, or safe to repeat after looking again. Their errors
// are those of this package. There is deliberately no call that deletes more than one registration.
type API interface {
	// Check makes one cheap authenticated request.
	Check(ctx context.Context) error
	// Extensions lists all extensions.
	Extensions(ctx context.Context) ([]Extension, error)
	// Registrations lists all registrations on an extension, those of others included. It returns ErrNotFound for an unknown extension.
	Registrations(ctx context.Context, extensionID string) ([]Registration, error)
	// Register creates one registration. It returns ErrLimitReached when the PBX says that the extension takes no more.
	Register(ctx context.Context, extensionID string, registration Registration) (Registration, error)
	// Unregister deletes one registration. A registration that is gone already is no error.
	Unregister(ctx context.Context, extensionID, registrationID string) error
}

// CredentialsSecret is the name of the Secret with the credentials for the PBX; empty for a PBX that needs none.
func CredentialsSecret(pbx v1alpha1.PBX) string {
	if pbx.RingMe == nil {
		return ""
	}
	return pbx.RingMe.CredentialsSecretRef.Name
}

// defaultEventLimit is the standard tolerance of RingMe (Events on Extension Numbers).
const defaultEventLimit = 16

// EventLimit is how many registrations one extension may carry, those of others included.
func EventLimit(pbx v1alpha1.PBX) int {
	if pbx.RingMe == nil || pbx.RingMe.EventLimit == 0 {
		return defaultEventLimit
	}
	return int(pbx.RingMe.EventLimit)
}

// defaultRequestsPerMinute is the default of the API's schema.
const defaultRequestsPerMinute = 120

func requestsPerMinute(pbx v1alpha1.PBX) int {
	if pbx.RingMe == nil || pbx.RingMe.RequestsPerMinute == 0 {
		return defaultRequestsPerMinute
	}
	return int(pbx.RingMe.RequestsPerMinute)
}
