package journal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// ErrFenced says that another receiver has taken a partition over, so that this one no longer
// writes to it.
var ErrFenced = errors.New("another receiver owns the partition")

var errHead = errors.New("the head of a partition cannot be read")

// Term is the time for which one receiver owns a partition.
type Term struct {
	// Number grows with every owner. 0 stands for the next one.
	Number uint64 `json:"term"`
	Owner  string `json:"owner"`
}

// head is the record of a log that tells who may write to a partition. Every write of the owner
// replaces it, provided that nobody else has replaced it before.
type head struct {
	Term
	// Through is the EVENTS sequence up to which the owner may have read when it wrote last.
	Through uint64 `json:"through"`

	// sequence of the record; 0 if there is none.
	sequence uint64
}

// headToken stands where the subjects of other records have the key of a call.
const headToken = "head"

func (j *Journal) headSubject(log Log, partition int) string {
	return j.names.key(log, headToken, strconv.Itoa(partition))
}

func (j *Journal) isHead(log Log, subject string) bool {
	prefix := j.names.key(log, headToken) + "."
	return len(subject) > len(prefix) && subject[:len(prefix)] == prefix
}

func (j *Journal) readHead(ctx context.Context, log Log, partition int) (head, error) {
	messages, err := j.readEach(ctx, log, []directGet{{Last: j.headSubject(log, partition)}})
	if err != nil || len(messages) == 0 {
		return head{}, err
	}
	h := head{sequence: messages[0].sequence}
	if err := cmp.Or(messages[0].damage, json.Unmarshal(messages[0].data, &h)); err != nil {
		return head{}, fmt.Errorf("%w: %w", errHead, err)
	}
	return h, nil
}

// message is the head as the next write replaces it.
func (h *head) message(subject string) (*nats.Msg, error) {
	data, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the head of a partition: %w", err)
	}
	return &nats.Msg{Subject: subject, Data: data}, nil
}

// Partition is one partition of the logs in the hands of its owner.
type Partition struct {
	*Journal
	number int
	term   Term
	// heads are those of the LEGS and the CALLS log; the latter has none where no other process can
	// write to it.
	heads map[Log]*head
	// checkpoint is the sequence of the checkpoint in the STATE log.
	checkpoint uint64
	// written is when the head of the LEGS log was written last.
	written time.Time
}

// headInterval is how often an owner writes its head at least while events come in: the LEGS log
// gives way only up to the oldest head.
const headInterval = 10 * time.Second

