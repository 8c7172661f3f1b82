package backfill

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

const (
	// databaseInterval is between two reads of a database.
	databaseInterval = time.Minute
	// lateRows is how long after its end a row may appear. Asterisk, where it writes call records
	// in batches, does so every five minutes (cdr.conf: time).
	lateRows = 10 * time.Minute
	// databaseStep bounds how much is read at once after the manager was away for long.
	databaseStep = 2 * time.Hour
	// positionAge is how old the position in the status may grow while there is nothing new.
	positionAge = 10 * time.Minute
	// mostSent bounds how many rows are remembered as sent. The receiver knows them as well.
	mostSent = 50_000
)

type digest [sha256.Size]byte

// databaseMemory is what is known of a database that is followed.
type databaseMemory struct {
	// read is when it was last read to the end, position how far.
	read, position time.Time
	// sent are the rows that were sent and may be read again.
	sent map[digest]bool
	// underway is the read that goes on in the next pass.
	underway *databaseRead
	// unusable are rows of the last read that cannot be used.
	unusable pbxapi.Unusable
}

// databaseRead is one read, of one page or more.
type databaseRead struct {
	query pbxapi.HistoryQuery
	seen  map[digest]bool
	// fresh tells that something was new.
	fresh    bool
	unusable pbxapi.Unusable
}

// followDatabase sends the rows that are new: those that ended after the position, and those that
// may have come late. Calls from before the first event are none of ours.
func (h *handler) followDatabase(ctx context.Context, p *v1alpha1.PBXIntegration, known *databaseMemory) (time.Duration, error) {
	if p.Status.Events == nil || p.Status.Events.FirstTime == nil {
		return 0, nil
	}
	now := h.clock.Now()
	if wait := known.read.Add(databaseInterval).Sub(now); wait > 0 && known.underway == nil {
		return wait, nil
	}
	if known.underway == nil {
		known.underway = newDatabaseRead(p, known.positionOf(p, now), now)
	}
	read := known.underway
	_, page, err := h.transfer(ctx, p, read.query, func(record *callhistory.Record) bool { return read.keep(record, known.sent) })
	if wait, ok := limited(err); ok {
		return wait, nil
	}
	if err != nil {
		return 0, err
	}
	for range page.Unusable.Count {
		read.unusable.Add(page.Unusable.First)
	}
	if read.query.Cursor = page.Next; page.Next != "" {
		return nextPage, nil
	}
	known.sent, known.position, known.unusable, known.underway = read.seen, read.query.To, read.unusable, nil
	notePosition(p, known.position, read.fresh)
	if known.position.Before(now) {
		return nextPage, nil
	}
	known.read = now
	return databaseInterval, nil
}

// positionOf returns how far the database was read. Without a position, calls that were under way
// at the first event may still be of use.
func (m *databaseMemory) positionOf(p *v1alpha1.PBXIntegration, now time.Time) time.Time {
	switch filled := p.Status.Backfill; {
	case !m.position.IsZero():
		return m.position
	case filled != nil && filled.Position != nil:
		return filled.Position.Time
	default:
		return later(p.Status.Events.FirstTime.Time, now.Add(-longest(p)))
	}
}

// newDatabaseRead asks about the legs that ended after the position.
func newDatabaseRead(p *v1alpha1.PBXIntegration, position, now time.Time) *databaseRead {
	ended := position.Add(-lateRows)
	return &databaseRead{seen: map[digest]bool{}, query: pbxapi.HistoryQuery{
		From: later(p.Status.Events.FirstTime.Add(-clockTolerance), ended.Add(-longest(p))), To: earlier(now, position.Add(databaseStep)),
		EndedFrom: ended,
	}}
}

// keep lets through what was not sent before.
func (r *databaseRead) keep(record *callhistory.Record, sent map[digest]bool) bool {
	sum, ok := digestOf(record)
	if ok && len(r.seen) < mostSent {
		r.seen[sum] = true
	}
	if ok && sent[sum] {
		return false
	}
	r.fresh = true
	return true
}

func digestOf(record *callhistory.Record) (digest, bool) {
	text, err := json.Marshal(record)
	return sha256.Sum256(text), err == nil
}

// notePosition writes the position down when there was something new, and else from time to time.
func notePosition(p *v1alpha1.PBXIntegration, position time.Time, fresh bool) {
	if p.Status.Backfill == nil {
		p.Status.Backfill = &v1alpha1.BackfillStatus{}
	}
	if last := p.Status.Backfill.Position; fresh || last == nil || position.Sub(last.Time) >= positionAge {
		p.Status.Backfill.Position = &metav1.MicroTime{Time: position}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
