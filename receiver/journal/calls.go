package journal

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/nats-io/nats.go"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

const (
	callVersion = 1
	// endOfCall is how long the mark that takes a call out of the CALLS log stays itself.
	endOfCall = "2s"
	headerTTL = "Nats-TTL"
	// maxCallBytes bounds a record that is unpacked.
	maxCallBytes = 16 << 20
)

var errCallRecord = errors.New("a record of the CALLS log cannot be read")

// CallRecord is one record of the CALLS log: an open call as it was saved, so that its events need
// not stay in the EVENTS log.
type CallRecord struct {
	// Due is when the call waits for time to pass; zero where it does not.
	Due time.Time `json:"-"`
	// Rules tells the rules apart by which Due was decided.
	Rules uint64 `json:"-"`

	CallID string `json:"callID"`
	// Instance is that of its legs, see LegRecord.
	Instance string `json:"instance,omitempty"`
	// Positions are the EVENTS sequences of the events, for as long as they are there. Incomplete
	// tells that some were left out.
	Positions  []uint64             `json:"positions,omitempty"`
	Incomplete bool                 `json:"incomplete,omitempty"`
	State      correlation.Snapshot `json:"state"`
}

// callDictionary is what all records have in common.
var callDictionary = sampleCall()

func sampleCall() []byte {
	yes, talk, at := true, time.Second, time.Unix(1_767_348_000, 0).UTC()
	party := callevent.Party{Number: "+1", Name: "n", Extension: "1234*101", ExtensionID: "5101", Local: true, Own: true}
	source := callevent.Source{Type: callevent.Phone, Number: "1234*101", ID: "5101", User: "u"}
	record := CallRecord{CallID: "c", Positions: []uint64{1}, State: correlation.Snapshot{Events: []correlation.SnapshotEvent{
		{Event: callevent.Event{
			ID: "i", Type: callevent.Hangup, CallID: "c", LegID: "l", Side: "s", ParentLegID: "p", Level: callevent.LevelEntry, Time: at, Received: at,
			Source: source, Flow: callevent.FlowOut, Status: callevent.StatusCancelled, WireStatus: "CANCEL", Caller: party, Called: party,
			Bridged: &yes, StatusOfCall: true, Lapses: true, Secondary: true, TransfersUntold: true, Repeat: time.Second, Queue: "q",
			Transferred: true, Talk: &talk, CallBackID: "b", ByUser: true, ControlID: "x", RecordingID: "r",
		}, Last: at},
		{Event: callevent.Event{
			ID: "i", Type: callevent.Answer, CallID: "c", LegID: "l", Time: at, Received: at, Source: source, Flow: callevent.FlowIn,
			Status: callevent.StatusAnswered, WireStatus: "ANSWER", Caller: callevent.Party{Number: "+1"},
			Called: callevent.Party{Number: "1234*101", Extension: "1234*101", ExtensionID: "5101", Local: true}, DID: "1",
		}},
		{Event: callevent.Event{
			ID: "i", Type: callevent.DialIn, CallID: "c", LegID: "5101-", Time: at, Received: at, Source: source, Flow: callevent.FlowIn,
			Status: callevent.StatusCalling, WireStatus: "CALLING", Caller: callevent.Party{Number: "+1"},
			Called: callevent.Party{Number: "1234*101", Extension: "1234*101", ExtensionID: "5101", Local: true}, DID: "1",
		}},
	}}}
	text, err := json.Marshal(&record)
	if err != nil {
		panic(err) // it is a constant
	}
	return text
}

func appendCall(buffer []byte, record *CallRecord) ([]byte, error) {
	text, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("cannot encode a call: %w", err)
	}
	var due int64
	if !record.Due.IsZero() {
		due = record.Due.UnixNano()
	}
	buffer = binary.AppendVarint(append(buffer, callVersion), due)
	packed := bytes.NewBuffer(binary.LittleEndian.AppendUint64(buffer, record.Rules))
	if err := flate.StatelessDeflate(packed, text, true, callDictionary); err != nil {
		return nil, fmt.Errorf("cannot pack a call: %w", err)
	}
	return packed.Bytes(), nil
}

