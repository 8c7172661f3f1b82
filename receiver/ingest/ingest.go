// Package ingest takes call events over HTTP. A request is answered 2xx only after it is durable;
// nothing else happens inside it.
package ingest

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
	"github.com/pbx-operator/pbx-operator/receiver/dialect"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

const (
	// MaxBody is the size of the largest body that is taken, in bytes.
	MaxBody = 64 << 10
	// DefaultBodyBytes is how many bytes of large bodies are in memory at a time.
	DefaultBodyBytes = 8 << 20
	// FormType is the content type of PBXs that send form parameters.
	FormType = "application/x-www-form-urlencoded"

	allowedMethods = "GET, POST, HEAD, OPTIONS"
	retryBusy      = "1"
	retryFull      = "10"
	// troubleInterval is how often it is logged that events are refused.
	troubleInterval = 10 * time.Second
)

// Resolver tells what a token stands for.
type Resolver interface {
	Resolve(token string) (*sources.Target, bool)
}

// Journal makes encoded entries durable.
type Journal interface {
	Append(record []byte, decoded journal.Decoded) error
	AppendQuarantine(record []byte) error
}

// Config says what a handler works with.
type Config struct {
	Resolver Resolver
	Journal  Journal
	Dialect  dialect.Dialect
	// ContentTypes that the body of a notification may have. Default: form parameters.
	ContentTypes []string
	// Quarantined is told why a request was quarantined; it must not block. Optional.
	Quarantined func(reason string)
	// BodyBytes bounds the bytes of large bodies in memory. Default DefaultBodyBytes.
	BodyBytes int64
	// Now is the clock. Default time.Now.
	Now     func() time.Time
	Metrics *Metrics
	Logger  *slog.Logger
}

// Handler answers a PBX.
type Handler struct {
	config   Config
	bodies   budget
	troubles rate.Sometimes
}

// New makes a handler.
func New(config Config) *Handler {
	if config.ContentTypes == nil {
		config.ContentTypes = []string{FormType}
	}
	if config.Quarantined == nil {
		config.Quarantined = func(string) {}
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Metrics == nil {
		config.Metrics = NewMetrics(nil)
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.BodyBytes == 0 {
		config.BodyBytes = DefaultBodyBytes
	}
	h := &Handler{config: config, bodies: budget{limit: config.BodyBytes}, troubles: rate.Sometimes{First: 1, Interval: troubleInterval}}
	config.Metrics.observeBodies(&h.bodies)
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.config.Now()
	answer := h.answer(r, start)
	answer.write(w)
	h.config.Metrics.answered(answer.status, h.config.Now().Sub(start))
}

func (h *Handler) answer(r *http.Request, now time.Time) answer {
	target, rest, ok := h.resolve(r.URL.Path)
	caller := greet(r.Context(), ok)
	defer caller.answered()
	if !ok {
		return refuseAndClose(http.StatusNotFound, "there is no such event URL")
	}
	switch r.Method {
	case http.MethodGet, http.MethodPost:
		return h.take(r, target, rest, now)
	case http.MethodHead:
		return answer{status: http.StatusOK}
	case http.MethodOptions:
		return answer{status: http.StatusNoContent, allow: true}
	default:
		refusal := refuse(http.StatusMethodNotAllowed, "events are sent with GET or POST")
		refusal.allow = true
		return refusal
	}
}

// resolve finds out what an event URL stands for.
func (h *Handler) resolve(path string) (target *sources.Target, rest string, ok bool) {
	token, rest, ok := eventurl.SplitPath(path)
	if !ok {
		return nil, "", false
	}
	target, ok = h.config.Resolver.Resolve(token)
	return target, rest, ok
}

// take makes one event durable.
func (h *Handler) take(r *http.Request, target *sources.Target, rest string, now time.Time) answer {
	if target.Limiter != nil && !target.Limiter.AllowN(now, 1) {
		refusal := refuse(http.StatusTooManyRequests, "this event URL is called too often")
		refusal.retryAfter = retryBusy
		return refusal
	}
	expected := h.contentTypes(rest)
	understood := understands(r, expected)
	if !understood && !inQuery(r) {
		return unsupported(expected)
	}
	body, held, refusal := h.readBody(r)
	defer h.bodies.release(held)
	if refusal.status != 0 {
		return refusal
	}
	if !understood && len(body) > longestBlank { // how long it is was not said before
		return unsupported(expected)
	}
	entry := journal.Entry{Mapping: target.Mapping, Request: callevent.Request{
		ReceivedAt: now.UTC().Truncate(time.Microsecond), Source: target.Source, Method: r.Method,
		Path: rest, Query: r.URL.RawQuery, ContentType: r.Header.Get("Content-Type"), Body: body,
	}}
	events, err := h.config.Dialect.Decode(entry.Request)
	if err != nil {
		return h.quarantine(&entry, err)
	}
	keep := func(record []byte) error {
		return h.config.Journal.Append(record, journal.Decoded{Mapping: target.Mapping, Path: rest, Events: events})
	}
	if err := store(keep, &entry); err != nil {
		return h.unavailable(err)
	}
	h.config.Metrics.took(events)
	return answer{status: http.StatusOK}
}

// contentTypes are those that a body may have: a PBX's history has its own, whatever the PBX.
func (h *Handler) contentTypes(rest string) []string {
	if rest == callhistory.Path {
		return []string{callhistory.ContentType}
	}
	return h.config.ContentTypes
}

// understands reports whether the body, if any, is of a type that is read.
func understands(r *http.Request, expected []string) bool {
	if compressed(r) {
		return false
	}
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	media = strings.TrimSpace(media)
	if media == "" || r.ContentLength == 0 {
		return true
	}
	for _, known := range expected {
		if strings.EqualFold(media, known) {
			return true
		}
	}
	return false
}

func compressed(r *http.Request) bool {
	encoding := r.Header.Get("Content-Encoding")
	return encoding != "" && !strings.EqualFold(encoding, "identity")
}

func unsupported(expected []string) answer {
	return refuse(http.StatusUnsupportedMediaType, "expected a body of type "+strings.Join(expected, " or ")+", not compressed")
}

// longestBlank is the length of the longest body that says nothing.
const longestBlank = len("{ }\r\n")

// inQuery reports whether the event may be in the query, with a body that says nothing, such as {}:
// the decoder will tell. The length of a chunked body is not known yet.
func inQuery(r *http.Request) bool {
	return r.URL.RawQuery != "" && r.ContentLength <= int64(longestBlank) && !compressed(r)
}

// quarantine keeps a request that was not understood.
func (h *Handler) quarantine(entry *journal.Entry, reason error) answer {
	if err := store(h.config.Journal.AppendQuarantine, entry); err != nil {
		return h.unavailable(err)
	}
	h.config.Metrics.quarantined.Inc()
	h.config.Quarantined(reason.Error())
	return refuse(http.StatusUnprocessableEntity, reason.Error())
}

func (h *Handler) unavailable(err error) answer {
	refusal := refuse(http.StatusServiceUnavailable, "the event cannot be made durable at the moment; send it again later")
	refusal.retryAfter = retryBusy
	if !errors.Is(err, journal.ErrBusy) {
		refusal.retryAfter = retryFull
		h.troubles.Do(func() { h.config.Logger.Error("events are refused", "error", err) })
	}
	return refusal
}

const (
	// bufferSize fits the body of every ordinary event.
	bufferSize = 1 << 10
	// maxPooled is the size of the largest buffer that is kept for another record.
	maxPooled = 4 << 10
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, bufferSize); return &b }}

