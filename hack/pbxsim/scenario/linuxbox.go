package scenario

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// linuxBoxCast is the cast of the LinuxBox reference: lines 10 to 12 and the queue support.
func linuxBoxCast() Cast {
	line := func(number, id, label string) Extension {
		return Extension{Number: number, ID: id, Type: Phone, Domain: "pbx.example.com", Label: label}
	}
	return Cast{
		Extensions: map[string]Extension{
			"10": line("10", "3010", "Reception"), "11": line("11", "3011", "Workshop"), "12": line("12", "3012", "Office"),
		},
		Values: map[string]string{
			"customer": "2025550143", "other": "2025550177", "did": "2025550100", "queue": "support", "custom": "", "client": "3",
			"emergency": "112", "hidden": "",
		},
	}
}

// linuxBoxID has the shape of Asterisk's unique ids for calls. Its epoch has nothing to do with the
// time of the call, as in samples of real ones.
func linuxBoxID(symbol string, sum [sha256.Size]byte) string {
	if !strings.HasPrefix(symbol, "C") {
		return hexID(symbol, sum)
	}
	epoch := 1_400_000_000 + binary.BigEndian.Uint64(sum[:8])%300_000_000
	return fmt.Sprintf("%d.%d", epoch, binary.BigEndian.Uint64(sum[8:16])%1_000_000_000_000)
}

// linuxBoxLegID is the line within the call, or the call itself.
func linuxBoxLegID(y *symbols, l leg) string {
	return strings.TrimSuffix(y.id(l.Call)+"/"+y.extension(l.Sender).Number, "/")
}

// The events of scenario files and what the dialects call them. Those that a dialect lacks are
// hidden in it; names that are not here are sent as they are.
var linuxBoxNames = map[string]map[string]string{
	"start":           {"": "dial", "b": "start_call", "c": "start_call"},
	"dial":            {"": "dial"},
	"queue_in":        {"b": "queue_in", "c": "queue_in"},
	"queue_out":       {"b": "queue_out", "c": "queue_out"},
	"ring":            {"b": "start_int_dial", "c": "start_int_dial"},
	"ring_external":   {"c": "start_ext_dial"},
	"answer_internal": {"": "answer_internal", "b": "answered_internal", "c": "answered_internal"},
	"answer_external": {"": "answer_external", "b": "answered_external", "c": "answered_external"},
	"call_pickup":     {"": "call_pickup"},
	"hangup_internal": {"": "hangup_internal", "b": "hangup_internal", "c": "hangup_internal"},
	"release":         {"b": "hangup_internal", "c": "hangup_internal"}, // of a line that only rang
	"end":             {"": "endcall", "b": "call_end", "c": "call_end"},
}

// dialectOf is the dialect of a profile: nothing for A, b or c.
func dialectOf(profile string) string { return strings.TrimSuffix(profile, "-2022") }

func linuxBoxProfile(profile string, e event) event {
	names, ok := linuxBoxNames[e.Type]
	if !ok {
		return e
	}
	e.wire = names[dialectOf(profile)]
	e.hidden = e.wire == ""
	return e
}

// linuxBox builds the parameters of LinuxBox's notifications ("PBX API"; "PBX Notifikace" 2019;
// "PBX notifications" 2022 and 2024). A parameter without a value is sent all the same.
func linuxBox(y *symbols, s Scenario, l leg, e event) wire {
	f := linuxBoxFields{y: y, s: s, l: l, e: e, v: url.Values{"call_id": {y.id(l.Call)}}}
	name := cmp.Or(e.wire, e.Type)
	w := wire{params: f.v, rawPlus: s.quirks["rawPlus"] != ""}
	switch dialectOf(s.Profile) {
	case "b":
		f.dialectB(name)
		w.path = "/" + name
	case "c":
		f.dialectC(name, s.Profile == "c")
		w.path = "/" + name
		if name == "start_ext_dial" && s.quirks["startIntDial"] != "" {
			w.path = "/start_int_dial"
		}
	default:
		f.dialectA(name)
	}
	for _, set := range []map[string]string{l.Set, e.Set} {
		f.override(set)
	}
	return w
}

