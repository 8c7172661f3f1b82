package integration

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// reconcileJournal tells whether the journal keeps what is promised, and finds out in advance why
// pods would wait for ever: an external journal without its credentials, or without certificates.
func (c *Controller) reconcileJournal(ctx context.Context, p *v1alpha1.PBXIntegration) error {
	c.reportDurability(p)
	nats := p.Spec.Receiver.Journal.NATS
	if nats == nil {
		return nil
	}
	var errs []error
	if ref := nats.CredentialsSecretRef; ref != nil {
		errs = append(errs, c.checkJournalSecret(ctx, p, ref.Name, "the NATS credentials", "creds"))
	}
	if nats.TLS != nil && nats.TLS.CABundle != nil {
		errs = append(errs, c.checkJournalBundle(ctx, p, *nats.TLS.CABundle))
	}
	if nats.TLS != nil && nats.TLS.ClientCertificateSecretRef != nil {
		errs = append(errs, c.checkJournalSecret(ctx, p, nats.TLS.ClientCertificateSecretRef.Name, "the client certificate for NATS",
			corev1.TLSCertKey, corev1.TLSPrivateKeyKey))
	}
	return worst(errs...)
}

func (c *Controller) reportDurability(p *v1alpha1.PBXIntegration) {
	durability := workload.DurabilityOf(p)
	status := metav1.ConditionFalse
	if durability.Kept {
		status = metav1.ConditionTrue
	}
	c.condition(p, v1alpha1.ConditionDurable, status, durability.Reason, durability.Message)
}

func (c *Controller) checkJournalBundle(ctx context.Context, p *v1alpha1.PBXIntegration, bundle v1alpha1.BundleReference) error {
	_, err := pbxapi.Bundle(ctx, c.Secrets, p.Namespace, bundle)
	if errors.Is(err, pbxapi.ErrCredentialsMissing) {
		return lifecycle.Terminalf(v1alpha1.ReasonCredentialsMissing, "the journal cannot be reached: %w", err)
	}
	return err
}

// checkJournalSecret checks that a Secret has the keys that receivers mount. What names what they
// hold.
func (c *Controller) checkJournalSecret(ctx context.Context, p *v1alpha1.PBXIntegration, name, what string, keys ...string) error {
	secret, err := c.Secrets.Get(ctx, types.NamespacedName{Namespace: p.Namespace, Name: name})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot read %s: %w", what, err)
	}
	for _, key := range keys {
		switch {
		case err != nil:
			return lifecycle.Terminalf(v1alpha1.ReasonCredentialsMissing, "there is no Secret %q: create it with %s in the key %s", name, what, key)
		case len(secret.Data[key]) == 0:
			return lifecycle.Terminalf(v1alpha1.ReasonCredentialsMissing, "Secret %q lacks the key %s with %s", name, key, what)
		}
	}
	return nil
}
