package integration_test

import (
	"context"
	"encoding/pem"
	"net/http/httptest"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/secrets"
)

var _ = Describe("A LinuxBox", func() {
	secret := func(ctx context.Context, namespace, name string, data map[string][]byte) *corev1.Secret {
		GinkgoHelper()
		made := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data}
		Expect(api.Create(ctx, made)).To(Succeed())
		return made
	}
	both := v1alpha1.LinuxBox{
		URL: "https://box.example.com", CredentialsSecretRef: &v1alpha1.SecretReference{Name: "box"},
		Database: &v1alpha1.LinuxBoxDatabase{CredentialsSecretRef: v1alpha1.SecretReference{Name: "database"}},
	}

	It("without an address is not asked", func(ctx SpecContext) {
		p := deploy(ctx, linuxBox(v1alpha1.LinuxBox{}))
		Expect(meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionPBXReachable)).To(BeNil())
		Expect(pbx.questions(p)).To(BeZero())
	})

	It("with an address is checked without credentials", func(ctx SpecContext) {
		p := deploy(ctx, linuxBox(v1alpha1.LinuxBox{URL: "https://box.example.com"}))
		shows(ctx, p, v1alpha1.ConditionPBXReachable, metav1.ConditionTrue, v1alpha1.ReasonPBXReachable)
		pbx.answer(p, func(credentials map[string][]byte) error {
			Expect(credentials).To(BeNil())
			return pbxapi.NewError(pbxapi.ErrUnauthorized, "ask", "")
		})
		poke(ctx, p)
		shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonCredentialsInvalid)
		Expect(message(p, ready)).To(ContainSubstring("credentialsSecretRef"))
	})

	It("notices what becomes of certificates in a ConfigMap", func(ctx SpecContext) {
		server := httptest.NewTLSServer(nil)
		DeferCleanup(server.Close)
		authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
		p := newIntegration(newNamespace(ctx), linuxBox(v1alpha1.LinuxBox{URL: "https://box.example.com"}), func(p *v1alpha1.PBXIntegration) {
			p.Spec.PBX.TLS = &v1alpha1.TLS{CABundle: v1alpha1.BundleReference{Kind: v1alpha1.BundleConfigMap, Name: "ca"}}
		})
		Expect(api.Create(ctx, p)).To(Succeed())
		shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonCredentialsMissing)
		Expect(message(p, ready)).To(ContainSubstring(`there is no ConfigMap "ca"`))
		bundle := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: "ca"}, Data: map[string]string{"ca.crt": authority}}
		Expect(api.Create(ctx, bundle)).To(Succeed())
		shows(ctx, p, v1alpha1.ConditionPBXReachable, metav1.ConditionTrue, v1alpha1.ReasonPBXReachable)
		bundle.Data["ca.crt"] = "unreadable"
		Expect(api.Update(ctx, bundle)).To(Succeed())
		now.advance(secrets.MaxAge)
		shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonCredentialsMissing)
		Expect(message(p, ready)).To(ContainSubstring("no certificate in PEM"))
	})

	It("names each Secret that is missing, and passes on what both hold", func(ctx SpecContext) {
		p := newIntegration(newNamespace(ctx), linuxBox(both))
		Expect(api.Create(ctx, p)).To(Succeed())
		shows(ctx, p, stalled, metav1.ConditionTrue, v1alpha1.ReasonCredentialsMissing)
		Expect(message(p, ready)).To(And(ContainSubstring(`"box"`), ContainSubstring("username and password, or header and value")))
		secret(ctx, p.Namespace, "box", map[string][]byte{"username": []byte("u"), "password": []byte("p")})
		Eventually(func(g Gomega) {
			g.Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
			g.Expect(message(p, ready)).To(And(ContainSubstring(`there is no Secret "database"`), ContainSubstring("key url")))
		}).Should(Succeed())
		database := secret(ctx, p.Namespace, "database", nil)
		Eventually(func(g Gomega) {
			g.Expect(api.Get(ctx, client.ObjectKeyFromObject(p), p)).To(Succeed())
			g.Expect(message(p, ready)).To(ContainSubstring(`Secret "database" lacks the key url`))
		}).Should(Succeed())

		seen := make(chan map[string][]byte, 100)
		pbx.answer(p, func(credentials map[string][]byte) error {
			seen <- credentials
			return nil
		})
		database.Data = map[string][]byte{"url": []byte("postgres://one")}
		Expect(api.Update(ctx, database)).To(Succeed())
		rollOut(ctx, p)
		shows(ctx, p, ready, metav1.ConditionTrue, v1alpha1.ReasonReconciled)
		want := map[string][]byte{"username": []byte("u"), "password": []byte("p"), pbxapi.KeyDatabaseURL: []byte("postgres://one")}
		Expect(seen).To(Receive(Equal(want)))

		By("asking again when the database moves")
		settled(p.Namespace)
		database.Data = map[string][]byte{"url": []byte("postgres://two")}
		Expect(api.Update(ctx, database)).To(Succeed())
		want[pbxapi.KeyDatabaseURL] = []byte("postgres://two")
		Eventually(seen).Should(Receive(Equal(want)))
	})
})
