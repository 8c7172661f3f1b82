package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// chunkTimeout is how long one part of a copy may take.
const chunkTimeout = 30 * time.Second

// copier copies logs from one JetStream to another as snapshots, which keep the sequences of the
// records: readers have noted them.
type copier struct {
	from, to *nats.Conn
}

// copy makes a log as configured, with the records of the log of the same name. It is there when
// all of it is.
func (c *copier) copy(ctx context.Context, config jetstream.StreamConfig) error {
	inbox := c.from.NewRespInbox()
	chunks, err := c.from.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("cannot copy the log %s: %w", config.Name, err)
	}
	defer func() { _ = chunks.Unsubscribe() }() // a lost connection has no subscription any more
	var snapshot struct {
		apiError
		State json.RawMessage `json:"state"`
	}
	err = ask(ctx, c.from, "$JS.API.STREAM.SNAPSHOT."+config.Name, map[string]any{"deliver_subject": inbox, "no_consumers": true}, &snapshot)
	if err != nil {
		return fmt.Errorf("cannot copy the log %s: %w", config.Name, err)
	}
	var restore struct {
		apiError
		DeliverSubject string `json:"deliver_subject"`
	}
	err = ask(ctx, c.to, "$JS.API.STREAM.RESTORE."+config.Name, map[string]any{"config": config, "state": snapshot.State}, &restore)
	if err != nil {
		return fmt.Errorf("cannot make the log %s from a copy: %w", config.Name, err)
	}
	if err := c.pass(ctx, chunks, restore.DeliverSubject); err != nil {
		return fmt.Errorf("cannot copy the log %s: %w", config.Name, err)
	}
	return nil
}

// pass hands the chunks on, one after the other.
func (c *copier) pass(ctx context.Context, chunks *nats.Subscription, subject string) error {
	for {
		limited, cancel := context.WithTimeout(ctx, chunkTimeout)
		chunk, err := chunks.NextMsgWithContext(limited)
		cancel()
		switch {
		case err != nil:
			return err
		case len(chunk.Data) > 0:
			if err := c.hand(ctx, subject, chunk.Data); err != nil {
				return err
			}
			if err := chunk.Respond(nil); err != nil && !errors.Is(err, nats.ErrMsgNoReply) { // the last one wants none
				return err
			}
		case chunk.Header.Get("Status") != "" && chunk.Header.Get("Status") != statusEnd:
			return errors.New("the copy is not complete: " + chunk.Header.Get("Description"))
		default:
			return c.hand(ctx, subject, nil)
		}
	}
}

// hand gives one chunk to whoever makes the log. It may be another member, of whose subscription
// this one does not know yet.
func (c *copier) hand(ctx context.Context, subject string, chunk []byte) error {
	ctx, cancel := context.WithTimeout(ctx, chunkTimeout)
	defer cancel()
	for {
		err := ask(ctx, c.to, subject, chunk, &struct{ apiError }{})
		if !errors.Is(err, nats.ErrNoResponders) || !waitFor(ctx, nil, joinPause) {
			return err
		}
	}
}

// apiError is the part of all answers of JetStream that says what is wrong.
type apiError struct {
	Error *jetstream.APIError `json:"error"`
}

func (e *apiError) failure() error {
	if e.Error == nil {
		return nil
	}
	return e.Error
}

// ask sends a request, as JSON unless it is in bytes already, and reads the answer, if it says
// anything.
func ask(ctx context.Context, conn *nats.Conn, subject string, request any, answer interface{ failure() error }) error {
	body, plain := request.([]byte)
	if !plain {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return fmt.Errorf("cannot encode a request: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, chunkTimeout)
	defer cancel()
	reply, err := conn.RequestWithContext(ctx, subject, body)
	if err != nil || len(reply.Data) == 0 {
		return err
	}
	if err := json.Unmarshal(reply.Data, answer); err != nil {
		return fmt.Errorf("cannot read an answer: %w", err)
	}
	return answer.failure()
}
