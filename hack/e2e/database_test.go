package e2e

import (
	"context"
	"io"
	"net"
	"net/url"
	"os"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/postgres"
)

// Only where pods reach the machine that this suite runs on do they reach a database there;
// hack/cluster is such a cluster.
var _ = Describe("The database of a LinuxBox", func() {
	if os.Getenv("CLUSTER_COMMAND") == "" {
		return
	}
	It("tells busy from cancelled, and makes up for events that were lost", func(ctx context.Context) {
		s := newSiteOf(ctx, linuxBox)
		address := database(ctx)
		Expect(s.pbx.Patch(ctx, map[string]any{"database": address})).To(Succeed())
		Expect(cluster.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "database"}, StringData: map[string]string{"url": address},
		})).To(Succeed())
		s.connect(ctx, func(p *v1alpha1.PBXIntegration) {
			p.Spec.PBX.LinuxBox.Database = &v1alpha1.LinuxBoxDatabase{CredentialsSecretRef: v1alpha1.SecretReference{Name: "database"}}
		})
		s.expectCall(ctx, expectation{"L1", []string{"Inbound 2025550143 10 ann Completed Answered 60s logged"}})

		busy := s.call(ctx, "L4")
		Eventually(func() []string { return s.legs(ctx, busy) }, "3m").Should(ConsistOf("Outbound 10 2025550143 ann Completed Busy"))

		calls, err := s.pbx.Place(ctx, simclient.CallRequest{
			Scenario: "L4", Speed: 60, Wait: true, Delivery: &delivery.Options{Loss: 1},
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(calls[0].Delivered()).To(BeZero())
		Eventually(func() []string { return s.legs(ctx, calls[0]) }, "3m").Should(ConsistOf("Outbound 10 2025550143 ann Completed Busy"))
	})
})

// database starts a PostgreSQL and returns its address for pods.
func database(ctx context.Context) string {
	GinkgoHelper()
	server, err := postgres.Start(ctx, postgres.Options{Settings: []string{"fsync=off"}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(server.Stop)
	local, err := server.Create(ctx, "asterisk")
	Expect(err).NotTo(HaveOccurred())
	address, err := url.Parse(local)
	Expect(err).NotTo(HaveOccurred())
	address.Host = forward(ctx, nodeAddress(ctx), address.Host)
	return address.String()
}

func nodeAddress(ctx context.Context) string {
	GinkgoHelper()
	var nodes corev1.NodeList
	Expect(cluster.List(ctx, &nodes)).To(Succeed())
	for _, address := range nodes.Items[0].Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return address.Address
		}
	}
	Fail("the node has no internal address")
	return ""
}

// forward leads connections to an address of this machine on to another one, and returns where it
// listens.
func forward(ctx context.Context, host, target string) string {
	GinkgoHelper()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { _ = listener.Close() })
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			go join(ctx, in, target)
		}
	}()
	return listener.Addr().String()
}

func join(ctx context.Context, in net.Conn, target string) {
	defer func() { _ = in.Close() }()
	out, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	go func() { _, _ = io.Copy(out, in) }()
	_, _ = io.Copy(in, out)
}
