package main

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// stopGrace is how long most components may take to end.
const stopGrace = 20 * time.Second

// down removes the cluster and everything it made, except the cached binaries.
// It needs nothing to be intact, so it also clears away what a crash left.
func (cl cluster) down(ctx context.Context) error {
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
	if found == absent {
		cl.progress.sayf("no cluster on this machine")
		return nil
	}
	if found == running {
		cl.deleteWorkloads(ctx)
	}
	for _, comp := range slices.Backward(components(cl.config)) {
		cl.progress.sayf("stopping %s", comp.name)
		if err := cl.stopOne(comp); err != nil {
			return err
		}
		if comp.name == "kubelet" {
			// Pods that did not end in time; now nobody starts them again.
			if err := cl.processes.groups.kill(cl.processes.groups.pods(), 20*time.Second); err != nil {
				return err
			}
		}
	}
	cl.progress.sayf("removing mounts, interfaces, control groups and files")
	if err := clean(ctx, cl.config, cl.processes.groups); err != nil {
		return err
	}
	cl.progress.sayf("cluster is down; the built binaries stay in %s", cl.config.CacheDir)
	return nil
}

// deleteWorkloads lets pods end in their own way, within limits. What does not
// end is killed later, so failing is only worth a word.
func (cl cluster) deleteWorkloads(ctx context.Context) {
	cl.progress.sayf("deleting workloads")
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	owners := "deployments,statefulsets,daemonsets,replicasets,replicationcontrollers,jobs,cronjobs"
	_, err := cl.kubectl(ctx, "delete", owners, "--all", "--all-namespaces", "--wait=false", "--cascade=background")
	if err == nil {
		_, err = cl.kubectl(ctx, "delete", "pods", "--all", "--all-namespaces", "--grace-period=5", "--timeout=20s")
	}
	if err != nil {
		cl.progress.sayf("not all workloads ended by themselves: %v", err)
	}
}

func (cl cluster) stopOne(comp component) error {
	return cl.processes.stop(comp.name, cmp.Or(comp.grace, stopGrace))
}
