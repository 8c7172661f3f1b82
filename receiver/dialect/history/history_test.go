package history_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
	"github.com/pbx-operator/pbx-operator/receiver/dialect"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/history"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/voipnow"
)

var received = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func decode(body string, missed callevent.MissedRule) ([]callevent.Event, error) {
	return history.Over(nil, missed).Decode(callevent.Request{
		ReceivedAt: received, Method: "POST", Path: callhistory.Path, ContentType: "application/json; charset=utf-8", Body: body,
	})
}

// record is one that is right, with members that complete it or take the place of its own.
func record(members string) string {
	return `[{"id":"r1","callID":"c1","flow":"In","start":"2026-01-02T10:00:00Z","end":"2026-01-02T10:01:00Z","result":"NoAnswer"` +
		members + `}]`
}

func TestRecord(t *testing.T) {
	t.Parallel()
	events, err := decode(`[{"id":"r1","callID":"c1","extension":"1234*101@sip.example.com","extensionID":"5101","flow":"In",
		"from":"+12025550143","fromName":"Customer","to":"1234*101","did":"12025550100","start":"2026-01-02T11:00:00+01:00",
		"answer":"2026-01-02T10:00:06Z","end":"2026-01-02T10:01:06.5Z","talkSeconds":60.5,"result":"Answered","transferred":true,
		"recordingID":"R1","since":"v2"}]`, callevent.MissedUnsaid)
	if err != nil || len(events) != 1 {
		t.Fatalf("%+v, %v", events, err)
	}
	at := func(s float64) time.Time { return time.Date(2026, 1, 2, 10, 0, 0, int(s*1e9), time.UTC) }
	talk := 60500 * time.Millisecond
	want := callevent.Event{
		ID: events[0].ID, Type: callevent.History, CallID: "c1", LegID: "history/r1", Time: at(0), Received: received,
		Record: &callevent.Record{Answer: at(6), End: at(66.5)}, Source: callevent.Source{Type: callevent.Phone, Number: "1234*101", ID: "5101"},
		Flow: callevent.FlowIn, Status: callevent.StatusAnswered, WireStatus: "Answered",
		Caller: callevent.Party{Number: "+12025550143", Name: "Customer"},
		Called: callevent.Party{Number: "1234*101", Extension: "1234*101", ExtensionID: "5101", Local: true},
		DID:    "12025550100", Transferred: true, Talk: &talk, RecordingID: "R1",
	}
	if diff := cmp.Diff(want, events[0]); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(events[0].ID, "history/r1/") {
		t.Errorf("id %q", events[0].ID)
	}
}

// The same record is the same event, however it is written; one that says more is another.
func TestIdentity(t *testing.T) {
	t.Parallel()
	id := func(body string) string {
		events, err := decode(body, callevent.MissedUnsaid)
		if err != nil || len(events) != 1 {
			t.Fatalf("%s: %v", body, err)
		}
		return events[0].ID
	}
	first := id(record(""))
	if again := id(record(`,"end":"2026-01-02T11:01:00.000+01:00", "kind":"Extension","recordingID":""`)); again != first {
		t.Errorf("the same record: %s and %s", first, again)
	}
	if more := id(record(`,"recordingID":"R1"`)); more == first {
		t.Error("a record that says more is the same event")
	}
}

// A long id makes a leg id that can be shown, and still tells records apart.
func TestLongID(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, id := range []string{"r1", "r2", strings.Repeat("x", 511) + "1", strings.Repeat("x", 511) + "2"} {
		events, err := decode(record(`,"id":"`+id+`"`), callevent.MissedUnsaid)
		if err != nil || len(events[0].LegID) > 250 || seen[events[0].LegID] {
			t.Errorf("%+v, %v", events, err)
			continue
		}
		seen[events[0].LegID] = true
	}
}

func TestSides(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		members        string
		caller, called callevent.Party
		level          callevent.Level
	}{
		{`,"extension":"1234*101","from":"1234*102"`, callevent.Party{Number: "1234*102", Local: true},
			callevent.Party{Number: "1234*101", Extension: "1234*101", Local: true}, ""},
		{`,"flow":"Out","extension":"1234*101","to":"112"`, callevent.Party{Number: "1234*101", Extension: "1234*101"},
			callevent.Party{Number: "112"}, ""},
		{`,"flow":"Out","extension":"1234*101","from":"12025550100","to":"1234*102"`,
			callevent.Party{Number: "12025550100", Extension: "1234*101", Local: true}, callevent.Party{Number: "1234*102", Local: true}, ""},
		{`,"flow":"Out","extension":"10","from":"10","to":"11","did":"2025550100"`,
			callevent.Party{Number: "10", Extension: "10", Local: true}, callevent.Party{Number: "11", Local: true, Guessed: true}, ""},
		{`,"flow":"Out","extension":"10","from":"10","to":"112"`,
			callevent.Party{Number: "10", Extension: "10", Local: true}, callevent.Party{Number: "112"}, ""},
		{`,"flow":"Out","extension":"1234*101","from":"anonymous","to":"+12025550143"`,
			callevent.Party{Number: "1234*101", Extension: "1234*101"}, callevent.Party{Number: "+12025550143"}, ""},
		{`,"flow":"Out","from":"2025550143","to":"2025550177"`, callevent.Party{Number: "2025550143"}, callevent.Party{Number: "2025550177"},
			callevent.LevelOutside},
	} {
		events, err := decode(record(tc.members), callevent.MissedUnsaid)
		if err != nil {
			t.Fatal(err)
		}
		e := events[0]
		if diff := cmp.Diff([]any{tc.caller, tc.called, tc.level, ""}, []any{e.Caller, e.Called, e.Level, e.DID}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.members, diff)
		}
	}
}

