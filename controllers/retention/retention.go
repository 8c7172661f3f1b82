// Package retention deletes CallLegs whose time to live is over: one request per minute of expiry
// and namespace, not one per leg.
package retention

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// +kubebuilder:rbac:groups=pbx-operator.io,resources=calllegs,verbs=list;deletecollection

const (
	// layout of the label v1alpha1.LabelExpires, in UTC. Receivers write it.
	layout = "20060102T1504"
	// granularity of the label: a leg expires at some moment of that minute, so it may go when the
	// minute is over.
	granularity = time.Minute
	// interval between two passes.
	interval = 15 * time.Second
	// recentBuckets are asked for by name in an ordinary pass, so that the answer holds nothing but
	// expired legs.
	recentBuckets = 10
	// fullEvery passes, and in the first one, all finished legs are looked at: some may be older,
	// after a time without a manager.
	fullEvery = 40
	pageSize  = 500
)

// Reader lists metadata, past any cache: a cache of all CallLegs would cost the manager more than
// it saves.
type Reader interface {
	List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error
}

// Controller deletes expired CallLegs.
type Controller struct {
	reader Reader
	// namespaces to look into; none stands for all.
	namespaces []string
	writer     client.Writer
	clock      clock.WithTicker
	deleted    prometheus.Counter
}

var (
	_ manager.Runnable               = (*Controller)(nil)
	_ manager.LeaderElectionRunnable = (*Controller)(nil)
)

// New makes a Controller for these namespaces, or for all of them where none is named. The reader
// is that of manager.GetAPIReader.
func New(reader Reader, writer client.Writer, clock clock.WithTicker, registerer prometheus.Registerer, namespaces ...string) *Controller {
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	return &Controller{
		reader: reader, writer: writer, clock: clock, namespaces: namespaces,
		deleted: promauto.With(registerer).NewCounter(prometheus.CounterOpts{
			Name: "pbx_operator_calllegs_expired_total", Help: "CallLeg objects deleted because their time to live was over.",
		}),
	}
}

// NeedLeaderElection lets one manager at a time delete.
func (c *Controller) NeedLeaderElection() bool { return true }

// Start deletes what has expired until ctx is done. What fails is tried again in the next pass.
func (c *Controller) Start(ctx context.Context) error {
	logger := log.FromContext(ctx).WithName("retention")
	ctx = log.IntoContext(ctx, logger)
	ticker := c.clock.NewTicker(interval)
	defer ticker.Stop()
	full := true
	for passes := 1; ; passes++ {
		if err := c.pass(ctx, full); err != nil {
			if ctx.Err() == nil {
				logger.Error(err, "cannot delete expired call legs; the next pass tries again")
			}
		} else {
			full = false
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
			full = full || passes%fullEvery == 0
		}
	}
}

// pass deletes what has expired by now.
func (c *Controller) pass(ctx context.Context, full bool) error {
	now := c.clock.Now()
	selector, err := recentlyExpired(now)
	if full {
		selector, err = finished()
	}
	if err != nil {
		return err
	}
	// A namespace that cannot be looked into, such as one that is gone, does not keep the others.
	found, err := c.find(ctx, selector)
	expired, unparsable := expiredBy(now, found)
	if len(unparsable) > 0 {
		log.FromContext(ctx).Info("ignoring call legs whose expiry cannot be read", "label", v1alpha1.LabelExpires,
			"values", strings.Join(unparsable, ", "))
	}
	for _, bucket := range expired {
		err = errors.Join(err, c.delete(ctx, bucket, found[bucket]))
	}
	return err
}

// bucket is the legs of one namespace that expire in the same minute.
type bucket struct{ namespace, expires string }

// find counts the legs in each bucket.
func (c *Controller) find(ctx context.Context, selector labels.Selector) (map[bucket]int, error) {
	found := map[bucket]int{}
	errs := make([]error, 0, len(c.namespaces))
	for _, namespace := range c.namespaces {
		errs = append(errs, c.findIn(ctx, namespace, selector, found))
	}
	return found, errors.Join(errs...)
}

func (c *Controller) findIn(ctx context.Context, namespace string, selector labels.Selector, found map[bucket]int) error {
	page := &metav1.PartialObjectMetadataList{}
	page.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("CallLegList"))
	for more := true; more; more = page.Continue != "" {
		options := &client.ListOptions{Namespace: namespace, LabelSelector: selector, Limit: pageSize, Continue: page.Continue}
		if err := c.reader.List(ctx, page, options); err != nil {
			return fmt.Errorf("cannot list call legs in %q: %w", namespace, err)
		}
		for _, leg := range page.Items {
			found[bucket{leg.Namespace, leg.Labels[v1alpha1.LabelExpires]}]++
		}
	}
	return nil
}

// delete removes one bucket. The API server selects once more, so a leg that has got a later expiry
// meanwhile stays.
func (c *Controller) delete(ctx context.Context, of bucket, count int) error {
	err := c.writer.DeleteAllOf(ctx, &v1alpha1.CallLeg{}, client.InNamespace(of.namespace),
		client.MatchingLabels{v1alpha1.LabelExpires: of.expires}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if err != nil {
		return fmt.Errorf("cannot delete the call legs of namespace %s that expired in %s: %w", of.namespace, of.expires, err)
	}
	c.deleted.Add(float64(count))
	return nil
}

// expiredBy are the buckets whose minute is over, oldest first, and the labels that are no time.
func expiredBy(now time.Time, found map[bucket]int) (expired []bucket, unparsable []string) {
	for of := range found {
		minute, err := time.Parse(layout, of.expires)
		switch {
		case err != nil:
			unparsable = append(unparsable, of.expires)
		case !now.Before(minute.Add(granularity)):
			expired = append(expired, of)
		}
	}
	slices.SortFunc(expired, func(a, b bucket) int {
		return strings.Compare(a.expires+a.namespace, b.expires+b.namespace)
	})
	slices.Sort(unparsable)
	return expired, slices.Compact(unparsable)
}

// recentlyExpired selects the legs of the last minutes that are over.
func recentlyExpired(now time.Time) (labels.Selector, error) {
	minutes := make([]string, recentBuckets)
	for i := range minutes {
		minutes[i] = now.UTC().Add(-time.Duration(i+1) * granularity).Format(layout)
	}
	return selectBy(selection.In, minutes)
}

// finished selects all legs that have an expiry. Live ones have none and are never touched.
func finished() (labels.Selector, error) { return selectBy(selection.Exists, nil) }

func selectBy(operator selection.Operator, values []string) (labels.Selector, error) {
	requirement, err := labels.NewRequirement(v1alpha1.LabelExpires, operator, values)
	if err != nil {
		return nil, fmt.Errorf("cannot select call legs: %w", err)
	}
	return labels.NewSelector().Add(*requirement), nil
}
