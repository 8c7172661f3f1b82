// Package dialect turns a PBX's notifications into call events. Each PBX has a package of its own
// below this one; a rule of one PBX stands nowhere else.
package dialect

import "github.com/pbx-operator/pbx-operator/receiver/callevent"

// Dialect understands the notifications of one PBX.
type Dialect interface {
	// Decode turns one notification into call events, usually one. The error says what cannot be
	// understood; it never holds the event URL.
	Decode(request callevent.Request) ([]callevent.Event, error)
}
