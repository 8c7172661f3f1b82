package e2e

import (
	"context"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
)

// expectNoSecrets looks for tokens, the client secret and access tokens wherever a reader of the cluster may look.
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

func (s *site) secrets(ctx context.Context) map[string]string {
	GinkgoHelper()
	var mappings v1alpha1.ExtensionMappingList
	Expect(cluster.List(ctx, &mappings, client.InNamespace(s.namespace))).To(Succeed())
	Expect(mappings.Items).NotTo(BeEmpty())
	current := s.keys(ctx).Current()
	secrets := map[string]string{"the client secret": sim.DefaultClientSecret}
	registrations, err := s.pbx.Registrations(ctx)
	Expect(err).NotTo(HaveOccurred())
	for _, mapping := range mappings.Items {
		token := current.Token(string(mapping.UID))
		secrets["the token of "+mapping.Name] = token
		urls := 0
		for _, registration := range registrations {
			if strings.Contains(registration.URL, token) {
				urls++
			}
		}
		Expect(urls).To(BeNumerically(">", 0), "the PBX must know the token of %s, or this test looks for the wrong thing", mapping.Name)
	}
	return secrets
}
