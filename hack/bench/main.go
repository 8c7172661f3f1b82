// Command bench measures the numbers that the project promises and prints them as a table, each
// with its target and a verdict. What is compared runs on the same machine in the same minute, in
// turn. README.md tells how each number comes about.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// timeLimit bounds a whole run, the soak apart; it takes about eight minutes.
const timeLimit = 20 * time.Minute

// group is rows that are measured together.
type group struct {
	name    string
	rows    []row
	measure func(context.Context, *bench, *sheet) error
}

func groups() []group {
	return []group{ingestGroup(), pipelineGroup(), costGroup(), correlationGroup(), publishGroup(), mappingsGroup()}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	if len(args) > 0 && args[0] == serveCommand {
		return serve(ctx, args[1:])
	}
	all := groups()
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "groups to measure, comma separated: "+names(all)+"; default: all")
	strict := flags.Bool("strict", false, "exit with 1 also if a target is missed; on a machine with other work that says little")
	soak := flags.Duration("soak", defaultSoak, "for how long the pipeline is loaded; 10m for a soak")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	chosen, err := choose(all, *only)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, cancel := context.WithTimeout(ctx, timeLimit+*soak)
	defer cancel()
	quietLibraries()
	b, err := newBench(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	b.soak = *soak
	var rows []row
	var others []string
	for _, g := range chosen {
		measured, busy := b.measure(ctx, g)
		rows, others = append(rows, measured...), append(others, g.name+" "+number(busy))
	}
	b.close()
	printTable(os.Stdout, rows)
	fmt.Printf("\nOf %d cores, other work on this machine had on average: %s. The more it was, the less the values say.\n",
		runtime.NumCPU(), strings.Join(others, ", "))
	return exitCode(rows, *strict)
}

// measure measures one group. It tells also how many cores were busy with other work meanwhile.
func (b *bench) measure(ctx context.Context, g group) (rows []row, others float64) {
	b.progressf("== %s", g.name)
	s := &sheet{rows: slices.Clone(g.rows)}
	before, err := now()
	if err == nil {
		err = g.measure(ctx, b, s)
	}
	after, err2 := now()
	switch err = errors.Join(err, err2); {
	case ctx.Err() != nil:
		s.fail(fmt.Errorf("the run was ended early: %w", ctx.Err()))
	case err != nil:
		s.fail(err)
	}
	return s.rows, after.othersSince(before)
}

// quietLibraries keeps the logs of the Kubernetes libraries out of the progress; what matters comes
// back as an error.
func quietLibraries() {
	ctrllog.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
}

func choose(all []group, only string) ([]group, error) {
	if only == "" {
		return all, nil
	}
	var chosen []group
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(g group) bool { return g.name == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("there is no group %q: choose of %s", name, names(all))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func names(all []group) string {
	list := make([]string, len(all))
	for i, g := range all {
		list[i] = g.name
	}
	return strings.Join(list, ", ")
}
