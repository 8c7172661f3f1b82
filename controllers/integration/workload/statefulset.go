package workload

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsac "k8s.io/client-go/applyconfigurations/apps/v1"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"
	policyac "k8s.io/client-go/applyconfigurations/policy/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

const (
	containerName = "receiver"
	// userID is that of the nonroot user in distroless images.
	userID = 65532
	// drainSeconds lets the endpoints of a stopping pod disappear before it stops listening.
	drainSeconds = 3
	// graceSeconds is the time for draining and for finishing what was accepted.
	graceSeconds = 30
	// goMemoryPercent is the share of the memory limit that the Go runtime aims to stay under.
	goMemoryPercent = 90
)

// Size of the volume of each replica.
type Size = resource.Quantity

// VolumeClaim is the name of the volume claim of a replica.
func VolumeClaim(integration string, ordinal int32) string {
	return fmt.Sprintf("%s-%s-%d", volumeName, Name(integration), ordinal)
}

func statefulSet(p *v1alpha1.PBXIntegration, settings Settings, size Size) (*appsac.StatefulSetApplyConfiguration, error) {
	template, fingerprint, err := podTemplate(p, settings, size)
	if err != nil {
		return nil, err
	}
	spec := appsac.StatefulSetSpec().
		WithReplicas(pods(p)).
		WithServiceName(HeadlessName(p.Name)).
		WithSelector(selector(p)).
		WithPodManagementPolicy(appsv1.ParallelPodManagement).
		WithUpdateStrategy(appsac.StatefulSetUpdateStrategy().WithType(appsv1.RollingUpdateStatefulSetStrategyType)).
		WithRevisionHistoryLimit(3).
		WithMinReadySeconds(minReadySeconds(p)).
		WithPersistentVolumeClaimRetentionPolicy(appsac.StatefulSetPersistentVolumeClaimRetentionPolicy().
			WithWhenDeleted(whenDeleted(p)).
			WithWhenScaled(appsv1.RetainPersistentVolumeClaimRetentionPolicyType)).
		WithTemplate(template)
	if !p.Spec.Receiver.Storage.Ephemeral {
		spec.WithVolumeClaimTemplates(volumeClaim(p, size))
	}
	return appsac.StatefulSet(Name(p.Name), p.Namespace).
		WithLabels(Labels(p.Name)).
		WithAnnotations(map[string]string{
			annotationTemplate: fingerprint, annotationGeneration: strconv.FormatInt(p.Generation, 10),
		}).
		WithOwnerReferences(OwnerReference(p)).
		WithSpec(spec), nil
}

// podTemplate is that of the receiver's pods, with a fingerprint of it.
func podTemplate(p *v1alpha1.PBXIntegration, settings Settings, size Size) (*coreac.PodTemplateSpecApplyConfiguration, string, error) {
	pod, err := podSpec(p, settings, size)
	if err != nil {
		return nil, "", err
	}
	template := coreac.PodTemplateSpec().
		WithLabels(merged(Labels(p.Name), p.Spec.Receiver.Template.Labels)).
		WithAnnotations(merged(map[string]string{
			"kubectl.kubernetes.io/default-container": containerName,
		}, p.Spec.Receiver.Template.Annotations)).
		WithSpec(pod)
	fingerprint, err := fingerprintOf(template)
	return template, fingerprint, err
}

// whenDeleted says what becomes of the volumes when the integration is deleted, and its StatefulSet
// with it.
func whenDeleted(p *v1alpha1.PBXIntegration) appsv1.PersistentVolumeClaimRetentionPolicyType {
	if p.Spec.Receiver.Storage.Retain {
		return appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	}
	return appsv1.DeletePersistentVolumeClaimRetentionPolicyType
}

func volumeClaim(p *v1alpha1.PBXIntegration, size Size) *coreac.PersistentVolumeClaimApplyConfiguration {
	spec := coreac.PersistentVolumeClaimSpec().
		WithAccessModes(corev1.ReadWriteOnce).
		WithResources(coreac.VolumeResourceRequirements().WithRequests(corev1.ResourceList{corev1.ResourceStorage: size}))
	if class := p.Spec.Receiver.Storage.StorageClassName; class != nil {
		spec.WithStorageClassName(*class)
	}
	// The claim is embedded: it must not name a kind, or the API server would see a change where
	// there is none.
	claim := (&coreac.PersistentVolumeClaimApplyConfiguration{}).
		WithName(volumeName).
		WithLabels(SelectorLabels(p.Name)).
		WithSpec(spec)
	return claim
}

