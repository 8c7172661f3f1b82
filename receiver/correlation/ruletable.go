package correlation

import (
	"slices"
	"sort"
	"time"
)

// ruleID names a rule.
type ruleID uint8

// The rules, in the order in which they apply. The first ones say which events make an attempt, and
// who its parties are; the next decide a leg by its own events, the others by the whole call.
const (
	undecided ruleID = iota
	ownID
	talking
	late
	repeated
	nextAttempt
	behindQueue
	fromInside
	sameOutside
	statusOfHangup
	answerDecides
	endWithoutHangup
	longestDuration
	clickToCall
	fromHistory
	pickup
	routedOut
	statusOfCall
	otherSideAnswered
	saidAtTheEnd
	leftLast
	ringLapses
	deviceBehind
	handedOver
	entryLeg
	answeredElsewhere
	internalCall
	missedCall
	takenAfterAll
	ruleCount
)

// rule is one step in deciding how the legs of a call went.
type rule struct {
	name    string
	says    string
	source  string // where the rule comes from
	example string // PBX and name of a scenario or report in which it applies
	// when reports whether the rule may apply to a call at all; nil where it always may.
	when func(v *view) bool
	// apply returns a leg as it is by the rule, and whether the rule applies; join returns all legs
	// as they are by the rule, and those to which it applies. begins says whether an event begins
	// another attempt. None of them changes what it is given. All are nil where the rule is part of
	// another one.
	apply  func(v *view, a attempt) (attempt, bool)
	join   func(v *view) (legs []attempt, applies []int)
	begins func(p *party, e *event, next []*event) membership
}

