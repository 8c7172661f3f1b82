package ringme_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/ringme"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
)

const (
	callbackRoute = "POST /extension/{extension}/callback"
	dropRoute     = "DELETE /extension/{extension}/current_calls/{call}"
)

var ann = pbxapi.Extension{ID: "5101", Number: "1234*101"}

// full is everything that the API offers beside registrations.
type full interface {
	pbxapi.Commander
	pbxapi.Recordings
	pbxapi.Historian
}

func offer(t *testing.T, api pbxapi.API) full {
	t.Helper()
	all, ok := api.(full)
	if !ok {
		t.Fatal("the API lacks commands, recordings or history")
	}
	return all
}

func startFull(t *testing.T, config sim.Config) (*simtest.PBX, full) {
	t.Helper()
	pbx, api := start(t, config)
	return pbx, offer(t, api)
}

func calls(t *testing.T, pbx *simtest.PBX) []simclient.Call {
	t.Helper()
	list, err := pbx.Sim.Calls(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// until polls, because the simulator plays calls in real time.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !done() {
		select {
		case <-deadline.C:
			t.Fatalf("not in time: %s", what)
		case <-poll.C:
		}
	}
}

func TestDialCallsFromTheExtensionItself(t *testing.T) {
	pbx, api := startFull(t, sim.Config{})
	call, err := api.Dial(t.Context(), pbxapi.Dial{Extension: ann, Number: "+12025550143", Reference: "anything"})
	if err != nil {
		t.Fatal(err)
	}
	placed := calls(t, pbx)
	// S11: the owner is a party, else the PBX would play the web call-back S12.
	if len(placed) != 1 || placed[0].Scenario != "S11" || call.CallID != placed[0].ID || call.CallBackID == "" {
		t.Errorf("dialed %+v, placed %+v", call, placed)
	}
}

func TestDialSendsWhatTheDocumentsShow(t *testing.T) {
	with, body := settings("https://pbx.example.com", "app", "secret"), ""
	with.HTTP.Transport = answersRead(func(r *http.Request, text string) (int, string) {
		if strings.HasPrefix(r.URL.Path, "/oauth/") {
			return http.StatusOK, `{"access_token":"t","token_type":"Bearer"}`
		}
		body = r.Method + " " + r.URL.EscapedPath() + " " + text
		return http.StatusCreated, `{"call_id":"c1","call_api_id":"b1"}`
	})
	call, err := offer(t, connect(t, with)).Dial(t.Context(), pbxapi.Dial{Extension: ann, Number: "1234*102"})
	if diff := cmp.Diff(pbxapi.Call{CallID: "c1", CallBackID: "b1"}, call); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if want := `POST /api/ver1.0/extension/5101/callback/ {"src_num":["101"],"dst_num":"1234*102"}`; body != want {
		t.Errorf("sent %s\nwant %s", body, want)
	}
}

// answersRead is answers with the body of the request.
type answersRead func(r *http.Request, body string) (int, string)

func (a answersRead) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	return answers(func(r *http.Request) (int, string) { return a(r, string(body)) }).RoundTrip(r)
}

func TestDialThatCannotBeMade(t *testing.T) {
	pbx, api := startFull(t, sim.Config{})
	for _, dial := range []pbxapi.Dial{
		{Extension: pbxapi.Extension{Number: "1234*101"}, Number: "+12025550143"},
		{Extension: pbxapi.Extension{ID: "5101/../5102", Number: "1234*101"}, Number: "+12025550143"},
		{Extension: pbxapi.Extension{ID: "5101"}, Number: "+12025550143"},
		{Extension: ann},
	} {
		if _, err := api.Dial(t.Context(), dial); !errors.Is(err, pbxapi.ErrInvalid) || !pbxapi.NotSent(err) {
			t.Errorf("%+v: got %v, want ErrInvalid", dial, err)
		}
	}
	if n := requests(t, pbx).Total; n != 0 {
		t.Errorf("%d requests, want none", n)
	}
}

