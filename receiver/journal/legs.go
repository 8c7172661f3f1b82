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
	// headerPositions lists the EVENTS sequences of a call's events, each as the distance from the one before.
	headerPositions = "Pbx-Positions"
	// headerTicks holds the ticks that joined the call, as JSON; it is left out without any.
	headerTicks = "Pbx-Ticks"
	// headerThrough is the EVENTS sequence up to which the pass that wrote this record had read.
	headerThrough = "Pbx-Through"

	// putChunk is how many records are written before an answer is waited for.
	putChunk = 500
	// maxPartyLegs bounds the legs of one call that are read back.
	maxPartyLegs = 1000
)

// SettleTime is how long after PutLegs a record is certain to be on disk, if the generation of the journal is still the same: the log
// is synced every second.
const SettleTime = 5 * time.Second

var errLegsMissing = errors.New("the LEGS log did not take all records")

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
	// Positions are the EVENTS sequences of the call's events, as far as they were known when the record was written.
	Positions []uint64
	// Ticks are the passings of time that joined the call; they are nowhere else.
	Ticks []callevent.Event
	// Through is the EVENTS sequence up to which the pass that wrote the record had read.
	Through uint64
}

// isStub tells a record that keeps the positions of a call without legs. Consumers do not see it.
func (r *LegRecord) isStub() bool { return r.Leg.LegID == "" }

// Stub is a record for a call that has no legs yet, so that an event that comes late finds the ones before it.
func Stub(callID string, revision int64) LegRecord {
	return LegRecord{Leg: correlation.Leg{CallID: callID, Revision: revision}}
}

// CallKey is the key of a call in the LEGS log.
func CallKey(callID string) string { return hash(callID) }

// PutLegs writes records. They are durable a few seconds later (see SettleTime), unless the generation of the journal changes before.
// Key, Seq and Stored are ignored. After an error some may have been written; writing them again is harmless.
func (j *Journal) PutLegs(ctx context.Context, records []LegRecord) error {
	if len(records) == 0 {
		return nil
	}
	for chunk := range slices.Chunk(records, putChunk) {
		if err := j.putChunk(ctx, chunk); err != nil {
			return err
		}
	}
	j.changes[Legs].notify()
	return nil
}

// putChunk sends records one after the other and asks for one answer, to the last of them. As nobody else writes, its sequence tells
// whether all were taken.
func (j *Journal) putChunk(ctx context.Context, records []LegRecord) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	last := len(records) - 1
	for i := range records[:last] {
		m, err := j.legMessage(&records[i])
		if err != nil {
			return err
		}
		if err := j.conn.PublishMsg(m); err != nil {
			return j.storeError(err)
		}
	}
	m, err := j.legMessage(&records[last])
	if err != nil {
		return err
	}
	ack, err := j.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	if err != nil {
		return j.storeError(err)
	}
	want := j.lastLeg + uint64(len(records))
	j.lastLeg = ack.Sequence
	if ack.Sequence != want {
		return fmt.Errorf("%w: the last of %d records has sequence %d, not %d", errLegsMissing, len(records), ack.Sequence, want)
	}
	return nil
}

func (j *Journal) legMessage(record *LegRecord) (*nats.Msg, error) {
	data, err := json.Marshal(&record.Leg)
	if err != nil {
		return nil, fmt.Errorf("cannot encode a leg: %w", err)
	}
	header := nats.Header{
		headerPositions: {formatPositions(record.Positions)},
		headerThrough:   {strconv.FormatUint(record.Through, 10)},
	}
	if len(record.Ticks) > 0 {
		ticks, err := json.Marshal(record.Ticks)
		if err != nil {
			return nil, fmt.Errorf("cannot encode the ticks of a leg: %w", err)
		}
		header[headerTicks] = []string{string(ticks)}
	}
	return &nats.Msg{Subject: j.names.key(Legs, hash(record.Leg.CallID), hash(record.Leg.LegID)), Header: header, Data: data}, nil
}

func formatPositions(positions []uint64) string {
	var text []byte
	var previous uint64
	for i, position := range positions {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(text, int64(position-previous), 10)
		previous = position
	}
	return string(text)
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
			return nil, fmt.Errorf("%w: positions: %w", errLegRecord, err)
		}
		previous += uint64(step)
		positions[i] = previous
	}
	return positions, nil
}