func podSpec(p *v1alpha1.PBXIntegration, settings Settings, size Size) (*coreac.PodSpecApplyConfiguration, error) {
	receiver, err := container(p, settings, size)
	if err != nil {
		return nil, err
	}
	spec := coreac.PodSpec()
	mountMembers(p, spec, receiver)
	spec.
		WithServiceAccountName(Name(p.Name)).
		WithAutomountServiceAccountToken(true).
		WithEnableServiceLinks(false).
		WithTerminationGracePeriodSeconds(graceSeconds).
		WithSecurityContext(coreac.PodSecurityContext().
			WithRunAsNonRoot(true).
			WithRunAsUser(userID).
			WithRunAsGroup(userID).
			WithFSGroup(userID).
			WithFSGroupChangePolicy(corev1.FSGroupChangeOnRootMismatch).
			WithSeccompProfile(coreac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))).
		WithContainers(receiver)
	switch {
	case Stateless(p):
		spec.WithVolumes(scratch())
	case p.Spec.Receiver.Storage.Ephemeral:
		spec.WithVolumes(coreac.Volume().WithName(volumeName).WithEmptyDir(coreac.EmptyDirVolumeSource().WithSizeLimit(size)))
	}
	if files := natsFiles(p); len(files) > 0 {
		spec.WithVolumes(coreac.Volume().WithName(natsVolumeName).WithProjected(
			coreac.ProjectedVolumeSource().WithDefaultMode(0o440).WithSources(files...)))
	}
	return spec, schedule(spec, p)
}

// schedule places the pods as the template asks, and spreads replicas over nodes and zones
// where that is possible.
func schedule(spec *coreac.PodSpecApplyConfiguration, p *v1alpha1.PBXIntegration) error {
	template := p.Spec.Receiver.Template
	if len(template.NodeSelector) > 0 {
		spec.WithNodeSelector(template.NodeSelector)
	}
	if template.PriorityClassName != "" {
		spec.WithPriorityClassName(template.PriorityClassName)
	}
	for _, secret := range template.ImagePullSecrets {
		spec.WithImagePullSecrets(coreac.LocalObjectReference().WithName(secret.Name))
	}
	for _, wanted := range template.Tolerations {
		toleration, err := convert[coreac.TolerationApplyConfiguration](wanted)
		if err != nil {
			return err
		}
		spec.WithTolerations(toleration)
	}
	if template.Affinity != nil {
		affinity, err := convert[coreac.AffinityApplyConfiguration](template.Affinity)
		if err != nil {
			return err
		}
		spec.WithAffinity(affinity)
	}
	for _, domain := range []string{corev1.LabelHostname, corev1.LabelTopologyZone} {
		spec.WithTopologySpreadConstraints(coreac.TopologySpreadConstraint().
			WithMaxSkew(1).
			WithTopologyKey(domain).
			WithWhenUnsatisfiable(corev1.ScheduleAnyway).
			WithLabelSelector(selector(p)))
	}
	return nil
}

