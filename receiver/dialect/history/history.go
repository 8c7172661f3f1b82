// Package history understands calls that controllers read from a PBX's own history and post like
// events (package callhistory). It is the same for all PBXs.
package history

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
	"github.com/pbx-operator/pbx-operator/receiver/dialect"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/number"
)

// Over reads records of the PBX's history, and leaves everything else to the PBX's dialect. The
// missed is what the record of an unanswered call from outside says by itself: MissedUnlessAnswered
// for a PBX whose events say of every such call that it was missed (LinuxBox), MissedUnsaid where
// only queues and voice menus do.
func Over(live dialect.Dialect, missed callevent.MissedRule) dialect.Dialect {
	return reader{live: live, missed: missed}
}

type reader struct {
	live   dialect.Dialect
	missed callevent.MissedRule
}

// Decode turns a body of records into one event each; all or none of them.
func (r reader) Decode(request callevent.Request) ([]callevent.Event, error) {
	if request.Path != callhistory.Path || !isJSON(request.ContentType) {
		return r.live.Decode(request)
	}
	objects, err := split(request.Body)
	if err != nil {
		return nil, err
	}
	events := make([]callevent.Event, 0, len(objects))
	for i, raw := range objects {
		record, err := read(raw)
		if err != nil {
			return nil, fmt.Errorf("record %d of %d (id %.64q): %w", i+1, len(objects), record.ID, err)
		}
		events = append(events, r.event(&record, request.ReceivedAt.UTC()))
	}
	return events, nil
}

func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(media), callhistory.ContentType)
}

func split(body string) ([]json.RawMessage, error) {
	var objects []json.RawMessage
	if err := json.Unmarshal([]byte(body), &objects); err != nil {
		return nil, fmt.Errorf("not a JSON array of call records: %w", err)
	}
	switch {
	case len(objects) == 0:
		return nil, errors.New("the array is empty: expected at least one call record")
	case len(objects) > callhistory.MaxRecords:
		return nil, fmt.Errorf("%d call records: at most %d are expected", len(objects), callhistory.MaxRecords)
	}
	return objects, nil
}

func (r reader) event(record *callhistory.Record, received time.Time) callevent.Event {
	if received.IsZero() {
		received = record.End
	}
	event := callevent.Event{
		ID: "history/" + record.ID + "/" + said(record), Type: callevent.History, CallID: record.CallID, LegID: legID(record.ID),
		Time: record.Start, Received: received, Record: &callevent.Record{Answer: record.Answer, End: record.End},
		Source: source(record), Flow: flows[record.Flow], Status: statuses[record.Result], WireStatus: string(record.Result),
		RecordingID: record.RecordingID, Bridged: record.Bridged, Transferred: record.Transferred,
	}
	if record.TalkSeconds != nil {
		talk := time.Duration(*record.TalkSeconds * float64(time.Second)).Round(time.Millisecond)
		event.Talk = &talk
	}
	sides(&event, record)
	event.Missed = r.decide(&event)
	return event
}

// legID is that of the leg, if no event told of it.
func legID(id string) string {
	const longest = 200
	if len(id) > longest {
		id = digest([]byte(id))
	}
	return "history/" + id
}

// said stands for all that a record says: one that says more later is another event.
func said(record *callhistory.Record) string {
	text, _ := json.Marshal(record) // times and numbers were read from JSON
	return digest(text)
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// source is the extension; the receiver knows whose it is. Without one, a record tells of the PBX
// as a whole.
func source(record *callhistory.Record) callevent.Source {
	if record.Extension == "" && record.ExtensionID == "" {
		return callevent.Source{}
	}
	types := map[callhistory.Kind]callevent.SourceType{
		callhistory.Extension: callevent.Phone, callhistory.Queue: callevent.Queue, callhistory.IVR: callevent.IVR,
	}
	return callevent.Source{Type: types[record.Kind], Number: record.Extension, ID: record.ExtensionID}
}

// sides says who is who. The extension may call with somebody else's number, so that only the other
// number reports whether the call is internal.
func sides(event *callevent.Event, record *callhistory.Record) {
	own := record.Extension
	from, to := party(record.From, own), party(record.To, own)
	from.Name = record.FromName
	if record.Flow == callhistory.In {
		switch outside := record.DID != ""; { // a call through a public number has no extension for a caller
		case number.Withheld(record.From), outside && from.Local && !from.Guessed:
			from = callevent.Party{Name: record.FromName, Withheld: true}
		case outside:
			from.Local, from.Guessed = false, false
		}
		event.DID = record.DID
		if own != "" {
			to = callevent.Party{Number: own, Extension: own, ExtensionID: record.ExtensionID, Local: true}
		}
	} else {
		if number.Withheld(from.Number) { // from the other side
			from.Number = own
		}
		from.Extension, from.ExtensionID = own, record.ExtensionID
		from.Local = from.Local || own != "" && to.Local
		from.Guessed = false
		if event.Source == (callevent.Source{}) { // sent on to a number outside, by nobody in particular
			event.Level, event.Transferred = callevent.LevelOutside, true
		}
	}
	event.Caller, event.Called = from, to
}

// party takes a number for an extension that has the form of the own one: 1234*102; where there is
// no asterisk, as many digits, with the same client in front of long ones. Emergency numbers may be
// as short as that: events know better.
func party(shown, own string) callevent.Party {
	const shortest, client, longest = 7, 4, 4
	p := callevent.Party{Number: shown}
	switch {
	case strings.Contains(shown+own, "*"):
		p.Local = number.Extended(shown)
	case len(own) >= shortest && len(shown) == len(own):
		p.Local = number.Digits(shown) && shown[:client] == own[:client]
	case len(shown) <= longest && number.Digits(shown) && (own == "" || len(shown) == len(own)):
		p.Local, p.Guessed = true, true
	}
	return p
}

// decide says who decides whether the caller was served. Queues and voice menus may say so
// themselves, by Bridged; where they do not, their own answer says nothing of the caller, but
// without any leg that was tried he was perhaps served all the same.
func (r reader) decide(event *callevent.Event) callevent.MissedRule {
	ofSystem := event.Source.Type == callevent.Queue || event.Source.Type == callevent.IVR
	switch {
	case event.Flow != callevent.FlowIn, event.Bridged != nil, !ofSystem && r.missed == callevent.MissedUnsaid:
		return callevent.MissedUnsaid
	case event.Caller.Local && event.Called.Local:
		return callevent.MissedUnsaid
	case event.Status == callevent.StatusAnsweredElsewhere:
		return callevent.MissedUnsaid
	case event.Status != callevent.StatusAnswered && event.Status != callevent.StatusUnspecified:
		return callevent.MissedUnlessAnswered
	case ofSystem, event.Source == (callevent.Source{}):
		return callevent.MissedIfTried
	default:
		return callevent.MissedUnsaid
	}
}
