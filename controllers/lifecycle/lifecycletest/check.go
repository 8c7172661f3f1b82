// Package lifecycletest checks in tests what controllers say in a status.
package lifecycletest

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

// Check lists what is wrong with the status of an object that was reconciled at least once, by the
// rules that kstatus, Flux and `kubectl wait` rely on. Tests call it on every object.
func Check(obj lifecycle.Object) []string {
	conditions := *obj.GetConditions()
	return slices.Concat(
		checkSummary(conditions),
		checkProgress(conditions),
		checkEach(obj.GetGeneration(), conditions),
		checkGeneration(obj),
	)
}

// checkGeneration compares status.observedGeneration with what it speaks of.
func checkGeneration(obj lifecycle.Object) []string {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return []string{"it cannot be read: " + err.Error()}
	}
	observed, _, err := unstructured.NestedInt64(fields, "status", "observedGeneration")
	switch ready := lifecycle.Ready(obj); {
	case err != nil:
		return []string{"status.observedGeneration cannot be read: " + err.Error()}
	case observed > obj.GetGeneration():
		return []string{fmt.Sprintf("status speaks of generation %d of %d", observed, obj.GetGeneration())}
	case ready != nil && ready.ObservedGeneration != observed:
		return []string{fmt.Sprintf("status speaks of generation %d, Ready of %d", observed, ready.ObservedGeneration)}
	}
	return nil
}

func find(conditions []metav1.Condition, conditionType string) *metav1.Condition {
	at := slices.IndexFunc(conditions, func(c metav1.Condition) bool { return c.Type == conditionType })
	if at < 0 {
		return nil
	}
	return &conditions[at]
}

func isTrue(condition *metav1.Condition) bool {
	return condition != nil && condition.Status == metav1.ConditionTrue
}

func checkSummary(conditions []metav1.Condition) []string {
	ready := find(conditions, v1alpha1.ConditionReady)
	if ready == nil {
		return []string{"there is no Ready condition"}
	}
	var faults []string
	for _, name := range []string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled} {
		sign := find(conditions, name)
		if !isTrue(sign) {
			continue
		}
		if ready.Status != metav1.ConditionFalse {
			faults = append(faults, fmt.Sprintf("Ready is %s while %s", ready.Status, name))
		}
		if sign.Reason != ready.Reason {
			faults = append(faults, fmt.Sprintf("Ready says %s, %s says %s", ready.Reason, name, sign.Reason))
		}
	}
	return faults
}

func checkProgress(conditions []metav1.Condition) []string {
	var faults []string
	reconciling, stalled := find(conditions, v1alpha1.ConditionReconciling), find(conditions, v1alpha1.ConditionStalled)
	if isTrue(reconciling) && isTrue(stalled) {
		faults = append(faults, "Reconciling and Stalled at once")
	}
	for _, sign := range []*metav1.Condition{reconciling, stalled} {
		if sign != nil && sign.Status != metav1.ConditionTrue {
			faults = append(faults, fmt.Sprintf("%s is %s, but must be True or absent", sign.Type, sign.Status))
		}
	}
	ready := find(conditions, v1alpha1.ConditionReady)
	if ready != nil && ready.Status == metav1.ConditionFalse && ready.Reason != v1alpha1.ReasonSuspended &&
		reconciling == nil && stalled == nil {
		faults = append(faults, "not Ready, but neither Reconciling nor Stalled")
	}
	return faults
}

func checkEach(generation int64, conditions []metav1.Condition) []string {
	var faults []string
	seen := map[string]bool{}
	for _, condition := range conditions {
		if seen[condition.Type] {
			faults = append(faults, condition.Type+" appears twice")
		}
		seen[condition.Type] = true
		if condition.Reason == "" || condition.Message == "" {
			faults = append(faults, condition.Type+" lacks a reason or a message")
		}
		if condition.ObservedGeneration < 1 || condition.ObservedGeneration > generation {
			faults = append(faults, fmt.Sprintf("%s speaks of generation %d of %d", condition.Type, condition.ObservedGeneration, generation))
		}
		if condition.LastTransitionTime.IsZero() {
			faults = append(faults, condition.Type+" lacks the time of its transition")
		}
		if lifecycle.Scrub(condition.Message) != condition.Message {
			faults = append(faults, condition.Type+" has a message that is too long or holds a credential")
		}
	}
	return faults
}
