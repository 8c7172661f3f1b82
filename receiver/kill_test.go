package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

const childVariable = "PBX_RECEIVER_TEST_CHILD"

// TestMain turns the test binary into a receiver where a test asks for one.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Args = append([]string{"receiver"}, os.Args[1:]...)
		main()
		return
	}
	os.Exit(m.Run())
}

const (
	testToken   = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	testSources = `
pbx: RingMe
sources:
- {token: ` + testToken + `, source: {type: Phone, number: "1234*101", id: "5101", user: ann}}
`
)

// child is a receiver in a process of its own.
type child struct {
	dir, address, probes string
	// arguments and environment come on top of those of every receiver here.
	arguments, environment []string
	command                *exec.Cmd
}

func newChild(t testing.TB) *child { t.Helper(); return newChildOf(t, testSources) }

// newChildOf has a table of event URLs of its own.
func newChildOf(t testing.TB, table string) *child {
	t.Helper()
	c := &child{dir: t.TempDir(), address: freeAddress(t), probes: freeAddress(t)}
	if err := os.WriteFile(filepath.Join(c.dir, "sources.yaml"), []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.kill() })
	return c
}

// freeAddress is one that stays free while no receiver listens on it: nothing else uses its host,
// and connections to it come from another one.
func freeAddress(t testing.TB) string {
	t.Helper()
	pid, n := os.Getpid(), hosts.Add(1)
	host := net.IPv4(127, byte(64+pid>>8&63), byte(pid), byte(n)).String()
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// hosts counts the hosts that were given away.
var hosts atomic.Uint32

// start returns when the receiver is ready, and tells how long that took.
func (c *child) start(t testing.TB) time.Duration {
	t.Helper()
	c.launch(t)
	return c.awaitReady(t)
}

// launch begins to start the receiver.
func (c *child) launch(t testing.TB) {
	t.Helper()
	c.command = exec.Command(os.Args[0], "serve", "--sources-file", filepath.Join(c.dir, "sources.yaml"),
		"--data-dir", filepath.Join(c.dir, "data"), "--listen", c.address, "--probe-listen", c.probes, "--source-rate", "0", "--log-level", "warn")
	c.command.Args = append(c.command.Args, c.arguments...)
	c.command.Env = append(append(os.Environ(), childVariable+"=1"), c.environment...)
	c.command.Stderr = os.Stderr
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
}

func (c *child) awaitReady(t testing.TB) time.Duration {
	t.Helper()
	begun := time.Now()
	for deadline := begun.Add(90 * time.Second); time.Now().Before(deadline); {
		response, err := http.Get("http://" + c.probes + "/readyz")
		if err != nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return time.Since(begun)
		}
	}
	t.Fatal("the receiver does not become ready")
	return 0
}

// kill ends the receiver as a loss of its node would.
func (c *child) kill() {
	if c.command != nil {
		_ = c.command.Process.Kill()
		_ = c.command.Wait()
		c.command = nil
	}
}

// stop ends the receiver as the kubelet does.
func (c *child) stop(t *testing.T) {
	t.Helper()
	if err := c.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.command.Wait(); err != nil {
		t.Errorf("the receiver did not end well: %v", err)
	}
	c.command = nil
}

// metric reads one number without labels.
func (c *child) metric(t testing.TB, name string) float64 {
	t.Helper()
	response, err := http.Get("http://" + c.probes + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
		var value float64
		if _, err := fmt.Sscanf(scanner.Text(), name+" %g", &value); err == nil {
			return value
		}
	}
	return -1
}

// awaitCorrelation waits until every event that was taken is in its legs.
func (c *child) awaitCorrelation(t testing.TB) {
	t.Helper()
	waitUntil(t, func() bool {
		return c.metric(t, "pbx_receiver_processed_sequence") == c.metric(t, `pbx_receiver_log_last_sequence{log="EVENTS"}`)
	})
}

// eventKey identifies an event by what a leg shows of it.
type eventKey struct {
	call string
	kind callevent.Type
	time int64
}

// caller places calls over one connection and remembers which events were acknowledged.
type caller struct {
	id      int
	address string
	conn    net.Conn
	reader  *bufio.Reader
	acked   []eventKey
	total   *atomic.Int64
}

var kinds = [...]struct {
	wire   string
	status string
	kind   callevent.Type
}{{"dial-in", "CALLING", callevent.DialIn}, {"answer", "ANSWER", callevent.Answer}, {"hangup", "ANSWER", callevent.Hangup}}

