package main

import (
	"archive/tar"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

var testConfig = config{
	StateDir: "/state", RunDir: "/run/x", CacheDir: "/cache",
	Snapshotter: "overlayfs", CNIPlugins: "/cni", Upstream: true,
}

func TestClassify(t *testing.T) {
	for _, tc := range []struct {
		name    string
		alive   int
		remains bool
		want    condition
	}{
		{"bare machine", 0, false, absent},
		{"all processes killed", 0, true, dead},
		{"one component stopped", 2, true, partial},
		{"all well", 3, true, running},
	} {
		if got := classify(tc.alive, 3, tc.remains); got != tc.want {
			t.Errorf("%s: got %d, want %d", tc.name, got, tc.want)
		}
	}
}

func TestBelowSelectsOnlyOurMountsLastFirst(t *testing.T) {
	const mountinfo = `25 1 254:0 / / rw,relatime - ext4 /dev/vda rw
60 25 254:0 /data /state rw shared:7 master:1 - ext4 /dev/vda rw
61 25 0:50 / /state/kubelet/pods/a/volumes/token rw shared:8 - tmpfs tmpfs rw
62 25 254:0 /home /state/kubelet/pods/a/volume-subpaths/with\040blank rw - ext4 /dev/vda rw
63 25 0:51 / /state-of-others/x rw - tmpfs tmpfs rw
64 25 0:52 / /run/x/containerd/rootfs rw - overlay overlay rw
`
	mounts, err := parseMounts(mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/run/x/containerd/rootfs",
		"/state/kubelet/pods/a/volume-subpaths/with blank",
		"/state/kubelet/pods/a/volumes/token",
	}
	if diff := cmp.Diff(want, below(mounts, "/state", "/run/x")); diff != "" {
		t.Error(diff)
	}
	if _, err := parseMounts("no hyphen\n"); err == nil {
		t.Error("a malformed line is accepted")
	}
}

func TestSelectCgroups(t *testing.T) {
	v1 := []mount{
		{point: "/cg/cpu", kind: "cgroup", options: "rw,cpu"},
		{point: "/cg/pids", kind: "cgroup", options: "rw,pids"},
	}
	v2 := mount{point: "/cg/unified", kind: "cgroup2", options: "rw"}
	for _, tc := range []struct {
		name   string
		mounts []mount
		node   string
		roots  int
	}{
		{"v1", v1, "/cg/pids/" + identity + "/node", 2},
		{"v2", []mount{v2}, "/cg/unified/" + identity + "/node", 1},
		{"hybrid", append([]mount{v2}, v1...), "/cg/pids/" + identity + "/node", 3},
	} {
		g, err := selectCgroups(tc.mounts)
		if err != nil || g.node != tc.node || len(g.roots) != tc.roots {
			t.Errorf("%s: got %+v, %v", tc.name, g, err)
		}
	}
	if _, err := selectCgroups(nil); err == nil {
		t.Error("a machine without control groups is accepted")
	}
}

func TestParseStatSurvivesStrangeNames(t *testing.T) {
	line := "12 (a) b (c) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 4096 1"
	start, state, err := parseStat([]byte(line))
	if err != nil || start != 777 || state != 'S' {
		t.Errorf("got start %d, state %c, %v", start, state, err)
	}
}

func testProcesses(t *testing.T) processes {
	t.Helper()
	dir := t.TempDir()
	return processes{dir: filepath.Join(dir, "processes"), proc: "/proc", groups: cgroups{node: dir}}
}

func TestProcessIsFoundAndStopped(t *testing.T) {
	p := testProcesses(t)
	if err := p.start("sleeper", []string{"sleep", "600"}, filepath.Join(p.dir, "log")); err != nil {
		t.Fatal(err)
	}
	if pid, err := p.find("sleeper"); err != nil || pid == 0 {
		t.Fatalf("find: %d, %v", pid, err)
	}
	if err := p.stop("sleeper", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if pid, err := p.find("sleeper"); err != nil || pid != 0 {
		t.Errorf("after stop, find: %d, %v", pid, err)
	}
	if err := p.stop("sleeper", time.Second); err != nil {
		t.Errorf("second stop: %v", err)
	}
}

// A process id is used again sooner or later; whoever has it then must live.
func TestStopSparesProcessWithReusedID(t *testing.T) {
	p := testProcesses(t)
	stranger := exec.CommandContext(t.Context(), "sleep", "600")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	start, _, err := p.stat(stranger.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := p.bootID()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []record{
		{Name: "old", PID: stranger.Process.Pid, StartTime: start - 1, BootID: boot},
		{Name: "old", PID: stranger.Process.Pid, StartTime: start, BootID: "another boot"},
	} {
		content, err := json.Marshal(r)
		if err := errors.Join(err, os.MkdirAll(p.dir, 0o700), os.WriteFile(p.file("old"), content, 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := p.stop("old", time.Second); err != nil {
			t.Errorf("stop: %v", err)
		}
		if _, state, err := p.stat(stranger.Process.Pid); err != nil || state == 'Z' {
			t.Fatalf("the stranger was killed: state %c, %v", state, err)
		}
	}
}

func TestRender(t *testing.T) {
	certificates, err := newPKI(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	files, err := render(testConfig, certificates)
	if err != nil {
		t.Fatal(err)
	}
	if network := files[testConfig.File("cni/"+identity+".conflist")]; !json.Valid(network) {
		t.Errorf("the CNI configuration is no JSON:\n%s", network)
	}
	for user := range users {
		path := testConfig.KubeconfigOf(user)
		if user == "admin" {
			path = "/state/kubeconfig"
		}
		if !strings.Contains(string(files[path]), "server: "+apiURL+"\n") {
			t.Errorf("the kubeconfig of %s does not lead to the API server", user)
		}
	}
	for _, comp := range components(testConfig) {
		for _, arg := range comp.command {
			requireRendered(t, files, comp.name, arg)
		}
	}
	offline := testConfig
	offline.Upstream = false
	if files, err = render(offline, certificates); err != nil {
		t.Fatal(err)
	}
	if corefile := string(files[offline.File("Corefile")]); strings.Contains(corefile, "forward") {
		t.Errorf("CoreDNS would not start without a name server to forward to:\n%s", corefile)
	}
}

// requireRendered catches a component that is pointed to a file nobody writes.
func requireRendered(t *testing.T, files map[string][]byte, component, arg string) {
	t.Helper()
	_, value, flag := strings.Cut(arg, "=")
	if !flag {
		value = arg
	}
	for _, dir := range []string{"/state/pki/", "/state/config/"} {
		if _, written := files[value]; strings.HasPrefix(value, dir) && !written {
			t.Errorf("%s reads %s, which is not written", component, value)
		}
	}
}

func TestNodeCertificateServesItsNames(t *testing.T) {
	certificates, err := newPKI(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificates.ca.cert)
	block, _ := pem.Decode(certificates.node.cert)
	node, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{nodeAddress, serviceAddress, "kubernetes.default.svc"} {
		if _, err := node.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStaticImage(t *testing.T) {
	files := []imageFile{
		{path: "/app", mode: 0o755, content: []byte("binary")},
		{path: "/etc/app/settings", mode: 0o644, content: []byte("x")},
	}
	image, err := staticImage("/app", files)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if settings.Config.User != "65532:65532" || !cmp.Equal(settings.Config.Entrypoint, []string{"/app"}) {
		t.Errorf("runs %v as %s", settings.Config.Entrypoint, settings.Config.User)
	}
	got := map[string]int64{}
	reader := tar.NewReader(mutate.Extract(image))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[header.Name] = header.Mode
	}
	want := map[string]int64{
		"tmp": 0o1777, "etc": 0o755, "etc/passwd": 0o644, "etc/group": 0o644,
		"app": 0o755, "etc/app": 0o755, "etc/app/settings": 0o644,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	again, err := staticImage("/app", files)
	if err != nil {
		t.Fatal(err)
	}
	first, err1 := image.Digest()
	second, err2 := again.Digest()
	if err := errors.Join(err1, err2); err != nil || first != second {
		t.Errorf("the same files give different images: %s, %s, %v", first, second, err)
	}
}

func TestImageRefusesDynamicBinary(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	err = writeImage("example:1", shell, nil, filepath.Join(t.TempDir(), "image.tar"))
	if err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("got %v", err)
	}
}

func TestDigestFollowsSources(t *testing.T) {
	module := t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(module, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	digestOf := func(pkg string) string {
		s, err := digest(module, pkg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	write("go.mod", "module x")
	write("go.sum", "")
	write("a/main.go", "package main")
	write("b/main.go", "package main")
	a, b := digestOf("./a"), digestOf("./b")
	write("a/main.go", "package main // changed")
	if digestOf("./a") == a {
		t.Error("a changed source leaves the digest as it was")
	}
	if digestOf("./b") != b {
		t.Error("another package's source changes the digest")
	}
	write("go.mod", "module x // changed")
	if digestOf("./b") == b {
		t.Error("changed requirements leave the digest as it was")
	}
}

func TestOutputIsTheNameThatGoBuildGives(t *testing.T) {
	for pkg, want := range map[string]string{
		"go.etcd.io/etcd/server/v3":            "server",
		"k8s.io/kubernetes/cmd/kube-apiserver": "kube-apiserver",
		"./coredns":                            "coredns",
	} {
		if got := (program{pkg: pkg}).output(); got != want {
			t.Errorf("%s: got %s, want %s", pkg, got, want)
		}
	}
}

func TestCompilerOutputCountsPackagesAndKeepsErrors(t *testing.T) {
	var out compilerOutput
	for _, part := range []string{
		"go: downloading k8s.io/api v0.37.2\nk8s.io/api/co", "re/v1\ngopkg.in/yaml.v3\n", "# example.com/x\nx.go:1:2: undefined: y\n",
	} {
		if n, err := out.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := out.compiled.Load(); got != 2 {
		t.Errorf("%d packages counted instead of 2", got)
	}
	if diff := cmp.Diff("# example.com/x\nx.go:1:2: undefined: y\n", out.errors.String()); diff != "" {
		t.Error(diff)
	}
}

// A module that the operator and the cluster have at two versions is compiled twice, and so is all
// that imports it: with client-go that costs minutes of a first run.
func TestOperatorAndClusterShareModuleVersions(t *testing.T) {
	operator, components := requiredVersions(t, "../.."), requiredVersions(t, "components")
	for module, version := range operator {
		if other, ok := components[module]; ok && other != version {
			t.Errorf("%s is %s in go.mod and %s in hack/cluster/components/go.mod: raise the older one with go get", module, version, other)
		}
	}
	if got := components["k8s.io/kubernetes"]; got != kubernetesVersion {
		t.Errorf("kubernetesVersion is %s, components/go.mod has %s", kubernetesVersion, got)
	}
}

func requiredVersions(t *testing.T, dir string) map[string]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	type module struct{ Path, Version string }
	var mod struct {
		Require []module
		Replace []struct{ Old, New module }
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, required := range mod.Require {
		versions[required.Path] = required.Version
	}
	for _, replaced := range mod.Replace {
		versions[replaced.Old.Path] = replaced.New.Version
	}
	return versions
}