func TestWhoDecides(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		members     string
		none, lines callevent.MissedRule
	}{
		{`,"extension":"10"`, "", callevent.MissedUnlessAnswered},
		{`,"extension":"10","result":"Busy"`, "", callevent.MissedUnlessAnswered},
		{`,"extension":"10","result":"Answered"`, "", ""},
		{`,"extension":"10","result":"AnsweredElsewhere"`, "", ""},
		{`,"extension":"10","from":"11"`, "", ""},
		{`,"extension":"10","flow":"Out"`, "", ""},
		{`,"from":"2025550143"`, "", callevent.MissedUnlessAnswered},
		{`,"from":"2025550143","result":"Answered"`, "", callevent.MissedIfTried},
		{`,"kind":"Queue","extension":"0007*900"`, callevent.MissedUnlessAnswered, callevent.MissedUnlessAnswered},
		{`,"kind":"IVR","extension":"0007*099","result":"Answered"`, callevent.MissedIfTried, callevent.MissedIfTried},
		{`,"kind":"IVR","extension":"0007*099","bridged":false`, "", ""},
		{`,"kind":"IVR","from":"2025550143"`, "", callevent.MissedUnlessAnswered},
	} {
		for missed, want := range map[callevent.MissedRule]callevent.MissedRule{callevent.MissedUnsaid: tc.none, callevent.MissedUnlessAnswered: tc.lines} {
			if events, err := decode(record(tc.members), missed); err != nil || events[0].Missed != want {
				t.Errorf("%s with %q: %+v, %v; want %q", tc.members, missed, events, err, want)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		``:                         "not a JSON array",
		`{}`:                       "not a JSON array",
		`[]`:                       "at least one",
		`[{"id":"r1"},{"id":7}]`:   "record 1 of 2 (id \"r1\"): member callID is missing",
		`[null]`:                   "member id is missing",
		`["r1"]`:                   "not a call record",
		`[{"id":"r1","callID":7}]`: "member callID is a number: expected a string",
		record(`,"id":"` + strings.Repeat("x", 513) + `"`):          "member id has 513 bytes: at most 512",
		record(`,"flow":"Transfer"`):                                `member flow is "Transfer": expected In or Out`,
		record(`,"result":"bridged"`):                               `member result is "bridged": expected Answered`,
		record(`,"kind":"Trunk"`):                                   `member kind is "Trunk": expected Extension`,
		record(`,"start":"0001-01-01T00:00:00Z"`):                   "member start is missing",
		record(`,"start":"1999-01-01T00:00:00Z"`):                   "member start is 1999-01-01T00:00:00Z: expected a time between",
		record(`,"end":"2026-01-02T09:59:59Z"`):                     "member end, 2026-01-02T09:59:59Z, is before start",
		record(`,"end":"10:00"`):                                    "not a call record",
		record(`,"talkSeconds":-1`):                                 "member talkSeconds is -1",
		record(`,"talkSeconds":1e300`):                              "member talkSeconds is 1e+300",
		"[" + strings.Repeat("{},", callhistory.MaxRecords) + "{}]": "51 call records: at most 50",
	} {
		events, err := decode(body, callevent.MissedUnsaid)
		if err == nil || !strings.Contains(err.Error(), want) || events != nil {
			t.Errorf("%.100s: %+v, %v; want an error that says %q", body, events, err, want)
		}
	}
}

// Parts of a second may have been cut off the times.
func TestAnswerOutOfTheLegsTime(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{"2026-01-02T09:59:59Z": "10:00:00", "2026-01-02T10:01:01Z": "10:01:00"} {
		events, err := decode(record(`,"answer":"`+answer+`"`), callevent.MissedUnsaid)
		if err != nil || events[0].Record.Answer.Format(time.TimeOnly) != want {
			t.Errorf("%s: %+v, %v; want %s", answer, events, err, want)
		}
	}
}

type refusing struct{ dialect.Dialect }

var errLive = errors.New("live")

func (refusing) Decode(callevent.Request) ([]callevent.Event, error) { return nil, errLive }

// All that is no history is the PBX's own.
func TestOtherRequests(t *testing.T) {
	t.Parallel()
	speaks := history.Over(refusing{}, callevent.MissedUnsaid)
	for _, request := range []callevent.Request{
		{}, {Path: "/hangup", ContentType: callhistory.ContentType}, {Path: callhistory.Path, ContentType: "application/x-www-form-urlencoded"},
	} {
		if _, err := speaks.Decode(request); !errors.Is(err, errLive) {
			t.Errorf("%+v: %v", request, err)
		}
	}
	events, err := history.Over(voipnow.Dialect{}, callevent.MissedUnsaid).Decode(callevent.Request{
		ReceivedAt: received, Path: "/dial-in", Query: "CallID=c1",
	})
	if err != nil || len(events) != 1 || events[0].Type != callevent.DialIn {
		t.Errorf("%+v, %v", events, err)
	}
}

// Without a time of receipt, a captured record counts as received when its leg was over.
func TestWithoutTimeOfReceipt(t *testing.T) {
	t.Parallel()
	request := callevent.Request{Path: callhistory.Path, ContentType: callhistory.ContentType, Body: record("")}
	events, err := history.Over(nil, callevent.MissedUnsaid).Decode(request)
	if err != nil || !events[0].Received.Equal(events[0].Record.End) {
		t.Errorf("%+v, %v", events, err)
	}
}
