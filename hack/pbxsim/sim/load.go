package sim

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

// Bounds of a load run.
const (
	maxLoadCalls       = 1_000_000
	maxLoadConcurrency = 512
)

// load is one load run.
type load struct {
	id      string
	detail  bool
	started time.Time
	stop    context.CancelFunc
	done    chan struct{}

	mu    sync.Mutex
	state simclient.Load
}

// loads are the load runs since the start.
type loads struct {
	mu   sync.Mutex
	runs map[string]*load
}

func newLoads() *loads { return &loads{runs: map[string]*load{}} }

func (l *loads) find(id string) (*load, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.runs[id]
	return r, ok
}

// stop ends all runs and forgets them.
func (l *loads) stop() {
	l.mu.Lock()
	runs := l.runs
	l.runs = map[string]*load{}
	l.mu.Unlock()
	for _, r := range runs {
		r.stop()
		<-r.done
	}
}

// start begins a run of calls 0 to n-1, of which orders describes each. The run outlives the
// context.
func (l *loads) start(ctx context.Context, x *exchange.Exchange, r simclient.LoadRequest, orders func(i int) exchange.Order) *load {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	run := &load{id: rand.Text()[:8], detail: r.Detail, started: time.Now(), stop: cancel, done: make(chan struct{})}
	run.state.ID = run.id
	l.mu.Lock()
	l.runs[run.id] = run
	l.mu.Unlock()
	go func() {
		defer close(run.done)
		defer cancel()
		run.work(ctx, x, r, orders)
	}()
	return run
}

func (run *load) work(ctx context.Context, x *exchange.Exchange, r simclient.LoadRequest, orders func(i int) exchange.Order) {
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(r.Concurrency, r.Calls) {
		workers.Go(func() {
			for i := range next {
				o := orders(i)
				run.keep(o, x.Run(ctx, o))
			}
		})
	}
	feed(ctx, next, r)
	workers.Wait()
	run.mu.Lock()
	defer run.mu.Unlock()
	run.state.Elapsed = simclient.Duration(time.Since(run.started))
	run.state.Done = true
}

// feed hands out call numbers, at the given rate if there is one.
func feed(ctx context.Context, next chan<- int, r simclient.LoadRequest) {
	defer close(next)
	begin := time.Now()
	for i := range r.Calls {
		if r.Rate > 0 {
			due := begin.Add(time.Duration(float64(i) / r.Rate * float64(time.Second)))
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(due)):
			}
		}
		select {
		case <-ctx.Done():
			return
		case next <- i:
		}
	}
}

// keep adds what became of one call.
func (run *load) keep(o exchange.Order, records []exchange.Record) {
	ack := simclient.Acknowledged{Seed: o.Seed}
	if run.detail {
		ack.CallIDs = o.Scenario.CallIDs(o.Seed)
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	run.state.Calls++
	for _, r := range records {
		switch r.Outcome {
		case exchange.Delivered:
			run.state.Delivered++
			if run.detail {
				ack.Events = append(ack.Events, simclient.Event{CallID: r.CallID, LegID: r.LegID, EventType: r.EventType})
			}
			continue
		case exchange.Failed:
			run.state.Failed++
			run.state.LastError = r.Error
			if r.Error == "" {
				run.state.LastError = fmt.Sprintf("status %d", r.Status)
			}
		case exchange.Lost:
			run.state.Lost++
		}
		ack.Missing++
	}
	if run.detail {
		run.state.Acknowledged = append(run.state.Acknowledged, ack)
	}
}

func (run *load) snapshot() simclient.Load {
	run.mu.Lock()
	defer run.mu.Unlock()
	s := run.state
	if !s.Done {
		s.Elapsed = simclient.Duration(time.Since(run.started))
		s.Acknowledged = nil
	}
	if sec := time.Duration(s.Elapsed).Seconds(); sec > 0 {
		s.PerSecond = float64(s.Delivered) / sec
	}
	return s
}
