package workload

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"
	metaac "k8s.io/client-go/applyconfigurations/meta/v1"
	networkingac "k8s.io/client-go/applyconfigurations/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// HTTPRouteVersion is the version of the Gateway API's HTTPRoute that is applied.
const HTTPRouteVersion = "gateway.networking.k8s.io/v1"

func service(p *v1alpha1.PBXIntegration) *coreac.ServiceApplyConfiguration {
	return coreac.Service(Name(p.Name), p.Namespace).
		WithLabels(Labels(p.Name)).
		WithOwnerReferences(OwnerReference(p)).
		WithSpec(coreac.ServiceSpec().
			WithType(corev1.ServiceTypeClusterIP).
			WithSelector(SelectorLabels(p.Name)).
			WithPorts(servicePort(EventPortName, EventPort), servicePort(ProbePortName, ProbePort)))
}

// headlessService names the pods, ready or not, so that replicas find each other before any of them
// is ready.
func headlessService(p *v1alpha1.PBXIntegration) *coreac.ServiceApplyConfiguration {
	return coreac.Service(HeadlessName(p.Name), p.Namespace).
		WithLabels(Labels(p.Name)).
		WithOwnerReferences(OwnerReference(p)).
		WithSpec(coreac.ServiceSpec().
			WithType(corev1.ServiceTypeClusterIP).
			WithClusterIP(corev1.ClusterIPNone).
			WithPublishNotReadyAddresses(true).
			WithSelector(SelectorLabels(p.Name)).
			WithPorts(servicePort(EventPortName, EventPort), servicePort(ProbePortName, ProbePort)))
}

func servicePort(name string, port int32) *coreac.ServicePortApplyConfiguration {
	return coreac.ServicePort().
		WithName(name).
		WithPort(port).
		WithProtocol(corev1.ProtocolTCP).
		WithTargetPort(intstr.FromString(name))
}

// networkPolicy lets in events and probes, and lets out what a receiver needs: DNS, the API server,
// its journal.
func networkPolicy(p *v1alpha1.PBXIntegration, settings Settings) *networkingac.NetworkPolicyApplyConfiguration {
	ingressRules := []*networkingac.NetworkPolicyIngressRuleApplyConfiguration{
		eventIngress(p, settings),
		networkingac.NetworkPolicyIngressRule().WithPorts(policyPort(corev1.ProtocolTCP, ProbePort)),
	}
	egressRules := []*networkingac.NetworkPolicyEgressRuleApplyConfiguration{
		networkingac.NetworkPolicyEgressRule().
			WithPorts(policyPort(corev1.ProtocolUDP, 53), policyPort(corev1.ProtocolTCP, 53)),
		networkingac.NetworkPolicyEgressRule().WithPorts(tcpPorts(apiServerPorts(settings))...),
	}
	switch nats := p.Spec.Receiver.Journal.NATS; {
	case nats != nil:
		egressRules = append(egressRules, networkingac.NetworkPolicyEgressRule().WithPorts(tcpPorts(natsPorts(nats.URL))...))
	case pods(p) > 1:
		siblings := networkingac.NetworkPolicyPeer().WithPodSelector(selector(p))
		ingressRules = append(ingressRules, networkingac.NetworkPolicyIngressRule().
			WithFrom(siblings).WithPorts(policyPort(corev1.ProtocolTCP, RoutePort)))
		egressRules = append(egressRules, networkingac.NetworkPolicyEgressRule().
			WithTo(siblings).WithPorts(policyPort(corev1.ProtocolTCP, RoutePort)))
	}
	return networkingac.NetworkPolicy(Name(p.Name), p.Namespace).
		WithLabels(Labels(p.Name)).
		WithOwnerReferences(OwnerReference(p)).
		WithSpec(networkingac.NetworkPolicySpec().
			WithPodSelector(selector(p)).
			WithPolicyTypes(networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress).
			WithIngress(ingressRules...).
			WithEgress(egressRules...))
}

// eventIngress admits the allowed sources. Behind an Ingress or a Gateway the pod sees the address
// of the proxy, not of the PBX, so pods of the cluster are admitted then too. The manager always
// is.
func eventIngress(p *v1alpha1.PBXIntegration, settings Settings) *networkingac.NetworkPolicyIngressRuleApplyConfiguration {
	admit := networkingac.NetworkPolicyIngressRule().WithPorts(policyPort(corev1.ProtocolTCP, EventPort))
	if len(p.Spec.Receiver.AllowedSources) == 0 {
		return admit
	}
	for _, source := range slices.Sorted(slices.Values(p.Spec.Receiver.AllowedSources)) {
		admit.WithFrom(networkingac.NetworkPolicyPeer().WithIPBlock(networkingac.IPBlock().WithCIDR(source)))
	}
	if exposure := p.Spec.Receiver.Exposure; exposure.Gateway != nil || exposure.Ingress != nil {
		admit.WithFrom(networkingac.NetworkPolicyPeer().WithNamespaceSelector(metaac.LabelSelector()))
	}
	if settings.ManagerNamespace != "" {
		admit.WithFrom(networkingac.NetworkPolicyPeer().
			WithNamespaceSelector(metaac.LabelSelector().WithMatchLabels(map[string]string{corev1.LabelMetadataName: settings.ManagerNamespace})).
			WithPodSelector(metaac.LabelSelector().WithMatchLabels(settings.ManagerLabels)))
	}
	return admit
}

func selector(p *v1alpha1.PBXIntegration) *metaac.LabelSelectorApplyConfiguration {
	return metaac.LabelSelector().WithMatchLabels(SelectorLabels(p.Name))
}

