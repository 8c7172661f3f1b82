package backfill

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

// clockTolerance is how far the clocks of the PBX and the receiver may differ, and what is lost to the full seconds of a history.
const clockTolerance = 5 * time.Second

// dueOutage is the outage whose calls are to be read, and how often they were read already; false if there is none.
func dueOutage(p *v1alpha1.PBXIntegration) (outage v1alpha1.Outage, reads int, due bool) {
	if p.Status.Events == nil || p.Status.Events.Outage == nil {
		return outage, 0, false
	}
	outage = *p.Status.Events.Outage
	if outage.End.Sub(outage.Start.Time) < p.Spec.Backfill.ShortestOutage() {
		return outage, 0, false
	}
	if filled := p.Status.Backfill; filled != nil && filled.Outage.Start.Equal(&outage.Start) && filled.Outage.End.Equal(&outage.End) {
		reads = int(filled.Reads)
	}
	return outage, reads, reads < readsOf(p.Spec.PBX)
}

// readsOf is how often a history is read for one outage. A history has finished calls only, and a leg may have ended in the outage of a
// call that went on. Where the records are single legs, those that ended in the outage are all there the first time.
func readsOf(pbx v1alpha1.PBX) int {
	if pbxapi.HistoryNamesCalls(pbx) {
		return maxReads
	}
	return 1
}

const (
	maxReads = 3
	// secondRead and thirdRead are that long after the outage.
	secondRead = 10 * time.Minute
	thirdRead  = time.Hour
)

// readAt is when the history is read for the n-th time.
func readAt(outage v1alpha1.Outage, reads int, settle time.Duration) time.Time {
	return outage.End.Add([maxReads]time.Duration{settle, secondRead, thirdRead}[reads])
}

// touching keeps the records of legs that were there during an outage: what ended before it had been told by events.
func touching(records []callhistory.Record, outage v1alpha1.Outage) []callhistory.Record {
	from := outage.Start.Add(-clockTolerance)
	return slices.DeleteFunc(records, func(r callhistory.Record) bool { return r.End.Before(from) })
}

// belonging keeps the records that this integration would have had events of: a PBX may serve others as well. Where one URL serves the whole
// account, that is all of them.
func belonging(records []callhistory.Record, p *v1alpha1.PBXIntegration, mappings []v1alpha1.ExtensionMapping) []callhistory.Record {
	if p.Spec.PBX.Type == v1alpha1.PBXTypeLinuxBox {
		return records
	}
	types := make(map[string]v1alpha1.ExtensionType, len(mappings))
	for i := range mappings {
		types[mappings[i].Spec.Extension.Number] = mappings[i].Spec.Extension.Type
	}
	allPhones := p.Spec.PBX.RingMe != nil && p.Spec.PBX.RingMe.Registration == v1alpha1.RegistrationAccount
	kept := records[:0]
	for _, record := range records {
		kind, mapped := types[record.Extension]
		if !mapped && (!allPhones || record.Kind != callhistory.Extension && record.Kind != "") {
			continue
		}
		if record.Kind == "" {
			record.Kind = kindOf(kind)
		}
		kept = append(kept, record)
	}
	return kept
}

func kindOf(extension v1alpha1.ExtensionType) callhistory.Kind {
	switch extension {
	case v1alpha1.ExtensionIVR:
		return callhistory.IVR
	case v1alpha1.ExtensionQueue:
		return callhistory.Queue
	case v1alpha1.ExtensionPhone:
	}
	return callhistory.Extension
}

// claim gives the records of a history that has no call ids (VoipNow: CDR) those of the calls that they are about, as far as events have
// told of them: the leg of the same extension and direction that began at the same time. A leg that began before the outage has told of
// itself: where it is not found, because its CallLeg has gone or was not written yet, the record is left out, or the call would count twice.
// So is one that ended after the outage, because its hangup was heard.
func claim(records []callhistory.Record, legs []v1alpha1.CallLeg, outage v1alpha1.Outage) []callhistory.Record {
	claimed := map[int]bool{}
	kept := records[:0]
	for _, record := range records {
		if record.End.After(outage.End.Time) {
			continue
		}
		if at := nearest(record, legs, claimed); at >= 0 {
			claimed[at], record.CallID = true, legs[at].Status.CallID
		} else if record.Start.Before(outage.Start.Time) {
			continue
		}
		kept = append(kept, record)
	}
	return kept
}

