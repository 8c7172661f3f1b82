// Package dialecttest says what every dialect owes to those behind it, for the fuzz tests of the
// dialects.
package dialecttest

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect"
)

const (
	// longestID is what a CallLeg can show.
	longestID = 256
	// longestSide leaves room for the number of the attempt.
	longestSide  = 250
	longestError = 1000
)

// ReceivedAt is a time of receipt made of any number; none for 0.
func ReceivedAt(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds%(1<<33), 0).UTC()
}

// Decode fails the test unless whatever the dialect makes of a request is the same every time and
// fit to be stored, correlated and shown. It returns the legs of the events; none where the request
// was refused.
func Decode(t *testing.T, speaks dialect.Dialect, request callevent.Request) []correlation.Leg {
	t.Helper()
	events, err := decode(speaks, request)
	repeated, errRepeated := decode(speaks, request)
	if (err == nil) != (errRepeated == nil) || !cmp.Equal(events, repeated) {
		t.Fatalf("decoded twice: %+v, %v and %+v, %v", events, err, repeated, errRepeated)
	}
	if err != nil {
		if err.Error() == "" || len(err.Error()) > longestError {
			t.Fatalf("an error of %d bytes", len(err.Error()))
		}
		return nil
	}
	for i := range events {
		check(t, &events[i])
	}
	return correlation.Derive(events, correlation.DefaultRules())
}

// decode does what Guard adds, but panics as the dialect does.
func decode(speaks dialect.Dialect, request callevent.Request) ([]callevent.Event, error) {
	events, err := speaks.Decode(request)
	if err != nil {
		return nil, err
	}
	return dialect.Guard(decoded(events)).Decode(request)
}

// decoded is the dialect of events that are decoded already.
type decoded []callevent.Event

func (d decoded) Decode(callevent.Request) ([]callevent.Event, error) { return d, nil }

func check(t *testing.T, e *callevent.Event) {
	t.Helper()
	if e.ID == "" || e.Type == "" || e.Time.IsZero() || e.Received.IsZero() {
		t.Fatalf("an event without id, type or time: %+v", e)
	}
	if e.Talk != nil && *e.Talk < 0 || e.Record != nil && e.Record.End.Before(e.Time) {
		t.Fatalf("time runs backwards: %+v", e)
	}
	if (e.Caller.Withheld && e.Caller.Number != "") || e.Called.Withheld {
		t.Fatalf("a number that is withheld and shown: %+v", e)
	}
	if len(e.Attributes) > dialect.MaxAttributes {
		t.Fatalf("%d attributes", len(e.Attributes))
	}
	checkTexts(t, e)
	checkStorable(t, e)
}

// checkTexts fails the test unless the texts of the event are what a CallLeg can show.
func checkTexts(t *testing.T, e *callevent.Event) {
	t.Helper()
	for _, text := range []string{e.ID, e.CallID, e.LegID, e.Side, e.Caller.Name, e.Caller.Number, e.Called.Number, e.WireStatus} {
		if !utf8.ValidString(text) {
			t.Fatalf("%q is not UTF-8", text)
		}
	}
	if len(e.CallID) > longestID || len(e.LegID) > longestID || len(e.Side) > longestSide || len(e.Caller.Number) > longestID {
		t.Fatalf("longer than a CallLeg can show: %+v", e)
	}
}

// checkStorable fails the test unless the event comes back from storage as it went in.
func checkStorable(t *testing.T, e *callevent.Event) {
	t.Helper()
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatalf("not fit to be stored: %v", err)
	}
	var stored callevent.Event
	if err := json.Unmarshal(text, &stored); err != nil || !cmp.Equal(stored, *e) {
		t.Fatalf("stored and read back: %v\n%s", err, cmp.Diff(*e, stored))
	}
}
