package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/time/rate"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/ringme"
	"github.com/pbx-operator/pbx-operator/receiver/ingest"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

const (
	token   = "abcdefghijklmnopqrstuvwxyz234567"
	busy    = "busybusybusybusybusybusybusybusy"
	unknown = "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"
	dialIn  = "EventType=dial-in&CallID=c1&SubCallID=5101-c1&CallerIDNum=%2B12025550143&CalledNumber=1234*101&EventTime=1767348000000000"
)

var received = time.Date(2026, 1, 2, 10, 0, 0, 123456000, time.UTC)

// intake is a resolver and a journal in memory.
type intake struct {
	mu          sync.Mutex
	stored      [][]byte
	quarantined [][]byte
	err         error
}

func (d *intake) Resolve(t string) (*sources.Target, bool) {
	switch t {
	case token:
		return &sources.Target{Mapping: "uid-1", Source: callevent.Source{Type: callevent.Phone, Number: "1234*101", ID: "5101"}}, true
	case busy:
		return &sources.Target{Mapping: "uid-2", Limiter: rate.NewLimiter(0, 0)}, true
	default:
		return nil, false
	}
}

func (d *intake) Append(record []byte, _ journal.Decoded) error { return d.put(&d.stored, record) }

func (d *intake) AppendQuarantine(record []byte) error { return d.put(&d.quarantined, record) }

func (d *intake) put(to *[][]byte, record []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		*to = append(*to, bytes.Clone(record))
	}
	return d.err
}

