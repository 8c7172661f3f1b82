package pipeline

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// watchedLog tells of every read.
type watchedLog struct {
	*memoryLog
	read func()
}

func (l watchedLog) ReadEvents(ctx context.Context, from uint64, limit int) ([]journal.Group, error) {
	l.read()
	return l.memoryLog.ReadEvents(ctx, from, limit)
}

// A recovery that takes long is no standstill: whoever asks sees that it gets on.
func TestRecoveryIsSeenToGetOn(t *testing.T) {
	b := newBench(t)
	for i := range 5 * readGroups {
		b.arrive(ring(fmt.Sprint(i)))
	}
	b.settle()
	b.log.checkpoint = journal.Checkpoint{}
	var unread []uint64
	b.pipeline = New(b.pipeline.config)
	b.pipeline.config.Log = watchedLog{b.log, func() { unread = append(unread, b.pipeline.Status().Unread) }}
	if err := b.pipeline.recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(unread) < 5 {
		t.Fatalf("recovery took %d reads only", len(unread))
	}
	for i := 1; i < len(unread); i++ {
		if unread[i] >= unread[i-1] {
			t.Errorf("before read %d there are %d commits left, and %d before the one before it", i, unread[i], unread[i-1])
		}
	}
}

// After a restart, which may be one with a version that is mended, a call that was set aside is
// tried once more: it is set aside and told of anew if it still fails, and taken if it does not.
func TestAParkedCallIsTriedOnceMoreAfterARestart(t *testing.T) {
	for _, mended := range []bool{false, true} {
		b := newBench(t)
		refuse := func(call string) string {
			if call == "bad" {
				return "message size exceeds maximum allowed"
			}
			return ""
		}
		b.log.refuse = refuse
		b.arrive(ring("bad"), ring("good"))
		b.passFor(time.Minute)
		if mended {
			b.log.refuse = nil
		}
		b.restart()
		b.arrive(hangup("bad"), hangup("good"))
		b.passFor(time.Minute)
		want := 1
		if mended {
			want = 0
		}
		if got := b.pipeline.Status().ParkedCalls; got != want {
			t.Errorf("mended %v: %d calls are set aside, want %d", mended, got, want)
		}
		if got := len(b.legsOf("bad")); got != 1-want {
			t.Errorf("mended %v: the call has %d legs", mended, got)
		}
		if got := b.legsOf("good"); len(got) != 1 || got[0].Phase != correlation.Completed {
			t.Errorf("mended %v: the other call: %+v", mended, got)
		}
	}
}

// A crash may lose the record that takes a leg back, and keep others of the same pass.
func TestALegIsTakenBackAfterACrash(t *testing.T) {
	s, err := scenario.Find("voipnow", "V11")
	if err != nil {
		t.Fatal(err)
	}
	b := newBenchOf(t, "voipnow")
	played := s.Play("seed", epoch)
	slices.Reverse(played)
	for i := range played {
		b.arrive(entryOf("voipnow", played[i]))
		b.pass()
		if n := len(b.log.legs); b.log.legs[n-1].record.Leg.Result == correlation.Unknown {
			b.log.crash(1)
			b.restart()
			b.pass()
		}
	}
	got := b.log.content()
	if len(got) != 2 || got[1].Result != correlation.Unknown || got[1].Logged {
		t.Errorf("the leg that was shown by mistake is not withdrawn: %+v", got)
	}
}
