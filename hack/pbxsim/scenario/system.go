package scenario

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// system is what the scenarios of one PBX have in common.
type system struct {
	cast func() Cast
	call string // symbol of the call where a leg names none
	// id is the form of the ids that stand for symbols.
	id func(symbol string, sum [sha256.Size]byte) string
	// legID tells the legs of a call apart.
	legID func(y *symbols, l leg) string
	// encode builds the notification of one event.
	encode func(y *symbols, s Scenario, l leg, e event) wire

	// profiles are the installations beside the one without a name; profile is an event as one of
	// them shows it.
	profiles []string
	profile  func(name string, e event) event
	quirks   []string // what the encoder knows
	// anonymous says that events need no sender: one URL serves the whole account.
	anonymous bool
	// drop returns the events with which the open legs end when somebody interrupts the call; nil:
	// as [Drop].
	drop func(s Scenario, happened []event) []event
}

// wire is what an event looks like to the receiver.
type wire struct {
	params      url.Values
	path        string
	body        []byte
	contentType string
	rawPlus     bool
}

// systems holds the PBXs that scenarios can be written for; its keys are the folders in package
// scenarios.
var systems = map[string]*system{
	"ringme": {
		cast: DefaultCast, call: "C1", id: hexID, legID: (*symbols).legID, encode: ringme,
		quirks: []string{"rawPlus"},
	},
	"voipnow": {
		cast: voipNowCast, call: "C1", id: hexID, legID: (*symbols).legID, encode: voipNow,
		profiles: []string{"early"}, profile: voipNowProfile, drop: voipNowDrop,
		quirks: []string{"rawPlus", "oneURL"},
	},
	"callable": {
		cast: callableCast, call: "P1", id: uuidID, legID: callableLegID, encode: callable,
		profiles: []string{"no-listener", "level-1"}, profile: callableProfile, drop: callableDrop,
		quirks: []string{"meta", "timestamp", "more", "batch"}, anonymous: true,
	},
	"linuxbox": {
		cast: linuxBoxCast, call: "C1", id: linuxBoxID, legID: linuxBoxLegID, encode: linuxBox,
		profiles: []string{"b", "c", "c-2022"}, profile: linuxBoxProfile, drop: linuxBoxDrop,
		quirks: []string{"fraction", "zone", "rawPlus", "recordShift", "startIntDial"}, anonymous: true,
	},
}

// CastOf returns the cast of a PBX's reference document, or nothing for a PBX that has no
// scenarios.
func CastOf(pbx string) Cast {
	if s, ok := systems[pbx]; ok {
		return s.cast()
	}
	return Cast{}
}

func (s *system) checkLeg(y *symbols, name string, l leg) error {
	var errs []error
	for _, party := range []string{l.Sender, l.Caller, l.Called} {
		free := s.anonymous && (party == "" || strings.Contains(party, "@") || strings.Contains(party, "$"))
		if _, ok := y.party(party); !ok && !free {
			errs = append(errs, fmt.Errorf("leg %s: unknown party %q", name, party))
		}
	}
	if !identifier.MatchString(l.ID) || !identifier.MatchString(l.Call) {
		errs = append(errs, fmt.Errorf("leg %s: id and call must be symbols like C1 or L2", name))
	}
	return errors.Join(errs...)
}

// number reads a quirk's seconds; what is no number counts as zero.
func number(s string) time.Duration {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0
	}
	return seconds(f)
}

// progress is what is known of a leg from the events that happened.
type progress struct {
	name     string
	first    event
	answered bool
	ended    bool
}

// unfinished lists the legs that have begun and not ended, in order of their first events. Types
// say which events answer a leg and which end it.
func unfinished(happened []event, answers, ends map[string]bool) []progress {
	var legs []progress
	index := map[string]int{}
	for _, e := range happened {
		if e.Leg == "" {
			continue
		}
		i, ok := index[e.Leg]
		if !ok {
			i = len(legs)
			index[e.Leg] = i
			legs = append(legs, progress{name: e.Leg, first: e})
		}
		legs[i].answered = legs[i].answered || answers[e.Type]
		legs[i].ended = legs[i].ended || ends[e.Type]
	}
	still := legs[:0]
	for _, l := range legs {
		if !l.ended {
			still = append(still, l)
		}
	}
	return still
}
