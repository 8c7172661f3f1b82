package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
	"github.com/pbx-operator/pbx-operator/receiver/pipeline"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func healthy(at time.Time) observation {
	return observation{at: at, logs: map[journal.Log]journal.Fill{
		journal.Events: {Used: 80, Size: 100}, journal.Legs: {Used: 80, Size: 100},
	}}
}

func TestEachTroubleIsTold(t *testing.T) {
	for want, tc := range map[string]struct {
		trouble func(*observation)
		// advice is a part of the message: what to look at, or to do.
		advice string
	}{
		v1alpha1.ReasonJournalFull:        {func(o *observation) { o.logs[journal.Events] = journal.Fill{Used: 95, Size: 100} }, "spec.receiver.storage.size"},
		v1alpha1.ReasonCorrelationBehind:  {func(o *observation) { o.correlation.Lag = 4 * time.Minute }, "more than a minute"},
		v1alpha1.ReasonCallsClosedEarly:   {func(o *observation) { o.correlation.ClosedEarly = 3 }, "spec.callLegs.maxDuration"},
		v1alpha1.ReasonRecordsDamaged:     {func(o *observation) { o.correlation.Damaged = 1 }, "check the volume"},
		v1alpha1.ReasonPublicationBehind:  {func(o *observation) { o.publication.Skipped = 7 }, "spec.callLegs.publish"},
		v1alpha1.ReasonPublicationFailing: {func(o *observation) { o.publication.AwaySince = noon.Add(-time.Hour) }, "quotas"},
		v1alpha1.ReasonJournalLimits:      {func(o *observation) { o.shortfalls = []string{"raise max_payload"} }, "raise max_payload"},
		v1alpha1.ReasonCallsParked: {func(o *observation) {
			o.correlation.ParkedCalls = 1
			o.correlation.Parked = []pipeline.ParkedCall{{Call: "4kzq", Reason: "the record is too large"}}
		}, "the record is too large"},
	} {
		var m memory
		o := healthy(noon)
		m.note(o)
		if found := m.faults(o); len(found) > 0 {
			t.Errorf("a healthy receiver has %v", found)
		}
		tc.trouble(&o)
		m.note(o)
		condition := conditionOf(m.faults(o))
		if condition.Status != metav1.ConditionTrue || condition.Reason != want || !strings.Contains(condition.Message, tc.advice) {
			t.Errorf("%s: %+v", want, condition)
		}
	}
}

func TestFullVolumeIsTold(t *testing.T) {
	var m memory
	o := healthy(noon)
	o.lowVolume, o.correlation.Lag = true, 7*time.Hour
	condition := conditionOf(m.faults(o))
	if condition.Reason != v1alpha1.ReasonJournalFull || !strings.Contains(condition.Message, "CorrelationBehind: events wait for more than six hours") {
		t.Errorf("%+v", condition)
	}
}

// TestWhatIsOverIsForgotten: a call that was closed early a while ago is no news, one just now is.
func TestWhatIsOverIsForgotten(t *testing.T) {
	var m memory
	o := healthy(noon)
	o.correlation.ClosedEarly = 3
	m.note(o)
	o.at = noon.Add(remembered)
	m.note(o)
	if found := m.faults(o); len(found) > 0 {
		t.Errorf("a quarter of an hour later: %v", found)
	}
	o.correlation.ClosedEarly = 4
	m.note(o)
	if found := m.faults(o); len(found) != 1 {
		t.Errorf("after another one: %v", found)
	}
}

// watched is a monitor over an integration and its Events in memory.
type watched struct {
	now    observation
	shown  *metav1.Condition
	writes int
	err    error
	posted []string
}

func (w *watched) monitor() *monitor {
	return &monitor{
		speaks:  func() bool { return true },
		observe: func(now time.Time) observation { w.now.at = now; return w.now },
		show: func(_ context.Context, condition metav1.Condition) error {
			if w.err == nil {
				w.shown = &condition
				w.writes++
			}
			return w.err
		},
		shown: func() *metav1.Condition { return w.shown },
		post:  func(reason, _ string) { w.posted = append(w.posted, reason) },
		log:   slog.New(slog.DiscardHandler),
	}
}

func TestConditionFollowsTroubleWithoutHotWrites(t *testing.T) {
	w := &watched{now: healthy(noon)}
	m, at := w.monitor(), noon
	look := func(times int) {
		for range times {
			m.look(t.Context(), at)
			at = at.Add(monitorInterval)
		}
	}
	look(100)
	if w.writes != 1 || w.shown.Status != metav1.ConditionFalse || len(w.posted) != 0 {
		t.Fatalf("a healthy receiver: %d writes of %+v, Events %v", w.writes, w.shown, w.posted)
	}
	w.now.correlation.Lag = time.Minute
	for range 100 {
		w.now.correlation.Lag += time.Second
		w.now.correlation.Unread++
		look(1)
	}
	if w.writes != 2 || w.shown.Status != metav1.ConditionTrue || !slices.Equal(w.posted, []string{v1alpha1.ReasonCorrelationBehind}) {
		t.Errorf("behind: %d writes of %+v, Events %v", w.writes, w.shown, w.posted)
	}
	w.shown = nil // somebody else has removed it
	look(1)
	if w.shown == nil || w.shown.Status != metav1.ConditionTrue {
		t.Errorf("a condition that was removed: %+v", w.shown)
	}
	w.err = errors.New("the API server is away")
	w.now.correlation = pipeline.Status{}
	look(10)
	w.err = nil
	look(1)
	if w.shown.Status != metav1.ConditionFalse || w.shown.Reason != v1alpha1.ReasonReceiverHealthy {
		t.Errorf("recovered: %+v", w.shown)
	}
}

func TestStandstillBeforeEventsIsNoticed(t *testing.T) {
	var p progress
	for _, step := range []struct {
		after           time.Duration
		through, unread uint64
		want            time.Duration
	}{
		{0, 10, 0, 0},
		{time.Hour, 10, 0, 0}, // nothing to do
		{time.Hour + time.Minute, 10, 5, time.Minute},         // an event that nobody has read yet
		{time.Hour + 4*time.Minute, 10, 900, 4 * time.Minute}, // and does not
		{time.Hour + 5*time.Minute, 11, 900, 0},               // slow is not still
		{time.Hour + 6*time.Minute, 911, 0, 0},
	} {
		if got := p.stalled(noon.Add(step.after), step.through, step.unread); got != step.want {
			t.Errorf("after %s: stalled for %s, want %s", step.after, got, step.want)
		}
	}
}
