package workload_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	appsac "k8s.io/client-go/applyconfigurations/apps/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
)

type integration = v1alpha1.PBXIntegration

func newIntegration(change ...func(*integration)) *integration {
	p := &integration{
		ObjectMeta: metav1.ObjectMeta{Namespace: "telephony", Name: "head-office", UID: "42"},
		Spec: v1alpha1.PBXIntegrationSpec{Receiver: v1alpha1.Receiver{
			PublicURL: "https://calls.example.com:8443/pbx/",
			Replicas:  1,
			Storage:   v1alpha1.ReceiverStorage{Size: resource.MustParse("1Gi")},
		}},
	}
	for _, apply := range change {
		apply(p)
	}
	return p
}

func children(t *testing.T, p *integration) map[string]string {
	t.Helper()
	list, err := workload.Children(p, workload.Settings{Image: "receiver:1"}, workload.Scale{Size: p.Spec.Receiver.Storage.Size})
	if err != nil {
		t.Fatal(err)
	}
	result := map[string]string{}
	for _, child := range list {
		data, err := json.Marshal(child.Apply)
		if err != nil {
			t.Fatal(err)
		}
		result[child.Kind+"/"+child.Name] = string(data)
	}
	return result
}

// child decodes one of the objects as the API server would.
func child[T any](t *testing.T, p *integration, key string) *T {
	t.Helper()
	text, ok := children(t, p)[key]
	if !ok {
		t.Fatalf("there is no %s", key)
	}
	var object T
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&object); err != nil {
		t.Fatal(err)
	}
	return &object
}

func pod(t *testing.T, p *integration) *corev1.PodSpec {
	t.Helper()
	if workload.Stateless(p) {
		return &child[appsv1.Deployment](t, p, "Deployment/head-office-receiver").Spec.Template.Spec
	}
	return &child[appsv1.StatefulSet](t, p, "StatefulSet/head-office-receiver").Spec.Template.Spec
}

func TestEveryChildBelongsToItsIntegration(t *testing.T) {
	p := newIntegration(func(p *integration) {
		p.Spec.Receiver.Replicas = 3
		p.Spec.Receiver.Exposure.Gateway = &v1alpha1.GatewayExposure{ParentRefs: []v1alpha1.GatewayReference{{Name: "public"}}}
	})
	for name, text := range children(t, p) {
		var object metav1.PartialObjectMetadata
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			t.Fatal(err)
		}
		if !metav1.IsControlledBy(&object, p) || object.Namespace != p.Namespace {
			t.Errorf("%s: owners %v in namespace %q", name, object.OwnerReferences, object.Namespace)
		}
		for label, value := range workload.Labels(p.Name) {
			if object.Labels[label] != value {
				t.Errorf("%s: label %s = %q, want %q", name, label, object.Labels[label], value)
			}
		}
	}
}

func TestNamesFitForTheLongestIntegration(t *testing.T) {
	p := newIntegration(func(p *integration) { p.Name = strings.Repeat("n", 40) })
	for key := range children(t, p) {
		if name := key[strings.Index(key, "/")+1:]; len(name) > 63 {
			t.Errorf("%s has a name of %d characters", key, len(name))
		}
	}
	// The StatefulSet controller appends a hash of up to 10 digits and a dash for its revision
	// label.
	if name := workload.Name(p.Name); len(name) > 52 {
		t.Errorf("revision labels of %s get too long", name)
	}
}

func TestSameInputSameObjects(t *testing.T) {
	p := newIntegration(func(p *integration) {
		p.Spec.Receiver.AllowedSources = []string{"198.51.100.0/24", "192.0.2.0/24"}
		p.Spec.Receiver.Template.Labels = map[string]string{"a": "1", "b": "2", "c": "3"}
	})
	other := p.DeepCopy()
	slices.Reverse(other.Spec.Receiver.AllowedSources)
	if diff := cmp.Diff(children(t, p), children(t, other)); diff != "" {
		t.Errorf("the order of a set matters:\n%s", diff)
	}
}

