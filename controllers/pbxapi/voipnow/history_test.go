package voipnow_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/pbxapitest"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/voipnow"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	simvoipnow "github.com/pbx-operator/pbx-operator/hack/pbxsim/voipnow"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestHistoryOfTheSimulator(t *testing.T) {
	pbx, api := start(t, simvoipnow.Settings{})
	for _, scenario := range []string{"V1", "V5", "V6", "V9"} {
		if _, err := pbx.Sim.Place(t.Context(), simclient.CallRequest{Scenario: scenario, Speed: 1000, Wait: true}); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	records, err := pbxapitest.History(t.Context(), api, now.Add(-time.Hour), now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, r := range records {
		talk := "-"
		if r.TalkSeconds != nil {
			talk = time.Duration(*r.TalkSeconds * float64(time.Second)).Round(10 * time.Second).String()
		}
		got[fmt.Sprintf("%s %s %s>%s %s %s", r.Extension, r.Flow, r.From, r.To, r.Result, talk)]++
		if r.CallID != r.ID || !strings.HasPrefix(r.ID, "cdr/") || r.End.Before(r.Start) ||
			r.Answer.IsZero() != (r.Result != callhistory.Answered) {
			t.Errorf("odd: %+v", r)
		}
	}
	want := map[string]int{
		"0007*101 In 12025550143>12025550100 Answered 1m0s": 1, // V1
		"0007*101 Out 12025550100>12025550143 Busy -":       1, // V5
		"0007*101 Out 0007*101>102 Answered 30s":            1, // V6
		"0007*102 In 0007*101>102 Answered 30s":             1,
		"0007*102 In 12025550143>12025550100 Answered 1m0s": 1, // V9
		"0007*101 In 12025550143>12025550100 NoAnswer -":    1,
		"0007*103 In 12025550143>12025550100 NoAnswer -":    1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if records, err = pbxapitest.History(t.Context(), api, now.Add(-2*time.Hour), now.Add(-time.Hour)); err != nil || len(records) != 0 {
		t.Errorf("an hour earlier: %d records, %v", len(records), err)
	}
}

func TestHistoryRecords(t *testing.T) {
	const times = `"startDate":"2026-01-02T12:00:00","endDate":"2026-01-02T12:01:10"`
	basic := callhistory.Record{
		ID: "cdr/7", CallID: "cdr/7", Extension: phone, Flow: callhistory.In, From: "12025550143", To: "12025550100",
		Start: noon, End: noon.Add(70 * time.Second), Result: callhistory.NoAnswer,
	}
	with := func(change func(*callhistory.Record)) callhistory.Record {
		record := basic
		change(&record)
		return record
	}
	in := `"extension":"0007*101","source":"12025550143","destination":"12025550100","flow":"8"`
	at10, never := `"answerDate":"2026-01-02T12:00:10"`, `"answerDate":"0000-00-00 00:00:00"`
	tests := map[string]struct {
		item string
		want callhistory.Record
	}{
		"not answered": {`"id":7,` + in + `,` + times + `,"disposition":3`, basic},
		"answered": {`"id":"7",` + in + `,` + times + `,"disposition":"0",` + at10 + `,"duration":61`, with(func(r *callhistory.Record) {
			r.Answer, r.TalkSeconds, r.Result = noon.Add(10*time.Second), new(60.0), callhistory.Answered
		})},
		"answered, but not told when": {
			`"id":7,` + in + `,` + times + `,"disposition":0,"duration":"61",` + never,
			with(func(r *callhistory.Record) { r.TalkSeconds, r.Result = new(61.0), callhistory.Answered }),
		},
		"not allowed": {`"id":7,` + in + `,` + times + `,"disposition":5`, with(func(r *callhistory.Record) { r.Result = callhistory.Failed })},
		"unknown":     {`"id":7,` + in + `,` + times, with(func(r *callhistory.Record) { r.Result = callhistory.Unknown })},
		"duration in place of an end": {
			`"id":7,` + in + `,"disposition":0,"startDate":"2026-01-02 12:00:00","answerDate":"2026-01-02T14:00:10+02:00","duration":60`,
			with(func(r *callhistory.Record) {
				r.Answer, r.TalkSeconds, r.Result = noon.Add(10*time.Second), new(60.0), callhistory.Answered
			}),
		},
		"names": {
			`"id":7,"extension":"0007*101","source":"Desk One <0007*101>","destination":"<12025550143>","flow":4,"disposition":1,` + times,
			with(func(r *callhistory.Record) {
				r.Flow, r.From, r.FromName, r.To, r.Result = callhistory.Out, phone, "Desk One", "12025550143", callhistory.Busy
			}),
		},
		"no extension, incoming": {
			`"id":7,"source":"12025550143","destination":"0007*101","flow":8,"disposition":3,` + times,
			with(func(r *callhistory.Record) { r.To = phone }),
		},
		"no extension, local": {
			`"id":7,"source":"0007*101","destination":"102","flow":2,"disposition":3,` + times,
			with(func(r *callhistory.Record) { r.Flow, r.From, r.To = callhistory.Out, phone, "102" }),
		},
		"local, short numbers, the called one": {
			`"id":7,"extension":"0007*101","source":"0007*102","destination":"101","flow":2,"disposition":3,` + times,
			with(func(r *callhistory.Record) { r.From, r.To = "0007*102", "101" }),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			api := connectTo(t, func(*http.Request) (int, string) {
				return http.StatusOK, `{"entry":[{` + test.item + `}],"totalResults":1}`
			})
			got, err := pbxapitest.History(t.Context(), api, noon, noon.Add(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]callhistory.Record{test.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestHistoryWithOtherNames(t *testing.T) {
	for item, says := range map[string]string{
		`"id":7,"started":"2026-01-02T12:00:00"`:                         "startDate",
		`"startDate":"2026-01-02T12:00:00"`:                              "no id",
		`"id":7,"startDate":"2026-01-02T12:00:00","duration":"a minute"`: "neither endDate nor duration",
		`"id":7,"startDate":"2 January"`:                                 "the startDate of call record 7 is no time",
	} {
		api := connectTo(t, func(*http.Request) (int, string) { return http.StatusOK, `{"entry":[{` + item + `}],"totalResults":1}` })
		_, err := pbxapitest.History(t.Context(), api, noon, noon.Add(time.Minute))
		if !errors.Is(err, pbxapi.ErrNotSupported) || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want ErrNotSupported that says %q", err, says)
		}
	}
}

// archive holds one call a second and shows them as the documents say: startIndex ends at 4999.
type archive struct {
	from  time.Time
	calls int
	asked int
}

func (a *archive) answer(r *http.Request) (int, string) {
	a.asked++
	query := r.URL.Query()
	begin, err1 := time.Parse("2006-01-02T15:04:05", query.Get("startDate"))
	end, err2 := time.Parse("2006-01-02T15:04:05", query.Get("endDate"))
	var index, count int
	_, err3 := fmt.Sscan(query.Get("startIndex")+" "+query.Get("count"), &index, &count)
	if err := errors.Join(err1, err2, err3); err != nil || index > 4999 {
		return http.StatusBadRequest, `{"error":{"code":"cdr_start_date_invalid"}}`
	}
	first := max(0, int(begin.Sub(a.from)/time.Second))
	last := min(a.calls, int(end.Sub(a.from)/time.Second)+1)
	var items []string
	for i := first + index; i < min(last, first+index+count); i++ {
		at := a.from.Add(time.Duration(i) * time.Second).Format("2006-01-02T15:04:05")
		items = append(items, fmt.Sprintf(`{"id":%d,"flow":8,"startDate":%q,"endDate":%q}`, i, at, at))
	}
	return http.StatusOK, fmt.Sprintf(`{"entry":[%s],"totalResults":"%d"}`, strings.Join(items, ","), last-first)
}

func TestHistoryOfMoreCallsThanThePBXShowsAtOnce(t *testing.T) {
	pbx := &archive{from: noon, calls: 30000}
	records, err := pbxapitest.History(t.Context(), connectTo(t, pbx.answer), noon.Add(100*time.Second), noon.Add(25000*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	n := len(records)
	if n != 24900 || !records[0].Start.Equal(noon.Add(100*time.Second)) || !records[n-1].Start.Equal(noon.Add(24999*time.Second)) {
		t.Errorf("%d records, want 24900 from the first second asked for to the last", n)
	}
	if pbx.asked > 50 {
		t.Errorf("%d requests", pbx.asked)
	}
}

func TestHistoryOfAFractionOfASecond(t *testing.T) {
	pbx := &archive{from: noon, calls: 10}
	records, err := pbxapitest.History(t.Context(), connectTo(t, pbx.answer), noon.Add(2500*time.Millisecond), noon.Add(4*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	// A call that began at 2.7 s is recorded with 2 s.
	if len(records) != 2 || records[0].ID != "cdr/2" || records[1].ID != "cdr/3" {
		t.Errorf("records: %+v", records)
	}
}

func TestHistoryForbidden(t *testing.T) {
	pbx, api := start(t, simvoipnow.Settings{})
	fault(t, pbx, simclient.Fault{Path: "/cdr", Kind: simclient.FaultStatus, Status: http.StatusForbidden})
	if _, err := pbxapitest.History(t.Context(), api, noon, noon.Add(time.Hour)); !errors.Is(err, pbxapi.ErrForbidden) {
		t.Errorf("got %v, want ErrForbidden", err)
	}
}

// The owner of call records is a user id or nobody: the aliases of paths with extensions are not
// documented here.
func TestHistoryOfAUser(t *testing.T) {
	for user, want := range map[string]string{"": "/uapi/cdr", "@owner": "/uapi/cdr", "17": "/uapi/cdr/17"} {
		var path string
		with := settings("https://pbx.example.com", "app", "secret")
		with.PBX.VoipNow.UserID = user
		with.HTTP.Transport = answers(func(r *http.Request) (int, string) {
			path = r.URL.Path
			return http.StatusOK, `{"entry":[],"totalResults":0}`
		})
		if _, err := pbxapitest.History(t.Context(), connect(t, with), noon, noon.Add(time.Hour)); err != nil || path != want {
			t.Errorf("asked %s, %v; want %s", path, err, want)
		}
	}
}

// The PBX asks and answers by the clock on its wall.
func TestHistoryInATimeZone(t *testing.T) {
	utc := func(text string) time.Time {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	tests := map[string]struct {
		zone     string
		from, to time.Time
		asked    string
		start    string
		want     time.Time
	}{
		"default": {
			"", utc("2026-07-01T10:00:00Z"), utc("2026-07-01T11:00:00Z"), "2026-07-01T09:59:59 2026-07-01T11:00:01",
			"2026-07-01T10:30:00", utc("2026-07-01T10:30:00Z"),
		},
		"summer": {
			"Europe/Prague", utc("2026-07-01T10:00:00Z"), utc("2026-07-01T11:00:00Z"), "2026-07-01T11:59:59 2026-07-01T13:00:01",
			"2026-07-01T12:30:00", utc("2026-07-01T10:30:00Z"),
		},
		"winter": {
			"Europe/Prague", utc("2026-01-02T10:00:00Z"), utc("2026-01-02T11:00:00Z"), "2026-01-02T10:59:59 2026-01-02T12:00:01",
			"2026-01-02 11:30:00", utc("2026-01-02T10:30:00Z"),
		},
		"an offset outranks it": {
			"Europe/Prague", utc("2026-01-02T10:00:00Z"), utc("2026-01-02T11:00:00Z"), "2026-01-02T10:59:59 2026-01-02T12:00:01",
			"2026-01-02T10:30:00Z", utc("2026-01-02T10:30:00Z"),
		},
		"clocks are set forward": {
			"Europe/Prague", utc("2026-03-29T00:50:00Z"), utc("2026-03-29T01:10:00Z"), "2026-03-29T01:49:59 2026-03-29T03:10:01",
			"2026-03-29T03:05:00", utc("2026-03-29T01:05:00Z"),
		},
		"clocks are set back from 3:00 to 2:00, and show 2:50 before 2:10": {
			"Europe/Prague", utc("2026-10-25T00:50:00Z"), utc("2026-10-25T02:10:00Z"), "2026-10-25T01:49:59 2026-10-25T04:10:01",
			"2026-10-25T03:05:00", utc("2026-10-25T02:05:00Z"),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var asked string
			with := settings("https://pbx.example.com", "app", "secret")
			with.PBX.VoipNow.TimeZone = test.zone
			with.HTTP.Transport = answers(func(r *http.Request) (int, string) {
				asked = r.URL.Query().Get("startDate") + " " + r.URL.Query().Get("endDate")
				return http.StatusOK, fmt.Sprintf(`{"entry":[{"id":7,"flow":8,"startDate":%q,"duration":5}],"totalResults":1}`, test.start)
			})
			got, err := pbxapitest.History(t.Context(), connect(t, with), test.from, test.to)
			if err != nil || asked != test.asked {
				t.Errorf("asked for %s, %v; want %s", asked, err, test.asked)
			}
			if len(got) != 1 || !got[0].Start.Equal(test.want) || !got[0].End.Equal(test.want.Add(5*time.Second)) {
				t.Errorf("got %+v, want one that began at %s", got, test.want)
			}
		})
	}
}

func TestUnknownTimeZone(t *testing.T) {
	for _, zone := range []string{"Europe/Brno", "Local"} {
		with := settings("https://pbx.example.com", "app", "secret")
		with.PBX.VoipNow.TimeZone = zone
		_, err := voipnow.New(with)
		if !errors.Is(err, pbxapi.ErrInvalid) || !strings.Contains(err.Error(), "spec.pbx.voipNow.timeZone") || !strings.Contains(err.Error(), zone) {
			t.Errorf("got %v, want ErrInvalid that names the field and %s", err, zone)
		}
	}
}
