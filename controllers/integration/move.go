package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

// running is what runs the pods of the receiver.
func (c *Controller) running(ctx context.Context, p *v1alpha1.PBXIntegration) (workload.Running, error) {
	key := types.NamespacedName{Namespace: p.Namespace, Name: workload.Name(p.Name)}
	set, err := found(ctx, c.Client, key, &appsv1.StatefulSet{})
	if err != nil {
		return workload.Running{}, err
	}
	deployment, err := found(ctx, c.Client, key, &appsv1.Deployment{})
	return workload.Running{Set: set, Deployment: deployment}, err
}

// found reads an object into the given one, and returns nil where there is none.
func found[T client.Object](ctx context.Context, from client.Reader, key types.NamespacedName, obj T) (T, error) {
	var none T
	switch err := from.Get(ctx, key, obj); {
	case err == nil:
		return obj, nil
	case apierrors.IsNotFound(err):
		return none, nil
	default:
		return none, fmt.Errorf("cannot read what runs the receiver: %w", err)
	}
}

// retire deletes what ran the pods before, once its successor runs all of its own: there are ready
// pods behind the Service all the time.
func (c *Controller) retire(ctx context.Context, p *v1alpha1.PBXIntegration, running workload.Running) error {
	former := running.Former(p)
	if former == nil || !metav1.IsControlledBy(former, p) || !former.GetDeletionTimestamp().IsZero() {
		return nil
	}
	if !running.Settled(p) {
		return lifecycle.Waitingf(v1alpha1.ReasonProgressing, 0, "the receiver moves to other pods; the former ones go when those are ready")
	}
	if set, ok := former.(*appsv1.StatefulSet); ok && holdsLogs(set) {
		if kept, err := c.keepVolumes(ctx, set); err != nil || !kept {
			return err
		}
	}
	uid := former.GetUID()
	err := c.Client.Delete(ctx, former, client.PropagationPolicy(metav1.DeletePropagationBackground), client.Preconditions{UID: &uid})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot delete what ran the receiver before: %w", err)
	}
	return nil
}

// holdsLogs reports whether the volumes of a StatefulSet hold logs. With an external journal they
// hold nothing that has to last.
func holdsLogs(set *appsv1.StatefulSet) bool {
	return !slices.ContainsFunc(set.Spec.Template.Spec.Containers, func(container corev1.Container) bool {
		return slices.ContainsFunc(container.Args, func(arg string) bool { return strings.HasPrefix(arg, "--nats-url=") })
	})
}

// keepVolumes has the volumes outlive their StatefulSet, and reports whether that is in force.
func (c *Controller) keepVolumes(ctx context.Context, set *appsv1.StatefulSet) (bool, error) {
	policy := set.Spec.PersistentVolumeClaimRetentionPolicy
	if policy == nil || policy.WhenDeleted == appsv1.RetainPersistentVolumeClaimRetentionPolicyType {
		if set.Status.ObservedGeneration >= set.Generation {
			return true, nil
		}
		return false, lifecycle.Waitingf(v1alpha1.ReasonProgressing, time.Second, "the volumes with the embedded logs are kept; the former pods go after that")
	}
	changed := set.DeepCopy()
	changed.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	if err := c.Client.Patch(ctx, changed, client.MergeFrom(set)); err != nil {
		return false, fmt.Errorf("cannot keep the volumes with the embedded logs: %w", err)
	}
	return false, nil
}
