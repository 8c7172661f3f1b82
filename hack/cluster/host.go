package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// tunedSettings are the kernel settings that the cluster or its components change.
var tunedSettings = []string{
	"net/ipv4/ip_forward",
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// hostState is what the machine was like before the cluster, to be restored by down.
type hostState struct {
	Settings map[string]string `json:"settings"`
}

func (c config) hostStateFile() string { return c.state("host.json") }

func captureHost() hostState {
	s := hostState{Settings: map[string]string{}}
	for _, name := range tunedSettings {
		if value, err := os.ReadFile(settingPath(name)); err == nil {
			s.Settings[name] = strings.TrimSpace(string(value))
		}
	}
	return s
}

func settingPath(name string) string { return filepath.Join("/proc/sys", name) }

func (s hostState) save(path string) error {
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

func loadHostState(path string) (s hostState, err error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(content, &s)
}

func (s hostState) restore() error {
	var failed []error
	for name, value := range s.Settings {
		now, err := os.ReadFile(settingPath(name))
		if err == nil && strings.TrimSpace(string(now)) != value {
			failed = append(failed, os.WriteFile(settingPath(name), []byte(value), 0o600))
		}
	}
	return errors.Join(failed...)
}

// prepareHost makes what the components expect to find: forwarding, the node's
// address on a bridge without ports, the masquerading rule, the control groups.
func prepareHost(ctx context.Context, c config, groups cgroups) error {
	if err := os.WriteFile(settingPath("net/ipv4/ip_forward"), []byte("1"), 0o600); err != nil {
		return fmt.Errorf("allow forwarding: %w", err)
	}
	for _, command := range [][]string{
		{"ip", "link", "add", bridge, "type", "bridge"},
		{"ip", "address", "add", nodeSubnet, "dev", bridge},
		{"ip", "link", "set", bridge, "up"},
		{"nft", "-f", c.File("masquerade.nft")},
	} {
		if err := runQuietly(ctx, command...); err != nil {
			return err
		}
	}
	return groups.create()
}

// checkRange fails if the machine already uses addresses of the cluster.
func checkRange() error {
	interfaces, err := interfacesIn(netip.MustParsePrefix(clusterRange))
	if err != nil || len(interfaces) == 0 {
		return err
	}
	return fmt.Errorf("interface %s has an address in %s, which the cluster needs", interfaces[0], clusterRange)
}

// interfacesIn lists the network interfaces with an address in the range.
func interfacesIn(prefix netip.Prefix) ([]string, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			continue // it went away
		}
		if slices.ContainsFunc(addresses, func(a net.Addr) bool { return within(prefix, a) }) {
			names = append(names, i.Name)
		}
	}
	return names, nil
}

func within(prefix netip.Prefix, address net.Addr) bool {
	parsed, err := netip.ParsePrefix(address.String())
	return err == nil && prefix.Contains(parsed.Addr().Unmap())
}

// removeNetwork deletes the pods' interfaces, the bridge and the nftables tables.
func removeNetwork(ctx context.Context) error {
	interfaces, err := interfacesIn(netip.MustParsePrefix(podSubnet))
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range append(interfaces, bridge) {
		if exists("/sys/class/net/" + name) {
			failed = append(failed, ignoreIf(runQuietly(ctx, "ip", "link", "delete", name), func() bool { return !exists("/sys/class/net/" + name) }))
		}
	}
	if _, err := exec.LookPath("nft"); err != nil {
		return errors.Join(failed...) // then nothing can have made a table
	}
	for _, table := range []string{"ip " + identity, "ip kube-proxy", "ip6 kube-proxy"} {
		family, name, _ := strings.Cut(table, " ")
		if runQuietly(ctx, "nft", "list", "table", family, name) == nil {
			failed = append(failed, runQuietly(ctx, "nft", "delete", "table", family, name))
		}
	}
	return errors.Join(failed...)
}

// ignoreIf forgives an error when what was wanted has come about anyway.
func ignoreIf(err error, fine func() bool) error {
	if err != nil && fine() {
		return nil
	}
	return err
}

