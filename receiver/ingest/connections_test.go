package ingest_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/dialect/ringme"
	"github.com/pbx-operator/pbx-operator/receiver/ingest"
)

// hold opens connections from an address and leaves them open until the test ends.
func hold(t *testing.T, from, address string, count int, send string) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	for range count {
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, send); err != nil {
			t.Fatal(err)
		}
	}
}

// answer is what a caller hears.
type answer struct {
	status     int
	retryAfter string
}

// call sends one event and returns the answer. It does not wait for as long as patientLimits let
// others wait.
func call(t *testing.T, client *http.Client, address, body string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/ext-event/"+token, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", ingest.FormType)
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("the PBX is not heard: %v", err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	return answer{status: response.StatusCode, retryAfter: response.Header.Get("Retry-After")}
}

func patientLimits(connections int) ingest.Limits {
	limits := ingest.DefaultLimits()
	limits.Connections = connections
	limits.Header, limits.Body, limits.Idle = time.Minute, time.Minute, time.Minute
	return limits
}

func TestStrangersDoNotKeepAPBXOut(t *testing.T) {
	for name, sources := range map[string]int{"from one address, which may be that of a proxy": 1, "from many addresses": 40} {
		t.Run(name, func(t *testing.T) {
			address, d := serve(t, patientLimits(64))
			var ours int
			pbx := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
				ours++
				return (&net.Dialer{}).DialContext(ctx, network, to)
			}}}
			defer pbx.CloseIdleConnections()
			if got := call(t, pbx, address, dialIn).status; got != http.StatusOK {
				t.Fatalf("status %d", got)
			}
			for source := range sources {
				hold(t, fmt.Sprintf("127.0.0.%d", source+1), address, 2000/sources, "POST /ext-event/")
			}
			if got := call(t, pbx, address, dialIn).status; got != http.StatusOK || ours != 1 {
				t.Errorf("status %d over %d connections, want the first one to be kept", got, ours)
			}
			other := &http.Client{Transport: &http.Transport{}}
			defer other.CloseIdleConnections()
			if got := call(t, other, address, dialIn).status; got != http.StatusOK || len(d.stored) != 3 {
				t.Errorf("a new connection of a PBX got status %d; %d events are stored", got, len(d.stored))
			}
		})
	}
}

func TestCallersOfUnknownURLsAreHungUpOn(t *testing.T) {
	address, _ := serve(t, patientLimits(64))
	heard := exchange(t, address, "POST /ext-event/"+unknown+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
	if !strings.HasPrefix(heard, "HTTP/1.1 404") || !strings.Contains(heard, "Connection: close") {
		t.Errorf("got %q", heard)
	}
}

func TestSlowLargeBodiesDoNotTakeAllMemory(t *testing.T) {
	d := &intake{}
	handler := ingest.New(ingest.Config{Resolver: d, Journal: d, Dialect: ringme.Dialect{}, BodyBytes: 256 << 10})
	address := serveHandler(t, handler, patientLimits(256))
	large := dialIn + "&Filler=" + strings.Repeat("x", 60<<10)
	head := fmt.Sprintf("POST /ext-event/%s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", token, ingest.FormType, len(large))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if got := call(t, client, address, large).status; got != http.StatusOK {
		t.Fatalf("a large body was answered %d", got)
	}
	slow, stop := context.WithCancel(t.Context())
	defer stop()
	for range 50 {
		conn, err := (&net.Dialer{}).DialContext(slow, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		context.AfterFunc(slow, func() { _ = conn.Close() })
		_, _ = io.WriteString(conn, head+large[:len(large)-1]) // some are refused meanwhile
	}
	refused := eventually(t, func() bool {
		got := call(t, client, address, large)
		return got.status == http.StatusServiceUnavailable && got.retryAfter != ""
	})
	if !refused {
		t.Error("any number of large bodies is held in memory")
	}
	if got := call(t, client, address, dialIn).status; got != http.StatusOK {
		t.Errorf("an ordinary event was answered %d", got)
	}
	stop()
	if !eventually(t, func() bool { return call(t, client, address, large).status == http.StatusOK }) {
		t.Error("the memory is not given back")
	}
}

func eventually(t *testing.T, holds func() bool) bool {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if holds() {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

var discard = slog.New(slog.DiscardHandler)
