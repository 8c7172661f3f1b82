package sim_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/voipnow"
)

const events101 = "/extensions/@me/0007*101/phoneCallEvents"

// voipNow is a simulated VoipNow together with a client of UnifiedAPI.
type voipNow struct {
	*pbx
}

func startVoipNow(t *testing.T, s voipnow.Settings) voipNow {
	t.Helper()
	v := voipNow{&pbx{PBX: simtest.Start(t, sim.Config{PBX: "VoipNow", VoipNow: s}), t: t}}
	v.login()
	return v
}

func (v voipNow) login() {
	v.t.Helper()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	v.tokenRequest(v.ClientSecret).into(v.t, &token)
	v.token = token.AccessToken
}

func (v voipNow) tokenRequest(secret string) answer {
	v.t.Helper()
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {v.ClientID}, "client_secret": {secret}, "type": {"unifiedapi"},
	}
	req, err := http.NewRequestWithContext(v.t.Context(), http.MethodPost, v.URL+"/oauth/token.php", strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return v.must(req)
}

// ask sends a request to UnifiedAPI; transport errors are the caller's.
func (v voipNow) ask(method, path, body string) (answer, error) {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), method, v.URL+"/uapi"+path, strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+v.token)
	return roundTrip(req)
}

func (v voipNow) do(method, path, body string) answer {
	v.t.Helper()
	a, err := v.ask(method, path, body)
	if err != nil {
		v.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// refuse expects a 400 with an error code.
func (v voipNow) refuse(method, path, body, code string) {
	v.t.Helper()
	var e struct {
		Error struct{ Code, Message string }
	}
	a := v.do(method, path, body)
	a.into(v.t, &e)
	if a.status != http.StatusBadRequest || e.Error.Code != code || e.Error.Message == "" {
		v.t.Errorf("%s %s %s: %d %s, want %s", method, path, body, a.status, a.body, code)
	}
}

// create registers an event and returns the answer.
func (v voipNow) create(extension, kind, target, method string) answer {
	v.t.Helper()
	body, err := json.Marshal(map[string]string{"type": kind, "url": target, "method": method, "status": "1", "note": "n"})
	if err != nil {
		v.t.Fatal(err)
	}
	a := v.do(http.MethodPost, "/extensions/@me/"+extension+"/phoneCallEvents/", string(body))
	if a.status >= http.StatusMultipleChoices {
		v.t.Fatalf("create: %d %s", a.status, a.body)
	}
	return a
}

var voipNowSuffixes = []string{"/dial-in", "/dial-out", "/hangup", "/answer-in", "/answer-out"}

// registerCast registers all five types on all extensions, each with a URL of its own.
func (v voipNow) registerCast(target, method string) {
	v.t.Helper()
	for _, e := range []string{"101", "102", "103", "099", "900"} {
		for kind, suffix := range voipNowSuffixes {
			v.create("0007*"+e, string(rune('0'+kind)), target+"/"+e+suffix, method)
		}
	}
}

type phoneCallEvent struct {
	Type, ID, Method, Note, URL, Status, Modified string
	Links                                         struct{ Self string }
}

type eventList struct {
	Entry        []phoneCallEvent
	TotalResults int
	ItemsPerPage int
}

func (v voipNow) list(path string) eventList {
	v.t.Helper()
	var l eventList
	v.do(http.MethodGet, path, "").into(v.t, &l)
	return l
}

func TestVoipNowTokens(t *testing.T) {
	v := startVoipNow(t, voipnow.Settings{TokenLifetime: simclient.Duration(2 * time.Hour)})
	var token struct {
		ExpiresIn int `json:"expires_in"`
	}
	v.tokenRequest(v.ClientSecret).into(t, &token)
	if token.ExpiresIn != 7200 {
		t.Errorf("expires_in %d", token.ExpiresIn)
	}
	v.expect(v.tokenRequest("wrong"), http.StatusUnauthorized, `{"error":"invalid_client"}`)
	if err := v.Sim.KillTokens(t.Context()); err != nil {
		t.Fatal(err)
	}
	var e struct{ Error struct{ Code string } }
	a := v.do(http.MethodGet, events101, "")
	a.into(t, &e)
	if a.status != http.StatusUnauthorized || e.Error.Code == "" {
		t.Errorf("dead token: %d %s", a.status, a.body)
	}
	v.login()
	query := events101 + "?accessRequestToken=" + url.QueryEscape("Bearer "+v.token)
	v.token = ""
	if a := v.do(http.MethodGet, query, ""); a.status != http.StatusOK {
		t.Errorf("token in the query: %d %s", a.status, a.body)
	}
}

func TestVoipNowEvents(t *testing.T) {
	v := startVoipNow(t, voipnow.Settings{})
	var made phoneCallEvent
	v.create("0007*101", "0", "https://r.example.com/in", "1").into(t, &made)
	if made.ID == "" || made.Type != "0" || made.Method != "1" || made.Status != "1" || made.URL != "https://r.example.com/in" ||
		!strings.HasSuffix(made.Links.Self, "/uapi/extensions/@me/0007*101/phoneCallEvents/0/"+made.ID) {
		t.Errorf("created: %+v", made)
	}
	if _, err := time.Parse(time.RFC3339, made.Modified); err != nil {
		t.Errorf("modified: %v", err)
	}
	// The path that the v5 pages print, with numbers instead of text.
	var second phoneCallEvent
	v.do(http.MethodPost, events101+"/2", `{"url":"https://r.example.com/hup","method":0}`).into(t, &second)
	if second.Type != "2" || second.Method != "0" || second.ID != made.ID {
		t.Errorf("an id is unique per type only: %+v", second)
	}
	if l := v.list(events101); l.TotalResults != 2 || l.Entry[0].URL > l.Entry[1].URL {
		t.Errorf("list: %+v", l)
	}
	if l := v.list("/extensions/7/101/phoneCallEvents/0/" + made.ID); len(l.Entry) != 1 || l.Entry[0] != made {
		t.Errorf("by short number and id: %+v", l)
	}
	filter := "?filterBy=url&filterValue=" + url.QueryEscape(second.URL) + "&sortOder=ascending"
	if l := v.list(events101 + filter); len(l.Entry) != 1 || l.Entry[0].Type != "2" {
		t.Errorf("filtered by url: %+v", l)
	}
	item := events101 + "/0/" + made.ID
	v.do(http.MethodPut, item, `{"status":"0","note":"off"}`).into(t, &made)
	if made.Status != "0" || made.Note != "off" || made.URL != "https://r.example.com/in" {
		t.Errorf("updated: %+v", made)
	}
	if a := v.do(http.MethodPut, events101+"/"+made.ID, `{}`); a.status == http.StatusOK {
		t.Errorf("update by the path without the type: %d", a.status)
	}
	var deleted []phoneCallEvent
	v.do(http.MethodDelete, item, "").into(t, &deleted)
	if len(deleted) != 1 || deleted[0].ID != made.ID {
		t.Errorf("deleted: %+v", deleted)
	}
	v.refuse(http.MethodDelete, item, "", "pce_id_invalid")
	if l := v.list(events101); len(l.Entry) != 1 || l.Entry[0].Type != "2" {
		t.Errorf("the event of the other type with that id is gone: %+v", l)
	}
}

func TestVoipNowRefusals(t *testing.T) {
	v := startVoipNow(t, voipnow.Settings{})
	good := `{"type":"0","method":"1","url":"https://r.example.com/in"}`
	for _, tc := range []struct{ method, path, body, code string }{
		{"POST", events101, `{"method":"1","url":"https://r.example.com/in"}`, "pcet_type_invalid"},
		{"POST", events101, `{"type":"5","method":"1","url":"https://r.example.com/in"}`, "pcet_type_invalid"},
		{"POST", events101 + "/1", good, "pcet_type_invalid"},
		{"POST", events101, `{"type":"0","method":"2","url":"https://r.example.com/in"}`, "pce_method_invalid"},
		{"POST", events101, `{"type":"0","url":"https://r.example.com/in"}`, "pce_method_invalid"},
		{"POST", events101, `{"type":"0","method":"1","url":"/in"}`, "pce_url_invalid"},
		{"POST", events101, `{"type":"0","method":"1"}`, "pce_url_invalid"},
		{"POST", events101, `{"type":"0","method":"1","url":"https://r.example.com/in","status":"2"}`, "pce_status_invalid"},
		{"POST", "/extensions/@me/0007*199/phoneCallEvents", good, "extension_invalid"},
		{"POST", "/extensions/@me/@self/phoneCallEvents", good, "extension_invalid"},
		{"POST", "/extensions/@me/0008*101/phoneCallEvents", good, "extension_invalid"},
		{"GET", "/extensions/99/0007*101/phoneCallEvents", "", "user_invalid"},
		{"GET", events101 + "/7", "", "pce_type_invalid"},
		{"GET", events101 + "/0/Ev9", "", "pce_id_invalid"},
		{"GET", events101 + "?count=0", "", "count_invalid"},
		{"GET", events101 + "?sortOrder=up", "", "sortorder_invalid"},
		{"GET", events101 + "?filterBy=url&filterOp=like", "", "filterop_invalid"},
		{"GET", "/extensions/@me/0007*199/presence", "", "extension_invalid"},
		{"GET", "/cdr?startDate=yesterday", "", "cdr_start_date_invalid"},
		{"GET", "/cdr?endDate=2026-01-02", "", "cdr_end_date_invalid"},
		{"GET", "/cdr?flow=1", "", "cdr_flow_invalid"},
		{"GET", "/cdr?disposition=6", "", "cdr_disposition_invalid"},
		{"POST", "/phoneCalls/@me/simple", `{"extension":"0007*101"}`, "phonecallview_invalid"},
		{"DELETE", "/phoneCalls/@me/0007*101/pc0", "", "phonecall_invalid"},
	} {
		v.refuse(tc.method, tc.path, tc.body, tc.code)
	}
}

func TestVoipNowPaging(t *testing.T) {
	v := startVoipNow(t, voipnow.Settings{PageSize: 2})
	for _, c := range []string{"c", "a", "e", "b", "d"} {
		v.create("101", "0", "https://r.example.com/"+c, "1")
	}
	urls := func(query string) string {
		var b strings.Builder
		for _, e := range v.list(events101 + query).Entry {
			b.WriteString(e.URL[len(e.URL)-1:])
		}
		return b.String()
	}
	for query, want := range map[string]string{
		"": "ab", "?count=3": "abc", "?startIndex=2": "cd", "?startIndex=4&count=4999": "e", "?startIndex=9": "",
		"?sortOrder=descending": "ed", "?filterBy=url&filterOp=contains&filterValue=/d": "d",
	} {
		if got := urls(query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	var l struct{ Entry []map[string]any }
	v.do(http.MethodGet, events101+"?fields=id,url&count=1", "").into(t, &l)
	if len(l.Entry) != 1 || len(l.Entry[0]) != 2 {
		t.Errorf("fields: %+v", l)
	}
}

func TestVoipNowAnswersDiffer(t *testing.T) {
	body := `{"type":"0","method":"1","url":"https://r.example.com/in"}`
	for name, tc := range map[string]struct {
		settings              voipnow.Settings
		created, listed, gone string // what bodies contain; empty for 204
	}{
		"documented": {voipnow.Settings{}, `{"type":"0"`, `"entry":[{`, `[{`},
		"no bodies":  {voipnow.Settings{CreateAnswer: "none", DeleteAnswer: "none"}, "", `"totalResults":1`, ""},
		"numbers":    {voipnow.Settings{NumericTypes: true, CreateAnswer: "array"}, `[{"type":0,`, `"method":1`, `"status":1`},
		"ids only":   {voipnow.Settings{CreateAnswer: "id", ListAnswer: "array"}, `{"id":"Ev0001"}`, `[{`, `[{`},
		"envelopes":  {voipnow.Settings{CreateAnswer: "entry", DeleteAnswer: "entry", ListAnswer: "object"}, `"entry"`, `{"type"`, `"entry"`},
	} {
		t.Run(name, func(t *testing.T) {
			v := startVoipNow(t, tc.settings)
			for _, step := range []struct{ method, path, body, want string }{
				{"POST", events101, body, tc.created},
				{"GET", events101 + "/0/Ev0001", "", tc.listed},
				{"DELETE", events101 + "/0/Ev0001", "", tc.gone},
			} {
				a := v.do(step.method, step.path, step.body)
				status := http.StatusOK
				if step.want == "" {
					status = http.StatusNoContent
				}
				if a.status != status || !strings.Contains(a.body, step.want) || (step.want == "") != (a.body == "") {
					t.Errorf("%s: %d %s, want %s", step.method, a.status, a.body, step.want)
				}
			}
		})
	}
}

func TestVoipNowCollectionDeleteWipesAndIsCounted(t *testing.T) {
	ctx := t.Context()
	v := startVoipNow(t, voipnow.Settings{})
	must[[]exchange.Registration](t)(v.Sim.SetForeign(ctx, simclient.Foreign{Extension: "101", Count: 4}))
	v.create("101", "1", "https://r.example.com/out", "1")
	if n := v.list(events101).TotalResults; n != 5 {
		t.Fatalf("%d events", n)
	}
	v.do(http.MethodDelete, events101+"/1", "")
	if n := v.list(events101).TotalResults; n != 3 {
		t.Errorf("%d events left after all of one type went", n)
	}
	v.do(http.MethodDelete, events101, "")
	if n := v.list(events101).TotalResults; n != 0 {
		t.Errorf("%d events left", n)
	}
	requests := must[simclient.Requests](t)(v.Sim.Requests(ctx))
	if requests.CollectionDeletes != 2 || requests.Routes[simclient.VoipNowListEventsRoute].Count != 3 || requests.Writes() != 3 {
		t.Errorf("counted: %+v", requests)
	}
}

func TestVoipNowNotifications(t *testing.T) {
	for method, number := range map[string]string{http.MethodGet: "0", http.MethodPost: "1"} {
		t.Run(method, func(t *testing.T) {
			v, r := startVoipNow(t, voipnow.Settings{}), newReceiver(t)
			v.registerCast(r.URL+"/k3y", number)
			c := v.place(simclient.CallRequest{Scenario: "V2", Seed: "s"})
			if c.Emitted != 7 || c.Delivered() != 7 {
				t.Fatalf("call: %+v", c)
			}
			var got []string
			for _, n := range r.all() {
				got = append(got, n.path+" "+n.form.Get("CallStatus"))
				if n.method != method || n.form.Get("CallID") != c.ID || n.form.Has("EventType") || (n.query == "") != (method == http.MethodPost) {
					t.Errorf("notification: %+v", n)
				}
			}
			slices.Sort(got) // there is no order between senders
			want := []string{
				"/k3y/099/dial-in CALLING", "/k3y/099/hangup ANSWER", "/k3y/101/answer-in ANSWER", "/k3y/101/dial-in CALLING",
				"/k3y/101/hangup ANSWER", "/k3y/900/dial-in CALLING", "/k3y/900/hangup ANSWER",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestVoipNowDisabledEventsDoNotFire(t *testing.T) {
	v, r := startVoipNow(t, voipnow.Settings{}), newReceiver(t)
	v.create("101", "0", r.URL+"/in", "1")
	v.create("101", "2", r.URL+"/hup", "1")
	v.do(http.MethodPut, events101+"/0/Ev0001", `{"status":0}`)
	v.place(simclient.CallRequest{Scenario: "V1"})
	if got := r.all(); len(got) != 1 || got[0].path != "/hup" {
		t.Errorf("got %+v", got)
	}
	v.do(http.MethodPut, events101+"/0/Ev0001", `{"status":1}`)
	v.place(simclient.CallRequest{Scenario: "V1"})
	if got := r.all(); len(got) != 3 {
		t.Errorf("enabled again: %+v", got)
	}
}

func TestVoipNowEarly(t *testing.T) {
	v, r := startVoipNow(t, voipnow.Settings{Profile: voipnow.Early}), newReceiver(t)
	v.refuse(http.MethodPost, events101, `{"type":"3","method":"1","url":"https://r.example.com/in"}`, "pcet_type_invalid")
	v.create("101", "2", r.URL+"/hup", "1")
	if c := v.place(simclient.CallRequest{Scenario: "V5"}); c.Scenario != "V5-early" {
		t.Errorf("played %s", c.Scenario)
	}
	if got := r.all(); len(got) != 1 || got[0].form.Get("CallStatus") != "UNKNOWN" {
		t.Errorf("got %+v", got)
	}
}

func TestVoipNowClickToCall(t *testing.T) {
	v, r := startVoipNow(t, voipnow.Settings{SimpleSpeed: 1000}), newReceiver(t)
	v.registerCast(r.URL, "1")
	body := `{"extension":"0007*102","nonce":"n-1","phoneCallView":[{"source":["0007*102"],"destination":["12025550111"]}]}`
	var calls []struct{ ID, Nonce, Extension string }
	v.do(http.MethodPost, "/phoneCalls/@me/simple?waitForPickup=25", body).into(t, &calls)
	if len(calls) != 1 || calls[0].ID == "" || calls[0].Nonce != "n-1" || calls[0].Extension != "0007*102" {
		t.Fatalf("calls: %+v", calls)
	}
	eventually(t, "six events", func() bool { return len(r.all()) == 6 })
	for _, n := range r.all() {
		if n.form.Get("CallAPIID") != calls[0].ID || !strings.HasPrefix(n.path, "/102/") {
			t.Errorf("event: %+v", n)
		}
		if strings.HasSuffix(n.path, "/dial-out") && n.form.Get("CalledNumber") != "12025550111" {
			t.Errorf("called %s", n.form.Get("CalledNumber"))
		}
	}
	colleague := strings.Replace(body, "12025550111", "0007*103", 1)
	v.do(http.MethodPost, "/phoneCalls/@me/simple", colleague)
	eventually(t, "the colleague's phone rings", func() bool {
		return slices.ContainsFunc(r.all(), func(n received) bool { return n.path == "/103/dial-in" })
	})
}

func TestVoipNowHangUp(t *testing.T) {
	v, r := startVoipNow(t, voipnow.Settings{SimpleSpeed: 20}), newReceiver(t)
	v.registerCast(r.URL, "1")
	body := `{"extension":"101","phoneCallView":[{"source":["101"],"destination":["12025550111"]}]}`
	var calls []struct{ ID string }
	v.do(http.MethodPost, "/phoneCalls/@me/simple", body).into(t, &calls)
	var list struct {
		Entry []struct {
			ID    string
			Views []struct{ Status, Flow int } `json:"phoneCallView"`
		}
	}
	eventually(t, "the customer answers", func() bool {
		v.do(http.MethodGet, "/phoneCalls/@me/0007*101", "").into(t, &list)
		return len(list.Entry) == 1 && len(list.Entry[0].Views) == 2 && list.Entry[0].Views[1].Status == 5
	})
	if list.Entry[0].ID != calls[0].ID || list.Entry[0].Views[1].Flow != 4 {
		t.Errorf("running: %+v", list)
	}
	path := "/phoneCalls/@me/0007*101/" + calls[0].ID
	if a := v.do(http.MethodPut, path, `{"action":"OnHold"}`); a.status != http.StatusOK {
		t.Errorf("hold: %d", a.status)
	}
	v.refuse(http.MethodPut, path, `{"action":"Shout"}`, "action_invalid")
	v.expect(v.do(http.MethodDelete, path, ""), http.StatusNoContent, "")
	hangups := func() int {
		n := 0
		for _, e := range r.all() {
			if e.path == "/101/hangup" {
				n++
			}
		}
		return n
	}
	eventually(t, "both legs hang up", func() bool { return hangups() == 2 })
	eventually(t, "the call has ended", func() bool {
		v.do(http.MethodGet, "/phoneCalls/@me/0007*101", "").into(t, &list)
		return len(list.Entry) == 0
	})
	if hangups() != 2 {
		t.Error("the scenario went on")
	}
	v.refuse(http.MethodDelete, path, "", "phonecall_invalid")
}

func TestVoipNowCDR(t *testing.T) {
	v := startVoipNow(t, voipnow.Settings{Profile: voipnow.Early})
	v.place(simclient.CallRequest{Scenario: "V1", Seed: "a"})
	v.place(simclient.CallRequest{Scenario: "V5", Seed: "b"})
	type record struct {
		CallID, Extension, Source, StartDate, AnswerDate string
		Flow, Disposition, Duration                      int
	}
	read := func(query string) []record {
		t.Helper()
		var l struct{ Entry []record }
		v.do(http.MethodGet, "/cdr/@me"+query, "").into(t, &l)
		return l.Entry
	}
	all := read("")
	if len(all) != 2 || all[0].Duration != 60 || all[0].Flow != 8 || all[0].Source != "12025550143" || all[0].AnswerDate == "" {
		t.Fatalf("records: %+v", all)
	}
	if all[1].Duration != 0 || all[1].Flow != 4 || all[1].Disposition == 0 {
		t.Errorf("busy call: %+v", all[1])
	}
	if got := read("?flow=4"); len(got) != 1 || got[0] != all[1] {
		t.Errorf("by flow: %+v", got)
	}
	if got := read("?startDate=2090-01-01T00:00:00"); len(got) != 0 {
		t.Errorf("in the future: %+v", got)
	}
}

func TestVoipNowExtensions(t *testing.T) {
	v := startVoipNow(t, voipnow.Settings{})
	var l struct {
		Entry []struct{ ExtendedNumber, Type string }
	}
	v.do(http.MethodGet, "/extensions/@me", "").into(t, &l)
	var got []string
	for _, e := range l.Entry {
		got = append(got, e.ExtendedNumber+" "+e.Type)
	}
	want := []string{"0007*099 ivr", "0007*101 phoneTerminal", "0007*102 phoneTerminal", "0007*103 phoneTerminal", "0007*900 queue"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if a := v.do(http.MethodGet, "/extensions/@me/0007%2A101/presence", ""); a.status != http.StatusOK {
		t.Errorf("presence: %d %s", a.status, a.body)
	}
}

func TestVoipNowFaults(t *testing.T) {
	ctx := t.Context()
	v := startVoipNow(t, voipnow.Settings{})
	set := func(f ...simclient.Fault) {
		t.Helper()
		must[[]simclient.Fault](t)(v.Sim.SetFaults(ctx, f...))
	}
	count := func() int { return len(must[[]exchange.Registration](t)(v.Sim.Registrations(ctx))) }
	set(simclient.Fault{Kind: simclient.FaultStatus, Status: 503, Count: 2})
	v.expect(v.do(http.MethodGet, events101, ""), 503, `{"error":{"code":"service_unavailable","message":"Service Unavailable"}}`)
	v.expect(v.tokenRequest(v.ClientSecret), 503, `{"error":"server_error"}`)

	if err := v.change(map[string]any{"createAnswer": "none"}); err != nil {
		t.Fatal(err)
	}
	set(simclient.Fault{Method: "POST", Kind: simclient.FaultVanished, Count: 1})
	v.create("101", "0", "https://r.example.com/in", "1")
	if count() != 0 {
		t.Error("an event that answered 204 did not vanish")
	}
	set(simclient.Fault{Method: "POST", Kind: simclient.FaultResetAfter, Count: 1})
	if _, err := v.ask(http.MethodPost, events101, `{"type":"0","method":"1","url":"https://r.example.com/in"}`); err == nil || count() != 1 {
		t.Errorf("reset after: %v, %d events", err, count())
	}
	v.create("101", "2", "https://r.example.com/hup", "1")
	set(simclient.Fault{Method: "DELETE", Kind: simclient.FaultVanished, Count: 1})
	v.refuse(http.MethodDelete, events101+"/2/Ev0001", "", "pce_id_invalid")
	if left := must[[]exchange.Registration](t)(v.Sim.Registrations(ctx)); len(left) != 1 || left[0].EventType != "dial-in" {
		t.Errorf("left: %+v", left)
	}
}

// change patches the settings of any PBX.
func (v voipNow) change(patch map[string]any) error {
	_, err := v.Sim.Change(v.t.Context(), patch)
	return err
}

func TestVoipNowSettings(t *testing.T) {
	ctx := t.Context()
	v := startVoipNow(t, voipnow.Settings{})
	if err := v.change(map[string]any{"simpleSpeed": 5}); err != nil {
		t.Fatal(err)
	}
	if s, err := simclient.SettingsOf[voipnow.Settings](ctx, v.Sim); err != nil || s.SimpleSpeed != 5 || s.PageSize != 20 {
		t.Errorf("settings: %+v, %v", s, err)
	}
	if err := v.change(map[string]any{"eventLimit": 16}); err == nil {
		t.Error("a setting of another PBX was accepted")
	}
	if err := v.Sim.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if s, err := simclient.SettingsOf[voipnow.Settings](ctx, v.Sim); err != nil || s.SimpleSpeed != 1 {
		t.Errorf("settings after the reset: %+v, %v", s, err)
	}
	if err := v.Sim.SetQuota(ctx, simclient.Quota{Used: 1}); err == nil {
		t.Error("a VoipNow has a quota")
	}
	if _, err := v.Sim.SetHook(ctx, simclient.Hook{URL: "https://r.example.com"}); err == nil {
		t.Error("a VoipNow takes hooks")
	}
}