func (c *caller) run(ctx context.Context) {
	random := rand.New(rand.NewPCG(7, uint64(c.id)))
	for n := 0; ctx.Err() == nil; n++ {
		call := fmt.Sprintf("%08x%024x", c.id, n)
		for i, k := range kinds {
			at := time.Now().UnixMicro() + int64(i)
			body := fmt.Sprintf("EventType=%s&CallID=%s&SubCallID=5101-%s&CallFlow=in&CallStatus=%s&CallerIDNum=%%2B12025550143&"+
				"CalledNumber=1234*101&CalledExtension=1234*101%%40sip.example.com&CalledExtensionID=5101&CalledDID=12025550100&EventTime=%d",
				k.wire, call, call, k.status, at)
			// Without an answer nobody knows what became of the event. Some PBXs send it again,
			// others do not.
			for !c.send(body) && ctx.Err() == nil {
				if random.IntN(2) == 0 {
					at = 0
					break
				}
			}
			if at != 0 && ctx.Err() == nil {
				c.acked = append(c.acked, eventKey{call, k.kind, at})
				c.total.Add(1)
			}
		}
	}
}

// send reports whether the event was acknowledged.
func (c *caller) send(body string) bool {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			return false
		}
		c.conn, c.reader = conn, bufio.NewReader(conn)
	}
	_, err := fmt.Fprintf(c.conn, "POST /ext-event/%s HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"Content-Length: %d\r\n\r\n%s", testToken, len(body), body)
	if err == nil {
		var response *http.Response
		if response, err = http.ReadResponse(c.reader, nil); err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			return response.StatusCode/100 == 2
		}
	}
	_ = c.conn.Close()
	c.conn = nil
	return false
}

// TestKilledReceiverLosesNothing kills a receiver again and again while events come in. Every event
// that was acknowledged must be in a leg at the end, and no leg may be there twice.
func TestKilledReceiverLosesNothing(t *testing.T) {
	const wanted, kills, callers = 105_000, 6, 32
	c := newChild(t)
	c.start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var total atomic.Int64
	var working sync.WaitGroup
	all := make([]*caller, callers)
	for i := range all {
		all[i] = &caller{id: i, address: c.address, total: &total}
		working.Go(func() { all[i].run(ctx) })
	}
	for n := 1; n <= kills; n++ {
		target := int64(wanted*n/(kills+1)) + rand.Int64N(wanted/(4*kills))
		waitUntil(t, func() bool { return total.Load() >= target })
		c.kill()
		t.Logf("killed at %d events; ready again after %v", total.Load(), c.start(t).Round(time.Millisecond))
	}
	waitUntil(t, func() bool { return total.Load() >= wanted })
	cancel()
	working.Wait()
	c.awaitCorrelation(t)
	c.stop(t)
	legs := readLegs(t, filepath.Join(c.dir, "data"))
	verifyLegs(t, all, legs, 100_000)
}

func waitUntil(t testing.TB, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !condition(); {
		if time.Now().After(deadline) {
			t.Fatal("it takes too long")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// readLegs reads the LEGS log of a receiver that has ended.
func readLegs(t *testing.T, dir string) []correlation.Leg {
	t.Helper()
	return readLegsOf(t, journal.Config{Dir: dir, Logger: discard()})
}

func readLegsOf(t *testing.T, config journal.Config) []correlation.Leg {
	t.Helper()
	j, err := journal.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	stats, err := j.Stats(t.Context(), journal.Legs)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	newest := make(map[string]correlation.Leg) // one that changes meanwhile comes again
	var consuming sync.WaitGroup
	consuming.Go(func() {
		_ = j.ConsumeLegs(ctx, "test", func(_ context.Context, records []journal.LegRecord) error {
			mu.Lock()
			defer mu.Unlock()
			for i := range records {
				newest[records[i].Key] = records[i].Leg
			}
			return nil
		})
	})
	waitUntil(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(newest)+j.Partitions() >= int(stats.Records) // every partition has a head, too
	})
	cancel()
	consuming.Wait()
	return slices.Collect(maps.Values(newest))
}

// verifyLegs demands that each of at least so many acknowledged events is in one leg.
func verifyLegs(t *testing.T, callers []*caller, legs []correlation.Leg, atLeast int) {
	t.Helper()
	seen := make(map[string]bool, len(legs))
	inLeg := make(map[eventKey]int)
	for _, leg := range legs {
		if key := leg.CallID + "/" + leg.LegID; seen[key] {
			t.Errorf("leg %s is there twice", key)
		} else {
			seen[key] = true
		}
		for _, event := range leg.Events {
			inLeg[eventKey{leg.CallID, event.Type, event.Time.UnixMicro()}]++
		}
	}
	var missing, acked int
	for _, c := range callers {
		for _, key := range c.acked {
			acked++
			if n := inLeg[key]; n != 1 {
				if missing++; missing < 10 {
					t.Errorf("acknowledged event %v is in %d legs", key, n)
				}
			}
		}
	}
	if acked < atLeast || missing > 0 {
		t.Errorf("%d of %d acknowledged events are missing or repeated", missing, acked)
	}
	t.Logf("%d acknowledged events in %d legs", acked, len(legs))
	if strings.TrimSpace(legs[0].Extension) == "" {
		t.Errorf("legs without an extension: %+v", legs[0])
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
