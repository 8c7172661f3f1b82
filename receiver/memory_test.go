package main

import (
	"math"
	"testing"
)

func TestSoftLimit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		what              string
		live, given, want int64
	}{
		{"little in use", 20 << 20, 230 << 20, 96 << 20},
		{"much in use", 100 << 20, 230 << 20, 150 << 20},
		{"a small pod", 90 << 20, 115 << 20, 115 << 20},
		{"no limit given", 20 << 20, math.MaxInt64, 96 << 20},
	} {
		if got := softLimit(tc.live, tc.given); got != tc.want {
			t.Errorf("%s: %d MiB, want %d", tc.what, got>>20, tc.want>>20)
		}
	}
}
