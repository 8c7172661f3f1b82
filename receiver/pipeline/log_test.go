package pipeline

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// memoryLog is a journal in memory that can lose what a loss of power would lose.
type memoryLog struct {
	now        func() time.Time
	events     []journal.Group
	legs       []written
	checkpoint journal.Checkpoint
	agents     []journal.AgentRecord
	fail       func() error
	generation uint64
	// calls are the writes to the CALLS log; a record without a call id takes one out.
	calls []savedCall
	fill  map[journal.Log]journal.Fill
	// refuse says why a record of a call is refused for good; empty: it is not.
	refuse func(callID string) string
	// lowered counts the writes that replaced a leg by an older revision.
	lowered int
	// trimmed is how many of the first groups are gone.
	trimmed uint64
	// damaged are the keys of the calls whose records in the CALLS log cannot be read.
	damaged map[string]bool
	// mostRead is how many groups were asked for at once at most.
	mostRead int
}

type written struct {
	record journal.LegRecord
	at     time.Time
}

func (l *memoryLog) Owns(string, *callevent.Event) bool { return true }

func (l *memoryLog) failure() error {
	if l.fail == nil {
		return nil
	}
	return l.fail()
}

func (l *memoryLog) append(entries ...journal.Entry) {
	l.events = append(l.events, journal.Group{Sequence: uint64(len(l.events) + 1), Stored: l.now(), Entries: entries})
}

// crash loses up to n of the records that have not settled.
func (l *memoryLog) crash(n int) {
	lost := n
	for ; n > 0 && len(l.legs) > 0 && l.now().Sub(l.legs[len(l.legs)-1].at) < journal.SettleTime; n-- {
		l.legs = l.legs[:len(l.legs)-1]
	}
	for n := lost; n > 0 && len(l.calls) > 0 && l.now().Sub(l.calls[len(l.calls)-1].at) < journal.SettleTime; n-- {
		l.calls = l.calls[:len(l.calls)-1]
	}
	l.generation++
}

type savedCall struct {
	key    string
	record journal.CallRecord
	at     time.Time
}

// saved are the calls in the CALLS log.
func (l *memoryLog) saved() map[string]journal.CallRecord {
	found := make(map[string]journal.CallRecord)
	for _, c := range l.calls {
		if found[c.key] = c.record; c.record.CallID == "" {
			delete(found, c.key)
		}
	}
	return found
}

func (l *memoryLog) PutCalls(_ context.Context, records []journal.CallRecord) error {
	if err := l.failure(); err != nil {
		return err
	}
	var refused journal.RefusedError
	for _, record := range records {
		if l.refuse != nil && l.refuse(record.CallID) != "" {
			refused.Reasons = map[string]string{journal.CallKey(record.CallID): l.refuse(record.CallID)}
			continue
		}
		record.Positions = slices.Clone(record.Positions)
		l.calls = append(l.calls, savedCall{journal.CallKey(record.CallID), record, l.now()})
	}
	if len(refused.Reasons) > 0 {
		return &refused
	}
	return nil
}

func (l *memoryLog) DropCalls(_ context.Context, callKeys []string) error {
	if err := l.failure(); err != nil {
		return err
	}
	for _, key := range callKeys {
		l.calls = append(l.calls, savedCall{key: key, at: l.now()})
	}
	return nil
}

func (l *memoryLog) GetCalls(_ context.Context, callKeys []string) (map[string]journal.CallRecord, error) {
	found := l.saved()
	maps.DeleteFunc(found, func(key string, _ journal.CallRecord) bool { return !slices.Contains(callKeys, key) || l.damaged[key] })
	return found, l.failure()
}

func (l *memoryLog) SavedCalls(_ context.Context, yield func(string, journal.CallRecord)) error {
	for key, record := range l.saved() {
		yield(key, journal.CallRecord{Due: record.Due, Rules: record.Rules})
	}
	return l.failure()
}

func (l *memoryLog) EventsEnd(context.Context) (uint64, error) {
	return uint64(len(l.events)), l.failure()
}

func (l *memoryLog) Fill() map[journal.Log]journal.Fill { return l.fill }

func (l *memoryLog) Damaged() uint64 { return 0 }

func (l *memoryLog) newest() map[string]journal.LegRecord {
	newest := make(map[string]journal.LegRecord)
	for _, w := range l.legs {
		newest[w.record.Leg.CallID+"/"+w.record.Leg.LegID] = w.record
	}
	return newest
}

