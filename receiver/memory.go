package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// leastHeap is what the garbage collector lets the process take in any case. A larger
	// $GOMEMLIMIT is what the container may take, not what it should: the log server's buffers are
	// garbage that would be left lying about up to there.
	leastHeap = 96 << 20
	// heapStep is the least by which the limit is moved.
	heapStep     = 4 << 20
	heapInterval = time.Second
)

// softLimit is how much memory the garbage collector is to keep to, in bytes: half as much again as
// it found in use, as it would do little else where the limit leaves less room than that.
func softLimit(live, given int64) int64 { return min(max(live+live/2, leastHeap), given) }

// limitMemory has the garbage collector keep the heap small. It returns what may be taken.
func limitMemory() (given int64) {
	given = debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(softLimit(0, given))
	return given
}

// watchHeap moves the limit with what is in use, until ctx ends.
func watchHeap(ctx context.Context, given int64) {
	ticker := time.NewTicker(heapInterval)
	defer ticker.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		metrics.Read(live)
		wanted, set := softLimit(int64(live[0].Value.Uint64()), given), debug.SetMemoryLimit(-1)
		if wanted >= set+heapStep || wanted <= set-heapStep {
			debug.SetMemoryLimit(wanted)
		}
	}
}
