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
)

// trimLoop discards what was read, where the log is nearly full or the record too old.
func (j *Journal) trimLoop(ctx context.Context) {
	var aged time.Time
	for waitFor(ctx, nil, trimInterval) {
		if err := j.volume.check(); err != nil {
			j.config.Logger.Warn("cannot watch the volume", "error", err)
		}
		byAge := time.Since(aged) >= ageInterval
		for _, log := range []Log{Events, Legs} {
			if err := j.trim(ctx, log, byAge); err != nil && ctx.Err() == nil {
				j.config.Logger.Warn("cannot trim a log", "log", log, "error", err)
			}
		}
		if byAge {
			aged = time.Now()
		}
	}
}

// readThrough is the last sequence of a log that everybody has read and nobody needs.
func (j *Journal) readThrough(log Log) uint64 {
	if log == Events {
		return max(j.lowWater.Load(), 1) - 1
	}
	if lowest, ok := j.cursors.lowest(log); ok {
		return lowest
	}
	return math.MaxUint64 - 1
}

func (j *Journal) trim(ctx context.Context, log Log, byAge bool) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	stream, err := j.js.Stream(ctx, j.names.streamOf(log))
	if err != nil {
		return fmt.Errorf("cannot look at the log: %w", err)
	}
	info := stream.CachedInfo()
	j.fills.set(log, Fill{Used: info.State.Bytes, Size: uint64(max(info.Config.MaxBytes, 0))})
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
			return err
		}
		target = max(target, before)
	}
	target = min(target, j.readThrough(log)+1)
	if target <= info.State.FirstSeq {
		return nil
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(target)); err != nil {
		return fmt.Errorf("cannot discard old records: %w", err)
	}
	return nil
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

// sizeTarget is the first sequence to keep so that the log is filled to the given percentage; 0 while it is filled less than above.
// Records are taken to be of one size: the next pass corrects what this one misjudged.
func sizeTarget(info *jetstream.StreamInfo, above, to float64) uint64 {
	fill := percent * fillOf(info)
	if fill < above || fill == 0 {
		return 0
	}
	sequences := float64(info.State.LastSeq - info.State.FirstSeq + 1)
	return info.State.FirstSeq + uint64(sequences*(1-to/fill))
}

// firstSince is the sequence of the first record that was stored at or after the given time, by bisection.
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
