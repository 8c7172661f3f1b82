package pipeline

import (
	"errors"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

var errPanic = errors.New("a fault of the receiver")

// parkedCalls are the calls that were set aside because they cannot be correlated, or because the logs
// refuse them for good. Their events are passed over, so that all other calls go on.
type parkedCalls struct {
	// total counts all of them, calls the newest, which are the ones that are passed over.
	total int
	calls []ParkedCall
	keys  map[string]bool
}

// add sets a call aside, or an event that belongs to no known call.
func (p *parkedCalls) add(key, reason string, at time.Time) {
	if p.keys == nil {
		p.keys = make(map[string]bool)
	}
	if p.keys[key] {
		return
	}
	if len(p.calls) >= maxParked {
		delete(p.keys, p.calls[0].Call)
		p.calls = p.calls[1:]
	}
	p.keys[key] = true
	p.total++
	p.calls = append(p.calls, ParkedCall{Call: key, Reason: reason, Since: at})
}

// has reports whether a call is set aside.
func (p *parkedCalls) has(callID string) bool {
	return len(p.keys) > 0 && p.keys[journal.CallKey(callID)]
}
