// Package backfill reads calls from the history of a PBX and hands them to the receiver: the calls
// of an outage, recordings that were registered late, and what events cannot say.
//
// The receiver keeps the records like events, in the same sets, so that whatever is read twice, or
// was told by events as well, counts once. A pass reads one page; where the read goes on is in the
// status, so that neither a rate limit nor a restart of the manager makes it begin anew.
package backfill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

// Connect gives access to the PBX of an integration.
type Connect func(ctx context.Context, p *v1alpha1.PBXIntegration) (pbxapi.Historian, error)

// Receiver takes records.
type Receiver interface {
	// Send hands at most callhistory.MaxRecords records to the receiver of an integration. Sending
	// them again does no harm. It returns a RefusedError where the receiver does not understand one
	// of them.
	Send(ctx context.Context, p *v1alpha1.PBXIntegration, records []callhistory.Record) error
}

// handler makes the passes over integrations.
type handler struct {
	client client.Client // cached
	// live reads CallLegs past the cache, which does not hold them.
	live     client.Reader
	connect  Connect
	receiver Receiver
	clock    clock.PassiveClock
	settle   time.Duration

	mu       sync.Mutex
	memories map[types.NamespacedName]*memory
}

var _ lifecycle.Handler[*v1alpha1.PBXIntegration] = (*handler)(nil)

const (
	// receiverRetry is how often to look for the receiver; that it is back is told by a watch as
	// well.
	receiverRetry = time.Minute
	// longestCall bounds how far before an outage calls are looked for that ended in it.
	longestCall = 4 * time.Hour
	// nextPage is when a read goes on.
	nextPage = 10 * time.Millisecond
)

// memory saves questions that were asked already. All of it can be lost.
type memory struct {
	uid      types.UID
	outage   outageMemory
	late     recordingMemory
	database databaseMemory
	// told tells that an Event was made of records that cannot be used.
	told bool
}

// notice tells once of records that cannot be used.
func (m *memory) notice() lifecycle.Notice {
	unusable := m.outage.unusable
	if unusable.Count == 0 {
		unusable = m.database.unusable
	}
	if unusable.Count == 0 || m.told {
		m.told = unusable.Count > 0
		return lifecycle.Notice{}
	}
	m.told = true
	return lifecycle.Notice{Reason: v1alpha1.ReasonRecordsSkipped, Warning: true, Message: fmt.Sprintf(
		"some records of the history of the PBX cannot be used, so calls may be missing; the first: %s", unusable.First)}
}

// Suspended reports whether the integration is to be left alone.
func (h *handler) Suspended(p *v1alpha1.PBXIntegration) bool { return p.Spec.Suspend }

// Finalize is never called: nothing is left behind.
func (h *handler) Finalize(context.Context, *v1alpha1.PBXIntegration) (lifecycle.Done, error) {
	return lifecycle.Done{}, nil
}

// Reconcile reads a page of what is due, and says when to go on.
func (h *handler) Reconcile(ctx context.Context, p *v1alpha1.PBXIntegration) (lifecycle.Done, error) {
	if p.Spec.Backfill.Mode == v1alpha1.BackfillDisabled {
		h.turnOff(p)
		return lifecycle.Done{}, nil
	}
	if !available(p) {
		return lifecycle.Done{After: receiverRetry}, nil
	}
	known := h.remembered(p)
	outage, outageErr := h.fillOutage(ctx, p, &known.outage)
	other, otherErr := h.complete(ctx, p, known)
	done := lifecycle.Done{After: sooner(outage, other), Notice: known.notice()}
	if err := errors.Join(outageErr, otherErr); err != nil {
		return done, failed(outageErr, otherErr)
	}
	return h.conclude(p, known, done), nil
}

// turnOff leaves no cursor behind: what happens while backfill is off is not made up for later.
func (h *handler) turnOff(p *v1alpha1.PBXIntegration) {
	h.forget(client.ObjectKeyFromObject(p))
	lifecycle.RemoveCondition(p, v1alpha1.ConditionBackfilled)
	if p.Status.Backfill != nil {
		p.Status.Backfill.Cursor, p.Status.Backfill.Position = "", nil
	}
}

// conclude tells of the last outage whose calls were read, if there was one.
func (h *handler) conclude(p *v1alpha1.PBXIntegration, known *memory, done lifecycle.Done) lifecycle.Done {
	filled := p.Status.Backfill
	_, reads, due := dueOutage(p)
	switch {
	case due && reads == 0: // what there is to say of it is still to come
	case filled == nil || filled.Outage == nil:
		lifecycle.RemoveCondition(p, v1alpha1.ConditionBackfilled)
	case filled.Reads > 0:
		done.Reason = v1alpha1.ReasonBackfilled
		done.Message = fmt.Sprintf("the history of the PBX had %d legs for the outage from %s to %s%s",
			filled.Records, text(filled.Outage.Start), text(filled.Outage.End), known.outage.remark())
	}
	return done
}

