package publishtest

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

func TestPublish(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(time.Minute) // the machine may be busy
	RunSpecs(t, "Publication")
}

var cluster *server

var _ = BeforeSuite(func(ctx context.Context) {
	var err error
	cluster, err = startServer(ctx)
	Expect(err).NotTo(HaveOccurred())
})

var _ = AfterSuite(func() {
	if cluster != nil {
		Expect(cluster.environment.Stop()).To(Succeed())
	}
})
