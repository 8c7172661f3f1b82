package main

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// fleet is several receivers on one external JetStream.
type fleet struct {
	ring
	store *server.Server
}

func newFleet(t testing.TB, size int) *fleet {
	t.Helper()
	f := &fleet{store: startLogServer(t, &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT})}
	for n := range size {
		c := newChild(t)
		c.arguments = []string{"--nats-url", f.store.ClientURL(), "--nats-replicas", "1", "--namespace", "telephony", "--integration", "office"}
		c.environment = []string{"POD_NAME=receiver-" + strconv.Itoa(n)}
		f.ring = append(f.ring, c)
	}
	f.start(t)
	f.awaitShares(t)
	return f
}

// awaitShares waits until all receivers own about as much.
func (f *fleet) awaitShares(t testing.TB) {
	t.Helper()
	waitUntil(t, func() bool {
		for _, c := range f.ring {
			if c.metric(t, "pbx_receiver_partitions_owned") < float64(journal.DefaultPartitions/len(f.ring)-1) {
				return false
			}
		}
		return f.sum(t, "pbx_receiver_partitions_owned") == journal.DefaultPartitions
	})
}

// legs are what the LEGS log has.
func (f *fleet) legs(t *testing.T) []correlation.Leg {
	t.Helper()
	return readLegsOf(t, journal.Config{
		URL: f.store.ClientURL(), Replicas: 1, Owner: journal.Owner{Namespace: "telephony", Name: "office"}, Logger: discard(),
	})
}

func TestReceiversShareTheWork(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	const calls = 40
	for n := range calls {
		for i, body := range []string{ringOf(fmt.Sprint(n)), hangupOf(fmt.Sprint(n))} {
			if status := f.ring[i].post(t, body); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
		}
	}
	f.awaitCorrelation(t)
	for _, c := range f.ring {
		if c.metric(t, "pbx_receiver_leg_revisions_total") == 0 {
			t.Error("a receiver has written no leg")
		}
	}
	requireWhole(t, f.legs(t), calls)
	f.ring[0].stop(t) // what it owns is released
	begun := time.Now()
	waitUntil(t, func() bool { return f.ring[1].metric(t, "pbx_receiver_partitions_owned") == journal.DefaultPartitions })
	t.Logf("everything is taken over %v after a graceful stop", time.Since(begun).Round(time.Millisecond))
}

// requireWhole demands one leg of each call, with its ring and its hangup.
func requireWhole(t *testing.T, legs []correlation.Leg, calls int) {
	t.Helper()
	seen := make(map[string]int)
	for _, leg := range legs {
		seen[leg.CallID]++
		if len(leg.Events) != 2 || leg.Phase != correlation.Completed {
			t.Errorf("the leg of call %s is %s with %d events", leg.CallID, leg.Phase, len(leg.Events))
		}
	}
	for call, n := range seen {
		if n != 1 {
			t.Errorf("%d legs of call %s", n, call)
		}
	}
	if len(seen) != calls {
		t.Errorf("legs of %d calls, want %d", len(seen), calls)
	}
}

// An owner that is paused while others take over, and then goes on where it stood, writes nothing.
func TestAPausedOwnerIsFenced(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	paused, other := f.ring[0], f.ring[1]
	const most = 4000
	var next atomic.Int64
	var ringing sync.WaitGroup
	for range 4 {
		ringing.Go(func() { // until the receiver is paused in the middle of the work
			s := sender{address: paused.address}
			defer s.close()
			for n := next.Add(1); n <= most; n = next.Add(1) {
				if status, err := s.send(ringOf(fmt.Sprint(n))); err != nil || status != "200" {
					return
				}
			}
		})
	}
	waitUntil(t, func() bool { return next.Load() > 400 })
	tell(t, paused, syscall.SIGSTOP)
	begun := time.Now()
	waitUntil(t, func() bool { return other.metric(t, "pbx_receiver_partitions_owned") == journal.DefaultPartitions })
	t.Logf("everything is taken over %v after the pause began", time.Since(begun).Round(time.Millisecond))
	calls := int(next.Load())
	for n := 1; n <= calls; n++ {
		// Some of the last rings were not taken before the pause.
		for _, body := range []string{ringOf(fmt.Sprint(n)), hangupOf(fmt.Sprint(n))} {
			other.mustPost(t, body)
		}
	}
	other.awaitCorrelation(t)
	next.Store(most) // whoever rings stops
	tell(t, paused, syscall.SIGCONT)
	ringing.Wait()
	f.awaitShares(t)
	paused.mustPost(t, ringOf("last"))
	paused.mustPost(t, hangupOf("last"))
	f.awaitCorrelation(t)
	requireWhole(t, f.legs(t), calls+1)
}

func tell(t *testing.T, c *child, s syscall.Signal) {
	t.Helper()
	if err := c.command.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// One of three receivers is killed under load: the others take over, and every event that was
// acknowledged is in a leg once.
func TestOneOfThreeReceiversIsKilled(t *testing.T) {
	t.Parallel()
	const step = 1500
	f := newFleet(t, 3)
	l := f.load(t)
	l.await(t, step)
	f.ring[1].kill()
	begun := time.Now()
	waitUntil(t, func() bool { return f.sum(t, "pbx_receiver_partitions_owned") == journal.DefaultPartitions })
	t.Logf("everything is taken over %v after the kill", time.Since(begun).Round(time.Millisecond))
	l.await(t, step)
	f.ring[1].start(t)
	l.await(t, step)
	l.stop()
	f.awaitCorrelation(t)
	verifyLegs(t, l.callers, f.legs(t), 3*step)
}