func TestOptionalChildren(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*integration)
		want   []string
	}{
		"none":     {func(*integration) {}, nil},
		"replicas": {func(p *integration) { p.Spec.Receiver.Replicas = 3 }, []string{"PodDisruptionBudget"}},
		"ingress":  {func(p *integration) { p.Spec.Receiver.Exposure.Ingress = &v1alpha1.IngressExposure{} }, []string{"Ingress"}},
		"gateway":  {func(p *integration) { p.Spec.Receiver.Exposure.Gateway = &v1alpha1.GatewayExposure{} }, []string{"HTTPRoute"}},
		"both kind": {func(p *integration) {
			p.Spec.Receiver.Replicas = 5
			p.Spec.Receiver.Exposure.Ingress = &v1alpha1.IngressExposure{}
		}, []string{"PodDisruptionBudget", "Ingress"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := children(t, newIntegration(tc.change))
			for _, kind := range workload.OptionalKinds() {
				if _, made := got[kind+"/head-office-receiver"]; made != slices.Contains(tc.want, kind) {
					t.Errorf("%s made: %v", kind, made)
				}
			}
		})
	}
}

func TestTemplateShapesThePods(t *testing.T) {
	p := newIntegration(func(p *integration) {
		p.Spec.Receiver.Template = v1alpha1.ReceiverTemplate{
			Labels:            map[string]string{"team": "voice"},
			Annotations:       map[string]string{"note": "yes"},
			Resources:         corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("100Mi")}},
			NodeSelector:      map[string]string{"disk": "fast"},
			Tolerations:       []corev1.Toleration{{Key: "voice", Operator: corev1.TolerationOpExists}},
			Affinity:          &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}},
			PriorityClassName: "high",
			ImagePullSecrets:  []corev1.LocalObjectReference{{Name: "registry"}},
		}
	})
	set := child[appsv1.StatefulSet](t, p, "StatefulSet/head-office-receiver")
	spec := set.Spec.Template.Spec
	if set.Spec.Template.Labels["team"] != "voice" || set.Spec.Template.Annotations["note"] != "yes" {
		t.Errorf("metadata of the pods: %+v", set.Spec.Template.ObjectMeta)
	}
	if spec.NodeSelector["disk"] != "fast" || spec.PriorityClassName != "high" || spec.Affinity == nil ||
		len(spec.Tolerations) != 1 || spec.Tolerations[0].Key != "voice" || spec.ImagePullSecrets[0].Name != "registry" {
		t.Errorf("scheduling of the pods: %+v", spec)
	}
	if got := spec.Containers[0].Resources; got.Limits.Memory().String() != "100Mi" || got.Requests.Memory().String() != "64Mi" {
		t.Errorf("resources: %+v", got)
	}
	if got := variable(spec.Containers[0], "GOMEMLIMIT"); got != "94371840" {
		t.Errorf("GOMEMLIMIT = %s, want 90 %% of 100 MiB", got)
	}
}

func variable(container corev1.Container, name string) string {
	for _, variable := range container.Env {
		if variable.Name == name {
			return variable.Value
		}
	}
	return ""
}

func TestRequestsNeverExceedTheLimitsOfTheTemplate(t *testing.T) {
	p := newIntegration(func(p *integration) {
		p.Spec.Receiver.Template.Resources.Limits = corev1.ResourceList{
			corev1.ResourceMemory: resource.MustParse("32Mi"), corev1.ResourceCPU: resource.MustParse("10m"),
		}
	})
	got := pod(t, p).Containers[0].Resources
	if got.Requests.Memory().String() != "32Mi" || got.Requests.Cpu().String() != "10m" {
		t.Errorf("requests: %v", got.Requests)
	}
}

func TestClientCertificateForNATS(t *testing.T) {
	p := newIntegration(func(p *integration) {
		p.Spec.Receiver.Journal.NATS = &v1alpha1.NATSJournal{
			URL: "tls://a", Replicas: 1, TLS: &v1alpha1.NATSTLS{ClientCertificateSecretRef: &v1alpha1.SecretReference{Name: "nats-client"}},
		}
	})
	spec := pod(t, p)
	for _, arg := range []string{"--nats-replicas=1", "--nats-cert=/etc/nats/tls.crt", "--nats-key=/etc/nats/tls.key"} {
		if !slices.Contains(spec.Containers[0].Args, arg) {
			t.Errorf("%s is not among %q", arg, spec.Containers[0].Args)
		}
	}
	want := []corev1.VolumeProjection{{Secret: &corev1.SecretProjection{
		LocalObjectReference: corev1.LocalObjectReference{Name: "nats-client"},
		Items:                []corev1.KeyToPath{{Key: "tls.crt", Path: "tls.crt"}, {Key: "tls.key", Path: "tls.key"}},
	}}}
	if diff := cmp.Diff(want, spec.Volumes[1].Projected.Sources); diff != "" {
		t.Error(diff)
	}
}

