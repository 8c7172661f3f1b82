package journal

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	trimInterval = 250 * time.Millisecond
	ageInterval  = time.Minute
	// Above trimAbove percent of its limit a log is trimmed to trimTo percent.
	trimAbove = 80
	trimTo    = 65
	// Above forceAbove percent, the LEGS log is trimmed to forceTo percent, whether or not
	// everybody has read it.
	forceAbove = 92
	forceTo    = 85
)

// trimLoop discards what was read, where the log is nearly full or the record too old.
func (j *Journal) trimLoop(ctx context.Context) {
	var aged time.Time
	for waitFor(ctx, j.trimNow, trimInterval) {
		if err := j.volume.check(); err != nil {
			j.config.Logger.Warn("cannot watch the volume", "error", err)
		}
		byAge := time.Since(aged) >= min(ageInterval, j.config.EventAge)
		for log := range j.changes {
			if err := j.tend(ctx, log, byAge); err != nil && ctx.Err() == nil {
				j.config.Logger.Warn("cannot trim a log", "log", log, "error", err)
			}
		}
		if byAge {
			aged = time.Now()
		}
	}
}

// hurryTrim has the logs looked at at once.
func (j *Journal) hurryTrim() {
	select {
	case j.trimNow <- struct{}{}:
	default:
	}
}

// readThrough is the last sequence of a log that everybody has read and nobody needs.
func (j *Journal) readThrough(ctx context.Context, log Log) (uint64, error) {
	if log == Events {
		lowWater, err := j.lowWater(ctx)
		return max(lowWater, 1) - 1, err
	}
	if lowest, ok := j.cursors.lowest(log); ok {
		return lowest, nil
	}
	return math.MaxUint64 - 1, nil
}

// tend notes how full a log is, and trims it if it is one of those that refuse new records.
func (j *Journal) tend(ctx context.Context, log Log, byAge bool) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	stream, err := j.js.Stream(ctx, j.streamOf(log))
	if err != nil {
		return fmt.Errorf("cannot look at the log: %w", err)
	}
	info := stream.CachedInfo()
	j.fills.set(log, Fill{Used: info.State.Bytes, Size: uint64(max(info.Config.MaxBytes, 0))})
	if log != Events && log != Legs {
		return nil
	}
	target, err := j.trimTarget(ctx, log, info, byAge)
	if err != nil || target <= info.State.FirstSeq {
		return err
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(target)); err != nil {
		return fmt.Errorf("cannot discard old records: %w", err)
	}
	return nil
}

// trimTarget is the first sequence to keep. Nothing that is still to be read is discarded, but of
// the LEGS log when it is about to refuse new records: a slow reader must not hold up correlation.
// Legs that change again come to it all the same; what it misses are the oldest of those that
// ended.
func (j *Journal) trimTarget(ctx context.Context, log Log, info *jetstream.StreamInfo, byAge bool) (uint64, error) {
	target := sizeTarget(info, trimAbove, trimTo)
	if log == Events && j.volume.low.Load() {
		target = sizeTarget(info, 0, percent*fillOf(info)/2)
	}
	if byAge {
		age := j.config.LegAge
		if log == Events {
			age = j.config.EventAge
		}
		before, err := j.firstSince(ctx, log, info.State, time.Now().Add(-age))
		if err != nil {
			return 0, err
		}
		target = max(target, before)
	}
	if target <= info.State.FirstSeq && sizeTarget(info, forceAbove, forceTo) == 0 {
		return 0, nil
	}
	read, err := j.readThrough(ctx, log)
	if err != nil {
		return 0, err
	}
	target = min(target, read+1)
	if forced := sizeTarget(info, forceAbove, forceTo); log == Legs && forced > target {
		j.skip(forced - max(read+1, info.State.FirstSeq))
		target = forced
	}
	if log == Legs && !j.alone() {
		oldest, err := j.oldestHead(ctx)
		return min(target, oldest), err
	}
	return target, nil
}

// skip counts and reports records that give way before every reader has read them.
func (j *Journal) skip(records uint64) {
	j.skipped.Add(records)
	j.config.Logger.Warn("a reader of the LEGS log is too slow: old legs give way to new ones unread", "records", records)
}

// fillOf is how full a log is, from 0 to 1.
func fillOf(info *jetstream.StreamInfo) float64 {
	fill := 0.0
	if info.Config.MaxBytes > 0 {
		fill = float64(info.State.Bytes) / float64(info.Config.MaxBytes)
	}
	if info.Config.MaxMsgs > 0 {
		fill = max(fill, float64(info.State.Msgs)/float64(info.Config.MaxMsgs))
	}
	return fill
}

// sizeTarget is the first sequence to keep so that the log is filled to the given percentage; 0
// while it is filled less than above. Records are taken to be of one size: the next pass corrects
// what this one misjudged.
func sizeTarget(info *jetstream.StreamInfo, above, to float64) uint64 {
	fill := percent * fillOf(info)
	if fill < above || fill == 0 {
		return 0
	}
	sequences := float64(info.State.LastSeq - info.State.FirstSeq + 1)
	return info.State.FirstSeq + uint64(sequences*(1-to/fill))
}

// firstSince is the sequence of the first record that was stored at or after the given time, by
// bisection.
func (j *Journal) firstSince(ctx context.Context, log Log, state jetstream.StreamState, since time.Time) (uint64, error) {
	low, high := state.FirstSeq, state.LastSeq+1
	for low < high {
		middle := low + (high-low)/2
		messages, err := j.read(ctx, log, middle, 1)
		if err != nil {
			return 0, err
		}
		if len(messages) == 0 || !messages[0].stored.Before(since) {
			high = middle
			continue
		}
		low = messages[0].sequence + 1
	}
	return low, nil
}
