// Package scenario turns call scenarios written in YAML into the notifications a PBX emits for them.
//
// A file describes one call: the legs with the parameters that all their events share, and the events in order of
// time. Variants are deltas against the file's own call, each becoming a scenario with a name of its own. Identifiers
// are symbols (C1, L3, R1, B1) that [Scenario.Play] replaces by values derived from a seed, so a test can repeat a call
// exactly and two seeds never share an identifier. Who takes part is a [Cast], so the same scenario can be played by
// other extensions.
package scenario

import (
	"cmp"
	"net/url"
	"slices"
	"time"
)

// ExtensionType is the kind of an extension, in the spelling of ExtensionMapping.
type ExtensionType string

// The kinds of extensions that send notifications.
const (
	Phone ExtensionType = "Phone"
	IVR   ExtensionType = "IVR"
	Queue ExtensionType = "Queue"
)

// Extension is a party on the PBX. No notification carries the type: a receiver knows it from the URL only.
type Extension struct {
	Number string        // name with the client prefix, for example 1234*101
	ID     string        // numeric id on the PBX, for example 5101
	Type   ExtensionType // Phone, IVR or Queue
	Domain string        // SIP domain, for example sip.example.com
	Label  string        // display name; may be empty
}

// Notification is one event as the PBX emits it. Receivers get it only where somebody registered for it.
type Notification struct {
	At        time.Time     // when the event happens; the source of EventTime
	Offset    time.Duration // since the start of the call
	Sender    Extension     // the extension the event belongs to
	EventType string        // type of the registration that it fires, for example dial-in
	CallID    string        // empty for events outside calls
	LegID     string        // RingMe: SubCallID; empty for events outside calls
	Params    url.Values    // the complete parameters on the wire

	// RecordingID is the recording that the call history shows for this leg, RecordingDelay after the event.
	// With a delay the notification itself does not carry it (RingMe reference, section 10.3).
	RecordingID    string
	RecordingDelay time.Duration
}

// Scenario is one call, ready to be played.
type Scenario struct {
	PBX   string // ringme
	Name  string // unique per PBX and stable, for example S3b
	Title string

	legs   map[string]leg
	events []event
	rename map[string]string
	encode encoder
}

// An encoder builds the wire parameters of one event of one PBX.
type encoder func(y *symbols, l leg, e event, at time.Time) url.Values

// Option changes how a scenario is played.
type Option func(*symbols)

// WithCast lets other parties play the scenario. Parties that c leaves out are those of [DefaultCast].
func WithCast(c Cast) Option {
	return func(y *symbols) { y.cast = c.over(y.cast) }
}

// Play returns the notifications of the scenario in the order in which they happen, the first event being at start
// plus its offset. Equal arguments give equal results. A scenario in which the PBX stays silent returns none.
func (s Scenario) Play(seed string, start time.Time, opts ...Option) []Notification {
	y := newSymbols(seed, opts...)
	out := make([]Notification, 0, len(s.events))
	for _, e := range s.events {
		l := s.legs[e.Leg]
		n := Notification{
			At:             start.Add(e.offset()),
			Offset:         e.offset(),
			Sender:         y.extension(cmp.Or(e.Sender, l.Sender)),
			EventType:      e.Type,
			RecordingDelay: seconds(e.RecordLate),
		}
		if e.Leg != "" {
			n.CallID, n.LegID = y.id(l.call()), y.legID(l)
		}
		if e.Record != "" {
			n.RecordingID = y.extension(l.Sender).ID + "-" + y.id(e.Record)
		}
		n.Params = s.renamed(s.encode(y, l, e, n.At))
		out = append(out, n)
	}
	return out
}

// ID returns what Play puts in the place of a symbol such as C1 or B1.
func ID(seed, symbol string) string { return newSymbols(seed).id(symbol) }

// CallIDs returns the CallIDs that Play gives this seed, in order of first use.
func (s Scenario) CallIDs(seed string) []string {
	y := newSymbols(seed)
	var ids []string
	for _, e := range s.events {
		l, ok := s.legs[e.Leg]
		if id := y.id(l.call()); ok && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Parties returns the short numbers of the extensions that take part, sorted.
func (s Scenario) Parties() []string {
	y := newSymbols("")
	var numbers []string
	for _, e := range s.events {
		l := s.legs[e.Leg]
		for _, p := range []string{e.Sender, l.Sender, l.Caller, l.Via, l.Called} {
			if y.extension(p).ID != "" {
				numbers = append(numbers, p)
			}
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// Duration is the offset of the last event.
func (s Scenario) Duration() time.Duration {
	if len(s.events) == 0 {
		return 0
	}
	return s.events[len(s.events)-1].offset()
}

// renamed applies the scenario's spelling of parameter names; an empty new name removes the parameter.
func (s Scenario) renamed(v url.Values) url.Values {
	for from, to := range s.rename {
		values, ok := v[from]
		if !ok {
			continue
		}
		delete(v, from)
		if to != "" {
			v[to] = values
		}
	}
	return v
}
