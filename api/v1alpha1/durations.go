package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A duration of which zero is a value of its own is a pointer. The API server fills in its default,
// but an object that was read from a file or made in Go may lack it: these methods return the value
// then too.

// Retention returns how long a finished CallLeg stays: 1h by default.
func (c *CallLegs) Retention() time.Duration { return orDefault(c.TTLAfterFinished, time.Hour) }

// GracePeriod returns how long to wait for further hangups before a call counts as missed: 5s by
// default.
func (c *CallLegs) GracePeriod() time.Duration { return orDefault(c.MissedGracePeriod, 5*time.Second) }

// Grace returns how long an extension must have been gone before its mapping goes: 1h by default.
func (d *Discovery) Grace() time.Duration { return orDefault(d.GracePeriod, time.Hour) }

// ShortestOutage returns the length of an outage from which on the history is read: 30s by default.
func (b *Backfill) ShortestOutage() time.Duration { return orDefault(b.After, 30*time.Second) }

// Retention returns how long the command stays after it has finished or failed: 1h by default.
func (c *CallCommandSpec) Retention() time.Duration { return orDefault(c.TTLAfterFinished, time.Hour) }

func orDefault(set *metav1.Duration, otherwise time.Duration) time.Duration {
	if set == nil {
		return otherwise
	}
	return set.Duration
}

// Covers reports whether the calls of the outage are those that were read last, or are being read.
func (s *BackfillStatus) Covers(outage Outage) bool {
	return s != nil && s.Outage != nil && s.Outage.Start.Equal(&outage.Start) && s.Outage.End.Equal(&outage.End)
}
