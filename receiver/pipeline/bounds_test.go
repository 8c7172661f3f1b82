package pipeline

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

func request(kind, call string, more ...string) journal.Entry {
	body := fmt.Sprintf("EventType=%s&CallID=%s&SubCallID=5101-%s&CallFlow=in&CallStatus=CALLING&CallerIDNum=%%2B12025550143&CalledNumber=1234*101&"+
		"CalledExtension=1234*101&CalledExtensionID=5101&%s", kind, call, call, strings.Join(more, "&"))
	return journal.Entry{Request: callevent.Request{Method: "POST", Body: body, Source: callevent.Source{Type: callevent.Phone, Number: "1234*101"}}}
}

func ring(call string) journal.Entry   { return request("dial-in", call) }
func hangup(call string) journal.Entry { return request("hangup", call) }

// legsOf are the newest legs of a call.
func (b *bench) legsOf(call string) []correlation.Leg {
	var found []correlation.Leg
	for _, leg := range b.log.content() {
		if leg.CallID == call {
			found = append(found, leg)
		}
	}
	return found
}

// pinned is how many of the commits at the end of the EVENTS log have to stay.
func (b *bench) pinned() int { return len(b.log.events) - int(b.log.checkpoint.LowWater) + 1 }

// pass lets so much time pass, a second at a time.
func (b *bench) passFor(duration time.Duration) {
	for end := b.clock.Add(duration); b.clock.Before(end); {
		b.clock = b.clock.Add(time.Second)
		b.pass()
	}
}

func TestEventsWithoutLegsMakeNoCall(t *testing.T) {
	for _, kind := range []string{"voicemail", "message-in", "never-heard-of"} {
		b := newBench(t)
		b.arrive(request(kind, "c"))
		b.passFor(time.Minute)
		if n := len(b.pipeline.calls.byID); n > 0 || b.pinned() > 0 {
			t.Errorf("%s: %d calls in memory, %d commits have to stay", kind, n, b.pinned())
		}
	}
}

func TestEventsMayGoSoonWhileTheLogFillsUp(t *testing.T) {
	for fill, want := range map[uint64]int{40: 1, 60: 0} {
		b := newBench(t)
		b.log.fill = map[journal.Log]journal.Fill{journal.Events: {Used: fill, Size: 100}}
		b.passFor(time.Second)
		b.arrive(request("voicemail", "c"))
		b.passFor(3 * time.Second)
		if got := b.pinned(); got != want {
			t.Errorf("at %d percent %d commits have to stay, want %d", fill, got, want)
		}
	}
}

func TestOpenCallsPinNothing(t *testing.T) {
	b := newBench(t)
	b.arrive(ring("long"))
	b.pass()
	for n := range 100 {
		b.arrive(ring(fmt.Sprint(n)), hangup(fmt.Sprint(n)))
		b.passFor(time.Second)
	}
	b.passFor(2 * time.Minute)
	if b.pinned() > 0 {
		t.Errorf("%d commits have to stay because of a call that is open", b.pinned())
	}
	b.log.trimmed = uint64(len(b.log.events))
	b.log.legs = nil // they have given way, too
	b.restart()
	b.arrive(hangup("long"))
	b.pass()
	if got := b.legsOf("long"); len(got) != 1 || len(got[0].Events) != 2 || got[0].Phase != correlation.Completed {
		t.Errorf("the call has lost its beginning: %+v", got)
	}
	b.passFor(2 * time.Minute)
	if len(b.log.saved()) > 0 || len(b.pipeline.calls.byID) > 0 || b.pinned() > 0 {
		t.Errorf("of finished calls there are left: %d saved, %d in memory, %d commits", len(b.log.saved()), len(b.pipeline.calls.byID), b.pinned())
	}
}

func TestRepetitionsDoNotGrowARecord(t *testing.T) {
	b := newBench(t)
	for range 2000 {
		b.arrive(ring("c"))
	}
	b.arrive(hangup("c"))
	b.pass()
	newest := b.log.legs[len(b.log.legs)-1].record
	if len(newest.Positions) != 2 || len(newest.Leg.Events) != 2 {
		t.Errorf("%d positions, %d events", len(newest.Positions), len(newest.Leg.Events))
	}
}

func TestRecordsOfALargeCallAreBounded(t *testing.T) {
	b := newBench(t)
	const events = maxPositions + 100
	for n := range events {
		b.arrive(request("dial-in", "c", fmt.Sprintf("EventTime=%d", 1767348000000000+n)))
		b.pass()
	}
	b.passFor(time.Minute)
	for _, w := range b.log.legs {
		if len(w.record.Positions) > maxPositions {
			t.Fatalf("a record has %d positions", len(w.record.Positions))
		}
	}
	b.restart()
	b.arrive(hangup("c"))
	b.pass()
	if got := b.legsOf("c"); len(got) != 1 || len(got[0].Events) < 2 || got[0].Phase != correlation.Completed {
		t.Errorf("after a restart: %d legs", len(got))
	}
}