func store(put func([]byte) error, entry *journal.Entry) error {
	pooled, _ := buffers.Get().(*[]byte)
	record := journal.AppendEntry((*pooled)[:0], entry)
	err := put(record)
	if cap(record) <= maxPooled {
		*pooled = record // a little larger than it was
	}
	buffers.Put(pooled)
	return err
}

var (
	errTooLarge = errors.New("the body is larger than 64 KiB")
	errNoMemory = errors.New("too many large bodies are being read; send it again later")
)

// readBody reads what may be read, and returns how many bytes of the budget it has taken for that;
// the caller gives them back. A refusal with a status is the answer to give instead.
func (h *Handler) readBody(r *http.Request) (body string, held int, refusal answer) {
	if r.ContentLength == 0 {
		return "", 0, answer{}
	}
	pooled, _ := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	read, held, err := h.readAll((*pooled)[:0], r)
	switch {
	case err == nil:
		return string(read), held, answer{}
	case errors.Is(err, errTooLarge):
		return "", held, refuseAndClose(http.StatusRequestEntityTooLarge, err.Error())
	case errors.Is(err, errNoMemory):
		refusal = refuseAndClose(http.StatusServiceUnavailable, err.Error())
		refusal.retryAfter = retryBusy
		return "", held, refusal
	case isTimeout(err):
		return "", held, refuseAndClose(http.StatusRequestTimeout, "the body did not come in time")
	default:
		return "", held, refuse(http.StatusBadRequest, "the body ends before its end")
	}
}

// readAll reads a body, first into the given buffer. Larger ones are paid for as their bytes come
// in, not as they are announced.
func (h *Handler) readAll(buffer []byte, r *http.Request) (body []byte, held int, err error) {
	if r.ContentLength > MaxBody {
		return nil, 0, errTooLarge
	}
	for {
		if len(buffer) == cap(buffer) {
			if len(buffer) > MaxBody {
				return nil, held, errTooLarge
			}
			size := min(2*cap(buffer), MaxBody+1)
			if !h.bodies.take(size) {
				return nil, held, errNoMemory
			}
			h.bodies.release(held)
			held = size
			buffer = append(make([]byte, 0, size), buffer...)
		}
		n, err := r.Body.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		switch {
		case len(buffer) > MaxBody:
			return nil, held, errTooLarge
		case errors.Is(err, io.EOF):
			return buffer, held, nil
		case err != nil:
			return nil, held, err
		}
	}
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}
