// Package scenario turns call scenarios written in YAML into the notifications a PBX emits for
// them.
//
// A file describes one call: the legs with the parameters that all their events share, and the
// events in order of time. Variants are deltas against the file's own call, each becoming a
// scenario with a name of its own. Identifiers are symbols (C1, L3, R1, B1) that [Scenario.Play]
// replaces by values derived from a seed, so a test can repeat a call exactly and two seeds never
// share an identifier. Who takes part is a [Cast], so the same scenario can be played by other
// extensions.
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

// Extension is a party on the PBX. No notification carries the type: a receiver knows it from the
// URL only.
type Extension struct {
	Number string        // name with the client prefix, for example 1234*101
	ID     string        // numeric id on the PBX, for example 5101
	Type   ExtensionType // Phone, IVR or Queue
	Domain string        // SIP domain, for example sip.example.com
	Label  string        // display name; may be empty
}

// Notification is one event as the PBX emits it. Receivers get it only where somebody registered
// for it.
type Notification struct {
	At        time.Time     // when the event happens; the source of EventTime
	Offset    time.Duration // since the start of the call
	Sender    Extension     // the extension the event belongs to
	EventType string        // type of the registration that it fires, for example dial-in
	CallID    string        // empty for events outside calls
	// LegID tells the legs of a call apart: RingMe's SubCallID and Callable's callSid (with a
	// device: callSid/childSid). VoipNow and LinuxBox send none, so receivers have to find the legs
	// themselves.
	LegID  string
	Params url.Values // the complete parameters on the wire, where the PBX sends a form

	// Path follows the token in the event URL: /dial-in and the like for VoipNow, whose payload
	// does not name the event, the segment that LinuxBox appends in its dialects B and C, else
	// nothing.
	Path string
	// Body is the complete body where the PBX sends no form, of type ContentType: Callable's JSON.
	Body        []byte
	ContentType string
	RawPlus     bool // + is sent as such, not as %2B
	// Silent marks an event that happens without a notification. Only [Scenario.Timeline] returns
	// those.
	Silent bool

	// RecordingID is the recording that the call history shows for this leg, RecordingDelay after
	// the event. With a delay the notification itself does not carry it (RingMe reference, section
	// 10.3).
	RecordingID    string
	RecordingDelay time.Duration

	// Fact is what happened, whatever the installation tells of it.
	Fact Fact
}

// Fact is an event as the scenario's file has it.
type Fact struct {
	Type   string // such as ring
	Leg    string // name of the leg
	Status string // CallStatus of the event; empty: the default
	// Caller and Called are the numbers of the leg's parties.
	Caller, Called string
}

// Scenario is one call, ready to be played.
type Scenario struct {
	PBX   string // a folder of package scenarios, for example ringme
	Name  string // unique per PBX and stable, for example S3b
	Title string
	// Profile is the installation of the PBX that the scenario is of: "early" for VoipNow,
	// "no-listener" or "level-1" for Callable, "b", "c" or "c-2022" (the dialects) for LinuxBox.
	// Empty: VoipNow 3 late and v5, everything of Callable, dialect A of LinuxBox.
	Profile string

	legs   map[string]leg
	events []event
	rename map[string]string
	quirks map[string]string
	system *system
}

// Option changes how a scenario is played.
type Option func(*symbols)

// WithCast lets other parties play the scenario. Parties that c leaves out are those of
// [DefaultCast].
func WithCast(c Cast) Option {
	return func(y *symbols) { y.cast = c.over(y.cast) }
}

// WithSkew sets the clock of the PBX's second node, which stamps every other event, ahead of that
// of the first.
func WithSkew(d time.Duration) Option {
	return func(y *symbols) { y.skew = d }
}

// Play returns the notifications of the scenario in the order in which they happen, the first event
// being at start plus its offset. Equal arguments give equal results. A scenario in which the PBX
// stays silent returns none.
func (s Scenario) Play(seed string, start time.Time, opts ...Option) []Notification {
	return slices.DeleteFunc(s.Timeline(seed, start, opts...), func(n Notification) bool { return n.Silent })
}

// Timeline is Play together with the events that happen but that this installation of the PBX tells
// nobody.
func (s Scenario) Timeline(seed string, start time.Time, opts ...Option) []Notification {
	y := s.symbols(seed, opts...)
	y.start = start
	out := make([]Notification, 0, len(s.events))
	for _, g := range s.groups() {
		out = append(out, s.notification(y, g))
	}
	return out
}

