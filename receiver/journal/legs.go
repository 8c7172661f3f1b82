package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

const (
	// Headers of the form that earlier receivers wrote.
	headerPositions = "Pbx-Positions"
	headerTicks     = "Pbx-Ticks"
	headerThrough   = "Pbx-Through"

	// subjectsPage is how many subjects the server tells of at once. More of them are not told at one
	// moment.
	subjectsPage = 100_000

	// maxPartyLegs bounds the legs of one call that are read back.
	maxPartyLegs = 1000
)

// SettleTime is how long after PutLegs or PutCalls a record is certain to be on disk, if the
// generation of the journal is still the same: these logs are synced several times a second.
const SettleTime = 2 * time.Second

var errLegRecord = errors.New("a record of the LEGS log cannot be read")

// LegRecord is one record of the LEGS log: the newest revision of one leg.
type LegRecord struct {
	// Key tells legs apart: it is the same for all revisions of a leg.
	Key string
	Leg correlation.Leg
	// Seq grows with every record written.
	Seq uint64
	// Stored is the time at which the record was written.
	Stored time.Time
	// Positions are the EVENTS sequences of the call's events, as far as they were known when the
	// record was written.
	Positions []uint64
	// Ticks are the passings of time that joined the call; they are nowhere else.
	Ticks []callevent.Event
	// Incomplete tells that there were too many positions or ticks to keep: the legs of the call
	// cannot be derived any more.
	Incomplete bool
	// Instance tells calls apart that the PBX gave the same id one after the other; empty for the
	// first of them. It is part of the leg ids.
	Instance string
	// Through is the EVENTS sequence up to which the pass that wrote the record had read.
	Through uint64
}

// isStub reports whether a record keeps the positions of a call without legs. Consumers do not see
// it.
func (r *LegRecord) isStub() bool { return r.Leg.LegID == "" }

// Stub is a record for a call that has no legs yet, so that an event that comes late finds the ones
// before it.
func Stub(callID string, revision int64) LegRecord {
	return LegRecord{Leg: correlation.Leg{CallID: callID, Revision: revision}}
}

// CallKey is the key of a call in the LEGS log.
func CallKey(callID string) string { return hash(callID) }

// legMessages are the records as they are written. Those that cannot be encoded are refused.
func (j *Journal) legMessages(records []LegRecord) ([]keyed, *RefusedError) {
	refused := &RefusedError{}
	messages := make([]keyed, 0, len(records))
	var encoded []byte
	for i := range records {
		leg := &records[i].Leg
		key := hash(leg.CallID)
		var err error
		encoded, err = appendLeg(encoded[:0], &records[i])
		if err != nil {
			refused.add(key, errLegRecord)
			continue
		}
		messages = append(messages, keyed{key: key, Msg: &nats.Msg{Subject: j.names.key(Legs, key, hash(leg.LegID)), Data: slices.Clone(encoded)}})
	}
	return messages, refused
}

func parsePositions(text string) ([]uint64, error) {
	if text == "" {
		return nil, nil
	}
	parts := strings.Split(text, ",")
	positions := make([]uint64, len(parts))
	var previous uint64
	for i, part := range parts {
		step, err := strconv.ParseInt(part, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("positions: %w", err)
		}
		previous += uint64(step)
		positions[i] = previous
	}
	return positions, nil
}

func (j *Journal) parseLeg(m message) (LegRecord, error) {
	if m.damage != nil {
		return LegRecord{}, m.damage
	}
	record := LegRecord{
		Key: strings.TrimPrefix(m.subject, j.names.subject(Legs)+"."), Seq: m.sequence, Stored: m.stored,
	}
	rest := m.data
	var err error
	if len(rest) > 0 && rest[0] == legVersion {
		rest, err = parseLegBody(rest[1:], &record)
	} else {
		err = parseLegHeaders(m.header, &record)
	}
	if err == nil {
		err = json.Unmarshal(rest, &record.Leg)
	}
	if err != nil {
		return LegRecord{}, fmt.Errorf("%w: %w", errLegRecord, err)
	}
	for i := range record.Ticks {
		record.Ticks[i] = correlation.NewTick(record.Ticks[i].Type, record.Leg.CallID, record.Ticks[i].LegID, record.Ticks[i].Time)
	}
	return record, nil
}

