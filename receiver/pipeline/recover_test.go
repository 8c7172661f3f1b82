package pipeline

import (
	"context"
	"fmt"
	"testing"

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
