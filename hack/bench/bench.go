package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const module = "github.com/pbx-operator/pbx-operator"

// bench is what all measurements share.
type bench struct {
	// root is the directory of the module.
	root string
	// dir is a temporary directory, gone at the end.
	dir   string
	begun time.Time
	// soak is for how long the pipeline is loaded.
	soak  time.Duration
	built map[string]bool
}

func newBench(ctx context.Context) (*bench, error) {
	root, err := output(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return nil, fmt.Errorf("bench must run inside the checkout: %w", err)
	}
	dir, err := os.MkdirTemp("", "pbx-bench-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a temporary directory: %w", err)
	}
	b := &bench{root: root, dir: dir, begun: time.Now(), built: map[string]bool{}}
	b.progressf("%d cores, %s", runtime.NumCPU(), runtime.Version())
	return b, nil
}

func (b *bench) close() { _ = os.RemoveAll(b.dir) }

// progressf tells a waiting user what is going on.
func (b *bench) progressf(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stderr, "bench %4.0fs  %s\n", time.Since(b.begun).Seconds(), fmt.Sprintf(format, args...))
}

// build compiles a command of this module and returns the path of the binary.
func (b *bench) build(ctx context.Context, name, folder string) (string, error) {
	binary := filepath.Join(b.dir, name)
	if b.built[name] {
		return binary, nil
	}
	b.progressf("building %s", name)
	if _, err := output(ctx, "go", "build", "-C", b.root, "-o", binary, folder); err != nil {
		return "", fmt.Errorf("cannot build %s: %w", name, err)
	}
	b.built[name] = true
	return binary, nil
}

// output runs a command and returns what it prints; what it complains of is in the error.
func output(ctx context.Context, name string, args ...string) (string, error) {
	text, err := exec.CommandContext(ctx, name, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, lastLines(exit.Stderr))
	}
	return strings.TrimSpace(string(text)), err
}

// lastLines is the end of a log, on one line.
func lastLines(log []byte) string {
	const enough = 400
	text := strings.Join(strings.Fields(string(log)), " ")
	if len(text) > enough {
		text = "…" + strings.ToValidUTF8(text[len(text)-enough:], "")
	}
	return text
}

// freeAddress is a loopback address that nobody listens on.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("cannot find a free port: %w", err)
	}
	address := listener.Addr().String()
	return address, listener.Close()
}

// until calls condition every interval until it returns true or an error, at most for limit.
func until(ctx context.Context, limit, interval time.Duration, what string, condition func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		done, err := condition(ctx)
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %s", what, limit)
		case <-ticker.C:
		}
	}
}
