// Package correlation derives call legs from call events. It is pure: no clock, no I/O, no
// Kubernetes. The legs of a call are a function of the set of its events, so that the order of
// arrival, repetition and replay cannot change them. The passing of time is in the set too, as
// ticks: a [Call] says which tick it waits for, and whoever has a clock adds it when it is due.
//
// # How the legs of a call are decided
//
// The set is cut into attempts to connect one party each. A hangup ends an attempt even if it is
// heard before the ring: an attempt is the facts that its events state, not a machine that they
// drive. That, and all that follows, is decided by the rules below, in their order. A rule sees the
// whole call as the rules before it left it, and changes nothing of it: it returns the attempt, or
// where it says which attempts there are all of them, as by the rule. [Explain] tells which rules
// applied to a leg, and which decided.
//
// Name, what the rule says, and where it comes from; each has an example among the scenarios and
// reports of the tests:
//
//	open | a leg without an end is open | all PBXs
//	leg-id | where the PBX gives legs ids, an attempt is the events with one id | RingMe: SubCallID; Callable: callSid
//	talking | who talks in a call is not rung by it: the ring is late or repeated, unless it is of a leg in the other direction | public reports: a ring in the talk
//	late | a ring, or an answer, received at once after the hangup of an attempt that has none belongs to it | RingMe, VoipNow, LinuxBox: notifications go out over two connections, and the clocks of nodes differ
//	repeated | an answer, a hangup or the end of a call that says again what is known is a sender that timed out | VoipNow, LinuxBox: senders repeat what was not acknowledged
//	next-attempt | any other dial event, or an answer after the party had left, begins another attempt | LinuxBox, VoipNow: legs have no ids
//	behind-queue | where a leg shows the number of the queue that rings it, the caller is the one who waits in the queue | public reports: the number of the queue in place of the customer's
//	from-inside | the caller that shows a public number is the extension whose own leg rings this one | public reports: internal calls that show public numbers
//	same-outside | a dial to a number that looks like a line is the leg that tells that it is outside | LinuxBox: answer_external; emergency numbers
//	status-of-hangup | the hangup's own status is the result; only ANSWER is a success | RingMe: Event Logic on Extension Numbers; VoipNow Call Events
//	answer-decides | where the hangup says nothing, an answer event makes the leg answered | VoipNow: UNKNOWN in the older list; LinuxBox: hangup_internal has no status
//	end-without-hangup | the end of the call, or the party's next ring, ends a leg whose hangup is not heard | LinuxBox: endcall, call_end
//	longest-duration | a leg that hears neither is closed as Unknown after the longest time that a call may last | callLegs.maxDuration
//	click-to-call | the leg of an extension that an API call rings first is the beginning of the outgoing one; an id of the API alone does not make it so | VoipNow: PhoneCalls, CallAPIID
//	from-history | the PBX's history tells what events did not | call histories of the PBXs
//	pickup | a line that was neither rung nor answered, and left after the call was picked up, is the one that picked it up | LinuxBox: call_pickup, answer_internal may be missing
//	routed-out | a leg to an outside number begins when the call was sent there | LinuxBox: dial with an outside number
//	status-of-call | a hangup's ANSWER may be that of the call: another leg with an answer event of its own has talked | VoipNow Call Events: parallel ring
//	other-side-answered | a leg between two extensions is answered when its other side is | LinuxBox: answer_internal names the called line only
//	said-at-the-end | the end of the call names the line that had answered | LinuxBox: endcall, answering_exten
//	left-last | a line of which only the hangup is heard, long after the others had left, talked in between | LinuxBox: attended transfer
//	ring-lapses | a ring whose end need not be told is over when somebody takes the call | LinuxBox: hangup_internal may not be sent for lines that only rang
//	device | a device that dialled out talks from when the leg before it was answered | Callable: The Generic Event, level 3
//	handed-over | a leg that begins after another was answered, or with its caller's number, came out of it | VoipNow, LinuxBox, Callable: transfers are not told
//	entry-leg | the leg with which the call entered goes as the legs behind it: the platform's own answer proves nothing | Callable: The Generic Event, level 1
//	answered-elsewhere | a ring that ends about when another leg is answered was withdrawn | RingMe: Event Logic on Extension Numbers
//	internal | both numbers are extensions and nobody outside is behind them: not among the external calls | RingMe: Events on Extension Numbers, filtering
//	missed | nobody took the call when its grace period was over: missed once, of the last queue, else the menu | RingMe: Hangup analysis and logic of events; LinuxBox: endcall; VoipNow: hangups of queues
//	taken-after-all | a call that was shown as missed was taken, as a late event tells | events may come after the grace period
//
// # Attempts
//
// Where legs have no ids, the dialect names the side of the call that an event belongs to, such as
// a line. The events of one side are one attempt, unless a rule says that one of them begins
// another: what the party was doing, and goes on to do, tells.
//
//   - At once after a hangup is 2 s where the PBX gives no time, and 5 s where it does and the
//     clocks of its nodes may differ. Where the party goes on to answer or to leave, the ring or
//     the answer is that of another attempt.
//   - Where events have neither id nor time they repeat each other word by word. Within the seconds
//     that the event itself names they are one event, and so is a chain of them. A sender that
//     timed out repeats them within 30 s.
//
// No leg ends before it began or was answered, whatever the clocks of the PBX say.
//
// # The missed call
//
// It is decided once per call, and told by one leg that belongs to the caller. Its id is that of
// the call, and not that of the queue or IVR whose hangup decides, as a late hangup may outrank the
// others. If an answer is heard after the grace period, the leg was shown already: it stays, no
// longer logged, as AnsweredElsewhere. An outgoing leg that was answered takes no call: of a web
// call-back it is the customer who picked up. Whether a forwarding to an outside number does is a
// setting.
//
// # What is logged
//
// One record for each talk, and one for each missed call. Where a PBX tells of several levels of
// one call, the talk is logged on the one nearest to the people: a device, else the leg that goes
// out to an extension or an outside number. The leg with which the call entered is logged only as a
// missed call. Each call stands for itself: a transfer for which the PBX begins a call with an id
// of its own leaves two calls.
//
// # Records of the PBX's history
//
// An event of type History is the record of one finished leg. Several versions of it are one: what
// one says adds to the other. Each record completes at most one leg, and each leg takes at most one
// record: that of the same extension and direction whose start is nearest, and within 5 s; else one
// that lasts at the same time. Where several are possible, a leg that was heard takes the record
// that says that it ended in the same way after as long a time. The leg takes only what its events
// did not say. A result that events only imply gives way to the record's; a status of the hangup's
// own does not.
//
// A record without such a leg is a leg of its own, until events tell of it after all. Records of
// queues and IVRs count as their hangups, unless those were heard, and so does that of an
// unanswered call where the PBX tells the end of every call. A leg that nobody answered is not the
// end of a call that was heard to begin: that is decided when its end is told, or after the longest
// time that it may last.
//
// A history may go by another clock, such as one in local time. A record from before the beginning,
// or after the end, of a call joins nothing, where these were heard. Nor does one that finds no leg
// by the time, but tells of one that was heard in full: the same extension and direction, as long
// within 2 s, and answered or not like it; of a ring that nobody answered it must be off by a time
// zone. A leg is backfilled only if it would be another one without records; times count as equal
// within a second.
//
// What a history does not say cannot be restored: that a call was a web call-back; which leg a
// transferred call came out of; the ids for commands.
//
// # Revisions
//
// All legs of a call carry one revision: the number of its distinct events and ticks. It grows with
// every change of every leg; [Leg.Same] tells which legs did change.
package correlation
