package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// The cluster lives in the benchmarking range 198.18.0.0/15 (RFC 2544), which no
// site routes, so it cannot hide an address that somebody needs.
const (
	bridge         = "pbx-operator0"
	nodeAddress    = "198.18.0.1"
	nodeSubnet     = "198.18.0.1/24"
	podSubnet      = "198.18.16.0/20"
	clusterCIDR    = "198.18.0.0/16"
	serviceCIDR    = "198.19.0.0/16"
	serviceAddress = "198.19.0.1"
	dnsAddress     = "198.19.0.10"
	clusterRange   = "198.18.0.0/15"
)

const (
	// identity names what belongs to this cluster outside its own directories:
	// control groups, the nftables table, the CNI network, the lock.
	identity          = "pbx-operator-cluster"
	nodeName          = "local-node"
	kubernetesVersion = "v1.37.2"
	storageClass      = "standard"
	provisioner       = "pbx-operator.io/node-directory"
	pauseImage        = "localhost/pause:1"
	selftestImage     = "localhost/selftest:1"
)

// config is where things are. Its exported fields and methods are what the templates use.
type config struct {
	StateDir  string // survives a reboot: certificates, etcd, images, volumes, logs
	RunDir    string // sockets; short, because a socket's path is at most 107 bytes
	CacheDir  string // binaries; shared by all clones and kept by down
	SourceDir string // this program's source, which holds the modules to build

	Snapshotter string // of containerd
	CNIPlugins  string // directory
	Upstream    bool   // the machine has a name server to forward to
}

func newConfig() (config, error) {
	cache, err := cacheDir()
	if err != nil {
		return config{}, err
	}
	c := config{
		StateDir:  envOr("PBX_CLUSTER_STATE_DIR", "/var/lib/"+identity),
		RunDir:    envOr("PBX_CLUSTER_RUN_DIR", "/run/"+identity),
		CacheDir:  cache,
		SourceDir: sourceDir(),
	}
	for _, dir := range []string{c.StateDir, c.RunDir, c.CacheDir} {
		if !filepath.IsAbs(dir) || filepath.Dir(filepath.Clean(dir)) == "/" {
			return config{}, fmt.Errorf("directory %q: must be absolute and at least two levels deep, as it is deleted by down", dir)
		}
	}
	return c, nil
}

func cacheDir() (string, error) {
	if dir := os.Getenv("PBX_CLUSTER_CACHE_DIR"); dir != "" {
		return dir, nil
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return "", errors.New("no cache directory: set HOME or PBX_CLUSTER_CACHE_DIR")
	}
	return filepath.Join(user, "pbx-operator", "cluster", kubernetesVersion), nil
}

// sourceDir finds the source by the path that was compiled in, so that the
// program also works from elsewhere; a trimmed path leaves the working directory.
func sourceDir() string {
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		return filepath.Dir(file)
	}
	return "."
}

func envOr(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

func (c config) state(elem ...string) string {
	return filepath.Join(append([]string{c.StateDir}, elem...)...)
}

func (c config) binary(name string) string  { return filepath.Join(c.CacheDir, "bin", name) }
func (c config) logFile(name string) string { return c.state("logs", name+".log") }

// Kubeconfig is the administrator's.
func (c config) Kubeconfig() string { return c.state("kubeconfig") }

// PKI returns the path of a certificate or key.
func (c config) PKI(name string) string { return c.state("pki", name) }

// File returns the path of a rendered configuration file.
func (c config) File(name string) string { return c.state("config", name) }

// KubeconfigOf returns the path of a component's kubeconfig.
func (c config) KubeconfigOf(user string) string { return c.state("config", user+".kubeconfig") }

// Socket is containerd's.
func (c config) Socket() string { return filepath.Join(c.RunDir, "containerd.sock") }

// The names of constants, for templates.

func (config) NodeName() string     { return nodeName }
func (config) NodeAddress() string  { return nodeAddress }
func (config) PodSubnet() string    { return podSubnet }
func (config) ClusterCIDR() string  { return clusterCIDR }
func (config) DNSAddress() string   { return dnsAddress }
func (config) Identity() string     { return identity }
func (config) StorageClass() string { return storageClass }
func (config) Provisioner() string  { return provisioner }
func (config) PauseImage() string   { return pauseImage }

// SelftestImage is loaded by the self-test.
func (config) SelftestImage() string { return selftestImage }
