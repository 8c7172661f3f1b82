package pipeline

import "hash/maphash"

// generationSize bounds one generation of remembered ids, about 2 MiB.
const generationSize = 100_000

// generations remembers about the last hundred to two hundred thousand ids that were added, at the price of rare false hits.
type generations struct {
	seed     maphash.Seed
	new, old map[uint64]struct{}
}

func newGenerations() generations {
	return generations{seed: maphash.MakeSeed(), new: make(map[uint64]struct{})}
}

func (g *generations) add(id string) {
	if len(g.new) >= generationSize {
		g.old, g.new = g.new, make(map[uint64]struct{})
	}
	g.new[maphash.String(g.seed, id)] = struct{}{}
}

func (g *generations) has(id string) bool {
	sum := maphash.String(g.seed, id)
	_, isNew := g.new[sum]
	_, isOld := g.old[sum]
	return isNew || isOld
}
