package journal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// putChunk is how many records are written before an answer is waited for.
const putChunk = 500

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
	// key of the call, or of the agent, that it belongs to.
	key string
}

// putAll writes messages to a log that nobody else writes to. The error is a RefusedError, or one
// that may pass.
func (j *Journal) putAll(ctx context.Context, log Log, messages []keyed) error {
	var refused RefusedError
	for chunk := range slices.Chunk(messages, putChunk) {
		err := j.putChunk(ctx, log, chunk)
		if errors.Is(err, errIncomplete) || permanent(err) || log == Legs && errors.Is(err, ErrFull) {
			err = j.putEach(ctx, log, chunk, &refused)
		}
		if err != nil {
			return err
		}
	}
	j.changes[log].notify()
	return refused.orNil()
}

// putChunk sends messages one after the other and asks for one answer, to the last of them. As
// nobody else writes, its sequence says whether all were taken.
func (j *Journal) putChunk(ctx context.Context, log Log, messages []keyed) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	last := len(messages) - 1
	for _, m := range messages[:last] {
		if err := j.conn.PublishMsg(m.Msg); err != nil {
			return j.storeError(log, err)
		}
	}
	ack, err := j.js.PublishMsg(ctx, messages[last].Msg, jetstream.WithRetryAttempts(0))
	if err = j.storeError(log, err); err != nil {
		return err
	}
	want := j.lastPut[log] + uint64(len(messages))
	j.lastPut[log] = ack.Sequence
	if ack.Sequence != want {
		return fmt.Errorf("%w: the last of %d records has sequence %d, not %d", errIncomplete, len(messages), ack.Sequence, want)
	}
	return nil
}

// putEach writes messages one by one, to find those that are refused, or to make room for each.
func (j *Journal) putEach(ctx context.Context, log Log, messages []keyed, refused *RefusedError) error {
	for _, m := range messages {
		sequence, err := j.putOne(ctx, log, m)
		if errors.Is(err, ErrFull) && log == Legs {
			if err = j.tend(ctx, log, false); err == nil {
				sequence, err = j.putOne(ctx, log, m)
			}
		}
		switch {
		case err == nil:
			j.lastPut[log] = sequence
		case permanent(err):
			refused.add(m.key, reasonOf(err))
		default:
			return err
		}
	}
	return nil
}

func (j *Journal) putOne(ctx context.Context, log Log, m keyed) (sequence uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	ack, err := j.js.PublishMsg(ctx, m.Msg, jetstream.WithRetryAttempts(0))
	if err = j.storeError(log, err); err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// Codes of the JetStream API, ADR-7.
const (
	codeHeaderTooLarge  = 10097
	codeMessageTooLarge = 10054
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
	return err.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || strings.Contains(err.Description, "exceeded")
}

// reasonOf is what the server says, without what was sent.
func reasonOf(err error) error {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return errors.New(api.Description)
	}
	return nats.ErrMaxPayload
}
