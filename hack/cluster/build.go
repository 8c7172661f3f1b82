package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// program is a binary that is built from a Go module below the source directory.
type program struct {
	name, module, pkg string
}

// programs are all that a cluster needs, those of envtest first.
func programs() []program {
	return []program{
		{"etcd", "kubernetes", "go.etcd.io/etcd/server/v3"},
		{"kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"},
		{"kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl"},
		{"kube-controller-manager", "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"},
		{"kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"},
		{"kubelet", "kubernetes", "k8s.io/kubernetes/cmd/kubelet"},
		{"kube-proxy", "kubernetes", "k8s.io/kubernetes/cmd/kube-proxy"},
		{"pause", "addons", "./pause"},
		{"provisioner", "addons", "./provisioner"},
		{"coredns", "addons", "./coredns"},
		{"selftest", "addons", "./selftest"},
	}
}

// envtestPrograms are what KUBEBUILDER_ASSETS must hold.
func envtestPrograms() []program { return programs()[:3] }

// build makes the binaries that are missing in the cache or were built from other sources.
func build(ctx context.Context, c config, p progress, list []program) error {
	release, err := lock(ctx, "build", p)
	if err != nil {
		return err
	}
	defer release()
	for i, prog := range list {
		sources, err := stamp(filepath.Join(c.SourceDir, prog.module), prog.pkg)
		if err != nil {
			return err
		}
		if current(c, prog, sources) {
			continue
		}
		p.sayf("building %s (%d of %d)", prog.name, i+1, len(list))
		began := time.Now()
		if err := p.during("building "+prog.name, func() error { return compile(ctx, c, prog, sources) }); err != nil {
			return fmt.Errorf("build %s: %w", prog.name, err)
		}
		p.sayf("built %s in %s", prog.name, time.Since(began).Round(time.Second))
	}
	return nil
}

func stampFile(c config, prog program) string {
	return filepath.Join(c.CacheDir, "stamps", prog.name)
}

func current(c config, prog program, stamp string) bool {
	content, err := os.ReadFile(stampFile(c, prog))
	return err == nil && string(content) == stamp && exists(c.binary(prog.name))
}

// stamp digests what a binary is built from: the module's requirements, the
// package's own files if it is one of ours, the toolchain and its flags.
func stamp(module, pkg string) (string, error) {
	files := []string{filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")}
	if strings.HasPrefix(pkg, "./") {
		files = append(files, matching(filepath.Join(module, pkg, "*.go"))...)
	}
	digest := sha256.New()
	_, _ = fmt.Fprintln(digest, runtime.Version(), runtime.GOARCH, linkerFlags())
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read the sources to build from: %w", err)
		}
		_, _ = fmt.Fprintf(digest, "%s %d\n%s", filepath.Base(file), len(content), content)
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// linkerFlags state the version, without which kubectl and others cannot parse it.
func linkerFlags() string {
	minor := strings.Split(kubernetesVersion, ".")[1]
	var flags strings.Builder
	flags.WriteString("-s -w")
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, value := range []string{"gitVersion=" + kubernetesVersion, "gitMajor=1", "gitMinor=" + minor, "gitTreeState=clean"} {
			flags.WriteString(" -X " + pkg + "." + value)
		}
	}
	return flags.String()
}

// compile builds beside the target and renames, so that a running binary is replaced safely.
func compile(ctx context.Context, c config, prog program, stamp string) error {
	binary, mark := c.binary(prog.name), stampFile(c, prog)
	if err := errors.Join(os.MkdirAll(filepath.Dir(binary), 0o750), os.MkdirAll(filepath.Dir(mark), 0o750)); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", linkerFlags(), "-o", binary+".new", prog.pkg)
	cmd.Dir = filepath.Join(c.SourceDir, prog.module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	endGently(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build in %s: %w\n%s", cmd.Dir, err, withoutDownloads(string(out)))
	}
	return errors.Join(os.Rename(binary+".new", binary), os.WriteFile(mark, []byte(stamp), 0o600))
}

// withoutDownloads drops the lines that would bury an error.
func withoutDownloads(out string) string {
	var kept strings.Builder
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "go: downloading") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}