func TestDurability(t *testing.T) {
	journal := func(replicas int32, sync v1alpha1.NATSSync) func(*integration) {
		return func(p *integration) {
			p.Spec.Receiver.Journal.NATS = &v1alpha1.NATSJournal{URL: "nats://a", Replicas: replicas, Sync: sync}
		}
	}
	for name, tc := range map[string]struct {
		change func(*integration)
		kept   bool
		reason string
		says   string
	}{
		"embedded":                    {func(*integration) {}, true, v1alpha1.ReasonOnDisk, "volume"},
		"embedded, ephemeral":         {func(p *integration) { p.Spec.Receiver.Storage.Ephemeral = true }, false, v1alpha1.ReasonStorageEphemeral, "lost with the pod"},
		"embedded, three":             {func(p *integration) { p.Spec.Receiver.Replicas = 3 }, true, v1alpha1.ReasonOnDiskOfMajority, "2 of 3"},
		"external, one, synced":       {journal(1, v1alpha1.NATSSyncAlways), true, v1alpha1.ReasonOnDisk, "lost with that disk"},
		"external, one, not synced":   {journal(1, v1alpha1.NATSSyncInterval), false, v1alpha1.ReasonNotSynced, "sync_interval: always"},
		"external, five, synced":      {journal(5, v1alpha1.NATSSyncAlways), true, v1alpha1.ReasonOnDiskOfMajority, "3 of 5"},
		"external, three, by default": {journal(0, ""), false, v1alpha1.ReasonReplicatedNotSynced, "2 of 3"},
	} {
		got := workload.DurabilityOf(newIntegration(tc.change))
		if got.Kept != tc.kept || got.Reason != tc.reason || !strings.Contains(got.Message, tc.says) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestStorage(t *testing.T) {
	fast := "fast"
	t.Run("of a class", func(t *testing.T) {
		p := newIntegration(func(p *integration) { p.Spec.Receiver.Storage.StorageClassName = &fast })
		claims := child[appsv1.StatefulSet](t, p, "StatefulSet/head-office-receiver").Spec.VolumeClaimTemplates
		if len(claims) != 1 || *claims[0].Spec.StorageClassName != fast || claims[0].Spec.Resources.Requests.Storage().String() != "1Gi" {
			t.Errorf("claims: %+v", claims)
		}
	})
	t.Run("ephemeral", func(t *testing.T) {
		p := newIntegration(func(p *integration) { p.Spec.Receiver.Storage.Ephemeral = true })
		set := child[appsv1.StatefulSet](t, p, "StatefulSet/head-office-receiver")
		volumes := slices.DeleteFunc(set.Spec.Template.Spec.Volumes, func(v corev1.Volume) bool { return v.EmptyDir == nil })
		if len(set.Spec.VolumeClaimTemplates) != 0 || len(volumes) != 1 || volumes[0].EmptyDir.SizeLimit.String() != "1Gi" {
			t.Errorf("claims %v, volumes %v", set.Spec.VolumeClaimTemplates, volumes)
		}
	})
}

func TestExternalJournal(t *testing.T) {
	p := newIntegration(func(p *integration) {
		p.Spec.Receiver.Journal.NATS = &v1alpha1.NATSJournal{
			URL: "nats://a:4333,tls://b", CredentialsSecretRef: &v1alpha1.SecretReference{Name: "nats"},
		}
	})
	args := pod(t, p).Containers[0].Args
	if !slices.Contains(args, "--nats-url=nats://a:4333,tls://b") || !slices.Contains(args, "--nats-replicas=3") || !slices.Contains(args, "--nats-creds=/etc/nats/creds") {
		t.Errorf("arguments: %v", args)
	}
	if mounts := pod(t, p).Containers[0].VolumeMounts; mounts[1].MountPath != "/etc/nats" || !mounts[1].ReadOnly {
		t.Errorf("mounts: %v", mounts)
	}
	if slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--nats-ca") }) {
		t.Errorf("a CA that nobody asked for: %v", args)
	}
	if got := egressPorts(t, p); !slices.Contains(got, 4222) || !slices.Contains(got, 4333) {
		t.Errorf("egress to %v does not reach the journal", got)
	}
}

func external(p *integration) { p.Spec.Receiver.Journal.NATS = &v1alpha1.NATSJournal{URL: "nats://a"} }

func TestReceiversOfAnExternalJournalAreStateless(t *testing.T) {
	p := newIntegration(external, func(p *integration) { p.Spec.Receiver.Replicas = 4 })
	if _, there := children(t, p)["StatefulSet/head-office-receiver"]; there {
		t.Error("there is a StatefulSet as well")
	}
	got := child[appsv1.Deployment](t, p, "Deployment/head-office-receiver")
	if update := got.Spec.Strategy.RollingUpdate; *got.Spec.Replicas != 4 || update.MaxUnavailable.IntValue() != 0 || update.MaxSurge.IntValue() != 1 {
		t.Errorf("spec %+v", got.Spec)
	}
	if volume := got.Spec.Template.Spec.Volumes[0]; volume.Name != "data" || volume.EmptyDir == nil {
		t.Errorf("volume %+v", volume)
	}
}

func TestAutoscaling(t *testing.T) {
	p := newIntegration(external, func(p *integration) {
		p.Spec.Receiver.Autoscaling = &v1alpha1.ReceiverAutoscaling{MinReplicas: 3, MaxReplicas: 9}
	})
	got := child[autoscalingv2.HorizontalPodAutoscaler](t, p, "HorizontalPodAutoscaler/head-office-receiver").Spec
	if got.ScaleTargetRef.Kind != "Deployment" || *got.MinReplicas != 3 || got.MaxReplicas != 9 || *got.Metrics[0].Resource.Target.AverageUtilization != 70 {
		t.Errorf("spec %+v", got)
	}
	if _, there := children(t, p)["PodDisruptionBudget/head-office-receiver"]; !there {
		t.Error("nothing keeps the pods from being evicted together")
	}
	for current, want := range map[int32]int32{0: 3, 5: 5, 12: 9} {
		list, err := workload.Children(p, workload.Settings{}, workload.Scale{Replicas: current})
		if err != nil {
			t.Fatal(err)
		}
		for _, child := range list {
			if pods, ok := child.Apply.(*appsac.DeploymentApplyConfiguration); ok && *pods.Spec.Replicas != want {
				t.Errorf("of %d pods the operator makes %d, want %d", current, *pods.Spec.Replicas, want)
			}
		}
	}
}

// TestMovingToStatelessReceivers goes from the StatefulSet of an earlier version to a Deployment.
func TestMovingToStatelessReceivers(t *testing.T) {
	p := newIntegration(external, func(p *integration) { p.Spec.Receiver.Replicas = 2 })
	set := &appsv1.StatefulSet{Status: appsv1.StatefulSetStatus{Replicas: 2, ReadyReplicas: 2, UpdatedReplicas: 2}}
	pods := func(ready int32) *appsv1.Deployment {
		return &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: new(int32(2))}, Status: appsv1.DeploymentStatus{
			Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: ready,
		}}
	}
	for name, tc := range map[string]struct {
		running            workload.Running
		settled, rolledOut bool
	}{
		"before":          {workload.Running{Set: set}, false, false},
		"one pod ready":   {workload.Running{Set: set, Deployment: pods(1)}, false, false},
		"both pods":       {workload.Running{Set: set, Deployment: pods(2)}, true, false},
		"the set is gone": {workload.Running{Deployment: pods(2)}, true, true},
	} {
		if got := tc.running.Settled(p); got != tc.settled {
			t.Errorf("%s: settled %v", name, got)
		}
		if got := workload.Observe(p, tc.running); !got.Available || got.RolledOut != tc.rolledOut {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestCertificatesOfTheExternalJournal(t *testing.T) {
	for _, kind := range []v1alpha1.BundleKind{v1alpha1.BundleSecret, v1alpha1.BundleConfigMap} {
		p := newIntegration(func(p *integration) {
			p.Spec.Receiver.Journal.NATS = &v1alpha1.NATSJournal{
				URL: "tls://a", CredentialsSecretRef: &v1alpha1.SecretReference{Name: "nats"},
				TLS: &v1alpha1.NATSTLS{CABundle: &v1alpha1.BundleReference{Kind: kind, Name: "nats-ca", Key: "chain.pem"}},
			}
		})
		spec := pod(t, p)
		if !slices.Contains(spec.Containers[0].Args, "--nats-ca=/etc/nats/ca.crt") {
			t.Errorf("%s: arguments: %v", kind, spec.Containers[0].Args)
		}
		sources := spec.Volumes[1].Projected.Sources
		item := []corev1.KeyToPath{{Key: "chain.pem", Path: "ca.crt"}}
		want := corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "nats-ca"}, Items: item}}
		if kind == v1alpha1.BundleConfigMap {
			want = corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "nats-ca"}, Items: item}}
		}
		if len(sources) != 2 || sources[0].Secret.Name != "nats" {
			t.Fatalf("%s: sources: %+v", kind, sources)
		}
		if diff := cmp.Diff(want, sources[1]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", kind, diff)
		}
	}
}

