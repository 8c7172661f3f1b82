package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// cluster puts the parts together.
type cluster struct {
	config    config
	processes processes
	progress  progress
}

// condition is what there is of a cluster on this machine.
type condition int

const (
	absent  condition = iota // nothing at all
	running                  // every process runs
	partial                  // some processes run: one was stopped, or crashed
	dead                     // none runs, but something was left behind
)

// classify is the decision on what up has to do.
func classify(alive, total int, remains bool) condition {
	switch {
	case alive == total:
		return running
	case alive > 0:
		return partial
	case remains:
		return dead
	default:
		return absent
	}
}

func (cl cluster) condition() (condition, error) {
	list := components(cl.config)
	alive := 0
	for _, comp := range list {
		pid, err := cl.processes.find(comp.name)
		if err != nil {
			return absent, err
		}
		if pid != 0 {
			alive++
		}
	}
	return classify(alive, len(list), leftovers(cl.config, cl.processes.groups)), nil
}

// up starts the cluster. One that runs is left as it is; missing
// processes are started again; one without any process is replaced by a new one,
// because its remains may be damaged.
func (cl cluster) up(ctx context.Context) error {
	if err := requireRoot(); err != nil {
		return err
	}
	release, err := lock(ctx, "cluster", cl.progress)
	if err != nil {
		return err
	}
	defer release()
	found, err := cl.condition()
	if err != nil {
		return err
	}
	switch found {
	case running:
		cl.progress.sayf("the cluster runs already")
	case partial:
		cl.progress.sayf("the cluster runs, but not all of it")
	case dead:
		cl.progress.sayf("removing what an earlier cluster left behind")
		if err := clean(ctx, cl.config, cl.processes.groups); err != nil {
			return fmt.Errorf("remove what an earlier cluster left behind: %w", err)
		}
		fallthrough
	case absent:
		if err := cl.create(ctx); err != nil {
			return err
		}
	}
	if err := cl.startAll(ctx); err != nil {
		return err
	}
	cl.progress.sayf("cluster is up: export KUBECONFIG=%s", cl.config.Kubeconfig())
	return nil
}

func requireRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("a cluster needs root: it mounts, makes network interfaces and control groups; run this as root")
	}
	return nil
}

// create makes everything that must be there before the first process starts.
func (cl cluster) create(ctx context.Context) error {
	c := cl.config
	if err := installPackages(ctx, cl.progress); err != nil {
		return err
	}
	if err := build(ctx, c, cl.progress, programs()); err != nil {
		return err
	}
	if err := checkRange(); err != nil {
		return err
	}
	certificates, err := newPKI(time.Now())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.StateDir, 0o755); err != nil {
		return err
	}
	if err := captureHost().save(c.hostStateFile()); err != nil {
		return err
	}
	files, err := render(c.detect(), certificates)
	if err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(c.RunDir, 0o700), writeFiles(files)); err != nil {
		return err
	}
	return prepareHost(ctx, c, cl.processes.groups)
}

// detect adds what depends on the machine.
func (c config) detect() config {
	c.Snapshotter = "overlayfs"
	var fs syscall.Statfs_t
	const overlayMagic = 0x794c7630
	if err := syscall.Statfs(c.StateDir, &fs); err == nil && fs.Type == overlayMagic {
		c.Snapshotter = "native" // overlayfs does not stack on itself
	}
	c.CNIPlugins = filepath.Dir(requirement{file: "ptp", dirs: cniDirs}.locate())
	content, err := os.ReadFile("/etc/resolv.conf")
	c.Upstream = err == nil && strings.Contains("\n"+string(content), "\nnameserver ")
	return c
}

