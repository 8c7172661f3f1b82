package correlation_test

import (
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// mixture is the events of one call of each kind of scenario, as registered by default.
func mixture(b *testing.B) [][]callevent.Event {
	b.Helper()
	var all [][]callevent.Event
	for _, s := range scenarios(b) {
		events := received(b, s, usual)
		if len(events) > 0 && events[0].CallID != "" && len(s.CallIDs(seed)) == 1 {
			all = append(all, events)
		}
	}
	return all
}

// BenchmarkDeriveBatch adds the events of each call and derives the legs once, as a receiver under
// load does.
func BenchmarkDeriveBatch(b *testing.B) {
	all := mixture(b)
	rules := correlation.DefaultRules()
	b.ReportAllocs()
	events, before := 0, processor(b)
	for i := 0; b.Loop(); i++ {
		var call correlation.Call
		batch := all[i%len(all)]
		for _, e := range batch {
			call.Add(e)
		}
		call.Outcome(rules)
		events += len(batch)
	}
	b.ReportMetric(float64(events)/(processor(b)-before).Seconds(), "events/cpu-s")
}

// BenchmarkDeriveEach derives the legs after every event, as a receiver without load does.
func BenchmarkDeriveEach(b *testing.B) {
	all := mixture(b)
	rules := correlation.DefaultRules()
	b.ReportAllocs()
	events, before := 0, processor(b)
	for i := 0; b.Loop(); i++ {
		var call correlation.Call
		batch := all[i%len(all)]
		for _, e := range batch {
			call.Add(e)
			call.Outcome(rules)
		}
		events += len(batch)
	}
	b.ReportMetric(float64(events)/(processor(b)-before).Seconds(), "events/cpu-s")
}

// BenchmarkOpenLegs holds calls that were dialled and answered, and reports what each costs.
func BenchmarkOpenLegs(b *testing.B) {
	s, err := scenario.Find("ringme", "S1")
	if err != nil {
		b.Fatal(err)
	}
	const legs = 10_000
	for b.Loop() {
		before := heap()
		open := map[string]*correlation.Call{}
		for i := range legs {
			for _, n := range s.Play(strconv.Itoa(i), start)[:2] {
				for _, e := range decode(b, n) {
					call := open[e.CallID]
					if call == nil {
						call = &correlation.Call{}
						open[strings.Clone(e.CallID)] = call // the decoded one is a part of the request
					}
					call.Add(e)
				}
			}
		}
		b.ReportMetric(float64(heap()-before)/legs, "bytes/leg")
		runtime.KeepAlive(open)
	}
}

// processor is the time that this process had a core, collecting garbage included: a figure that
// holds on a busy machine too.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
