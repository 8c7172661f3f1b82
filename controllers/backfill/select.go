package backfill

import (
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

// clockTolerance is how far the clocks of the PBX and the receiver may differ, and what is lost to
// the full seconds of a history.
const clockTolerance = 5 * time.Second

// dueOutage is the outage whose calls are to be read, and how often they were read already; false
// if there is none.
func dueOutage(p *v1alpha1.PBXIntegration) (outage v1alpha1.Outage, reads int, due bool) {
	if p.Status.Events == nil || p.Status.Events.Outage == nil {
		return outage, 0, false
	}
	outage = *p.Status.Events.Outage
	if outage.End.Sub(outage.Start.Time) < p.Spec.Backfill.ShortestOutage() {
		return outage, 0, false
	}
	if filled := p.Status.Backfill; filled.Covers(outage) {
		reads = int(filled.Reads)
	}
	return outage, reads, reads < readsOf(p.Spec.PBX)
}

// readsOf is how often a history is read for one outage. A history has finished calls only, and a
// leg may have ended in the outage of a call that went on. Where the records are single legs, those
// that ended in the outage are all there the first time.
func readsOf(pbx v1alpha1.PBX) int {
	if pbxapi.HistoryNamesCalls(pbx) {
		return maxReads
	}
	return 1
}

const (
	maxReads = 3
	// secondRead and thirdRead are that long after the outage.
	secondRead = 10 * time.Minute
	thirdRead  = time.Hour
)

// readAt is when the history is read for the n-th time.
func readAt(outage v1alpha1.Outage, reads int, settle time.Duration) time.Time {
	return outage.End.Add([maxReads]time.Duration{settle, secondRead, thirdRead}[reads])
}

// touches reports whether a leg was there during an outage: what ended before it had been told by
// events.
func touches(record *callhistory.Record, outage v1alpha1.Outage) bool {
	return !record.End.Before(outage.Start.Add(-clockTolerance))
}

// belonging returns a filter of the records that an integration would have had events of, which
// completes them with what its mappings know. Where one URL serves the whole account, that is all
// of them.
func belonging(p *v1alpha1.PBXIntegration, mappings []v1alpha1.ExtensionMapping) func(*callhistory.Record) bool {
	if p.Spec.PBX.Type == v1alpha1.PBXTypeLinuxBox {
		return func(*callhistory.Record) bool { return true }
	}
	types := make(map[string]v1alpha1.ExtensionType, len(mappings))
	for i := range mappings {
		types[mappings[i].Spec.Extension.Number] = mappings[i].Spec.Extension.Type
	}
	allPhones := p.Spec.PBX.RingMe != nil && p.Spec.PBX.RingMe.Registration == v1alpha1.RegistrationAccount
	return func(record *callhistory.Record) bool {
		kind, mapped := types[record.Extension]
		if !mapped && (!allPhones || record.Kind != callhistory.Extension && record.Kind != "") {
			return false
		}
		if record.Kind == "" {
			record.Kind = kindOf(kind)
		}
		return true
	}
}

func kindOf(extension v1alpha1.ExtensionType) callhistory.Kind {
	switch extension {
	case v1alpha1.ExtensionIVR:
		return callhistory.IVR
	case v1alpha1.ExtensionQueue:
		return callhistory.Queue
	case v1alpha1.ExtensionPhone:
	}
	return callhistory.Extension
}

// claims give the records of a history that has no call ids (VoipNow: CDR) those of the calls that
// they are about, as far as events have told of them: the leg of the same extension and direction
// that began at the same time.
type claims struct {
	outage v1alpha1.Outage
	legs   []leg
	// claimed has the id of the record that is about a leg, by the name of the leg.
	claimed map[string]string
}

// claim reports whether a record is to be sent, and gives it the id of its call. A leg that began
// before the outage has told of itself: where it is not found, because its CallLeg has gone or was
// not written yet, the record is left out, or the call would count twice. So is one that ended
// after the outage, because its hangup was heard.
func (c *claims) claim(record *callhistory.Record) bool {
	if record.End.After(c.outage.End.Time) {
		return false
	}
	if at := c.nearest(record); at >= 0 {
		c.claimed[c.legs[at].name], record.CallID = record.ID, c.legs[at].callID
		return true
	}
	return !record.Start.Before(c.outage.Start.Time)
}

// nearest is the leg that a record is about, or -1.
func (c *claims) nearest(record *callhistory.Record) int {
	best, distance := -1, clockTolerance+1
	for at, leg := range c.legs {
		if by := c.claimed[leg.name]; by != "" && by != record.ID || !couldBe(record, leg) {
			continue
		}
		if d := leg.start.Sub(record.Start).Abs(); d < distance {
			best, distance = at, d
		}
	}
	return best
}

func couldBe(record *callhistory.Record, leg leg) bool {
	if leg.extension != record.Extension {
		return false
	}
	return leg.direction == v1alpha1.DirectionInternal || (leg.direction == v1alpha1.DirectionOutbound) == (record.Flow == callhistory.Out)
}
