package pipeline

import (
	"slices"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// positions say where the events of a call are, so that it can be read back from the EVENTS log.
type positions struct {
	// sequences of the EVENTS log, ascending.
	sequences []uint64
	// ticks are the events that no PBX sent.
	ticks  []callevent.Event
	extent extent
	state  positionsState
}

// positionsOf returns those of a call in the CALLS log.
func positionsOf(record journal.CallRecord) positions {
	p := positions{sequences: record.Positions, ticks: slices.Clone(record.State.Ticks)}
	if record.Incomplete {
		p.extent = tooMany
	}
	return p
}

// add notes that a commit of the EVENTS log holds an event of the call.
func (p *positions) add(sequence uint64) {
	if at, known := slices.BinarySearch(p.sequences, sequence); !known && p.extent == complete {
		p.sequences, p.state = slices.Insert(p.sequences, at, sequence), unwritten
		p.bound()
	}
}

// addTick notes a tick.
func (p *positions) addTick(tick callevent.Event) {
	if p.extent == complete {
		p.ticks = append(p.ticks, tick)
		p.bound()
	}
}

// bound keeps the records of the legs small.
func (p *positions) bound() {
	if len(p.sequences) > maxPositions || len(p.ticks) > maxTicks {
		*p = positions{extent: tooMany}
	}
}

// lose notes that some of the events are not there any more.
func (p *positions) lose() { p.extent = lost }

// compare notes whether a record of the LEGS log names all of them.
func (p *positions) compare(newest journal.LegRecord) {
	p.state = unwritten
	if isSubset(p.sequences, newest.Positions) {
		p.state = logged
	}
}

// fill writes them to a record of the LEGS log.
func (p *positions) fill(record *journal.LegRecord) {
	record.Positions, record.Ticks, record.Incomplete = p.sequences, p.ticks, p.extent != complete
}

func isSubset(some, all []uint64) bool {
	for _, one := range some {
		if _, ok := slices.BinarySearch(all, one); !ok {
			return false
		}
	}
	return true
}
