package sim_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/linuxbox"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
)

// linuxBox is a simulated LinuxBox together with a client of its commands.
type linuxBox struct {
	*pbx
}

func startLinuxBox(t *testing.T, s linuxbox.Settings) linuxBox {
	t.Helper()
	return linuxBox{&pbx{PBX: simtest.Start(t, sim.Config{PBX: "linuxbox", LinuxBox: s}), t: t}}
}

// command sends a command; with changes the request before that.
func (l linuxBox) command(target string, change ...func(*http.Request)) answer {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, l.URL+target, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, c := range change {
		c(req)
	}
	return l.must(req)
}

func TestLinuxBoxDialects(t *testing.T) {
	for dialect, want := range map[string][]string{
		"A": {"/k3y/", "/k3y/", "/k3y/", "/k3y/"},
		"B": {"/k3y/start_call", "/k3y/start_int_dial", "/k3y/answered_internal", "/k3y/hangup_internal", "/k3y/call_end"},
		"c": {"/k3y/start_call", "/k3y/start_int_dial", "/k3y/answered_internal", "/k3y/hangup_internal", "/k3y/call_end"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(dialect+" "+method, func(t *testing.T) {
				l, r := startLinuxBox(t, linuxbox.Settings{}), newReceiver(t)
				l.hook(simclient.Hook{URL: r.URL + "/k3y/?site=1", Method: method, Dialect: dialect})
				c := l.place(simclient.CallRequest{Scenario: "L1"})
				var paths []string
				for _, n := range r.all() {
					paths = append(paths, n.path)
					if n.method != method || n.form.Get("call_id") != c.ID || !strings.HasPrefix(n.query, "site=1") ||
						(dialect == "A") != n.form.Has("event") || (dialect == "A") != n.form.Has("ts") || (dialect == "c") != n.form.Has("cel_id") {
						t.Errorf("notification: %+v", n)
					}
				}
				slices.Sort(paths) // lines do not wait for the call
				slices.Sort(want)
				if diff := cmp.Diff(want, paths); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func TestLinuxBoxTimes(t *testing.T) {
	l, r := startLinuxBox(t, linuxbox.Settings{}), newReceiver(t)
	l.hook(simclient.Hook{URL: r.URL})
	before := time.Now()
	for _, tc := range []struct{ scenario, layout string }{
		{"L1", "2006-01-02T15:04:05.000000-07:00"},
		{"L1-fraction-0", "2006-01-02T15:04:05-07:00"},
		{"L1-fraction-5", "2006-01-02T15:04:05.00000-07:00"},
		{"L1-raw-plus", "2006-01-02T15:04:05.000000 07:00"},
	} {
		sent := len(r.all())
		l.place(simclient.CallRequest{Scenario: tc.scenario})
		got := r.all()[sent:]
		if len(got) != 4 {
			t.Fatalf("%s: %d notifications", tc.scenario, len(got))
		}
		for _, n := range got {
			ts := n.form.Get("ts")
			at, err := time.Parse(strings.Replace(tc.layout, " 07:00", "-07:00", 1), strings.Replace(ts, " ", "+", 1))
			if err != nil || strings.Contains(ts, " ") != strings.Contains(tc.layout, " ") {
				t.Errorf("%s: ts %q: %v", tc.scenario, ts, err)
			}
			if n.form.Get("event") == "endcall" && at.Before(before.Add(-time.Second)) {
				t.Errorf("%s: the call ended at %s", tc.scenario, ts)
			}
		}
	}
}

func TestLinuxBoxExternalRinging(t *testing.T) {
	l, r := startLinuxBox(t, linuxbox.Settings{Dialect: "C"}), newReceiver(t)
	l.hook(simclient.Hook{URL: r.URL})
	l.place(simclient.CallRequest{Scenario: "L3"})
	l.place(simclient.CallRequest{Scenario: "L3-start-int-dial"})
	rings := map[string]string{}
	for _, n := range r.all() {
		if n.form.Get("direction") != "" && strings.HasPrefix(n.path, "/start") {
			rings[n.path] = n.form.Get("direction") + " " + n.form.Get("line_num")
		}
	}
	if diff := cmp.Diff(map[string]string{"/start_ext_dial": "outgoing 10", "/start_int_dial": "outgoing 10"}, rings); diff != "" {
		t.Error(diff)
	}
}

func TestLinuxBoxDial(t *testing.T) {
	l, r := startLinuxBox(t, linuxbox.Settings{DialSpeed: 1000}), newReceiver(t)
	l.hook(simclient.Hook{URL: r.URL, Method: http.MethodPost, Dialect: "C"})
	l.expect(l.command("/dial?number="+url.QueryEscape("+420225550143")+"&exten=11&custom_call_id=cmd-7"), http.StatusOK, "OK")
	eventually(t, "the call ends", func() bool {
		return slices.ContainsFunc(r.all(), func(n received) bool { return n.path == "/call_end" })
	})
	var answers []string
	for _, n := range r.all() {
		if n.path != "/start_call" && n.form.Get("custom_call_id") != "cmd-7" {
			t.Errorf("%s: custom_call_id %q", n.path, n.form.Get("custom_call_id"))
		}
		if strings.HasPrefix(n.path, "/answered") {
			answers = append(answers, n.path+" "+n.form.Get("line_num")+" "+n.form.Get("caller_type")+" "+n.form.Get("target_num"))
		}
	}
	want := []string{"/answered_internal 11 originate ", "/answered_external 11 originate +420225550143"}
	if diff := cmp.Diff(want, answers); diff != "" {
		t.Error(diff)
	}
}

func TestLinuxBoxHangup(t *testing.T) {
	l, r := startLinuxBox(t, linuxbox.Settings{DialSpeed: 20}), newReceiver(t)
	l.hook(simclient.Hook{URL: r.URL})
	l.expect(l.command("/hangup?exten=10"), http.StatusNotFound, "no call")
	l.expect(l.command("/dial?number=2025550143&exten=10"), http.StatusOK, "OK")
	l.expect(l.command("/dial?number=2025550177&exten=10"), http.StatusConflict, "exten is busy")
	has := func(event string) bool {
		return slices.ContainsFunc(r.all(), func(n received) bool { return n.form.Get("event") == event })
	}
	eventually(t, "the customer answers", func() bool { return has("answer_external") })
	l.expect(l.command("/hangup?exten=10"), http.StatusOK, "OK")
	eventually(t, "the call ends", func() bool { return has("endcall") && has("hangup_internal") })
	for _, n := range r.all() {
		if n.form.Get("event") == "endcall" && n.form.Get("call_answered") != "t" {
			t.Errorf("end: %+v", n.form)
		}
	}
	eventually(t, "the line is free", func() bool { return l.command("/hangup?exten=10").status == http.StatusNotFound })
	if n := len(r.all()); n != 5 {
		t.Errorf("%d notifications", n)
	}
}

func TestLinuxBoxLineInAnOrdinaryCallIsBusy(t *testing.T) {
	l, r := startLinuxBox(t, linuxbox.Settings{BusyCode: 503}), newReceiver(t)
	l.hook(simclient.Hook{URL: r.URL})
	must[[]simclient.Call](t)(l.Sim.Place(t.Context(), simclient.CallRequest{Scenario: "L1", Speed: 20}))
	eventually(t, "line 10 is busy", func() bool { return l.command("/dial?number=2025550143&exten=10").status == 503 })
	l.expect(l.command("/hangup?exten=11"), http.StatusNotFound, "no call")
	l.expect(l.command("/hangup?exten=10"), http.StatusOK, "OK")
}

func TestLinuxBoxCommandAnswers(t *testing.T) {
	l := startLinuxBox(t, linuxbox.Settings{
		DialCode: 202, DialBody: "accepted", UnknownLineCode: 422, BadRequestCode: 406, NoCallCode: 410, DialSpeed: 1e6,
	})
	l.expect(l.command("/dial?number=2025550143&exten=99"), 422, "unknown exten")
	l.expect(l.command("/dial?exten=10"), 406, "number and exten are required")
	l.expect(l.command("/hangup?exten=10"), 410, "no call")
	l.expect(l.command("/dial?number=2025550143&exten=10"), 202, "accepted")
	if n := must[simclient.Requests](t)(l.Sim.Requests(t.Context())).Routes[simclient.LinuxBoxDialRoute].Statuses; n[422] != 1 || n[202] != 1 {
		t.Errorf("counted %v", n)
	}
	must[[]simclient.Fault](t)(l.Sim.SetFaults(t.Context(), simclient.Fault{Path: "/dial", Kind: simclient.FaultStatus, Status: 502}))
	l.expect(l.command("/dial?number=2025550143&exten=11"), 502, "Bad Gateway")
}

func TestLinuxBoxAuthentication(t *testing.T) {
	l := startLinuxBox(t, linuxbox.Settings{RequireAuth: true, AuthHeader: "X-Api-Key"})
	basic := func(secret string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(l.ClientID, secret) }
	}
	header := func(secret string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("X-Api-Key", secret) }
	}
	for name, tc := range map[string]struct {
		change []func(*http.Request)
		want   int
	}{
		"nothing":      {nil, http.StatusUnauthorized},
		"basic":        {[]func(*http.Request){basic(l.ClientSecret)}, http.StatusNotFound},
		"wrong basic":  {[]func(*http.Request){basic("no")}, http.StatusUnauthorized},
		"header":       {[]func(*http.Request){header(l.ClientSecret)}, http.StatusNotFound},
		"wrong header": {[]func(*http.Request){header("no")}, http.StatusUnauthorized},
	} {
		if a := l.command("/hangup?exten=10", tc.change...); a.status != tc.want {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

func TestLinuxBoxAccountsHaveTheirDialects(t *testing.T) {
	cfg := sim.DefaultConfigOf("linuxbox")
	other := exchange.Account{
		ID: 4, Domain: "other.example.com", Apps: []exchange.App{{ClientID: "other", ClientSecret: "o"}},
		Extensions: []exchange.Extension{{Number: "10", Label: "Front desk"}},
	}
	cfg.Accounts = append(cfg.Accounts, other)
	cfg.LinuxBox.DialSpeed = 1000
	l, r := linuxBox{&pbx{PBX: simtest.Start(t, cfg), t: t}}, newReceiver(t)
	l.hook(simclient.Hook{Account: 3, URL: r.URL + "/three", Dialect: "A"})
	l.hook(simclient.Hook{Account: 4, URL: r.URL + "/four", Dialect: "B"})
	l.expect(l.command("/dial?number=2025550143&exten=10", func(r *http.Request) { r.SetBasicAuth("other", "o") }), http.StatusOK, "OK")
	eventually(t, "the call ends", func() bool {
		return slices.ContainsFunc(r.all(), func(n received) bool { return n.path == "/four/call_end" })
	})
	for _, n := range r.all() {
		if !strings.HasPrefix(n.path, "/four/") || n.form.Has("line_name") && n.form.Get("line_name") != "Front desk" {
			t.Errorf("notification: %+v", n)
		}
	}
}
