package journal

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// maxGroupBytes is from how many bytes on a group is not added to, where the server takes 1 MiB, as
	// by default.
	maxGroupBytes = 512 << 10
	// maxWaiting bounds the records that wait to be made durable.
	maxWaiting = 4096
	// A commit after one of more than crowd records is held back for a lull, in which others join
	// it: fewer commits, and fewer fsyncs.
	crowd = 8
	lull  = 600 * time.Microsecond
	// publishTimeout is how long a group may take to become durable.
	publishTimeout = 5 * time.Second
)

var (
	// ErrBusy says that more records wait to be made durable than the journal holds.
	ErrBusy = errors.New("the journal has too many records waiting")
	// ErrClosed says that the journal takes no more records.
	ErrClosed = errors.New("the journal is closed")
)

// waiting is one record on its way to the disk. Its done channel gets exactly one value.
type waiting struct {
	record  []byte
	decoded Decoded
	// touched are the partitions that it belongs to, where it is known to what it decodes.
	touched PartitionSet
	done    chan error
}

// commit is how making a group durable went.
type commit struct {
	// sequence of the group in its log; 0 after an error.
	sequence uint64
	members  []*waiting
	bytes    int
	took     time.Duration
	err      error
}

var waitingPool = sync.Pool{New: func() any { return &waiting{done: make(chan error, 1)} }}

// committer makes records durable in groups: it takes what is waiting, in a crowd also what comes
// within a lull, and releases all of them after one publish, which is one fsync.
type committer struct {
	// limit is from how many bytes on a group is not added to.
	limit   func() int
	publish func(ctx context.Context, group []byte) (sequence uint64, err error)
	// settle is told of every commit before those that wait for it.
	settle   func(commit)
	queue    chan *waiting
	mu       sync.RWMutex
	closed   bool
	finished chan struct{}
}

func newCommitter(ctx context.Context, limit func() int, publish func(context.Context, []byte) (uint64, error), settle func(commit)) *committer {
	c := &committer{limit: limit, publish: publish, settle: settle, queue: make(chan *waiting, maxWaiting), finished: make(chan struct{})}
	go c.run(context.WithoutCancel(ctx))
	return c
}

// append returns after record is durable, or with the reason why it is not known to be. The caller
// may reuse record then.
func (c *committer) append(record []byte, decoded Decoded, touched PartitionSet) error {
	w, _ := waitingPool.Get().(*waiting)
	w.record, w.decoded, w.touched = record, decoded, touched
	if err := c.enqueue(w); err != nil {
		waitingPool.Put(w)
		return err
	}
	err := <-w.done
	w.record, w.decoded = nil, Decoded{}
	waitingPool.Put(w)
	return err
}

func (c *committer) enqueue(w *waiting) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return ErrClosed
	}
	select {
	case c.queue <- w:
		return nil
	default:
		return ErrBusy
	}
}

func (c *committer) run(ctx context.Context) {
	defer close(c.finished)
	var group []byte
	var members []*waiting
	for first := range c.queue {
		if len(members) > crowd {
			time.Sleep(lull)
		}
		group, members = c.gather(group[:0], members[:0], first)
		start := time.Now()
		limited, cancel := context.WithTimeout(ctx, publishTimeout)
		sequence, err := c.publish(limited, group)
		cancel()
		c.settle(commit{sequence: sequence, members: members, bytes: len(group), took: time.Since(start), err: err})
		for _, w := range members {
			w.done <- err
		}
	}
}

// gather builds a group of first and whatever else is waiting.
func (c *committer) gather(group []byte, members []*waiting, first *waiting) ([]byte, []*waiting) {
	limit := c.limit()
	for w := first; ; {
		group, members = appendFrame(group, w), append(members, w)
		if len(group) >= limit {
			return group, members
		}
		select {
		case next, ok := <-c.queue:
			if !ok {
				return group, members
			}
			w = next
		default:
			return group, members
		}
	}
}

// close waits until everything that was taken is durable or refused.
func (c *committer) close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.queue)
	}
	c.mu.Unlock()
	<-c.finished
}
