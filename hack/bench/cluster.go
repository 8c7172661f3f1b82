package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// namespace of all objects.
const namespace = "default"

// api is a real etcd and kube-apiserver with our kinds.
type api struct {
	environment *envtest.Environment
	config      *rest.Config
	client      client.Client
}

func (b *bench) startAPI() (*api, error) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return nil, errors.New("KUBEBUILDER_ASSETS must name the directory with etcd and kube-apiserver: use `make bench`")
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("cannot make a scheme: %w", err)
	}
	b.progressf("starting etcd and kube-apiserver")
	a := &api{environment: &envtest.Environment{
		CRDDirectoryPaths: []string{filepath.Join(b.root, "config", "crd", "bases")}, ErrorIfCRDPathMissing: true,
	}}
	config, err := a.environment.Start()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start etcd and kube-apiserver: %w", err), a.environment.Stop())
	}
	a.config = rest.CopyConfig(config)
	a.config.QPS = -1 // the server is to be the limit
	if a.client, err = client.New(a.config, client.Options{Scheme: scheme}); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make a client: %w", err), a.environment.Stop())
	}
	return a, nil
}

func (a *api) stop() { _ = a.environment.Stop() } // its directory is temporary, and gone with it

// kubeconfig writes a file by which other processes reach the API server.
func (a *api) kubeconfig(b *bench) (string, error) {
	path := filepath.Join(b.dir, "kubeconfig")
	return path, os.WriteFile(path, a.environment.KubeConfig, 0o600)
}
