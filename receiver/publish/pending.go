package publish

import (
	"sync"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// Record is one value of the LEGS log.
type Record struct {
	Leg correlation.Leg
	// Received is the time of receipt of the newest event that joined the leg. Zero: unknown.
	Received time.Time
}

// pending holds the newest known state of every leg that the API server has not got yet. Its size is bounded by what the LEGS log
// delivers before it waits.
type pending struct {
	mu    sync.Mutex
	items map[string]*item
}

type item struct {
	Record
	// settled tells those that delivered this revision that it need not be delivered again.
	settled []func()
	trouble trouble
}

// trouble is the history of failures of one leg.
type trouble struct {
	failures int
	// before is how many writes had succeeded when the first one of this leg failed.
	before int64
}

func newPending() *pending { return &pending{items: map[string]*item{}} }

// offer keeps the newer of what is known and what is offered. The other one is settled at once: the newer state is in the log, and
// the log will deliver it again if this process dies.
func (p *pending) offer(name string, record Record, settled func()) {
	p.mu.Lock()
	known, ok := p.items[name]
	var superseded []func()
	switch {
	case !ok:
		p.items[name] = &item{Record: record, settled: []func(){settled}}
	case record.Leg.Revision > known.Leg.Revision:
		superseded = known.settled
		known.Record, known.settled = record, []func(){settled}
	case record.Leg.Revision == known.Leg.Revision:
		known.settled = append(known.settled, settled)
	default:
		superseded = []func(){settled}
	}
	p.mu.Unlock()
	callAll(superseded)
}

// newest is the state to be published.
func (p *pending) newest(name string) (Record, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.items[name]
	if !ok {
		return Record{}, false
	}
	return known.Record, true
}

// settle ends the wait for a revision, unless a newer one has come in meanwhile.
func (p *pending) settle(name string, revision int64) {
	p.mu.Lock()
	known, ok := p.items[name]
	if !ok || known.Leg.Revision != revision {
		p.mu.Unlock()
		return
	}
	delete(p.items, name)
	p.mu.Unlock()
	callAll(known.settled)
}

// failed notes a failure and returns the leg's history of them.
func (p *pending) failed(name string, succeeded int64) trouble {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.items[name]
	if !ok {
		return trouble{}
	}
	if known.trouble.failures == 0 {
		known.trouble.before = succeeded
	}
	known.trouble.failures++
	return known.trouble
}

func (p *pending) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.items)
}

func callAll(calls []func()) {
	for _, call := range calls {
		call()
	}
}
