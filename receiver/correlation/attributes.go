package correlation

import (
	"maps"
	"slices"
	"strings"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// What a leg shows of attributes is bounded, as the API bounds it; so is what dialects say.
const (
	maxAttributes     = 16
	maxAttributeName  = 63
	maxAttributeValue = 256 // in bytes, of which no character has less than one
)

// attributesOf returns the attributes of an event, the first ones in order of their names; nil
// where it has none.
func attributesOf(e *callevent.Event) map[string]string {
	if len(e.Attributes) == 0 {
		return nil
	}
	var attributes map[string]string
	for _, name := range slices.Sorted(maps.Keys(e.Attributes)) {
		if len(attributes) == maxAttributes || name == "" || e.Attributes[name] == "" {
			continue
		}
		if attributes == nil {
			attributes = make(map[string]string, min(len(e.Attributes), maxAttributes))
		}
		attributes[owned(name, maxAttributeName)] = owned(e.Attributes[name], maxAttributeValue)
	}
	return attributes
}

// shareAttributes keeps the attributes once for events that repeat them, as those of one leg do.
func (e *event) shareAttributes(with *event) {
	if len(e.Attributes) > 0 && maps.Equal(e.Attributes, with.Attributes) {
		e.Attributes = with.Attributes
	}
}

// owned is a text in memory of its own, shortened, without half a character at its end.
func owned(text string, most int) string {
	return strings.Clone(strings.ToValidUTF8(text[:min(len(text), most)], ""))
}

// attributes are those of all events of a leg: of several values the first one counts.
func attributes(events []*event) map[string]string {
	var all map[string]string
	for _, e := range events {
		if len(e.Attributes) == 0 {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(e.Attributes)) {
			if _, known := all[name]; known || len(all) >= maxAttributes {
				continue
			}
			if all == nil {
				all = map[string]string{}
			}
			all[name] = e.Attributes[name]
		}
	}
	return all
}
