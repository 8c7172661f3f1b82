package correlation

import (
	"maps"
	"slices"
	"strings"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// What a leg shows of tags and of parameters that no rule asks for is bounded, as the API bounds it.
const (
	maxAttributes     = 16
	maxAttributeName  = 63
	maxAttributeValue = 256
	tagPrefix         = "tag."
)

// attributesOf returns the tags and unknown parameters of an event, the first ones in order of their names; nil where it has none.
func attributesOf(e *callevent.Event) map[string]string {
	if len(e.Tags) == 0 && len(e.Extra) == 0 {
		return nil
	}
	all := make(map[string]string, len(e.Tags)+len(e.Extra))
	maps.Copy(all, e.Extra)
	for name, value := range e.Tags {
		all[tagPrefix+name] = value
	}
	attributes := make(map[string]string, min(len(all), maxAttributes))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if len(attributes) < maxAttributes && name != "" && all[name] != "" {
			attributes[clip(name, maxAttributeName)] = clip(all[name], maxAttributeValue)
		}
	}
	return attributes
}

// clip copies a text into memory of its own, and cuts one that is too long.
func clip(text string, most int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "")
	}
	return strings.Clone(text)
}

// attributes are those of all events of a leg: of several values the first one counts.
func attributes(events []*event) map[string]string {
	var all map[string]string
	for _, e := range events {
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
