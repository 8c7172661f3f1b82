package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

const (
	// putChunk is how many records are written before an answer is waited for.
	putChunk = 500
	// maxBatch is how many records JetStream takes all or none of.
	maxBatch = 1000

	headerBatch    = "Nats-Batch-Id"
	headerPosition = "Nats-Batch-Sequence"
	headerCommit   = "Nats-Batch-Commit"
)

// writer writes a log of which every partition has an owner. What several owners in this process
// write at the same time goes together.
type writer struct {
	journal *Journal
	log     Log
	// last is the sequence of the newest record, as long as nobody else writes to the log. Only run
	// uses it.
	last uint64

	mu      sync.Mutex
	waiting []*write
	running bool
}

// write is what one owner wants written, behind its head.
type write struct {
	partition int
	// head is that of the partition, nil where it has none, and front the record of it.
	head    *head
	front   *nats.Msg
	records []keyed
	refused RefusedError
	done    chan error
}

// write returns when the records are written, or with the reason why it is not known that they are:
// a RefusedError, ErrFenced, or one that may pass.
func (w *writer) write(ctx context.Context, partition int, h *head, records []keyed) error {
	request := &write{partition: partition, head: h, done: make(chan error, 1), records: records}
	if h != nil {
		var err error
		if request.front, err = h.message(w.journal.headSubject(w.log, partition)); err != nil {
			return err
		}
	}
	w.mu.Lock()
	w.waiting = append(w.waiting, request)
	if !w.running {
		w.running = true
		go w.run(context.WithoutCancel(ctx))
	}
	w.mu.Unlock()
	if err := <-request.done; err != nil {
		return err
	}
	w.journal.changes[w.log].notify()
	return request.refused.orNil()
}

// run writes what is waiting until nothing is.
func (w *writer) run(ctx context.Context) {
	for {
		w.mu.Lock()
		requests := w.waiting
		w.waiting = nil
		if w.running = len(requests) > 0; !w.running {
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		if w.journal.alone() {
			w.writeAlone(ctx, requests)
			continue
		}
		w.writeFenced(ctx, requests)
	}
}

// outgoing is a record on its way, with the request that it belongs to.
type outgoing struct {
	keyed
	request *write
}

// behind puts records of the request behind its head.
func (r *write) behind(records []keyed) []outgoing {
	found := make([]outgoing, 0, len(records)+1)
	if r.head != nil {
		found = append(found, outgoing{keyed{Msg: r.front}, r})
	}
	for _, record := range records {
		found = append(found, outgoing{record, r})
	}
	return found
}

// writeAlone writes to a log that only this process can open, so that no fence is needed: records
// are sent one after the other, and one answer is waited for.
func (w *writer) writeAlone(ctx context.Context, requests []*write) {
	all := make([]outgoing, 0, len(requests))
	for _, request := range requests {
		all = append(all, request.behind(request.records)...)
	}
	var failed error
	for chunk := range slices.Chunk(all, putChunk) {
		err := w.send(ctx, chunk)
		if errors.Is(err, errIncomplete) || permanent(err) || w.roomy(err) {
			err = w.sendEach(ctx, chunk)
		}
		if failed = err; failed != nil {
			break
		}
	}
	for _, request := range requests {
		request.done <- failed
	}
}

// send sends records one after the other and asks for one answer, to the last of them. As nobody
// else writes, its sequence tells whether all were taken.
func (w *writer) send(ctx context.Context, records []outgoing) error {
	j := w.journal
	ack, err := w.publish(ctx, records, nil)
	if err = j.storeError(w.log, err); err != nil {
		return err
	}
	want := w.last + uint64(len(records))
	w.last = ack.Sequence
	if ack.Sequence != want {
		return fmt.Errorf("%w: the last of %d records has sequence %d, not %d", errIncomplete, len(records), ack.Sequence, want)
	}
	return nil
}

// publish sends records and returns the answer to the last of them.
func (w *writer) publish(ctx context.Context, records []outgoing, each func(*nats.Msg, int)) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	last := len(records) - 1
	for i, record := range records {
		if each != nil {
			each(record.Msg, i)
		}
		if i == last {
			break
		}
		if err := w.journal.conn.PublishMsg(record.Msg); err != nil {
			return nil, err
		}
	}
	return w.journal.js.PublishMsg(ctx, records[last].Msg, jetstream.WithRetryAttempts(0))
}

