package integration

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration/keyring"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// annotationKeyMade on a key ring Secret is when its newest key was made (RFC 3339).
const annotationKeyMade = "pbx-operator.io/key-made"

// reconcileKeys keeps the key ring: makes it, rotates it when asked to, drops older keys once no registration needs them. It returns the
// ring with the key in force first.
func (c *Controller) reconcileKeys(
	ctx context.Context, p *v1alpha1.PBXIntegration, mappings []v1alpha1.ExtensionMapping, done *lifecycle.Done,
) (eventurl.Ring, error) {
	secret, err := c.ownSecret(ctx, p, keySecretKey(p))
	if err != nil {
		return nil, err
	}
	state := c.ringState(ctx, p, secret)
	plan, err := keyring.Decide(keyring.Input{
		State:      state,
		Generation: p.Status.KeyGeneration,
		Requested:  p.Annotations[v1alpha1.AnnotationRotateKey],
		Settled:    len(state.Ring) > 0 && c.settled(p, mappings, state.Ring.Current().Generation),
		ByHand:     byHand(p),
		Now:        c.Clock.Now(),
	})
	if err != nil {
		return nil, err
	}
	if plan.Changed || secret == nil {
		if err := c.writeKeys(ctx, p, secret, plan.State); err != nil {
			return nil, err
		}
	}
	before := p.Status.KeyGeneration
	inForce, again := plan.InForce(before, c.Clock.Now())
	p.Status.KeyGeneration = inForce
	done.After = soonest(plan.Again, again)
	if before != 0 && inForce != before && len(plan.Ring) > 1 {
		done.Notice = lifecycle.Notice{Reason: v1alpha1.ReasonKeyRotated, Message: rotation(p)}
	}
	return plan.Ring.InForce(inForce), nil
}

// settled tells whether nothing may be registered under an older key than the newest one any more.
func (c *Controller) settled(p *v1alpha1.PBXIntegration, mappings []v1alpha1.ExtensionMapping, newest int64) bool {
	return keyring.Settled(mappings, newest) && c.accountSettled(p, newest)
}

// rotation tells what follows from a new key.
func rotation(p *v1alpha1.PBXIntegration) string {
	if byHand(p) {
		return fmt.Sprintf("key %d makes a new event URL: %s; until the next rotation the old one works, too", p.Status.KeyGeneration, toEnter(p))
	}
	return fmt.Sprintf("event URLs move to key %d; older keys stay valid until the last registration has moved", p.Status.KeyGeneration)
}

// soonest is the shorter of two waits, of which zero is none.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

func keySecretKey(p *v1alpha1.PBXIntegration) types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: eventurl.SecretName(p.Name)}
}

// ownSecret is a Secret of the integration, or nil.
func (c *Controller) ownSecret(ctx context.Context, p *v1alpha1.PBXIntegration, key types.NamespacedName) (*corev1.Secret, error) {
	secret, err := c.Secrets.Get(ctx, key)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // absence is an ordinary answer here
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read Secret %s: %w", key.Name, err)
	}
	if !metav1.IsControlledBy(secret, p) {
		return nil, notOurs(p, "Secret", secret)
	}
	return secret, nil
}

// errNoKeys: the key ring is gone, and with it what tells our registrations from others.
var errNoKeys = errors.New("there is no key ring any more by which to recognize them")

// lastRing is the key ring, or what it was before it was deleted.
func (c *Controller) lastRing(ctx context.Context, p *v1alpha1.PBXIntegration) (eventurl.Ring, error) {
	secret, err := c.Secrets.GetLast(ctx, keySecretKey(p))
	switch {
	case apierrors.IsNotFound(err):
		return nil, errNoKeys
	case err != nil:
		return nil, fmt.Errorf("cannot read the key ring: %w", err)
	}
	ring, err := eventurl.ParseRing(secret.Data)
	if err != nil || !metav1.IsControlledBy(secret, p) {
		return nil, errNoKeys // a ring that cannot be read is as good as none
	}
	return ring, nil
}

// ringState reads the Secret. One that was deleted is restored from memory, because the registrations on the PBX can only be recognised
// by their key; where memory has none, there is nothing to restore.
func (c *Controller) ringState(ctx context.Context, p *v1alpha1.PBXIntegration, secret *corev1.Secret) keyring.State {
	if secret == nil {
		secret = c.Secrets.Last(keySecretKey(p))
	}
	if secret == nil || !metav1.IsControlledBy(secret, p) {
		return keyring.State{}
	}
	ring, err := eventurl.ParseRing(secret.Data)
	if err != nil {
		log.FromContext(ctx).Info("The key ring cannot be read and is replaced", "cause", err.Error())
		return keyring.State{}
	}
	made, err := time.Parse(time.RFC3339, secret.Annotations[annotationKeyMade])
	if err != nil {
		made = secret.CreationTimestamp.Time
	}
	return keyring.State{Ring: ring, Handled: secret.Annotations[v1alpha1.AnnotationRotateKey], Made: made}
}

// writeKeys creates or updates the Secret. An update fails with a conflict when the Secret has changed meanwhile.
func (c *Controller) writeKeys(ctx context.Context, p *v1alpha1.PBXIntegration, secret *corev1.Secret, state keyring.State) error {
	wanted := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: eventurl.SecretName(p.Name)}}
	if secret != nil {
		wanted = secret.DeepCopy()
	}
	wanted.Labels = workload.Labels(p.Name)
	wanted.OwnerReferences = []metav1.OwnerReference{keyOwner(p)}
	metav1.SetMetaDataAnnotation(&wanted.ObjectMeta, annotationKeyMade, state.Made.UTC().Format(time.RFC3339))
	metav1.SetMetaDataAnnotation(&wanted.ObjectMeta, v1alpha1.AnnotationRotateKey, state.Handled)
	wanted.Data = state.Ring.Data()
	return c.writeSecret(ctx, wanted, "the key ring")
}

// writeSecret creates a Secret, or updates the version of it that was read.
func (c *Controller) writeSecret(ctx context.Context, secret *corev1.Secret, what string) error {
	var err error
	if secret.ResourceVersion != "" {
		err = c.Client.Update(ctx, secret)
	} else {
		err = c.Client.Create(ctx, secret, client.FieldOwner(workload.ManagedBy))
	}
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return lifecycle.Waiting{Reason: v1alpha1.ReasonDeleting, Err: err}
	case err != nil:
		return fmt.Errorf("cannot write %s: %w", what, err)
	}
	return nil
}

// keyOwner does not block the deletion of the integration: deleted in the foreground, as Argo CD does it, the integration would lose its
// keys first and could not recognise its registrations any more.
func keyOwner(p *v1alpha1.PBXIntegration) metav1.OwnerReference {
	owner := metav1.NewControllerRef(p, v1alpha1.GroupVersion.WithKind("PBXIntegration"))
	owner.BlockOwnerDeletion = new(false)
	return *owner
}
