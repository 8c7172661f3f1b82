package scenario

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenarios"
)

// file is one YAML file: the base scenario, named after the file, and its variants.
type file struct {
	Title    string             `json:"title"`
	Legs     map[string]leg     `json:"legs"`
	Events   []event            `json:"events"`
	Rename   map[string]string  `json:"rename"`
	Quirks   map[string]string  `json:"quirks"` // switches that the PBX's encoder knows
	Variants map[string]variant `json:"variants"`
	// Profiles repeats the base and every variant for other installations of the PBX, the profile
	// being added to the name: V1-early. A variant may have a list of its own.
	Profiles []string `json:"profiles"`
	// VariantsOnly makes the base a template that is not a scenario itself, for families without a
	// main line.
	VariantsOnly bool `json:"variantsOnly"`
}

// leg is one attempt to connect one extension: what all its events have in common.
type leg struct {
	Sender   string            `json:"sender"`   // extension that sends the events, where one does
	ID       string            `json:"id"`       // symbol of the leg
	Call     string            `json:"call"`     // symbol of the call; default C1, for Callable P1
	API      string            `json:"api"`      // symbol in CallAPIID; RingMe: default that of the call, VoipNow: none
	Flow     string            `json:"flow"`     // CallFlow; LinuxBox: caller_type
	Caller   string            `json:"caller"`   // extension, customer or other
	Via      string            `json:"via"`      // extension that rings on the caller's behalf
	Called   string            `json:"called"`   // extension, customer or other
	DID      bool              `json:"did"`      // the call came through the public number
	Remote   string            `json:"remote"`   // RemoteNumber, on the dial event only
	Callback string            `json:"callback"` // symbol of CallBackID
	Dialled  string            `json:"dialled"`  // VoipNow: CalledNumber; default the number of called
	Child    string            `json:"child"`    // Callable: symbol of childSid
	Queue    bool              `json:"queue"`    // LinuxBox: the call comes out of the queue
	Record   string            `json:"record"`   // LinuxBox: leg whose parties name the recording; default the call's first
	Set      map[string]string `json:"set"`      // further parameters, on all events
}

// event is one row of a scenario.
type event struct {
	At         float64           `json:"at"`     // seconds since the start of the call
	Leg        string            `json:"leg"`    // empty for events outside calls
	Sender     string            `json:"sender"` // for events outside calls
	Type       string            `json:"type"`
	Status     string            `json:"status"`     // CallStatus; default CALLING for dial events, else ANSWER
	Talk       *float64          `json:"talk"`       // Duration, in seconds; absent when not set
	Bridged    *bool             `json:"bridged"`    // Bridged yes or no; absent when not set
	Record     string            `json:"record"`     // symbol of the recording
	RecordLate float64           `json:"recordLate"` // seconds until the history shows it; the event has no RecID then
	Set        map[string]string `json:"set"`        // further parameters, or all of them without a leg

	wire   string // name of the event in the profile, if it differs
	hidden bool   // the installation does not tell anybody
}

// clone returns a copy that shares nothing with e, so that a delta can be merged into it.
func (e event) clone() event {
	if e.Talk != nil {
		talk := *e.Talk
		e.Talk = &talk
	}
	if e.Bridged != nil {
		bridged := *e.Bridged
		e.Bridged = &bridged
	}
	e.Set = maps.Clone(e.Set)
	return e
}

func (e event) offset() time.Duration { return seconds(e.At) }

// seconds converts exactly to the microsecond, the resolution of EventTime.
func seconds(s float64) time.Duration { return time.Duration(math.Round(s*1e6)) * time.Microsecond }

// variant is a delta against the base scenario of its file. Events are numbered from 1 in the order
// of the base.
type variant struct {
	Title   string                     `json:"title"`
	Legs    map[string]json.RawMessage `json:"legs"`    // merged into legs of that name, or new ones
	Without []int                      `json:"without"` // events left out
	Change  map[int]json.RawMessage    `json:"change"`  // merged into events
	Add     []event                    `json:"add"`
	Events  []event                    `json:"events"` // a whole list instead of the base's
	Silent  bool                       `json:"silent"` // no events at all
	Rename  map[string]string          `json:"rename"` // parameter names on the wire; empty removes the parameter
	Quirks  map[string]string          `json:"quirks"` // merged into those of the base

	Profile  string    `json:"profile"`  // installation that the variant is of
	Profiles *[]string `json:"profiles"` // instead of the file's
}

