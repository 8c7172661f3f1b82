package correlation

// ruleID names a rule.
type ruleID uint8

// The rules, in the order in which they apply. The first ones decide a leg by its own events, the
// others by the whole call.
const (
	undecided ruleID = iota
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
	// related rules draw on other legs: they apply where the legs say less than all of themselves.
	related bool
	// apply returns a leg as it is by the rule, and whether the rule applies; nil where it is part
	// of taking the call apart.
	apply func(v *view, a attempt) (attempt, bool)
}

var ruleTable = [ruleCount]rule{
	undecided: {
		name: "open", says: "a leg without an end is open", source: "all PBXs", example: "voipnow/dial and nothing else",
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
		source: "VoipNow: PhoneCalls, CallAPIID", example: "voipnow/V11",
	},
	fromHistory: {
		name: "from-history", says: "the PBX's history tells what events did not", source: "call histories of the PBXs", example: "history",
	},
	pickup: {
		name: "pickup", says: "a line that was neither rung nor answered, and left after the call was picked up, is the one that picked it up",
		source: "LinuxBox: call_pickup, answer_internal may be missing", example: "linuxbox/pickup then transfer", related: true, apply: pickedUp,
	},
	routedOut: {
		name: "routed-out", says: "a leg to an outside number begins when the call was sent there",
		source: "LinuxBox: dial with an outside number", example: "linuxbox/L9", related: true, apply: beganWhenRouted,
	},
	statusOfCall: {
		name: "status-of-call", says: "a hangup's ANSWER may be that of the call: another leg with an answer event of its own has talked",
		source: "VoipNow Call Events: parallel ring", example: "voipnow/V9-answer", related: true, apply: saidOfCall,
	},
	otherSideAnswered: {
		name: "other-side-answered", says: "a leg between two extensions is answered when its other side is",
		source: "LinuxBox: answer_internal names the called line only", example: "linuxbox/L5", related: true, apply: answeredByOtherSide,
	},
	saidAtTheEnd: {
		name: "said-at-the-end", says: "the end of the call names the line that had answered",
		source: "LinuxBox: endcall, answering_exten", example: "linuxbox/L7", related: true, apply: testifiedAtEnd,
	},
	leftLast: {
		name: "left-last", says: "a line of which only the hangup is heard, long after the others had left, talked in between",
		source: "LinuxBox: attended transfer", example: "linuxbox/L7-b", related: true, apply: stayedAfterAll,
	},
	ringLapses: {
		name: "ring-lapses", says: "a ring whose end need not be told is over when somebody takes the call",
		source: "LinuxBox: hangup_internal may not be sent for lines that only rang", example: "linuxbox/L8-no-releases-b", related: true, apply: lapsed,
	},
	deviceBehind: {
		name: "device", says: "a device that dialled out talks from when the leg before it was answered",
		source: "Callable: The Generic Event, level 3", example: "callable/C3-listener", related: true, apply: joinedDevice,
	},
	handedOver: {
		name: "handed-over", says: "a leg that begins after another was answered, or with its caller's number, came out of it",
		source: "VoipNow, LinuxBox, Callable: transfers are not told", example: "voipnow/V7", related: true, apply: cameOutOfAnother,
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
	takers   []*attempt // those with an answer
}

// applyRules replaces the legs by what they are by the rules.
func (f *folded) applyRules(c *Call, settings Rules) {
	v := view{facts: &f.facts, waiting: &f.waiting, settings: settings, grace: c.graceOver(), legs: f.attempts}
	v.takers = make([]*attempt, 0, len(v.legs))
	var next []attempt
	for id := pickup; id < ruleCount; id++ {
		r := &ruleTable[id]
		if r.apply == nil || r.related && !f.facts.related {
			continue
		}
		v.findTakers()
		changed := false
		for i := range v.legs {
			changedLeg, applies := r.apply(&v, v.legs[i])
			if !applies {
				continue
			}
			if !changed {
				next, changed = append(next[:0], v.legs...), true
			}
			next[i] = changedLeg
			next[i].decide(id)
		}
		if changed {
			v.legs, next = next, v.legs
		}
	}
	f.attempts = v.legs
}

func (v *view) findTakers() {
	v.takers = v.takers[:0]
	for i := range v.legs {
		if v.legs[i].answer != nil || !v.legs[i].answered.IsZero() {
			v.takers = append(v.takers, &v.legs[i])
		}
	}
}

// decide notes that a rule applied to a leg.
func (a *attempt) decide(id ruleID) {
	a.decided = id
	a.applied |= 1 << id
}
