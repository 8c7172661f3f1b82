package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// requirement is a file that must be found in one of the directories, or on the
// PATH if there are none, and the Debian package that has it.
type requirement struct {
	file, debian string
	dirs         []string
}

var cniDirs = []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}

func requirements() []requirement {
	return []requirement{
		{file: "containerd", debian: "containerd"},
		{file: "containerd-shim-runc-v2", debian: "containerd"},
		{file: "ctr", debian: "containerd"},
		{file: "runc", debian: "runc"},
		{file: "nft", debian: "nftables"},
		{file: "ip", debian: "iproute2"},
		{file: "ptp", debian: "containernetworking-plugins", dirs: cniDirs},
		{file: "host-local", debian: "containernetworking-plugins", dirs: cniDirs},
		{file: "loopback", debian: "containernetworking-plugins", dirs: cniDirs},
	}
}

// locate returns the path of the file, or "".
func (r requirement) locate() string {
	if len(r.dirs) == 0 {
		path, err := exec.LookPath(r.file)
		if err != nil {
			return ""
		}
		return path
	}
	for _, dir := range r.dirs {
		if path := filepath.Join(dir, r.file); exists(path) {
			return path
		}
	}
	return ""
}

// missingPackages lists the Debian packages of what is not on the machine.
func missingPackages() []string {
	var missing []string
	for _, r := range requirements() {
		if r.locate() == "" && !slices.Contains(missing, r.debian) {
			missing = append(missing, r.debian)
		}
	}
	return missing
}

func installPackages(ctx context.Context, p progress) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	names := strings.Join(missing, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("missing, and there is no apt-get to install it: please install what Debian calls %s", names)
	}
	p.sayf("installing Debian packages: %s", names)
	restore, err := forbidServices()
	if err != nil {
		return err
	}
	defer restore()
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	return p.during("installing "+names, func() error {
		if _, err := output(ctx, env, "apt-get", "update"); err != nil {
			return err
		}
		_, err := output(ctx, env, append([]string{"apt-get", "install", "--yes", "--no-install-recommends"}, missing...)...)
		if err != nil {
			return err
		}
		if left := missingPackages(); len(left) > 0 {
			return fmt.Errorf("installed, but still without the files of %s", strings.Join(left, " "))
		}
		return nil
	})
}

// forbidServices keeps Debian from starting the services of what is installed:
// the cluster runs its own containerd.
func forbidServices() (restore func(), err error) {
	const policy = "/usr/sbin/policy-rc.d"
	if exists(policy) {
		return func() {}, nil
	}
	err = os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil // not a system with services
	}
	return func() { _ = os.Remove(policy) }, err
}
