package sources_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

func TestAwaitedSince(t *testing.T) {
	made := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	lost := made.Add(time.Hour)
	condition := func(status metav1.ConditionStatus) []metav1.Condition {
		return []metav1.Condition{{Type: v1alpha1.ConditionEventsReceived, Status: status, LastTransitionTime: metav1.NewTime(lost)}}
	}
	for name, tc := range map[string]struct {
		status  v1alpha1.PBXIntegrationStatus
		since   time.Time
		awaited bool
	}{
		"a new integration": {v1alpha1.PBXIntegrationStatus{}, made, true},
		"a first event was seen": {
			v1alpha1.PBXIntegrationStatus{Events: &v1alpha1.EventsStatus{FirstTime: &metav1.Time{Time: made}}, Conditions: condition(metav1.ConditionTrue)},
			time.Time{}, false,
		},
		"the keys were lost": {
			v1alpha1.PBXIntegrationStatus{Events: &v1alpha1.EventsStatus{}, Conditions: condition(metav1.ConditionFalse)}, lost, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			integration := &v1alpha1.PBXIntegration{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(made)}, Status: tc.status}
			if since, awaited := sources.AwaitedSince(integration); !since.Equal(tc.since) || awaited != tc.awaited {
				t.Errorf("got %s, %v; want %s, %v", since, awaited, tc.since, tc.awaited)
			}
		})
	}
}
