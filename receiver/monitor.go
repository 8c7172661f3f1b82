package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

const (
	monitorInterval = 5 * time.Second
	// conditionPause is the shortest time between two writes of the condition Degraded with one
	// status.
	conditionPause = 30 * time.Second
	// maxMessage is the longest message of a condition.
	maxMessage = 4096
)

// monitor looks at a receiver once in a while, and tells what is wrong with it: to the log, as a
// condition of the integration and as a Kubernetes Event.
type monitor struct {
	observe func(now time.Time) observation
	// show writes the condition; nil where there is none to write. It is not asked for what the
	// integration shows already.
	show func(context.Context, metav1.Condition) error
	// shown is the condition as the integration has it; nil if it has none.
	shown func() *metav1.Condition
	// speaks reports whether this receiver is the one that shows conditions and posts Events.
	speaks func() bool
	// post puts a Kubernetes Event up; it does not block.
	post func(reason, message string)
	log  *slog.Logger

	mu      sync.Mutex
	present []fault
	memory  memory
	written time.Time
}

// newMonitor makes the monitor of a receiver. Without Kubernetes it only logs.
func (r *receiver) newMonitor(c *cluster) *monitor {
	m := &monitor{
		observe: func(now time.Time) observation { return r.observe(now, c) }, log: r.logger,
		post: func(string, string) {}, speaks: r.publishing.Load,
	}
	if c.watch != nil {
		m.shown = func() *metav1.Condition { return c.watch.Condition(v1alpha1.ConditionDegraded) }
		m.show, m.post = c.watch.ShowCondition, c.notices.Degraded
	}
	r.registry.MustRegister(&degradedCollector{monitor: m})
	return m
}

// observe looks at all parts of a receiver.
func (r *receiver) observe(now time.Time, c *cluster) observation {
	o := observation{at: now, logs: r.journal.Fill(), lowVolume: r.journal.LowOnSpace(), shortfalls: r.journal.Shortfalls()}
	if correlator := r.correlator.Load(); correlator != nil {
		o.correlation = correlator.Status()
	}
	if c.publish != nil {
		o.publication = c.publish.Progress()
	}
	return o
}

// run works until ctx ends.
func (m *monitor) run(ctx context.Context) {
	ticker := time.NewTicker(monitorInterval)
	defer ticker.Stop()
	for {
		m.look(ctx, time.Now())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// look compares what is with what was, and tells the difference.
func (m *monitor) look(ctx context.Context, now time.Time) {
	o := m.observe(now)
	m.memory.note(o)
	faults := m.memory.faults(o)
	m.mu.Lock()
	before := m.present
	m.present = faults
	m.mu.Unlock()
	m.tell(ctx, before, faults)
	next := conditionOf(faults)
	if m.show != nil && m.speaks() && m.due(next, now) {
		if err := m.show(ctx, next); err != nil {
			m.log.WarnContext(ctx, "the condition Degraded is not shown yet", "error", err)
			return
		}
		m.written = now
	}
}

// tell logs what is new and what is over, and posts Events of what is new.
func (m *monitor) tell(ctx context.Context, before, now []fault) {
	for _, f := range now {
		if !hasReason(before, f.reason) {
			m.log.WarnContext(ctx, "the receiver is degraded", "reason", f.reason, "message", f.message)
			m.post(f.reason, f.message)
		}
	}
	for _, f := range before {
		if !hasReason(now, f.reason) {
			m.log.InfoContext(ctx, "the receiver has recovered", "reason", f.reason)
		}
	}
}

func hasReason(faults []fault, reason string) bool {
	for _, f := range faults {
		if f.reason == reason {
			return true
		}
	}
	return false
}

// due reports whether the condition has to be written: at once when it becomes True or False, else
// not too often. What somebody else has removed or changed is written again.
func (m *monitor) due(next metav1.Condition, now time.Time) bool {
	shown := m.shown()
	if sameCondition(shown, next) {
		return false
	}
	return shown == nil || shown.Status != next.Status || now.Sub(m.written) >= conditionPause
}

// conditionOf is the condition Degraded for what is wrong: the reason of the worst, the messages of
// all.
func conditionOf(faults []fault) metav1.Condition {
	condition := metav1.Condition{
		Type: v1alpha1.ConditionDegraded, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonReceiverHealthy,
		Message: "events become call legs in time",
	}
	if len(faults) == 0 {
		return condition
	}
	messages := make([]string, len(faults))
	for i, f := range faults {
		if messages[i] = f.message; i > 0 {
			messages[i] = fmt.Sprintf("%s: %s", f.reason, f.message)
		}
	}
	condition.Status, condition.Reason = metav1.ConditionTrue, faults[0].reason
	condition.Message = strings.Join(messages, "; ")
	condition.Message = condition.Message[:min(len(condition.Message), maxMessage)]
	return condition
}

// reasons are those of all that is wrong at present.
func (m *monitor) reasons() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	reasons := make([]string, len(m.present))
	for i, f := range m.present {
		reasons[i] = f.reason
	}
	return reasons
}
