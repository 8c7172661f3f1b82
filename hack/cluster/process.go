package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// record identifies a process that this program started. A process id alone
// could by now belong to somebody else; together with its start time and the
// boot it cannot.
type record struct {
	Name      string `json:"name"`
	PID       int    `json:"pid"`
	StartTime uint64 `json:"startTime"` // clock ticks after boot, field 22 of /proc/PID/stat
	BootID    string `json:"bootID"`
}

// processes starts, finds and stops recorded processes.
type processes struct {
	dir    string // of the records
	proc   string // /proc
	groups cgroups
}

func newProcesses(c config) (processes, error) {
	groups, err := findCgroups()
	return processes{dir: c.state("processes"), proc: "/proc", groups: groups}, err
}

// start runs the command in its own session, so that it outlives this program
// and no terminal signal reaches it, and records it.
func (p processes) start(name string, command []string, logPath string) error {
	if err := errors.Join(os.MkdirAll(filepath.Dir(logPath), 0o750), os.MkdirAll(p.dir, 0o750)); err != nil {
		return err
	}
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the child has its own descriptor
	//nolint:noctx // a component must not end with this program's context
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + filepath.Dir(p.dir)}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	go cmd.Wait() //nolint:errcheck // reaps it, should it end before this program does
	return errors.Join(p.write(name, cmd.Process.Pid), p.groups.join(cmd.Process.Pid))
}

func (p processes) write(name string, pid int) error {
	start, _, err := p.stat(pid)
	if err != nil {
		return fmt.Errorf("%s ended at once: %w", name, err)
	}
	boot, err := p.bootID()
	if err != nil {
		return err
	}
	content, err := json.Marshal(record{Name: name, PID: pid, StartTime: start, BootID: boot})
	if err != nil {
		return err
	}
	return os.WriteFile(p.file(name), content, 0o600)
}

func (p processes) file(name string) string { return filepath.Join(p.dir, name+".json") }

func (p processes) bootID() (string, error) {
	id, err := os.ReadFile(filepath.Join(p.proc, "sys/kernel/random/boot_id"))
	return strings.TrimSpace(string(id)), err
}

// stat returns when a process started and its state letter.
func (p processes) stat(pid int) (start uint64, state byte, err error) {
	content, err := os.ReadFile(filepath.Join(p.proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, err
	}
	return parseStat(content)
}

// parseStat skips the command name, which may hold blanks and parentheses.
func parseStat(content []byte) (start uint64, state byte, err error) {
	const stateField, startField = 3, 22
	end := bytes.LastIndexByte(content, ')')
	if end < 0 {
		return 0, 0, errors.New("malformed stat: no command name")
	}
	fields := strings.Fields(string(content[end+1:]))
	if len(fields) <= startField-stateField {
		return 0, 0, errors.New("malformed stat: too few fields")
	}
	start, err = strconv.ParseUint(fields[startField-stateField], 10, 64)
	return start, fields[0][0], err
}

// find returns the process id of a recorded process that still runs, or 0.
func (p processes) find(name string) (int, error) {
	content, err := os.ReadFile(p.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var r record
	if err := json.Unmarshal(content, &r); err != nil {
		return 0, fmt.Errorf("record %s: %w", p.file(name), err)
	}
	boot, err := p.bootID()
	if err != nil {
		return 0, err
	}
	start, state, err := p.stat(r.PID)
	if err != nil || boot != r.BootID || start != r.StartTime || state == 'Z' || state == 'X' {
		return 0, nil //nolint:nilerr // no such process any more
	}
	return r.PID, nil
}

// stop asks a recorded process to end, and ends it by force after the grace period.
func (p processes) stop(name string, grace time.Duration) error {
	pid, err := p.find(name)
	if err != nil || pid == 0 {
		return err
	}
	for _, attempt := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, grace}, {syscall.SIGKILL, 10 * time.Second}} {
		if err := syscall.Kill(pid, attempt.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop %s (process %d): %w", name, pid, err)
		}
		if gone := p.waitGone(name, attempt.wait); gone {
			return nil
		}
	}
	return fmt.Errorf("stop %s: process %d does not end", name, pid)
}

func (p processes) waitGone(name string, limit time.Duration) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if pid, err := p.find(name); err == nil && pid == 0 {
			return true
		}
	}
	return false
}

// residentMiB is the memory of a process, for status.
func (p processes) residentMiB(pid int) int {
	content, err := os.ReadFile(filepath.Join(p.proc, strconv.Itoa(pid), "statm"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(content))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0
	}
	return pages * os.Getpagesize() >> 20
}

// tail returns the last lines of a log.
func tail(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
