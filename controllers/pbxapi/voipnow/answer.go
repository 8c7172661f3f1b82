package voipnow

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// Codes of errors (UnifiedAPI: Create PhoneCallEvents, Delete PhoneCallEvents).
const (
	codeExtension  = "extension_invalid"
	codeEventType  = "pcet_type_invalid"
	codeUnknownPCE = "pce_id_invalid"
)

const (
	// shortBackOff follows a 429 or 503 that does not say when to come back. The documents give no
	// limits.
	shortBackOff = 5 * time.Second
	// longestBackOff bounds what a header may ask for.
	longestBackOff = time.Hour
)

// problem is what the body of an error says. UnifiedAPI puts an object into its member error, OAuth
// a word.
type problem struct {
	Code    text   `json:"code"`
	Message string `json:"message"`
}

func problemIn(body []byte) problem {
	var wire struct {
		Error       json.RawMessage `json:"error"`
		Description string          `json:"error_description"`
	}
	_ = json.Unmarshal(body, &wire) // a proxy may answer with a page of HTML: then the status has to do
	var said problem
	if json.Unmarshal(wire.Error, &said) == nil {
		return said
	}
	said = problem{Message: wire.Description}
	_ = json.Unmarshal(wire.Error, &said.Code) // as above
	return said
}

func (p problem) String() string {
	if p.Message != "" && p.Code != "" {
		return fmt.Sprintf("%s (%s)", p.Message, p.Code)
	}
	return cmp.Or(p.Message, string(p.Code))
}

// refusal is an error together with its code.
type refusal struct {
	error
	code string
}

func (r refusal) Unwrap() error { return r.error }

// codeOf is the code of an error; empty without one.
func codeOf(err error) string {
	refused, _ := errors.AsType[refusal](err)
	return refused.code
}

// answerError is the error that an answer other than 2xx stands for. The documents name neither 429
// nor 503. Only the first, by its own definition, is about requests that were not carried out (RFC
// 6585, 4); a 503 may come from a gateway that lost sight of one.
func answerError(op string, response *http.Response, body []byte) error {
	status := response.StatusCode
	after := backOff(response.Header.Get("Retry-After"), time.Now())
	switch status {
	case http.StatusTooManyRequests:
		return &pbxapi.RateLimitedError{After: after, ByPBX: true}
	case http.StatusServiceUnavailable:
		unavailable := pbxapi.NewError(pbxapi.ErrUnreachable, op, fmt.Sprintf("HTTP %d", status))
		unavailable.After = after
		return unavailable
	}
	said := problemIn(body)
	detail := fmt.Sprintf("HTTP %d", status)
	if text := cmp.Or(said.String(), hint(status)); text != "" {
		detail += ": " + text
	}
	return refusal{pbxapi.NewError(kindOf(status, said), op, detail), string(said.Code)}
}

// hint explains an answer that is not of the API.
func hint(status int) string {
	if status == http.StatusNotFound || status < http.StatusBadRequest {
		return "is spec.pbx.voipNow.url the address of the PBX itself?"
	}
	return ""
}

// kindOf looks at the status, then at the code. The PBX knows no 404: an unknown extension or id is
// a 400 with a code. A 404 that does not look like one of the API comes from somebody in between,
// and does not mean that a registration is gone.
func kindOf(status int, said problem) error {
	switch {
	case status == http.StatusUnauthorized:
		return pbxapi.ErrUnauthorized
	case status == http.StatusForbidden:
		return pbxapi.ErrForbidden
	case status >= 500, status == http.StatusRequestTimeout:
		return pbxapi.ErrUnreachable
	case said.Code == codeExtension, said.Code == codeUnknownPCE, status == http.StatusNotFound && said.Code != "":
		return pbxapi.ErrNotFound
	default:
		return pbxapi.ErrRejected
	}
}

// backOff follows Retry-After, which is a number of seconds or a date (RFC 9110, 10.2.3).
func backOff(retryAfter string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseUint(retryAfter, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(retryAfter); err == nil {
		wait = max(at.Sub(now), 0)
	}
	return min(cmp.Or(wait, shortBackOff), longestBackOff)
}

func ignoreNotFound(err error) error {
	if errors.Is(err, pbxapi.ErrNotFound) {
		return nil
	}
	return err
}