func TestVolumesGoWithTheIntegrationUnlessTheyAreToStay(t *testing.T) {
	for retain, want := range map[bool]appsv1.PersistentVolumeClaimRetentionPolicyType{
		false: appsv1.DeletePersistentVolumeClaimRetentionPolicyType, true: appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
	} {
		p := newIntegration(func(p *integration) { p.Spec.Receiver.Storage.Retain = retain })
		policy := child[appsv1.StatefulSet](t, p, "StatefulSet/head-office-receiver").Spec.PersistentVolumeClaimRetentionPolicy
		if policy.WhenDeleted != want || policy.WhenScaled != appsv1.RetainPersistentVolumeClaimRetentionPolicyType {
			t.Errorf("retain %v: %+v", retain, policy)
		}
	}
}

func TestPinnedImage(t *testing.T) {
	p := newIntegration(func(p *integration) { p.Spec.Receiver.Image = "receiver:pinned" })
	if got := pod(t, p).Containers[0].Image; got != "receiver:pinned" {
		t.Errorf("image: %s", got)
	}
	if got := pod(t, newIntegration()).Containers[0].Image; got != "receiver:1" {
		t.Errorf("image by default: %s", got)
	}
}

func TestAnnotationsOfRoutes(t *testing.T) {
	annotations := map[string]string{"example.com/timeout": "5s"}
	for kind, exposure := range map[string]v1alpha1.Exposure{
		"Ingress":   {Ingress: &v1alpha1.IngressExposure{Annotations: annotations}},
		"HTTPRoute": {Gateway: &v1alpha1.GatewayExposure{ParentRefs: []v1alpha1.GatewayReference{{Name: "public"}}, Annotations: annotations}},
	} {
		p := newIntegration(func(p *integration) { p.Spec.Receiver.Exposure = exposure })
		var route metav1.PartialObjectMetadata
		if err := json.Unmarshal([]byte(children(t, p)[kind+"/head-office-receiver"]), &route); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(annotations, route.Annotations); diff != "" {
			t.Errorf("%s (-want +got):\n%s", kind, diff)
		}
	}
}

