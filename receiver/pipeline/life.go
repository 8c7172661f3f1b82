package pipeline

// The state of a call has four parts: its life, how its legs and its positions stand with the LEGS
// log, and how it stands with the CALLS log. Which steps there are, and what follows from the part
// before, is all in this file.

// life is how far a call has come. A call that nothing was heard of for a while may also be in the
// CALLS log only, see spilled.
//
//	begun ──► open ──► finished ──► leaving ──► gone
//	           ▲           │           │
//	           └───────────┴───────────┘  an event that comes late
//
// One that is spilled goes from open, and each of them may be parked.
type life int

const (
	// begun: it is not among the calls in memory yet.
	begun life = iota
	// open: a leg has not ended, or a decision waits for time to pass.
	open
	// finished: everything is decided. The call stays for a while, for events that come late.
	finished
	// leaving: all of it is written. It goes when that is on disk, so that it can be taken out of
	// the CALLS log.
	leaving
	// gone: it is not in memory any more.
	gone
	// parked: it was set aside, see parkedCalls.
	parked
)

// mayBecome reports whether a step is one that a call takes.
func (l life) mayBecome(next life) bool {
	switch next {
	case open:
		return l == begun || l == finished || l == leaving
	case finished:
		return l == open || l == leaving
	case leaving:
		return l == finished
	case gone:
		return l == open || l == finished || l == leaving
	case parked:
		return !l.isOver()
	default:
		return false
	}
}

// isOver reports whether the call has left memory for good.
func (l life) isOver() bool { return l == gone || l == parked }

// legsState is how the legs of a call stand with the LEGS log.
type legsState int

const (
	// current: the log has the legs as they were derived last.
	current legsState = iota
	// stale: they have to be derived, and those that changed have to be written.
	stale
	// doubtful: they were derived during recovery, and the log may lack some of them.
	doubtful
	// doubtfulStale: they have to be derived, and all of them have to be written.
	doubtfulStale
)

// isStale reports whether the legs have to be derived.
func (s legsState) isStale() bool { return s == stale || s == doubtfulStale }

// isDoubtful reports whether legs have to be written that have not changed.
func (s legsState) isDoubtful() bool { return s == doubtful || s == doubtfulStale }

// touched is the state after something joined the call.
func (s legsState) touched() legsState {
	if s.isDoubtful() {
		return doubtfulStale
	}
	return stale
}

// doubted is the state after it turned out that the log may lack some of the legs.
func (s legsState) doubted() legsState {
	if s.isStale() {
		return doubtfulStale
	}
	return doubtful
}

// replayed is the state after the legs were derived without writing them. It is certain only if
// the log had them before.
func (s legsState) replayed(certain bool) legsState {
	if s.isDoubtful() || !certain {
		return doubtful
	}
	return current
}

// positionsState is how the positions of a call stand with the LEGS log.
type positionsState int

const (
	// unwritten: the log lacks some of them.
	unwritten positionsState = iota
	// sent: records with all of them are on their way to the log.
	sent
	// logged: the log has all of them, or the note that there are too many.
	logged
)

// derived is the state after the legs were derived, and some of them are to be written or not.
func (s positionsState) derived(toWrite bool) positionsState {
	switch {
	case s == unwritten && toWrite:
		return sent
	case s == sent && !toWrite:
		return unwritten
	default:
		return s
	}
}

// settled is the state after all that was sent is written.
func (s positionsState) settled() positionsState {
	if s == sent {
		return logged
	}
	return s
}

// extent is how much the positions of a call tell of its events.
type extent int

const (
	// complete: they name all of them.
	complete extent = iota
	// tooMany: there are too many to name them. The CALLS log alone keeps the call.
	tooMany
	// lost: some of the events are lost, so that the legs can no longer be derived.
	lost
)

// savedState is how a call stands with the CALLS log.
type savedState int

const (
	// unsaved: the log does not have it.
	unsaved savedState = iota
	// saved: the log has it as it is.
	saved
	// outdated: the call has changed since it was saved.
	outdated
)

// changed is the state after something joined the call.
func (s savedState) changed() savedState {
	if s == saved {
		return outdated
	}
	return s
}
