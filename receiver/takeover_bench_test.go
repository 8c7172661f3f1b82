package main

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkTakeover kills the owner of everything while 10,000 calls are open, and tells how long it
// takes until the survivor has all of them, the time until the death is noticed included.
func BenchmarkTakeover(b *testing.B) {
	const calls = 10_000
	for b.Loop() {
		b.StopTimer()
		f := newFleet(b, 2)
		var next atomic.Int64
		var ringing sync.WaitGroup
		for range 16 {
			ringing.Go(func() {
				s := sender{address: f.ring[0].address}
				defer s.close()
				for n := next.Add(1); n <= calls; n = next.Add(1) {
					if status := s.insist(ringOf(fmt.Sprint(n))); status != fmt.Sprint(http.StatusOK) {
						b.Errorf("status %s", status)
					}
				}
			})
		}
		ringing.Wait()
		waitUntil(b, func() bool { return f.sum(b, "pbx_receiver_open_calls") == calls })
		<-time.After(12 * time.Second) // calls are saved after ten
		b.StartTimer()
		f.ring[0].kill()
		waitUntil(b, func() bool { return f.ring[1].metric(b, "pbx_receiver_open_calls") == calls })
	}
}
