// Package backfill reads calls from the history of a PBX and hands them to the receiver: the calls of an outage, recordings that were
// registered late, and what events cannot say. It is a step of the reconciliation of PBXIntegrations.
//
// The receiver keeps the records like events, in the same sets, so that whatever is read twice, or was told by events as well, counts once.
package backfill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

// +kubebuilder:rbac:groups=pbx-operator.io,resources=calllegs,verbs=get;list

// Historian is what backfill asks of a PBX.
type Historian interface {
	// History lists the finished legs of all calls that began at from or later and before to.
	History(ctx context.Context, from, to time.Time) ([]callhistory.Record, error)
}

// Connect gives access to the PBX of an integration.
type Connect func(ctx context.Context, p *v1alpha1.PBXIntegration) (Historian, error)

// Receiver takes records.
type Receiver interface {
	// Send hands records to the receiver of an integration. Sending them again does no harm.
	Send(ctx context.Context, p *v1alpha1.PBXIntegration, records []callhistory.Record) error
}

// Config is what the step works with.
type Config struct {
	// Client is cached; Live reads CallLegs past the cache, which does not hold them.
	Client   client.Client
	Live     client.Reader
	Connect  Connect
	Receiver Receiver
	Clock    clock.PassiveClock
	// Settle is how long after an outage the history is read, so that the PBX has it complete. Default: 15 s.
	Settle time.Duration
}

const (
	defaultSettle = 15 * time.Second
	retry         = time.Minute
	// receiverRetry is how often to look whether the receiver is back.
	receiverRetry = 10 * time.Second
	// longestCall bounds how far before an outage calls are looked for that ended in it.
	longestCall = 4 * time.Hour
	// recordingInterval is between two looks for late recordings.
	recordingInterval = 5 * time.Minute
	// databaseInterval is between two looks into a database. They go back as far as a call may last.
	databaseInterval = time.Minute
)

// Step backfills integrations.
type Step struct {
	Config

	mu     sync.Mutex
	memory map[types.UID]*memory
}

// memory saves questions that were asked already. All of it may be lost.
type memory struct {
	looked time.Time
	tried  map[string]int
	sent   map[digest]time.Time
}

// New makes the step.
func New(config Config) *Step {
	if config.Settle <= 0 {
		config.Settle = defaultSettle
	}
	return &Step{Config: config, memory: map[types.UID]*memory{}}
}

// Reconcile reads what is due and says when to look again. Trouble with the history is told in the condition Backfilled and leaves Ready
// alone: the events of today do not depend on it.
func (s *Step) Reconcile(ctx context.Context, p *v1alpha1.PBXIntegration) (time.Duration, error) {
	if p.Spec.Backfill.Mode == v1alpha1.BackfillDisabled {
		s.Forget(p.UID)
		lifecycle.RemoveCondition(p, v1alpha1.ConditionBackfilled)
		return 0, nil
	}
	if !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionReceiverAvailable) {
		return receiverRetry, nil
	}
	return sooner(s.fill(ctx, p), s.complete(ctx, p)), nil
}

// sooner is the shorter of two times, of which 0 is never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Forget drops what is remembered of an integration that is gone.
func (s *Step) Forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.memory, uid)
}

func (s *Step) remembered(uid types.UID) *memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.memory[uid] == nil {
		s.memory[uid] = &memory{tried: map[string]int{}}
	}
	return s.memory[uid]
}

// fill reads the calls of the last outage.
func (s *Step) fill(ctx context.Context, p *v1alpha1.PBXIntegration) time.Duration {
	outage, reads, due := dueOutage(p)
	if !due {
		return 0
	}
	if wait := readAt(outage, reads, s.Settle).Sub(s.Clock.Now()); wait > 0 {
		return wait
	}
	longest := min(p.Spec.CallLegs.MaxDuration.Duration, longestCall)
	records, err := s.history(ctx, p, outage.Start.Add(-longest), outage.End.Time)
	if err == nil {
		records, err = s.ofCalls(ctx, p, touching(records, outage), outage)
	}
	if err == nil {
		err = s.send(ctx, p, records)
	}
	if err != nil {
		return s.failed(p, outage, err)
	}
	p.Status.Backfill = &v1alpha1.BackfillStatus{Outage: outage, Records: int32(min(len(records), 1<<30)), Reads: int32(reads) + 1}
	s.condition(p, metav1.ConditionTrue, v1alpha1.ReasonBackfilled, fmt.Sprintf(
		"the history of the PBX had %d legs for the outage from %s to %s", len(records), text(outage.Start), text(outage.End)))
	return s.fillAgain(p)
}