// All returns every scenario of a PBX: by file, the base before its variants in order of their
// names.
func All(pbx string) ([]Scenario, error) {
	of, ok := systems[pbx]
	if !ok {
		return nil, fmt.Errorf("no scenarios for PBX %q: known are %s", pbx, strings.Join(PBXs(), ", "))
	}
	entries, err := fs.ReadDir(scenarios.FS, pbx)
	if err != nil {
		return nil, fmt.Errorf("read scenarios: %w", err)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(ordinal(a.Name()), ordinal(b.Name())) })
	var all []Scenario
	for _, entry := range entries {
		list, err := load(pbx, entry.Name(), of)
		if err != nil {
			return nil, fmt.Errorf("scenario file %s/%s: %w", pbx, entry.Name(), err)
		}
		all = append(all, list...)
	}
	return all, nil
}

// Find returns one scenario by name.
func Find(pbx, name string) (Scenario, error) {
	all, err := All(pbx)
	if err != nil {
		return Scenario{}, err
	}
	i := slices.IndexFunc(all, func(s Scenario) bool { return strings.EqualFold(s.Name, name) })
	if i < 0 {
		return Scenario{}, fmt.Errorf("no scenario %q for PBX %q", name, pbx)
	}
	return all[i], nil
}

// PBXs returns the systems that have scenarios.
func PBXs() []string { return slices.Sorted(maps.Keys(systems)) }

// ordinal makes S2 come before S10.
func ordinal(name string) int {
	n, err := strconv.Atoi(strings.TrimSuffix(name[1:], ".yaml"))
	if err != nil {
		return math.MaxInt
	}
	return n
}

func load(pbx, name string, of *system) ([]Scenario, error) {
	raw, err := fs.ReadFile(scenarios.FS, path.Join(pbx, name))
	if err != nil {
		return nil, err
	}
	var f file
	if err := yaml.UnmarshalStrict(raw, &f); err != nil {
		return nil, err
	}
	base := Scenario{
		PBX: pbx, Name: strings.TrimSuffix(name, ".yaml"), Title: f.Title,
		legs: f.Legs, events: f.Events, rename: f.Rename, quirks: f.Quirks, system: of,
	}
	list, err := f.scenarios(base)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i], err = list[i].finished(); err != nil {
			return nil, fmt.Errorf("scenario %s: %w", list[i].Name, err)
		}
	}
	return list, nil
}

// scenarios returns the base and its variants, each in all of its profiles.
func (f file) scenarios(base Scenario) ([]Scenario, error) {
	list := make([]Scenario, 0, 1+len(f.Variants))
	add := func(s Scenario, profiles []string) {
		list = append(list, s)
		for _, p := range profiles {
			s := s
			s.Name, s.Title, s.Profile = s.Name+"-"+p, s.Title+" ("+p+")", p
			list = append(list, s)
		}
	}
	if !f.VariantsOnly {
		add(base, f.Profiles)
	}
	for _, n := range slices.Sorted(maps.Keys(f.Variants)) {
		v := f.Variants[n]
		s, err := v.of(base)
		if err != nil {
			return nil, fmt.Errorf("variant %s: %w", n, err)
		}
		s.Name, s.Profile = n, v.Profile
		profiles := f.Profiles
		if v.Profiles != nil {
			profiles = *v.Profiles
		}
		add(s, profiles)
	}
	return list, nil
}

// finished gives the scenario its defaults, its order of events and its profile, and checks it.
func (s Scenario) finished() (Scenario, error) {
	legs := make(map[string]leg, len(s.legs))
	for name, l := range s.legs {
		l.Call = cmp.Or(l.Call, s.system.call)
		legs[name] = l
	}
	s.legs = legs
	s.events = slices.Clone(s.events)
	for i, e := range s.events {
		s.events[i] = s.seen(e)
	}
	slices.SortStableFunc(s.events, func(a, b event) int { return cmp.Compare(a.At, b.At) })
	return s, s.check()
}