func egressPorts(t *testing.T, p *integration) []int {
	t.Helper()
	var ports []int
	for _, rule := range child[networkingv1.NetworkPolicy](t, p, "NetworkPolicy/head-office-receiver").Spec.Egress {
		for _, port := range rule.Ports {
			ports = append(ports, port.Port.IntValue())
		}
	}
	return ports
}

func TestWhoMaySendEvents(t *testing.T) {
	sources := []string{"198.51.100.0/24", "2001:db8::/32"}
	ingress := &v1alpha1.IngressExposure{}
	for name, tc := range map[string]struct {
		sources   []string
		ingress   *v1alpha1.IngressExposure
		wantCIDRs []string
		wantPods  bool
		wantAny   bool
	}{
		"anybody":                          {wantAny: true},
		"the PBX, directly":                {sources: sources, wantCIDRs: sources},
		"the PBX, through a proxy of ours": {sources: sources, ingress: ingress, wantCIDRs: sources, wantPods: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newIntegration(func(p *integration) {
				p.Spec.Receiver.AllowedSources = tc.sources
				p.Spec.Receiver.Exposure.Ingress = tc.ingress
			})
			rules := child[networkingv1.NetworkPolicy](t, p, "NetworkPolicy/head-office-receiver").Spec.Ingress
			at := slices.IndexFunc(rules, func(rule networkingv1.NetworkPolicyIngressRule) bool {
				return rule.Ports[0].Port.IntValue() == workload.EventPort
			})
			var cidrs []string
			pods := false
			for _, peer := range rules[at].From {
				if peer.IPBlock != nil {
					cidrs = append(cidrs, peer.IPBlock.CIDR)
				}
				pods = pods || peer.NamespaceSelector != nil
			}
			if !slices.Equal(cidrs, tc.wantCIDRs) || pods != tc.wantPods || (len(rules[at].From) == 0) != tc.wantAny {
				t.Errorf("peers: %+v", rules[at].From)
			}
		})
	}
}

