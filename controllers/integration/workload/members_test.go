package workload_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
)

func replicas(n int32) func(*integration) {
	return func(p *integration) { p.Spec.Receiver.Replicas = n }
}

// TestReceiversNeedNotRestartWhenOthersCome compares the pods, whose template restarts them.
func TestReceiversNeedNotRestartWhenOthersCome(t *testing.T) {
	one := pod(t, newIntegration(replicas(1)))
	for _, n := range []int32{3, 5} {
		if diff := cmp.Diff(one, pod(t, newIntegration(replicas(n)))); diff != "" {
			t.Errorf("%d replicas have other pods: %s", n, diff)
		}
	}
}

func TestReceiversKnowEachOther(t *testing.T) {
	p := newIntegration(replicas(3))
	spec := pod(t, p)
	for i := range workload.MaxMembers {
		peer := fmt.Sprintf("head-office-receiver-%d=head-office-receiver-%[1]d.head-office-receiver-headless:6222", i)
		if !slices.ContainsFunc(spec.Containers[0].Args, func(arg string) bool {
			return strings.HasPrefix(arg, "--peers=") && strings.Contains(arg, peer)
		}) {
			t.Errorf("%s is not in %v", peer, spec.Containers[0].Args)
		}
	}
	mounted := slices.IndexFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Secret != nil })
	if mounted < 0 || spec.Volumes[mounted].Secret.SecretName != workload.MembersSecretName(p.Name) {
		t.Fatalf("the certificates are not mounted: %v", spec.Volumes)
	}
	for _, item := range spec.Volumes[mounted].Secret.Items {
		if item.Key == workload.AuthoritySecretKey {
			t.Error("receivers get the key of the authority")
		}
	}
	if hosts := workload.MemberHosts(p); !slices.Contains(hosts, "*.head-office-receiver-headless") {
		t.Errorf("the certificate is for %v", hosts)
	}
}

func TestAnExternalJournalNeedsNoCertificatesOfOurs(t *testing.T) {
	p := newIntegration(replicas(3), func(p *integration) { p.Spec.Receiver.Journal.NATS = &v1alpha1.NATSJournal{URL: "nats://nats"} })
	if text := fmt.Sprint(pod(t, p)); strings.Contains(text, "--peers") || strings.Contains(text, workload.MembersSecretName(p.Name)) {
		t.Errorf("got %s", text)
	}
}

func TestReceiversOfOneJournalAreKeptApart(t *testing.T) {
	p := newIntegration(replicas(3))
	var domains []string
	for _, constraint := range pod(t, p).TopologySpreadConstraints {
		domains = append(domains, constraint.TopologyKey)
		if constraint.WhenUnsatisfiable != corev1.ScheduleAnyway {
			t.Errorf("pods wait for a place: %+v", constraint)
		}
	}
	if diff := cmp.Diff([]string{corev1.LabelHostname, corev1.LabelTopologyZone}, domains); diff != "" {
		t.Error(diff)
	}
	set := child[appsv1.StatefulSet](t, p, "StatefulSet/head-office-receiver")
	if set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement || set.Spec.MinReadySeconds == 0 {
		t.Errorf("%s, ready for %d s", set.Spec.PodManagementPolicy, set.Spec.MinReadySeconds)
	}
	budget := child[policyv1.PodDisruptionBudget](t, p, "PodDisruptionBudget/head-office-receiver")
	if budget.Spec.MaxUnavailable.IntValue() != 1 {
		t.Errorf("%s may be away", budget.Spec.MaxUnavailable)
	}
}

func TestReceiversStayUntilTheFirstHasTheirLogs(t *testing.T) {
	for name, tc := range map[string]struct {
		wanted, members, pods int32
	}{
		"not known yet":   {3, 0, 3},
		"more are wanted": {3, 1, 3},
		"fewer, not yet":  {1, 3, 3},
		"fewer":           {1, 1, 1},
	} {
		p := newIntegration(replicas(tc.wanted))
		p.Status.Receiver = &v1alpha1.ReceiverStatus{Members: tc.members}
		if got := *child[appsv1.StatefulSet](t, p, "StatefulSet/head-office-receiver").Spec.Replicas; got != tc.pods {
			t.Errorf("%s: %d pods", name, got)
		}
	}
}
