package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	apiURL  = "https://" + nodeAddress + ":6443"
	etcdURL = "https://127.0.0.1:12379"
)

// component is one process of the cluster.
type component struct {
	name    string
	command []string
	// How it shows that it works: a URL that answers 200, or a socket that
	// accepts. With neither, being alive is enough.
	healthURL, socket string
	deadline          time.Duration // from start to healthy
	grace             time.Duration // from being asked to stop until it is killed; 0 means stopGrace
}

// components lists the cluster's processes in the order of their start; they stop in reverse.
func components(c config) []component {
	return []component{
		etcd(c),
		{
			name:     "containerd",
			command:  []string{"containerd", "--config", c.File("containerd.toml")},
			socket:   c.Socket(),
			deadline: time.Minute,
		},
		apiserver(c),
		controllerManager(c),
		{
			name: "kube-scheduler",
			command: []string{
				c.binary("kube-scheduler"),
				"--kubeconfig=" + c.KubeconfigOf("kube-scheduler"),
				"--authentication-kubeconfig=" + c.KubeconfigOf("kube-scheduler"),
				"--authorization-kubeconfig=" + c.KubeconfigOf("kube-scheduler"),
				"--bind-address=" + nodeAddress,
				"--tls-cert-file=" + c.PKI("node.crt"),
				"--tls-private-key-file=" + c.PKI("node.key"),
				"--leader-elect=false",
			},
			healthURL: "https://" + nodeAddress + ":10259/healthz",
			deadline:  time.Minute,
		},
		{
			name: "provisioner",
			command: []string{
				c.binary("provisioner"),
				"-kubeconfig=" + c.KubeconfigOf("provisioner"),
				"-provisioner=" + provisioner, "-node=" + nodeName,
				"-root=" + c.state("volumes"),
			},
			deadline: time.Minute,
		},
		{
			name:      "coredns",
			command:   []string{c.binary("coredns"), "-conf", c.File("Corefile")},
			healthURL: "http://" + nodeAddress + ":8181/ready",
			deadline:  time.Minute,
		},
		{
			name:      "kube-proxy",
			command:   []string{c.binary("kube-proxy"), "--config=" + c.File("kube-proxy.yaml")},
			healthURL: "http://" + nodeAddress + ":10256/livez",
			deadline:  time.Minute,
		},
		{
			name: "kubelet",
			command: []string{
				c.binary("kubelet"),
				"--config=" + c.File("kubelet.yaml"),
				"--kubeconfig=" + c.KubeconfigOf("kubelet"),
				"--hostname-override=" + nodeName,
				"--node-ip=" + nodeAddress,
				"--root-dir=" + c.state("kubelet"),
				"--cert-dir=" + c.state("kubelet", "pki"),
			},
			healthURL: "http://" + nodeAddress + ":10248/healthz",
			deadline:  2 * time.Minute,
		},
	}
}

func etcd(c config) component {
	const peerURL = "https://127.0.0.1:12380"
	cert, key, ca := c.PKI("node.crt"), c.PKI("node.key"), c.PKI("ca.crt")
	return component{
		name: "etcd",
		command: []string{
			c.binary("etcd"),
			"--name=" + nodeName, "--data-dir=" + c.state("etcd"),
			"--listen-client-urls=" + etcdURL, "--advertise-client-urls=" + etcdURL,
			"--listen-peer-urls=" + peerURL, "--initial-advertise-peer-urls=" + peerURL,
			"--initial-cluster=" + nodeName + "=" + peerURL,
			"--cert-file=" + cert, "--key-file=" + key, "--trusted-ca-file=" + ca, "--client-cert-auth",
			"--peer-cert-file=" + cert, "--peer-key-file=" + key, "--peer-trusted-ca-file=" + ca, "--peer-client-cert-auth",
			"--listen-metrics-urls=http://127.0.0.1:12381",
			"--log-level=warn",
		},
		healthURL: "http://127.0.0.1:12381/health",
		deadline:  time.Minute,
	}
}

