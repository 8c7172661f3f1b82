package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration/keyring"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

const kindIntegration = "PBXIntegration"

// annotationKeyMade on a key ring Secret is when its newest key was made (RFC 3339).
const annotationKeyMade = "pbx-operator.io/key-made"

// reconcileKeys keeps the key ring: makes it, rotates it when asked to, drops older keys once no
// registration needs them. It returns the ring with the key in force first.
func (c *Controller) reconcileKeys(
	ctx context.Context, p *v1alpha1.PBXIntegration, mappings []v1alpha1.ExtensionMapping, done *lifecycle.Done,
) (eventurl.Ring, error) {
	secret, err := c.keySecret(ctx, p)
	if err != nil {
		return nil, err
	}
	state, err := c.ringState(p, secret)
	if err != nil {
		return nil, err
	}
	known, err := c.namesKnown(ctx, p)
	if err != nil {
		return nil, err
	}
	plan, err := keyring.Decide(keyring.Input{
		State:      state,
		Generation: p.Status.KeyGeneration,
		Requested:  p.Annotations[v1alpha1.AnnotationRotateKey],
		Settled:    len(state.Ring) > 0 && c.settled(p, mappings, state.Ring.Current().Generation),
		ByHand:     byHand(p),
		Account:    string(p.UID),
		NamesKnown: known,
		Now:        c.Clock.Now(),
	})
	if err != nil {
		return nil, err
	}
	if plan.Changed || !keptAs(secret, p) {
		if err := c.writeKeys(ctx, p, secret, plan.State); err != nil {
			return nil, err
		}
	}
	return c.reportKeys(p, plan, done), nil
}

// reportKeys writes down which key is in force, and tells of a change. It returns the ring with
// that key first.
func (c *Controller) reportKeys(p *v1alpha1.PBXIntegration, plan keyring.Plan, done *lifecycle.Done) eventurl.Ring {
	before := p.Status.KeyGeneration
	inForce, again := plan.InForce(before, c.Clock.Now())
	p.Status.KeyGeneration = inForce
	done.After = soonest(plan.Again, again)
	switch {
	case plan.Lost:
		if p.Status.Events != nil {
			p.Status.Events.FirstTime = nil // it came to another URL
		}
		done.Notice = lifecycle.Notice{Reason: v1alpha1.ReasonKeysLost, Message: loss(p), Warning: true}
	case before != 0 && inForce != before && len(plan.Ring) > 1:
		done.Notice = lifecycle.Notice{Reason: v1alpha1.ReasonKeyRotated, Message: rotation(p)}
	}
	return plan.Ring.InForce(inForce)
}

// namesKnown reports whether all receivers know tokens that are made from names: they run the image
// that came with this manager. What an image knows that somebody has pinned, nobody here can tell.
func (c *Controller) namesKnown(ctx context.Context, p *v1alpha1.PBXIntegration) (bool, error) {
	if p.Spec.Receiver.Image != "" {
		return false, nil
	}
	running, err := c.running(ctx, p)
	template := running.Template(p)
	if err != nil || template == nil || !workload.Observe(p, running).RolledOut {
		return false, err
	}
	return slices.ContainsFunc(template.Spec.Containers, func(container corev1.Container) bool {
		return container.Image == c.Workload.Image
	}), nil
}

// loss tells what follows from a ring whose keys are gone.
func loss(p *v1alpha1.PBXIntegration) string {
	text := fmt.Sprintf("the keys of the event URLs, in Secret %s, were lost; key %d is a new one. ", eventurl.SecretName(p.Name), p.Status.KeyGeneration)
	if byHand(p) {
		return text + "The event URL is another one, and the PBX still calls the old one: " + toEnter(p)
	}
	return text + "Registrations that were made before cannot be told from those of others any more: remove from the PBX those whose URL begins with " +
		"spec.receiver.publicURL and that no mapping has made since, or restore the Secret from a backup"
}

// settled reports whether nothing may be registered under an older key than the newest one any
// more.
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
	secret, err := c.secret(ctx, key)
	if err != nil || secret == nil {
		return nil, err
	}
	if !belongs(p, secret) {
		return nil, notOurs(p, "Secret", secret)
	}
	return secret, nil
}

// keySecret is the Secret with the key ring, or nil. It has no owner, so that it outlives the
// integration where registrations stay on the PBX, and is not collected as garbage when a backup is
// restored in which its owner has another UID. Whoever finds it under the name goes on with it,
// unless it belongs to something else.
func (c *Controller) keySecret(ctx context.Context, p *v1alpha1.PBXIntegration) (*corev1.Secret, error) {
	secret, err := c.secret(ctx, keySecretKey(p))
	if err != nil || secret == nil {
		return nil, err
	}
	if owner := metav1.GetControllerOf(secret); owner != nil && !namesIntegration(*owner, p) {
		return nil, notOurs(p, "Secret", secret)
	}
	return secret, nil
}

// secret reads a Secret; nil where there is none.
func (c *Controller) secret(ctx context.Context, key types.NamespacedName) (*corev1.Secret, error) {
	secret, err := c.Secrets.Get(ctx, key)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // absence is an ordinary answer here
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read Secret %s: %w", key.Name, err)
	}
	return secret, nil
}