// fillAgain is when the history is to be read once more.
func (s *Step) fillAgain(p *v1alpha1.PBXIntegration) time.Duration {
	outage, reads, due := dueOutage(p)
	if !due {
		return 0
	}
	return max(readAt(outage, reads, s.Settle).Sub(s.Clock.Now()), time.Second)
}

func text(t metav1.Time) string { return t.UTC().Format(time.RFC3339) }

// failed tells of trouble, and when to try again.
func (s *Step) failed(p *v1alpha1.PBXIntegration, outage v1alpha1.Outage, err error) time.Duration {
	about := fmt.Sprintf("calls between %s and %s may be missing: ", text(outage.Start), text(outage.End))
	if limited, ok := errors.AsType[*pbxapi.RateLimitedError](err); ok {
		return max(limited.After, time.Second)
	}
	if errors.Is(err, pbxapi.ErrNotSupported) {
		s.condition(p, metav1.ConditionFalse, v1alpha1.ReasonNotSupported, about+err.Error())
		return 0
	}
	s.condition(p, metav1.ConditionFalse, v1alpha1.ReasonBackfillFailed, about+err.Error())
	return retry
}

func (s *Step) condition(p *v1alpha1.PBXIntegration, status metav1.ConditionStatus, reason, message string) {
	lifecycle.SetCondition(p, s.Clock.Now(), v1alpha1.ConditionBackfilled, status, reason, message)
}

// history lists the legs that concern an integration.
func (s *Step) history(ctx context.Context, p *v1alpha1.PBXIntegration, from, to time.Time) ([]callhistory.Record, error) {
	pbx, err := s.Connect(ctx, p)
	if err != nil {
		return nil, err
	}
	records, err := pbx.History(ctx, from, to)
	if errors.Is(err, pbxapi.ErrIncomplete) {
		log.FromContext(ctx).Info("Some records of the history of the PBX are of no use and are left out", "cause", err.Error())
		err = nil
	}
	if err != nil {
		return nil, err
	}
	var mappings v1alpha1.ExtensionMappingList
	err = s.Client.List(ctx, &mappings, client.InNamespace(p.Namespace), client.MatchingFields{lifecycle.IndexIntegration: p.Name})
	if err != nil {
		return nil, fmt.Errorf("cannot list the mappings: %w", err)
	}
	return belonging(records, p, mappings.Items), nil
}

// ofCalls gives records the call ids that the events have, on a PBX whose history has none.
func (s *Step) ofCalls(
	ctx context.Context, p *v1alpha1.PBXIntegration, records []callhistory.Record, outage v1alpha1.Outage,
) ([]callhistory.Record, error) {
	if pbxapi.HistoryNamesCalls(p.Spec.PBX) || len(records) == 0 {
		return records, nil
	}
	legs, err := s.legs(ctx, p)
	if err != nil {
		return nil, err
	}
	return claim(records, legs, outage), nil
}

// legs are the CallLegs of an integration.
func (s *Step) legs(ctx context.Context, p *v1alpha1.PBXIntegration, options ...client.ListOption) ([]v1alpha1.CallLeg, error) {
	var list v1alpha1.CallLegList
	options = append(options, client.InNamespace(p.Namespace), client.MatchingLabels{v1alpha1.LabelIntegration: p.Name})
	if err := s.Live.List(ctx, &list, options...); err != nil {
		return nil, fmt.Errorf("cannot list the call legs: %w", err)
	}
	return list.Items, nil
}

func (s *Step) send(ctx context.Context, p *v1alpha1.PBXIntegration, records []callhistory.Record) error {
	if len(records) == 0 {
		return nil
	}
	return s.Receiver.Send(ctx, p, records)
}

