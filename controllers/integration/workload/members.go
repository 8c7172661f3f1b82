package workload

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

const (
	// MaxMembers is how many receivers may keep the embedded journal together.
	MaxMembers = 5

	membersVolumeName = "members"
	membersDir        = "/etc/cluster"
	// settleSeconds is how long a receiver must have been ready before the next one is replaced.
	settleSeconds = 5
)

// MembersSecretName is the name of the Secret with the certificates by which the receivers of an
// integration know each other.
func MembersSecretName(integration string) string { return Name(integration) + "-members" }

// MemberHosts are the names under which the receivers reach each other.
func MemberHosts(p *v1alpha1.PBXIntegration) []string {
	wild := "*." + HeadlessName(p.Name)
	return []string{wild, wild + "." + p.Namespace, wild + "." + p.Namespace + ".svc"}
}

// memberArguments are the same for any number of replicas: a receiver learns from its integration
// how many there are, so that none has to restart when others come and go.
func memberArguments(p *v1alpha1.PBXIntegration) []string {
	if p.Spec.Receiver.Journal.NATS != nil {
		return nil
	}
	peers := make([]string, MaxMembers)
	for i := range peers {
		peers[i] = fmt.Sprintf("%s-%d=%[1]s-%[2]d.%[3]s:%[4]d", Name(p.Name), i, HeadlessName(p.Name), RoutePort)
	}
	return []string{
		"--replicas=0", "--peers=" + strings.Join(peers, ","), fmt.Sprintf("--cluster-listen=:%d", RoutePort), "--cluster-certs=" + membersDir,
	}
}

// mountMembers gives a pod the certificates, and not the key of the authority.
func mountMembers(p *v1alpha1.PBXIntegration, spec *coreac.PodSpecApplyConfiguration, container *coreac.ContainerApplyConfiguration) {
	if p.Spec.Receiver.Journal.NATS != nil {
		return
	}
	source := coreac.SecretVolumeSource().WithSecretName(MembersSecretName(p.Name)).WithDefaultMode(0o440)
	for _, key := range []string{AuthorityKey, corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		source.WithItems(coreac.KeyToPath().WithKey(key).WithPath(key))
	}
	spec.WithVolumes(coreac.Volume().WithName(membersVolumeName).WithSecret(source))
	container.
		WithPorts(coreac.ContainerPort().WithName("members").WithContainerPort(RoutePort).WithProtocol(corev1.ProtocolTCP)).
		WithVolumeMounts(coreac.VolumeMount().WithName(membersVolumeName).WithMountPath(membersDir).WithReadOnly(true))
}

// Keys of the Secret with the certificates, beside those of every Secret with a certificate.
const (
	// AuthorityKey has the authorities to trust.
	AuthorityKey = "ca.crt"
	// AuthoritySecretKey has the keys of the authorities. Receivers do not get it.
	AuthoritySecretKey = "ca.key"
)

// pods is how many there are to be: as many as the spec asks for, and those that keep the journal
// until it is where it is to be.
func pods(p *v1alpha1.PBXIntegration) int32 {
	if seen := p.Status.Receiver; seen != nil && p.Spec.Receiver.Journal.NATS == nil {
		return max(p.Spec.Receiver.Replicas, seen.Members)
	}
	return p.Spec.Receiver.Replicas
}

// minReadySeconds lets a receiver of several settle before the next one is replaced.
func minReadySeconds(p *v1alpha1.PBXIntegration) int32 {
	if p.Spec.Receiver.Replicas > 1 {
		return settleSeconds
	}
	return 0
}
