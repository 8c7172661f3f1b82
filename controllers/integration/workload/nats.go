package workload

import (
	"cmp"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

const (
	natsVolumeName  = "nats"
	natsDir         = "/etc/nats"
	natsCredentials = "creds"
	natsBundle      = "ca.crt"
	// natsReplicas is the default of journal.nats.replicas, for objects that no schema has filled in.
	natsReplicas = 3
)

// natsArguments are those by which a receiver finds an external journal.
func natsArguments(p *v1alpha1.PBXIntegration) []string {
	nats := p.Spec.Receiver.Journal.NATS
	if nats == nil {
		return nil
	}
	args := []string{"--nats-url=" + nats.URL, "--nats-replicas=" + strconv.Itoa(int(cmp.Or(nats.Replicas, natsReplicas)))}
	if nats.CredentialsSecretRef != nil {
		args = append(args, "--nats-creds="+natsDir+"/"+natsCredentials)
	}
	if nats.TLS != nil && nats.TLS.CABundle != nil {
		args = append(args, "--nats-ca="+natsDir+"/"+natsBundle)
	}
	if nats.TLS != nil && nats.TLS.ClientCertificateSecretRef != nil {
		args = append(args, "--nats-cert="+natsDir+"/"+corev1.TLSCertKey, "--nats-key="+natsDir+"/"+corev1.TLSPrivateKeyKey)
	}
	return args
}

// natsFiles are what a receiver with an external journal finds in natsDir. The kubelet keeps them
// current.
func natsFiles(p *v1alpha1.PBXIntegration) []*coreac.VolumeProjectionApplyConfiguration {
	nats := p.Spec.Receiver.Journal.NATS
	if nats == nil {
		return nil
	}
	var files []*coreac.VolumeProjectionApplyConfiguration
	if nats.CredentialsSecretRef != nil {
		files = append(files, secretFiles(nats.CredentialsSecretRef.Name, natsCredentials))
	}
	if nats.TLS != nil && nats.TLS.CABundle != nil {
		files = append(files, bundleFile(*nats.TLS.CABundle))
	}
	if nats.TLS != nil && nats.TLS.ClientCertificateSecretRef != nil {
		files = append(files, secretFiles(nats.TLS.ClientCertificateSecretRef.Name, corev1.TLSCertKey, corev1.TLSPrivateKeyKey))
	}
	return files
}

// secretFiles are entries of a Secret, each in a file by the name of its key.
func secretFiles(secret string, keys ...string) *coreac.VolumeProjectionApplyConfiguration {
	projection := coreac.SecretProjection().WithName(secret)
	for _, key := range keys {
		projection.WithItems(coreac.KeyToPath().WithKey(key).WithPath(key))
	}
	return coreac.VolumeProjection().WithSecret(projection)
}

func bundleFile(bundle v1alpha1.BundleReference) *coreac.VolumeProjectionApplyConfiguration {
	item := coreac.KeyToPath().WithKey(cmp.Or(bundle.Key, natsBundle)).WithPath(natsBundle)
	if bundle.Kind == v1alpha1.BundleConfigMap {
		return coreac.VolumeProjection().WithConfigMap(coreac.ConfigMapProjection().WithName(bundle.Name).WithItems(item))
	}
	return coreac.VolumeProjection().WithSecret(coreac.SecretProjection().WithName(bundle.Name).WithItems(item))
}