func (d *intake) handler(logs io.Writer) *ingest.Handler {
	return ingest.New(ingest.Config{
		Resolver: d, Journal: d, Dialect: ringme.Dialect{}, Now: func() time.Time { return received },
		Logger: slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
}

func TestAnswers(t *testing.T) {
	form := ingest.FormType
	path := "/ext-event/" + token
	for name, c := range map[string]struct {
		method, path, query, contentType, encoding, body string
		err                                              error
		status                                           int
		detail, allow, retryAfter                        string
		stored, quarantined                              int
	}{
		"POST":                {body: dialIn, contentType: form, status: 200, stored: 1},
		"POST with charset":   {body: dialIn, contentType: form + "; charset=UTF-8", status: 200, stored: 1},
		"POST without type":   {body: dialIn, status: 200, stored: 1},
		"GET":                 {method: "GET", query: dialIn, status: 200, stored: 1},
		"GET, empty JSON":     {method: "GET", query: dialIn, contentType: "application/json", status: 200, stored: 1},
		"path prefix":         {path: "/prefix" + path, body: dialIn, contentType: form, status: 200, stored: 1},
		"suffix":              {path: path + "/dial-in", body: dialIn, contentType: form, status: 200, stored: 1},
		"HEAD":                {method: "HEAD", status: 200},
		"OPTIONS":             {method: "OPTIONS", status: 204, allow: "GET, POST, HEAD, OPTIONS"},
		"root":                {path: "/", body: dialIn, status: 404, detail: "no such event URL"},
		"unknown token":       {path: "/ext-event/" + unknown, body: dialIn, contentType: form, status: 404, detail: "no such event URL"},
		"unknown, bad method": {method: "PUT", path: "/ext-event/" + unknown, status: 404, detail: "no such event URL"},
		"short token":         {path: "/ext-event/abc", body: dialIn, status: 404, detail: "no such event URL"},
		"longer token":        {path: path + "x", body: dialIn, status: 404, detail: "no such event URL"},
		"PUT":                 {method: "PUT", body: dialIn, status: 405, detail: "GET or POST", allow: "GET, POST, HEAD, OPTIONS"},
		"DELETE":              {method: "DELETE", status: 405, detail: "GET or POST", allow: "GET, POST, HEAD, OPTIONS"},
		"too large":           {body: strings.Repeat("x", ingest.MaxBody+1), contentType: form, status: 413, detail: "64 KiB"},
		"JSON":                {body: "{}", contentType: "application/json", status: 415, detail: form},
		"compressed":          {body: dialIn, contentType: form, encoding: "gzip", status: 415, detail: "not compressed"},
		"no event type":       {body: "CallID=c1", contentType: form, status: 422, detail: "EventType", quarantined: 1},
		"no call":             {body: "EventType=dial-in", contentType: form, status: 422, detail: "CallID", quarantined: 1},
		"empty":               {contentType: form, status: 422, detail: "EventType", quarantined: 1},
		"bad escape":          {body: "EventType=%zz", contentType: form, status: 422, quarantined: 1, detail: "%"},
		"too often":           {path: "/ext-event/" + busy, body: dialIn, contentType: form, status: 429, detail: "too often", retryAfter: "1"},
		"busy":                {body: dialIn, contentType: form, err: journal.ErrBusy, status: 503, detail: "later", retryAfter: "1"},
		"full":                {body: dialIn, contentType: form, err: journal.ErrFull, status: 503, detail: "later", retryAfter: "10"},
		"quarantine full":     {body: "x", contentType: form, err: journal.ErrFull, status: 503, detail: "later", retryAfter: "10"},
	} {
		t.Run(name, func(t *testing.T) {
			d, logs := &intake{err: c.err}, &bytes.Buffer{}
			if c.method == "" {
				c.method = http.MethodPost
			}
			if c.path == "" {
				c.path = path
			}
			request := httptest.NewRequest(c.method, c.path+"?"+c.query, strings.NewReader(c.body))
			request.Header.Set("Content-Type", c.contentType)
			request.Header.Set("Content-Encoding", c.encoding)
			response := httptest.NewRecorder()
			d.handler(logs).ServeHTTP(response, request)
			if response.Code != c.status || len(d.stored) != c.stored || len(d.quarantined) != c.quarantined {
				t.Errorf("got %d with %d stored and %d quarantined; body %s", response.Code, len(d.stored), len(d.quarantined), response.Body)
			}
			if got := response.Header().Get("Allow"); got != c.allow {
				t.Errorf("Allow: %q", got)
			}
			if got := response.Header().Get("Retry-After"); got != c.retryAfter {
				t.Errorf("Retry-After: %q", got)
			}
			checkProblem(t, response, c.status, c.detail)
			for _, secret := range []string{token, unknown, busy, "12025550143"} {
				if strings.Contains(response.Body.String()+logs.String(), secret) {
					t.Errorf("%s is in the answer %q or in the log %q", secret, response.Body, logs)
				}
			}
		})
	}
}

func checkProblem(t *testing.T, response *httptest.ResponseRecorder, status int, detail string) {
	t.Helper()
	if status < 400 {
		if response.Body.Len() > 0 {
			t.Errorf("a success has a body: %s", response.Body)
		}
		return
	}
	var problem struct {
		Title, Detail string
		Status        int
	}
	if err := json.Unmarshal(response.Body.Bytes(), &problem); err != nil {
		t.Fatal(err)
	}
	if got := response.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type: %s", got)
	}
	if problem.Status != status || problem.Title == "" || !strings.Contains(problem.Detail, detail) {
		t.Errorf("got %+v", problem)
	}
}

func TestRequestIsStoredAsItCame(t *testing.T) {
	d := &intake{}
	request := httptest.NewRequest(http.MethodPost, "/ext-event/"+token+"/dial-in?a=b", strings.NewReader(dialIn))
	request.Header.Set("Content-Type", ingest.FormType)
	d.handler(io.Discard).ServeHTTP(httptest.NewRecorder(), request)
	want := journal.Entry{Mapping: "uid-1", Request: callevent.Request{
		ReceivedAt: received, Method: "POST", Path: "/dial-in", Query: "a=b", ContentType: ingest.FormType, Body: dialIn,
		Source: callevent.Source{Type: callevent.Phone, Number: "1234*101", ID: "5101"},
	}}
	got, err := journal.DecodeEntry(d.stored[0])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// serve runs a real server with short patience.
func serve(t *testing.T, limits ingest.Limits) (address string, d *intake) {
	t.Helper()
	d = &intake{}
	return serveHandler(t, d.handler(io.Discard), limits), d
}

func serveHandler(t *testing.T, handler *ingest.Handler, limits ingest.Limits) (address string) {
	t.Helper()
	server, err := ingest.Listen(t.Context(), "127.0.0.1:0", handler, limits, discard)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := errors.Join(server.Shutdown(ctx), <-served); err != nil {
			t.Error(err)
		}
	})
	return server.Addr().String()
}

