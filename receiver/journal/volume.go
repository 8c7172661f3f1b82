package journal

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A share of the volume stays free, so that what was taken can still be correlated, and so that
// JetStream never meets a full disk: it would refuse everything from then on.
const (
	reserveShare = 32
	minReserve   = 8 << 20
	maxReserve   = 64 << 20
)

// volume watches the free space of the file system that holds the embedded logs.
type volume struct {
	dir     string
	reserve uint64
	low     atomic.Bool
}

func newVolume(dir string, size int64) *volume {
	return &volume{dir: dir, reserve: uint64(min(max(size/reserveShare, minReserve), maxReserve))}
}

// check looks at the free space. An embedded log only has a volume.
func (v *volume) check() error {
	if v.dir == "" {
		return nil
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(v.dir, &stat); err != nil {
		return fmt.Errorf("cannot learn the free space of the volume: %w", err)
	}
	v.low.Store(stat.Bavail*uint64(stat.Bsize) < v.reserve)
	return nil
}

// LowOnSpace reports whether the volume has too little free space for events.
func (j *Journal) LowOnSpace() bool { return j.volume.low.Load() }
