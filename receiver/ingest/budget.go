package ingest

import "sync/atomic"

// budget bounds the bytes of bodies that are in memory at a time, from their first byte to the
// answer. What fits the first buffer of a body, as all ordinary events do, is free: those who send
// large bodies slowly can't keep others from being heard.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take reserves n bytes if they are left.
func (b *budget) take(n int) bool {
	if b.used.Add(int64(n)) <= b.limit {
		return true
	}
	b.release(n)
	return false
}

func (b *budget) release(n int) { b.used.Add(-int64(n)) }
