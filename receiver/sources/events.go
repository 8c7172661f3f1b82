package sources

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

var errUnseen = errors.New("the integration has not been seen yet")

// ShowFirstEvent writes into the status of the integration when its first event came in. It fails
// when the API server cannot take it, and may be repeated.
func (w *Watch) ShowFirstEvent(ctx context.Context, received time.Time) error {
	return w.showEvents(ctx, map[string]any{"firstTime": metav1.NewTime(received)})
}

// AwaitedSince reports whether the first event of an integration is waited for, and since when an
// event counts: since the integration was made or, where its event URL has changed because its keys
// were lost, since that was noticed.
func AwaitedSince(integration *v1alpha1.PBXIntegration) (time.Time, bool) {
	if events := integration.Status.Events; events != nil && events.FirstTime != nil {
		return time.Time{}, false
	}
	since := integration.CreationTimestamp.Time
	for _, condition := range integration.Status.Conditions {
		noticed := condition.LastTransitionTime.Time
		if condition.Type == v1alpha1.ConditionEventsReceived && condition.Status == metav1.ConditionFalse && noticed.After(since) {
			since = noticed
		}
	}
	return since, true
}

// ShowOutage writes into the status of the integration for how long it took no events, in the same
// way. The status has whole seconds: they contain the outage, and one before it whose calls are
// still to be read from the PBX's history.
func (w *Watch) ShowOutage(ctx context.Context, start, end time.Time) error {
	const almost = time.Second - 1
	outage := v1alpha1.Outage{Start: metav1.NewTime(start.Truncate(time.Second)), End: metav1.NewTime(end.Add(almost).Truncate(time.Second))}
	if integration, ok := w.Integration(); ok {
		outage = withUnread(outage, integration.Spec.Backfill, integration.Status)
	}
	return w.showEvents(ctx, map[string]any{"outage": outage})
}

// unreadAge is how long before an outage another one may have ended that is made one with it.
const unreadAge = time.Hour

// withUnread has an outage begin where the shown one did, if that is long enough for its calls to
// be read from the PBX's history and they were not yet: the status has room for one outage only.
func withUnread(next v1alpha1.Outage, backfill v1alpha1.Backfill, status v1alpha1.PBXIntegrationStatus) v1alpha1.Outage {
	if status.Events == nil || status.Events.Outage == nil || backfill.Mode == v1alpha1.BackfillDisabled {
		return next
	}
	shown := *status.Events.Outage
	filled := status.Backfill
	read := filled.Covers(shown) && filled.Reads > 0
	long := shown.End.Sub(shown.Start.Time) >= backfill.ShortestOutage()
	if long && !read && shown.Start.Before(&next.Start) && next.Start.Sub(shown.End.Time) < unreadAge {
		next.Start = shown.Start
	}
	return next
}

func (w *Watch) showEvents(ctx context.Context, change map[string]any) error {
	if _, ok := w.Integration(); !ok {
		return errUnseen
	}
	if err := w.patchStatus(ctx, integrations, w.integration, map[string]any{"events": change}); err != nil {
		return fmt.Errorf("cannot show in the status of the integration what came in: %w", err)
	}
	return nil
}