// content is the newest revision of every leg, without the revisions' numbers.
func (l *memoryLog) content() []correlation.Leg {
	newest := l.newest()
	legs := make([]correlation.Leg, 0, len(newest))
	for _, key := range slices.Sorted(maps.Keys(newest)) {
		leg := newest[key].Leg
		leg.Revision = 0
		if leg.LegID != "" {
			legs = append(legs, leg)
		}
	}
	return legs
}

func (l *memoryLog) LoadCheckpoint(context.Context) (journal.Checkpoint, error) {
	return l.checkpoint, l.failure()
}

func (l *memoryLog) SaveCheckpoint(_ context.Context, checkpoint journal.Checkpoint) error {
	if err := l.failure(); err != nil {
		return err
	}
	l.checkpoint = checkpoint
	return nil
}

func (l *memoryLog) ReadEvents(_ context.Context, from uint64, limit int) ([]journal.Group, error) {
	if err := l.failure(); err != nil || from > uint64(len(l.events)) {
		return nil, err
	}
	found := l.events[from-1:]
	return slices.Clone(found[:min(limit, len(found))]), nil
}

func (l *memoryLog) GetEvents(_ context.Context, sequences []uint64) ([]journal.Group, error) {
	var found []journal.Group
	l.mostRead = max(l.mostRead, len(sequences))
	for _, sequence := range sequences {
		if sequence > l.trimmed && sequence <= uint64(len(l.events)) {
			found = append(found, l.events[sequence-1])
		}
	}
	return found, l.failure()
}

func (l *memoryLog) PutLegs(_ context.Context, records []journal.LegRecord) error {
	if err := l.failure(); err != nil {
		return err
	}
	before := map[string]journal.LegRecord{}
	if len(l.legs) < 1000 { // it takes too long for more
		before = l.newest()
	}
	var refused journal.RefusedError
	for _, record := range records {
		if l.refuse != nil && l.refuse(record.Leg.CallID) != "" {
			refused.Reasons = map[string]string{journal.CallKey(record.Leg.CallID): l.refuse(record.Leg.CallID)}
			continue
		}
		record.Positions, record.Ticks = slices.Clone(record.Positions), slices.Clone(record.Ticks)
		if record.Leg.Revision < before[record.Leg.CallID+"/"+record.Leg.LegID].Leg.Revision {
			l.lowered++
		}
		l.legs = append(l.legs, written{record: record, at: l.now()})
	}
	if len(refused.Reasons) > 0 {
		return &refused
	}
	return nil
}

func (l *memoryLog) CallKeys(_ context.Context, yield func(string)) error {
	for _, w := range l.legs {
		yield(journal.CallKey(w.record.Leg.CallID))
	}
	return l.failure()
}

func (l *memoryLog) KnownCalls(_ context.Context, callKeys []string) (map[string]journal.LegRecord, error) {
	known := make(map[string]journal.LegRecord)
	for _, w := range l.legs {
		if key := journal.CallKey(w.record.Leg.CallID); slices.Contains(callKeys, key) {
			known[key] = w.record
		}
	}
	return known, l.failure()
}

func (l *memoryLog) LegsOfCall(_ context.Context, callKey string) ([]journal.LegRecord, error) {
	var found []journal.LegRecord
	for _, record := range l.newest() {
		if journal.CallKey(record.Leg.CallID) == callKey && record.Leg.LegID != "" {
			found = append(found, record)
		}
	}
	slices.SortFunc(found, func(a, b journal.LegRecord) int { return strings.Compare(a.Leg.LegID, b.Leg.LegID) })
	return found, l.failure()
}

func (l *memoryLog) LegsThrough(context.Context) (uint64, error) {
	if len(l.legs) == 0 {
		return 0, l.failure()
	}
	return l.legs[len(l.legs)-1].record.Through, l.failure()
}

func (l *memoryLog) PutAgents(_ context.Context, records []journal.AgentRecord) error {
	if err := l.failure(); err != nil {
		return err
	}
	l.agents = append(l.agents, records...)
	return nil
}

func (l *memoryLog) Changed(journal.Log) <-chan struct{} { return nil }

func (l *memoryLog) Generation() uint64 { return l.generation }

func (l *memoryLog) LastEvent() uint64 { return uint64(len(l.events)) }