// parseCallIndex reads what is known of a call without unpacking it.
func parseCallIndex(data []byte) (record CallRecord, rest []byte, err error) {
	if len(data) == 0 || data[0] != callVersion {
		return record, nil, fmt.Errorf("%w: unknown version", errCallRecord)
	}
	due, n := binary.Varint(data[1:])
	if rest = data[1+max(n, 0):]; n <= 0 || len(rest) < 8 {
		return record, nil, fmt.Errorf("%w: %w", errCallRecord, errTruncated)
	}
	if due != 0 {
		record.Due = time.Unix(0, due).UTC()
	}
	record.Rules = binary.LittleEndian.Uint64(rest)
	return record, rest[8:], nil
}

func parseCall(data []byte) (CallRecord, error) {
	record, packed, err := parseCallIndex(data)
	if err != nil {
		return record, err
	}
	if err := unpackCall(packed, &record); err != nil {
		return record, fmt.Errorf("%w: %w", errCallRecord, err)
	}
	return record, nil
}

// unpackers read what appendCall has packed; each has a window of 32 KiB and tables.
var unpackers = sync.Pool{New: func() any { return flate.NewReaderDict(bytes.NewReader(nil), callDictionary) }}

func unpackCall(packed []byte, record *CallRecord) error {
	unpacker, _ := unpackers.Get().(io.ReadCloser)
	defer unpackers.Put(unpacker)
	resetter, _ := unpacker.(flate.Resetter) // as all readers of this package are
	if err := resetter.Reset(bytes.NewReader(packed), callDictionary); err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(unpacker, maxCallBytes))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, record)
}

// callMessages are the records as they are written. Those that cannot be encoded are refused.
func (j *Journal) callMessages(records []CallRecord) ([]keyed, *RefusedError) {
	refused := &RefusedError{}
	messages := make([]keyed, 0, len(records))
	for i := range records {
		key := CallKey(records[i].CallID)
		data, err := appendCall(nil, &records[i])
		if err != nil {
			refused.add(key, errCallRecord)
			continue
		}
		messages = append(messages, keyed{key: key, Msg: &nats.Msg{Subject: j.names.key(Calls, key), Data: data}})
	}
	return messages, refused
}

// merge adds what the log refused to what could not be encoded.
func merge(refused *RefusedError, err error) error {
	var more *RefusedError
	if err != nil && !errors.As(err, &more) {
		return err
	}
	if more != nil {
		for key, reason := range more.Reasons {
			refused.add(key, errors.New(reason))
		}
	}
	return refused.orNil()
}

// SavedCalls tells yield of every saved call: its key, and of the record what can be told without
// reading all of it. Damaged records are skipped and counted.
func (j *Journal) SavedCalls(ctx context.Context, yield func(callKey string, record CallRecord)) error {
	for next := uint64(1); ; {
		messages, err := j.read(ctx, Calls, next, consumeBatch)
		if err != nil || len(messages) == 0 {
			return err
		}
		next = messages[len(messages)-1].sequence + 1
		for _, m := range messages {
			if left := len(m.data) == 0 && m.damage == nil; left || j.isHead(Calls, m.subject) {
				continue
			}
			record, _, err := parseCallIndex(m.data)
			if err = cmp.Or(m.damage, err); err != nil {
				j.skipDamaged(Calls, m.sequence, err)
				continue
			}
			yield(strings.TrimPrefix(m.subject, j.names.subject(Calls)+"."), record)
		}
	}
}

// GetCalls returns those of the calls, given by their keys, that are saved. Damaged records are
// skipped and counted.
func (j *Journal) GetCalls(ctx context.Context, callKeys []string) (map[string]CallRecord, error) {
	requests := make([]directGet, len(callKeys))
	for i, key := range callKeys {
		requests[i] = directGet{Last: j.names.key(Calls, key)}
	}
	messages, err := j.readEach(ctx, Calls, requests)
	if err != nil {
		return nil, err
	}
	found := make(map[string]CallRecord, len(messages))
	for _, m := range messages {
		if len(m.data) == 0 {
			continue
		}
		record, err := parseCall(m.data)
		if err != nil {
			j.skipDamaged(Calls, m.sequence, err)
			continue
		}
		found[CallKey(record.CallID)] = record
	}
	return found, nil
}