// Take makes this process the one that writes to a partition: from now on nobody with an earlier
// term can. It returns ErrFenced where there is a later term.
func (j *Journal) Take(ctx context.Context, number int, term Term) (*Partition, error) {
	p := &Partition{Journal: j, number: number, term: term, heads: make(map[Log]*head)}
	for _, log := range []Log{Legs, Calls} {
		if log == Calls && j.alone() {
			continue
		}
		if err := p.fence(ctx, log); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// fence writes the head of a log anew.
func (p *Partition) fence(ctx context.Context, log Log) error {
	before, err := p.readHead(ctx, log, p.number)
	if err != nil {
		return err
	}
	if p.term.Number == 0 {
		p.term.Number = before.Number + 1
	}
	if before.Number > p.term.Number || before.Number == p.term.Number && before.Owner != p.term.Owner {
		return ErrFenced
	}
	through := before.Through
	if log == Legs {
		newest, err := p.newestThrough(ctx)
		if err != nil {
			return err
		}
		through = max(through, newest)
	}
	p.heads[log] = &head{Term: p.term, Through: through, sequence: before.sequence}
	return p.write(ctx, log, nil)
}

// write makes records of the partition durable together with the head of their log.
func (p *Partition) write(ctx context.Context, log Log, records []keyed) error {
	err := p.writers[log].write(ctx, p.number, p.heads[log], records)
	if log == Legs && err == nil {
		p.written = time.Now()
	}
	return err
}

// newestThrough is the sequence that the newest record of the LEGS log tells of. A loss of power
// may have taken the head with it, but not the legs of passes before.
func (j *Journal) newestThrough(ctx context.Context) (uint64, error) {
	messages, err := j.readEach(ctx, Legs, []directGet{{Last: j.names.key(Legs, "*", "*")}})
	if err != nil || len(messages) == 0 {
		return 0, err
	}
	record, err := j.parseLeg(messages[0])
	if err != nil {
		return 0, nil //nolint:nilerr // a head, or a damaged record, tells nothing
	}
	return record.Through, nil
}

// owns reports whether an entry may hold something for the partition.
func (p *Partition) owns(f frame) bool {
	set, told := f.partitions()
	return !told || set.has(p.number)
}

// Owns reports whether an event belongs to the partition.
func (p *Partition) Owns(mapping string, event *callevent.Event) bool {
	number, ok := p.partitions.ofEvent(mapping, event)
	return ok && number == p.number
}

// ReadEvents returns groups with what the partition has in the EVENTS log from the given sequence
// on, in order; entries that are in several partitions with all their events. The last group tells
// how far the partition has read, and may be empty. None: there are no more.
func (p *Partition) ReadEvents(ctx context.Context, from uint64, limit int) ([]Group, error) {
	if groups, ok := p.recent.from(p.number, from, limit, time.Now()); ok {
		return groups, nil
	}
	raw, err := p.readWindow(ctx, max(from, 1), limit)
	return p.groupsOf(raw), err
}

// groupsOf leaves what belongs to the partition.
func (p *Partition) groupsOf(raw []rawGroup) []Group {
	groups := make([]Group, 0, len(raw))
	skipped := 0
	for i := range raw {
		group := raw[i].decode(p.owns)
		if int(raw[i].sequence%uint64(p.partitions)) == p.number { // one of them reports it
			group.Err = cmp.Or(group.Err, raw[i].err)
		}
		if len(group.Entries) == 0 && group.Err == nil && i < len(raw)-1 {
			skipped += group.Bytes
			continue
		}
		group.Bytes, skipped = group.Bytes+skipped, 0
		groups = append(groups, group)
	}
	return groups
}

// GetEvents returns the groups with the given sequences, in any order. Those that were trimmed are
// left out.
func (p *Partition) GetEvents(ctx context.Context, sequences []uint64) ([]Group, error) {
	requests := make([]directGet, len(sequences))
	for i, sequence := range sequences {
		requests[i] = directGet{Sequence: sequence}
	}
	messages, err := p.readEach(ctx, Events, requests)
	return p.groupsOf(p.rawGroups(messages)), err
}

// LastEvent is the newest sequence of the EVENTS log that may hold something for the partition.
func (p *Partition) LastEvent() uint64 { return p.recent.touched(p.number) }

// Changed is closed when something new of the partition is in the log. Ask for it before reading.
func (p *Partition) Changed(log Log) <-chan struct{} {
	if log == Events {
		return p.arrivals[p.number].changed()
	}
	return p.Journal.Changed(log)
}

// LegsThrough is the EVENTS sequence up to which legs in the LEGS log may reflect the partition's
// events.
func (p *Partition) LegsThrough(context.Context) (uint64, error) { return p.heads[Legs].Through, nil }

// PutLegs writes records. They are durable a while later (see SettleTime), unless the generation of
// the journal changes before. Key, Seq and Stored are ignored. The error may be a RefusedError or
// ErrFenced; after any other some may have been written, and writing them again is harmless.
func (p *Partition) PutLegs(ctx context.Context, records []LegRecord) error {
	if len(records) == 0 {
		return nil
	}
	messages, refused := p.legMessages(records)
	for i := range records {
		p.heads[Legs].Through = max(p.heads[Legs].Through, records[i].Through)
	}
	return merge(refused, p.write(ctx, Legs, messages))
}

// PutCalls saves calls. Like legs, they are durable a while later (see SettleTime). The error may
// be a RefusedError or ErrFenced.
func (p *Partition) PutCalls(ctx context.Context, records []CallRecord) error {
	if len(records) == 0 {
		return nil
	}
	messages, refused := p.callMessages(records)
	return merge(refused, p.write(ctx, Calls, messages))
}

// DropCalls takes calls out of the CALLS log, given by their keys.
func (p *Partition) DropCalls(ctx context.Context, callKeys []string) error {
	messages := make([]keyed, len(callKeys))
	for i, key := range callKeys {
		messages[i] = keyed{key: key, Msg: &nats.Msg{Subject: p.names.key(Calls, key), Header: nats.Header{headerTTL: {endOfCall}}}}
	}
	return p.write(ctx, Calls, messages)
}

// CallKeys tells yield the key of every call of the partition that has records in the LEGS log,
// some of them more than once.
func (p *Partition) CallKeys(ctx context.Context, yield func(callKey string)) error {
	keys, err := p.legIndex.get(ctx, p.legKeys)
	if err != nil {
		return err
	}
	for _, key := range keys[p.number] {
		yield(key)
	}
	return nil
}

// legKeys are the keys of the calls in the LEGS log by partition.
func (j *Journal) legKeys(ctx context.Context) ([][]string, error) {
	keys := make([][]string, j.partitions)
	err := j.CallKeys(ctx, func(key string) {
		partition := j.partitions.of(key)
		keys[partition] = append(keys[partition], key)
	})
	return keys, err
}

// SavedCalls tells yield of every saved call of the partition: its key, and of the record what can
// be told without reading all of it. Damaged records are skipped and counted.
func (p *Partition) SavedCalls(ctx context.Context, yield func(callKey string, record CallRecord)) error {
	saved, err := p.callIndex.get(ctx, p.savedCalls)
	if err != nil {
		return err
	}
	for _, call := range saved[p.number] {
		yield(call.key, call.record)
	}
	return nil
}

// savedCall is what the CALLS log tells of a call at a glance.
type savedCall struct {
	key    string
	record CallRecord
}

// savedCalls are the saved calls by partition.
func (j *Journal) savedCalls(ctx context.Context) ([][]savedCall, error) {
	saved := make([][]savedCall, j.partitions)
	err := j.SavedCalls(ctx, func(key string, record CallRecord) {
		partition := j.partitions.of(key)
		saved[partition] = append(saved[partition], savedCall{key, record})
	})
	return saved, err
}

func checkpointKey(partition int) []string { return []string{"checkpoint", strconv.Itoa(partition)} }

// LoadCheckpoint returns the newest checkpoint; the zero value if there is none.
func (p *Partition) LoadCheckpoint(ctx context.Context) (Checkpoint, error) {
	checkpoint, sequence, err := p.readCheckpoint(ctx, p.number)
	p.checkpoint = sequence
	return checkpoint, err
}

// SaveCheckpoint makes a checkpoint durable. From now on events below its low water may be trimmed,
// as far as the other partitions do not need them.
func (p *Partition) SaveCheckpoint(ctx context.Context, checkpoint Checkpoint) error {
	text, err := json.Marshal(checkpoint)
	if err != nil {
		return fmt.Errorf("cannot encode the checkpoint: %w", err)
	}
	if !p.alone() && time.Since(p.written) > headInterval {
		if err := p.write(ctx, Legs, nil); err != nil {
			return err
		}
	}
	sequence, err := p.putStateAt(ctx, text, p.checkpoint, checkpointKey(p.number)...)
	if isWrongSequence(err) {
		return p.checkOwner(ctx)
	}
	if err == nil {
		p.checkpoint = sequence
	}
	return err
}

// checkOwner tells why a record of the partition was refused: it is in other hands, or an earlier
// attempt that seemed to fail has succeeded.
func (p *Partition) checkOwner(ctx context.Context) error {
	now, err := p.readHead(ctx, Legs, p.number)
	switch {
	case err != nil:
		return err
	case now.Term != p.term:
		return ErrFenced
	}
	if _, err = p.LoadCheckpoint(ctx); err != nil {
		return err
	}
	return errIncomplete
}

// oldestHead is the sequence of the oldest head in the LEGS log.
func (j *Journal) oldestHead(ctx context.Context) (uint64, error) {
	oldest := uint64(math.MaxUint64)
	for partition := range int(j.partitions) {
		h, err := j.readHead(ctx, Legs, partition)
		if err != nil {
			return 0, err
		}
		if h.sequence > 0 {
			oldest = min(oldest, h.sequence)
		}
	}
	return oldest, nil
}

// lowWater is the EVENTS sequence below which no partition needs records any more.
func (j *Journal) lowWater(ctx context.Context) (uint64, error) {
	marks := make([]uint64, j.partitions)
	for partition := range marks {
		checkpoint, _, err := j.readCheckpoint(ctx, partition)
		if err != nil {
			return 0, err
		}
		marks[partition] = min(checkpoint.LowWater, checkpoint.Processed+1)
	}
	return slices.Min(marks), nil
}
