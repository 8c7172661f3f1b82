package lifecycle

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// SetCondition sets a condition of the object for its present generation. The message is scrubbed.
func SetCondition(obj Object, now time.Time, conditionType string, status metav1.ConditionStatus, reason, message string) {
	setCondition(obj, obj.GetGeneration(), now, conditionType, status, reason, message)
}

func setCondition(
	obj Object, generation int64, now time.Time, conditionType string, status metav1.ConditionStatus, reason, message string,
) {
	meta.SetStatusCondition(obj.GetConditions(), metav1.Condition{
		Type:               conditionType,
		Status:             status,
		ObservedGeneration: generation,
		LastTransitionTime: metav1.NewTime(now),
		Reason:             reason,
		Message:            Scrub(message),
	})
}

// RemoveCondition removes a condition.
func RemoveCondition(obj Object, conditionType string) {
	meta.RemoveStatusCondition(obj.GetConditions(), conditionType)
}

// Ready returns the Ready condition, or nil.
func Ready(obj Object) *metav1.Condition {
	return meta.FindStatusCondition(*obj.GetConditions(), v1alpha1.ConditionReady)
}

// IsReady reports whether the object is Ready at its present generation.
func IsReady(obj Object) bool {
	ready := Ready(obj)
	return ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == obj.GetGeneration()
}

// settle writes an outcome into the conditions, in the manner of kstatus: Ready always; Reconciling
// and Stalled only while they are True, never both.
func settle(obj Object, now time.Time, result outcome) {
	if result.kind == kindRateLimited && IsReady(obj) {
		return
	}
	generation := appliedBy(obj, result)
	obj.SetObservedGeneration(generation)
	setCondition(obj, generation, now, v1alpha1.ConditionReady, readiness(obj, result.kind), result.reason, result.message)
	progressing := result.kind == kindWaiting || result.kind == kindTransient || result.kind == kindRateLimited
	keep(obj, now, v1alpha1.ConditionReconciling, progressing, result)
	keep(obj, now, v1alpha1.ConditionStalled, result.kind == kindTerminal, result)
}

// appliedBy is the generation that the conditions speak of after a pass. A suspended object is not
// looked at: an edit of its spec stays unobserved, so that nobody takes it for applied. The edit
// that suspends it is an exception, because nothing else is to be done about it.
func appliedBy(obj Object, result outcome) int64 {
	ready := Ready(obj)
	if result.kind != kindSuspended || ready == nil {
		return obj.GetGeneration()
	}
	behind := obj.GetGeneration() - ready.ObservedGeneration
	if behind == 1 && !result.elsewhere && ready.Reason != v1alpha1.ReasonSuspended {
		return obj.GetGeneration()
	}
	return ready.ObservedGeneration
}

// keep sets a condition that exists only while it is True.
func keep(obj Object, now time.Time, conditionType string, holds bool, result outcome) {
	if !holds {
		RemoveCondition(obj, conditionType)
		return
	}
	SetCondition(obj, now, conditionType, metav1.ConditionTrue, result.reason, result.message)
}

// readiness of a suspended object is what it was when it was suspended: nobody looks, so nobody
// knows better.
func readiness(obj Object, result kind) metav1.ConditionStatus {
	switch result {
	case kindDone:
		return metav1.ConditionTrue
	case kindSuspended:
		if ready := Ready(obj); ready != nil {
			return ready.Status
		}
		return metav1.ConditionUnknown
	case kindTerminal, kindWaiting, kindTransient, kindRateLimited, kindDeleted, kindConflict:
	}
	return metav1.ConditionFalse
}