func TestTheManagerMaySendEvents(t *testing.T) {
	p := newIntegration(func(p *integration) { p.Spec.Receiver.AllowedSources = []string{"198.51.100.0/24"} })
	list, err := workload.Children(p, workload.Settings{
		Image: "receiver:1", ManagerNamespace: "pbx-system", ManagerLabels: map[string]string{"app.kubernetes.io/component": "manager"},
	}, workload.Scale{Size: p.Spec.Receiver.Storage.Size})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(list, func(child workload.Child) bool { return child.Kind == "NetworkPolicy" })
	data, err := json.Marshal(list[at].Apply)
	if err != nil {
		t.Fatal(err)
	}
	var policy networkingv1.NetworkPolicy
	if err := json.Unmarshal(data, &policy); err != nil {
		t.Fatal(err)
	}
	want := []networkingv1.NetworkPolicyPeer{
		{IPBlock: &networkingv1.IPBlock{CIDR: "198.51.100.0/24"}},
		{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "pbx-system"}},
			PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/component": "manager"}},
		},
	}
	if diff := cmp.Diff(want, policy.Spec.Ingress[0].From); diff != "" {
		t.Errorf("who may send events (-want +got):\n%s", diff)
	}
}

func TestReceiversOfAllPBXsAreAlike(t *testing.T) {
	want := children(t, newIntegration(func(p *integration) {
		p.Spec.PBX = v1alpha1.PBX{Type: v1alpha1.PBXTypeRingMe, RingMe: &v1alpha1.RingMe{URL: "https://pbx.example.com"}}
	}))
	for _, pbx := range []v1alpha1.PBX{
		{Type: v1alpha1.PBXTypeVoipNow, VoipNow: &v1alpha1.VoipNow{URL: "https://pbx.example.com"}},
		{Type: v1alpha1.PBXTypeCallable},
		{Type: v1alpha1.PBXTypeCallable, Callable: &v1alpha1.Callable{OwnNumbers: []string{"4420*"}}},
		{Type: v1alpha1.PBXTypeLinuxBox},
		{Type: v1alpha1.PBXTypeLinuxBox, LinuxBox: &v1alpha1.LinuxBox{Dialect: v1alpha1.LinuxBoxPath}},
	} {
		p := newIntegration(func(p *integration) { p.Spec.PBX = pbx })
		if err := workload.Validate(p); err != nil {
			t.Errorf("%s: %v", pbx.Type, err)
		}
		if diff := cmp.Diff(want, children(t, p)); diff != "" {
			t.Errorf("the receiver of a %s differs:\n%s", pbx.Type, diff)
		}
	}
}

func TestReceiversReportOfTheirOwnIntegrationOnly(t *testing.T) {
	role := child[rbacv1.Role](t, newIntegration(), "Role/head-office-receiver")
	for _, rule := range role.Rules {
		if slices.Contains(rule.Resources, "pbxintegrations/status") {
			if diff := cmp.Diff([]string{"head-office"}, rule.ResourceNames); diff != "" {
				t.Errorf("integrations whose status it may change (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"get", "patch"}, rule.Verbs); diff != "" {
				t.Errorf("what it may do with the status (-want +got):\n%s", diff)
			}
			return
		}
	}
	t.Error("it may not report")
}

func TestRoutesLeadToEventURLsOnly(t *testing.T) {
	t.Run("Ingress", func(t *testing.T) {
		class := "nginx"
		p := newIntegration(func(p *integration) {
			p.Spec.Receiver.Exposure.Ingress = &v1alpha1.IngressExposure{ClassName: &class, TLS: &v1alpha1.IngressTLS{SecretName: "tls"}}
		})
		got := child[networkingv1.Ingress](t, p, "Ingress/head-office-receiver").Spec
		if got.Rules[0].Host != "calls.example.com" || got.Rules[0].HTTP.Paths[0].Path != "/pbx/ext-event/" || *got.IngressClassName != class ||
			got.TLS[0].Hosts[0] != "calls.example.com" || got.TLS[0].SecretName != "tls" {
			t.Errorf("Ingress: %+v", got)
		}
	})
	t.Run("HTTPRoute", func(t *testing.T) {
		p := newIntegration(func(p *integration) {
			p.Spec.Receiver.Exposure.Gateway = &v1alpha1.GatewayExposure{
				ParentRefs: []v1alpha1.GatewayReference{{Name: "public", Namespace: "gateways", SectionName: "https"}},
			}
		})
		var route unstructured.Unstructured
		if err := json.Unmarshal([]byte(children(t, p)["HTTPRoute/head-office-receiver"]), &route.Object); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"hostnames":  []any{"calls.example.com"},
			"parentRefs": []any{map[string]any{"name": "public", "namespace": "gateways", "sectionName": "https"}},
			"rules": []any{map[string]any{
				"matches":     []any{map[string]any{"path": map[string]any{"type": "PathPrefix", "value": "/pbx/ext-event/"}}},
				"backendRefs": []any{map[string]any{"name": "head-office-receiver", "port": float64(8080)}},
			}},
		}
		if diff := cmp.Diff(want, route.Object["spec"]); diff != "" {
			t.Errorf("HTTPRoute (-want +got):\n%s", diff)
		}
	})
}