// A call that may have been started is not started again.
func TestDialIsNotRepeated(t *testing.T) {
	tests := map[string]struct {
		fault simclient.Fault
		want  error
		asked int
	}{
		"unknown extension": {simclient.Fault{Kind: simclient.FaultStatus, Status: http.StatusNotFound}, pbxapi.ErrNotFound, 1},
		"refused":           {simclient.Fault{Kind: simclient.FaultStatus, Status: http.StatusBadRequest}, pbxapi.ErrRejected, 1},
		"internal error":    {simclient.Fault{Kind: simclient.FaultStatus, Status: http.StatusInternalServerError}, pbxapi.ErrUnreachable, 1},
		"answer lost":       {simclient.Fault{Kind: simclient.FaultResetAfter}, pbxapi.ErrUnreachable, 1},
		"answer broken":     {simclient.Fault{Kind: simclient.FaultTruncated}, pbxapi.ErrUnreachable, 1},
		"token expired":     {simclient.Fault{Kind: simclient.FaultStatus, Status: http.StatusUnauthorized, Count: 1}, nil, 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pbx, api := startFull(t, sim.Config{})
			test.fault.Path = "/callback/"
			fault(t, pbx, test.fault)
			_, err := api.Dial(t.Context(), pbxapi.Dial{Extension: ann, Number: "+12025550143"})
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if pbxapi.NotSent(err) {
				t.Errorf("%v passes for a request that was not sent", err)
			}
			until(t, "the simulator has counted", func() bool { return requests(t, pbx).Routes[callbackRoute].Count >= test.asked })
			if n := requests(t, pbx).Routes[callbackRoute].Count; n != test.asked {
				t.Errorf("%d requests, want %d", n, test.asked)
			}
		})
	}
}

// talking places a call of which a phone has an open leg.
func talking(t *testing.T, pbx *simtest.PBX, scenario string, emitted int) simclient.Call {
	t.Helper()
	placed, err := pbx.Sim.Place(t.Context(), simclient.CallRequest{Scenario: scenario, Speed: 20})
	if err != nil {
		t.Fatal(err)
	}
	until(t, scenario+" is under way", func() bool {
		call, err := pbx.Sim.Call(t.Context(), placed[0].ID)
		return err == nil && call.Emitted >= emitted
	})
	return placed[0]
}

func ended(t *testing.T, pbx *simtest.PBX) []string {
	t.Helper()
	var ids []string
	for _, call := range calls(t, pbx) {
		if call.Done {
			ids = append(ids, call.ID)
		}
	}
	return ids
}

func TestHangup(t *testing.T) {
	uuid := func(id string) string {
		return "1000000001-" + strings.ToUpper(strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-"))
	}
	tests := map[string]struct {
		ids  func(callID string) (callID2, callBackID string)
		both bool
	}{
		"by call id":              {func(id string) (string, string) { return id, "" }, false},
		"by call id, upper case":  {func(id string) (string, string) { return strings.ToUpper(id), "" }, false},
		"by the handle of events": {func(id string) (string, string) { return "", uuid(id) }, false},
		"by the id of the leg":    {func(id string) (string, string) { return "", "5101-" + id }, false},
		"by either":               {func(id string) (string, string) { return "unknown", id }, false},
		"all of the extension":    {func(string) (string, string) { return "", "" }, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pbx, api := startFull(t, sim.Config{})
			first, second := talking(t, pbx, "S1", 2), talking(t, pbx, "S1", 2)
			callID, callBackID := test.ids(first.ID)
			if err := api.Hangup(t.Context(), pbxapi.Hangup{Extension: ann, CallID: callID, CallBackID: callBackID}); err != nil {
				t.Fatal(err)
			}
			want := []string{first.ID}
			if test.both {
				want = append(want, second.ID)
			}
			until(t, "the calls that were meant have ended", func() bool { return slices.Equal(want, ended(t, pbx)) })
		})
	}
}