// leftovers reports whether anything of an earlier cluster is on the machine.
func leftovers(c config, groups cgroups) bool {
	return exists(c.StateDir) || exists(c.RunDir) || exists("/sys/class/net/"+bridge) || groups.exist()
}

// clean removes all that a cluster leaves, whatever state it is in. The cluster's
// own processes should have been stopped; what is left of them is killed.
func clean(ctx context.Context, c config, groups cgroups) error {
	if err := groups.kill(groups.roots, 20*time.Second); err != nil {
		return err
	}
	before, err := loadHostState(c.hostStateFile())
	if err != nil {
		return err
	}
	removeSharedFiles(c)
	if err := unmountBelow(c.StateDir, c.RunDir); err != nil {
		return err
	}
	return errors.Join(
		removeNetwork(ctx),
		groups.remove(),
		before.restore(),
		os.RemoveAll(c.RunDir),
		os.RemoveAll(c.StateDir), // last: it holds what is needed to try again
	)
}

// removeSharedFiles deletes our files from directories that components cannot be
// told to avoid, and the directories if they are empty then: another container
// runtime or kubelet may use them too. Whether it succeeds matters to nobody.
func removeSharedFiles(c config) {
	for _, file := range matching(c.RunDir + "/containerd/io.containerd.runtime.v2.task/*/*/address") {
		if address, err := os.ReadFile(file); err == nil {
			_ = os.Remove(strings.TrimPrefix(strings.TrimSpace(string(address)), "unix://"))
		}
	}
	for _, file := range matching("/var/lib/cni/results/" + identity + "-*-eth0") {
		id := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), identity+"-"), "-eth0")
		_ = os.Remove(file)
		_ = os.Remove("/var/lib/cni/results/cni-loopback-" + id + "-lo")
	}
	for _, link := range matching("/var/log/containers/*.log") {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, c.StateDir+"/") {
			_ = os.Remove(link)
		}
	}
	const devicePlugins = "/var/lib/kubelet/device-plugins"
	if nobodyListens(devicePlugins + "/kubelet.sock") {
		_ = os.Remove(devicePlugins + "/kubelet.sock")
	}
	for _, dir := range []string{devicePlugins, "/var/lib/kubelet", "/run/containerd/s", "/run/containerd", "/var/lib/cni/results", "/var/lib/cni", "/var/log/containers"} {
		_ = os.Remove(dir) // fails if it is not empty
	}
}

func nobodyListens(socket string) bool {
	conn, err := net.DialTimeout("unix", socket, time.Second) //nolint:noctx // a local socket accepts or refuses at once
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	_ = conn.Close()
	return false
}

// matching lists the files that match a well-formed pattern.
func matching(pattern string) []string {
	files, _ := filepath.Glob(pattern)
	return files
}

// runQuietly runs a command; its output appears only in the error.
func runQuietly(ctx context.Context, command ...string) error {
	_, err := output(ctx, nil, command...)
	return err
}

// endGently lets a command clean up when the context is cancelled.
func endGently(cmd *exec.Cmd) {
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
}

// output runs a command and returns what it prints.
func output(ctx context.Context, env []string, command ...string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	endGently(cmd)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, strings.TrimSpace(stderr.String()+stdout.String()))
	}
	return stdout.String(), nil
}

// lock waits until this is the only run of the program that builds ("build") or
// changes the cluster ("cluster"). An abstract socket leaves no file behind and
// is released by the kernel, however the program ends.
func lock(ctx context.Context, what string, p progress) (release func(), err error) {
	var listener net.Listener
	take := func(ctx context.Context) (err error) {
		listener, err = new(net.ListenConfig).Listen(ctx, "unix", "@"+identity+"-"+what)
		return err
	}
	if err = take(ctx); err != nil {
		p.sayf("waiting for another run of this program to finish (%s)", what)
		err = p.during("waiting for the other run", func() error { return until(ctx, 30*time.Minute, take) })
	}
	if err != nil {
		return nil, fmt.Errorf("another run of this program does not finish: %w", err)
	}
	return func() { _ = listener.Close() }, nil
}