// nearest is the leg that a record is about, or -1.
func nearest(record callhistory.Record, legs []v1alpha1.CallLeg, claimed map[int]bool) int {
	best, distance := -1, clockTolerance+1
	for at := range legs {
		if claimed[at] || !couldBe(record, legs[at].Status) {
			continue
		}
		if d := legs[at].Status.StartTime.Sub(record.Start).Abs(); d < distance {
			best, distance = at, d
		}
	}
	return best
}

func couldBe(record callhistory.Record, leg v1alpha1.CallLegStatus) bool {
	outbound := leg.Direction == v1alpha1.DirectionOutbound
	switch {
	case leg.StartTime == nil, leg.Extension != record.Extension:
		return false
	case leg.Direction == v1alpha1.DirectionInternal:
		return true
	default:
		return outbound == (record.Flow == callhistory.Out)
	}
}

const (
	// recordingDelay is how long after a hangup the PBX may take to register a recording (RingMe: When RecID is missing).
	recordingDelay = 5 * time.Minute
	// recordingWindow is how long a missing recording is looked for.
	recordingWindow = time.Hour
	// recordingTries bound how often a leg is asked for: most calls without a recording id have no recording.
	recordingTries = 3
)

// lateRecordings are the legs whose recording may have been registered since.
func lateRecordings(legs []v1alpha1.CallLeg, tried map[string]int, now time.Time) []v1alpha1.CallLeg {
	var late []v1alpha1.CallLeg
	for _, leg := range legs {
		s := leg.Status
		if s.Kind != v1alpha1.LegExtension || s.Result != v1alpha1.ResultAnswered || s.RecordingID != "" || s.EndTime == nil || s.StartTime == nil {
			continue
		}
		age := now.Sub(s.EndTime.Time)
		if age >= recordingDelay<<tried[leg.Name] && age < recordingWindow && tried[leg.Name] < recordingTries {
			late = append(late, leg)
		}
	}
	return late
}

// span is the time in which the calls of legs began. A leg may begin long after its call: in a queue, or by a transfer.
func span(legs []v1alpha1.CallLeg) (from, to time.Time) {
	for _, leg := range legs {
		begin := leg.Status.StartTime.Time
		if from.IsZero() || begin.Before(from) {
			from = begin
		}
		if begin.After(to) {
			to = begin
		}
	}
	return from.Add(-longestCall), to.Add(clockTolerance)
}

// withRecording keeps the records of these legs' calls that name a recording.
func withRecording(records []callhistory.Record, legs []v1alpha1.CallLeg) []callhistory.Record {
	calls := map[string]bool{}
	for _, leg := range legs {
		calls[leg.Status.CallID] = true
	}
	return slices.DeleteFunc(records, func(r callhistory.Record) bool { return r.RecordingID == "" || !calls[r.CallID] })
}

type digest [sha256.Size]byte

// unseen keeps the records that were not sent before, and notes them. What has left the window is forgotten.
func unseen(records []callhistory.Record, sent map[digest]time.Time, oldest time.Time) ([]callhistory.Record, map[digest]time.Time, error) {
	next := make(map[digest]time.Time, len(records))
	for sum, began := range sent {
		if !began.Before(oldest) {
			next[sum] = began
		}
	}
	var fresh []callhistory.Record
	for _, record := range records {
		text, err := json.Marshal(record)
		if err != nil {
			return nil, sent, err
		}
		sum := digest(sha256.Sum256(text))
		if _, known := next[sum]; !known {
			fresh = append(fresh, record)
		}
		next[sum] = record.Start
	}
	return fresh, next, nil
}