// As is the scenario on another installation of the PBX, the profile being added to its name. A
// scenario that is made for one installation stays as it is.
func (s Scenario) As(profile string) (Scenario, error) {
	if profile == "" || s.Profile != "" {
		return s, nil
	}
	s.Name, s.Profile = s.Name+"-"+profile, profile
	return s.finished()
}

// groups collects the events that travel in one notification: each its own, unless the PBX batches
// them.
func (s Scenario) groups() [][]event {
	window, batched := s.quirks["batch"]
	var out [][]event
	for _, e := range s.events {
		if n := len(out); batched && n > 0 && out[n-1][0].joins(e, number(window)) {
			out[n-1] = append(out[n-1], e)
			continue
		}
		out = append(out, []event{e})
	}
	return out
}

// joins says whether a later event travels with e.
func (e event) joins(later event, window time.Duration) bool {
	return !e.hidden && !later.hidden && later.offset() <= e.offset()+window
}

func (s Scenario) notification(y *symbols, group []event) Notification {
	first, last := group[0], group[len(group)-1]
	l := s.legs[first.Leg]
	n := Notification{
		At:             y.start.Add(last.offset()),
		Offset:         last.offset(),
		Sender:         y.extension(cmp.Or(first.Sender, l.Sender)),
		EventType:      cmp.Or(first.wire, first.Type),
		RecordingDelay: seconds(first.RecordLate),
		Silent:         first.hidden,
	}
	if first.Leg != "" {
		n.CallID, n.LegID = s.callID(y, l), s.system.legID(y, l)
	}
	caller, _ := y.party(l.Caller)
	called, _ := y.party(l.Called)
	n.Fact = Fact{Type: first.Type, Leg: first.Leg, Status: first.Status, Caller: caller.number, Called: called.number}
	if first.Record != "" {
		n.RecordingID = y.extension(l.Sender).ID + "-" + y.id(first.Record)
	}
	for i, e := range group {
		y.position++
		y.stamp(y.start.Add(e.offset()))
		w := s.system.encode(y, s, s.legs[e.Leg], e)
		if i == 0 {
			n.Params, n.Path, n.ContentType, n.RawPlus = s.renamed(w.params), w.path, w.contentType, w.rawPlus
			if w.path != "" {
				n.EventType = w.path[1:]
			}
		}
		n.Body = appendBody(n.Body, w.body)
	}
	if _, batched := s.quirks["batch"]; batched {
		n.Body = append(append([]byte{'['}, n.Body...), ']')
	}
	return n
}

// callID is empty where a Callable event knows no A leg.
func (s Scenario) callID(y *symbols, l leg) string {
	if parent, ok := l.Set["parentCallSid"]; ok && parent == "" {
		return ""
	}
	return y.id(l.Call)
}

func appendBody(to, body []byte) []byte {
	if len(to) > 0 {
		to = append(to, ',')
	}
	return append(to, body...)
}

// Drop returns the notifications with which the PBX ends every open leg of a call that somebody
// interrupts at a time, after the first played ones of its Timeline. The other arguments are those
// of the Timeline.
func (s Scenario) Drop(seed string, start time.Time, played int, at time.Time, opts ...Option) []Notification {
	if s.system.drop == nil {
		return Drop(s.Timeline(seed, start, opts...)[:played], at)
	}
	y := s.symbols(seed, opts...)
	y.start = start
	happened := slices.Concat(s.groups()[:played]...)
	y.position = len(happened)
	var out []Notification
	for _, e := range s.system.drop(s, happened) {
		e.At = at.Sub(start).Seconds()
		if n := s.notification(y, []event{s.seen(e)}); !n.Silent {
			out = append(out, n)
		}
	}
	return out
}

// ID returns what Play puts in the place of a symbol such as C1 or B1 for RingMe and VoipNow.
func ID(seed, symbol string) string { return hexID(symbol, digest(seed, symbol)) }

// ID returns what Play puts in the place of a symbol, in the form that ids have on this PBX.
func (s Scenario) ID(seed, symbol string) string { return s.symbols(seed).id(symbol) }

func (s Scenario) symbols(seed string, opts ...Option) *symbols {
	return newSymbols(s.system, seed, opts...)
}

// CallIDs returns the CallIDs that Play gives this seed, in order of first use.
func (s Scenario) CallIDs(seed string) []string {
	y := s.symbols(seed)
	var ids []string
	for _, e := range s.events {
		l, ok := s.legs[e.Leg]
		if id := s.callID(y, l); ok && id != "" && !e.hidden && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Parties returns the short numbers of the extensions that take part, sorted.
func (s Scenario) Parties() []string {
	y := s.symbols("")
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

// renamed applies the scenario's spelling of parameter names; an empty new name removes the
// parameter.
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