func TestValidate(t *testing.T) {
	if err := workload.Validate(newIntegration()); err != nil {
		t.Errorf("a good spec: %v", err)
	}
	for name, tc := range map[string]struct {
		change func(*integration)
		want   string
	}{
		"a digit at the beginning": {func(p *integration) { p.Name = "3cx-office" }, "begins with a digit"},
		"credentials in publicURL": {func(p *integration) { p.Spec.Receiver.PublicURL = "https://u:p@h" }, "publicURL holds a user name"},
		"event path in publicURL":  {func(p *integration) { p.Spec.Receiver.PublicURL = "https://h/ext-event" }, "leave it out"},
		"unreadable publicURL":     {func(p *integration) { p.Spec.Receiver.PublicURL = "https://h/%zz" }, "publicURL is not a URL"},
		"host bits in a network":   {func(p *integration) { p.Spec.Receiver.AllowedSources = []string{"10.1.2.3/8"} }, "write 10.0.0.0/8"},
		"no network":               {func(p *integration) { p.Spec.Receiver.AllowedSources = []string{"10.0.0.0"} }, `"10.0.0.0" is no network`},
		"a label of ours": {func(p *integration) {
			p.Spec.Receiver.Template.Labels = map[string]string{workload.LabelName: "x"}
		}, "choose another label"},
		"credentials for NATS in the open": {func(p *integration) {
			p.Spec.Receiver.Journal.NATS = &v1alpha1.NATSJournal{URL: "nats://u:p@h"}
		}, "credentialsSecretRef"},
		"NATS without a host": {func(p *integration) { p.Spec.Receiver.Journal.NATS = &v1alpha1.NATSJournal{URL: "nats://a,nats://"} }, "scheme and a host"},
		"TLS for plain http": {func(p *integration) {
			p.Spec.Receiver.PublicURL = "http://h"
			p.Spec.Receiver.Exposure.Ingress = &v1alpha1.IngressExposure{TLS: &v1alpha1.IngressTLS{SecretName: "tls"}}
		}, "use https"},
		"autoscaling without a CPU request": {func(p *integration) {
			external(p)
			p.Spec.Receiver.Autoscaling = &v1alpha1.ReceiverAutoscaling{MaxReplicas: 3}
			p.Spec.Receiver.Template.Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
		}, "requests has no cpu"},
	} {
		t.Run(name, func(t *testing.T) {
			err := workload.Validate(newIntegration(tc.change))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v does not say %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "u:p") {
				t.Errorf("error %v holds credentials", err)
			}
		})
	}
}

// asDeployment fares as a StatefulSet does.
func asDeployment(set *appsv1.StatefulSet) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: set.ObjectMeta,
		Spec:       appsv1.DeploymentSpec{Replicas: &set.Status.Replicas},
		Status: appsv1.DeploymentStatus{
			ObservedGeneration: set.Status.ObservedGeneration, Replicas: set.Status.Replicas,
			UpdatedReplicas: set.Status.UpdatedReplicas, ReadyReplicas: set.Status.ReadyReplicas,
		},
	}
}

