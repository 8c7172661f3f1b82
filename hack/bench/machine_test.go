package main

import (
	"testing"
	"time"
)

func TestParseCPU(t *testing.T) {
	const stat = "4711 (a (strange) name) S 1 4711 4711 0 -1 4194304 900 0 0 0 150 75 9 9 20 0 8 0 100 200 300"
	got, err := parseCPU(stat)
	if want := 2250 * time.Millisecond; err != nil || got != want {
		t.Errorf("got %v and %v, want %v: utime and stime of the process without its children", got, err, want)
	}
	if _, err := parseCPU("4711 (cut"); err == nil {
		t.Error("a line that is cut off must be an error")
	}
}

func TestParseMemory(t *testing.T) {
	const status = "Name:\treceiver\nVmHWM:\t   65536 kB\nVmRSS:\t   32768 kB\n"
	got, err := parseMemory(status, "VmRSS")
	if err != nil || got != 32 {
		t.Errorf("got %v MiB and %v, want 32", got, err)
	}
	if _, err := parseMemory(status, "VmSwap"); err == nil {
		t.Error("a member that is not there must be an error")
	}
}

func TestParseBusy(t *testing.T) {
	got, err := parseBusy("cpu  100 10 50 9000 400 0 30 10 77 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
	if want := 2 * time.Second; err != nil || got != want {
		t.Errorf("got %v and %v, want %v: waiting is no work, and guests are counted already", got, err, want)
	}
	if _, err := parseBusy("intr 1 2 3"); err == nil {
		t.Error("another file must be an error")
	}
}

func TestOthersSince(t *testing.T) {
	start := time.Now()
	before := moment{at: start, all: 100 * time.Second, own: 20 * time.Second}
	after := moment{at: start.Add(10 * time.Second), all: 118 * time.Second, own: 23 * time.Second}
	if got, want := after.othersSince(before), 1.5; got != want {
		t.Errorf("got %v cores, want %v: 18 s of work in 10 s, 3 s of them our own", got, want)
	}
}
