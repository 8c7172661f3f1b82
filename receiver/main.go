// The receiver takes a PBX's call events, makes them durable, correlates them into call legs and
// publishes the legs.
//
//	receiver serve    takes events
//	receiver replay   derives legs from captured requests, without a cluster
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/pbx-operator/pbx-operator/receiver/replay"
)

const (
	exitFailure = 1
	exitUsage   = 2
)

const usage = `Usage:
  receiver serve  --integration NAME [flags]   take events and publish call legs
  receiver replay --pbx TYPE [flags] FILE…     derive call legs from captured requests
  receiver COMMAND --help                      flags of a command
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		_, _ = io.WriteString(stderr, usage)
		return exitUsage
	}
	switch args[0] {
	case "serve":
		return serve(ctx, args[1:], stderr)
	case "replay":
		return replay.Run(ctx, args[1:], stdout, stderr)
	case "help", "-h", "--help":
		_, _ = io.WriteString(stdout, usage)
		return 0
	default:
		_, _ = fmt.Fprintf(stderr, "unknown command %q\n%s", args[0], usage)
		return exitUsage
	}
}
