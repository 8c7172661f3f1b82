package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/backoff"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// openJournal opens the logs. An external JetStream is waited for: what keeps the logs from being
// opened there is told, and for somebody else to mend. It returns nil when ctx ends before.
func (r *receiver) openJournal(ctx context.Context, c *cluster, metrics *journalMetrics) (*journal.Journal, error) {
	config := r.journalConfig(metrics)
	if config.URL == "" {
		return journal.Open(ctx, config)
	}
	var opened *journal.Journal
	err := backoff.Retry(ctx, backoff.Default, func(ctx context.Context) (err error) {
		opened, err = journal.Open(ctx, config)
		return err
	}, func(err error, _ time.Duration) { r.tellUnopened(ctx, c, err) })
	if ctx.Err() != nil && err != nil {
		return nil, nil //nolint:nilerr,nilnil // nothing was opened, and that is no fault
	}
	return opened, err
}

func (r *receiver) journalConfig(metrics *journalMetrics) journal.Config {
	o := &r.options
	config := journal.Config{
		Dir: o.dataDir, Size: o.storageSize, EventAge: o.eventAge, LegAge: o.legAge,
		Cluster: o.cluster(), Partitions: o.partitions, Former: o.former(), Logger: r.logger, Observe: metrics.committed,
	}
	if o.natsURL != "" {
		config.URL, config.Replicas = o.natsURL, o.natsReplicas
		config.Credentials, config.Authorities, config.Certificate, config.Key = o.natsCreds, o.natsCA, o.natsCert, o.natsKey
		config.Owner, config.Ours = journal.Owner{Namespace: o.namespace, Name: o.integration}, r.hasMapping
	}
	return config
}

// checkNATS refuses flags that lead to no logs.
func (o *options) checkNATS() error {
	switch {
	case o.natsReplicas != 1 && o.natsReplicas != 3 && o.natsReplicas != 5:
		return errors.New("--nats-replicas must be 1, 3 or 5")
	case (o.natsCert == "") != (o.natsKey == ""):
		return errors.New("--nats-cert and --nats-key go together")
	case o.natsURL != "" && (o.integration == "" || o.namespace == ""):
		return errors.New("--nats-url needs --integration and --namespace (or $POD_NAMESPACE): they tell the logs of integrations apart")
	}
	return nil
}

// hasMapping reports whether a mapping, by its UID, has an event URL of this integration. It waits
// until that is known.
func (r *receiver) hasMapping(ctx context.Context, mapping string) bool {
	return r.awaitSources(ctx) && r.table.Knows(mapping)
}

// tellUnopened logs why the logs cannot be opened, and shows it as the condition Degraded. While
// another receiver takes events, the condition is that one's.
func (r *receiver) tellUnopened(ctx context.Context, c *cluster, err error) {
	f := unopenedFault(err)
	if before := r.unopened.Swap(&f.message); before == nil || *before != f.message {
		r.logger.Error("the logs cannot be opened yet", "reason", f.reason, "message", f.message, "error", err)
	}
	if c.watch == nil || isTrue(c.watch.Condition(v1alpha1.ConditionReceiverAvailable)) {
		return
	}
	next := conditionOf([]fault{f})
	if shown := c.watch.Condition(v1alpha1.ConditionDegraded); sameCondition(shown, next) {
		return
	}
	limited, cancel := context.WithTimeout(ctx, showTimeout)
	defer cancel()
	if err := c.watch.ShowCondition(limited, next); err != nil {
		r.logger.Debug("the condition Degraded is not shown yet", "error", err)
	}
}

// unopenedFault is the fault that keeps the logs from being opened. It holds nothing of the error
// that may change from one attempt to the next.
func unopenedFault(err error) fault {
	if limit, ok := errors.AsType[*journal.LimitError](err); ok {
		return fault{v1alpha1.ReasonJournalLimits, "no events are taken: " + limit.Error()}
	}
	return fault{v1alpha1.ReasonJournalUnreachable, "no events are taken: the log server " + journal.Unreachable(err)}
}

func (r *receiver) whyUnopened() error {
	if why := r.unopened.Load(); why != nil {
		return fmt.Errorf("%w: %s", errStarting, *why)
	}
	return errStarting
}

func isTrue(condition *metav1.Condition) bool {
	return condition != nil && condition.Status == metav1.ConditionTrue
}

// sameCondition reports whether a condition shows what it should already.
func sameCondition(shown *metav1.Condition, next metav1.Condition) bool {
	return shown != nil && shown.Status == next.Status && shown.Reason == next.Reason && shown.Message == next.Message
}
