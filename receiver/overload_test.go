package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

const (
	// smallVolume shows in seconds what a volume of the default size shows in weeks.
	smallVolume = 64 << 20
	// podMemory is what a small pod may take at most, in bytes.
	podMemory = 128 << 20
	// mostBehind is how much processor time the receiver may take to catch up once no more events
	// come in: on a machine that other work keeps busy, time on the clock says nothing.
	mostBehind = 10 * time.Second
)

// newSmallChild is a receiver in a small pod with a small volume.
func newSmallChild(t *testing.T) *child {
	t.Helper()
	c := newChild(t)
	c.arguments = []string{"--storage-size", strconv.Itoa(smallVolume)}
	c.environment = []string{"GOMEMLIMIT=" + strconv.Itoa(podMemory/10*9)}
	return c
}

// ringOf is the first event of a call, and hangupOf the last.
func ringOf(call string) string   { return eventOf("dial-in", call, "CALLING") }
func hangupOf(call string) string { return eventOf("hangup", call, "NOANSWER") }

func eventOf(kind, call, status string) string {
	return fmt.Sprintf("EventType=%s&CallID=%s&SubCallID=5101-%s&CallFlow=in&CallStatus=%s&CallerIDNum=%%2B12025550143&"+
		"CalledNumber=1234*101&CalledExtension=1234*101%%40sip.example.com&CalledExtensionID=5101&CalledDID=12025550100&EventTime=1767348000000000",
		kind, call, call, status)
}

// flood sends events over some connections, each until it is answered, and kills the receiver once
// in the middle. Every answer has to be 2xx. An event that a killed receiver did not answer is sent
// again.
func (c *child) flood(t *testing.T, events int, body func(n int) string) {
	t.Helper()
	const senders = 16
	var next, answered atomic.Int64
	refused := make(chan string, 1)
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			s := sender{address: c.address}
			defer s.close()
			for n := next.Add(1) - 1; n < int64(events) && len(refused) == 0; n = next.Add(1) - 1 {
				if status := s.insist(body(int(n))); status != "200" {
					select {
					case refused <- fmt.Sprintf("event %d was answered %s", n, status):
					default:
					}
				}
				answered.Add(1)
			}
		})
	}
	waitUntil(t, func() bool { return answered.Load() >= int64(events/2) || len(refused) > 0 })
	c.requireMemory(t)
	c.kill()
	t.Logf("ready again after %v", c.start(t).Round(time.Millisecond))
	sending.Wait()
	select {
	case why := <-refused:
		t.Fatal(why)
	default:
	}
	c.requireCorrelated(t)
	c.requireMemory(t)
}

// requireCorrelated fails unless correlation is at most a little behind.
func (c *child) requireCorrelated(t *testing.T) {
	t.Helper()
	start := c.processorTime(t)
	c.awaitCorrelation(t)
	if took := c.processorTime(t) - start; took > mostBehind {
		t.Errorf("correlation was %v behind", took)
	}
}

// processorTime is what the process has taken since its start.
func (c *child) processorTime(t *testing.T) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.command.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	// The name of the program, in brackets, may hold blanks. See proc(5).
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	const user, system, tick = 11, 12, 10 * time.Millisecond
	fields := strings.Fields(string(rest))
	var taken time.Duration
	for _, field := range []string{fields[user], fields[system]} {
		ticks, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		taken += time.Duration(ticks) * tick
	}
	return taken
}

// requireMemory fails if the process takes more memory than a small pod has. What it maps of its
// own program counts for nothing.
func (c *child) requireMemory(t *testing.T) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.command.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var taken int
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &taken); err == nil {
			break
		}
	}
	t.Logf("%d MiB", taken>>10)
	if taken<<10 > podMemory {
		t.Errorf("the receiver takes %d MiB, more than %d", taken>>10, podMemory>>20)
	}
}

// sender sends one event after the other over a connection of its own.
type sender struct {
	address string
	conn    net.Conn
	buffer  []byte
}

// insist returns the status of the first answer.
func (s *sender) insist(body string) string {
	for {
		if status, err := s.send(body); err == nil {
			return status
		}
		s.close()
		time.Sleep(10 * time.Millisecond) // the receiver is not there
	}
}

