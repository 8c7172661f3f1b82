package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// require finds a program, and installs the Debian packages that hold it where it is missing.
func (b *bench) require(ctx context.Context, program string, packages ...string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	if err := b.install(ctx, packages...); err != nil {
		return "", fmt.Errorf("%s is missing: %w", program, err)
	}
	return exec.LookPath(program)
}

func (b *bench) install(ctx context.Context, packages ...string) error {
	advice := fmt.Errorf("install %s by hand", strings.Join(packages, " and "))
	if os.Geteuid() != 0 {
		return fmt.Errorf("only root can install packages; %w", advice)
	}
	b.progressf("installing %s", strings.Join(packages, " "))
	if err := aptGet(ctx, append([]string{"install", "-y"}, packages...)...); err == nil {
		return nil
	}
	err := aptGet(ctx, "update") // the lists may be older than the packages they name
	if err == nil {
		err = aptGet(ctx, append([]string{"install", "-y"}, packages...)...)
	}
	if err != nil {
		return errors.Join(advice, err)
	}
	return nil
}

func aptGet(ctx context.Context, args ...string) error {
	_, err := output(ctx, "env", append([]string{"DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"}, args...)...)
	return err
}
