package pipeline

import "hash/maphash"

// generationSize bounds one generation of remembered keys, about 4 MiB. It is the number of records
// in the LEGS log at most, so that no call is forgotten entirely before its legs are.
const generationSize = 150_000

// generations remembers at least the last size keys that were added, at the price of rare false
// hits.
type generations struct {
	size     int
	seed     maphash.Seed
	new, old map[uint64]struct{}
}

func newGenerations(size int) generations {
	return generations{size: size, seed: maphash.MakeSeed(), new: make(map[uint64]struct{})}
}

func (g *generations) add(key string) {
	if len(g.new) >= g.size {
		g.old, g.new = g.new, make(map[uint64]struct{})
	}
	g.new[maphash.String(g.seed, key)] = struct{}{}
}

func (g *generations) has(key string) bool {
	sum := maphash.String(g.seed, key)
	_, isNew := g.new[sum]
	_, isOld := g.old[sum]
	return isNew || isOld
}
