package sim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/ringme"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
)

// pbx is a simulator together with a client of its management API.
type pbx struct {
	*simtest.PBX
	t     *testing.T
	token string
}

func start(t *testing.T, cfg sim.Config) *pbx {
	t.Helper()
	p := &pbx{PBX: simtest.Start(t, cfg), t: t}
	p.login()
	return p
}

// answer is a response of the PBX, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
}

func (p *pbx) login() {
	p.t.Helper()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	p.tokenRequest(p.ClientSecret).into(p.t, &token)
	p.token = token.AccessToken
}

func (p *pbx) tokenRequest(secret string) answer {
	p.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {p.ClientID}, "client_secret": {secret}}
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.URL+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return p.must(req)
}

// try asks the PBX; transport errors are the caller's.
func (p *pbx) try(method, path, body string) (answer, error) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.URL+"/api/ver1.0"+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	return roundTrip(req)
}

func (p *pbx) do(method, path, body string) answer {
	p.t.Helper()
	a, err := p.try(method, path, body)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (p *pbx) must(req *http.Request) answer {
	p.t.Helper()
	a, err := roundTrip(req)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

func roundTrip(req *http.Request) (answer, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(bytes.TrimSpace(raw))}, err
}

// expect asserts status and body of an answer.
func (p *pbx) expect(a answer, status int, body string) {
	p.t.Helper()
	if a.status != status || a.body != body {
		p.t.Fatalf("got %d %s, want %d %s", a.status, a.body, status, body)
	}
}

// register adds a registration and returns its id.
func (p *pbx) register(path, eventType, target, method string) int {
	p.t.Helper()
	body, err := json.Marshal(map[string]string{"url": target, "event_type": eventType, "method": method})
	if err != nil {
		p.t.Fatal(err)
	}
	a := p.do(http.MethodPost, path, string(body))
	if a.status != http.StatusCreated {
		p.t.Fatalf("register %s: %d %s", eventType, a.status, a.body)
	}
	var created struct{ ID int }
	a.into(p.t, &created)
	return created.ID
}

// registerCast registers what an integration registers: phones for all call events, IVRs and queues
// for hangups.
func (p *pbx) registerCast(target string) {
	p.t.Helper()
	for _, id := range []string{"5101", "5102", "5103"} {
		for _, eventType := range []string{"dial-in", "dial-out", "answer", "hangup"} {
			p.register("/extension/"+id+"/event/", eventType, target+"/"+id, http.MethodPost)
		}
	}
	for _, id := range []string{"5099", "5900", "5901"} {
		p.register("/extension/"+id+"/event/", "hangup", target+"/"+id, http.MethodGet)
	}
}

// call checks an answer of the control plane.
func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// received is a notification as a receiver saw it.
type received struct {
	path, method, contentType, query, body string
	form                                   url.Values
}

// receiver records notifications; status is what it answers.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []received
	status int
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{status: http.StatusOK}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		raw, err := io.ReadAll(req.Body)
		if err != nil {
			t.Errorf("read notification: %v", err)
		}
		form, err := url.ParseQuery(req.URL.RawQuery + "&" + string(raw))
		if err != nil {
			t.Errorf("notification is no form: %v", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got = append(r.got, received{
			req.URL.Path, req.Method, req.Header.Get("Content-Type"), req.URL.RawQuery, string(raw), form,
		})
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.got...)
}

func (r *receiver) answerWith(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// eventually polls until ok or for five seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}

// place plays a scenario fast and returns the finished call.
func (p *pbx) place(r simclient.CallRequest) simclient.Call {
	p.t.Helper()
	r.Wait = true
	if r.Speed == 0 {
		r.Speed = 1000
	}
	calls, err := p.Sim.Place(p.t.Context(), r)
	if err != nil {
		p.t.Fatal(err)
	}
	return calls[0]
}

func TestTokens(t *testing.T) {
	p := start(t, sim.Config{})
	if a := p.do(http.MethodGet, "/user/", ""); a.status != http.StatusOK || !strings.Contains(a.body, `"client_id":12`) {
		t.Fatalf("user: %d %s", a.status, a.body)
	}
	if a := p.tokenRequest("wrong"); a.status != http.StatusUnauthorized {
		t.Errorf("wrong secret: %d", a.status)
	}
	query := p.URL + "/oauth/token?grant_type=client_credentials&client_id=" + p.ClientID + "&client_secret=" + p.ClientSecret
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, query, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := p.must(req)
	if a.status != http.StatusOK || !strings.Contains(a.body, `"token_type":"Bearer","expires_in":3600,"scope":"all"`) {
		t.Errorf("credentials in the query: %d %s", a.status, a.body)
	}
	if err := p.Sim.KillTokens(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.expect(p.do(http.MethodGet, "/user", ""), http.StatusUnauthorized, `{"message":"Unauthorized"}`)
	p.login()
	if a := p.do(http.MethodGet, "/user", ""); a.status != http.StatusOK {
		t.Errorf("after a new login: %d", a.status)
	}
}

func TestTokenExpiry(t *testing.T) {
	clock := &clock{now: time.Now()}
	p := start(t, sim.Config{Now: clock.Now})
	clock.advance(59 * time.Minute)
	if a := p.do(http.MethodGet, "/user", ""); a.status != http.StatusOK {
		t.Fatalf("within the lifetime: %d", a.status)
	}
	clock.advance(time.Minute)
	if a := p.do(http.MethodGet, "/user", ""); a.status != http.StatusUnauthorized {
		t.Fatalf("after an hour: %d", a.status)
	}
}

func TestOAuthLimits(t *testing.T) {
	clock := &clock{now: time.Now()}
	p := start(t, sim.Config{Now: clock.Now})
	must[ringme.Settings](t)(p.Sim.Change(t.Context(), map[string]any{"oauthLimits": true}))
	clock.advance(time.Second)
	for i := range 20 {
		if a := p.tokenRequest(p.ClientSecret); a.status != http.StatusOK {
			t.Fatalf("request %d: %d", i, a.status)
		}
	}
	if a := p.tokenRequest(p.ClientSecret); a.status != http.StatusTooManyRequests {
		t.Fatalf("21st request of a second: %d", a.status)
	}
	clock.advance(time.Second)
	if a := p.tokenRequest(p.ClientSecret); a.status != http.StatusOK {
		t.Fatalf("next second: %d", a.status)
	}
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestHourlyQuota(t *testing.T) {
	clock := &clock{now: time.Date(2026, 1, 2, 10, 59, 0, 0, time.UTC)}
	p := start(t, sim.Config{Now: clock.Now})
	must[ringme.Settings](t)(p.Sim.Change(t.Context(), map[string]any{"hourlyLimit": 100}))
	if err := p.Sim.SetQuota(t.Context(), simclient.Quota{Used: 99}); err != nil {
		t.Fatal(err)
	}
	a := p.do(http.MethodGet, "/user", "")
	for name, want := range map[string]string{"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "60"} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
	p.expect(p.do(http.MethodGet, "/user", ""), http.StatusTooManyRequests,
		`{"message":"Rate limit exceeded","status":"rate_limit_exceeded"}`)
	clock.advance(time.Minute)
	if a := p.do(http.MethodGet, "/user", ""); a.status != http.StatusOK {
		t.Errorf("next hour: %d", a.status)
	}
}

func TestPersonalLimitSharesTheCounter(t *testing.T) {
	cfg := sim.DefaultConfig()
	cfg.Accounts[0].Apps = append(cfg.Accounts[0].Apps, exchange.App{ClientID: "small", ClientSecret: "s", HourlyLimit: 2})
	p := start(t, cfg)
	for range 2 {
		p.do(http.MethodGet, "/user", "")
	}
	small := &pbx{PBX: &simtest.PBX{URL: p.URL, ClientID: "small", ClientSecret: "s"}, t: t}
	small.login()
	if a := small.do(http.MethodGet, "/user", ""); a.status != http.StatusTooManyRequests {
		t.Errorf("application with a small limit: %d", a.status)
	}
	if a := p.do(http.MethodGet, "/user", ""); a.status != http.StatusOK {
		t.Errorf("the other application: %d", a.status)
	}
}

func TestExtensionList(t *testing.T) {
	p := start(t, sim.Config{})
	names := func(path string) string {
		a := p.do(http.MethodGet, path, "")
		var list []struct{ Name, Type, Status string }
		a.into(t, &list)
		var b []string
		for _, e := range list {
			b = append(b, e.Name+"/"+e.Type+"/"+e.Status)
		}
		return strings.Join(b, " ")
	}
	for path, want := range map[string]string{
		"/client/@me/extension/?page=1&per_page=4": "1234*099/ivr/active 1234*101/phone/active 1234*102/phone/active 1234*103/phone/active",
		"/client/12/extension?page=2&per_page=4":   "1234*900/queue/active 1234*901/queue/active",
		"/client/@me/extension/?page=3&per_page=4": "",
		"/client/@me/extension/?type=ivr":          "1234*099/ivr/active",
		"/client/@me/extension/?name=1234*102":     "1234*102/phone/active",
		"/client/@me/extension/?status=blocked":    "",
	} {
		if got := names(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	p.expect(p.do(http.MethodGet, "/client/99/extension/", ""), http.StatusNotFound,
		`{"message":"Client not found","status":"client_not_found"}`)
}

func TestAccountsAreSeparate(t *testing.T) {
	cfg := sim.DefaultConfig()
	cfg.Accounts = append(cfg.Accounts, exchange.Account{
		ID: 13, Prefix: "1300", Domain: "sip.example.net", Apps: []exchange.App{{ClientID: "other", ClientSecret: "o"}},
		Extensions: []exchange.Extension{{ID: 6101, Number: "101"}},
	})
	p := start(t, cfg)
	other := &pbx{PBX: &simtest.PBX{URL: p.URL, ClientID: "other", ClientSecret: "o"}, t: t}
	other.login()
	if a := other.do(http.MethodGet, "/extension/@101/event/", ""); a.status != http.StatusOK {
		t.Errorf("own extension: %d", a.status)
	}
	denied := `{"message":"Access denied","status":"access_denied"}`
	p.expect(other.do(http.MethodGet, "/extension/5101/event/", ""), http.StatusForbidden, denied)
	p.expect(other.do(http.MethodGet, "/client/12/extension/", ""), http.StatusForbidden, denied)
}

func TestEventRegistration(t *testing.T) {
	p := start(t, sim.Config{})
	body := `{"url":"https://r.example.com/e","event_type":"hangup","method":"POST"}`
	a := p.do(http.MethodPost, "/extension/5101/event/", body)
	var e struct {
		ID  int
		URL string
	}
	a.into(t, &e)
	if a.status != http.StatusCreated || e.ID == 0 || e.URL != "https://r.example.com/e" {
		t.Fatalf("create: %d %s", a.status, a.body)
	}
	item := "/extension/5101/event/" + strings.Split(strings.TrimPrefix(a.body, `{"id":`), ",")[0]
	p.expect(p.do(http.MethodGet, "/extension/5101/event", ""), http.StatusOK, "["+a.body+"]")
	p.expect(p.do(http.MethodGet, item, ""), http.StatusOK, a.body)
	changed := strings.Replace(a.body, "hangup", "answer", 1)
	p.expect(p.do(http.MethodPut, item, strings.Replace(body, "hangup", "answer", 1)), http.StatusOK, changed)
	p.expect(p.do(http.MethodDelete, item+"/", ""), http.StatusNoContent, "")
	p.expect(p.do(http.MethodDelete, item, ""), http.StatusNotFound, `{"message":"Not found"}`)
	p.expect(p.do(http.MethodGet, "/extension/5101/event/", ""), http.StatusOK, "[]")
	p.expect(p.do(http.MethodGet, "/extension/4711/event/", ""), http.StatusNotFound, `{"message":"Not found"}`)
}

func TestEventRegistrationRefusesBadInput(t *testing.T) {
	p := start(t, sim.Config{})
	for name, body := range map[string]string{
		"no JSON":               `url=x`,
		"no URL":                `{"event_type":"hangup","method":"POST"}`,
		"relative URL":          `{"url":"/e","event_type":"hangup","method":"POST"}`,
		"unknown type":          `{"url":"https://r.example.com/e","event_type":"ring","method":"POST"}`,
		"account-wide type":     `{"url":"https://r.example.com/e","event_type":"extension-call-status","method":"POST"}`,
		"method beyond the two": `{"url":"https://r.example.com/e","event_type":"hangup","method":"PUT"}`,
	} {
		if a := p.do(http.MethodPost, "/extension/5101/event/", body); a.status != http.StatusBadRequest || !strings.Contains(a.body, "message") {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

func TestEventLimitIsShared(t *testing.T) {
	ctx := t.Context()
	p := start(t, sim.Config{})
	foreign := must[[]exchange.Registration](t)(p.Sim.SetForeign(ctx, simclient.Foreign{Extension: "101", Count: 15}))
	p.register("/extension/5101/event/", "hangup", "https://r.example.com/e", "POST")
	body := `{"url":"https://r.example.com/e","event_type":"answer","method":"POST"}`
	p.expect(p.do(http.MethodPost, "/extension/5101/event/", body), http.StatusForbidden,
		`{"message":"Event limit exceeded","status":"limit_exceeded"}`)
	must[ringme.Settings](t)(p.Sim.Change(ctx, map[string]any{"eventLimitCode": 409, "eventLimitStatus": "event_limit"}))
	p.expect(p.do(http.MethodPost, "/extension/5101/event/", body), http.StatusConflict,
		`{"message":"Event limit exceeded","status":"event_limit"}`)

	left := must[[]exchange.Registration](t)(p.Sim.SetForeign(ctx, simclient.Foreign{Extension: "101", Count: 12}))
	for i, r := range left {
		if r != foreign[i] {
			t.Errorf("foreign registration changed from %+v to %+v", foreign[i], r)
		}
	}
	if a := p.do(http.MethodPost, "/extension/5101/event/", body); a.status != http.StatusCreated {
		t.Errorf("with room again: %d", a.status)
	}
	// Extension 102 has room of its own.
	p.register("/extension/5102/event/", "hangup", "https://r.example.com/e", "POST")
}

func TestCollectionDeleteWipesAndIsCounted(t *testing.T) {
	ctx := t.Context()
	p := start(t, sim.Config{})
	must[[]exchange.Registration](t)(p.Sim.SetForeign(ctx, simclient.Foreign{Extension: "101", Count: 3}))
	p.expect(p.do(http.MethodDelete, "/extension/5101/event/", ""), http.StatusNoContent, "")
	if left := must[[]exchange.Registration](t)(p.Sim.Registrations(ctx)); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	if n := must[simclient.Requests](t)(p.Sim.Requests(ctx)).CollectionDeletes; n != 1 {
		t.Errorf("counted %d collection deletes", n)
	}
}

func TestRequestCounters(t *testing.T) {
	ctx := t.Context()
	clock := &clock{now: time.Now()}
	p := start(t, sim.Config{Now: clock.Now})
	if err := p.Sim.ResetRequests(ctx); err != nil {
		t.Fatal(err)
	}
	for _, gap := range []time.Duration{0, 30 * time.Second, 31 * time.Second} {
		clock.advance(gap)
		p.do(http.MethodGet, "/extension/5101/event/", "")
		p.do(http.MethodGet, "/extension/5102/event", "")
	}
	id := p.register("/extension/5101/event/", "hangup", "https://r.example.com/e", "POST")
	p.do(http.MethodGet, "/nonsense", "")
	c := must[simclient.Requests](t)(p.Sim.Requests(ctx))
	list := c.Routes[simclient.ListEventsRoute]
	if list.Count != 6 || list.MaxPerMinute != 4 || list.Statuses[200] != 6 {
		t.Errorf("list route: %+v (registration %d)", list, id)
	}
	if c.Routes[simclient.CreateEventRoute].Count != 1 || c.Writes() != 1 || c.Total != 8 || c.Apps[p.ClientID] != 8 {
		t.Errorf("counters: %+v", c)
	}
	if c.Routes["GET (unknown)"].Statuses[404] != 1 {
		t.Errorf("unknown route: %+v", c.Routes)
	}
}

func TestFaults(t *testing.T) {
	ctx := t.Context()
	p := start(t, sim.Config{})
	set := func(f ...simclient.Fault) {
		t.Helper()
		must[[]simclient.Fault](t)(p.Sim.SetFaults(ctx, f...))
	}
	create := `{"url":"https://r.example.com/e","event_type":"hangup","method":"POST"}`
	count := func() int { return len(must[[]exchange.Registration](t)(p.Sim.Registrations(ctx))) }

	set(simclient.Fault{
		Method: "GET", Path: "/user", Kind: simclient.FaultStatus, Status: 429, Code: "rate_limit_exceeded", Skip: 1, Count: 1,
		Headers: map[string]string{"X-RateLimit-Reset": "7"},
	})
	for i, want := range []int{200, 429, 200} {
		a := p.do(http.MethodGet, "/user", "")
		if a.status != want || want == 429 && a.header.Get("X-RateLimit-Reset") != "7" {
			t.Errorf("request %d: %d, want %d", i, a.status, want)
		}
	}

	set(simclient.Fault{Method: "POST", Kind: simclient.FaultReset, Count: 1})
	if _, err := p.try(http.MethodPost, "/extension/5101/event/", create); err == nil || count() != 0 {
		t.Errorf("reset: error %v, %d registrations", err, count())
	}
	set(simclient.Fault{Method: "POST", Kind: simclient.FaultResetAfter, Count: 1})
	if _, err := p.try(http.MethodPost, "/extension/5101/event/", create); err == nil || count() != 1 {
		t.Errorf("reset after: error %v, %d registrations", err, count())
	}
	set(simclient.Fault{Method: "GET", Path: "/event/?$", Kind: simclient.FaultTruncated, Count: 1})
	if a, err := p.try(http.MethodGet, "/extension/5101/event/", ""); err == nil {
		t.Errorf("truncated: %d %s", a.status, a.body)
	}
	set(simclient.Fault{Method: "POST", Kind: simclient.FaultVanished, Count: 1})
	if a := p.do(http.MethodPost, "/extension/5101/event/", create); a.status != http.StatusCreated || count() != 1 {
		t.Errorf("vanished: %d, %d registrations", a.status, count())
	}
	set(simclient.Fault{Kind: simclient.FaultSlow, Delay: delivery.Duration(time.Minute)})
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(short, http.MethodGet, p.URL+"/api/ver1.0/user", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := roundTrip(req); err == nil {
		t.Error("slow: answered at once")
	}
	set()
	if a := p.do(http.MethodGet, "/user", ""); a.status != http.StatusOK {
		t.Errorf("without faults: %d", a.status)
	}
	if s := must[simclient.Requests](t)(p.Sim.Requests(ctx)).Routes[simclient.CreateEventRoute].Statuses; s[0] != 2 || s[201] != 1 {
		t.Errorf("statuses of create: %v", s)
	}
}

func TestUnknownFaultIsRefused(t *testing.T) {
	p := start(t, sim.Config{})
	if _, err := p.Sim.SetFaults(t.Context(), simclient.Fault{Kind: "explode"}); err == nil {
		t.Error("unknown kind accepted")
	}
	if _, err := p.Sim.SetFaults(t.Context(), simclient.Fault{Kind: simclient.FaultSlow, Path: "("}); err == nil {
		t.Error("broken expression accepted")
	}
}

func TestExtensionsComeAndGo(t *testing.T) {
	ctx := t.Context()
	p := start(t, sim.Config{})
	added := must[[]exchange.Extension](t)(p.Sim.AddExtensions(ctx, simclient.NewExtension{Number: "098", Count: 1, Type: "Queue"}))
	if added[0].Name != "1234*098" {
		t.Errorf("leading zero lost: %s", added[0].Name)
	}
	p.register("/extension/5101/event/", "hangup", "https://r.example.com/e", "POST")
	renewed := must[exchange.Extension](t)(p.Sim.Renumber(ctx, 5101, "101"))
	if renewed.ID == 5101 || renewed.Number != "101" {
		t.Errorf("renumbered: %+v", renewed)
	}
	if left := must[[]exchange.Registration](t)(p.Sim.Registrations(ctx)); len(left) != 0 {
		t.Errorf("registrations survived their extension: %+v", left)
	}
	if a := p.do(http.MethodGet, "/extension/5101/event/", ""); a.status != http.StatusNotFound {
		t.Errorf("old id: %d", a.status)
	}
	if err := p.Sim.DeleteExtension(ctx, renewed.ID); err != nil {
		t.Fatal(err)
	}
	if a := p.do(http.MethodGet, "/extension/@101/event/", ""); a.status != http.StatusNotFound {
		t.Errorf("deleted: %d", a.status)
	}
}

func TestReset(t *testing.T) {
	ctx := t.Context()
	p := start(t, sim.Config{})
	must[[]exchange.Registration](t)(p.Sim.SetForeign(ctx, simclient.Foreign{Extension: "101", Count: 3}))
	must[ringme.Settings](t)(p.Sim.Change(ctx, map[string]any{"eventLimit": 4}))
	if err := p.Sim.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if left := must[[]exchange.Registration](t)(p.Sim.Registrations(ctx)); len(left) != 0 {
		t.Errorf("registrations after the reset: %+v", left)
	}
	if s, err := p.Sim.Settings(ctx); err != nil || s.EventLimit != 16 {
		t.Errorf("settings after the reset: %+v, %v", s, err)
	}
}