var ruleTable = [ruleCount]rule{
	undecided: {
		name: "open", says: "a leg without an end is open", source: "all PBXs", example: "voipnow/dial and nothing else",
	},
	ownID: {
		name: "leg-id", says: "where the PBX gives legs ids, an attempt is the events with one id",
		source: "RingMe: SubCallID; Callable: callSid", example: "ringme/S1",
	},
	talking: {
		name: "talking", says: "who talks in a call is not rung by it: the ring is late or repeated, unless it is of a leg in the other direction",
		source: "public reports: a ring in the talk", example: "linuxbox/ring repeated in the talk", begins: whileTalking,
	},
	late: {
		name: "late", says: "a ring, or an answer, received at once after the hangup of an attempt that has none belongs to it",
		source: "RingMe, VoipNow, LinuxBox: notifications go out over two connections, and the clocks of nodes differ", example: "voipnow/hangup overtakes ring", begins: afterHangup,
	},
	repeated: {
		name: "repeated", says: "an answer, a hangup or the end of a call that says again what is known is a sender that timed out",
		source: "VoipNow, LinuxBox: senders repeat what was not acknowledged", example: "voipnow/answer repeated after the hangup", begins: saidAgain,
	},
	nextAttempt: {
		name: "next-attempt", says: "any other dial event, or an answer after the party had left, begins another attempt",
		source: "LinuxBox, VoipNow: legs have no ids", example: "voipnow/V3", begins: anotherAttempt,
	},
	behindQueue: {
		name: "behind-queue", says: "where a leg shows the number of the queue that rings it, the caller is the one who waits in the queue",
		source: "public reports: the number of the queue in place of the customer's", example: "callers/queue's number in place of the customer's, RingMe", when: somebodyWaits, apply: callerBehindQueue,
	},
	fromInside: {
		name: "from-inside", says: "the caller that shows a public number is the extension whose own leg rings this one",
		source: "public reports: internal calls that show public numbers", example: "callers/extensions show public numbers to each other", when: nobodyWaits, apply: callerInside,
	},
	sameOutside: {
		name: "same-outside", says: "a dial to a number that looks like a line is the leg that tells that it is outside",
		source: "LinuxBox: answer_external; emergency numbers", example: "callers/forwarded to an outside number of four digits", when: legsAreRelated, join: joinedOutside,
	},
	statusOfHangup: {
		name: "status-of-hangup", says: "the hangup's own status is the result; only ANSWER is a success",
		source: "RingMe: Event Logic on Extension Numbers; VoipNow Call Events", example: "ringme/S1",
	},
	answerDecides: {
		name: "answer-decides", says: "where the hangup says nothing, an answer event makes the leg answered",
		source: "VoipNow: UNKNOWN in the older list; LinuxBox: hangup_internal has no status", example: "linuxbox/L1",
	},
	endWithoutHangup: {
		name: "end-without-hangup", says: "the end of the call, or the party's next ring, ends a leg whose hangup is not heard",
		source: "LinuxBox: endcall, call_end", example: "linuxbox/L2-b",
	},
	longestDuration: {
		name: "longest-duration", says: "a leg that hears neither is closed as Unknown after the longest time that a call may last",
		source: "callLegs.maxDuration", example: "voipnow/dial and nothing else",
	},
	clickToCall: {
		name: "click-to-call", says: "the leg of an extension that an API call rings first is the beginning of the outgoing one; " +
			"an id of the API alone does not make it so",
		source: "VoipNow: PhoneCalls, CallAPIID", example: "voipnow/V11", when: legsAreRelated, join: joinedClickToCall,
	},
	fromHistory: {
		name: "from-history", says: "the PBX's history tells what events did not", source: "call histories of the PBXs", example: "history",
		join: joinedHistory,
	},
	pickup: {
		name: "pickup", says: "a line that was neither rung nor answered, and left after the call was picked up, is the one that picked it up",
		source: "LinuxBox: call_pickup, answer_internal may be missing", example: "linuxbox/pickup then transfer", when: legsAreRelated, apply: pickedUp,
	},
	routedOut: {
		name: "routed-out", says: "a leg to an outside number begins when the call was sent there",
		source: "LinuxBox: dial with an outside number", example: "linuxbox/L9", when: legsAreRelated, apply: beganWhenRouted,
	},
	statusOfCall: {
		name: "status-of-call", says: "a hangup's ANSWER may be that of the call: another leg with an answer event of its own has talked",
		source: "VoipNow Call Events: parallel ring", example: "voipnow/V9-answer", when: legsAreRelated, apply: saidOfCall,
	},
	otherSideAnswered: {
		name: "other-side-answered", says: "a leg between two extensions is answered when its other side is",
		source: "LinuxBox: answer_internal names the called line only", example: "linuxbox/L5", when: legsAreRelated, apply: answeredByOtherSide,
	},
	saidAtTheEnd: {
		name: "said-at-the-end", says: "the end of the call names the line that had answered",
		source: "LinuxBox: endcall, answering_exten", example: "linuxbox/L7", when: legsAreRelated, apply: testifiedAtEnd,
	},
	leftLast: {
		name: "left-last", says: "a line of which only the hangup is heard, long after the others had left, talked in between",
		source: "LinuxBox: attended transfer", example: "linuxbox/L7-b", when: legsAreRelated, apply: stayedAfterAll,
	},
	ringLapses: {
		name: "ring-lapses", says: "a ring whose end need not be told is over when somebody takes the call",
		source: "LinuxBox: hangup_internal may not be sent for lines that only rang", example: "linuxbox/L8-no-releases-b", when: legsAreRelated, apply: lapsed,
	},
	deviceBehind: {
		name: "device", says: "a device that dialled out talks from when the leg before it was answered",
		source: "Callable: The Generic Event, level 3", example: "callable/C3-listener", when: legsAreRelated, apply: joinedDevice,
	},
	handedOver: {
		name: "handed-over", says: "a leg that begins after another was answered, or with its caller's number, came out of it",
		source: "VoipNow, LinuxBox, Callable: transfers are not told", example: "voipnow/V7", when: legsAreRelated, apply: cameOutOfAnother,
	},
	entryLeg: {
		name: "entry-leg", says: "the leg with which the call entered goes as the legs behind it: the platform's own answer proves nothing",
		source: "Callable: The Generic Event, level 1", example: "callable/C2", apply: endedForEntry,
	},
	answeredElsewhere: {
		name: "answered-elsewhere", says: "a ring that ends about when another leg is answered was withdrawn",
		source: "RingMe: Event Logic on Extension Numbers", example: "ringme/S9", apply: withdrawn,
	},
	internalCall: {
		name: "internal", says: "both numbers are extensions and nobody outside is behind them: not among the external calls",
		source: "RingMe: Events on Extension Numbers, filtering", example: "ringme/S6",
	},
	missedCall: {
		name: "missed", says: "nobody took the call when its grace period was over: missed once, of the last queue, else the menu",
		source: "RingMe: Hangup analysis and logic of events; LinuxBox: endcall; VoipNow: hangups of queues", example: "ringme/S3",
	},
	takenAfterAll: {
		name: "taken-after-all", says: "a call that was shown as missed was taken, as a late event tells",
		source: "events may come after the grace period", example: "ringme/answer after the grace period",
	},
}

