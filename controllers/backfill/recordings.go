package backfill

import (
	"context"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

const (
	// recordingInterval is between two reads for late recordings.
	recordingInterval = 5 * time.Minute
	// recordingDelay is how long after a hangup the PBX may take to register a recording (RingMe:
	// When RecID is missing).
	recordingDelay = 5 * time.Minute
	// recordingWindow is how long a missing recording is looked for.
	recordingWindow = time.Hour
	// recordingTries bound how often a leg is asked for: most calls without a recording id have no
	// recording.
	recordingTries = 3
)

// recordingMemory is what is known of recordings that are looked for.
type recordingMemory struct {
	// read is when the history was last read.
	read time.Time
	// tried are legs, by name, that were asked for.
	tried map[string]tries
	// underway is the read that goes on in the next pass.
	underway *recordingRead
}

type tries struct {
	count int
	last  time.Time
}

// recordingRead is a read of the history for the recordings of legs.
type recordingRead struct {
	query pbxapi.HistoryQuery
	legs  []leg
	calls map[string]bool
}

// completeRecordings looks for recordings that were registered minutes after the hangup.
func (h *handler) completeRecordings(ctx context.Context, p *v1alpha1.PBXIntegration, known *recordingMemory) (time.Duration, error) {
	now := h.clock.Now()
	if known.underway == nil {
		if wait := known.read.Add(recordingInterval).Sub(now); wait > 0 {
			return wait, nil
		}
		legs, err := h.legs(ctx, p, lacksRecording, client.MatchingFields{"status.result": string(v1alpha1.ResultAnswered)})
		if err != nil {
			return 0, err
		}
		known.read = now
		if known.underway = newRecordingRead(lateRecordings(legs, known.tried, now)); known.underway == nil {
			return recordingInterval, nil
		}
	}
	return h.readRecordings(ctx, p, known)
}

// readRecordings reads a page.
func (h *handler) readRecordings(ctx context.Context, p *v1alpha1.PBXIntegration, known *recordingMemory) (time.Duration, error) {
	read := known.underway
	own, err := h.owned(ctx, p)
	if err != nil {
		return 0, err
	}
	_, page, err := h.transfer(ctx, p, read.query, func(record *callhistory.Record) bool {
		return record.RecordingID != "" && read.calls[record.CallID] && own(record)
	})
	if wait, ok := limited(err); ok {
		return wait, nil
	}
	if err != nil {
		return 0, err
	}
	if read.query.Cursor = page.Next; page.Next != "" {
		return nextPage, nil
	}
	known.note(read.legs, h.clock.Now())
	known.underway = nil
	return max(known.read.Add(recordingInterval).Sub(h.clock.Now()), time.Second), nil
}

// newRecordingRead asks about the time in which the calls of legs began; nil for none. A leg may
// begin long after its call: in a queue, or by a transfer.
func newRecordingRead(legs []leg) *recordingRead {
	if len(legs) == 0 {
		return nil
	}
	read := &recordingRead{legs: legs, calls: map[string]bool{}}
	for _, leg := range legs {
		read.calls[leg.callID] = true
		if read.query.From.IsZero() || leg.start.Before(read.query.From) {
			read.query.From = leg.start
		}
		if leg.start.After(read.query.To) {
			read.query.To = leg.start
		}
	}
	read.query.From, read.query.To = read.query.From.Add(-longestCall), read.query.To.Add(clockTolerance)
	return read
}

// note counts a try for each of the legs, and forgets those that are not looked for any more.
func (m *recordingMemory) note(legs []leg, now time.Time) {
	next := make(map[string]tries, len(legs))
	for name, tried := range m.tried {
		if now.Sub(tried.last) < recordingWindow {
			next[name] = tried
		}
	}
	for _, leg := range legs {
		next[leg.name] = tries{count: next[leg.name].count + 1, last: now}
	}
	m.tried = next
}

func lacksRecording(s *v1alpha1.CallLegStatus) bool {
	return s.Kind == v1alpha1.LegExtension && s.RecordingID == "" && s.EndTime != nil
}

// lateRecordings are the legs whose recording may have been registered since.
func lateRecordings(legs []leg, tried map[string]tries, now time.Time) []leg {
	var late []leg
	for _, leg := range legs {
		age, times := now.Sub(leg.end), tried[leg.name].count
		if age >= recordingDelay<<times && age < recordingWindow && times < recordingTries {
			late = append(late, leg)
		}
	}
	return late
}
