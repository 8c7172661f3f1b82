package sources

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// The status has room for one outage: one that is still to be read must not be lost to the next.
func TestUnreadOutageGoesOn(t *testing.T) {
	span := func(from, to time.Duration) v1alpha1.Outage {
		ten := time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
		return v1alpha1.Outage{Start: metav1.NewTime(ten.Add(from)), End: metav1.NewTime(ten.Add(to))}
	}
	const minute = time.Minute
	long, short := span(0, 10*minute), span(11*minute, 11*minute+8*time.Second)
	both := span(0, 11*minute+8*time.Second)
	enabled := v1alpha1.Backfill{Mode: v1alpha1.BackfillEnabled, After: &metav1.Duration{Duration: 30 * time.Second}}
	disabled, eager := enabled, enabled
	disabled.Mode, eager.After = v1alpha1.BackfillDisabled, &metav1.Duration{}
	read := func(of v1alpha1.Outage, times int32) *v1alpha1.BackfillStatus {
		return &v1alpha1.BackfillStatus{Outage: &of, Reads: times}
	}
	for _, tc := range []struct {
		name     string
		shown    *v1alpha1.Outage
		filled   *v1alpha1.BackfillStatus
		backfill v1alpha1.Backfill
		next     v1alpha1.Outage
		want     v1alpha1.Outage
	}{
		{"the first one", nil, nil, enabled, short, short},
		{"after one that was not read", &long, nil, enabled, short, both},
		{"after one while another was read", &long, read(span(-60*minute, -50*minute), 3), enabled, short, both},
		{"after one that an earlier part was read of", &long, read(span(0, 5*minute), 1), enabled, short, both},
		{"after one that was read", &long, read(long, 1), enabled, short, short},
		{"after one that no read has finished of", &long, read(long, 0), enabled, short, both},
		{"nothing is read", &long, nil, disabled, short, short},
		{"after one too short to be read", &short, nil, enabled, span(12*minute, 13*minute), span(12*minute, 13*minute)},
		{"after a short one that is read as well", &short, nil, eager, span(12*minute, 13*minute), span(11*minute, 13*minute)},
		{"almost an hour after one", &long, nil, enabled, span(69*minute, 71*minute), span(0, 71*minute)},
		{"an hour after one", &long, nil, enabled, span(70*minute, 71*minute), span(70*minute, 71*minute)},
		{"the same one again", &long, nil, enabled, long, long},
		{"one that contains it", &long, nil, enabled, span(-minute, 12*minute), span(-minute, 12*minute)},
	} {
		status := v1alpha1.PBXIntegrationStatus{Events: &v1alpha1.EventsStatus{Outage: tc.shown}, Backfill: tc.filled}
		if diff := cmp.Diff(tc.want, withUnread(tc.next, tc.backfill, status)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
	if got := withUnread(short, enabled, v1alpha1.PBXIntegrationStatus{}); !cmp.Equal(short, got) {
		t.Errorf("without a status: %v", got)
	}
}
