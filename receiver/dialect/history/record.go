package history

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

var flows = map[callhistory.Flow]callevent.Flow{callhistory.In: callevent.FlowIn, callhistory.Out: callevent.FlowOut}

var statuses = map[callhistory.Result]callevent.Status{
	callhistory.Answered:          callevent.StatusAnswered,
	callhistory.NoAnswer:          callevent.StatusNoAnswer,
	callhistory.AnsweredElsewhere: callevent.StatusAnsweredElsewhere,
	callhistory.Busy:              callevent.StatusBusy,
	callhistory.Cancelled:         callevent.StatusCancelled,
	callhistory.Failed:            callevent.StatusFailed,
	callhistory.Unknown:           callevent.StatusUnspecified,
}

// Limits of what can be shown in a CallLeg, in bytes.
const (
	idLength    = 512 // which is shown as its digest where it is too long
	textLength  = 256
	shortLength = 64
)

// longestTalk is far above any call and far below what a time.Duration can hold.
const longestTalk = 365 * 24 * time.Hour

// read checks one record. Members that are not known are left out: the controllers may be newer
// than the receiver.
func read(raw json.RawMessage) (callhistory.Record, error) {
	var record callhistory.Record
	if err := json.Unmarshal(raw, &record); err != nil {
		var mismatch *json.UnmarshalTypeError
		if errors.As(err, &mismatch) && mismatch.Field != "" {
			return record, fmt.Errorf("member %s is a %s: expected a %s", mismatch.Field, mismatch.Value, mismatch.Type)
		}
		return record, fmt.Errorf("not a call record: %w", err)
	}
	record.Kind = cmp.Or(record.Kind, callhistory.Extension)
	record.Extension, _, _ = strings.Cut(record.Extension, "@")
	return record, cmp.Or(lengths(&record), words(&record), times(&record))
}

func lengths(r *callhistory.Record) error {
	for _, member := range []struct {
		name, value string
		limit       int
		required    bool
	}{
		{"id", r.ID, idLength, true}, {"callID", r.CallID, textLength, true},
		{"extension", r.Extension, shortLength, false}, {"extensionID", r.ExtensionID, shortLength, false},
		{"from", r.From, textLength, false}, {"fromName", r.FromName, textLength, false}, {"to", r.To, textLength, false},
		{"did", r.DID, shortLength, false}, {"recordingID", r.RecordingID, textLength, false},
	} {
		switch {
		case member.required && member.value == "":
			return fmt.Errorf("member %s is missing", member.name)
		case len(member.value) > member.limit:
			return fmt.Errorf("member %s has %d bytes: at most %d are expected", member.name, len(member.value), member.limit)
		}
	}
	return nil
}

func words(r *callhistory.Record) error {
	_, flow := flows[r.Flow]
	_, result := statuses[r.Result]
	switch {
	case !flow:
		return fmt.Errorf("member flow is %.64q: expected In or Out", r.Flow)
	case !result:
		return fmt.Errorf("member result is %.64q: expected Answered, NoAnswer, AnsweredElsewhere, Busy, Cancelled, Failed or Unknown", r.Result)
	case !slices.Contains([]callhistory.Kind{callhistory.Extension, callhistory.Queue, callhistory.IVR}, r.Kind):
		return fmt.Errorf("member kind is %.64q: expected Extension, Queue or IVR", r.Kind)
	}
	return nil
}

// times makes all of them UTC. An answer out of the leg's time is moved into it: the parts of a
// second may have been cut off one of them.
func times(r *callhistory.Record) error {
	r.Start, r.End, r.Answer = r.Start.UTC(), r.End.UTC(), r.Answer.UTC()
	for _, member := range []struct {
		name string
		at   time.Time
	}{{"start", r.Start}, {"end", r.End}} {
		switch {
		case member.at.IsZero():
			return fmt.Errorf("member %s is missing", member.name)
		case member.at.Year() < 2000 || member.at.Year() >= 2200:
			return fmt.Errorf("member %s is %s: expected a time between the years 2000 and 2200", member.name, member.at.Format(time.RFC3339))
		}
	}
	switch {
	case r.End.Before(r.Start):
		return fmt.Errorf("member end, %s, is before start, %s", r.End.Format(time.RFC3339), r.Start.Format(time.RFC3339))
	case r.Answer.IsZero():
	case r.Answer.Before(r.Start):
		r.Answer = r.Start
	case r.Answer.After(r.End):
		r.Answer = r.End
	}
	if s := r.TalkSeconds; s != nil && (*s < 0 || *s > longestTalk.Seconds()) {
		return fmt.Errorf("member talkSeconds is %v: expected a number of seconds that a call may last", *s)
	}
	return nil
}
