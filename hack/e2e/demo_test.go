package e2e

import (
	"context"
	"os"
	"os/exec"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// madeByDemo is the label of the namespaces that the demo made.
const madeByDemo = "app.kubernetes.io/part-of"

var _ = Describe("the demo in a cluster that others use, too", Serial, func() {
	It("leaves an operator that it did not install, and the PBXs of that one", func(ctx context.Context) {
		others := newSite(ctx)
		others.connect(ctx)
		before := others.state(ctx)

		kubectl(ctx, "label", "namespace", systemNamespace, madeByDemo+"-")
		DeferCleanup(func(ctx context.Context) {
			kubectl(ctx, "label", "namespace", systemNamespace, madeByDemo+"=pbx-operator-demo")
		})
		out, err := runDemo(ctx, "install", others.namespace)
		Expect(err).To(HaveOccurred(), "the demo upgrades an operator that is not its own")
		Expect(out).To(ContainSubstring("that the demo did not make"))
		Expect(others.state(ctx)).To(Equal(before))

		out, err = runDemo(ctx, "down", others.namespace)
		Expect(err).NotTo(HaveOccurred(), out)
		Expect(others.state(ctx)).To(Equal(before))
	})

	It("removes its own PBXs only, and keeps its operator for those of others", func(ctx context.Context) {
		others, own := newSite(ctx), newSite(ctx)
		others.connect(ctx)
		own.connect(ctx)
		kubectl(ctx, "label", "namespace", own.namespace, madeByDemo+"=pbx-operator-demo")
		before := others.state(ctx)

		out, err := runDemo(ctx, "down", own.namespace)
		Expect(err).NotTo(HaveOccurred(), out)
		Expect(out).To(ContainSubstring("The operator stays"))
		Expect(others.state(ctx)).To(Equal(before))
		Expect(kubectl(ctx, "get", "namespace", own.namespace, "--ignore-not-found")).To(BeEmpty())
	})
})

// runDemo runs a script of the demo as if namespace were the one it keeps its PBXs in.
func runDemo(ctx context.Context, script, namespace string) (string, error) {
	cmd := exec.CommandContext(ctx, "../demo/"+script)
	cmd.Env = append(os.Environ(), "PBX_DEMO_NAMESPACE="+namespace)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// state is what must not change when the demo comes and goes: the operator, its definitions, and
// what the site declared.
func (s *site) state(ctx context.Context) string {
	GinkgoHelper()
	const identity = "custom-columns=:.kind,:.metadata.name,:.metadata.uid,:.metadata.generation"
	return strings.Join([]string{
		kubectl(ctx, "get", "crd", "--no-headers", "-o", identity),
		kubectl(ctx, "-n", systemNamespace, "get", "deployments", "--no-headers", "-o", identity),
		kubectl(ctx, "-n", s.namespace, "get", "pbxintegrations,extensionmappings", "--no-headers", "-o", identity),
		strings.Join(s.urls(ctx), "\n"),
	}, "\n")
}
