package pipeline

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// otherLeg is the first event of another leg of a call.
func otherLeg(call string) journal.Entry {
	entry := ring(call)
	entry.Request.Body = strings.Replace(entry.Request.Body, "SubCallID=5101-", "SubCallID=5102-", 1)
	return entry
}

// A call that comes alive again while it leaves, and has to leave memory at once, stays in the
// CALLS log.
func TestACallThatCameAliveAgainIsKept(t *testing.T) {
	b := newBench(t)
	b.arrive(ring("c"))
	b.passFor(15 * time.Second)
	b.arrive(hangup("c"))
	b.pass()
	for c := b.pipeline.calls.byID["c"]; c.life != leaving; {
		b.passFor(time.Second)
	}
	b.arrive(otherLeg("c"))
	b.pipeline.config.CallMemory = 1
	b.pass()
	if b.pipeline.calls.spilled.len() != 1 {
		t.Fatal("the call is not on disk only")
	}
	b.passFor(10 * time.Second)
	if len(b.log.saved()) != 1 {
		t.Fatal("the open call was taken out of the CALLS log")
	}
	b.log.trimmed = uint64(len(b.log.events))
	b.restart()
	b.settle()
	for _, leg := range b.legsOf("c") {
		if leg.Phase != correlation.Completed {
			t.Errorf("a leg never ends: %+v", leg)
		}
	}
}

// A call that cannot be brought back, because correlation fails over what was saved of it, is set
// aside.
func TestASavedCallThatPanicsStopsNobodyElse(t *testing.T) {
	b := newBench(t)
	b.arrive(ring("bad"), ring("good"))
	b.passFor(15 * time.Second)
	for i := range b.log.calls {
		if record := &b.log.calls[i].record; record.CallID == "bad" {
			record.State.Events[0].Type = callevent.History // without a record
		}
	}
	b.restart()
	b.arrive(hangup("bad"), hangup("good"))
	b.passFor(time.Minute)
	for _, call := range []string{"bad", "good"} {
		if got := b.legsOf(call); len(got) != 1 || got[0].Phase != correlation.Completed {
			t.Errorf("%s: %+v", call, got)
		}
	}
	if got := b.pipeline.Status().ParkedCalls; got != 1 || len(b.log.saved()) > 0 {
		t.Errorf("%d parked, %d saved", got, len(b.log.saved()))
	}
	b.restart()
	b.passFor(time.Minute)
	if got := b.pipeline.Status().ParkedCalls; got != 0 {
		t.Errorf("after another restart %d are parked", got)
	}
}

// A call whose record cannot be read any more ends, as far as it was shown.
func TestLegsOfALostCallEnd(t *testing.T) {
	b := newBench(t)
	b.arrive(ring("lost"), ring("other"))
	b.passFor(15 * time.Second)
	b.log.trimmed = uint64(len(b.log.events))
	b.log.damaged = map[string]bool{journal.CallKey("lost"): true}
	b.restart()
	b.settle()
	for _, call := range []string{"lost", "other"} {
		if got := b.legsOf(call); len(got) != 1 || got[0].Phase != correlation.Completed || got[0].Result != correlation.Unknown {
			t.Errorf("%s: %+v", call, got)
		}
	}
}

// A call of which there are too many events to read back is not derived from a few of them after a
// restart.
func TestALateEventOfALargeCallChangesNothingAfterARestart(t *testing.T) {
	b := newBench(t)
	for n := range maxPositions + 100 {
		b.arrive(request("dial-in", "c", fmt.Sprintf("EventTime=%d", 1767348000000000+n)))
		b.pass()
	}
	b.arrive(hangup("c"))
	b.passFor(2 * time.Minute)
	if len(b.pipeline.calls.byID) > 0 {
		t.Fatal("the call is not forgotten")
	}
	want := b.legsOf("c")
	b.arrive(request("answer", "c"))
	b.passFor(3 * time.Second)
	b.restart()
	b.passFor(time.Minute)
	if got := b.legsOf("c"); len(got) != 1 || len(got[0].Events) != len(want[0].Events) || b.log.lowered > 0 {
		t.Errorf("%d revisions were lowered; %+v", b.log.lowered, got)
	}
}

// However many events others have sent at the time of a call, reading that call back takes little
// memory.
func TestEventsAreReadBackAFewAtATime(t *testing.T) {
	b := newBench(t)
	for n := range maxPositions / 2 {
		b.arrive(request("dial-in", "c", fmt.Sprintf("EventTime=%d", 1767348000000000+n)))
		b.pass()
	}
	b.arrive(hangup("c"))
	b.passFor(2 * time.Minute)
	before := b.legsOf("c")
	b.arrive(request("answer", "c"))
	b.pass()
	if b.log.mostRead > 16 {
		t.Errorf("%d commits of up to half a megabyte are in memory at a time", b.log.mostRead)
	}
	if got := b.legsOf("c"); len(got) != 1 || len(got[0].Events) < len(before[0].Events) {
		t.Errorf("got %+v", got)
	}
}

// Large calls whose time is over at the same moment come back one after the other.
func TestManyLargeCallsDoNotComeBackAtOnce(t *testing.T) {
	b := newBench(t)
	b.pipeline.config.CallMemory = 1 << 20
	const calls, events = 100, 150
	for n := range calls {
		for m := range events {
			b.arrive(request("dial-in", fmt.Sprint(n), fmt.Sprintf("EventTime=%d", 1767348000000000+m)))
		}
		b.pass()
	}
	b.passFor(time.Minute)
	b.clock = b.clock.Add(5 * time.Hour)
	most := 0
	for range 400 {
		b.pass()
		most = max(most, b.pipeline.calls.bytes)
		b.clock = b.clock.Add(100 * time.Millisecond)
	}
	if most > 4<<20 {
		t.Errorf("%d bytes of calls are in memory", most)
	}
	if open := b.pipeline.Status().OpenCalls; open > 0 {
		t.Errorf("%d are still open", open)
	}
}
