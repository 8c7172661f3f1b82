package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// program is a binary that is built from a package of the module in components.
type program struct {
	name, pkg string
}

// programs are all that a cluster needs, and Helm to install a chart into it.
func programs() []program {
	return []program{
		{"etcd", "go.etcd.io/etcd/server/v3"},
		{"kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"},
		{"kubectl", "k8s.io/kubernetes/cmd/kubectl"},
		{"kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"},
		{"kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"},
		{"kubelet", "k8s.io/kubernetes/cmd/kubelet"},
		{"kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"},
		{"pause", "./pause"},
		{"provisioner", "./provisioner"},
		{"coredns", "./coredns"},
		{"selftest", "./selftest"},
		{"helm", "helm.sh/helm/v4/cmd/helm"},
	}
}

// programsNamed selects programs; no names select all.
func programsNamed(names []string) ([]program, error) {
	all := programs()
	if len(names) == 0 {
		return all, nil
	}
	var selected []program
	for _, name := range names {
		i := slices.IndexFunc(all, func(prog program) bool { return prog.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no program %q to build", name)
		}
		selected = append(selected, all[i])
	}
	return selected, nil
}

// build makes the binaries that are missing in the cache or were built from other sources. One run
// of the compiler makes all of them: their packages are compiled side by side, and one program is
// linked while the next is still compiled.
func build(ctx context.Context, c config, p progress, list []program) error {
	release, err := lock(ctx, "build", p)
	if err != nil {
		return err
	}
	defer release()
	stale, err := c.stale(list)
	if err != nil || len(stale) == 0 {
		return err
	}
	p.sayf("building %s", strings.Join(slices.Sorted(maps.Keys(stale)), ", "))
	began := time.Now()
	if err := c.compile(ctx, p, list, stale); err != nil {
		return fmt.Errorf("build the cluster's programs: %w", err)
	}
	p.sayf("built them in %s", time.Since(began).Round(time.Second))
	return nil
}

// stale maps the names of the programs that must be built to the digests of their sources.
func (c config) stale(list []program) (map[string]string, error) {
	found := map[string]string{}
	for _, prog := range list {
		sources, err := digest(c.components(), prog.pkg)
		if err != nil {
			return nil, err
		}
		content, err := os.ReadFile(c.digestFile(prog.name))
		if err != nil || string(content) != sources || !exists(c.binary(prog.name)) {
			found[prog.name] = sources
		}
	}
	return found, nil
}

func (c config) components() string { return filepath.Join(c.SourceDir, "components") }

func (c config) digestFile(name string) string {
	return filepath.Join(c.CacheDir, "stamps", name)
}

// digest tells what a binary is built from: the module's requirements, the
// package's own files if it is one of ours, the toolchain and its flags.
func digest(module, pkg string) (string, error) {
	files := []string{filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")}
	if strings.HasPrefix(pkg, "./") {
		files = append(files, matching(filepath.Join(module, pkg, "*.go"))...)
	}
	sum := sha256.New()
	_, _ = fmt.Fprintln(sum, runtime.Version(), runtime.GOARCH, linkerFlags())
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read the sources to build from: %w", err)
		}
		_, _ = fmt.Fprintf(sum, "%s %d\n%s", filepath.Base(file), len(content), content)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
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

// compile builds the stale programs of the list beside their targets and renames them, so that
// running binaries are replaced safely.
func (c config) compile(ctx context.Context, p progress, list []program, stale map[string]string) (err error) {
	if err := errors.Join(os.MkdirAll(c.binary(""), 0o750), os.MkdirAll(c.digestFile(""), 0o750)); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(c.CacheDir, "new-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	list = slices.DeleteFunc(slices.Clone(list), func(prog program) bool { return stale[prog.name] == "" })
	if err := c.goBuild(ctx, p, dir, list); err != nil {
		return err
	}
	for _, prog := range list {
		err = errors.Join(err, os.Rename(filepath.Join(dir, prog.output()), c.binary(prog.name)),
			os.WriteFile(c.digestFile(prog.name), []byte(stale[prog.name]), 0o600))
	}
	return err
}

// output is the name that go build gives to the binary.
func (prog program) output() string {
	name := path.Base(prog.pkg)
	if majorVersion.MatchString(name) {
		name = path.Base(path.Dir(prog.pkg))
	}
	return name
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// goBuild uses the compiler flags that a plain go build uses, so that the operator, its tests and
// the cluster share compiled packages.
func (c config) goBuild(ctx context.Context, p progress, dir string, list []program) error {
	packages := make([]string, 0, len(list))
	for _, prog := range list {
		packages = append(packages, prog.pkg)
	}
	total, err := c.countPackages(ctx, packages)
	if err != nil {
		return err
	}
	cmd := c.goCommand(ctx, append([]string{"build", "-v", "-ldflags", linkerFlags(), "-o", dir + "/"}, packages...)...)
	var out compilerOutput
	cmd.Stdout, cmd.Stderr = &out, &out
	what := func() string { return fmt.Sprintf("compiling: %d of at most %d packages", out.compiled.Load(), total) }
	if err := p.duringCounted(what, cmd.Run); err != nil {
		return fmt.Errorf("go build in %s: %w\n%s", cmd.Dir, err, out.errors.String())
	}
	return nil
}

func (c config) countPackages(ctx context.Context, packages []string) (int, error) {
	cmd := c.goCommand(ctx, append([]string{"list", "-deps"}, packages...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("go list in %s: %w\n%s", cmd.Dir, err, stderr.String())
	}
	return strings.Count(string(out), "\n"), nil
}

func (c config) goCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = c.components()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-buildvcs=false")
	endGently(cmd)
	return cmd
}

// compilerOutput counts the packages that go build -v names, one a line, and keeps what else it
// says but for downloads.
type compilerOutput struct {
	compiled atomic.Int64
	rest     []byte
	errors   strings.Builder
}

func (o *compilerOutput) Write(data []byte) (int, error) {
	o.rest = append(o.rest, data...)
	for {
		end := bytes.IndexByte(o.rest, '\n')
		if end < 0 {
			return len(data), nil
		}
		line := string(o.rest[:end])
		o.rest = o.rest[end+1:]
		switch {
		case strings.HasPrefix(line, "go: downloading"):
		case packageName.MatchString(line):
			o.compiled.Add(1)
		default:
			_, _ = fmt.Fprintln(&o.errors, line)
		}
	}
}

var packageName = regexp.MustCompile(`^[\w./~-]+$`)
