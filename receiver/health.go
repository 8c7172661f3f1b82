package main

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
	"github.com/pbx-operator/pbx-operator/receiver/pipeline"
	"github.com/pbx-operator/pbx-operator/receiver/publish"
)

const (
	// lagTolerated is how old the oldest event without a leg may be.
	lagTolerated = 30 * time.Second
	// awayTolerated is how long the Kubernetes API may refuse CallLegs.
	awayTolerated = 2 * time.Minute
	// fullAbove is the share of a log's size from which on it counts as nearly full. Logs are
	// trimmed from 80 percent on, so one that is fuller holds nothing that may be discarded.
	fullAbove = 0.9
	// remembered is for how long after it happened last something is told that cannot be undone.
	remembered = 15 * time.Minute
	// stalledTolerated is how long correlation may make no progress while there are events to read.
	stalledTolerated = 3 * time.Minute
)

// observation is what can be seen of a receiver at one time.
type observation struct {
	at          time.Time
	correlation pipeline.Status
	publication publish.Progress
	logs        map[journal.Log]journal.Fill
	// lowVolume tells that the volume has no space left, whoever takes it.
	lowVolume bool
	// shortfalls are what an external JetStream lacks.
	shortfalls []string
}

// fault is one thing that is wrong, as a reason of the condition Degraded and as what to do.
type fault struct{ reason, message string }

// counters are those whose growth is a fault.
type counters struct{ damaged, closedEarly, skipped, parked uint64 }

// memory is what an observation has to be compared with.
type memory struct {
	before counters
	// grown are the times at which each counter was last seen to have grown.
	grown struct{ damaged, closedEarly, skipped, parked time.Time }
}

// note compares an observation with the ones before it.
func (m *memory) note(o observation) {
	now := countersOf(o)
	for _, counter := range []struct {
		before, now uint64
		grown       *time.Time
	}{
		{m.before.damaged, now.damaged, &m.grown.damaged},
		{m.before.closedEarly, now.closedEarly, &m.grown.closedEarly},
		{m.before.skipped, now.skipped, &m.grown.skipped},
		{m.before.parked, now.parked, &m.grown.parked},
	} {
		if counter.now > counter.before {
			*counter.grown = o.at
		}
	}
	m.before = now
}

func countersOf(o observation) counters {
	return counters{
		damaged: o.correlation.Damaged, closedEarly: o.correlation.ClosedEarly, skipped: o.publication.Skipped,
		parked: uint64(max(o.correlation.ParkedCalls, 0)),
	}
}

// faults are all that is wrong, the worst first. Their messages hold no counts that change all the
// time, so that the condition is written when something happens, and not for its own sake.
func (m *memory) faults(o observation) []fault {
	var found []fault
	add := func(holds bool, reason, message string) {
		if holds {
			found = append(found, fault{reason, message})
		}
	}
	recent := func(grown time.Time) bool { return !grown.IsZero() && o.at.Sub(grown) < remembered }
	full := fullLogs(o)
	add(o.lowVolume, v1alpha1.ReasonJournalFull,
		"the volume of the logs has no free space, and events are answered 503: raise spec.receiver.storage.size, or see what else is on the volume")
	add(full != "", v1alpha1.ReasonJournalFull,
		full+" nearly full with records that may not be discarded yet; when full, events are answered 503: see the other reasons here, else raise spec.receiver.storage.size")
	add(o.correlation.Lag > lagTolerated, v1alpha1.ReasonCorrelationBehind,
		"events wait for more than "+roughly(o.correlation.Lag)+" before they show in call legs: give the receiver more CPU in spec.receiver.template.resources, "+
			"and see its log for trouble with the volume")
	add(recent(m.grown.parked), v1alpha1.ReasonCallsParked,
		"calls were set aside because they cannot be correlated or stored, and all others go on"+lastReason(o.correlation.Parked)+
			": report it together with the events of such a call, which `receiver replay` can read")
	add(recent(m.grown.damaged), v1alpha1.ReasonRecordsDamaged,
		"records of the logs could not be read and were skipped, so events or legs may be missing: check the volume and its storage")
	add(recent(m.grown.closedEarly), v1alpha1.ReasonCallsClosedEarly,
		"more calls are open than there is memory for, and the oldest were closed with result Unknown: see that the PBX reports hangups, or lower spec.callLegs.maxDuration")
	add(len(o.shortfalls) > 0, v1alpha1.ReasonJournalLimits, strings.Join(o.shortfalls, "; "))
	away := o.publication.AwaySince
	add(!away.IsZero() && o.at.Sub(away) > awayTolerated, v1alpha1.ReasonPublicationFailing,
		"the Kubernetes API takes no CallLegs: see the receiver's log for its answer, then quotas, admission webhooks and the receiver's Role; legs are kept in the log")
	add(recent(m.grown.skipped), v1alpha1.ReasonPublicationBehind,
		"calls come faster than the Kubernetes API takes CallLegs, and older ones are not shown: set spec.callLegs.publish to Completed; the log has them all")
	return found
}

// fullLogs names the logs that are nearly full, as the beginning of a sentence; empty if none is.
func fullLogs(o observation) string {
	var names []string
	for _, log := range []journal.Log{journal.Events, journal.Legs} {
		if fill := o.logs[log]; fill.Size > 0 && float64(fill.Used) > fullAbove*float64(fill.Size) {
			names = append(names, string(log))
		}
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return "the log " + names[0] + " is"
	default:
		return "the logs " + strings.Join(names, " and ") + " are"
	}
}

func lastReason(parked []pipeline.ParkedCall) string {
	if len(parked) == 0 {
		return ""
	}
	last := parked[len(parked)-1]
	return fmt.Sprintf("; the last one (hash %s) because: %s", last.Call, cmp.Or(last.Reason, "unknown"))
}

// roughly rounds a time down to a step that does not change from minute to minute.
func roughly(d time.Duration) string {
	for _, step := range []struct {
		least time.Duration
		text  string
	}{{24 * time.Hour, "a day"}, {6 * time.Hour, "six hours"}, {time.Hour, "an hour"}, {10 * time.Minute, "ten minutes"}, {time.Minute, "a minute"}} {
		if d >= step.least {
			return step.text
		}
	}
	return "half a minute"
}

// progress notices when correlation makes none although there is something to read.
type progress struct {
	mu      sync.Mutex
	through uint64
	since   time.Time
}

// stalled returns for how long nothing was correlated although there was something to read.
func (p *progress) stalled(now time.Time, through, unread uint64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if unread == 0 || through != p.through || p.since.IsZero() {
		p.through, p.since = through, now
	}
	return now.Sub(p.since)
}
