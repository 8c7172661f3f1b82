package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// storedMessage is a record as the leader of a log returns it.
type storedMessage struct {
	Subject  string    `json:"subject"`
	Sequence uint64    `json:"seq"`
	Header   []byte    `json:"hdrs"`
	Data     []byte    `json:"data"`
	Time     time.Time `json:"time"`
}

// readFromLeader returns a record that the copy of the log which was read has not shown: copies lag
// behind the leader, which has all that was acknowledged. What it cannot read either is damaged.
func (j *Journal) readFromLeader(ctx context.Context, log Log, sequence uint64) (message, error) {
	body, err := json.Marshal(directGet{Sequence: sequence})
	if err != nil {
		return message{}, fmt.Errorf("cannot encode a read request: %w", err)
	}
	reply, err := j.conn.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+j.streamOf(log), body)
	if err != nil {
		return message{}, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *storedMessage      `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return message{}, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if answer.Message == nil {
		return message{sequence: sequence, damage: errDamaged}, nil
	}
	m := message{sequence: sequence, subject: answer.Message.Subject, stored: answer.Message.Time, data: answer.Message.Data}
	if len(answer.Message.Header) > 0 {
		if m.header, err = nats.DecodeHeadersMsg(answer.Message.Header); err != nil {
			return message{sequence: sequence, damage: errDamaged}, nil //nolint:nilerr // the error is part of the message
		}
	}
	return m, nil
}
