package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroups are the cluster's control groups, one in each hierarchy of the
// machine. All that runs in the cluster is below them, pods and container shims
// included, so the kernel itself keeps the list of what to end.
type cgroups struct {
	roots []string // …/pbx-operator-cluster in each hierarchy
	node  string   // where the node's own processes are
}

func findCgroups() (cgroups, error) {
	mounts, err := readMounts()
	if err != nil {
		return cgroups{}, err
	}
	return selectCgroups(mounts)
}

// selectCgroups tracks processes in the pids hierarchy of cgroup v1 or in the
// only one of v2; the other v1 hierarchies are left to the kubelet.
func selectCgroups(mounts []mount) (cgroups, error) {
	var g cgroups
	var unified string
	for _, m := range mounts {
		root := filepath.Join(m.point, identity)
		switch {
		case slices.Contains(g.roots, root):
			continue
		case m.kind == "cgroup2":
			unified = root
		case m.kind == "cgroup" && slices.Contains(strings.Split(m.options, ","), "pids"):
			g.node = filepath.Join(root, "node")
		case m.kind != "cgroup":
			continue
		}
		g.roots = append(g.roots, root)
	}
	if g.node == "" && unified != "" {
		g.node = filepath.Join(unified, "node")
	}
	if g.node == "" {
		return cgroups{}, errors.New("no control groups: mount cgroup v2, or v1 with the pids controller, on /sys/fs/cgroup")
	}
	return g, nil
}

func (g cgroups) create() error {
	for _, root := range g.roots {
		if err := os.MkdirAll(root, 0o755); err != nil {
			return fmt.Errorf("make control group: %w", err)
		}
	}
	return os.MkdirAll(g.node, 0o755)
}

func (g cgroups) join(pid int) error {
	procs := filepath.Join(g.node, "cgroup.procs")
	return os.WriteFile(procs, []byte(strconv.Itoa(pid)), 0o600)
}

func (g cgroups) exist() bool {
	return slices.ContainsFunc(g.roots, exists)
}

// pods are the groups that the kubelet made.
func (g cgroups) pods() []string {
	groups := make([]string, 0, len(g.roots))
	for _, root := range g.roots {
		groups = append(groups, filepath.Join(root, "kubepods"))
	}
	return groups
}

// kill ends every process in and below the groups.
func (cgroups) kill(groups []string, limit time.Duration) error {
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		pids, err := members(groups)
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("processes %v of the cluster do not end", pids)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
	}
}

// remove deletes the groups, the innermost first.
func (g cgroups) remove() error {
	var failed []error
	for _, root := range g.roots {
		dirs, err := directoriesBelow(root)
		if err != nil {
			return err
		}
		slices.Reverse(dirs)
		for _, dir := range dirs {
			if err := removeGroup(dir); err != nil {
				failed = append(failed, err)
			}
		}
	}
	return errors.Join(failed...)
}

// removeGroup waits for the kernel, which may hold a group for a moment after its last process.
func removeGroup(dir string) (err error) {
	for range 50 {
		if err = os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

func members(groups []string) ([]int, error) {
	var pids []int
	for _, group := range groups {
		dirs, err := directoriesBelow(group)
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			content, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			if err != nil {
				continue // removed meanwhile
			}
			for field := range strings.FieldsSeq(string(content)) {
				// 0 stands for a process outside of our PID namespace.
				if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
					pids = append(pids, pid)
				}
			}
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// directoriesBelow lists root and all directories in it, parents first.
func directoriesBelow(root string) ([]string, error) {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case entry.IsDir():
			dirs = append(dirs, path)
		}
		return nil
	})
	return dirs, err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