func TestObserve(t *testing.T) {
	set := func(generation, observed int64, replicas, updated, ready int32) *appsv1.StatefulSet {
		s := &appsv1.StatefulSet{}
		s.Generation = generation
		s.Status = appsv1.StatefulSetStatus{ObservedGeneration: observed, Replicas: replicas, UpdatedReplicas: updated, ReadyReplicas: ready}
		return s
	}
	for name, tc := range map[string]struct {
		replicas      int32
		change        func(*integration)
		set           *appsv1.StatefulSet
		available, up bool
	}{
		"not there":                       {replicas: 1},
		"starting":                        {replicas: 1, set: set(1, 1, 1, 1, 0), up: true},
		"there":                           {replicas: 1, set: set(1, 1, 1, 1, 1), available: true, up: true},
		"a change that nobody saw":        {replicas: 1, set: set(2, 1, 1, 1, 1), available: true},
		"being rolled out":                {replicas: 3, set: set(2, 2, 3, 1, 2), available: true},
		"majority lost":                   {replicas: 3, set: set(2, 2, 3, 3, 1), up: true},
		"majority kept":                   {replicas: 3, set: set(2, 2, 3, 3, 2), available: true, up: true},
		"one of many, with a journal out": {replicas: 4, change: external, set: set(2, 2, 4, 4, 1), available: true, up: true},
		"scaling down":                    {replicas: 1, change: external, set: set(2, 2, 2, 2, 2), available: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newIntegration(func(p *integration) { p.Spec.Receiver.Replicas = tc.replicas })
			if tc.change != nil {
				tc.change(p)
			}
			running := workload.Running{Set: tc.set}
			if workload.Stateless(p) {
				running = workload.Running{Deployment: asDeployment(tc.set)}
			}
			got := workload.Observe(p, running)
			if got.Available != tc.available || got.RolledOut != tc.up || got.Message == "" {
				t.Errorf("Observe = %+v, want available %v, rolled out %v", got, tc.available, tc.up)
			}
		})
	}
}

func TestTrouble(t *testing.T) {
	pod := func(status corev1.PodStatus) corev1.Pod {
		return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "r-0"}, Status: status}
	}
	waiting := func(reason string) corev1.ContainerStatus {
		return corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "back-off 40s"}}}
	}
	crashed := waiting("CrashLoopBackOff")
	crashed.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137}
	for name, tc := range map[string]struct {
		status corev1.PodStatus
		want   string
	}{
		"running":  {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Ready: true}}}, ""},
		"starting": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{waiting("ContainerCreating")}}, ""},
		"no node": {corev1.PodStatus{Conditions: []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes",
		}}}, "pod r-0: Unschedulable: 0/1 nodes"},
		"no image": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{waiting("ErrImagePull")}}, "pod r-0: ErrImagePull"},
		"crashing": {
			corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{crashed}},
			"pod r-0: CrashLoopBackOff after OOMKilled, exit code 137; see the log of the container",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := workload.Trouble([]corev1.Pod{{}, pod(tc.status)}); got != tc.want {
				t.Errorf("Trouble = %q, want %q", got, tc.want)
			}
		})
	}
}

// Integrations whose names differ in their dots only have receivers of their own.
func TestNamesWithDotsAreToldApart(t *testing.T) {
	t.Parallel()
	known := map[string]string{}
	for _, name := range []string{"a.b", "a-b", "a.b.c", "a-b.c", "a.b-c", "a-b-c"} {
		if other, taken := known[workload.Name(name)]; taken {
			t.Errorf("%s and %s share %s", name, other, workload.Name(name))
		}
		known[workload.Name(name)] = name
	}
	for _, long := range []string{strings.Repeat("a", 38) + ".b", strings.Repeat("a", 38) + "-b"} {
		if got := workload.Name(long); len(got) > len(long)+len("-receiver") {
			t.Errorf("%s is too long for the label of a pod", got)
		}
	}
	if got := workload.Name("a-b"); got != "a-b-receiver" {
		t.Errorf("a name without dots becomes %s", got)
	}
}

// An integration may have dots in its name, the name of a Service may not (RFC 1035 labels).
func TestNamesWithDots(t *testing.T) {
	for key := range children(t, newIntegration(func(p *integration) { p.Name = "head.office" })) {
		if _, name, _ := strings.Cut(key, "/"); strings.Contains(name, ".") || !strings.HasPrefix(name, "head-office-") || !strings.Contains(name, "-receiver") {
			t.Errorf("%s is no name of a Service", key)
		}
	}
}
