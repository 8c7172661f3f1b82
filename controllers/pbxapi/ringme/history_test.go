package ringme_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/pbxapitest"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	simringme "github.com/pbx-operator/pbx-operator/hack/pbxsim/ringme"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

// history reads the calls of two days around now.
func history(t *testing.T, api pbxapi.Historian) []callhistory.Record {
	t.Helper()
	records, err := pbxapitest.History(t.Context(), api, time.Now().Add(-24*time.Hour), time.Now().Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// line is what matters of a record, for tables.
func line(r callhistory.Record) string {
	text := fmt.Sprintf("%s %s %s %s>%s %s", r.Kind, r.Extension, r.Flow, r.From, r.To, r.Result)
	if r.TalkSeconds != nil {
		text += fmt.Sprintf(" %gs", *r.TalkSeconds)
	}
	if r.Bridged != nil {
		text += fmt.Sprintf(" bridged=%t", *r.Bridged)
	}
	if r.Transferred {
		text += " transferred"
	}
	if r.DID != "" {
		text += " did=" + r.DID
	}
	return text
}

func TestHistoryOfScenarios(t *testing.T) {
	const c, did = "+12025550143", " did=12025550100"
	tests := map[string][]string{
		"S1": {"Extension 1234*101 In " + c + ">1234*101 Answered 60s" + did},
		"S2": {
			"IVR 1234*099 In " + c + ">1234*099 Answered bridged=true" + did,
			"Queue 1234*900 In " + c + ">1234*900 Answered bridged=true" + did,
			"Queue 1234*900 Out " + c + ">1234*101 Answered",
			"Extension 1234*101 In " + c + ">1234*101 Answered 60s" + did,
		},
		// The IVR and the queue took the call, but nobody did.
		"S3-no-out": {
			"IVR 1234*099 In " + c + ">1234*099 NoAnswer bridged=false" + did,
			"Queue 1234*900 In " + c + ">1234*900 NoAnswer bridged=false" + did,
			"Extension 1234*101 In " + c + ">1234*101 NoAnswer" + did,
			"Extension 1234*101 In " + c + ">1234*101 Cancelled" + did,
		},
		"S3b":      {"IVR 1234*099 In " + c + ">1234*099 NoAnswer bridged=false" + did},
		"S4":       {"Extension 1234*101 Out 1234*101>" + c + " Answered 11s"},
		"S11-busy": {"Extension 1234*101 Out 1234*101>" + c + " Busy"},
		"S6": {
			"Extension 1234*101 Out 1234*101>1234*102 Answered 30s",
			"Extension 1234*102 In 1234*101>1234*102 Answered 30s",
		},
		// 102 has the call from 101, and the customer in it.
		"S7-forwarding": {
			"Extension 1234*101 In " + c + ">1234*101 Answered 24s" + did,
			"Extension 1234*102 In " + c + ">1234*102 Answered 60s" + did,
			"Extension 1234*101 Out 1234*101>1234*102 Answered 60s transferred",
		},
		// Somebody outside talked to the caller, but no extension of the PBX did.
		"S10-ivr": {
			"IVR 1234*099 In " + c + ">1234*099 NoAnswer bridged=false" + did,
			"Extension 1234*101 In " + c + ">1234*101 NoAnswer" + did,
			"Extension 1234*101 Out " + c + ">+12025550177 Answered 60s transferred",
		},
		"S12a": {
			"Extension 1234*101 Out 1234*101>" + c + " Answered 71s",
			"IVR 1234*099 In " + c + ">1234*099 Answered bridged=true",
			"Queue 1234*900 In " + c + ">1234*900 Answered bridged=true",
			"Extension 1234*102 In " + c + ">1234*102 Answered 60s",
		},
		// The customer picked up the web call-back, but nobody spoke to him.
		"S12b": {
			"Extension 1234*101 Out 1234*101>" + c + " Answered 36s",
			"IVR 1234*099 In " + c + ">1234*099 NoAnswer bridged=false",
			"Queue 1234*900 In " + c + ">1234*900 NoAnswer bridged=false",
			"Extension 1234*102 In " + c + ">1234*102 Cancelled",
		},
		"S13": {
			"Extension 1234*101 In " + c + ">1234*101 AnsweredElsewhere" + did,
			"Extension 1234*102 In " + c + ">1234*102 Answered 60s" + did,
		},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			pbx, api := startFull(t, sim.Config{})
			call := place(t, pbx, name)
			records := history(t, api)
			lines := make([]string, len(records))
			for i, r := range records {
				lines[i] = line(r)
				if r.CallID != call.CallIDs[0] {
					t.Errorf("call id %s, the events have %s", r.CallID, call.CallIDs[0])
				}
			}
			if diff := cmp.Diff(want, lines); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestHistoryRecordInFull(t *testing.T) {
	pbx, api := startFull(t, sim.Config{})
	call := place(t, pbx, "S1")
	recorded := place(t, pbx, "S14")
	records := history(t, api)
	if len(records) != 2 {
		t.Fatalf("%d records, want 2", len(records))
	}
	start := records[0].Start
	want := callhistory.Record{
		ID: records[0].ID, CallID: call.ID, Kind: callhistory.Extension, Extension: "1234*101", ExtensionID: "5101", Flow: callhistory.In,
		From: "+12025550143", FromName: "+12025550143", To: "1234*101", DID: "12025550100",
		Start: start, Answer: start.Add(6 * time.Second), End: start.Add(66 * time.Second), TalkSeconds: new(60.0),
		Result:      callhistory.Answered,
		RecordingID: records[0].RecordingID,
	}
	if diff := cmp.Diff(want, records[0]); diff != "" || start.Location() != time.UTC || time.Since(start) > 2*time.Minute {
		t.Errorf("began at %s (-want +got):\n%s", start, diff)
	}
	if want := "5101-" + scenario.ID(recorded.Seed, "R1"); records[1].RecordingID != want {
		t.Errorf("recording %s, want %s", records[1].RecordingID, want)
	}
}

func TestHistoryCompletesLateRecordings(t *testing.T) {
	clock := time.Now()
	pbx, api := startFull(t, sim.Config{Now: func() time.Time { return clock }})
	recording := "5101-" + scenario.ID(place(t, pbx, "S14-late").Seed, "R1")
	before := history(t, api)
	clock = clock.Add(5*time.Minute + time.Second)
	after := history(t, api)
	if len(before) != 1 || len(after) != 1 || before[0].RecordingID != "" || after[0].RecordingID != recording {
		t.Fatalf("before %+v, after %+v", before, after)
	}
	if before[0].ID != after[0].ID {
		t.Errorf("the id changed from %s to %s", before[0].ID, after[0].ID)
	}
}

// The consultation before a transfer may be a call of its own.
func TestHistoryOfTwoCallIDs(t *testing.T) {
	pbx, api := startFull(t, sim.Config{})
	call := place(t, pbx, "S8-consultation")
	var ids []string
	for _, record := range history(t, api) {
		ids = append(ids, record.CallID)
	}
	if diff := cmp.Diff(call.CallIDs, ids); diff != "" || len(ids) != 2 {
		t.Errorf("(-events +history):\n%s", diff)
	}
}

func TestHistoryIsReadToTheEnd(t *testing.T) {
	pbx, api := startFull(t, sim.Config{})
	for range 2 {
		if _, err := pbx.Sim.Place(t.Context(), simclient.CallRequest{Scenario: "S1", Count: 230, Speed: 1e6, Wait: true}); err != nil {
			t.Fatal(err)
		}
	}
	ids := map[string]bool{}
	for _, record := range history(t, api) {
		ids[record.ID] = true
	}
	if len(ids) != 460 {
		t.Errorf("%d records, want 460", len(ids))
	}
}

func TestHistoryOfATime(t *testing.T) {
	pbx, api := startFull(t, sim.Config{})
	place(t, pbx, "S1")
	start := history(t, api)[0].Start
	for name, test := range map[string]struct {
		from, to time.Time
		want     int
	}{
		"begins at from":       {start, start.Add(time.Millisecond), 1},
		"began before":         {start.Add(time.Millisecond), start.Add(time.Hour), 0},
		"begins at to":         {start.Add(-time.Hour), start, 0},
		"in another time zone": {start.Add(-time.Second).In(time.FixedZone("", 7200)), start.Add(time.Second), 1},
	} {
		records, err := pbxapitest.History(t.Context(), api, test.from, test.to)
		if err != nil || len(records) != test.want {
			t.Errorf("%s: %d records, %v, want %d", name, len(records), err, test.want)
		}
	}
}

// The PBX refuses to make two statistics at a time.
func TestHistoryIsReadByOneAtATime(t *testing.T) {
	pbx, api := startFull(t, sim.Config{Settings: simringme.Settings{HistoryTime: delivery.Duration(20 * time.Millisecond)}})
	place(t, pbx, "S1")
	together(t, 5, func() error {
		_, err := pbxapitest.History(t.Context(), api, time.Now().Add(-time.Hour), time.Now())
		return err
	})
}

func TestHistoryDoesNotWaitForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		with := settings("https://pbx.example.com", "app", "secret")
		with.Timeout = time.Hour
		entered, release := make(chan struct{}, 2), make(chan struct{})
		with.HTTP.Transport = answers(func(r *http.Request) (int, string) {
			if strings.HasPrefix(r.URL.Path, "/oauth/") {
				return http.StatusOK, `{"access_token":"t","token_type":"Bearer"}`
			}
			entered <- struct{}{}
			<-release
			return http.StatusOK, `{"call_history":[]}`
		})
		api := offer(t, connect(t, with))
		done := make(chan error)
		go func() {
			_, err := pbxapitest.History(t.Context(), api, time.Unix(0, 0), time.Now())
			done <- err
		}()
		<-entered
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := pbxapitest.History(ctx, api, time.Unix(0, 0), time.Now()); !errors.Is(err, pbxapi.ErrUnreachable) {
			t.Errorf("got %v, want ErrUnreachable", err)
		}
		close(release)
		if err := <-done; err != nil {
			t.Errorf("the first to come: %v", err)
		}
	})
}

func TestHistoryFailures(t *testing.T) {
	tests := map[string]struct {
		fault simclient.Fault
		want  error
	}{
		"forbidden":      {simclient.Fault{Kind: simclient.FaultStatus, Status: http.StatusForbidden}, pbxapi.ErrForbidden},
		"broken answer":  {simclient.Fault{Kind: simclient.FaultTruncated}, pbxapi.ErrUnreachable},
		"token expired":  {simclient.Fault{Kind: simclient.FaultStatus, Status: http.StatusUnauthorized, Count: 1}, nil},
		"internal error": {simclient.Fault{Kind: simclient.FaultStatus, Status: http.StatusInternalServerError}, pbxapi.ErrUnreachable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pbx, api := startFull(t, sim.Config{})
			test.fault.Path = "/call_history/"
			fault(t, pbx, test.fault)
			if _, err := pbxapitest.History(t.Context(), api, time.Now().Add(-time.Hour), time.Now()); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestHistoryWhileAnotherApplicationReads(t *testing.T) {
	pbx, ours := startFull(t, sim.Config{Settings: simringme.Settings{HistoryTime: delivery.Duration(50 * time.Millisecond)}})
	theirs := offer(t, connect(t, settings(pbx.URL, pbx.ClientID, pbx.ClientSecret)))
	ctx, cancel := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	reading.Go(func() {
		for ctx.Err() == nil {
			_, _ = pbxapitest.History(ctx, theirs, time.Unix(0, 0), time.Now()) // one of two is refused
		}
	})
	defer reading.Wait()
	defer cancel()
	until(t, "it is our turn to be refused", func() bool {
		_, err := pbxapitest.History(t.Context(), ours, time.Unix(0, 0), time.Now())
		limited, ok := errors.AsType[*pbxapi.RateLimitedError](err)
		return ok && cmp.Equal(limited, &pbxapi.RateLimitedError{After: 5 * time.Second, ByPBX: true})
	})
}

// told gives the history of one call with these legs.
func told(t *testing.T, call, legs string) ([]callhistory.Record, error) {
	t.Helper()
	api := offer(t, inMemory(t, map[string]string{"/call_history/": `{"call_history":[{
		"call_uuid":"ABCDEF","flow":"in","from_username":"+12025550143","to_username":"1234*099","did_number":"12025550100",
		"init_time_gmt":"2026-01-02 10:00:00,60","start_time_gmt":"2026-01-02 10:00:00",` + call + `"cdr":[` + legs + `]}]}`}))
	return pbxapitest.History(t.Context(), api, time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC))
}

// over ends the call of told.
const over = `"hangup_time_gmt":"2026-01-02 10:01:00.600",`

// ours is a leg of extension 101 with these members.
func ours(members string) string {
	return `{"extension_id":5101,"extension_name":"1234*101@sip.example.com","extension_type":"phone","flow":"in",` + members + `}`
}

func TestHistoryInOtherWords(t *testing.T) {
	start := time.Date(2026, 1, 2, 10, 0, 0, 600e6, time.UTC)
	answered := func(more string) string { return ours(`"result":"answered"` + more) }
	failed := func(result, disposition string) string {
		return ours(`"result":"` + result + `","hangup_disposition":"` + disposition + `"`)
	}
	tests := map[string]struct {
		call, legs string
		want       []string
	}{
		"a call that goes on":        {`"hangup_time_gmt":null,`, answered(``), nil},
		"an outside line":            {over, `{"extension_id":null,"extension_name":null,"flow":"in","result":"answered"}`, nil},
		"talk of bridged_duration":   {over, answered(`,"duration":60,"bridged_duration":50`), []string{"Answered 50s +10s"}},
		"talk of bridged_time_gmt":   {over, answered(`,"bridged_time_gmt":"2026-01-02T10:00:20.6"`), []string{"Answered 40s +20s"}},
		"talk of duration":           {over, answered(`,"duration":45,"bridged_duration":null`), []string{"Answered 45s +15s"}},
		"no word of talk":            {over, answered(``), []string{"Answered"}},
		"a talk longer than the leg": {over, answered(`,"duration":1e300`), []string{"Answered"}},
		"a negative talk":            {over, answered(`,"bridged_duration":-1`), []string{"Answered"}},
		"duration without an answer": {over, ours(`"result":"not answered","duration":20`), []string{"NoAnswer"}},
		"voicemail":                  {over, failed("voicemail", "callee_bye"), []string{"NoAnswer"}},
		"refused":                    {over, failed("rejected", "callee_refuse"), []string{"Busy"}},
		"refused, in other words":    {over, failed("not answered", "callee_refuse"), []string{"Busy"}},
		"failed":                     {over, failed("failed", ""), []string{"Failed"}},
		"given up":                   {over, failed("not answered", "caller_cancel"), []string{"Cancelled"}},
		"timer":                      {over, failed("not answered", "internal_cancel"), []string{"NoAnswer"}},
		"lost the race":              {over, ours(`"result":"not answered","hangup_cause":"LOSE_RACE"`), []string{"AnsweredElsewhere"}},
		"a new result":               {over, failed("teleported", ""), []string{"Unknown"}},
		"a new result behind an IVR": {
			over, failed("teleported", "") + `,{"extension_id":5099,"extension_type":"ivr","result":"answered"}`,
			[]string{"Unknown", "Unknown"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			records, err := told(t, test.call, test.legs)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range records {
				text := string(r.Result)
				if r.TalkSeconds != nil {
					text += fmt.Sprintf(" %gs", *r.TalkSeconds)
				}
				if !r.Answer.IsZero() {
					text += fmt.Sprintf(" +%s", r.Answer.Sub(start))
				}
				got = append(got, text)
				if !r.Start.Equal(start) || r.End.Sub(r.Start) != time.Minute || r.CallID != "abcdef" {
					t.Errorf("%+v", r)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestHistoryOfHandovers(t *testing.T) {
	tests := map[string]struct{ leg, want string }{
		"to the extension":    {`"flow":"transfer","from_username":"1234*102","to_username":"1234*101"`, "In +12025550143>1234*101"},
		"to its short number": {`"flow":"transfer","from_username":"1234*102","to_username":"101"`, "In +12025550143>101"},
		"from the extension":  {`"flow":"transfer","from_username":"1234*101","to_username":"1234*102"`, "Out 1234*101>1234*102 transferred"},
		"outside": {
			`"flow":"TRANSFER","from_username":"+12025550143","to_username":"+12025550177"`, "Out +12025550143>+12025550177 transferred",
		},
		"to itself":             {`"flow":"in","from_username":"1234*101","to_username":"1234*101"`, "In 1234*101>1234*101"},
		"an ordinary call":      {`"flow":"in","from_username":"+12025550199","to_username":"1234*101"`, "In +12025550199>1234*101"},
		"flow only on the call": {`"flow":null,"from_username":"+12025550143","to_username":"1234*101"`, "In +12025550143>1234*101"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			records, err := told(t, over, ours(test.leg+`,"result":"answered"`))
			if err != nil || len(records) != 1 {
				t.Fatalf("%d records, %v", len(records), err)
			}
			r := records[0]
			got := fmt.Sprintf("%s %s>%s", r.Flow, r.From, r.To)
			if r.Transferred {
				got += " transferred"
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// Records keep their ids when more legs have come to the call.
func TestHistoryIDs(t *testing.T) {
	ids := func(legs ...string) []string {
		t.Helper()
		records, err := told(t, over, strings.Join(legs, ","))
		if err != nil {
			t.Fatal(err)
		}
		list := make([]string, len(records))
		for i, r := range records {
			list[i] = r.ID
		}
		return list
	}
	leg := func(extension, flow, at string) string {
		return fmt.Sprintf(`{"extension_id":%s,"flow":"%s","init_time_gmt":"2026-01-02 10:00:%s","result":"answered"}`, extension, flow, at)
	}
	legs := []string{
		leg("5101", "in", "01"), leg("5101", "out", "01"), leg("5101", "in", "02"), leg("5101", "in", "02"), leg("5102", "in", "01"),
	}
	before, after := ids(legs...), ids(slices.Concat([]string{leg("5103", "in", "00")}, legs)...)
	if unique := slices.Compact(slices.Sorted(slices.Values(before))); len(unique) != len(legs) {
		t.Errorf("not unique: %v", before)
	}
	if diff := cmp.Diff(before, after[1:]); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func TestHistoryThatIsNoHistory(t *testing.T) {
	for _, call := range []string{
		`{}`, `{"call_uuid":"A"}`, `{"call_uuid":"A","init_time_gmt":"yesterday"}`, `{"call_uuid":["A"],"init_time_gmt":"2026-01-02 10:00:00"}`,
	} {
		api := offer(t, inMemory(t, map[string]string{"/call_history/": `{"call_history":[` + call + `]}`}))
		if records, err := pbxapitest.History(t.Context(), api, time.Unix(0, 0), time.Now()); err == nil {
			t.Errorf("%s passes: %+v", call, records)
		}
	}
}

// One call that cannot be read keeps none of the others back.
func TestAnOddCallIsLeftOut(t *testing.T) {
	const good = `{"call_uuid":"B","init_time_gmt":"2026-01-02 10:00:00","hangup_time_gmt":"2026-01-02 10:01:00",` +
		`"cdr":[{"flow":"in","extension_id":5101,"extension_name":"1234*101","result":"answered"}]}`
	for _, odd := range []string{`{}`, `{"call_uuid":"A","init_time_gmt":"yesterday"}`, `7`, `{"call_uuid":"A","cdr":"none"}`} {
		api := offer(t, inMemory(t, map[string]string{"/call_history/": `{"call_history":[` + odd + `,` + good + `]}`}))
		records, err := pbxapitest.History(t.Context(), api, time.Unix(0, 0), time.Now())
		if !errors.Is(err, pbxapitest.ErrUnusable) || len(records) != 1 || records[0].CallID != "b" {
			t.Errorf("%s: %+v, %v; want the call b, and to be told of the other", odd, records, err)
		}
	}
}

func TestHistoryGoesOnFromACursor(t *testing.T) {
	pbx, api := startFull(t, sim.Config{})
	for range 3 {
		place(t, pbx, "S1")
	}
	all := history(t, api)
	first, second := readPage(t, api, "1 of 1/"), readPage(t, api, "2 of 200/x")
	if len(first) != len(all) || len(second) != 0 {
		t.Errorf("%d records on the first page, %d on the second; want %d and none", len(first), len(second), len(all))
	}
	for _, cursor := range []string{"x", "0 of 1/", "1 of 1"} {
		_, err := api.ReadHistory(t.Context(), pbxapi.HistoryQuery{Cursor: cursor}, nil)
		if !errors.Is(err, pbxapi.ErrInvalid) {
			t.Errorf("cursor %q: %v", cursor, err)
		}
	}
}

func readPage(t *testing.T, api pbxapi.Historian, cursor string) (ids []string) {
	t.Helper()
	query := pbxapi.HistoryQuery{From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour), Cursor: cursor}
	_, err := api.ReadHistory(t.Context(), query, func(r callhistory.Record) error {
		ids = append(ids, r.ID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}