// view is a call as the rules see it. They do not change it: each gives a leg another form, and the
// next rule sees all of those.
type view struct {
	facts    *facts
	waiting  *waiting
	settings Rules
	grace    bool // its period is over
	legs     []attempt
	records  []*event   // of the PBX's history
	takers   []*attempt // those with an answer
	answered []*attempt // the same, in the order in which they were answered, once that is asked for

	spare []attempt // memory for the next form of the legs
}

// applyRules replaces the legs by what they are by the rules. What is known of the caller's own side
// is complete when it is certain which legs there are.
func (f *folded) applyRules(c *Call, settings Rules) {
	v := view{facts: &f.facts, waiting: &f.waiting, settings: settings, grace: c.graceOver(), legs: f.attempts, records: f.records}
	v.takers = make([]*attempt, 0, len(v.legs))
	v.findTakers()
	v.apply(undecided, pickup)
	f.attempts = v.legs
	f.hearEnd()
	v.apply(pickup, ruleCount)
	f.attempts = v.legs
}

// apply applies the rules from one to before another.
func (v *view) apply(from, to ruleID) {
	for id := from; id < to; id++ {
		r := &ruleTable[id]
		switch {
		case r.when != nil && !r.when(v):
		case r.apply != nil:
			v.applyToEach(id, r)
		case r.join != nil:
			v.applyToAll(id, r)
		}
	}
}

// legsAreRelated reports whether legs say less than all of themselves, so that others tell of them.
func legsAreRelated(v *view) bool { return v.facts.related }

// somebodyWaits reports whether a caller has come to a queue or menu.
func somebodyWaits(v *view) bool { return len(v.waiting.events) > 0 }

// nobodyWaits reports whether the call has several legs, and no caller has come to a queue or menu.
func nobodyWaits(v *view) bool { return len(v.legs) > 1 && len(v.waiting.events) == 0 }

// applyToEach applies a rule that decides over each leg by itself.
func (v *view) applyToEach(id ruleID, r *rule) {
	changed := false
	for i := range v.legs {
		leg, applies := r.apply(v, v.legs[i])
		if !applies {
			continue
		}
		if !changed {
			v.spare, changed = append(v.spare[:0], v.legs...), true
		}
		v.spare[i] = leg
		v.spare[i].decide(id)
	}
	if changed {
		v.legs, v.spare = v.spare, v.legs
		v.findTakers()
	}
}

// applyToAll applies a rule that decides which legs there are.
func (v *view) applyToAll(id ruleID, r *rule) {
	legs, applies := r.join(v)
	if len(applies) == 0 {
		return
	}
	for _, i := range applies {
		legs[i].decide(id)
	}
	v.legs = legs
	v.findTakers()
}

func (v *view) findTakers() {
	v.takers, v.answered = v.takers[:0], v.answered[:0]
	for i := range v.legs {
		if v.legs[i].answer != nil || !v.legs[i].answered.IsZero() {
			v.takers = append(v.takers, &v.legs[i])
		}
	}
}

// answeredUntil returns the takers that were answered no later than at a moment, in the order in
// which they were, so that no leg of a large call need be compared with all of them.
func (v *view) answeredUntil(moment time.Time) []*attempt {
	if len(v.answered) < len(v.takers) {
		v.answered = append(v.answered, v.takers...)
		slices.SortStableFunc(v.answered, func(a, b *attempt) int { return a.answered.Compare(b.answered) })
	}
	n := sort.Search(len(v.answered), func(i int) bool { return v.answered[i].answered.After(moment) })
	return v.answered[:n]
}

// decide notes that a rule applied to a leg. The first ones say nothing of how it went.
func (a *attempt) decide(id ruleID) {
	a.mark(id)
	if id >= statusOfHangup || id == undecided {
		a.decided = id
	}
}

// mark notes that a rule applied to a leg, and decided nothing.
func (a *attempt) mark(id ruleID) { a.applied |= 1 << id }
