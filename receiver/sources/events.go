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

// ShowFirstEvent writes into the status of the integration when its first event came in. It fails when the API server cannot take it, and
// may be repeated.
func (w *Watch) ShowFirstEvent(ctx context.Context, received time.Time) error {
	return w.showEvents(ctx, map[string]any{"firstTime": metav1.NewTime(received)})
}

// ShowOutage writes into the status of the integration for how long it took no events, in the same way. The status has whole seconds: they
// contain the outage.
func (w *Watch) ShowOutage(ctx context.Context, start, end time.Time) error {
	const almost = time.Second - 1
	outage := v1alpha1.Outage{Start: metav1.NewTime(start.Truncate(time.Second)), End: metav1.NewTime(end.Add(almost).Truncate(time.Second))}
	return w.showEvents(ctx, map[string]any{"outage": outage})
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
