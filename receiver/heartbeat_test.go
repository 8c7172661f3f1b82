package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// patient is a receiver whose heartbeat is watched, and an API server that may be away.
type patient struct {
	dir       string
	clock     time.Time
	ill       error
	away      error
	alone     bool
	shown     []outage
	heartbeat *heartbeat
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	return &patient{alone: true, dir: t.TempDir(), clock: time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)}
}

// start is a start of the receiver; what was there before is as good as killed.
func (p *patient) start(t *testing.T) {
	t.Helper()
	p.heartbeat = &heartbeat{
		path: heartbeatPath(p.dir), now: func() time.Time { return p.clock }, ready: func() error { return p.ill }, show: p.show, log: discard(),
		covered: func() bool { return !p.alone },
	}
	p.heartbeat.load()
	p.heartbeat.look(t.Context())
}

func (p *patient) show(_ context.Context, start, end time.Time) error {
	if p.away == nil {
		p.shown = append(p.shown, outage{start, end})
	}
	return p.away
}

// after lets time pass and looks again.
func (p *patient) after(t *testing.T, d time.Duration) {
	t.Helper()
	p.clock = p.clock.Add(d)
	p.heartbeat.look(t.Context())
}

func (p *patient) at(seconds int) time.Time {
	return time.Date(2026, 1, 2, 10, 0, seconds, 0, time.UTC)
}

func (p *patient) expect(t *testing.T, want ...outage) {
	t.Helper()
	if diff := cmp.Diff(want, p.shown); diff != "" {
		t.Errorf("outages (-want +got):\n%s", diff)
	}
}

func TestOutageIsShownOnceAfterARestart(t *testing.T) {
	p := newPatient(t)
	p.start(t)
	p.after(t, 5*time.Second)
	p.expect(t) // nothing is known of the time before the first start
	p.clock = p.at(65)
	p.start(t)
	p.after(t, 5*time.Second)
	p.expect(t, outage{p.at(5), p.at(65)})
}

func TestShortOutageIsNone(t *testing.T) {
	p := newPatient(t)
	p.start(t)
	p.clock = p.at(4)
	p.start(t)
	p.expect(t)
	p.clock = p.at(9)
	p.start(t)
	p.expect(t, outage{p.at(4), p.at(9)})
}

func TestOutageBeginsWhereAnOrderlyEndWas(t *testing.T) {
	p := newPatient(t)
	p.start(t)
	p.clock = p.at(3)
	p.heartbeat.end()
	p.clock = p.at(30)
	p.start(t)
	p.expect(t, outage{p.at(3), p.at(30)})
}

// The API server may be away for as long as the receiver was, and longer.
func TestOutageIsShownWhenTheAPIServerIsBack(t *testing.T) {
	p := newPatient(t)
	p.start(t)
	p.clock, p.away = p.at(20), errors.New("away")
	p.start(t)
	p.after(t, 5*time.Second)
	p.clock = p.at(50)
	p.start(t) // a second outage before the first was shown
	p.after(t, 5*time.Second)
	p.expect(t)
	p.away = nil
	p.after(t, 5*time.Second)
	p.after(t, 5*time.Second)
	p.expect(t, outage{p.at(0), p.at(50)})
	p.start(t)
	p.expect(t, outage{p.at(0), p.at(50)})
}

// A log that takes nothing is an outage as well.
func TestOutageWithoutARestart(t *testing.T) {
	p := newPatient(t)
	p.start(t)
	p.ill = errors.New("the log is full")
	p.after(t, 5*time.Second)
	p.after(t, 5*time.Second)
	p.expect(t)
	p.ill = nil
	p.after(t, 5*time.Second)
	p.expect(t, outage{p.at(0), p.at(15)})
}

