package workload

import (
	"cmp"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsac "k8s.io/client-go/applyconfigurations/apps/v1"
	autoscalingac "k8s.io/client-go/applyconfigurations/autoscaling/v2"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// Defaults of spec.receiver.autoscaling, for objects that no schema has filled in.
const (
	leastReplicas  = 2
	cpuUtilization = 70
)

// scratchSize bounds what a receiver with an external journal keeps on the node: a copy of what is
// known of the event URLs, so that its container can restart while the API server is away.
var scratchSize = resource.MustParse("64Mi")

// Stateless reports whether any receiver of the integration can stand in for any other, because
// what has to last is in an external journal.
func Stateless(p *v1alpha1.PBXIntegration) bool { return p.Spec.Receiver.Journal.NATS != nil }

// deployment runs the receivers of an external journal. A new pod is ready before an old one goes.
func deployment(p *v1alpha1.PBXIntegration, settings Settings, scale Scale) (*appsac.DeploymentApplyConfiguration, error) {
	template, fingerprint, err := podTemplate(p, settings, scale.Size)
	if err != nil {
		return nil, err
	}
	return appsac.Deployment(Name(p.Name), p.Namespace).
		WithLabels(Labels(p.Name)).
		WithAnnotations(map[string]string{
			annotationTemplate: fingerprint, annotationGeneration: strconv.FormatInt(p.Generation, 10),
		}).
		WithOwnerReferences(OwnerReference(p)).
		WithSpec(appsac.DeploymentSpec().
			WithReplicas(replicas(p, scale.Replicas)).
			WithSelector(selector(p)).
			WithStrategy(appsac.DeploymentStrategy().
				WithType(appsv1.RollingUpdateDeploymentStrategyType).
				WithRollingUpdate(appsac.RollingUpdateDeployment().
					WithMaxUnavailable(intstr.FromInt32(0)).
					WithMaxSurge(intstr.FromInt32(1)))).
			WithRevisionHistoryLimit(3).
			WithTemplate(template)), nil
}

// replicas are as many as the spec asks for; with autoscaling as many as there are, within its
// bounds: to leave them out would have the API server make it one when autoscaling begins.
func replicas(p *v1alpha1.PBXIntegration, current int32) int32 {
	if scaling := p.Spec.Receiver.Autoscaling; Stateless(p) && scaling != nil {
		return min(max(current, cmp.Or(scaling.MinReplicas, leastReplicas)), scaling.MaxReplicas)
	}
	return pods(p)
}

// several reports whether there can be more than one receiver.
func several(p *v1alpha1.PBXIntegration) bool {
	return replicas(p, 0) > 1 || Stateless(p) && p.Spec.Receiver.Autoscaling != nil
}

func autoscaler(p *v1alpha1.PBXIntegration) *autoscalingac.HorizontalPodAutoscalerApplyConfiguration {
	scaling := p.Spec.Receiver.Autoscaling
	return autoscalingac.HorizontalPodAutoscaler(Name(p.Name), p.Namespace).
		WithLabels(Labels(p.Name)).
		WithOwnerReferences(OwnerReference(p)).
		WithSpec(autoscalingac.HorizontalPodAutoscalerSpec().
			WithScaleTargetRef(autoscalingac.CrossVersionObjectReference().
				WithAPIVersion(appsv1.SchemeGroupVersion.String()).WithKind("Deployment").WithName(Name(p.Name))).
			WithMinReplicas(cmp.Or(scaling.MinReplicas, leastReplicas)).
			WithMaxReplicas(scaling.MaxReplicas).
			WithMetrics(autoscalingac.MetricSpec().
				WithType(autoscalingv2.ResourceMetricSourceType).
				WithResource(autoscalingac.ResourceMetricSource().
					WithName(corev1.ResourceCPU).
					WithTarget(autoscalingac.MetricTarget().
						WithType(autoscalingv2.UtilizationMetricType).
						WithAverageUtilization(cmp.Or(scaling.TargetCPUUtilizationPercentage, cpuUtilization))))))
}

// scratch is the volume of a receiver with an external journal.
func scratch() *coreac.VolumeApplyConfiguration {
	return coreac.Volume().WithName(volumeName).WithEmptyDir(coreac.EmptyDirVolumeSource().WithSizeLimit(scratchSize))
}
