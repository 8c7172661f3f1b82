package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

// Reconcile runs the steps. A step that fails does not keep the others from their work: a dead PBX
// is no reason to leave a receiver down. Only a spec that makes no sense stops everything, and
// leaves what is running as it is.
func (c *Controller) Reconcile(ctx context.Context, p *v1alpha1.PBXIntegration) (lifecycle.Done, error) {
	if err := workload.Validate(p); err != nil {
		return lifecycle.Done{}, lifecycle.Terminal{Reason: v1alpha1.ReasonInvalidSpec, Err: err}
	}
	mappings, err := c.mappings(ctx, p)
	if err != nil {
		return lifecycle.Done{}, fmt.Errorf("cannot list the mappings: %w", err)
	}
	var done lifecycle.Done
	c.reportExtensions(p, mappings)
	ring, keysErr := c.reconcileKeys(ctx, p, mappings, &done)
	pbxErr := c.reconcilePBX(ctx, p)
	errs := []error{keysErr, pbxErr}
	if keysErr == nil && pbxErr == nil {
		errs = append(errs, c.reconcileAccount(ctx, p, ring, mappings, &done))
	}
	errs = append(errs,
		c.reconcileEventURL(ctx, p, ring),
		c.reconcileJournal(ctx, p),
		c.reconcileMembers(ctx, p),
		c.reconcileWorkload(ctx, p),
		c.observeReceiver(ctx, p),
	)
	done.Message = c.reportEvents(p, ring, &done)
	if readsConfigMap(p) {
		done.After = soonest(done.After, c.BundleInterval)
	}
	done.After = c.next(done.After, errs)
	return done, worst(errs...)
}

// readsConfigMap reports whether an integration takes certificates from a ConfigMap.
func readsConfigMap(p *v1alpha1.PBXIntegration) bool {
	var bundles []*v1alpha1.BundleReference
	if tls := p.Spec.PBX.TLS; tls != nil {
		bundles = append(bundles, &tls.CABundle)
	}
	if nats := p.Spec.Receiver.Journal.NATS; nats != nil && nats.TLS != nil {
		bundles = append(bundles, nats.TLS.CABundle)
	}
	return slices.ContainsFunc(bundles, func(bundle *v1alpha1.BundleReference) bool {
		return bundle != nil && bundle.Kind == v1alpha1.BundleConfigMap
	})
}

// next is when to look again, zero for the ordinary interval: as soon as any part of the pass wants
// that, whichever outcome Ready speaks of.
func (c *Controller) next(after time.Duration, errs []error) time.Duration {
	for _, err := range errs {
		if waiting, ok := errors.AsType[lifecycle.Waiting](err); ok {
			after = soonest(after, waiting.After)
		}
		if limited, ok := errors.AsType[lifecycle.RateLimited](err); ok {
			after = soonest(after, limited.After)
		}
	}
	if after >= c.Interval {
		return 0
	}
	return after
}

// reportExtensions tells how many mappings there are, how many of them are Ready, and what is the
// matter with the others. Ready of the integration does not depend on them.
func (c *Controller) reportExtensions(p *v1alpha1.PBXIntegration, mappings []v1alpha1.ExtensionMapping) {
	unready := map[string][]string{} // names by reason
	counts := &v1alpha1.ExtensionCounts{Total: int32(len(mappings))}
	for i := range mappings {
		if lifecycle.IsReady(&mappings[i]) {
			counts.Ready++
			continue
		}
		reason := v1alpha1.ReasonProgressing
		if ready := lifecycle.Ready(&mappings[i]); ready != nil {
			reason = ready.Reason
		}
		unready[reason] = append(unready[reason], mappings[i].Name)
	}
	p.Status.Extensions = counts
	switch {
	case counts.Total == 0:
		lifecycle.RemoveCondition(p, v1alpha1.ConditionExtensions)
	case counts.Ready == counts.Total:
		c.condition(p, v1alpha1.ConditionExtensions, metav1.ConditionTrue, v1alpha1.ReasonExtensionsReady,
			fmt.Sprintf("%d of %d mappings are Ready", counts.Ready, counts.Total))
	default:
		c.condition(p, v1alpha1.ConditionExtensions, metav1.ConditionFalse, v1alpha1.ReasonExtensionsNotReady,
			fmt.Sprintf("%d of %d mappings are Ready; %s", counts.Ready, counts.Total, listByReason(unready)))
	}
}

// listByReason names some of the mappings for each reason, in an order that does not change by
// itself.
func listByReason(names map[string][]string) string {
	const most = 3
	parts := make([]string, 0, len(names))
	for _, reason := range slices.Sorted(maps.Keys(names)) {
		slices.Sort(names[reason])
		part := reason + ": " + strings.Join(names[reason][:min(len(names[reason]), most)], ", ")
		if more := len(names[reason]) - most; more > 0 {
			part += fmt.Sprintf(" and %d more", more)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

// worst picks the error that Ready should speak of: what only a user can mend, then what failed,
// then what takes its time, and last that the PBX wants us to wait, which need not mean that
// anything is amiss. Among equals the first one counts.
func worst(errs ...error) error {
	var found error
	for _, err := range errs {
		if err != nil && (found == nil || severity(err) > severity(found)) {
			found = err
		}
	}
	return found
}

func severity(err error) int {
	switch {
	case errors.As(err, new(lifecycle.Terminal)):
		return 4
	case errors.As(err, new(lifecycle.RateLimited)):
		return 1
	case errors.As(err, new(lifecycle.Waiting)):
		return 2
	default:
		return 3
	}
}

// observeReceiver reports what StatefulSet or Deployment say of the receiver's pods.
func (c *Controller) observeReceiver(ctx context.Context, p *v1alpha1.PBXIntegration) error {
	running, err := c.running(ctx, p)
	if err != nil {
		return err
	}
	seen := workload.Observe(p, running)
	p.Status.Receiver = &v1alpha1.ReceiverStatus{Replicas: seen.Wanted, ReadyReplicas: seen.Ready, Members: members(p)}
	if !seen.Available {
		seen.Message += c.trouble(ctx, p)
		c.condition(p, v1alpha1.ConditionReceiverAvailable, metav1.ConditionFalse, v1alpha1.ReasonReceiverUnavailable, seen.Message)
		return lifecycle.Waitingf(v1alpha1.ReasonReceiverUnavailable, 0, "%s", seen.Message)
	}
	c.condition(p, v1alpha1.ConditionReceiverAvailable, metav1.ConditionTrue, v1alpha1.ReasonReceiverAvailable, seen.Message)
	if !seen.RolledOut {
		return lifecycle.Waitingf(v1alpha1.ReasonProgressing, 0, "%s", seen.Message)
	}
	return nil
}

// trouble is what is wrong with the pods, as far as that can be found out.
func (c *Controller) trouble(ctx context.Context, p *v1alpha1.PBXIntegration) string {
	var pods corev1.PodList
	err := c.Live.List(ctx, &pods, client.InNamespace(p.Namespace), client.MatchingLabels(workload.SelectorLabels(p.Name)))
	if err != nil {
		log.FromContext(ctx).Info("Cannot look at the receiver's pods", "cause", err.Error())
		return ""
	}
	if problem := workload.Trouble(pods.Items); problem != "" {
		return "; " + problem
	}
	return ""
}
