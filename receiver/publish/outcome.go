package publish

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// errGone says that nobody wants to see the leg any more: its integration or its namespace is going
// away.
var errGone = errors.New("the integration is being deleted")

// outcome is what an error of the API server means for a leg.
type outcome int

const (
	// written: done.
	written outcome = iota
	// later: the server, or the way to it, is in trouble. The leg waits.
	later
	// refused: the server will never take this object. The leg stays in the log.
	refused
	// gone: nobody wants it any more.
	gone
)

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return written
	case errors.Is(err, errGone), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), namespaceMissing(err):
		return gone
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		return refused
	default:
		return later
	}
}

// manyFailures of one leg, while others are written, are the leg's own fault. With the pauses
// between them they take minutes.
const manyFailures = 20

// refusedInEffect reports whether a leg is refused by an answer that usually passes: by an
// admission policy, a quota, a failing webhook. Only an answer of the server counts, and only while
// it takes other legs.
func refusedInEffect(err error, history trouble, succeeded int64) bool {
	if history.failures < manyFailures || succeeded == history.before {
		return false
	}
	code := codeOf(err)
	return code == http.StatusForbidden || code == http.StatusInternalServerError
}

func namespaceMissing(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return status.Status().Details.Kind == "namespaces"
}

// codeOf is the HTTP status of an error, 0 for one that is no answer.
func codeOf(err error) int {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return 0
	}
	return int(status.Status().Code)
}

// retryAfter is how long the server asks to be left alone.
func retryAfter(err error) time.Duration {
	seconds, ok := apierrors.SuggestsClientDelay(err)
	if !ok {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// refusal says why an object was refused without repeating what is in it: the fields, else the
// reason.
func refusal(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return err.Error()
	}
	var fields []string
	if details := status.Status().Details; details != nil {
		for _, cause := range details.Causes {
			if cause.Field != "" && !slices.Contains(fields, cause.Field) {
				fields = append(fields, cause.Field)
			}
		}
	}
	if len(fields) == 0 {
		return string(status.Status().Reason)
	}
	return strings.Join(fields, ", ")
}
