package correlation

import (
	"cmp"
	"slices"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// near is by how much the start of a leg may differ from that in the history: the clocks differ,
// and the history knows full seconds only.
const near = 5 * time.Second

// zone is the least by which the times of two time zones differ.
const zone = 15 * time.Minute

// split parts the set into the events and the records of the PBX's history, of which most calls
// have none.
func (c *Call) split() (events, records []*event) {
	n := len(c.events)
	for n > 0 && c.events[n-1].Type == callevent.History {
		n--
	}
	return c.events[:n], c.events[n:]
}

// versions makes one record of those with the same id: what the history said later adds to what it
// had said.
func versions(records []*event) []*event {
	merged := make([]*event, 0, len(records))
	for _, r := range records {
		if last := len(merged) - 1; last >= 0 && merged[last].LegID == r.LegID {
			merged[last] = merged[last].amended(r)
		} else {
			merged = append(merged, r)
		}
	}
	return merged
}

func (e *event) amended(by *event) *event {
	amended, shared, record := *e, *e.identity, *e.Record
	shared.DID = cmp.Or(shared.DID, by.DID)
	shared.Caller.Name = cmp.Or(shared.Caller.Name, by.Caller.Name)
	if shared.Caller.Number == "" {
		shared.Caller = by.Caller
	}
	if shared.Called.Number == "" {
		shared.Called = by.Called
	}
	if e.Status == callevent.StatusUnspecified {
		amended.Status, amended.WireStatus, amended.Missed = by.Status, by.WireStatus, by.Missed
	}
	if record.Answer.IsZero() {
		record.Answer = by.Record.Answer
	}
	record.End = later(record.End, by.Record.End)
	amended.RecordingID = cmp.Or(e.RecordingID, by.RecordingID)
	amended.Talk, amended.Bridged = cmp.Or(e.Talk, by.Talk), cmp.Or(e.Bridged, by.Bridged)
	amended.Transferred = e.Transferred || by.Transferred
	amended.identity, amended.Record = &shared, &record
	return &amended
}

// joinedHistory is the rule from-history: records complete the legs that events told of, and are
// legs of their own where no event told of them.
func joinedHistory(v *view) (legs []attempt, applies []int) {
	records := slices.DeleteFunc(slices.Clone(v.records), func(r *event) bool { return !r.ofLeg() })
	if len(records) == 0 {
		return nil, nil
	}
	pairs, untold := match(v.legs, records)
	legs = slices.Clone(v.legs)
	for _, p := range pairs {
		legs[p.leg] = v.legs[p.leg].completed(records[p.record])
		applies = append(applies, p.leg)
	}
	for _, r := range untold {
		applies = append(applies, len(legs))
		legs = append(legs, newAttempt(r.LegID, []*event{r}, v.facts, closing{}).restored(r))
	}
	return legs, applies
}

// ofLeg reports whether a record is that of a leg, and not of the caller's own side.
func (e *event) ofLeg() bool { return !e.ofSystem() && !e.ofWholeCall() }

func (e *event) ofSystem() bool {
	return e.Source.Type == callevent.IVR || e.Source.Type == callevent.Queue
}

// ofWholeCall reports whether a record is that of a call from outside of which the history does not
// say whom it reached.
func (e *event) ofWholeCall() bool { return sender(e) == "" && e.Missed != callevent.MissedUnsaid }

// outside reports whether the time of a record has nothing to do with a call whose end was heard:
// the history goes by another clock, such as local time. Before the first event there may be more
// of a call whose beginning was not heard.
func (f *facts) outside(r *event) bool {
	if f.over.IsZero() {
		return false
	}
	early := len(f.routed) > 0 && r.Record.End.Before(f.routed[0].Time.Add(-near))
	return early || r.Time.After(f.over.Add(near))
}

// pair is a leg and a record that may be of the same attempt.
type pair struct {
	leg, record int
	alike       bool // the leg was heard, and went as the record says
	fit         fit
	distance    time.Duration
}

// fit is what a leg and a record have in common, the best first.
type fit int

const (
	byStart  fit = iota
	byTime       // they last at the same time, but the first ring may be lost
	bySource     // the record is of the call that the extension was rung for
)

// nearer orders pairs, the best first.
func nearer(a, b pair) int {
	switch {
	case a.alike && !b.alike:
		return -1
	case b.alike && !a.alike:
		return 1
	default:
		return cmp.Or(cmp.Compare(a.fit, b.fit), cmp.Compare(a.distance, b.distance))
	}
}

// match finds for each leg the record that is nearest to it, and the records of legs that no event
// told of. Those of another clock are of no use.
func match(legs []attempt, records []*event) (pairs []pair, untold []*event) {
	var candidates []pair
	for i := range legs {
		for j, r := range records {
			if p, ok := legs[i].compare(r); ok {
				p.leg, p.record, p.alike = i, j, legs[i].wentLike(r)
				candidates = append(candidates, p)
			}
		}
	}
	slices.SortStableFunc(candidates, nearer)
	paired, complete := make([]bool, len(records)), make([]bool, len(legs))
	for _, p := range candidates {
		if !paired[p.record] && !complete[p.leg] {
			paired[p.record], complete[p.leg] = true, true
			pairs = append(pairs, p)
		}
	}
	for j, r := range records {
		if paired[j] {
			continue
		}
		if at := askew(legs, complete, r); at >= 0 {
			complete[at] = true
			continue
		}
		untold = append(untold, r)
	}
	return pairs, untold
}

// askew is the leg, heard from beginning to end, that a record tells of by another clock, such as
// one in local time; -1 if there is none. No two talks are equally long, but an extension may be
// rung again for as long as before.
func askew(attempts []attempt, complete []bool, r *event) int {
	for i := range attempts {
		a := &attempts[i]
		if complete[i] || !a.sameParty(r) && !a.sourceOf(r) || !a.wentLike(r) {
			continue
		}
		if a.result == Answered || a.start.Sub(r.Time).Abs() >= zone-near {
			return i
		}
	}
	return -1
}

// wentLike reports whether a leg that was heard ended as the record says, and lasted as long. That
// depends on no clock.
func (a *attempt) wentLike(r *event) bool {
	from, since := a.start, r.Time
	if at := r.answered(); !a.answered.IsZero() && !at.IsZero() {
		from, since = a.answered, at
	} else if !a.dialled {
		return false
	}
	same := (a.end.Sub(from) - r.Record.End.Sub(since)).Abs() <= 2*slack
	return same && !a.open() && (a.result == Answered) == (r.Status == callevent.StatusAnswered)
}

// compare tells how near a record is to a leg.
func (a *attempt) compare(r *event) (pair, bool) {
	p, ok := a.meets(r)
	switch {
	case a.sameParty(r):
	case a.sourceOf(r):
		p.fit = bySource
	default:
		return p, false
	}
	return p, ok
}

// meets reports whether a leg and a record begin at the same time, or else last at the same time.
func (a *attempt) meets(r *event) (pair, bool) {
	if distance := a.start.Sub(r.Time).Abs(); a.dialled && distance <= near {
		return pair{distance: distance}, true
	}
	last := a.events[len(a.events)-1].Time
	switch {
	case a.hangup != nil:
		last = a.hangup.Time
	case !a.closing.over.IsZero():
		last = a.closing.over
	}
	p := pair{fit: byTime, distance: last.Sub(r.Record.End).Abs()}
	if opening(a.events).Type == callevent.HasAnswered { // nothing tells when
		return p, r.Status == callevent.StatusAnswered
	}
	common := earlier(last, r.Record.End).Sub(later(a.start, r.Time))
	return p, common > slack || !a.dialled && common >= -slack
}

// sameParty reports whether a record is of the leg's extension and direction, or of the same
// outside number.
func (a *attempt) sameParty(r *event) bool {
	if !a.guessed() && a.direction != directionOf(r.Flow) {
		return false
	}
	if sender(r) == "" {
		return a.extension == "" && a.level == r.Level && a.called.Number == r.Called.Number
	}
	return r.Source.Number != "" && a.extension == r.Source.Number ||
		r.Source.ID != "" && slices.ContainsFunc(a.events, func(e *event) bool { return e.Source.ID == r.Source.ID })
}

// sourceOf reports whether this is the leg of an extension that an API call rang first, of whose
// outgoing leg nothing was heard.
func (a *attempt) sourceOf(r *event) bool {
	return a.sided && a.direction == Inbound && r.Flow == callevent.FlowOut && a.control() != "" && !a.ofCustomer() &&
		a.extension == r.Source.Number
}

func directionOf(flow callevent.Flow) Direction {
	if flow == callevent.FlowOut {
		return Outbound
	}
	return Inbound
}

// guessed reports whether no event says in which direction the leg went.
func (a *attempt) guessed() bool {
	return !a.dialled && !slices.ContainsFunc(a.events, func(e *event) bool { return e.Flow != callevent.FlowUnknown })
}

// completed is the leg joined with a record.
func (a attempt) completed(r *event) attempt {
	a.shown = a.within(ScopeExternal)
	switch {
	case a.guessed():
		a.direction, a.caller, a.called = "", &r.Caller, &r.Called
	case a.direction != directionOf(r.Flow): // what was heard is how the extension was rung
		a.direction, a.caller, a.called = Outbound, &r.Caller, &r.Called
		a.answer, a.hangup, a.answered = nil, nil, time.Time{}
	}
	a.events = append(slices.Clip(a.events), r)
	if !a.dialled && a.caller.Local && !r.Caller.Local { // the first ring, which is lost, would have told who is behind the caller
		a.remote = cmp.Or(a.remote, r.Caller.Number)
	}
	transferred := a.transferred
	a.join(r)
	a.transferred = transferred // by a word of the PBX's own, which means more than that the call was handed over
	if a.caller.Name == "" && a.caller.Number == r.Caller.Number {
		named := *a.caller // of which the events know better whether it is outside
		named.Name = r.Caller.Name
		a.caller = &named
	}
	return a.restored(r)
}

// restored is the leg with what no event said of it, but the record does: a lost ring, answer or
// hangup, and a result for which no event vouches.
func (a attempt) restored(r *event) attempt {
	a.backfilled = true
	if !a.dialled {
		a.dialled, a.start = true, earlier(a.start, r.Time)
	}
	if !a.vouched() && (a.hangup == nil || r.Status != callevent.StatusUnspecified) {
		a.hangup = a.hangupOf(r)
	}
	a.conclude()
	if at := r.answered(); a.answer == nil && a.answered.IsZero() && !at.IsZero() && a.result == Answered {
		at = earlier(later(at, a.start), a.end)
		a.answer = &event{identity: r.identity, Type: callevent.Answer, Time: at, Received: r.Received, Status: callevent.StatusAnswered}
		a.conclude()
	}
	return a
}

// vouched reports whether the leg's events say themselves how it ended.
func (a *attempt) vouched() bool {
	if a.hangup == nil {
		return false
	}
	switch a.hangup.Status {
	case callevent.StatusBusy, callevent.StatusCancelled, callevent.StatusNoAnswer, callevent.StatusFailed:
		return true
	case callevent.StatusAnswered:
		return !a.hangup.StatusOfCall || a.answer != nil
	default:
		return a.result == Answered
	}
}

// hangupOf is the hangup that the record tells of; at the time that the event of it gives, if there
// was one.
func (a *attempt) hangupOf(r *event) *event {
	h := &event{
		identity: r.identity, Type: callevent.Hangup, Time: r.Record.End, Received: r.Received,
		Status: r.Status, WireStatus: r.WireStatus, Talk: r.Talk,
	}
	if a.hangup != nil {
		h.Time = a.hangup.Time
	}
	if r.Status == callevent.StatusUnspecified && !a.closing.over.IsZero() {
		h.WireStatus = "" // the end of the call, or the next ring, says more
	}
	h.Time = later(h.Time, a.start)
	return h
}

// answered is when the record says, or its talk time tells, that the leg was answered; zero where
// neither does.
func (e *event) answered() time.Time {
	switch {
	case e.Status != callevent.StatusAnswered:
		return time.Time{}
	case e.Record.Answer.IsZero() && e.Talk != nil:
		return e.Record.End.Add(-*e.Talk)
	default:
		return e.Record.Answer
	}
}

// hearOf hears a record as the hangup of the caller's side, unless that was heard.
func (w *waiting) hearOf(r *event, facts *facts) {
	if r.Flow == callevent.FlowOut || r.Bridged == nil && r.Missed == callevent.MissedUnsaid || w.heard(r) {
		return
	}
	h := &event{
		identity: r.identity, ID: r.ID, Type: callevent.Hangup, Time: r.Record.End, Received: r.Received,
		Status: r.Status, WireStatus: r.WireStatus, Bridged: r.Bridged, Missed: r.Missed, Record: r.Record,
	}
	if !r.ofSystem() { // the whole call ended for the caller when the last of its legs did
		whole := *r.identity
		whole.Source, whole.Called = callevent.Source{}, callevent.Party{Number: cmp.Or(r.DID, r.Called.Number)}
		h.Type, h.identity, facts.inbound = callevent.CallEnd, &whole, true
	}
	w.events, w.backfilled = append(w.events, r), true
	w.left = w.left || r.ofSystem() || r.ofWholeCall()
	w.hear(h, facts)
}

// heard reports whether the event of which a record tells was heard.
func (w *waiting) heard(r *event) bool {
	if !r.ofSystem() {
		return w.bridged || w.unbridged || w.deciding != nil && w.deciding.Record == nil
	}
	return slices.ContainsFunc(w.events, func(e *event) bool {
		same := r.Source.Number != "" && e.Source.Number == r.Source.Number || r.Source.ID != "" && e.Source.ID == r.Source.ID
		return same && e.Type == callevent.Hangup && e.Time.Sub(r.Record.End).Abs() <= near
	})
}

// credit takes the mark of the history from the legs of which events tell just as well.
func credit(legs, told []Leg, revision int64) {
	for i := range legs {
		at := slices.IndexFunc(told, func(l Leg) bool { return l.LegID == legs[i].LegID })
		if legs[i].Backfilled && at >= 0 && told[at].says(legs[i]) {
			legs[i] = told[at]
			legs[i].Revision = revision
		}
	}
}

// says reports whether the history adds nothing to a leg. It knows full seconds only.
func (l Leg) says(other Leg) bool {
	for _, t := range []struct{ mine, other *time.Time }{{&l.Start, &other.Start}, {&l.Answer, &other.Answer}, {&l.End, &other.End}} {
		if t.mine.IsZero() == t.other.IsZero() && t.mine.Sub(*t.other).Abs() <= slack {
			*t.other = *t.mine
		}
	}
	if (l.Talk - other.Talk).Abs() <= slack {
		other.Talk = l.Talk
	}
	other.Backfilled, other.Events = l.Backfilled, l.Events
	return l.Same(other)
}