func shortLimits() ingest.Limits {
	return ingest.Limits{
		Connections: 2, HeaderBytes: 4 << 10,
		Header: 100 * time.Millisecond, Body: 200 * time.Millisecond, Answer: 5 * time.Second, Idle: 300 * time.Millisecond,
	}
}

// exchange sends raw bytes and returns all that comes back until the server hangs up.
func exchange(t *testing.T, address, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, request) // the server may hang up before the end of it
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the server does not hang up: %v", err)
	}
	return string(answer)
}

func TestSlowAndHostileClients(t *testing.T) {
	slow, _ := serve(t, shortLimits())
	patient := shortLimits()
	patient.Header, patient.Body = time.Minute, time.Minute // however busy the machine is, those who are not slow are not cut off
	address, d := serve(t, patient)
	head := "POST /ext-event/" + token + " HTTP/1.1\r\nHost: x\r\nContent-Type: " + ingest.FormType + "\r\n"
	for name, c := range map[string]struct{ request, status string }{
		"nothing":          {"", ""},
		"endless header":   {head, ""},
		"body never comes": {head + "Content-Length: 100\r\n\r\nEventType=", "408"},
		"huge header":      {head + "X-Filler: " + strings.Repeat("x", 16<<10) + "\r\n\r\n", "431"},
		"endless chunks": {
			head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n", 20), "413",
		},
		"idle after a request": {fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(dialIn), dialIn), "200"},
	} {
		t.Run(name, func(t *testing.T) {
			address := address
			if c.status == "" || c.status == "408" {
				address = slow
			}
			answer := exchange(t, address, c.request)
			if c.status == "" && answer != "" && !strings.HasPrefix(answer, "HTTP/1.1 408") || c.status != "" && !strings.HasPrefix(answer, "HTTP/1.1 "+c.status) {
				t.Errorf("got %q, expected %s", answer, c.status)
			}
		})
	}
	if len(d.stored) != 1 {
		t.Errorf("%d requests were stored", len(d.stored))
	}
}

// FuzzIngest looks for requests that break the intake: each must be answered with a status that the
// documentation lists, and stored exactly if it is accepted.
func FuzzIngest(f *testing.F) {
	f.Add("POST", token, "", "", ingest.FormType, dialIn)
	f.Add("GET", token, "/dial-in", dialIn, "", "")
	f.Add("POST", token, "", "", ingest.FormType, "agent_id=77&agent_status=available&agent_type=local&extension_name=1234*101%40sip.example.com")
	f.Add("POST", token, "", "", ingest.FormType, "event_type=call-status-change&client_id=12&extension_id=5101&new_status_id=")
	f.Add("POST", token, "", "", ingest.FormType, "EventType=%zz&;=&=&&CallID")
	f.Add("POST", unknown, "/../..", "", "application/json", `{"a":1}`)
	f.Add("PATCH", busy, "/\x00", "%", "multipart/form-data", "--x")
	known := map[int]bool{200: true, 204: true, 400: true, 404: true, 405: true, 413: true, 415: true, 422: true, 429: true}
	f.Fuzz(func(t *testing.T, method, token, suffix, query, contentType, body string) {
		request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		request.Method, request.URL.Path, request.URL.RawQuery = method, "/ext-event/"+token+suffix, query
		request.Header.Set("Content-Type", contentType)
		d, response := &intake{}, httptest.NewRecorder()
		d.handler(io.Discard).ServeHTTP(response, request)
		if !known[response.Code] {
			t.Fatalf("status %d", response.Code)
		}
		taken := response.Code == http.StatusOK && (method == http.MethodGet || method == http.MethodPost)
		if taken != (len(d.stored) == 1) || (response.Code == http.StatusUnprocessableEntity) != (len(d.quarantined) == 1) {
			t.Fatalf("status %d with %d stored and %d quarantined", response.Code, len(d.stored), len(d.quarantined))
		}
		if !taken {
			return
		}
		entry, err := journal.DecodeEntry(d.stored[0])
		if err != nil || entry.Request.Body != body || entry.Request.Query != query || entry.Request.Path != suffix {
			t.Fatalf("stored %+v, %v", entry, err)
		}
	})
}
