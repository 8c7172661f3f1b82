package sources

import (
	"strings"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// extensions are the mapped ones, by number and by id.
type extensions struct {
	byNumber, byID map[string]callevent.Source
}

func extensionsOf(targets map[digest]*Target) extensions {
	all := extensions{byNumber: map[string]callevent.Source{}, byID: map[string]callevent.Source{}}
	for _, target := range targets {
		put(all.byNumber, target.Source.Number, target.Source)
		put(all.byID, target.Source.ID, target.Source)
	}
	return all
}

// put chooses the same of several mappings of one extension every time.
func put(index map[string]callevent.Source, key string, source callevent.Source) {
	if before, ok := index[key]; key != "" && (!ok || source.User > before.User) {
		index[key] = source
	}
}

// attribute finds the mapping of the extension that an event belongs to, where the event URL did
// not tell: the event is then the same as if it had come by the URL of the extension. The end of a
// whole call is nobody's, even if it names the extension that the caller came to last.
func (x extensions) attribute(event *callevent.Event) {
	if event.Source.User != "" || event.Type == callevent.CallEnd {
		return
	}
	source := event.Source
	if source.Number == "" && source.ID == "" {
		source.Number, source.ID = own(event)
	}
	number, _, _ := strings.Cut(source.Number, "@")
	known, ok := x.byNumber[number]
	if !ok {
		known, ok = x.byID[source.ID]
	}
	if !ok {
		return
	}
	if source.Type != callevent.SourceUnknown {
		known.Type = source.Type // the event itself tells what it belongs to
	}
	event.Source = known
}

// own is the extension's side of a leg. A leg to an outside number is nobody's, and what belongs to
// no leg neither. Where an outgoing leg has no extension but the called one, it leads to that one:
// the caller is then shown under a number of the account.
func own(event *callevent.Event) (number, id string) {
	if event.LegID == "" && event.Side == "" || event.Level == callevent.LevelOutside {
		return "", ""
	}
	switch {
	case event.Flow == callevent.FlowOut && event.Caller.Extension != "":
		return event.Caller.Extension, event.Caller.ExtensionID
	case event.Flow == callevent.FlowOut, event.Flow == callevent.FlowIn:
		return event.Called.Extension, event.Called.ExtensionID
	default:
		return "", ""
	}
}
