package pbxapi

import (
	"errors"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/controllers/errortext"
	"github.com/pbx-operator/pbx-operator/receiver/shorten"
)

// What a call can fail with, beside RateLimitedError. Use errors.Is.
var (
	// ErrNotFound: the PBX does not know the extension or the account.
	ErrNotFound = errors.New("the PBX does not know it")
	// ErrLimitReached: the extension takes no more registrations.
	ErrLimitReached = errors.New("the event limit of the extension is reached")
	// ErrUnauthorized: the PBX does not accept the credentials. Only other credentials can help.
	ErrUnauthorized = errors.New("the PBX does not accept the credentials")
	// ErrForbidden: the credentials are good, but lack the right.
	ErrForbidden = errors.New("the PBX forbids it")
	// ErrRejected: the PBX understood and refused.
	ErrRejected = errors.New("the PBX refused")
	// ErrUnreachable: no usable answer. Whether the PBX did what was asked is unknown.
	ErrUnreachable = errors.New("the PBX cannot be reached")
	// ErrNotSupported: the PBX has no such command.
	ErrNotSupported = errors.New("this kind of PBX cannot do it")
	// ErrInvalid: the request cannot be made from these settings.
	ErrInvalid = errors.New("invalid settings")
)

// Error is a failed call. Its text is fit for conditions, Events and logs: it holds no URL, token
// or secret.
type Error struct {
	// Kind is one of the Err… values.
	Kind error
	// Op says what was tried, such as "list the extensions".
	Op string
	// Detail is what the PBX or the network said.
	Detail string

	// After is how long the PBX asked to be left alone; zero where it did not.
	After time.Duration

	cause error
}

// NewError describes a failed call; detail may come from the PBX and is scrubbed.
func NewError(kind error, op, detail string) *Error {
	return &Error{Kind: kind, Op: op, Detail: Scrub(detail)}
}

// TransportError describes a call that got no usable answer. The text of an url.Error is left out,
// because it holds the URL.
func TransportError(op string, err error) error {
	if limited, ok := errors.AsType[*RateLimitedError](err); ok {
		return limited
	}
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	return &Error{Kind: ErrUnreachable, Op: op, Detail: Scrub(errortext.Network(err)), cause: err}
}

// NotSent reports whether the failure proves that the PBX has not carried out the request, so that
// repeating it does nothing twice: it was never sent, no connection was made, or the PBX answered
// 429. Any other answer, and a connection that broke, prove nothing.
func NotSent(err error) bool {
	if _, limited := errors.AsType[*RateLimitedError](err); limited || errors.Is(err, ErrInvalid) {
		return true
	}
	if _, before := errors.AsType[unsent](err); before {
		return true
	}
	network, ok := errors.AsType[*net.OpError](err)
	return ok && network.Op == "dial"
}

// Unsent marks a failure that came before the request proper, such as one to get an access token.
// It returns nil for nil.
func Unsent(err error) error {
	if err == nil {
		return nil
	}
	return unsent{err}
}

type unsent struct{ error }

func (e unsent) Unwrap() error { return e.error }

func (e *Error) Error() string {
	text := "cannot " + e.Op + ": " + e.Kind.Error()
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// Unwrap gives the kind and, where there is one, the cause.
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.cause}
}

// Trouble describes a failure without what was tried, where that says nothing: a PBX that cannot be
// reached, or does not accept the credentials, fails whatever is asked of it first. So the text
// stays the same whichever request finds out.
func Trouble(err error) error {
	if _, done := errors.AsType[trouble](err); done {
		return err
	}
	known, ok := errors.AsType[*Error](err)
	if !ok || !errors.Is(known.Kind, ErrUnreachable) && !errors.Is(known.Kind, ErrUnauthorized) {
		return err
	}
	return trouble{err: err, known: known}
}

type trouble struct {
	err   error
	known *Error
}

func (t trouble) Error() string {
	if t.known.Detail == "" {
		return t.known.Kind.Error()
	}
	return t.known.Kind.Error() + ": " + t.known.Detail
}

func (t trouble) Unwrap() error { return t.err }

// RateLimitedError asks to come back later. Nothing was asked of the PBX, or the PBX did nothing.
type RateLimitedError struct {
	// After is how long to wait.
	After time.Duration
	// ByPBX tells that the PBX itself refused (HTTP 429) or asked to be left alone, not the ceiling
	// of the integration.
	ByPBX bool
}

// Error has no number in it: a text that changed with every attempt would be written to a status
// each time.
func (e *RateLimitedError) Error() string {
	if e.ByPBX {
		return "the PBX takes no more requests for now (HTTP 429 or 503); waiting for it to take more"
	}
	return "requestsPerMinute of the integration is used up; waiting for a turn"
}

const detailLength = 200

var (
	links   = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://\S+`)
	secrets = regexp.MustCompile(`[A-Za-z0-9_\-+/=]{24,}`)
)

// Scrub makes text from outside fit for conditions and logs: one short line without URLs, without
// anything that could be a token, and without what differs at every attempt. A PBX may well repeat
// the event URL in its error message.
func Scrub(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "�")), " ")
	text = links.ReplaceAllString(text, "(URL)")
	text = secrets.ReplaceAllString(text, "(…)")
	return shorten.Visibly(errortext.Stable(text), detailLength)
}
