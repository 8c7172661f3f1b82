package ringme

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

// Values of the member status of an error (RingMe: API Request Rules).
const (
	statusRateLimit  = "rate_limit_exceeded"
	statusEventLimit = "limit_exceeded"
)

const (
	// shortBackOff follows a 429 that is not about the hourly quota.
	shortBackOff = 5 * time.Second
	// quotaBackOff follows a used-up quota without a word about its reset.
	quotaBackOff = time.Minute
	// longestBackOff bounds what a header may ask for: the quota is counted by the hour.
	longestBackOff = time.Hour
)

// problem is the body of an error.
type problem struct {
	Message string `json:"message"`
	Status  string `json:"status"`
}

func (p problem) String() string {
	switch {
	case p.Message != "" && p.Status != "":
		return fmt.Sprintf("%s (%s)", p.Message, p.Status)
	default:
		return cmp.Or(p.Message, p.Status)
	}
}

// answerError is the error that an answer other than 2xx stands for.
func answerError(op string, response *http.Response, body []byte) error {
	var said problem
	_ = json.Unmarshal(body, &said) // a proxy may answer with a page of HTML: then the code has to do
	if response.StatusCode == http.StatusTooManyRequests {
		return &pbxapi.RateLimitedError{After: backOff(response.Header, said), ByPBX: true}
	}
	detail := fmt.Sprintf("HTTP %d", response.StatusCode)
	if text := said.String(); text != "" {
		detail += ": " + text
	}
	return pbxapi.NewError(kindOf(response.StatusCode, said), op, detail)
}

func kindOf(code int, said problem) error {
	switch {
	case code >= 500, code == http.StatusRequestTimeout:
		return pbxapi.ErrUnreachable
	case said.Status == statusEventLimit:
		return pbxapi.ErrLimitReached
	case code == http.StatusUnauthorized:
		return pbxapi.ErrUnauthorized
	case code == http.StatusForbidden:
		return pbxapi.ErrForbidden
	case code == http.StatusNotFound:
		return pbxapi.ErrNotFound
	default:
		return pbxapi.ErrRejected
	}
}

// backOff follows the reset header of the hourly quota. Any other 429 means that some other request
// is still running.
func backOff(header http.Header, said problem) time.Duration {
	retryAfter := seconds(header.Get("Retry-After"))
	if said.Status != statusRateLimit {
		return min(cmp.Or(retryAfter, shortBackOff), longestBackOff)
	}
	reset := seconds(header.Get("X-RateLimit-Reset"))
	return min(cmp.Or(reset, retryAfter, quotaBackOff), longestBackOff)
}

func seconds(text string) time.Duration {
	number, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0
	}
	return time.Duration(number) * time.Second
}

func isNotFound(err error) bool { return errors.Is(err, pbxapi.ErrNotFound) }