// linuxBoxFields collects the parameters of one event.
type linuxBoxFields struct {
	y *symbols
	s Scenario
	l leg
	e event
	v url.Values
}

// override sets what the scenario says, where the dialect sends it at all: results of the end exist
// in A only.
func (f linuxBoxFields) override(set map[string]string) {
	for name, value := range set {
		if _, ok := f.v[name]; ok || f.s.Profile == "" || strings.HasPrefix(name, "x_") {
			f.v.Set(name, f.y.expand(value))
		}
	}
}

func (f linuxBoxFields) set(names ...string) {
	for _, name := range names {
		f.v.Set(name, f.value(name))
	}
}

// value is the value of a parameter of any dialect.
func (f linuxBoxFields) value(name string) string {
	line := f.y.extension(f.l.Sender)
	switch name {
	case "caller_type":
		return f.l.Flow
	case "exten_num", "line_num":
		return line.Number
	case "exten_name", "line_name":
		return line.Label
	case "line_userid":
		return line.ID
	case "transfering_exten": //nolint:misspell // spelt so on the wire
		return f.y.extension(f.l.Via).Number
	case "queue_name":
		if f.l.Queue {
			return f.y.cast.Values["queue"]
		}
	case "custom_call_id":
		return f.y.cast.Values["custom"]
	case "record_name":
		return f.recordName()
	case "ts":
		return f.timestamp()
	case "cel_id":
		return f.celID()
	default:
		return f.ofParties(name)
	}
	return ""
}

// ofParties is the value of a parameter that tells of caller and called.
func (f linuxBoxFields) ofParties(name string) string {
	caller, _ := f.y.party(f.l.Caller)
	called, _ := f.y.party(f.l.Called)
	switch name {
	case "caller_num":
		return caller.number
	case "caller_name":
		return caller.device().Label
	case "caller_exten":
		return caller.device().Number
	case "dialed_exten":
		return called.device().Number
	case "caller_userid":
		if f.l.Flow == "internal" {
			return caller.device().ID
		}
	case "called_num", "target_num":
		return called.number
	case "dialed_num":
		// Since 2024 a line's ringing names the dialled number for callers from outside only.
		if f.l.Flow != "internal" || f.s.Profile != "c" || !strings.HasSuffix(f.e.wire, "int_dial") {
			return called.number
		}
	case "direction":
		return direction(caller, called)
	}
	return ""
}

// celID grows with every event of a call and is never that of another call.
func (f linuxBoxFields) celID() string {
	sum := f.y.sum("cel")
	return strconv.FormatUint(binary.BigEndian.Uint64(sum[:8])%1_000_000_000_000*1000+uint64(f.y.position), 10)
}

// device is the extension on this side, or one without number, name and id.
func (p party) device() Extension {
	if p.extension == nil {
		return Extension{}
	}
	return *p.extension
}

func direction(caller, called party) string {
	switch {
	case caller.extension == nil:
		return "incoming"
	case called.extension == nil:
		return "outgoing"
	default:
		return "internal"
	}
}

// dialectA is the form with an event parameter.
func (f linuxBoxFields) dialectA(name string) {
	f.v.Set("event", name)
	f.set("ts")
	switch name {
	case "dial":
		f.set("caller_type", "caller_num", "called_num", "transfering_exten") //nolint:misspell // spelt so on the wire
	case "answer_internal":
		f.set("exten_num", "exten_name", "caller_num", "caller_type")
	case "answer_external", "call_pickup":
		f.set("called_num", "caller_num", "caller_name", "caller_type")
	case "hangup_internal":
		f.set("exten_num", "exten_name")
	case "endcall":
		f.set("caller_type", "caller_num", "called_num",
			"call_answered", "answering_exten", "last_dial_answered", "last_dialed_exten")
	}
	f.set("record_name")
}