func apiServerPorts(settings Settings) []int32 {
	if len(settings.APIServerPorts) > 0 {
		return settings.APIServerPorts
	}
	return []int32{443, 6443}
}

// natsPorts are the ports of a comma separated list of NATS URLs, with the defaults of the NATS
// clients.
func natsPorts(urls string) []int32 {
	defaults := map[string]int32{"ws": 80, "wss": 443}
	var ports []int32
	for server := range strings.SplitSeq(urls, ",") {
		parsed, err := url.Parse(strings.TrimSpace(server))
		if err != nil {
			continue
		}
		port := int32(4222)
		if standard, ok := defaults[parsed.Scheme]; ok {
			port = standard
		}
		if given, err := strconv.ParseInt(parsed.Port(), 10, 32); err == nil {
			port = int32(given)
		}
		ports = append(ports, port)
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

func tcpPorts(numbers []int32) []*networkingac.NetworkPolicyPortApplyConfiguration {
	ports := make([]*networkingac.NetworkPolicyPortApplyConfiguration, len(numbers))
	for i, number := range numbers {
		ports[i] = policyPort(corev1.ProtocolTCP, number)
	}
	return ports
}

func policyPort(protocol corev1.Protocol, port int32) *networkingac.NetworkPolicyPortApplyConfiguration {
	return networkingac.NetworkPolicyPort().WithProtocol(protocol).WithPort(intstr.FromInt32(port))
}

// publicURL is where event URLs start: the host without the port, and the path up to the tokens.
func publicURL(p *v1alpha1.PBXIntegration) (host, path string, err error) {
	parsed, err := url.Parse(p.Spec.Receiver.PublicURL)
	if err != nil {
		return "", "", fmt.Errorf("spec.receiver.publicURL cannot be read: %w", err)
	}
	return parsed.Hostname(), strings.TrimRight(parsed.Path, "/") + eventurl.PathPrefix, nil
}

// ingress routes event URLs and nothing else.
func ingress(p *v1alpha1.PBXIntegration) (*networkingac.IngressApplyConfiguration, error) {
	host, path, err := publicURL(p)
	if err != nil {
		return nil, err
	}
	backend := networkingac.IngressBackend().WithService(networkingac.IngressServiceBackend().
		WithName(Name(p.Name)).
		WithPort(networkingac.ServiceBackendPort().WithName(EventPortName)))
	rule := networkingac.IngressRule().WithHTTP(networkingac.HTTPIngressRuleValue().WithPaths(
		networkingac.HTTPIngressPath().WithPath(path).WithPathType(networkingv1.PathTypePrefix).WithBackend(backend)))
	if net.ParseIP(host) == nil {
		rule.WithHost(host)
	}
	spec := networkingac.IngressSpec().WithRules(rule)
	wanted := p.Spec.Receiver.Exposure.Ingress
	if wanted.ClassName != nil {
		spec.WithIngressClassName(*wanted.ClassName)
	}
	if wanted.TLS != nil {
		spec.WithTLS(networkingac.IngressTLS().WithHosts(host).WithSecretName(wanted.TLS.SecretName))
	}
	return networkingac.Ingress(Name(p.Name), p.Namespace).
		WithLabels(Labels(p.Name)).
		WithAnnotations(wanted.Annotations).
		WithOwnerReferences(OwnerReference(p)).
		WithSpec(spec), nil
}

// httpRoute does the same through the Gateway API, which has no types in this module: it is
// optional in a cluster.
func httpRoute(p *v1alpha1.PBXIntegration) (runtime.ApplyConfiguration, error) {
	host, path, err := publicURL(p)
	if err != nil {
		return nil, err
	}
	metadata := metaac.ObjectMeta().
		WithName(Name(p.Name)).
		WithNamespace(p.Namespace).
		WithLabels(Labels(p.Name)).
		WithAnnotations(p.Spec.Receiver.Exposure.Gateway.Annotations).
		WithOwnerReferences(OwnerReference(p))
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(metadata)
	if err != nil {
		return nil, fmt.Errorf("cannot build the HTTPRoute: %w", err)
	}
	gateway := p.Spec.Receiver.Exposure.Gateway
	spec := map[string]any{
		"parentRefs": parentRefs(gateway.ParentRefs),
		"rules": []any{map[string]any{
			"matches":     []any{map[string]any{"path": map[string]any{"type": "PathPrefix", "value": path}}},
			"backendRefs": []any{map[string]any{"name": Name(p.Name), "port": int64(EventPort)}},
		}},
	}
	if names := hostnames(gateway, host); len(names) > 0 {
		spec["hostnames"] = names
	}
	route := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": HTTPRouteVersion, "kind": "HTTPRoute", "metadata": fields, "spec": spec,
	}}
	return client.ApplyConfigurationFromUnstructured(route), nil
}

func parentRefs(gateways []v1alpha1.GatewayReference) []any {
	refs := make([]any, len(gateways))
	for i, gateway := range gateways {
		ref := map[string]any{"name": gateway.Name}
		if gateway.Namespace != "" {
			ref["namespace"] = gateway.Namespace
		}
		if gateway.SectionName != "" {
			ref["sectionName"] = gateway.SectionName
		}
		refs[i] = ref
	}
	return refs
}

// hostnames are those of the spec, else the host of the public URL. The Gateway API takes no IP
// addresses.
func hostnames(gateway *v1alpha1.GatewayExposure, host string) []any {
	names := slices.Sorted(slices.Values(gateway.Hostnames))
	if len(names) == 0 && net.ParseIP(host) == nil {
		names = []string{host}
	}
	result := make([]any, len(names))
	for i, name := range names {
		result[i] = name
	}
	return result
}