// startAll starts what does not run and waits for all of it. What others need
// comes first; the rest starts together.
func (cl cluster) startAll(ctx context.Context) error {
	list := components(cl.config)
	stages := []struct {
		names []string // empty: all
		after func(context.Context) error
	}{
		{names: []string{"etcd", "containerd"}, after: cl.importPause},
		{names: []string{"kube-apiserver"}, after: cl.applyAddons},
		{after: cl.awaitNode},
	}
	for _, stage := range stages {
		batch := slices.DeleteFunc(slices.Clone(list), func(comp component) bool {
			return len(stage.names) > 0 && !slices.Contains(stage.names, comp.name)
		})
		if err := cl.startTogether(ctx, batch); err != nil {
			return err
		}
		if err := stage.after(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settling is how long a component must stay healthy to count as started: some say
// that they are ready just before they fail.
const settling = 200 * time.Millisecond

// startTogether starts those that do not run, then waits until all are healthy.
func (cl cluster) startTogether(ctx context.Context, list []component) error {
	probe, err := newProber(cl.config)
	if err != nil {
		return err
	}
	anyStarted := false
	for _, comp := range list {
		started, err := cl.startOne(comp)
		if err != nil {
			return err
		}
		anyStarted = anyStarted || started
	}
	if err := cl.awaitAll(ctx, probe, list); err != nil || !anyStarted {
		return err
	}
	time.Sleep(settling)
	return cl.awaitAll(ctx, probe, list)
}

func (cl cluster) startOne(comp component) (started bool, err error) {
	pid, err := cl.processes.find(comp.name)
	if err != nil || pid != 0 {
		return false, err
	}
	cl.progress.sayf("starting %s", comp.name)
	if err := cl.processes.start(comp.name, comp.command, cl.config.logFile(comp.name)); err != nil {
		return false, cl.explain(comp.name, err)
	}
	return true, nil
}

func (cl cluster) awaitAll(ctx context.Context, probe prober, list []component) error {
	for _, comp := range list {
		if err := cl.awaitHealth(ctx, probe, comp); err != nil {
			return err
		}
	}
	return nil
}

func (cl cluster) awaitHealth(ctx context.Context, probe prober, comp component) error {
	err := cl.progress.during("waiting for "+comp.name, func() error {
		return until(ctx, comp.deadline, func(ctx context.Context) error {
			pid, err := cl.processes.find(comp.name)
			if err != nil {
				return err
			}
			if pid == 0 {
				return errEnded
			}
			return probe.check(ctx, comp)
		})
	})
	if err != nil {
		return cl.explain(comp.name, err)
	}
	return nil
}

// explain adds to an error where the log of the component is and how it ends.
func (cl cluster) explain(name string, err error) error {
	log := cl.config.logFile(name)
	return fmt.Errorf("%s does not work: %w\nlast lines of %s:\n%s", name, err, log, tail(log, 15))
}

func (cl cluster) kubectl(ctx context.Context, args ...string) (string, error) {
	env := []string{"KUBECONFIG=" + cl.config.Kubeconfig(), "KUBECACHEDIR=" + cl.config.state("kubectl-cache")}
	return output(ctx, env, append([]string{cl.config.binary("kubectl")}, args...)...)
}

// applyAddons retries, as the API server answers before all of its groups do.
func (cl cluster) applyAddons(ctx context.Context) error {
	if exists(cl.config.state("addons-applied")) {
		return nil
	}
	cl.progress.sayf("applying add-ons")
	err := until(ctx, time.Minute, func(ctx context.Context) error {
		_, err := cl.kubectl(ctx, "apply", "--server-side", "--filename", cl.config.File("addons.yaml"))
		return err
	})
	if err != nil {
		return fmt.Errorf("apply add-ons: %w", err)
	}
	return os.WriteFile(cl.config.state("addons-applied"), nil, 0o600)
}

// awaitNode waits until a pod could run.
func (cl cluster) awaitNode(ctx context.Context) error {
	err := cl.progress.during("waiting for the node", func() error {
		return until(ctx, 2*time.Minute, func(ctx context.Context) error {
			ready, err := cl.kubectl(ctx, "get", "node", nodeName, "--output", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
			if err == nil && ready != "True" {
				err = errors.New("the node is not ready")
			}
			if err != nil {
				return err
			}
			_, err = cl.kubectl(ctx, "get", "serviceaccount", "default", "--namespace", "default")
			return err
		})
	})
	if err != nil {
		return cl.explain("kubelet", err)
	}
	return nil
}

// stopNamed and startNamed serve tests that take a component away for a while.
func (cl cluster) stopNamed(ctx context.Context, name string) error {
	return cl.named(ctx, name, func(comp component) error {
		cl.progress.sayf("stopping %s", comp.name)
		return cl.stopOne(comp)
	})
}

func (cl cluster) startNamed(ctx context.Context, name string) error {
	return cl.named(ctx, name, func(comp component) error {
		return cl.startTogether(ctx, []component{comp})
	})
}

func (cl cluster) named(ctx context.Context, name string, do func(component) error) error {
	if err := requireRoot(); err != nil {
		return err
	}
	release, err := lock(ctx, "cluster", cl.progress)
	if err != nil {
		return err
	}
	defer release()
	list := components(cl.config)
	i := slices.IndexFunc(list, func(comp component) bool { return comp.name == name })
	if i < 0 {
		return fmt.Errorf("no component %q: one of %s", name, strings.Join(componentNames(list), ", "))
	}
	if !exists(cl.config.Kubeconfig()) {
		return errNoCluster
	}
	return do(list[i])
}

var errNoCluster = errors.New("no cluster on this machine: start one with up")

func componentNames(list []component) []string {
	names := make([]string, 0, len(list))
	for _, comp := range list {
		names = append(names, comp.name)
	}
	return names
}
