package v1alpha1_test

import (
	"context"
	"os"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

var (
	cluster *envtest.Environment
	config  *rest.Config
	kube    client.Client
)

func TestAPI(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "API")
}

var _ = BeforeSuite(func() {
	Expect(os.Getenv("KUBEBUILDER_ASSETS")).NotTo(BeEmpty(),
		"KUBEBUILDER_ASSETS must name the directory with etcd and kube-apiserver: run `make test`, or set it to the output of `go run . envtest` in hack/cluster")
	Expect(v1alpha1.AddToScheme(scheme.Scheme)).To(Succeed())
	cluster = &envtest.Environment{CRDDirectoryPaths: []string{"../../config/crd/bases"}, ErrorIfCRDPathMissing: true}
	var err error
	config, err = cluster.Start()
	Expect(err).NotTo(HaveOccurred(), "the schemas must be accepted by a real API server")
	kube, err = client.New(config, client.Options{})
	Expect(err).NotTo(HaveOccurred())
})

var _ = AfterSuite(func() {
	if config != nil {
		Expect(cluster.Stop()).To(Succeed())
	}
})

// manifest parses YAML as kubectl does: nothing is added to what is written.
func manifest(text string) *unstructured.Unstructured {
	GinkgoHelper()
	object := &unstructured.Unstructured{}
	Expect(yaml.UnmarshalStrict([]byte(text), &object.Object)).To(Succeed())
	object.SetNamespace("default")
	return object
}

// create makes an object that is gone again after the test.
func create(ctx context.Context, object client.Object) {
	GinkgoHelper()
	Expect(kube.Create(ctx, object)).To(Succeed())
	DeferCleanup(func(ctx context.Context) { Expect(client.IgnoreNotFound(kube.Delete(ctx, object))).To(Succeed()) })
}
