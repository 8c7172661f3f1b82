// Command cluster runs a real single-node Kubernetes on this machine, built from
// Go modules: no registry, no virtual machine, no download beyond the module
// proxy and a few Debian packages.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `Usage: go run . COMMAND

  up                               start the cluster; does nothing if it runs
  down                             remove it and all it made, except the built binaries
  status                           show components, memory and logs; fails if something is not healthy
  kubeconfig                       print the path of the administrator's kubeconfig
  load NAME:TAG BINARY [FILE...]   make an image of a static binary and load it into the cluster
  image [-o TAR] NAME:TAG BINARY [FILE...]
                                   only write the image, in the format of docker save
  stop COMPONENT                   take a component away, as a test may want to
  start COMPONENT                  bring it back and wait until it works
  selftest                         prove that pods, Services, DNS, volumes and RBAC work
  build [PROGRAM...]               only build programs, all if none is named; print the directory they are in
  envtest                          build etcd, kube-apiserver and kubectl; print their directory, for KUBEBUILDER_ASSETS

A FILE is put into the image at /NAME; SOURCE=/PATH puts it elsewhere. Relative
paths are relative to the working directory.

Environment: PBX_CLUSTER_STATE_DIR, PBX_CLUSTER_RUN_DIR, PBX_CLUSTER_CACHE_DIR.
`

var errUsage = errors.New("see the usage above")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted; the same command can be given again")
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return help()
	}
	c, err := newConfig()
	if err != nil {
		return err
	}
	// Not every login's PATH has the directories of ip, nft and runc.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin"); err != nil {
		return err
	}
	p := progress{out: os.Stderr, start: time.Now()}
	switch command, args := args[0], args[1:]; command {
	case "kubeconfig":
		fmt.Println(c.Kubeconfig())
		return nil
	case "build":
		return buildCommand(ctx, c, p, args)
	case "envtest":
		return buildCommand(ctx, c, p, []string{"etcd", "kube-apiserver", "kubectl"})
	case "image":
		return imageCommand(args)
	default:
		return runOnCluster(ctx, c, p, command, args)
	}
}

func runOnCluster(ctx context.Context, c config, p progress, command string, args []string) error {
	procs, err := newProcesses(c)
	if err != nil {
		return err
	}
	cl := cluster{config: c, processes: procs, progress: p}
	switch {
	case command == "up" && len(args) == 0:
		return cl.up(ctx)
	case command == "down" && len(args) == 0:
		return cl.down(ctx)
	case command == "status" && len(args) == 0:
		return cl.status(ctx, os.Stdout)
	case command == "selftest" && len(args) == 0:
		return cl.selftest(ctx, os.Stdout)
	case command == "stop" && len(args) == 1:
		return cl.stopNamed(ctx, args[0])
	case command == "start" && len(args) == 1:
		return cl.startNamed(ctx, args[0])
	case command == "load" && len(args) >= 2:
		return cl.load(ctx, args[0], args[1], args[2:])
	default:
		return help()
	}
}

// buildCommand prints the directory of the programs that it built.
func buildCommand(ctx context.Context, c config, p progress, names []string) error {
	list, err := programsNamed(names)
	if err != nil {
		return err
	}
	if err := build(ctx, c, p, list); err != nil {
		return err
	}
	fmt.Println(c.binary(""))
	return nil
}

func imageCommand(args []string) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	out := flags.String("o", "image.tar", "file to write")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() < 2 {
		return help()
	}
	return writeImage(flags.Arg(0), flags.Arg(1), flags.Args()[2:], *out)
}

func help() error {
	fmt.Fprint(os.Stderr, usage)
	return errUsage
}
