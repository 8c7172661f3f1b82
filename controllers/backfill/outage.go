package backfill

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

// outageMemory is what is known of the read for one outage.
type outageMemory struct {
	outage v1alpha1.Outage
	// claimed are the legs that records of this outage were found to be about.
	claimed  map[string]string
	unusable pbxapi.Unusable
}

// of forgets what is about another outage.
func (m *outageMemory) of(outage v1alpha1.Outage) {
	if !same(m.outage, outage) {
		*m = outageMemory{outage: outage, claimed: map[string]string{}}
	}
}

// remark tells of records that could not be used.
func (m *outageMemory) remark() string {
	if m.unusable.Count == 0 {
		return ""
	}
	return fmt.Sprintf("; %d records are of no use and are left out, the first: %s", m.unusable.Count, m.unusable.First)
}

// fillOutage reads a page of the calls of the last outage. It returns when to go on; 0 is never.
func (h *handler) fillOutage(ctx context.Context, p *v1alpha1.PBXIntegration, known *outageMemory) (time.Duration, error) {
	outage, reads, due := dueOutage(p)
	if !due {
		return 0, nil
	}
	if wait := readAt(outage, reads, h.settle).Sub(h.clock.Now()); wait > 0 {
		return wait, nil
	}
	known.of(outage)
	at := progressOf(p, outage)
	sent, page, err := h.readOutage(ctx, p, known, outage, at)
	if wait, ok := limited(err); ok {
		return wait, nil
	}
	if err != nil {
		return 0, fmt.Errorf("calls between %s and %s may be missing: %w", text(outage.Start), text(outage.End), err)
	}
	for range page.Unusable.Count {
		known.unusable.Add(page.Unusable.First)
	}
	at.records, at.cursor = at.records+sent, page.Next
	h.note(p, outage, reads, at)
	if page.Next != "" {
		return nextPage, nil
	}
	if _, reads, due = dueOutage(p); !due {
		return 0, nil
	}
	return max(readAt(outage, reads, h.settle).Sub(h.clock.Now()), time.Second), nil
}

// readOutage reads a page of the calls that may have ended in the outage.
func (h *handler) readOutage(
	ctx context.Context, p *v1alpha1.PBXIntegration, known *outageMemory, outage v1alpha1.Outage, at progress,
) (int, pbxapi.HistoryPage, error) {
	own, err := h.owned(ctx, p)
	if err != nil {
		return 0, pbxapi.HistoryPage{}, err
	}
	keep := func(record *callhistory.Record) bool { return touches(record, outage) && own(record) }
	query := pbxapi.HistoryQuery{From: outage.Start.Add(-longest(p)), To: outage.End.Time, Cursor: at.cursor}
	if pbxapi.HistoryNamesCalls(p.Spec.PBX) {
		return h.transfer(ctx, p, query, keep)
	}
	from := query.From.Add(-clockTolerance)
	legs, err := h.legs(ctx, p, func(s *v1alpha1.CallLegStatus) bool { return !s.StartTime.Time.Before(from) })
	if err != nil {
		return 0, pbxapi.HistoryPage{}, err
	}
	claims := claims{outage: outage, legs: legs, claimed: known.claimed}
	return h.transfer(ctx, p, query, func(record *callhistory.Record) bool { return keep(record) && claims.claim(record) })
}

// longest is how long a call may last.
func longest(p *v1alpha1.PBXIntegration) time.Duration {
	return min(p.Spec.CallLegs.MaxDuration.Duration, longestCall)
}

// progress is how far a read has come.
type progress struct {
	// records is how many the pages so far had.
	records int
	cursor  string
}

// progressOf reads the status; a read for another outage is of no use.
func progressOf(p *v1alpha1.PBXIntegration, outage v1alpha1.Outage) progress {
	filled := p.Status.Backfill
	var at progress
	var length int
	if !filled.Covers(outage) {
		return at
	}
	if n, err := fmt.Sscanf(filled.Cursor, "%d+%d:", &at.records, &length); n != 2 || err != nil || length > len(filled.Cursor) {
		return progress{}
	}
	at.cursor = filled.Cursor[len(filled.Cursor)-length:]
	return at
}

// String is the form that the status has.
func (a progress) String() string {
	if a.cursor == "" {
		return ""
	}
	return fmt.Sprintf("%d+%d:%s", a.records, len(a.cursor), a.cursor)
}

// note writes down how far the read has come. A second read counts when it is complete.
func (h *handler) note(p *v1alpha1.PBXIntegration, outage v1alpha1.Outage, reads int, at progress) {
	next := v1alpha1.BackfillStatus{Outage: &outage, Reads: int32(reads), Cursor: at.String()}
	if filled := p.Status.Backfill; filled != nil {
		next.Position = filled.Position
		if filled.Covers(outage) {
			next.Records = filled.Records
		}
	}
	if at.cursor == "" {
		next.Records, next.Reads = int32(min(at.records, 1<<30)), next.Reads+1
	}
	p.Status.Backfill = &next
}

func same(a, b v1alpha1.Outage) bool { return equal(a.Start, b.Start) && equal(a.End, b.End) }

func equal(a, b metav1.Time) bool { return a.Equal(&b) }