// sooner is the shorter of two times, of which 0 is never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func text(t metav1.Time) string { return t.UTC().Format(time.RFC3339) }

// complete reads what events leave open, in calls that are not of an outage.
func (h *handler) complete(ctx context.Context, p *v1alpha1.PBXIntegration, known *memory) (time.Duration, error) {
	switch pbx := p.Spec.PBX; {
	case pbx.RingMe != nil:
		return h.completeRecordings(ctx, p, &known.late)
	case pbx.LinuxBox != nil && pbx.LinuxBox.Database != nil:
		return h.followDatabase(ctx, p, &known.database)
	default:
		return 0, nil
	}
}

// failed says what errors mean for the condition Backfilled: what concerns an outage first.
func failed(outage, other error) error {
	err := outage
	if err == nil {
		err = fmt.Errorf("call legs cannot be completed from the history of the PBX: %w", other)
	}
	if errors.Is(err, pbxapi.ErrNotSupported) {
		return lifecycle.Terminal{Reason: v1alpha1.ReasonNotSupported, Err: err}
	}
	return lifecycle.Transient{Reason: v1alpha1.ReasonBackfillFailed, Err: err}
}

// limited returns how long the rate limit asks to wait, if that is what an error is about. It says
// nothing about the calls.
func limited(err error) (time.Duration, bool) {
	limit, ok := errors.AsType[*pbxapi.RateLimitedError](err)
	if !ok {
		return 0, false
	}
	return max(limit.After, time.Second), true
}

// remembered returns what is known of an integration.
func (h *handler) remembered(p *v1alpha1.PBXIntegration) *memory {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := client.ObjectKeyFromObject(p)
	if known := h.memories[key]; known != nil && known.uid == p.UID {
		return known
	}
	known := &memory{uid: p.UID}
	h.memories[key] = known
	return known
}

// forget drops what is remembered of an integration.
func (h *handler) forget(key types.NamespacedName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.memories, key)
}

// transfer reads one page of the history and sends what keep lets through, a few records at a time.
// It returns how many were sent.
func (h *handler) transfer(
	ctx context.Context, p *v1alpha1.PBXIntegration, query pbxapi.HistoryQuery, keep func(*callhistory.Record) bool,
) (sent int, page pbxapi.HistoryPage, err error) {
	pbx, err := h.connect(ctx, p)
	if err != nil {
		return 0, page, err
	}
	batch := make([]callhistory.Record, 0, callhistory.MaxRecords)
	send := func() error {
		refused, err := h.send(ctx, p, batch)
		for range refused.Count {
			page.Unusable.Add(refused.First)
		}
		sent += len(batch) - refused.Count
		batch = batch[:0]
		return err
	}
	read, err := pbx.ReadHistory(ctx, query, func(record callhistory.Record) error {
		if !keep(&record) {
			return nil
		}
		if batch = append(batch, record); len(batch) < cap(batch) {
			return nil
		}
		return send()
	})
	if err == nil {
		err = send()
	}
	for range read.Unusable.Count {
		page.Unusable.Add(read.Unusable.First)
	}
	page.Next = read.Next
	return sent, page, err
}

// send sends records together, or each for itself where the receiver refuses one: it must not keep
// the others back.
func (h *handler) send(ctx context.Context, p *v1alpha1.PBXIntegration, records []callhistory.Record) (refused pbxapi.Unusable, err error) {
	if len(records) == 0 {
		return refused, nil
	}
	err = h.receiver.Send(ctx, p, records)
	if !errors.As(err, new(RefusedError)) {
		return refused, err
	}
	for i := range records {
		switch err := h.receiver.Send(ctx, p, records[i:i+1]); {
		case errors.As(err, new(RefusedError)):
			refused.Add(err.Error())
		case err != nil:
			return refused, err
		}
	}
	return refused, nil
}

// owned returns a filter of the records that this integration would have had events of: a PBX may
// serve others as well.
func (h *handler) owned(ctx context.Context, p *v1alpha1.PBXIntegration) (func(*callhistory.Record) bool, error) {
	var mappings v1alpha1.ExtensionMappingList
	err := h.client.List(ctx, &mappings, client.InNamespace(p.Namespace), client.MatchingFields{lifecycle.IndexIntegration: p.Name},
		client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("cannot list the mappings: %w", err)
	}
	return belonging(p, mappings.Items), nil
}