func (s *sender) send(body string) (status string, err error) {
	if s.conn == nil {
		if s.conn, err = net.Dial("tcp", s.address); err != nil {
			return "", err
		}
		s.buffer = make([]byte, 4096)
	}
	_, err = fmt.Fprintf(s.conn, "POST /ext-event/%s HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"Content-Length: %d\r\n\r\n%s", testToken, len(body), body)
	if err != nil {
		return "", err
	}
	n, err := s.conn.Read(s.buffer) // answers are small, and come one at a time
	if err != nil {
		return "", err
	}
	fields := bytes.Fields(s.buffer[:min(n, len("HTTP/1.1 200"))])
	if len(fields) < 2 {
		return "", http.ErrNotSupported
	}
	return string(fields[1]), nil
}

func (s *sender) close() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// finishedCalls are events of calls that ring and end, so that nothing of them has to be kept.
func finishedCalls(n int) string {
	if n%2 == 0 {
		return ringOf(fmt.Sprintf("call-%d", n/2))
	}
	return hangupOf(fmt.Sprintf("call-%d", n/2))
}

// An event that belongs to no leg but carries a call id must not hold on to the log.
func TestVoicemailHoldsNothing(t *testing.T) {
	t.Parallel()
	c := newSmallChild(t)
	c.start(t)
	if status := c.post(t, eventOf("voicemail", "voicemail", "")+"&VoicemailID=7"); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	// Long events, so that the volume is full before the restart.
	note := "&Note=" + strings.Repeat("n", 400)
	c.flood(t, 90_000, func(n int) string { return finishedCalls(n) + note })
	if open := c.metric(t, "pbx_receiver_open_calls"); open > 100 {
		t.Errorf("%v calls are open", open)
	}
}

// A call that is never told to end must not hold on to the log, nor be lost with what gives way to
// newer events.
func TestOpenCallHoldsNothing(t *testing.T) {
	t.Parallel()
	c := newSmallChild(t)
	c.start(t)
	if status := c.post(t, ringOf("long")); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	c.flood(t, 100_000, finishedCalls)
	if status := c.post(t, hangupOf("long")); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	c.requireCorrelated(t)
	c.stop(t)
	for _, leg := range readLegs(t, filepath.Join(c.dir, "data")) {
		if leg.CallID == "long" && len(leg.Events) == 2 && leg.Phase == correlation.Completed {
			return
		}
	}
	t.Error("the long call has lost its beginning, or its end")
}

// Repetitions add nothing to a call, however many there are, and ids may be long.
func TestRepetitionsHoldNobodyUp(t *testing.T) {
	t.Parallel()
	c := newSmallChild(t)
	c.start(t)
	repeated := strings.Repeat("r", 250)
	c.flood(t, 45_000, func(int) string { return ringOf(repeated) })
	for _, body := range []string{hangupOf(repeated), ringOf("other"), hangupOf("other")} {
		if status := c.post(t, body); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
	}
	const legs = 500
	large := strings.Repeat("l", 200)
	for n := range legs {
		body := strings.Replace(ringOf(large), "SubCallID=5101-", fmt.Sprintf("SubCallID=%d-", n), 1)
		for _, body := range []string{body, strings.Replace(body, "EventType=dial-in", "EventType=hangup", 1)} {
			if status := c.post(t, body); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
		}
	}
	c.requireCorrelated(t)
	c.requireMemory(t)
	c.stop(t)
	ended := make(map[string]int)
	for _, leg := range readLegs(t, filepath.Join(c.dir, "data")) {
		if leg.Phase == correlation.Completed {
			ended[leg.CallID]++
		}
	}
	if ended[repeated] != 1 || ended["other"] != 1 || ended[large] != legs {
		t.Errorf("legs that ended: %d of the repeated call, %d of the other, %d of the large one", ended[repeated], ended["other"], ended[large])
	}
}

// Open calls are bounded by memory, also while they are read back after a restart.
func TestManyOpenCallsFit(t *testing.T) {
	t.Parallel()
	const calls = 52_000
	c := newSmallChild(t)
	c.start(t)
	c.flood(t, calls, func(n int) string { return ringOf(fmt.Sprintf("open-%d", n)) })
	if open := c.metric(t, "pbx_receiver_open_calls"); open != calls {
		t.Errorf("%v calls are open, want %d", open, calls)
	}
	if status := c.post(t, hangupOf("open-0")); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	waitUntil(t, func() bool { return c.metric(t, "pbx_receiver_open_calls") == calls-1 })
	c.requireMemory(t)
}
