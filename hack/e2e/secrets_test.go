package e2e

import (
	"context"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// expectNoSecrets looks for tokens, the client secret and access tokens wherever a reader of the
// cluster may look.
func (s *site) expectNoSecrets(ctx context.Context) {
	GinkgoHelper()
	var visible strings.Builder
	visible.WriteString(kubectl(ctx, "-n", s.namespace, "get", "pbxintegrations,extmap,leg,events,pods,statefulsets", "-o", "yaml"))
	visible.WriteString(kubectl(ctx, "-n", s.namespace, "logs", "statefulset/"+integrationName+"-receiver"))
	visible.WriteString(kubectl(ctx, "-n", s.namespace, "logs", "deployment/pbxsim"))
	visible.WriteString(kubectl(ctx, "-n", systemNamespace, "logs", "deployment/pbx-operator"))
	visible.WriteString(kubectl(ctx, "get", "--raw",
		"/api/v1/namespaces/"+s.namespace+"/services/"+integrationName+"-receiver:probes/proxy/metrics"))
	for name, secret := range s.secrets(ctx) {
		Expect(strings.Contains(visible.String(), secret)).To(BeFalse(), "%s is visible", name)
	}
}

// secrets are the tokens that the PBX was given, and its own secret.
func (s *site) secrets(ctx context.Context) map[string]string {
	GinkgoHelper()
	owners := map[string]eventurl.Source{}
	if s.system.byHand {
		var integration v1alpha1.PBXIntegration
		Expect(cluster.Get(ctx, s.key(integrationName), &integration)).To(Succeed())
		owners[integration.Name] = eventurl.Account(string(integration.UID))
	} else {
		var mappings v1alpha1.ExtensionMappingList
		Expect(cluster.List(ctx, &mappings, client.InNamespace(s.namespace))).To(Succeed())
		for _, mapping := range mappings.Items {
			owners[mapping.Name] = eventurl.Mapping(mapping.Name, string(mapping.UID))
		}
	}
	Expect(owners).NotTo(BeEmpty())
	current := s.keys(ctx).Current()
	secrets := map[string]string{"the client secret": sim.DefaultClientSecret}
	registrations, err := s.pbx.Registrations(ctx)
	Expect(err).NotTo(HaveOccurred())
	for name, source := range owners {
		token := current.Token(source)
		secrets["the token of "+name] = token
		Expect(slices.ContainsFunc(registrations, func(r exchange.Registration) bool { return strings.Contains(r.URL, token) })).
			To(BeTrue(), "the PBX must know the token of %s, or this test looks for the wrong thing", name)
	}
	return secrets
}