// dialectB is the form of 2019, with the event in the path.
func (f linuxBoxFields) dialectB(name string) {
	switch name {
	case "start_call":
		f.set("caller_num", "target_num")
	case "queue_in", "queue_out":
		f.set("caller_num", "queue_name")
	case "start_int_dial", "answered_internal":
		f.set("caller_num", "line_num", "line_name")
	case "answered_external":
		f.set("target_num", "line_num", "line_name")
	case "hangup_internal":
		f.set("line_num", "line_name")
	}
}

// dialectC is the form of 2022, or that of 2024 with its additions.
func (f linuxBoxFields) dialectC(name string, newer bool) {
	f.set("cel_id")
	line := []string{"caller_num", "line_num", "line_name", "line_userid", "custom_call_id", "dialed_num"}
	if newer {
		line = append(line, "caller_exten", "caller_name", "dialed_exten", "caller_type", "direction")
	}
	switch name {
	case "start_call":
		f.set("caller_type", "caller_num", "caller_userid", "target_num")
		if newer {
			f.set("dialed_num")
		}
	case "queue_in":
		f.set("caller_num", "dialed_num", "queue_name")
	case "queue_out":
		f.set("queue_name")
	case "start_int_dial", "start_ext_dial", "answered_internal":
		f.set(line...)
		if newer && f.l.Flow == "external" {
			f.set("queue_name")
		}
	case "answered_external":
		f.set("target_num")
		f.set(line...)
	case "hangup_internal":
		f.set("line_num", "line_name", "line_userid", "custom_call_id")
	case "call_end":
		f.set("custom_call_id")
	}
	if newer && strings.HasPrefix(name, "queue_") {
		f.set("custom_call_id")
	}
}

// recordName is made of the local time at which the call started and its parties, and stays the
// same for the whole call.
func (f linuxBoxFields) recordName() string {
	for _, e := range f.s.events {
		l := f.s.legs[e.Leg]
		if e.Leg != f.l.Record && (f.l.Record != "" || l.Call != f.l.Call) {
			continue
		}
		caller, _ := f.y.party(l.Caller)
		called, _ := f.y.party(l.Called)
		at := f.y.start.Add(e.offset() + number(f.s.quirks["recordShift"])).In(f.zone())
		return at.Format("20060102-150405") + "-" + caller.number + "-" + called.number
	}
	return ""
}

// zone is the PBX's own; UTC unless the scenario says something else.
func (f linuxBoxFields) zone() *time.Location {
	offset := f.s.quirks["zone"]
	if offset == "" {
		return time.UTC
	}
	return time.FixedZone(offset, int(number(offset).Seconds()))
}

// timestamp is the time of the event with a numeric offset. Trailing zeros of the fraction are cut
// as the scenario says.
func (f linuxBoxFields) timestamp() string {
	layout := "2006-01-02T15:04:05.000000-07:00"
	switch f.s.quirks["fraction"] {
	case "0":
		layout = "2006-01-02T15:04:05-07:00"
	case "5":
		layout = "2006-01-02T15:04:05.00000-07:00"
	}
	return f.y.now.In(f.zone()).Format(layout)
}

var (
	linuxBoxAnswers = map[string]bool{"answer_internal": true, "answer_external": true}
	linuxBoxEnds    = map[string]bool{"hangup_internal": true, "release": true, "end": true}
)

// linuxBoxDrop releases the lines and ends the call.
func linuxBoxDrop(s Scenario, happened []event) []event {
	answered := "f"
	for _, e := range happened {
		if linuxBoxAnswers[e.Type] {
			answered = "t"
		}
	}
	var lines, calls []event
	for _, l := range unfinished(happened, linuxBoxAnswers, linuxBoxEnds) {
		switch {
		case l.first.Type == "dial": // a transfer within the call
		case s.legs[l.name].Sender == "":
			calls = append(calls, event{Leg: l.name, Type: "end", Set: map[string]string{
				"call_answered": answered, "last_dial_answered": "f",
			}})
		case l.answered:
			lines = append(lines, event{Leg: l.name, Type: "hangup_internal"})
		default:
			lines = append(lines, event{Leg: l.name, Type: "release"})
		}
	}
	return append(lines, calls...)
}
