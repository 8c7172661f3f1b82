package journal

import (
	"context"
	"fmt"
	"maps"
	"sync"
)

// Stats is how full a log is.
type Stats struct {
	Records     uint64
	Bytes       uint64
	Limit       uint64
	First, Last uint64
}

// Stats looks at a log.
func (j *Journal) Stats(ctx context.Context, log Log) (Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	stream, err := j.js.Stream(ctx, j.streamOf(log))
	if err != nil {
		return Stats{}, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	info := stream.CachedInfo()
	return Stats{
		Records: info.State.Msgs, Bytes: info.State.Bytes, Limit: uint64(max(info.Config.MaxBytes, 0)),
		First: info.State.FirstSeq, Last: info.State.LastSeq,
	}, nil
}

// Fill is how much of a log's room is taken, in bytes.
type Fill struct{ Used, Size uint64 }

// fills are the newest known fills of the logs.
type fills struct {
	mu    sync.Mutex
	byLog map[Log]Fill
}

func (f *fills) set(log Log, fill Fill) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byLog == nil {
		f.byLog = make(map[Log]Fill)
	}
	f.byLog[log] = fill
}

// Fill returns how full each log was a moment ago. It may be called at any time, from any
// goroutine.
func (j *Journal) Fill() map[Log]Fill {
	j.fills.mu.Lock()
	defer j.fills.mu.Unlock()
	return maps.Clone(j.fills.byLog)
}

// LastEvent returns the newest sequence of the EVENTS log that this process knows of.
func (j *Journal) LastEvent() uint64 { return j.lastEvent.Load() }

// Skipped counts the records of the LEGS log that gave way to newer ones before every reader had
// read them, since the start. Some of them had a newer revision already.
func (j *Journal) Skipped() uint64 { return j.skipped.Load() }

// Damaged counts the records that could not be read and were skipped, since the start.
func (j *Journal) Damaged() uint64 { return j.damaged.Load() }

// EventsEnd asks the EVENTS log for its newest sequence.
func (j *Journal) EventsEnd(ctx context.Context) (uint64, error) {
	stats, err := j.Stats(ctx, Events)
	if err != nil {
		return 0, err
	}
	j.lastEvent.Store(stats.Last)
	j.recent.sawOthers(stats.Last)
	return stats.Last, nil
}
