package workload

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// Running is what runs the pods of a receiver. Both are there while it moves from one to the other;
// either may be nil.
type Running struct {
	Set        *appsv1.StatefulSet
	Deployment *appsv1.Deployment
}

// Availability is what StatefulSet and Deployment say of the receiver.
type Availability struct {
	// Available: events are made durable. An embedded journal of several replicas needs a majority
	// of them.
	Available bool
	// RolledOut: all pods are those that the spec asks for.
	RolledOut bool
	// Ready and Wanted are numbers of pods.
	Ready, Wanted int32
	Message       string
}

// Observe reads what runs the pods.
func Observe(p *v1alpha1.PBXIntegration, running Running) Availability {
	seen, former := observeSet(p, running.Set), observeDeployment(p, running.Deployment)
	if Stateless(p) {
		seen, former = former, seen
	}
	if (Running{}) == running {
		return seen
	}
	seen.Message = fmt.Sprintf("%d of %d receiver pods are ready", seen.Ready, seen.Wanted)
	if moving := running.Former(p) != nil; moving {
		seen.Message += fmt.Sprintf(", and %d that they replace", former.Ready)
		seen.Available = seen.Available || former.Ready > 0
		seen.RolledOut = false
		seen.Ready += former.Ready
	}
	if !Stateless(p) && seen.Wanted > 1 && !seen.Available {
		seen.Message += "; events are answered 503 until a majority of them is"
	}
	if !seen.RolledOut {
		seen.Message += "; a change is being rolled out"
	}
	return seen
}

// Replicas are how many pods the Deployment is to have; 0 where there is none.
func (r Running) Replicas() int32 {
	if r.Deployment == nil {
		return 0
	}
	return ptr.Deref(r.Deployment.Spec.Replicas, 1)
}

// Former is the object that ran the pods before the journal was changed, or before an upgrade; nil
// if there is none.
func (r Running) Former(p *v1alpha1.PBXIntegration) client.Object {
	switch {
	case Stateless(p) && r.Set != nil:
		return r.Set
	case !Stateless(p) && r.Deployment != nil:
		return r.Deployment
	}
	return nil
}

// Settled reports whether the object that the spec asks for runs all its pods, so that the former
// one may go.
func (r Running) Settled(p *v1alpha1.PBXIntegration) bool {
	if Stateless(p) {
		return observeDeployment(p, r.Deployment).settled()
	}
	return observeSet(p, r.Set).settled()
}

func (a Availability) settled() bool { return a.RolledOut && a.Ready >= a.Wanted }

// Template is that of the pods that the spec asks for, or nil.
func (r Running) Template(p *v1alpha1.PBXIntegration) *corev1.PodTemplateSpec {
	switch {
	case Stateless(p) && r.Deployment != nil:
		return &r.Deployment.Spec.Template
	case !Stateless(p) && r.Set != nil:
		return &r.Set.Spec.Template
	}
	return nil
}

func observeSet(p *v1alpha1.PBXIntegration, set *appsv1.StatefulSet) Availability {
	wanted := p.Spec.Receiver.Replicas
	if set == nil {
		return Availability{Wanted: wanted, Message: "the receiver's StatefulSet does not exist yet"}
	}
	status := set.Status
	return Availability{
		Available: status.ReadyReplicas >= needed(p),
		RolledOut: status.ObservedGeneration >= set.Generation && status.UpdatedReplicas >= wanted && status.Replicas == wanted,
		Ready:     status.ReadyReplicas,
		Wanted:    wanted,
	}
}

func observeDeployment(p *v1alpha1.PBXIntegration, deployment *appsv1.Deployment) Availability {
	if deployment == nil {
		return Availability{Wanted: replicas(p, 0), Message: "the receiver's Deployment does not exist yet"}
	}
	status, wanted := deployment.Status, replicas(p, ptr.Deref(deployment.Spec.Replicas, 1))
	return Availability{
		Available: status.ReadyReplicas >= needed(p),
		RolledOut: status.ObservedGeneration >= deployment.Generation && status.UpdatedReplicas >= wanted && status.Replicas == wanted,
		Ready:     status.ReadyReplicas,
		Wanted:    wanted,
	}
}

func needed(p *v1alpha1.PBXIntegration) int32 {
	if Stateless(p) {
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
