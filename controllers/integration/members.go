package integration

import (
	"bytes"
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration/certificates"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
)

// reconcileMembers keeps the Secret with the certificates by which the receivers of an embedded
// journal know each other, and renews them long before they expire.
func (c *Controller) reconcileMembers(ctx context.Context, p *v1alpha1.PBXIntegration) error {
	if p.Spec.Receiver.Journal.NATS != nil {
		return nil
	}
	key := types.NamespacedName{Namespace: p.Namespace, Name: workload.MembersSecretName(p.Name)}
	secret, err := c.ownSecret(ctx, p, key)
	if err != nil {
		return err
	}
	wanted := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Type: corev1.SecretTypeTLS}
	if secret != nil {
		wanted = secret.DeepCopy()
	}
	label(wanted, p)
	if !metav1.IsControlledBy(wanted, p) {
		wanted.OwnerReferences = append(wanted.OwnerReferences, *metav1.NewControllerRef(p, v1alpha1.GroupVersion.WithKind(kindIntegration)))
	}
	renewed, _, err := certificates.Renew(bundleOf(wanted.Data), workload.MemberHosts(p), c.Clock.Now())
	if err != nil {
		return fmt.Errorf("cannot renew the certificates of the receivers: %w", err)
	}
	wanted.Data = dataOf(renewed)
	if secret != nil && equality.Semantic.DeepEqual(secret.ObjectMeta, wanted.ObjectMeta) && maps.EqualFunc(secret.Data, wanted.Data, bytes.Equal) {
		return nil
	}
	return c.writeSecret(ctx, wanted, "the certificates of the receivers")
}

func bundleOf(data map[string][]byte) certificates.Bundle {
	return certificates.Bundle{
		Authorities: data[workload.AuthorityKey], AuthorityKeys: data[workload.AuthoritySecretKey],
		Certificate: data[corev1.TLSCertKey], Key: data[corev1.TLSPrivateKeyKey],
	}
}

func dataOf(b certificates.Bundle) map[string][]byte {
	return map[string][]byte{
		workload.AuthorityKey: b.Authorities, workload.AuthoritySecretKey: b.AuthorityKeys,
		corev1.TLSCertKey: b.Certificate, corev1.TLSPrivateKeyKey: b.Key,
	}
}

// members is how many receivers keep the embedded journal together, as the first of them says.
func members(p *v1alpha1.PBXIntegration) int32 {
	if p.Status.Receiver == nil || p.Spec.Receiver.Journal.NATS != nil {
		return 0
	}
	return p.Status.Receiver.Members
}
