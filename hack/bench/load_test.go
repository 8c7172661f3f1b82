package main

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseRound(t *testing.T) {
	const text = `Running 4s test @ http://127.0.0.1:8080
  1 threads and 64 connections
Requests/sec:  25000.00
RESULT requests=100000 microseconds=4000000 p50=1200 p99=5600 status=3 connect=0 read=1 write=0 timeout=2
`
	got, err := parseRound(text)
	if err != nil {
		t.Fatal(err)
	}
	want := round{requests: 100_000, took: 4 * time.Second, p50: 1200 * time.Microsecond, p99: 5600 * time.Microsecond, failed: 6}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(round{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, want := got.rate(), 24_998.5; got != want {
		t.Errorf("rate is %v, want %v: failed requests do not count", got, want)
	}
}

func TestParseRoundWithoutResult(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":      "unable to connect to 127.0.0.1:8080 Connection refused\n",
		"not a number": "RESULT requests=many microseconds=1\n",
		"no request":   "RESULT requests=0 microseconds=4000000 p50=0 p99=0 status=0 connect=64 read=0 write=0 timeout=0\n",
	} {
		if _, err := parseRound(text); !errors.Is(err, errNoResult) {
			t.Errorf("%s: got %v, want an error that says so", name, err)
		}
	}
}
