package pipeline

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Set is the pipelines of the partitions that this process owns. They share the memory of the
// process.
type Set struct {
	config Config
	// end is the newest sequence of the EVENTS log that is known.
	end   func() uint64
	count atomic.Int64

	mu      sync.Mutex
	running map[int]*Pipeline
	// past is what is to be remembered of pipelines that have ended.
	past Status
}

// NewSet makes a set. The pipelines in it have config in common, except for its Log.
func NewSet(config Config, end func() uint64) *Set {
	s := &Set{config: config, end: end, running: make(map[int]*Pipeline)}
	s.config.Sharers = func() int { return int(s.count.Load()) }
	s.config.Taken = s.taken
	return s
}

// taken is about how many bytes the calls of all pipelines take in memory.
func (s *Set) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var bytes int64
	for _, p := range s.running {
		bytes += p.progress.bytes.Load()
	}
	return int(bytes)
}

// Run correlates one partition until ctx ends, or returns journal.ErrFenced once the partition has
// another owner.
func (s *Set) Run(ctx context.Context, partition int, log Log) error {
	config := s.config
	config.Log = log
	p := New(config)
	s.count.Add(1)
	s.mu.Lock()
	s.running[partition] = p
	s.mu.Unlock()
	defer s.remove(partition, p)
	return p.Run(ctx)
}

func (s *Set) remove(partition int, p *Pipeline) {
	s.count.Add(-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[partition] == p {
		delete(s.running, partition)
	}
	status := p.Status()
	s.past.ClosedEarly += status.ClosedEarly
	s.past.ParkedCalls += status.ParkedCalls
	s.past.Parked = newest(append(s.past.Parked, status.Parked...))
}

// Status returns how correlation fares over all partitions: the worst lag, and the sums of all
// else.
func (s *Set) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := s.past
	total.Parked = slices.Clone(total.Parked)
	total.Through = math.MaxUint64
	for _, p := range s.running {
		status := p.Status()
		total.Lag, total.Unread = max(total.Lag, status.Lag), max(total.Unread, status.Unread)
		total.OpenCalls += status.OpenCalls
		total.SpilledCalls += status.SpilledCalls
		total.MemoryCalls += status.MemoryCalls
		total.ClosedEarly += status.ClosedEarly
		total.ParkedCalls += status.ParkedCalls
		total.Parked = append(total.Parked, status.Parked...)
		total.Damaged = max(total.Damaged, status.Damaged)
		total.Through = min(total.Through, status.Through)
	}
	total.Parked = newest(total.Parked)
	total.Through = min(total.Through, s.end())
	return total
}

// newest returns the newest of the parked calls, in the order in which they were parked.
func newest(parked []ParkedCall) []ParkedCall {
	slices.SortStableFunc(parked, func(a, b ParkedCall) int { return cmp.Compare(a.Since.UnixNano(), b.Since.UnixNano()) })
	return parked[max(len(parked)-maxParked, 0):]
}

// Register has the state of the set collected as metrics.
func (s *Set) Register(registerer prometheus.Registerer) {
	gauge := func(name, help string, value func(Status) float64) {
		registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "pbx_receiver_" + name, Help: help}, func() float64 {
			return value(s.Status())
		}))
	}
	gauge("processed_sequence", "Sequence of the EVENTS log up to which the legs of all commits are written.",
		func(s Status) float64 { return float64(s.Through) })
	gauge("open_calls", "Calls with a leg that has not ended, or with a decision that waits for time to pass.",
		func(s Status) float64 { return float64(s.OpenCalls) })
	gauge("calls_in_memory", "Calls held in memory: the open ones and those that ended just now.",
		func(s Status) float64 { return float64(s.MemoryCalls) })
	gauge("calls_spilled", "Open calls that are kept on disk only, because nothing was heard of them for a while.",
		func(s Status) float64 { return float64(s.SpilledCalls) })
	gauge("partitions_owned", "Partitions that this receiver correlates.", func(Status) float64 { return float64(s.count.Load()) })
}
