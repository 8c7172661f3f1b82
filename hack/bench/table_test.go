package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPrintTable(t *testing.T) {
	s := &sheet{rows: []row{
		promise("ratio", "×", atLeast(0.5)), promise("latency", "ms", atMost(6)), promise("rate", "/s", atLeast(20_000)), promise("memory", "MiB", target{}),
	}}
	s.set("ratio", 0.5, "3 rounds")
	s.set("latency", 6.0449, "at %d connections", 64)
	s.set("memory", 61.44, "")
	s.fail(errors.New("wrk is missing:\ninstall it"))
	var b strings.Builder
	printTable(&b, s.rows)
	want := strings.TrimPrefix(`
| what    | measured | target      | verdict | how, and what else was seen |
| ------- | -------- | ----------- | ------- | --------------------------- |
| ratio   | 0.5 ×    | ≥ 0.5 ×     | met     | 3 rounds |
| latency | 6.04 ms  | ≤ 6 ms      | MISSED  | at 64 connections |
| rate    | -        | ≥ 20,000 /s | NOT RUN | wrk is missing: install it |
| memory  | 61.4 MiB |             |         |  |
`, "\n")
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestExitCode(t *testing.T) {
	met := row{what: "met", target: atLeast(1), value: 1}
	missed := row{what: "missed", target: atLeast(1), value: 0.9}
	open := promise("not run", "", atLeast(1))
	for _, tc := range []struct {
		name   string
		rows   []row
		strict bool
		want   int
	}{
		{"all met", []row{met}, true, 0},
		{"a target missed", []row{met, missed}, false, 0},
		{"a target missed, strict", []row{met, missed}, true, 1},
		{"a row without a value", []row{met, open}, false, 1},
	} {
		if got := exitCode(tc.rows, tc.strict); got != tc.want {
			t.Errorf("%s: exit code %d, want %d", tc.name, got, tc.want)
		}
	}
}

func TestNumber(t *testing.T) {
	for value, want := range map[float64]string{
		0: "0", 0.03456: "0.0346", 12.345: "12.3", 999.9: "1,000", 1234: "1,230", 1_234_567: "1,230,000", -4321: "-4,320",
	} {
		if got := number(value); got != want {
			t.Errorf("number(%v) is %q, want %q", value, got, want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		values []int
		want   int
	}{{nil, 0}, {[]int{7}, 7}, {[]int{9, 1, 5}, 5}, {[]int{4, 2}, 2}} {
		if got := median(tc.values); got != tc.want {
			t.Errorf("median of %v is %d, want %d", tc.values, got, tc.want)
		}
	}
}
