package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"syscall"
)

// The limit is the least that a server has to do which answers an event with success only once it
// is on disk: net/http, the body parsed as a form, one write and one fdatasync for all events that
// wait. It checks nothing, and nobody reads what it writes.
const (
	// limitSize is the size of its file, in bytes. The file is written in full before the first
	// event, so that no sync has to grow it, and from its beginning again when its end is reached.
	limitSize = 256 << 20
	// limitWaiting and limitGroup are the limits of the receiver's commits.
	limitWaiting = 4096
	limitGroup   = 512 << 10
)

// limitRecord is an event on its way to the disk.
type limitRecord struct {
	body    []byte
	durable chan error
}

// limitLog appends records to a file in groups.
type limitLog struct {
	file  *os.File
	queue chan *limitRecord
	end   int64
}

func limit(ctx context.Context, address, path string) error {
	log, err := openLimitLog(path)
	if err != nil {
		return err
	}
	go log.run()
	server := &http.Server{Addr: address, Handler: log}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve %s: %w", address, err)
	}
	return nil
}

func openLimitLog(path string) (*limitLog, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("cannot make the log: %w", err)
	}
	zeros := make([]byte, limitGroup)
	for at := int64(0); at < limitSize; at += int64(len(zeros)) {
		if _, err := file.WriteAt(zeros, at); err != nil {
			return nil, fmt.Errorf("cannot preallocate the log: %w", err)
		}
	}
	return &limitLog{file: file, queue: make(chan *limitRecord, limitWaiting)}, file.Sync()
}

// ServeHTTP implements http.Handler.
func (l *limitLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("EventType") == "" {
		http.Error(w, "this is no call event", http.StatusUnprocessableEntity)
		return
	}
	record := &limitRecord{body: body, durable: make(chan error, 1)}
	l.queue <- record
	if err := <-record.durable; err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// run makes records durable: all that wait, with one write and one sync.
func (l *limitLog) run() {
	var group []byte
	var members []*limitRecord
	for first := range l.queue {
		group, members = l.gather(group[:0], members[:0], first)
		err := l.write(group)
		for _, record := range members {
			record.durable <- err
		}
	}
}

func (l *limitLog) gather(group []byte, members []*limitRecord, record *limitRecord) ([]byte, []*limitRecord) {
	for {
		group = append(binary.AppendUvarint(group, uint64(len(record.body))), record.body...)
		if members = append(members, record); len(group) >= limitGroup {
			return group, members
		}
		select {
		case record = <-l.queue:
		default:
			return group, members
		}
	}
}

func (l *limitLog) write(group []byte) error {
	if l.end+int64(len(group)) > limitSize {
		l.end = 0
	}
	if _, err := l.file.WriteAt(group, l.end); err != nil {
		return err
	}
	l.end += int64(len(group))
	return syscall.Fdatasync(int(l.file.Fd()))
}
