package lifecycle

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// Done is the outcome of a pass that reached what the spec asks for.
type Done struct {
	// Reason and Message of Ready=True. Default: Reconciled, and a sentence that says so.
	Reason, Message string
	// After is when to look again. Default: the interval of the Reconciler, jittered. Beside an
	// error it is when to look again at the latest, because a part of the pass may have come to its
	// end; only a Transient failure leaves that to the backoff.
	After time.Duration
	// Notice is something worth telling although Ready did not change, such as corrected drift. It
	// becomes the Event of this pass unless Ready changed too.
	Notice Notice
}

// Notice is the content of a Kubernetes Event. The zero value is none.
type Notice struct {
	Reason, Message string
	Warning         bool
}

// Terminal is the outcome that only a change by a user can better. Ready=False, Stalled=True, a
// Warning Event on transition. The object is looked at again when it or something it refers to
// changes, and at the ordinary interval.
type Terminal struct { //nolint:errname // it is read as an outcome
	Reason string
	// After is when to look again. Default: the interval of the Reconciler, jittered.
	After time.Duration
	Err   error
}

// Waiting is the outcome of a pass that depends on something that takes its time. Ready=False,
// Reconciling=True, no Event: what is waited for has its own.
type Waiting struct { //nolint:errname // it is read as an outcome
	Reason string
	// After is when to look again. Default: 10 s. A watch may come first.
	After time.Duration
	Err   error
}

// Transient is a failure that is expected to pass. Ready=False, Reconciling=True, a Warning Event
// on transition, exponential backoff. Errors without a type are taken as Transient with reason
// InternalError.
type Transient struct { //nolint:errname // it is read as an outcome
	Reason string
	Err    error
}

// RateLimited says that the PBX, or our own ceiling for it, allows no request before After has
// passed. An object that was Ready for this generation stays so: being told to wait says nothing
// about it. No Event.
type RateLimited struct { //nolint:errname // it is read as an outcome
	// Reason defaults to RateLimited.
	Reason string
	After  time.Duration
	Err    error
}

// Suspended is the outcome of a pass that leaves an object alone. Ready keeps the status it had,
// and edits of the spec stay unobserved. It is looked at again when a watch asks for it.
type Suspended struct { //nolint:errname // it is read as an outcome
	// Elsewhere tells that another object asks for it: then no edit of this one does.
	Elsewhere bool
	Err       error
}

// Intent is the outcome of a pass that is about to do something that must not be done twice. The
// status is written first, under a lock, with the conditions of a Waiting: of several passes,
// managers and outdated caches one succeeds at most. Only the pass that has written it runs Then,
// whose outcome takes the place of the Intent. A pass that finds the intent in the status has to
// take it for done.
type Intent struct { //nolint:errname // it is read as an outcome
	Reason string
	Err    error
	// Then may change the status. What it changed is written whatever else has changed meanwhile:
	// nobody can know better.
	Then func() (Done, error)
}

func (e Terminal) Error() string    { return text(e.Reason, e.Err) }
func (e Waiting) Error() string     { return text(e.Reason, e.Err) }
func (e Transient) Error() string   { return text(e.Reason, e.Err) }
func (e RateLimited) Error() string { return text(e.Reason, e.Err) }
func (e Suspended) Error() string   { return text(v1alpha1.ReasonSuspended, e.Err) }
func (e Intent) Error() string      { return text(e.Reason, e.Err) }

// Unwrap returns the cause.
func (e Terminal) Unwrap() error { return e.Err }

// Unwrap returns the cause.
func (e Waiting) Unwrap() error { return e.Err }

// Unwrap returns the cause.
func (e Transient) Unwrap() error { return e.Err }

// Unwrap returns the cause.
func (e RateLimited) Unwrap() error { return e.Err }

// Unwrap returns the cause.
func (e Suspended) Unwrap() error { return e.Err }

// Unwrap returns the cause.
func (e Intent) Unwrap() error { return e.Err }

func text(reason string, err error) string {
	if err == nil {
		return reason
	}
	return err.Error()
}

// Terminalf is Terminal with a formatted cause.
func Terminalf(reason, format string, args ...any) error {
	return Terminal{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// Waitingf is Waiting with a formatted cause.
func Waitingf(reason string, after time.Duration, format string, args ...any) error {
	return Waiting{Reason: reason, After: after, Err: fmt.Errorf(format, args...)}
}

// Transientf is Transient with a formatted cause.
func Transientf(reason, format string, args ...any) error {
	return Transient{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// kind names an outcome in the metric.
type kind string

const (
	kindDone        kind = "done"
	kindTerminal    kind = "terminal"
	kindWaiting     kind = "waiting"
	kindTransient   kind = "transient"
	kindRateLimited kind = "rate_limited"
	kindSuspended   kind = "suspended"
	kindDeleted     kind = "deleted"
	kindConflict    kind = "conflict"
)

// outcome is what a pass came to, in one shape.
type outcome struct {
	kind    kind
	reason  string
	message string
	after   time.Duration
	notice  Notice
	err     error
	// unsaid tells that a Done gave no reason.
	unsaid bool
	// then is that of an Intent; unlocked is set on what came of it.
	then     func() (Done, error)
	unlocked bool
	// elsewhere is that of a Suspended.
	elsewhere bool
}

const defaultWait = 10 * time.Second

// outcomeOf folds the two results of a handler into one outcome.
func outcomeOf(done Done, err error) outcome {
	if err == nil {
		return outcome{
			kind:    kindDone,
			reason:  cmp.Or(done.Reason, v1alpha1.ReasonReconciled),
			message: cmp.Or(done.Message, "everything is as the spec asks for"),
			after:   done.After,
			notice:  done.Notice,
			unsaid:  done.Reason == "",
		}
	}
	result := failure(err)
	result.message = Scrub(err.Error())
	result.err = scrubbed{message: result.message, cause: err}
	result.notice = done.Notice
	if done.After > 0 && (result.after == 0 || done.After < result.after) {
		result.after = done.After
	}
	return result
}

func failure(err error) outcome {
	var (
		terminal  Terminal
		waiting   Waiting
		transient Transient
		limited   RateLimited
		suspended Suspended
		intent    Intent
	)
	switch {
	case errors.As(err, &intent):
		return outcome{kind: kindWaiting, reason: intent.Reason, after: defaultWait, then: intent.Then}
	case errors.As(err, &suspended):
		return outcome{kind: kindSuspended, reason: v1alpha1.ReasonSuspended, elsewhere: suspended.Elsewhere}
	case errors.As(err, &terminal):
		return outcome{kind: kindTerminal, reason: terminal.Reason, after: terminal.After}
	case errors.As(err, &waiting):
		return outcome{kind: kindWaiting, reason: waiting.Reason, after: cmp.Or(waiting.After, defaultWait)}
	case errors.As(err, &limited):
		return outcome{
			kind:   kindRateLimited,
			reason: cmp.Or(limited.Reason, v1alpha1.ReasonRateLimited),
			after:  cmp.Or(limited.After, defaultWait),
		}
	case errors.As(err, &transient):
		return outcome{kind: kindTransient, reason: transient.Reason}
	default:
		return outcome{kind: kindTransient, reason: v1alpha1.ReasonInternalError}
	}
}