// seen is an event as the installation shows it.
func (s Scenario) seen(e event) event {
	if s.system.profile == nil {
		return e
	}
	return s.system.profile(s.Profile, e)
}

// of applies the delta to a copy of the base.
func (v variant) of(base Scenario) (Scenario, error) {
	s := base
	s.Title = cmp.Or(v.Title, base.Title)
	s.legs = maps.Clone(base.legs)
	for name, delta := range v.Legs {
		l := s.legs[name]
		l.Set = maps.Clone(l.Set)
		if err := merge(delta, &l); err != nil {
			return Scenario{}, fmt.Errorf("leg %s: %w", name, err)
		}
		if s.legs == nil {
			s.legs = map[string]leg{}
		}
		s.legs[name] = l
	}
	if v.Rename != nil {
		s.rename = v.Rename
	}
	if v.Quirks != nil {
		s.quirks = maps.Clone(v.Quirks)
		for name, value := range base.quirks {
			if _, ok := v.Quirks[name]; !ok {
				s.quirks[name] = value
			}
		}
	}
	events, err := v.eventsOf(base.events)
	s.events = events
	return s, err
}

func (v variant) eventsOf(base []event) ([]event, error) {
	if v.Silent {
		return nil, nil
	}
	if v.Events != nil {
		base = v.Events
	}
	for n := range v.Change {
		if n < 1 || n > len(base) {
			return nil, fmt.Errorf("change of event %d: there are %d", n, len(base))
		}
	}
	out := make([]event, 0, len(base)+len(v.Add))
	for i, e := range base {
		if slices.Contains(v.Without, i+1) {
			continue
		}
		if delta, ok := v.Change[i+1]; ok {
			e = e.clone()
			if err := merge(delta, &e); err != nil {
				return nil, fmt.Errorf("event %d: %w", i+1, err)
			}
		}
		out = append(out, e)
	}
	return append(out, v.Add...), nil
}

// merge sets the members that the delta names and leaves the others.
func merge(delta json.RawMessage, into any) error {
	d := json.NewDecoder(bytes.NewReader(delta))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// check reports every name in the scenario that nothing defines.
func (s Scenario) check() error {
	y := s.symbols("")
	var errs []error
	for name, l := range s.legs {
		errs = append(errs, s.system.checkLeg(y, name, l), checkValues(y, l.Set))
		if _, ok := s.legs[l.Record]; l.Record != "" && !ok {
			errs = append(errs, fmt.Errorf("leg %s: record: unknown leg %q", name, l.Record))
		}
	}
	for i, e := range s.events {
		l, ok := s.legs[e.Leg]
		if e.Leg != "" && !ok {
			errs = append(errs, fmt.Errorf("event %d: unknown leg %q", i+1, e.Leg))
		}
		if y.extension(cmp.Or(e.Sender, l.Sender)).ID == "" && !s.system.anonymous || e.Type == "" {
			errs = append(errs, fmt.Errorf("event %d: needs a type and a known sender", i+1))
		}
		errs = append(errs, checkValues(y, e.Set))
	}
	for name := range s.quirks {
		if !slices.Contains(s.system.quirks, name) {
			errs = append(errs, fmt.Errorf("unknown quirk %q", name))
		}
	}
	if s.Profile != "" && !slices.Contains(s.system.profiles, s.Profile) {
		errs = append(errs, fmt.Errorf("unknown profile %q", s.Profile))
	}
	return errors.Join(errs...)
}

func checkValues(y *symbols, set map[string]string) error {
	var errs []error
	for name, v := range set {
		os.Expand(v, func(ref string) string {
			if _, ok := y.lookup(ref); !ok {
				errs = append(errs, fmt.Errorf("parameter %s: unknown $%s", name, ref))
			}
			return ""
		})
	}
	return errors.Join(errs...)
}