func apiserver(c config) component {
	return component{
		name: "kube-apiserver",
		command: []string{
			c.binary("kube-apiserver"),
			"--bind-address=" + nodeAddress, "--secure-port=6443", "--advertise-address=" + nodeAddress,
			"--tls-cert-file=" + c.PKI("node.crt"), "--tls-private-key-file=" + c.PKI("node.key"),
			"--client-ca-file=" + c.PKI("ca.crt"),
			"--etcd-servers=" + etcdURL, "--etcd-cafile=" + c.PKI("ca.crt"),
			"--etcd-certfile=" + c.PKI("node.crt"), "--etcd-keyfile=" + c.PKI("node.key"),
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--service-account-key-file=" + c.PKI("accounts.pub"),
			"--service-account-signing-key-file=" + c.PKI("accounts.key"),
			"--service-cluster-ip-range=" + serviceCIDR,
			"--kubelet-certificate-authority=" + c.PKI("ca.crt"),
			"--kubelet-client-certificate=" + c.PKI("kube-apiserver.crt"),
			"--kubelet-client-key=" + c.PKI("kube-apiserver.key"),
			"--kubelet-preferred-address-types=InternalIP",
			"--requestheader-client-ca-file=" + c.PKI("front-proxy-ca.crt"),
			"--requestheader-allowed-names=front-proxy",
			"--requestheader-username-headers=X-Remote-User",
			"--requestheader-group-headers=X-Remote-Group",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--proxy-client-cert-file=" + c.PKI("front-proxy.crt"),
			"--proxy-client-key-file=" + c.PKI("front-proxy.key"),
			"--allow-privileged=true",
			"--delete-collection-workers=16",
			"--profiling=false",
		},
		healthURL: apiURL + "/readyz",
		deadline:  2 * time.Minute,
		// It would wait for the watches of the other components, which stay.
		grace: 3 * time.Second,
	}
}

func controllerManager(c config) component {
	kubeconfig := c.KubeconfigOf("kube-controller-manager")
	return component{
		name: "kube-controller-manager",
		command: []string{
			c.binary("kube-controller-manager"),
			"--kubeconfig=" + kubeconfig,
			"--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
			"--bind-address=" + nodeAddress,
			"--tls-cert-file=" + c.PKI("node.crt"), "--tls-private-key-file=" + c.PKI("node.key"),
			"--client-ca-file=" + c.PKI("ca.crt"),
			"--root-ca-file=" + c.PKI("ca.crt"),
			"--service-account-private-key-file=" + c.PKI("accounts.key"),
			"--cluster-signing-cert-file=" + c.PKI("ca.crt"), "--cluster-signing-key-file=" + c.PKI("ca.key"),
			"--use-service-account-credentials=true",
			"--flex-volume-plugin-dir=" + c.state("volume-plugins"),
			"--leader-elect=false",
			// While the API server is away the node looks lost, and its pods
			// would leave their Services. There is no other node to move to.
			"--node-monitor-grace-period=5m",
			"--kube-api-qps=100", "--kube-api-burst=200",
		},
		healthURL: "https://" + nodeAddress + ":10257/healthz",
		deadline:  time.Minute,
	}
}

// prober asks components whether they work.
type prober struct {
	client *http.Client
}

func newProber(c config) (prober, error) {
	ca, err := os.ReadFile(c.PKI("ca.crt"))
	if err != nil {
		return prober{}, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	cert, err := tls.LoadX509KeyPair(c.PKI("kube-apiserver.crt"), c.PKI("kube-apiserver.key"))
	if err != nil {
		return prober{}, err
	}
	return prober{client: &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
			// Each probe must see the process that runs now.
			DisableKeepAlives: true,
		},
	}}, nil
}

// check returns nil if the component answers as it should.
func (p prober) check(ctx context.Context, comp component) error {
	switch {
	case comp.healthURL != "":
		return p.get(ctx, comp.healthURL)
	case comp.socket != "":
		conn, err := new(net.Dialer).DialContext(ctx, "unix", comp.socket)
		if err != nil {
			return err
		}
		return conn.Close()
	default:
		return nil
	}
}

func (p prober) get(ctx context.Context, url string) (err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 512))
		return fmt.Errorf("%s answers %s: %s", url, response.Status, body)
	}
	return nil
}
