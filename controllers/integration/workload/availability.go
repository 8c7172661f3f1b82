package workload

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// Availability is what the StatefulSet says of the receiver.
type Availability struct {
	// Available: events are made durable. An embedded journal of several replicas needs a majority
	// of them.
	Available bool
	// RolledOut: all pods are those that the spec asks for.
	RolledOut bool
	Ready     int32
	Message   string
}

// Observe reads a StatefulSet, which is nil before it exists.
func Observe(p *v1alpha1.PBXIntegration, set *appsv1.StatefulSet) Availability {
	wanted := p.Spec.Receiver.Replicas
	if set == nil {
		return Availability{Message: "the receiver's StatefulSet does not exist yet"}
	}
	status := set.Status
	seen := Availability{
		Available: status.ReadyReplicas >= needed(p),
		RolledOut: status.ObservedGeneration >= set.Generation && status.UpdatedReplicas >= wanted && status.Replicas == wanted,
		Ready:     status.ReadyReplicas,
		Message:   fmt.Sprintf("%d of %d receiver pods are ready", status.ReadyReplicas, wanted),
	}
	if p.Spec.Receiver.Journal.NATS == nil && wanted > 1 && !seen.Available {
		seen.Message += "; events are answered 503 until a majority of them is"
	}
	if !seen.RolledOut {
		seen.Message += "; a change is being rolled out"
	}
	return seen
}

func needed(p *v1alpha1.PBXIntegration) int32 {
	if p.Spec.Receiver.Journal.NATS != nil {
		return 1
	}
	return p.Spec.Receiver.Replicas/2 + 1
}

// Trouble tells what keeps the first pod that has a problem from running, or nothing. It leaves out
// what changes from one look to the next, such as how long a back-off lasts.
func Trouble(pods []corev1.Pod) string {
	for i := range pods {
		if problem := podTrouble(&pods[i]); problem != "" {
			return fmt.Sprintf("pod %s: %s", pods[i].Name, problem)
		}
	}
	return ""
}

func podTrouble(pod *corev1.Pod) string {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
			return condition.Reason + ": " + condition.Message
		}
	}
	for _, status := range pod.Status.ContainerStatuses {
		if waiting := status.State.Waiting; waiting != nil && waiting.Reason != "ContainerCreating" {
			return waiting.Reason + lastExit(status)
		}
	}
	return ""
}

func lastExit(status corev1.ContainerStatus) string {
	ended := status.LastTerminationState.Terminated
	if ended == nil {
		return ""
	}
	return fmt.Sprintf(" after %s, exit code %d; see the log of the container", ended.Reason, ended.ExitCode)
}