func TestCallsThatDoNotFitIntoMemoryAreSpilled(t *testing.T) {
	b := newBench(t)
	b.pipeline.config.CallMemory = 100_000
	const calls = 500
	for n := range calls {
		b.arrive(ring(fmt.Sprint(n)))
	}
	b.passFor(time.Minute)
	status := b.pipeline.Status()
	if inMemory := len(b.pipeline.calls.byID); inMemory > 100 || status.OpenCalls != calls || status.SpilledCalls != calls-inMemory {
		t.Errorf("%d in memory; %+v", inMemory, status)
	}
	b.restart()
	b.pass()
	if inMemory := len(b.pipeline.calls.byID); inMemory > 100 {
		t.Errorf("after a restart %d are in memory", inMemory)
	}
	for n := range calls / 2 {
		b.arrive(hangup(fmt.Sprint(n)))
	}
	b.pass()
	if got := b.pipeline.Status().OpenCalls; got != calls/2 {
		t.Errorf("%d calls are open, want %d", got, calls/2)
	}
	b.settle()
	for _, leg := range b.log.content() {
		if leg.Phase != correlation.Completed {
			t.Fatalf("a spilled leg was never closed: %+v", leg)
		}
	}
	if legs := len(b.log.content()); legs != calls {
		t.Errorf("%d legs", legs)
	}
}

func TestBeyondTheHardBoundTheOldestCallsAreClosed(t *testing.T) {
	for name, memory := range map[string]int{"in memory": 1 << 30, "on disk": 10_000} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.pipeline.config.CallMemory, b.pipeline.config.MaxOpenCalls = memory, 100
			for n := range 150 {
				b.clock = b.clock.Add(time.Second)
				b.arrive(ring(fmt.Sprint(n)))
				b.pass()
			}
			b.passFor(time.Minute)
			status := b.pipeline.Status()
			if status.OpenCalls > 100 || status.ClosedEarly != 50 {
				t.Errorf("%d are open, %d closed early", status.OpenCalls, status.ClosedEarly)
			}
			if got := b.legsOf("0"); len(got) != 1 || got[0].Result != correlation.Unknown || got[0].Phase != correlation.Completed {
				t.Errorf("the oldest call: %+v", got)
			}
			if got := b.legsOf("149"); len(got) != 1 || got[0].Phase == correlation.Completed {
				t.Errorf("the newest call: %+v", got)
			}
		})
	}
}

func TestARecordThatIsRefusedStopsNobodyElse(t *testing.T) {
	b := newBench(t)
	b.log.refuse = func(call string) string {
		if call == "bad" {
			return "message size exceeds maximum allowed"
		}
		return ""
	}
	b.arrive(ring("bad"), ring("good"), hangup("bad"), hangup("good"))
	b.passFor(time.Minute)
	if got := b.legsOf("good"); len(got) != 1 || got[0].Phase != correlation.Completed {
		t.Errorf("the other call: %+v", got)
	}
	want := []ParkedCall{{Call: journal.CallKey("bad"), Reason: "message size exceeds maximum allowed"}}
	status := b.pipeline.Status()
	for i := range status.Parked {
		status.Parked[i].Since = time.Time{}
	}
	if diff := cmp.Diff(want, status.Parked); diff != "" || status.ParkedCalls != 1 {
		t.Errorf("%d parked: %s", status.ParkedCalls, diff)
	}
	if b.pinned() > 0 || len(b.pipeline.calls.byID) > 0 {
		t.Error("a parked call holds on to the log, or to memory")
	}
}

// panicking is a dialect with a fault.
type panicking struct{ dialect.Dialect }

func (p panicking) Decode(request callevent.Request) ([]callevent.Event, error) {
	if strings.Contains(request.Body, "CallID=bad") {
		panic("index out of range")
	}
	return p.Dialect.Decode(request)
}

func TestAPanicStopsNobodyElse(t *testing.T) {
	b := newBench(t)
	b.speaks = panicking{b.speaks}
	b.restart()
	b.arrive(ring("bad"), ring("good"))
	b.pass()
	if got := b.legsOf("good"); len(got) != 1 {
		t.Errorf("the other call: %+v", got)
	}
	if got := b.pipeline.Status().ParkedCalls; got != 1 {
		t.Errorf("%d parked", got)
	}
}

