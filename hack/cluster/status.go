package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
)

var errUnhealthy = errors.New("not all of the cluster works: up starts what is missing, the logs tell why it is")

// status prints each component, how it is and where its log is. It fails if the
// cluster is not whole, so that scripts can ask.
func (cl cluster) status(ctx context.Context, out io.Writer) error {
	if err := requireRoot(); err != nil {
		return err
	}
	found, err := cl.condition()
	if err != nil {
		return err
	}
	if found == absent {
		return errNoCluster
	}
	probe, err := newProber(cl.config)
	if err != nil {
		return fmt.Errorf("read the cluster's certificates: %w", err)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "COMPONENT\tSTATE\tPID\tMEMORY\tLOG")
	whole := true
	for _, comp := range components(cl.config) {
		pid, err := cl.processes.find(comp.name)
		if err != nil {
			return err
		}
		state := "stopped"
		if pid != 0 {
			state = healthWord(probe.check(ctx, comp))
		}
		whole = whole && state == "healthy"
		_, _ = fmt.Fprintf(table, "%s\t%s\t%d\t%d MiB\t%s\n", comp.name, state, pid, cl.processes.residentMiB(pid), cl.config.logFile(comp.name))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\nkubeconfig  %s\nbinaries    %s\nstate       %s\n", cl.config.Kubeconfig(), cl.config.CacheDir, cl.config.StateDir)
	if err == nil && !whole {
		err = errUnhealthy
	}
	return err
}

func healthWord(err error) string {
	if err != nil {
		return "unhealthy"
	}
	return "healthy"
}