func TestHangupOfACallThatWasDialed(t *testing.T) {
	pbx, api := startFull(t, sim.Config{})
	// In real time the user's own phone rings for five seconds, and the PBX lists no call.
	call, err := api.Dial(t.Context(), pbxapi.Dial{Extension: ann, Number: "+12025550143"})
	if err != nil {
		t.Fatal(err)
	}
	if err := api.Hangup(t.Context(), pbxapi.Hangup{Extension: ann, CallID: call.CallID, CallBackID: call.CallBackID}); err != nil {
		t.Fatal(err)
	}
	until(t, "the call has ended", func() bool { return len(ended(t, pbx)) == 1 })
}

func TestHangupOfWhatIsNotThere(t *testing.T) {
	pbx, api := startFull(t, sim.Config{})
	call := talking(t, pbx, "S1", 2)
	for name, hangup := range map[string]pbxapi.Hangup{
		"another call":      {Extension: ann, CallID: strings.Repeat("ab", 16)},
		"another call-back": {Extension: ann, CallBackID: strings.Repeat("ab", 16)},
		"no id at all":      {Extension: ann, CallID: "-"},
		"a path as id":      {Extension: ann, CallBackID: "../../5102/current_calls/" + call.ID},
		"no calls":          {Extension: pbxapi.Extension{ID: "5103"}},
		"no such extension": {Extension: pbxapi.Extension{ID: "9999"}},
	} {
		if err := api.Hangup(t.Context(), hangup); !errors.Is(err, pbxapi.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", name, err)
		}
	}
	if err := api.Hangup(t.Context(), pbxapi.Hangup{Extension: pbxapi.Extension{ID: ""}}); !errors.Is(err, pbxapi.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	if n := len(ended(t, pbx)); n != 0 {
		t.Errorf("%d calls ended", n)
	}
	fault(t, pbx, simclient.Fault{Method: http.MethodDelete, Kind: simclient.FaultStatus, Status: http.StatusForbidden})
	if err := api.Hangup(t.Context(), pbxapi.Hangup{Extension: ann}); !errors.Is(err, pbxapi.ErrForbidden) {
		t.Errorf("got %v, want ErrForbidden", err)
	}
	fault(t, pbx, simclient.Fault{Method: http.MethodDelete, Kind: simclient.FaultStatus, Status: http.StatusNotFound})
	if err := api.Hangup(t.Context(), pbxapi.Hangup{Extension: ann}); !errors.Is(err, pbxapi.ErrNotFound) {
		t.Errorf("a call that ended just now: got %v, want ErrNotFound", err)
	}
}

// A call without an id would make the DELETE one of all calls.
func TestHangupNeedsHandles(t *testing.T) {
	for _, list := range []string{`[{"call_api_id":""}]`, `[{"call_api_id":null}]`, `[{"call_api_id":"../x"}]`, `[{"call_api_id":"a/b"}]`} {
		var asked []string
		with := settings("https://pbx.example.com", "app", "secret")
		with.HTTP.Transport = answers(func(r *http.Request) (int, string) {
			if strings.HasPrefix(r.URL.Path, "/oauth/") {
				return http.StatusOK, `{"access_token":"t","token_type":"Bearer"}`
			}
			asked = append(asked, r.Method)
			return http.StatusOK, `{"call_list":` + list + `}`
		})
		err := offer(t, connect(t, with)).Hangup(t.Context(), pbxapi.Hangup{Extension: ann})
		if !errors.Is(err, pbxapi.ErrUnreachable) || !slices.Equal(asked, []string{http.MethodGet}) {
			t.Errorf("%s: got %v after %v", list, err, asked)
		}
	}
}

// Two legs of one call have the same handle, which is used once.
func TestHangupDropsACallOnce(t *testing.T) {
	pbx, api := startFull(t, sim.Config{})
	call := talking(t, pbx, "S10", 2) // rung, and forwarding already
	if err := api.Hangup(t.Context(), pbxapi.Hangup{Extension: ann, CallID: call.ID}); err != nil {
		t.Fatal(err)
	}
	if n := requests(t, pbx).Routes[dropRoute].Count; n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

var _ full = (*ringme.API)(nil)
