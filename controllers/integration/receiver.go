package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	appsac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

// reconcileWorkload brings the objects of the receiver to what the spec asks for. One that cannot
// be applied does not hold up the others.
func (c *Controller) reconcileWorkload(ctx context.Context, p *v1alpha1.PBXIntegration) error {
	running, err := c.running(ctx, p)
	if err != nil {
		return err
	}
	size, sizeErr := c.volumeSize(ctx, p, running.Set)
	wanted, err := workload.Children(p, c.Workload, workload.Scale{Size: size, Replicas: running.Replicas()})
	if err != nil {
		return lifecycle.Terminal{Reason: v1alpha1.ReasonInvalidSpec, Err: err}
	}
	errs := []error{sizeErr}
	for _, child := range wanted {
		if err := c.takeTurn(ctx, p, child); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, c.children.apply(ctx, p, child))
	}
	for _, kind := range workload.OptionalKinds() {
		if !slices.ContainsFunc(wanted, func(child workload.Child) bool { return child.Kind == kind }) {
			errs = append(errs, c.children.prune(ctx, p, workload.Child{Kind: kind, Name: workload.Name(p.Name)}))
		}
	}
	errs = append(errs, c.retire(ctx, p, running))
	return worst(errs...)
}

// takeTurn returns an error where the receiver has to wait before it may restart; see
// workload.Rollouts.
func (c *Controller) takeTurn(ctx context.Context, p *v1alpha1.PBXIntegration, child workload.Child) error {
	if child.Kind == "Deployment" {
		return c.reportTurn(p, workload.Turn{}) // it is never away
	}
	set, ok := child.Apply.(*appsac.StatefulSetApplyConfiguration)
	if !ok || c.Rollouts == nil {
		return nil
	}
	var sets appsv1.StatefulSetList
	err := c.Client.List(ctx, &sets, client.MatchingLabels{workload.LabelName: workload.AppName}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return fmt.Errorf("cannot list the receivers: %w", err)
	}
	return c.reportTurn(p, c.Rollouts.Admit(p, set, sets.Items))
}

// reportTurn turns a wait into a condition and an outcome.
func (c *Controller) reportTurn(p *v1alpha1.PBXIntegration, turn workload.Turn) error {
	if turn.Wait == 0 {
		lifecycle.RemoveCondition(p, v1alpha1.ConditionReceiverOutdated)
		return nil
	}
	reason, message := v1alpha1.ReasonRolloutPaced, "the receiver is upgraded when it is its turn"
	if turn.Stuck > 0 {
		reason = v1alpha1.ReasonRolloutStopped
		message = fmt.Sprintf("%d receivers have not become ready since they were upgraded, so this one stays as it is: look at their pods", turn.Stuck)
	}
	c.condition(p, v1alpha1.ConditionReceiverOutdated, metav1.ConditionTrue, reason, message)
	return lifecycle.RateLimited{Reason: reason, After: turn.Wait, Err: errors.New(message)}
}

// volumeSize is the size that the volumes can have. The claim templates of a StatefulSet cannot be
// changed, so a volume grows in three steps: the claims are patched, the StatefulSet is deleted
// without its pods, and the next pass makes it anew around them. Where the storage class cannot
// expand volumes, everything stays as large as it is.
func (c *Controller) volumeSize(ctx context.Context, p *v1alpha1.PBXIntegration, set *appsv1.StatefulSet) (workload.Size, error) {
	wanted := p.Spec.Receiver.Storage.Size
	if workload.Stateless(p) || set == nil || len(set.Spec.VolumeClaimTemplates) == 0 || !metav1.IsControlledBy(set, p) {
		return wanted, nil
	}
	current := set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests[corev1.ResourceStorage]
	if current.Cmp(wanted) >= 0 {
		return current, nil
	}
	if err := c.growClaims(ctx, p, max(p.Spec.Receiver.Replicas, set.Status.Replicas), wanted); err != nil {
		return current, err
	}
	return wanted, c.deleteAround(ctx, set)
}

func (c *Controller) growClaims(ctx context.Context, p *v1alpha1.PBXIntegration, replicas int32, size workload.Size) error {
	for ordinal := range replicas {
		err := c.growClaim(ctx, types.NamespacedName{Namespace: p.Namespace, Name: workload.VolumeClaim(p.Name, ordinal)}, size)
		switch {
		case apierrors.IsForbidden(err), apierrors.IsInvalid(err):
			return lifecycle.Terminalf(v1alpha1.ReasonVolumeNotExpandable,
				"the volumes keep their size: %w; use a storage class that allows expansion", err)
		case err != nil:
			return fmt.Errorf("cannot grow a volume: %w", err)
		}
	}
	return nil
}

func (c *Controller) growClaim(ctx context.Context, key types.NamespacedName, size workload.Size) error {
	claim := &corev1.PersistentVolumeClaim{}
	if err := c.Live.Get(ctx, key, claim); err != nil {
		return client.IgnoreNotFound(err)
	}
	if requested := claim.Spec.Resources.Requests[corev1.ResourceStorage]; requested.Cmp(size) >= 0 {
		return nil
	}
	before := claim.DeepCopy()
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: size}
	return c.Client.Patch(ctx, claim, client.MergeFrom(before))
}

// deleteAround deletes a StatefulSet and leaves its pods running.
func (c *Controller) deleteAround(ctx context.Context, set *appsv1.StatefulSet) error {
	if set.DeletionTimestamp.IsZero() {
		uid := set.UID
		err := c.Client.Delete(ctx, set, client.PropagationPolicy(metav1.DeletePropagationOrphan), client.Preconditions{UID: &uid})
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cannot replace the StatefulSet: %w", err)
		}
	}
	return lifecycle.Waitingf(v1alpha1.ReasonProgressing, time.Second, "the volumes grow; the StatefulSet is made anew around the running pods")
}