func TestClockJumpsCloseNothing(t *testing.T) {
	for name, jump := range map[string]time.Duration{"forward": 30 * time.Hour, "back": -30 * time.Hour} {
		for _, memory := range []int{1 << 30, 1} {
			t.Run(fmt.Sprint(name, memory), func(t *testing.T) {
				b := newBench(t)
				b.pipeline.config.CallMemory = memory
				b.arrive(ring("c"))
				b.passFor(time.Minute)
				b.clock, b.jumped = b.clock.Add(jump), jump
				b.passFor(time.Minute)
				b.arrive(request("answer", "c"))
				b.passFor(time.Minute)
				if got := b.legsOf("c"); len(got) != 1 || got[0].Phase == correlation.Completed {
					t.Errorf("after the jump: %+v", got)
				}
				b.clock = b.clock.Add(5 * time.Hour)
				b.pass()
				if got := b.legsOf("c"); len(got) != 1 || got[0].Phase != correlation.Completed {
					t.Errorf("after its longest time: %+v", got)
				}
			})
		}
	}
}

func TestAnIdThatIsUsedAgainIsAnotherCall(t *testing.T) {
	at := func(b *bench, kind string) journal.Entry {
		return request(kind, "c", fmt.Sprintf("EventTime=%d", b.clock.UnixMicro()))
	}
	b := newBench(t)
	b.arrive(at(b, "dial-in"), at(b, "hangup"))
	b.passFor(time.Minute)
	b.clock = b.clock.Add(2 * time.Hour)
	b.arrive(at(b, "answer"))
	b.passFor(time.Minute)
	if got := b.legsOf("c"); len(got) != 1 {
		t.Fatalf("an event that came late is another call: %+v", got)
	}
	b.clock = b.clock.Add(30 * time.Hour)
	b.arrive(at(b, "dial-in"))
	b.passFor(time.Minute)
	b.restart()
	b.arrive(at(b, "hangup"))
	b.passFor(time.Minute)
	b.log.crash(0)
	b.restart()
	b.arrive(at(b, "hangup"))
	b.passFor(time.Minute)
	legs := b.legsOf("c")
	if len(legs) != 2 || legs[0].LegID == legs[1].LegID || len(legs[1].Events) < 2 || legs[1].Start.Sub(legs[0].Start) < 24*time.Hour {
		t.Errorf("got %+v", legs)
	}
}

func TestAVolumeThatWasRestoredIsReadFromItsEnd(t *testing.T) {
	b := newBench(t)
	for n := range 10 {
		b.arrive(ring(fmt.Sprint(n)), hangup(fmt.Sprint(n)))
	}
	b.passFor(time.Minute)
	b.log.events = b.log.events[:3] // older than the other logs
	b.restart()
	b.arrive(ring("new"))
	b.pass()
	if got := b.legsOf("new"); len(got) != 1 {
		t.Errorf("an event after the end of the restored log makes %d legs", len(got))
	}
}

func TestAnEventThatLagsBehindIsNotOvertakenByTime(t *testing.T) {
	b := newBench(t)
	b.arrive(ring("c"))
	for range readGroups {
		b.arrive(ring("other"))
	}
	b.clock = b.clock.Add(time.Minute)
	b.arrive(hangup("c"))
	b.clock = b.clock.Add(10 * time.Hour) // the receiver was stuck
	b.pass()
	for _, w := range b.log.legs {
		if w.record.Leg.CallID == "c" && len(w.record.Ticks) > 0 {
			t.Fatalf("the call was closed although its end was in the log: %+v", w.record.Leg)
		}
	}
}

// A partition need not have a part in what it reads.
func TestTimeDoesNotPassWhileTheEventsOfOtherPartitionsAreRead(t *testing.T) {
	b := newBench(t)
	b.arrive(ring("c"))
	for range 3 * readGroups {
		b.arrive() // nothing for this one
	}
	b.clock = b.clock.Add(time.Minute)
	b.arrive(hangup("c"))
	b.clock = b.clock.Add(10 * time.Hour) // the receiver was away
	for range 2 {
		if _, err := b.pipeline.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.pipeline.Status(); got.Lag != 10*time.Hour+time.Minute {
		t.Errorf("the lag is %v", got.Lag)
	}
	b.restart()
	b.pass()
	for _, w := range b.log.legs {
		if len(w.record.Ticks) > 0 {
			t.Fatalf("the call was closed although its end was in the log: %+v", w.record.Leg)
		}
	}
}

func TestStatusTellsOfTheLag(t *testing.T) {
	b := newBench(t)
	b.arrive(ring("c"))
	b.pass()
	if got := b.pipeline.Status(); got.Lag != 0 || got.Unread != 0 || got.OpenCalls != 1 {
		t.Errorf("up to date: %+v", got)
	}
	b.arrive(hangup("c"))
	b.clock = b.clock.Add(time.Minute)
	if got := b.pipeline.Status(); got.Lag != time.Minute || got.Unread != 1 {
		t.Errorf("a minute behind: %+v", got)
	}
}
