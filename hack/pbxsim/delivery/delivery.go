// Package delivery sends a PBX's notifications over HTTP: form parameters in the query of a GET or
// the body of a POST, or a body of another type; any 2xx counts as delivered, no retry unless asked
// for. Its options make the delivery as bad as a test wants it.
package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultTimeout is how long a receiver may take to answer.
const DefaultTimeout = 5 * time.Second

// Duration is a time.Duration that is written as text, for example 1.5s.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Options are the switches of a delivery. The zero value delivers every notification once, in order
// and at once.
type Options struct {
	Timeout    Duration `json:"timeout,omitzero"`     // per attempt; default 5s
	Retries    int      `json:"retries,omitempty"`    // further attempts after a failure; default none
	RetryDelay Duration `json:"retryDelay,omitzero"`  // between attempts
	Duplicates float64  `json:"duplicates,omitempty"` // share of notifications sent twice, 0 to 1
	Loss       float64  `json:"loss,omitempty"`       // share of notifications never sent, 0 to 1
	Delay      Duration `json:"delay,omitzero"`       // of every notification
	Reorder    Duration `json:"reorder,omitzero"`     // window of a further random delay; gives up the order
	RawStar    bool     `json:"rawStar,omitempty"`    // send * as such instead of %2A
	RawPlus    bool     `json:"rawPlus,omitempty"`    // send + as such instead of %2B, as careless PBXs do

	Overtake     Duration `json:"overtake,omitzero"`      // every other notification takes so much longer; the next ones overtake it
	RepeatAfter  Duration `json:"repeatAfter,omitzero"`   // every notification is sent once more so much later, as if nobody had answered
	EventInQuery bool     `json:"eventInQuery,omitempty"` // a POST has the event in its query, and the body {}
	// ClockSkew is by how much the clock of a second node is ahead, which stamps every other event
	// of a call.
	ClockSkew Duration `json:"clockSkew,omitzero"`
}

// Unordered reports whether notifications do not wait for those before them.
func (o Options) Unordered() bool { return o.Reorder > 0 || o.Overtake > 0 || o.RepeatAfter > 0 }

// Copies decides, reproducibly for a seed and a position, when the copies of a notification are
// sent: none when it is lost, two when it is duplicated.
func (o Options) Copies(seed string, position int) []time.Duration {
	delay := time.Duration(o.Delay)
	if position%2 == 1 {
		delay += time.Duration(o.Overtake)
	}
	if o.Loss == 0 && o.Duplicates == 0 && o.Reorder == 0 {
		return o.repeated([]time.Duration{delay})
	}
	h := fnv.New64a()
	_, _ = io.WriteString(h, seed) // never fails
	rng := rand.New(rand.NewPCG(h.Sum64(), uint64(position)))
	if rng.Float64() < o.Loss {
		return nil
	}
	n := 1
	if rng.Float64() < o.Duplicates {
		n = 2
	}
	copies := make([]time.Duration, n)
	for i := range copies {
		copies[i] = delay + time.Duration(rng.Float64()*float64(o.Reorder))
	}
	return o.repeated(copies)
}

// repeated adds the repetition of a sender that timed out.
func (o Options) repeated(copies []time.Duration) []time.Duration {
	if o.RepeatAfter > 0 {
		copies = append(copies, copies[0]+time.Duration(o.RepeatAfter))
	}
	return copies
}

// Result is the outcome of one delivery.
type Result struct {
	Status   int   // last HTTP status; 0 when there was no answer
	Attempts int   // requests made
	Err      error // why there was no answer; never contains the URL
}

// Delivered reports whether the receiver took the notification.
func (r Result) Delivered() bool { return r.Status >= 200 && r.Status < 300 }

// Sender delivers notifications over kept-alive connections.
type Sender struct{ client *http.Client }

// NewSender returns a Sender with room for many connections per receiver.
func NewSender() *Sender {
	return &Sender{client: &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: DefaultTimeout, KeepAlive: 30 * time.Second}).DialContext,
			MaxIdleConns:        1024,
			MaxIdleConnsPerHost: 512,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
		},
		// A redirect is not a 2xx: nothing says that the PBX follows one.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes idle connections.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// Message is one notification on its way to one receiver.
type Message struct {
	Method  string // GET or POST
	URL     string
	Params  url.Values // sent as a form
	RawPlus bool       // send + as such instead of %2B
	// Body is sent by POST instead of the parameters when it has a content type.
	Body        []byte
	ContentType string
}

// Send delivers one notification, with as many attempts as the options allow.
func (s *Sender) Send(ctx context.Context, m Message, o Options) Result {
	if m.ContentType == "" {
		m = o.encoded(m)
	}
	var r Result
	for {
		r.Attempts++
		r.Status, r.Err = s.attempt(ctx, m, time.Duration(o.Timeout))
		if r.Delivered() || r.Attempts > o.Retries || !pause(ctx, time.Duration(o.RetryDelay)) {
			return r
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// encoded puts the parameters where the method wants them.
func (o Options) encoded(m Message) Message {
	form := m.Params.Encode()
	if o.RawStar {
		form = strings.ReplaceAll(form, "%2A", "*")
	}
	if o.RawPlus || m.RawPlus {
		form = strings.ReplaceAll(form, "%2B", "+")
	}
	if m.Method == http.MethodPost && o.EventInQuery {
		m.URL, m.Body, m.ContentType = withQuery(m.URL, form), []byte("{}"), "application/json"
		return m
	}
	if m.Method == http.MethodPost {
		m.Body, m.ContentType = []byte(form), "application/x-www-form-urlencoded"
		return m
	}
	m.URL = withQuery(m.URL, form)
	return m
}

// withQuery appends to the query that a URL has already.
func withQuery(target, form string) string {
	switch {
	case form == "":
		return target
	case strings.Contains(target, "?"):
		return target + "&" + form
	default:
		return target + "?" + form
	}
}

func (s *Sender) attempt(ctx context.Context, m Message, timeout time.Duration) (int, error) {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := m.request(ctx)
	if err != nil {
		return 0, withoutURL(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, withoutURL(err)
	}
	defer func() { _ = resp.Body.Close() }()
	// Draining lets the connection be used again; what the receiver says beyond its status does not
	// matter.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, nil
}

func (m Message) request(ctx context.Context) (*http.Request, error) {
	if m.ContentType == "" {
		return http.NewRequestWithContext(ctx, http.MethodGet, m.URL, nil)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL, bytes.NewReader(m.Body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", m.ContentType)
	return req, nil
}

// withoutURL strips the event URL, which is a credential, from an error.
func withoutURL(err error) error {
	var ue *url.Error
	if !errors.As(err, &ue) {
		return err
	}
	if ue.Op == "parse" {
		return errors.New("the registered URL is invalid")
	}
	return fmt.Errorf("%s: %w", ue.Op, ue.Err)
}
