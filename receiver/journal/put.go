package journal

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var errIncomplete = errors.New("the log did not take all records")

// RefusedError says which calls have a record that a log will never take, whatever is done about
// the log: one that is too large, or that cannot be encoded. All other records were written.
type RefusedError struct {
	// Reasons by the key of the call. They hold no ids and no numbers.
	Reasons map[string]string
}

// Error implements error.
func (r *RefusedError) Error() string {
	return fmt.Sprintf("the log refuses records of %d calls for good", len(r.Reasons))
}

func (r *RefusedError) add(key string, err error) {
	if r.Reasons == nil {
		r.Reasons = make(map[string]string)
	}
	r.Reasons[key] = err.Error()
}

// orNil is the error to return.
func (r *RefusedError) orNil() error {
	if len(r.Reasons) == 0 {
		return nil
	}
	return r
}

// keyed is a message on its way to a log.
type keyed struct {
	*nats.Msg
	// key of the call that it belongs to; empty for the head of a partition.
	key string
}

// Codes of the JetStream API, ADR-7.
const (
	codeHeaderTooLarge  = 10097
	codeMessageTooLarge = 10054
	// codeWrongSequenceConstant is the code of a wrong last sequence where the right one is not told.
	codeWrongSequenceConstant = 10164
)

// permanent reports whether a record was refused for what it is, so that it will be refused
// whenever it is offered.
func permanent(err error) bool {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return false
	case errors.Is(err, nats.ErrMaxPayload):
		return true
	case !errors.As(err, &api):
		return false
	default:
		return api.ErrorCode == codeHeaderTooLarge || api.ErrorCode == codeMessageTooLarge || api.Code == http.StatusBadRequest && !passes(api)
	}
}

// passes reports whether a refusal depends on the state of the log.
func passes(err *jetstream.APIError) bool {
	return isWrongSequence(err) || strings.Contains(err.Description, "exceeded")
}

// reasonOf is what the server says, without what was sent.
func reasonOf(err error) error {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return errors.New(api.Description)
	}
	return nats.ErrMaxPayload
}