// While others take events there is no outage, and none is made up later.
func TestNoOutageWhileOthersTakeEvents(t *testing.T) {
	p := newPatient(t)
	p.alone = false
	p.start(t)
	p.clock = p.at(30)
	p.start(t)
	p.alone = true
	p.after(t, 5*time.Second)
	p.expect(t)
	p.clock = p.at(60)
	p.start(t)
	p.expect(t, outage{p.at(35), p.at(60)})
}

func TestOthersTakeEventsIntoOneLog(t *testing.T) {
	for replicas, want := range map[int32]bool{0: false, 1: false, 2: true, 3: true} {
		if got := covered(v1alpha1.Receiver{Replicas: replicas}); got != want {
			t.Errorf("%d receivers: %v", replicas, got)
		}
		scaled := v1alpha1.Receiver{Replicas: 1, Autoscaling: &v1alpha1.ReceiverAutoscaling{MinReplicas: replicas, MaxReplicas: 9}}
		if got := covered(scaled); got != want {
			t.Errorf("at least %d receivers: %v", replicas, got)
		}
	}
}

func TestUnreadableNoteIsNoOutage(t *testing.T) {
	p := newPatient(t)
	if err := os.WriteFile(filepath.Join(p.dir, heartbeatName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	p.clock = p.at(10)
	p.start(t)
	p.expect(t, outage{p.at(0), p.at(10)})
}

// growing is a log of events to which more are added.
type growing struct {
	groups  []journal.Group
	changed chan struct{}
}

func (g *growing) ReadEvents(_ context.Context, from uint64, limit int) ([]journal.Group, error) {
	var found []journal.Group
	for _, group := range g.groups {
		if group.Sequence >= from && len(found) < limit {
			found = append(found, group)
		}
	}
	return found, nil
}

func (g *growing) Changed(journal.Log) <-chan struct{} { return g.changed }

func TestFirstEventIsShown(t *testing.T) {
	created := time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
	entry := func(path string, after time.Duration) journal.Entry {
		return journal.Entry{Request: callevent.Request{Path: path, ReceivedAt: created.Add(after)}}
	}
	decoded := func(path string, after time.Duration) journal.Decoded {
		return journal.Decoded{Path: path, Events: []callevent.Event{{Received: created.Add(after)}}}
	}
	log := &growing{changed: make(chan struct{}), groups: []journal.Group{
		{Sequence: 7, Entries: []journal.Entry{entry("/dial-in", -time.Minute)}}, // of an integration of the same name, long gone
		{Sequence: 8, Entries: []journal.Entry{entry(callhistory.Path, time.Second)}},
		{Sequence: 9, Decoded: []journal.Decoded{decoded(callhistory.Path, 2*time.Second), decoded("/dial-in", 3*time.Second)}},
		{Sequence: 10, Entries: []journal.Entry{entry("", 4*time.Second)}},
	}}
	var shown []time.Time
	showFirstEvent(t.Context(), log, created, func(_ context.Context, at time.Time) error { shown = append(shown, at); return nil }, discard())
	if diff := cmp.Diff([]time.Time{created.Add(3 * time.Second)}, shown); diff != "" {
		t.Error(diff)
	}
}

func TestFirstEventIsWaitedFor(t *testing.T) {
	log := &growing{changed: make(chan struct{})}
	at := time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
	shown := make(chan time.Time)
	go showFirstEvent(t.Context(), &lateLog{log, at}, time.Time{}, func(_ context.Context, at time.Time) error { shown <- at; return nil }, discard())
	close(log.changed)
	if got := <-shown; !got.Equal(at) {
		t.Errorf("shown %v, want %v", got, at)
	}
}

// lateLog has nothing until it has changed.
type lateLog struct {
	*growing
	at time.Time
}

func (l *lateLog) ReadEvents(context.Context, uint64, int) ([]journal.Group, error) {
	select {
	case <-l.changed:
		return []journal.Group{{Sequence: 1, Entries: []journal.Entry{{Request: callevent.Request{ReceivedAt: l.at}}}}}, nil
	default:
		return nil, nil
	}
}
