package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program that runs beside this one.
type process struct {
	name   string
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
}

// command says what to run.
type command struct {
	name string
	path string
	args []string
	env  []string
	dir  string
}

const (
	startTime     = 30 * time.Second
	startInterval = 50 * time.Millisecond
	stopTime      = 15 * time.Second
)

// start runs a command in a process group of its own, so that an interrupt at the terminal reaches
// this program only, which then stops the others in order.
func (b *bench) start(c command) (*process, error) {
	p := &process{name: c.name, log: filepath.Join(b.dir, c.name+".log"), exited: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", c.name, err)
	}
	p.cmd = exec.Command(c.path, c.args...) //nolint:noctx // stop ends it, in good order
	p.cmd.Env, p.cmd.Dir = append(os.Environ(), c.env...), c.dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start %s: %w", c.name, err), log.Close())
	}
	go func() {
		_ = p.cmd.Wait() // whoever waits for it looks at the log
		_ = log.Close()
		close(p.exited)
	}()
	return p, nil
}

// stop ends the process and waits for that.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.exited:
	case <-time.After(stopTime):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.exited
	}
}

// kill ends the process at once.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-p.exited
}

// alive returns an error with the end of the log if the process has ended.
func (p *process) alive() error {
	select {
	case <-p.exited:
		log, _ := os.ReadFile(p.log)
		return fmt.Errorf("%s has ended: %s", p.name, lastLines(log))
	default:
		return nil
	}
}

// await waits until the process answers a GET with success.
func (p *process) await(ctx context.Context, url string) error {
	return until(ctx, startTime, startInterval, p.name+" is to answer", func(ctx context.Context) (bool, error) {
		if err := p.alive(); err != nil {
			return false, err
		}
		_, err := fetch(ctx, url)
		return err == nil, nil
	})
}

// awaitPort waits until the process listens.
func (p *process) awaitPort(ctx context.Context, address string) error {
	return until(ctx, startTime, startInterval, p.name+" is to listen", func(ctx context.Context) (bool, error) {
		if err := p.alive(); err != nil {
			return false, err
		}
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return false, nil //nolint:nilerr // not yet
		}
		return true, connection.Close()
	})
}

// fetch gets a page.
func fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return io.ReadAll(response.Body)
}

// ticksPerSecond is the unit of times in /proc, the same on every Linux of today.
const ticksPerSecond = 100

// cpu is the processor time that the process has used so far: utime and stime of /proc/PID/stat.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(p.proc("stat"))
	if err != nil {
		return 0, fmt.Errorf("cannot read the processor time of %s: %w", p.name, err)
	}
	return parseCPU(string(text))
}

func parseCPU(stat string) (time.Duration, error) {
	_, rest, _ := strings.Cut(stat[max(strings.LastIndexByte(stat, ')'), 0):], " ")
	fields := strings.Fields(rest)
	const utime, stime = 14 - 3, 15 - 3 // rest begins with field 3
	if len(fields) <= stime {
		return 0, fmt.Errorf("cannot understand the processor time in %q", stat)
	}
	user, err := strconv.ParseInt(fields[utime], 10, 64)
	system, err2 := strconv.ParseInt(fields[stime], 10, 64)
	return time.Duration(user+system) * time.Second / ticksPerSecond, errors.Join(err, err2)
}

// memory reads a member of /proc/PID/status: VmRSS, the memory in use, or VmHWM, the most there
// ever was. MiB.
func (p *process) memory(member string) (float64, error) {
	text, err := os.ReadFile(p.proc("status"))
	if err != nil {
		return 0, fmt.Errorf("cannot read the memory of %s: %w", p.name, err)
	}
	return parseMemory(string(text), member)
}

func parseMemory(status, member string) (float64, error) {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, member+":"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("there is no %s in the status of the process", member)
}

func (p *process) proc(file string) string {
	return filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), file)
}