func container(p *v1alpha1.PBXIntegration, settings Settings, size Size) (*coreac.ContainerApplyConfiguration, error) {
	wanted := resources(p.Spec.Receiver.Template.Resources)
	applied, err := convert[coreac.ResourceRequirementsApplyConfiguration](wanted)
	if err != nil {
		return nil, err
	}
	receiver := coreac.Container().
		WithName(containerName).
		WithImage(cmp.Or(p.Spec.Receiver.Image, settings.Image)).
		WithImagePullPolicy(corev1.PullIfNotPresent).
		WithArgs(arguments(p, size)...).
		WithEnv(environment(wanted)...).
		WithPorts(
			coreac.ContainerPort().WithName(EventPortName).WithContainerPort(EventPort).WithProtocol(corev1.ProtocolTCP),
			coreac.ContainerPort().WithName(ProbePortName).WithContainerPort(ProbePort).WithProtocol(corev1.ProtocolTCP)).
		WithResources(applied).
		WithSecurityContext(coreac.SecurityContext().
			WithAllowPrivilegeEscalation(false).
			WithReadOnlyRootFilesystem(true).
			WithRunAsNonRoot(true).
			WithCapabilities(coreac.Capabilities().WithDrop("ALL"))).
		// One replica is away while it restarts, so it is asked often whether it is back.
		WithStartupProbe(probe("/readyz", 1, 300)).
		WithReadinessProbe(probe("/readyz", 2, 2)).
		WithLivenessProbe(probe("/healthz", 10, 6)).
		WithLifecycle(coreac.Lifecycle().WithPreStop(coreac.LifecycleHandler().
			WithSleep(coreac.SleepAction().WithSeconds(drainSeconds)))).
		WithTerminationMessagePolicy(corev1.TerminationMessageFallbackToLogsOnError).
		WithVolumeMounts(coreac.VolumeMount().WithName(volumeName).WithMountPath(dataDir))
	if len(natsFiles(p)) > 0 {
		receiver.WithVolumeMounts(coreac.VolumeMount().WithName(natsVolumeName).WithMountPath(natsDir).WithReadOnly(true))
	}
	return receiver, nil
}

// resources fills in what the template leaves out.
func resources(template corev1.ResourceRequirements) corev1.ResourceRequirements {
	filled := *template.DeepCopy()
	if filled.Limits == nil {
		filled.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")}
	}
	if filled.Requests == nil {
		filled.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("64Mi")}
		for name, request := range filled.Requests {
			if limit, ok := filled.Limits[name]; ok && limit.Cmp(request) < 0 {
				filled.Requests[name] = limit
			}
		}
	}
	return filled
}

func arguments(p *v1alpha1.PBXIntegration, size Size) []string {
	return slices.Concat([]string{
		"serve",
		"--integration=" + p.Name,
		"--namespace=$(POD_NAMESPACE)",
		"--data-dir=" + dataDir,
		"--storage-size=" + strconv.FormatInt(size.Value(), 10),
	}, memberArguments(p), natsArguments(p))
}

func environment(wanted corev1.ResourceRequirements) []*coreac.EnvVarApplyConfiguration {
	env := []*coreac.EnvVarApplyConfiguration{fieldVariable("POD_NAMESPACE", "metadata.namespace"), fieldVariable("POD_NAME", "metadata.name")}
	if limit, ok := wanted.Limits[corev1.ResourceMemory]; ok {
		env = append(env, coreac.EnvVar().WithName("GOMEMLIMIT").WithValue(strconv.FormatInt(limit.Value()*goMemoryPercent/100, 10)))
	}
	return env
}

func fieldVariable(name, path string) *coreac.EnvVarApplyConfiguration {
	return coreac.EnvVar().WithName(name).WithValueFrom(coreac.EnvVarSource().
		WithFieldRef(coreac.ObjectFieldSelector().WithAPIVersion("v1").WithFieldPath(path)))
}

func probe(path string, periodSeconds, failures int32) *coreac.ProbeApplyConfiguration {
	return coreac.Probe().
		WithHTTPGet(coreac.HTTPGetAction().WithPath(path).WithPort(intstr.FromString(ProbePortName)).WithScheme(corev1.URISchemeHTTP)).
		WithPeriodSeconds(periodSeconds).
		WithTimeoutSeconds(2).
		WithFailureThreshold(failures)
}

// disruptionBudget keeps the quorum of the journal, and never more than one replica of it away on
// purpose.
func disruptionBudget(p *v1alpha1.PBXIntegration) *policyac.PodDisruptionBudgetApplyConfiguration {
	return policyac.PodDisruptionBudget(Name(p.Name), p.Namespace).
		WithLabels(Labels(p.Name)).
		WithOwnerReferences(OwnerReference(p)).
		WithSpec(policyac.PodDisruptionBudgetSpec().
			WithSelector(selector(p)).
			WithMaxUnavailable(intstr.FromInt32(1)))
}