// namesIntegration reports whether an owner is the integration, or was one of its name.
func namesIntegration(owner metav1.OwnerReference, p *v1alpha1.PBXIntegration) bool {
	return owner.Kind == kindIntegration && owner.Name == p.Name
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
	if err != nil {
		return nil, errNoKeys // a ring that cannot be read is as good as none
	}
	return ring, nil
}

// ringState reads the Secret. One that was deleted is restored from memory, because the
// registrations on the PBX can only be recognised by their key; where memory has none, there is
// nothing to restore. One that cannot be read is left as it is: it may be all that is left of the
// keys.
func (c *Controller) ringState(p *v1alpha1.PBXIntegration, secret *corev1.Secret) (keyring.State, error) {
	if secret == nil {
		secret = c.Secrets.Last(keySecretKey(p))
	}
	if secret == nil {
		return keyring.State{}, nil
	}
	ring, err := eventurl.ParseRing(secret.Data)
	if err != nil {
		return keyring.State{}, lifecycle.Terminalf(v1alpha1.ReasonKeysUnreadable, "Secret %s with the keys of the event URLs cannot be read: %w."+
			" Restore it from a backup; or delete it to have new keys made, which makes registrations under the old ones unrecognisable",
			secret.Name, err)
	}
	made, err := time.Parse(time.RFC3339, secret.Annotations[annotationKeyMade])
	if err != nil {
		made = secret.CreationTimestamp.Time
	}
	return keyring.State{Ring: ring, Handled: secret.Annotations[v1alpha1.AnnotationRotateKey], Made: made}, nil
}

// keptAs reports whether the Secret of the key ring has our labels and no integration for an owner.
func keptAs(secret *corev1.Secret, p *v1alpha1.PBXIntegration) bool {
	return secret != nil && labelled(secret, p) && !slices.ContainsFunc(secret.OwnerReferences, func(owner metav1.OwnerReference) bool {
		return namesIntegration(owner, p)
	})
}

// writeKeys creates or updates the Secret. An update fails with a conflict when the Secret has
// changed meanwhile. What others have put into it stays.
func (c *Controller) writeKeys(ctx context.Context, p *v1alpha1.PBXIntegration, secret *corev1.Secret, state keyring.State) error {
	wanted := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: eventurl.SecretName(p.Name)}}
	if secret != nil {
		wanted = secret.DeepCopy()
	}
	label(wanted, p)
	wanted.OwnerReferences = slices.DeleteFunc(wanted.OwnerReferences, func(owner metav1.OwnerReference) bool { return namesIntegration(owner, p) })
	metav1.SetMetaDataAnnotation(&wanted.ObjectMeta, annotationKeyMade, state.Made.UTC().Format(time.RFC3339))
	metav1.SetMetaDataAnnotation(&wanted.ObjectMeta, v1alpha1.AnnotationRotateKey, state.Handled)
	wanted.Data = state.Ring.WriteTo(wanted.Data)
	return c.writeSecret(ctx, wanted, "the key ring")
}

// releaseKeys hands the key ring of an integration that is being deleted, and has left nothing on
// the PBX, to the garbage collector. It returns what there is to say of registrations that mappings
// have left which are gone themselves: then the key ring stays.
func (c *Controller) releaseKeys(ctx context.Context, p *v1alpha1.PBXIntegration) (left string, err error) {
	secret, err := c.keySecret(ctx, p)
	switch {
	case errors.As(err, new(lifecycle.Terminal)): // it is not ours
		return "", nil
	case err != nil:
		return "", err
	case secret == nil || metav1.IsControlledBy(secret, p):
		return "", nil
	case secret.Annotations[v1alpha1.AnnotationRegistrationsLeft] != "":
		return "registrations of mappings that were deleted before may be left on the PBX: an Event of each told of them", nil
	}
	owned := secret.DeepCopy()
	owned.OwnerReferences = slices.DeleteFunc(owned.OwnerReferences, func(owner metav1.OwnerReference) bool { return namesIntegration(owner, p) })
	owned.OwnerReferences = append(owned.OwnerReferences, *metav1.NewControllerRef(p, v1alpha1.GroupVersion.WithKind(kindIntegration)))
	if err := c.Client.Update(ctx, owned); client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("cannot give up the key ring: %w", err)
	}
	return "", nil
}

// label puts our labels on an object, beside those of others.
func label(obj metav1.Object, p *v1alpha1.PBXIntegration) {
	labels := maps.Clone(obj.GetLabels())
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, workload.Labels(p.Name))
	obj.SetLabels(labels)
}

func labelled(obj metav1.Object, p *v1alpha1.PBXIntegration) bool {
	labels := obj.GetLabels()
	for name, value := range workload.Labels(p.Name) {
		if labels[name] != value {
			return false
		}
	}
	return true
}

// belongs reports whether an object is the integration's: controlled by it or, as after the restore
// of a backup, by nobody, and with its labels.
func belongs(p *v1alpha1.PBXIntegration, obj metav1.Object) bool {
	if owner := metav1.GetControllerOf(obj); owner != nil {
		return owner.UID == p.UID
	}
	return labelled(obj, p)
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