// roomy reports whether a log that is full has records that can give way.
func (w *writer) roomy(err error) bool { return w.log == Legs && errors.Is(err, ErrFull) }

// withRoom repeats a write once after room was made.
func (w *writer) withRoom(ctx context.Context, write func() error) error {
	err := write()
	if !w.roomy(err) {
		return err
	}
	if err := w.journal.tend(ctx, w.log, false); err != nil {
		return err
	}
	return write()
}

// sendEach writes records one by one, to find those that are refused, or to make room for each.
func (w *writer) sendEach(ctx context.Context, records []outgoing) error {
	for _, record := range records {
		err := w.withRoom(ctx, func() error {
			ack, err := w.publish(ctx, []outgoing{record}, nil)
			if err = w.journal.storeError(w.log, err); err == nil {
				w.last = ack.Sequence
			}
			return err
		})
		switch {
		case permanent(err):
			record.request.refused.add(record.key, reasonOf(err))
		case err != nil:
			return err
		}
	}
	return nil
}

// writeFenced writes each request together with its head or not at all, and only if nobody has
// replaced the head meanwhile.
func (w *writer) writeFenced(ctx context.Context, requests []*write) {
	for len(requests) > 0 {
		n, records := 1, len(requests[0].records)+1
		for n < len(requests) && records+len(requests[n].records)+1 <= maxBatch {
			records += len(requests[n].records) + 1
			n++
		}
		together := requests[:n]
		requests = requests[n:]
		if n > 1 && w.commitAll(ctx, together) == nil {
			for _, request := range together {
				request.done <- nil
			}
			continue
		}
		for _, request := range together {
			request.done <- w.commitAlone(ctx, request)
		}
	}
}

// commitAll writes small requests in one batch.
func (w *writer) commitAll(ctx context.Context, requests []*write) error {
	all := make([]outgoing, 0, len(requests))
	for _, request := range requests {
		all = append(all, request.behind(request.records)...)
	}
	return w.commit(ctx, all)
}

// commitAlone writes one request in as many batches as it takes.
func (w *writer) commitAlone(ctx context.Context, request *write) error {
	records := request.records
	for first := true; first || len(records) > 0; first = false {
		n := min(len(records), maxBatch-1)
		err := w.commitOwned(ctx, request, records[:n])
		if permanent(err) || w.roomy(err) {
			err = w.commitEach(ctx, request, records[:n])
		}
		if err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}

// commitEach writes records one by one, to find those that are refused, or to make room for each.
func (w *writer) commitEach(ctx context.Context, request *write, records []keyed) error {
	for i := range records {
		err := w.withRoom(ctx, func() error { return w.commitOwned(ctx, request, records[i:i+1]) })
		if permanent(err) {
			request.refused.add(records[i].key, reasonOf(err))
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// commitOwned writes one batch. Where the head is another one than was expected, it is looked at:
// it may be that of an attempt that was not answered.
func (w *writer) commitOwned(ctx context.Context, request *write, records []keyed) error {
	all := request.behind(records)
	if err := w.commit(ctx, all); !isWrongSequence(err) {
		return err
	}
	now, err := w.journal.readHead(ctx, w.log, request.partition)
	switch {
	case err != nil:
		return err
	case now.Term != request.head.Term || now.sequence == request.head.sequence:
		return ErrFenced
	}
	request.head.sequence = now.sequence
	if err = w.commit(ctx, all); isWrongSequence(err) {
		return ErrFenced
	}
	return err
}

// commit writes a batch: all records of it, or none.
func (w *writer) commit(ctx context.Context, all []outgoing) error {
	id := nuid.Next()
	ack, err := w.publish(ctx, all, func(m *nats.Msg, i int) {
		if m.Header == nil {
			m.Header = nats.Header{}
		}
		m.Header[headerBatch], m.Header[headerPosition] = []string{id}, []string{strconv.Itoa(i + 1)}
		delete(m.Header, headerCommit)
		if h := all[i].request.head; all[i].key == "" {
			m.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(h.sequence, 10)}
		}
		if i == len(all)-1 {
			m.Header[headerCommit] = []string{"1"}
		}
	})
	if err = w.journal.storeError(w.log, err); err != nil {
		return err
	}
	first := ack.Sequence - uint64(len(all)) + 1
	for i, record := range all {
		if record.key == "" {
			record.request.head.sequence = first + uint64(i)
		}
	}
	return nil
}