// complete reads what events leave open, in calls that are not of an outage.
func (s *Step) complete(ctx context.Context, p *v1alpha1.PBXIntegration) time.Duration {
	interval, look := s.completion(p)
	if look == nil {
		return 0
	}
	known, now := s.remembered(p.UID), s.Clock.Now()
	if wait := known.looked.Add(interval).Sub(now); wait > 0 {
		return wait
	}
	if err := look(ctx, p, known); err != nil {
		return s.incomplete(p, err)
	}
	known.looked = now
	if isIncomplete(p) {
		lifecycle.RemoveCondition(p, v1alpha1.ConditionBackfilled)
	}
	return interval
}

// incompleteMessage begins the message of the condition that tells of legs that could not be completed.
const incompleteMessage = "call legs cannot be completed from the history of the PBX: "

// incomplete tells of trouble that concerns no outage, unless there is worse to tell.
func (s *Step) incomplete(p *v1alpha1.PBXIntegration, err error) time.Duration {
	if limited, ok := errors.AsType[*pbxapi.RateLimitedError](err); ok {
		return max(limited.After, time.Second)
	}
	if current := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionBackfilled); current == nil ||
		current.Status == metav1.ConditionTrue || isIncomplete(p) {
		s.condition(p, metav1.ConditionFalse, v1alpha1.ReasonBackfillFailed, incompleteMessage+err.Error())
	}
	return retry
}

func isIncomplete(p *v1alpha1.PBXIntegration) bool {
	current := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionBackfilled)
	return current != nil && strings.HasPrefix(current.Message, incompleteMessage)
}

type lookup func(ctx context.Context, p *v1alpha1.PBXIntegration, known *memory) error

func (s *Step) completion(p *v1alpha1.PBXIntegration) (time.Duration, lookup) {
	switch pbx := p.Spec.PBX; {
	case pbx.RingMe != nil:
		return recordingInterval, s.completeRecordings
	case pbx.LinuxBox != nil && pbx.LinuxBox.Database != nil:
		return databaseInterval, s.completeFromDatabase
	default:
		return 0, nil
	}
}

// completeRecordings looks for recordings that were registered minutes after the hangup (RingMe: When RecID is missing).
func (s *Step) completeRecordings(ctx context.Context, p *v1alpha1.PBXIntegration, known *memory) error {
	legs, err := s.legs(ctx, p, client.MatchingFields{"status.result": string(v1alpha1.ResultAnswered)})
	if err != nil {
		return err
	}
	late := lateRecordings(legs, known.tried, s.Clock.Now())
	if len(late) == 0 {
		return nil
	}
	from, to := span(late)
	records, err := s.history(ctx, p, from, to)
	if err != nil {
		return err
	}
	if err := s.send(ctx, p, withRecording(records, late)); err != nil {
		return err
	}
	known.note(late, legs)
	return nil
}

// note counts a try for each of the legs, and forgets those that are gone.
func (m *memory) note(late, existing []v1alpha1.CallLeg) {
	tried := make(map[string]int, len(m.tried))
	for _, leg := range existing {
		if n, ok := m.tried[leg.Name]; ok {
			tried[leg.Name] = n
		}
	}
	for _, leg := range late {
		tried[leg.Name]++
	}
	m.tried = tried
}

// completeFromDatabase sends the rows that are new. Calls from before the first event are none of ours.
func (s *Step) completeFromDatabase(ctx context.Context, p *v1alpha1.PBXIntegration, known *memory) error {
	if p.Status.Events == nil || p.Status.Events.FirstTime == nil {
		return nil
	}
	now := s.Clock.Now()
	oldest := now.Add(-min(p.Spec.CallLegs.MaxDuration.Duration, longestCall))
	from := oldest
	if first := p.Status.Events.FirstTime.Add(-clockTolerance); first.After(from) {
		from = first
	}
	records, err := s.history(ctx, p, from, now)
	if err != nil {
		return err
	}
	fresh, sent, err := unseen(records, known.sent, oldest)
	if err != nil {
		return err
	}
	if err := s.send(ctx, p, fresh); err != nil {
		return err
	}
	known.sent = sent
	return nil
}
