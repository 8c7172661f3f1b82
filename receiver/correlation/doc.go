// Package correlation derives call legs from call events. It is pure: no clock, no I/O, no Kubernetes. The legs of a call are a
// function of the set of its events, so the order of arrival, repetition and replay cannot change them. The passing of time is in the set
// too, as ticks: a [Call] says which tick it waits for, and whoever has a clock adds it when it is due.
//
// # Legs of extensions
//
// The events of one leg id are one attempt to connect one extension. An attempt is not a machine that events drive through states, but
// the facts that they state, gathered in any order: a hangup ends the leg even if it is heard before the ring. Only its own status makes a
// leg Answered, and an answered leg is recorded at its hangup, one record per leg id; so a call that was transferred has a record before
// and one after (RingMe: Events on Extension Numbers, "Logging Call Data").
//
// # The missed call
//
// IVRs and queues say with Bridged=no that nobody took the call. That is judged once per call, by one leg that belongs to the caller. Its id
// is that of the call. It cannot be that of the queue or IVR whose hangup decides: which one that is may change when a late hangup outranks
// the others, and consumers, who see only revisions of legs, would be left with a second missed call that nobody takes back.
//
// The leg is in the outcome if, and only if, the set has a hangup with Bridged=no and the tick that ends the grace period. It is Missed and
// recorded unless somebody took the call: an inbound leg of an extension was answered, or some IVR or queue says Bridged=yes. The tick is not
// owed once somebody did, so an answered call has no such leg. But if the answer is heard after the tick, the leg was shown already, and a
// function of the set cannot know it: so it stays, no longer recorded, with the result AnsweredElsewhere. Nothing that was shown vanishes.
//
// An outgoing leg that was answered takes no call: of a web call-back it is the customer who picked up (RingMe: Hangup analysis and logic of
// events). Whether a forwarding to an outside number does is left to the rules.
//
// # Legs without ids
//
// Some PBXs give legs no id. Their dialects name the side of the call that an event belongs to, such as a line, and each dial event of a
// side begins another attempt, as does an answer after the party had left; what begins ends the attempt before. Of such PBXs, events repeat
// each other word by word, so that the same event twice and the next attempt differ in nothing but the time between them: repetitions
// within a short while, which the event itself names, are one event. A chain of them is one too, so that the order of arrival does not
// matter.
//
// What an event leaves out, the other legs and the call as a whole may tell, and only where the event says that its PBX leaves it out: a
// hangup's status may be that of the call, so that of several legs those with an answer event have talked; a ring may end untold when
// somebody takes the call; a leg that begins after another was answered came out of it; the end of the call closes all that is open, and
// may name who had answered; the leg of an extension that an API call rings first is the beginning of the outgoing one, not a call of its
// own. Nothing here knows which PBX it is. What cannot be known stays unknown: a talk without an answer event has no length.
//
// Events that change nothing (Progress) are shown on their leg, but make none.
//
// # Levels, and what is recorded
//
// There is one record for each talk, and one for each missed call. Where a PBX tells of several levels of one call, the talk is recorded on
// the one nearest to the people: a device, else the leg that goes out to an extension or an outside number. The leg with which the call
// entered (the A leg, kind Trunk) and a leg with an answered device behind it show the same talk, and have recorded=false. The A leg is
// recorded only as a missed call: it lasts until the grace period is over, as its own answer may be that of a voice menu.
//
// Calls are judged one by one. A transfer for which the PBX begins a call with an id of its own leaves two calls, each with its record;
// nothing connects them.
//
// # Records of the PBX's history
//
// Calls that were not heard, because the receiver was away, are read from the PBX's history: an event of type History is the record of one
// finished leg. Records are in the set like all events. Several versions of a record, such as one that knows the recording, are one: what
// one says adds to the other.
//
// Each record completes at most one leg, and each leg is completed by at most one record: that of the same extension and direction whose
// start is nearest, and within 5 s; else one that lasts at the same time, as the leg's first ring may be lost. Where several are possible,
// a leg that was heard takes the record that says that it ended in the same way after as long a time. An outgoing record completes
// the leg of an extension that an API call rang first, where nothing of the outgoing leg was heard. The leg takes from its record only what
// its events did not say: a lost ring, answer or hangup, the talk time, the recording, names. A result that the events only imply, because
// the hangup has no status, or one that may be that of the call, gives way to the record's; a status of the hangup's own does not. Where
// the hangup was lost, the record stands in for it.
//
// A record without such a leg is a leg of its own, with the record's id, until events tell of it after all; then that leg is gone, and
// theirs takes its place. Records of queues and IVRs count as their hangups, unless those were heard, and so does the record of an
// unanswered call where the PBX tells the end of every call, unless that was heard; they are waited for like hangups. A leg that nobody
// answered is not the end of a call that was heard to begin: that is judged when its end is told, or after the longest time that it may
// last.
//
// A history may go by another clock, such as one in local time. A record from before the beginning, or after the end, of a call joins
// nothing, where the PBX tells of these and they were heard. Nor does one that finds no leg by the time, but tells of one that was heard
// from beginning to end: the same extension and direction, as long within 2 s, and answered or not like it. Of a ring that nobody
// answered it must be off by a time zone, as an extension may be rung twice for the same time. Such records stay in the set.
//
// A leg is backfilled, and shows the record among its events, after the others, only if it would be another one without records. Times
// count as equal within a second, as histories know full seconds only: a history that says nothing new changes nothing.
//
// What a history does not say cannot be restored: that a call was a web call-back, and so nobody's own doing; which leg a transferred call
// came out of; the ids for commands. Where a PBX repeats word by word that it does not know how a leg ended, the next ring says more.
//
// # Revisions
//
// All legs of a call carry one revision: the number of its distinct events and ticks. It grows with the set and so with every change of
// every leg; [Leg.Same] tells which legs did change.
package correlation
