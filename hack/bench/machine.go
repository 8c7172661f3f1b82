package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// moment is how much processor time had been used by then.
type moment struct {
	at time.Time
	// all work on the machine, and that of this process and of those of its descendants that have
	// ended.
	all, own time.Duration
}

func now() (moment, error) {
	var self, children syscall.Rusage
	all, err := busyTime()
	err = errors.Join(err, syscall.Getrusage(syscall.RUSAGE_SELF, &self), syscall.Getrusage(syscall.RUSAGE_CHILDREN, &children))
	return moment{at: time.Now(), all: all, own: used(self) + used(children)}, err
}

func used(usage syscall.Rusage) time.Duration {
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// othersSince is how many cores were busy with the work of others, on average.
func (m moment) othersSince(before moment) float64 {
	others := (m.all - before.all) - (m.own - before.own)
	return max(others.Seconds()/m.at.Sub(before.at).Seconds(), 0)
}

func busyTime() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("cannot see how busy the machine is: %w", err)
	}
	return parseBusy(string(text))
}

// parseBusy adds up the times of the first line of /proc/stat, except those of waiting (idle and
// iowait) and those that are part of others (guest and guest_nice).
func parseBusy(stat string) (time.Duration, error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	const idle, iowait, guest = 4, 5, 9
	if len(fields) < guest || fields[0] != "cpu" {
		return 0, errors.New("cannot understand /proc/stat")
	}
	var ticks int64
	for i, field := range fields[:guest] {
		if i == 0 || i == idle || i == iowait {
			continue
		}
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("cannot understand /proc/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}
