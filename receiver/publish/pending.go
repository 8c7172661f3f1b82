package publish

import (
	"container/heap"
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// Record is one value of the LEGS log.
type Record struct {
	Leg correlation.Leg
	// Received is when this state of the leg was written to the LEGS log. Zero: unknown.
	Received time.Time
}

// pending holds the newest known state of every leg that the API server has not got yet, and says
// which is written next: changes of objects that exist, in their order; then legs that last; then
// finished ones. Of legs without an object the newest come first, and no more than a limit are
// kept: a finished leg beyond it would be evicted by the newer ones as soon as it is written.
type pending struct {
	mu    sync.Mutex
	items map[string]*item
	// updates, live and finished are the items that may be written now, oldest first.
	updates, live, finished list.List
	waiting                 waitingHeap
	wake                    chan struct{}
}

// item is one leg. It is in one of the lists, or waits, or is being written.
type item struct {
	Record
	name string
	// exists tells that there is, or may be, an object of the leg.
	exists bool
	// settled tells those that delivered this revision that it need not be delivered again.
	settled []func()
	trouble trouble

	list    *list.List
	element *list.Element
	// due is when a waiting item may be written.
	due time.Time
}

// trouble is the history of failures of one leg.
type trouble struct {
	failures int
	// before is how many writes had succeeded when the first one of this leg failed.
	before int64
}

// maxDoublings of firstRetry are more than longestRetry.
const maxDoublings = 10

func newPending() *pending {
	return &pending{items: map[string]*item{}, wake: make(chan struct{}, 1)}
}

// clear forgets all legs: the log delivers them again.
func (p *pending) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.items, p.waiting = map[string]*item{}, nil
	for _, list := range []*list.List{&p.updates, &p.live, &p.finished} {
		list.Init()
	}
}

// offer is a state of a leg to be written.
type offer struct {
	name   string
	record Record
	// exists tells that the leg has an object, which is not written before due.
	exists bool
	due    time.Time
	// settled is called once when this state need not be delivered again.
	settled func()
}

// add keeps the newer of what is known and what is offered. The other one is settled at once: the
// newer state is in the log, and the log will deliver it again if this process dies. It returns the
// legs that had to go so that no more than limit without an object are kept.
func (p *pending) add(o offer, limit int) (skipped []correlation.Leg) {
	p.mu.Lock()
	known, ok := p.items[o.name]
	var settled []func()
	switch {
	case !ok:
		skipped, settled = p.insert(o, limit)
	case o.record.Leg.Revision > known.Leg.Revision:
		settled = known.settled
		known.Record, known.settled = o.record, []func(){o.settled}
		p.requeue(known)
	case o.record.Leg.Revision == known.Leg.Revision:
		known.settled = append(known.settled, o.settled)
	default:
		settled = []func(){o.settled}
	}
	p.mu.Unlock()
	p.notify()
	callAll(settled)
	return skipped
}

// insert makes an item, at the cost of the oldest finished leg without an object if there are too
// many. Where all of them last, the new one goes: it comes again with its next event.
func (p *pending) insert(o offer, limit int) (skipped []correlation.Leg, settled []func()) {
	if !o.exists && p.live.Len()+p.finished.Len() >= limit {
		oldest := p.finished.Front()
		if oldest == nil {
			return []correlation.Leg{o.record.Leg}, []func(){o.settled}
		}
		gone, _ := oldest.Value.(*item)
		p.unqueue(gone)
		delete(p.items, gone.name)
		skipped, settled = []correlation.Leg{gone.Leg}, gone.settled
	}
	it := &item{Record: o.record, name: o.name, exists: o.exists, settled: []func(){o.settled}}
	p.items[o.name] = it
	p.queue(it, o.due)
	return skipped, settled
}

// queue has an item written, not before the given time.
func (p *pending) queue(it *item, due time.Time) {
	if it.due = due; time.Now().Before(due) {
		heap.Push(&p.waiting, it)
		return
	}
	switch {
	case it.exists:
		it.list = &p.updates
	case it.Leg.Phase == correlation.Completed:
		it.list = &p.finished
	default:
		it.list = &p.live
	}
	it.element = it.list.PushBack(it)
}

// unqueue takes an item out of its list.
func (p *pending) unqueue(it *item) {
	if it.element != nil {
		it.list.Remove(it.element)
		it.list, it.element = nil, nil
	}
}

// requeue moves a leg without an object that has changed: it may have finished, and it is news
// again.
func (p *pending) requeue(it *item) {
	if it.element != nil && !it.exists {
		p.unqueue(it)
		p.queue(it, time.Time{})
	}
}

// take waits for a leg to write; false when ctx ends. The leg is neither skipped nor taken again
// until settle or postpone.
func (p *pending) take(ctx context.Context) (name string, record Record, ok bool) {
	for {
		it, due := p.next()
		if it != nil {
			p.notify() // there may be one for another worker
			return it.name, it.Record, true
		}
		if !p.await(ctx, due) {
			return "", Record{}, false
		}
	}
}

// longWait is until something is offered.
const longWait = time.Hour

// await returns when there may be something to write; false when ctx has ended.
func (p *pending) await(ctx context.Context, due time.Time) bool {
	timer := time.NewTimer(min(time.Until(due), longWait))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-p.wake:
	case <-timer.C:
	}
	return ctx.Err() == nil
}

// next returns the item to write now, or else the time at which one may be.
func (p *pending) next() (*item, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for len(p.waiting) > 0 && !now.Before(p.waiting[0].due) {
		it, _ := heap.Pop(&p.waiting).(*item)
		p.queue(it, time.Time{})
	}
	for _, element := range []*list.Element{p.updates.Front(), p.live.Back(), p.finished.Back()} {
		if element != nil {
			it, _ := element.Value.(*item)
			p.unqueue(it)
			return it, time.Time{}
		}
	}
	if len(p.waiting) > 0 {
		return nil, p.waiting[0].due
	}
	return nil, now.Add(longWait)
}

// settle ends the wait for a revision. A newer one that has come in meanwhile is written in its
// turn, not before the given time.
func (p *pending) settle(name string, revision int64, next time.Time) {
	p.mu.Lock()
	known, ok := p.items[name]
	if !ok {
		p.mu.Unlock()
		return
	}
	if known.Leg.Revision != revision {
		known.exists, known.trouble = true, trouble{}
		p.queue(known, next)
		p.mu.Unlock()
		p.notify()
		return
	}
	delete(p.items, name)
	p.mu.Unlock()
	callAll(known.settled)
}

// postpone has a leg tried again after a pause that grows with its failures.
func (p *pending) postpone(name string) {
	p.mu.Lock()
	if known, ok := p.items[name]; ok {
		doublings := min(max(known.trouble.failures-1, 0), maxDoublings)
		p.queue(known, time.Now().Add(min(firstRetry<<doublings, longestRetry)))
	}
	p.mu.Unlock()
	p.notify()
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

func (p *pending) notify() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func callAll(calls []func()) {
	for _, call := range calls {
		call()
	}
}

// waitingHeap orders items by the time at which they may be written.
type waitingHeap []*item

func (h waitingHeap) Len() int           { return len(h) }
func (h waitingHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h waitingHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *waitingHeap) Push(x any) {
	it, _ := x.(*item)
	*h = append(*h, it)
}

// Pop implements heap.Interface.
func (h *waitingHeap) Pop() any {
	old := *h
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return it
}