func (j *Journal) parseLeg(m message) (LegRecord, error) {
	record := LegRecord{
		Key: strings.TrimPrefix(m.subject, j.names.subject(Legs)+"."), Seq: m.sequence, Stored: m.stored,
	}
	if err := json.Unmarshal(m.data, &record.Leg); err != nil {
		return LegRecord{}, fmt.Errorf("%w: %w", errLegRecord, err)
	}
	if ticks := m.header.Get(headerTicks); ticks != "" {
		if err := json.Unmarshal([]byte(ticks), &record.Ticks); err != nil {
			return LegRecord{}, fmt.Errorf("%w: ticks: %w", errLegRecord, err)
		}
	}
	var err error
	if record.Positions, err = parsePositions(m.header.Get(headerPositions)); err != nil {
		return LegRecord{}, err
	}
	if record.Through, err = strconv.ParseUint(m.header.Get(headerThrough), 10, 64); err != nil {
		return LegRecord{}, fmt.Errorf("%w: through: %w", errLegRecord, err)
	}
	return record, nil
}

func (j *Journal) parseLegs(messages []message) ([]LegRecord, error) {
	records := make([]LegRecord, 0, len(messages))
	for _, m := range messages {
		record, err := j.parseLeg(m)
		if err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	return records, nil
}

// CallKeys tells yield the key of every call that has records in the LEGS log, some of them more than once.
func (j *Journal) CallKeys(ctx context.Context, yield func(callKey string)) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	stream, err := j.js.Stream(ctx, j.names.streamOf(Legs))
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	before := stream.CachedInfo().State.FirstSeq
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(j.names.key(Legs, ">")))
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if info.State.FirstSeq != before {
		return fmt.Errorf("%w: it was trimmed meanwhile, and keys may be missing", errUnreadable)
	}
	for subject := range info.State.Subjects {
		key, _, _ := strings.Cut(strings.TrimPrefix(subject, j.names.subject(Legs)+"."), ".")
		yield(key)
	}
	return nil
}

// KnownCalls returns, for those of the calls that have legs in the log, the newest record, by the key of the call.
func (j *Journal) KnownCalls(ctx context.Context, callKeys []string) (map[string]LegRecord, error) {
	requests := make([]directGet, len(callKeys))
	for i, key := range callKeys {
		requests[i] = directGet{Last: j.names.key(Legs, key, "*")}
	}
	messages, err := j.readEach(ctx, Legs, requests)
	if err != nil {
		return nil, err
	}
	records, err := j.parseLegs(messages)
	known := make(map[string]LegRecord, len(records))
	for _, record := range records {
		known[hash(record.Leg.CallID)] = record
	}
	return known, err
}

// LegsOfCall returns the newest revision of every leg of a call.
func (j *Journal) LegsOfCall(ctx context.Context, callKey string) ([]LegRecord, error) {
	messages, err := j.readBatch(ctx, Legs, directGet{Sequence: 1, Next: j.names.key(Legs, callKey, "*"), Batch: maxPartyLegs, MaxBytes: maxReadBytes})
	if err != nil {
		return nil, err
	}
	records, err := j.parseLegs(messages)
	return slices.DeleteFunc(records, func(r LegRecord) bool { return r.isStub() }), err
}

// LegsThrough is the EVENTS sequence up to which the newest record of the LEGS log had read, 0 if there is none.
func (j *Journal) LegsThrough(ctx context.Context) (uint64, error) {
	messages, err := j.readEach(ctx, Legs, []directGet{{Last: j.names.key(Legs, ">")}})
	if err != nil || len(messages) == 0 {
		return 0, err
	}
	record, err := j.parseLeg(messages[0])
	return record.Through, err
}

// ConsumeLegs hands the newest revision of every leg to handle, at least once, until ctx ends. Up to four batches of up to 256 legs are
// in flight at a time. When handle fails, the legs of its batch come again after a pause, or newer revisions of them. Progress is kept
// under the durable name.
func (j *Journal) ConsumeLegs(ctx context.Context, durable string, handle func(context.Context, []LegRecord) error) error {
	return j.consume(ctx, Legs, durable, func(ctx context.Context, messages []message) error {
		records, err := j.parseLegs(messages)
		if err != nil {
			return err
		}
		records = slices.DeleteFunc(records, func(r LegRecord) bool { return r.isStub() })
		if len(records) == 0 {
			return nil
		}
		return handle(ctx, records)
	})
}
