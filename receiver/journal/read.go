package journal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	readTimeout  = 5 * time.Second
	maxReadBytes = 2 << 20

	headerSequence = "Nats-Sequence"
	headerSubject  = "Nats-Subject"
	headerTime     = "Nats-Time-Stamp"
	statusEnd      = "204"
	statusNotFound = "404"
	statusTooMany  = "413"
)

var (
	errUnreadable = errors.New("the log cannot be read")
	errTooMany    = errors.New("too many records answer to the request")
)

// directGet is a request of JetStream's direct get interface, ADR-31.
type directGet struct {
	Sequence uint64 `json:"seq,omitempty"`
	Last     string `json:"last_by_subj,omitempty"`
	Next     string `json:"next_by_subj,omitempty"`
	Batch    int    `json:"batch,omitempty"`
	MaxBytes int    `json:"max_bytes,omitempty"`
	// MultiLast finds records by the index of subjects, where Next reads the log until it meets one.
	MultiLast []string `json:"multi_last,omitempty"`
}

// message is one record of a log.
type message struct {
	sequence uint64
	subject  string
	stored   time.Time
	header   nats.Header
	data     []byte
	// damage says why the record cannot be read; nil if it can.
	damage error
}

var errDamaged = errors.New("the record is damaged")

// read returns up to limit records from the given sequence on, in order. None: there are no more.
// The server takes a record that it cannot read for the end of the log; here it is returned as
// damaged.
func (j *Journal) read(ctx context.Context, log Log, from uint64, limit int) ([]message, error) {
	from = max(from, 1)
	messages, err := j.readBatch(ctx, log, directGet{Sequence: from, Batch: limit, MaxBytes: maxReadBytes})
	if err != nil || len(messages) > 0 {
		return messages, err
	}
	stats, err := j.Stats(ctx, log)
	if err != nil || from < stats.First || from > stats.Last {
		return nil, err
	}
	// It may have come in since the log was read.
	messages, err = j.readBatch(ctx, log, directGet{Sequence: from, Batch: limit, MaxBytes: maxReadBytes})
	if err != nil || len(messages) > 0 {
		return messages, err
	}
	return j.unreadable(ctx, log, from)
}

// unreadable returns the first record from the given sequence on that is in the log: it cannot be
// read, unless the log has several copies, of which another one has it. There is none where all that followed was deleted.
func (j *Journal) unreadable(ctx context.Context, log Log, from uint64) ([]message, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	stream, err := j.js.Stream(ctx, j.streamOf(log))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	info, err := stream.Info(ctx, jetstream.WithDeletedDetails(true))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	for sequence := from; sequence <= info.State.LastSeq; sequence++ {
		if _, deleted := slices.BinarySearch(info.State.Deleted, sequence); deleted {
			continue
		}
		if j.config.Replicas == 1 {
			return []message{{sequence: sequence, damage: errDamaged}}, nil
		}
		m, err := j.readFromLeader(ctx, log, sequence)
		return []message{m}, err
	}
	return nil, nil
}

// skipDamaged counts and reports a record that cannot be read.
func (j *Journal) skipDamaged(log Log, sequence uint64, err error) {
	j.damaged.Add(1)
	j.config.Logger.Error("a record cannot be read and is skipped", "log", log, "sequence", sequence, "error", err)
}

func (j *Journal) readBatch(ctx context.Context, log Log, request directGet) ([]message, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	inbox := j.conn.NewRespInbox()
	subscription, err := j.conn.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	defer func() { _ = subscription.Unsubscribe() }() // a lost connection has no subscription any more
	if err := j.requestDirect(log, inbox, request); err != nil {
		return nil, err
	}
	var messages []message
	for {
		reply, err := subscription.NextMsgWithContext(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUnreadable, err)
		}
		switch reply.Header.Get("Status") {
		case "":
			m, err := parseMessage(reply)
			if err != nil {
				return nil, err
			}
			messages = append(messages, m)
		case statusEnd, statusNotFound:
			return messages, nil
		case statusTooMany:
			return nil, errTooMany
		default:
			return nil, fmt.Errorf("%w: %s %s", errUnreadable, reply.Header.Get("Status"), reply.Header.Get("Description"))
		}
	}
}

func (j *Journal) requestDirect(log Log, reply string, request directGet) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("cannot encode a read request: %w", err)
	}
	if err := j.conn.PublishRequest("$JS.API.DIRECT.GET."+j.streamOf(log), reply, body); err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return nil
}

// readEach sends the requests at once and returns their answers in any order. What is not found is
// left out.
func (j *Journal) readEach(ctx context.Context, log Log, requests []directGet) ([]message, error) {
	if len(requests) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	inbox := j.conn.NewRespInbox()
	subscription, err := j.conn.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	defer func() { _ = subscription.Unsubscribe() }() // a lost connection has no subscription any more
	for _, request := range requests {
		if err := j.requestDirect(log, inbox, request); err != nil {
			return nil, err
		}
	}
	messages := make([]message, 0, len(requests))
	for range requests {
		reply, err := subscription.NextMsgWithContext(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUnreadable, err)
		}
		switch status := reply.Header.Get("Status"); status {
		case statusNotFound:
		case "":
			m, err := parseMessage(reply)
			if err != nil {
				return nil, err
			}
			messages = append(messages, m)
		default:
			return nil, fmt.Errorf("%w: %s %s", errUnreadable, status, reply.Header.Get("Description"))
		}
	}
	return messages, nil
}

func parseMessage(reply *nats.Msg) (message, error) {
	sequence, err := strconv.ParseUint(reply.Header.Get(headerSequence), 10, 64)
	if err != nil {
		return message{}, fmt.Errorf("%w: a record without a sequence: %w", errUnreadable, err)
	}
	stored, err := time.Parse(time.RFC3339Nano, reply.Header.Get(headerTime))
	if err != nil {
		return message{}, fmt.Errorf("%w: a record without a time: %w", errUnreadable, err)
	}
	return message{
		sequence: sequence, subject: reply.Header.Get(headerSubject), stored: stored, header: reply.Header, data: reply.Data,
	}, nil
}

// Group is one commit of the EVENTS log.
type Group struct {
	Sequence uint64
	// Entries as they were read from the log. Empty where Decoded stands in for them.
	Entries []Entry
	// Decoded are the contents of a group that was not read from the log, because they are in
	// memory still.
	Decoded []Decoded
	// Bytes is its size in the log.
	Bytes int
	// Stored is when it was written; zero where it was not read from the log.
	Stored time.Time
	// Err says why entries are missing: a damaged record, or one of a newer receiver.
	Err error
}

// ReadEvents returns up to limit groups of all partitions from the given sequence on, in order, as
// they are in the log. None: there are no more.
func (j *Journal) ReadEvents(ctx context.Context, from uint64, limit int) ([]Group, error) {
	messages, err := j.read(ctx, Events, from, limit)
	groups := make([]Group, len(messages))
	for i, raw := range j.rawGroups(messages) {
		groups[i] = raw.decode(func(frame) bool { return true })
		groups[i].Err = cmp.Or(groups[i].Err, raw.err)
	}
	return groups, err
}