// parseLegHeaders reads what earlier receivers wrote into the headers.
func parseLegHeaders(header nats.Header, record *LegRecord) (err error) {
	if ticks := header.Get(headerTicks); ticks != "" {
		if err := json.Unmarshal([]byte(ticks), &record.Ticks); err != nil {
			return fmt.Errorf("ticks: %w", err)
		}
	}
	if record.Positions, err = parsePositions(header.Get(headerPositions)); err != nil {
		return err
	}
	if record.Through, err = strconv.ParseUint(header.Get(headerThrough), 10, 64); err != nil {
		return fmt.Errorf("through: %w", err)
	}
	return nil
}

// parseLegs reads records. Damaged ones are skipped and counted.
func (j *Journal) parseLegs(messages []message) []LegRecord {
	records := make([]LegRecord, 0, len(messages))
	for _, m := range messages {
		if j.isHead(Legs, m.subject) {
			continue
		}
		record, err := j.parseLeg(m)
		if err != nil {
			j.skipDamaged(Legs, m.sequence, err)
			continue
		}
		records = append(records, record)
	}
	return records
}

// CallKeys tells yield the key of every call that has records in the LEGS log, some of them more
// than once.
func (j *Journal) CallKeys(ctx context.Context, yield func(callKey string)) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	stream, err := j.js.Stream(ctx, j.streamOf(Legs))
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	before := stream.CachedInfo().State.FirstSeq
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(j.names.key(Legs, ">")))
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if len(info.State.Subjects) >= subjectsPage && info.State.FirstSeq != before {
		return fmt.Errorf("%w: it was trimmed meanwhile, and keys may be missing", errUnreadable)
	}
	for subject := range info.State.Subjects {
		if j.isHead(Legs, subject) {
			continue
		}
		key, _, _ := strings.Cut(strings.TrimPrefix(subject, j.names.subject(Legs)+"."), ".")
		yield(key)
	}
	return nil
}

// KnownCalls returns, for those of the calls that have legs in the log, the newest record, by the
// key of the call.
func (j *Journal) KnownCalls(ctx context.Context, callKeys []string) (map[string]LegRecord, error) {
	requests := make([]directGet, len(callKeys))
	for i, key := range callKeys {
		requests[i] = directGet{Last: j.names.key(Legs, key, "*")}
	}
	messages, err := j.readEach(ctx, Legs, requests)
	if err != nil {
		return nil, err
	}
	known := make(map[string]LegRecord, len(messages))
	for _, record := range j.parseLegs(messages) {
		known[hash(record.Leg.CallID)] = record
	}
	return known, nil
}

// LegsOfCall returns the newest revision of every leg of a call.
func (j *Journal) LegsOfCall(ctx context.Context, callKey string) ([]LegRecord, error) {
	subject := j.names.key(Legs, callKey, "*")
	messages, err := j.readBatch(ctx, Legs, directGet{MultiLast: []string{subject}, Batch: maxPartyLegs, MaxBytes: maxReadBytes})
	if errors.Is(err, errTooMany) {
		messages, err = j.readBatch(ctx, Legs, directGet{Sequence: 1, Next: subject, Batch: maxPartyLegs, MaxBytes: maxReadBytes})
	}
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(j.parseLegs(messages), func(r LegRecord) bool { return r.isStub() }), nil
}

// ConsumeLegs hands the newest revision of every leg to handle, at least once, until ctx ends. Up
// to four batches of up to 256 legs are in flight at a time. When handle fails, the legs of its
// batch come again after a pause, or newer revisions of them. Progress is kept under the durable
// name.
func (j *Journal) ConsumeLegs(ctx context.Context, durable string, handle func(context.Context, []LegRecord) error) error {
	return j.consume(ctx, Legs, durable, func(ctx context.Context, messages []message) error {
		records := slices.DeleteFunc(j.parseLegs(messages), func(r LegRecord) bool { return r.isStub() })
		if len(records) == 0 {
			return nil
		}
		return handle(ctx, records)
	})
}
