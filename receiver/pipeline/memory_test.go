package pipeline

import "testing"

// A pipeline whose calls are large may use what the others leave: without it they would be read back
// from disk for each of their events.
func TestPipelinesShareMemory(t *testing.T) {
	const whole, share = 16 << 20, 1 << 20
	for _, tc := range []struct {
		what             string
		own, taken, want int
	}{
		{"nobody takes any", 0, 0, whole},
		{"the others take some", 5 << 20, 9 << 20, whole - 4<<20},
		{"the others take all", 0, whole, share},
		{"the others take more", share, 2 * whole, share},
	} {
		p := &Pipeline{config: Config{
			CallMemory: whole, Sharers: func() int { return whole / share }, Taken: func() int { return tc.taken },
		}}
		p.progress.bytes.Store(int64(tc.own))
		if got := p.callMemory(); got != tc.want {
			t.Errorf("%s: %d bytes, want %d", tc.what, got, tc.want)
		}
	}
}
