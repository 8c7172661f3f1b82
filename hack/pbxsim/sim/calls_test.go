package sim_test

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/ringme"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

func TestNotificationsReachTheirRegistrations(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.registerCast(r.URL + "/ext-event")
	c := p.place(simclient.CallRequest{Scenario: "S2", Seed: "s"})
	if c.Emitted != 10 || c.Delivered() != 6 || !c.Done {
		t.Fatalf("call: %+v", c)
	}
	var got []string
	for _, n := range r.all() {
		got = append(got, n.method+" "+n.path+" "+n.form.Get("EventType"))
		if n.form.Get("CallID") != c.ID {
			t.Errorf("CallID %s, want %s", n.form.Get("CallID"), c.ID)
		}
	}
	slices.Sort(got) // there is no order between senders
	want := []string{
		"GET /ext-event/5099 hangup", "GET /ext-event/5900 hangup", "GET /ext-event/5900 hangup",
		"POST /ext-event/5101 answer", "POST /ext-event/5101 dial-in", "POST /ext-event/5101 hangup",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTransport(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.register("/extension/5101/event/", "dial-in", r.URL+"/post", "POST")
	p.register("/extension/5101/event/", "hangup", r.URL+"/get?keep=1", "GET")
	p.place(simclient.CallRequest{Scenario: "S1"})
	p.place(simclient.CallRequest{Scenario: "S1", Delivery: &delivery.Options{RawStar: true, RawPlus: true}})
	got := map[string]received{}
	for i, n := range r.all() {
		got[n.path+strconv.Itoa(i/2)] = n
	}
	post := got["/post0"]
	if post.contentType != "application/x-www-form-urlencoded" || post.query != "" ||
		!strings.Contains(post.body, "CallerIDNum=%2B12025550143") || !strings.Contains(post.body, "CalledNumber=1234%2A101") {
		t.Errorf("POST: %+v", post)
	}
	if get := got["/get0"]; get.body != "" || !strings.HasPrefix(get.query, "keep=1&") || get.form.Get("Duration") != "60000000" {
		t.Errorf("GET: %+v", get)
	}
	if raw := got["/post1"]; !strings.Contains(raw.body, "CallerIDNum=+12025550143") || !strings.Contains(raw.body, "CalledNumber=1234*101") {
		t.Errorf("raw characters: %+v", raw)
	}
}

func TestEventTimesEndNow(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.registerCast(r.URL)
	before := time.Now()
	p.place(simclient.CallRequest{Scenario: "S1", Speed: 500})
	var times []int64
	for _, n := range r.all() {
		us, err := strconv.ParseInt(n.form.Get("EventTime"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, us)
	}
	if len(times) != 3 || times[1]-times[0] != 6_000_000 || times[2]-times[1] != 60_000_000 {
		t.Fatalf("event times: %v", times)
	}
	if end := time.UnixMicro(times[2]); end.Before(before) || end.After(time.Now()) {
		t.Errorf("last event at %v, delivered between %v and now", end, before)
	}
}

func TestDeliverySwitches(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.registerCast(r.URL)
	c := p.place(simclient.CallRequest{Scenario: "S1", Delivery: &delivery.Options{Duplicates: 1}})
	if c.Delivered() != 6 || len(r.all()) != 6 {
		t.Errorf("duplicates: %d delivered, %d received", c.Delivered(), len(r.all()))
	}
	c = p.place(simclient.CallRequest{Scenario: "S1", Delivery: &delivery.Options{Loss: 1}})
	if len(r.all()) != 6 || c.Records[0].Outcome != exchange.Lost {
		t.Errorf("loss: %+v", c.Records)
	}
}

func TestReordering(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.registerCast(r.URL)
	options := delivery.Options{Reorder: delivery.Duration(500 * time.Millisecond)}
	seed, want := mixedSeed(options, []string{"dial-in", "answer", "hangup"})
	p.place(simclient.CallRequest{Scenario: "S1", Seed: seed, Speed: 1e6, Delivery: &options})
	var order []string
	for _, n := range r.all() {
		order = append(order, n.form.Get("EventType"))
	}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Error(diff)
	}
}

// mixedSeed returns a seed that reverses the events, and their new order. The delays lie far enough
// apart to survive a busy machine.
func mixedSeed(o delivery.Options, events []string) (string, []string) {
	const apart = 150 * time.Millisecond
	for i := 0; ; i++ {
		seed := strconv.Itoa(i)
		delay := func(position int) time.Duration { return o.Copies(seed, position)[0] }
		if delay(1)-delay(2) > apart && delay(2)-delay(3) > apart {
			reversed := slices.Clone(events)
			slices.Reverse(reversed)
			return seed, reversed
		}
	}
}

func TestOrderPerSenderIsKept(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.registerCast(r.URL)
	p.place(simclient.CallRequest{Scenario: "S3", Speed: 1e6})
	var order []string
	for _, n := range r.all() {
		if n.path == "/5101" {
			order = append(order, n.form.Get("EventType")+" "+n.form.Get("CallStatus"))
		}
	}
	want := []string{"dial-in CALLING", "hangup NOANSWER", "dial-in CALLING", "hangup CANCEL"}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Error(diff)
	}
}

func TestRefusedNotifications(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.register("/extension/5101/event/", "hangup", r.URL+"/secret-token", "POST")
	r.answerWith(http.StatusServiceUnavailable)
	c := p.place(simclient.CallRequest{Scenario: "S1", Delivery: &delivery.Options{Retries: 2}})
	if rec := c.Records[0]; rec.Outcome != exchange.Failed || rec.Status != 503 || rec.Attempts != 3 || len(r.all()) != 3 {
		t.Errorf("record: %+v", rec)
	}
	r.Close()
	c = p.place(simclient.CallRequest{Scenario: "S1"})
	if rec := c.Records[0]; rec.Outcome != exchange.Failed || rec.Error == "" || strings.Contains(rec.Error, "secret-token") {
		t.Errorf("record: %+v", rec)
	}
}

func TestAccountWideRegistrations(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.register("/client/@me/phone_events/", "hangup", r.URL, "POST")
	p.register("/client/@me/phone_events/", "extension-call-status", r.URL, "POST")
	p.place(simclient.CallRequest{Scenario: "S2"})
	if got := r.all(); len(got) != 1 || got[0].form.Get("CalledNumber") != "1234*101" {
		t.Fatalf("only the phone's hangup counts: %+v", got)
	}
	p.place(simclient.CallRequest{Scenario: "S15"})
	got := r.all()[1:]
	if len(got) != 1 || got[0].form.Get("event_type") != "call-status-change" || got[0].form.Get("client_id") != "12" {
		t.Errorf("status event: %+v", got)
	}
}

func TestAgentEvents(t *testing.T) {
	ctx := t.Context()
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.register("/client/12/agent/local/77/event/", "agent-login", r.URL+"/in", "POST")
	p.register("/client/12/agent/local/77/event/", "agent-logout", r.URL+"/out", "POST")
	p.place(simclient.CallRequest{Scenario: "S15"})
	if got := r.all(); len(got) != 2 || got[0].form.Get("agent_status") != "available" || got[1].form.Get("agent_id") != "77" {
		t.Fatalf("scenario: %+v", got)
	}
	body := `{"name":"Ann"}`
	p.do(http.MethodPost, "/extension/5101/agent/", body)
	p.do(http.MethodPost, "/extension/5101/agent/", body) // repeated: silent
	must[exchange.Agent](t)(p.Sim.SetAgent(ctx, simclient.AgentState{Extension: "101", Status: exchange.LoggedOut}))
	eventually(t, "one login and one logout", func() bool { return len(r.all()) == 4 })
	paths := map[string]int{}
	for _, n := range r.all() {
		paths[n.path]++
	}
	if paths["/in"] != 2 || paths["/out"] != 2 {
		t.Errorf("events: %v", paths)
	}
	p.expect(p.do(http.MethodGet, "/client/@me/agent/local/", ""), http.StatusOK,
		`[{"id":77,"name":"Ann Novak","status":"logged_out","extension_id":5101,"extension_name":"1234*101"}]`)
}

func TestOtherExtensionsPlayTheScenario(t *testing.T) {
	ctx := t.Context()
	p, r := start(t, sim.Config{}), newReceiver(t)
	e := must[[]exchange.Extension](t)(p.Sim.AddExtensions(ctx, simclient.NewExtension{Number: "205"}))[0]
	p.register("/extension/"+strconv.Itoa(e.ID)+"/event/", "dial-in", r.URL, "POST")
	p.place(simclient.CallRequest{
		Scenario: "S1", Extensions: map[string]string{"101": "205"}, Values: map[string]string{"customer": "+12025550199"},
	})
	got := r.all()
	if len(got) != 1 || got[0].form.Get("CalledNumber") != "1234*205" || got[0].form.Get("CallerIDNum") != "+12025550199" {
		t.Errorf("got %+v", got)
	}
	if _, err := p.Sim.Place(ctx, simclient.CallRequest{Scenario: "S1", Extensions: map[string]string{"101": "999"}}); err == nil {
		t.Error("an unknown extension can play")
	}
}

func TestCurrentCallsAndDrop(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.registerCast(r.URL)
	calls := must[[]simclient.Call](t)(p.Sim.Place(t.Context(), simclient.CallRequest{Scenario: "S2", Speed: 40}))
	type item struct {
		CallAPIID  string `json:"call_api_id"`
		AnswerTime string `json:"answer_time_gmt"`
		CalledDID  string `json:"called_did"`
	}
	var list struct {
		Calls []item `json:"call_list"`
	}
	eventually(t, "an answered call on 101", func() bool {
		p.do(http.MethodGet, "/extension/5101/current_calls/", "").into(t, &list)
		return len(list.Calls) == 1 && list.Calls[0].AnswerTime != ""
	})
	if list.Calls[0].CalledDID != "12025550100" {
		t.Errorf("item: %+v", list.Calls[0])
	}
	path := "/extension/5101/current_calls/" + list.Calls[0].CallAPIID
	p.expect(p.do(http.MethodPut, path, `{"action":"hold"}`), http.StatusOK, "{}")
	if a := p.do(http.MethodPut, path, `{"action":"shout"}`); a.status != http.StatusBadRequest {
		t.Errorf("unknown action: %d", a.status)
	}
	p.expect(p.do(http.MethodDelete, path, ""), http.StatusNoContent, "")
	eventually(t, "hangups of phone, IVR and both sides of the queue", func() bool {
		return must[simclient.Call](t)(p.Sim.Call(t.Context(), calls[0].ID)).Done
	})
	bridged := map[string]string{}
	for _, n := range r.all() {
		if n.form.Get("EventType") == "hangup" && n.form.Get("CallFlow") == "in" {
			bridged[n.path] = n.form.Get("Bridged") + n.form.Get("CallStatus")
		}
	}
	if diff := cmp.Diff(map[string]string{"/5101": "ANSWER", "/5099": "yesANSWER", "/5900": "yesANSWER"}, bridged); diff != "" {
		t.Error(diff)
	}
	p.expect(p.do(http.MethodDelete, path, ""), http.StatusNotFound, `{"message":"Not found"}`)
}

func TestCallback(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.registerCast(r.URL)
	must[ringme.Settings](t)(p.Sim.Change(t.Context(), map[string]any{"callbackSpeed": 1000}))
	for _, tc := range []struct{ name, body, scenario, first string }{
		{"himself", `{"src_num":["101"],"dst_num":"+12025550111"}`, "S11", "+12025550111"},
		{"himself to a colleague", `{"src_num":["1234*101"],"dst_num":"102"}`, "S6", "1234*102"},
		{"a customer to the IVR", `{"src_num":["+12025550112"],"dst_num":"099"}`, "S12a", "+12025550112"},
		{"two outside numbers", `{"src_num":["+12025550113"],"dst_num":"+12025550114"}`, "S12c", "+12025550113"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := p.do(http.MethodPost, "/extension/5101/callback/", tc.body)
			var made struct {
				CallID    string `json:"call_id"`
				CallAPIID string `json:"call_api_id"`
			}
			a.into(t, &made)
			if a.status != http.StatusCreated {
				t.Fatalf("status %d", a.status)
			}
			first := func() *received {
				for _, n := range r.all() {
					if n.form.Get("CallID") == made.CallID && n.form.Get("EventType") == "dial-out" {
						return &n
					}
				}
				return nil
			}
			eventually(t, "the owner's dial-out", func() bool { return first() != nil })
			c := must[simclient.Call](t)(p.Sim.Call(t.Context(), made.CallID))
			if n := first(); c.Scenario != tc.scenario || n.form.Get("CalledNumber") != tc.first {
				t.Errorf("scenario %s, first event %v", c.Scenario, n.form)
			}
			handle := first().form.Get("CallBackID")
			if handle == "" {
				handle = made.CallID
			}
			if made.CallAPIID != handle {
				t.Errorf("call_api_id %s, want %s", made.CallAPIID, handle)
			}
		})
	}
	for _, body := range []string{`{}`, `{"src_num":["101"]}`, `{"src_num":["900"],"dst_num":"+12025550111"}`} {
		if a := p.do(http.MethodPost, "/extension/5101/callback/", body); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d", body, a.status)
		}
	}
}

func TestHistory(t *testing.T) {
	clock := &clock{now: time.Now()}
	p := start(t, sim.Config{Now: clock.Now})
	c := p.place(simclient.CallRequest{Scenario: "S14-late", Speed: 1e6})
	type history struct {
		CallUUID string `json:"call_uuid"`
		Result   string
		CDR      []struct {
			ExtensionID string  `json:"extension_id"`
			Duration    int     `json:"duration"`
			Record      *string `json:"record_uuid"`
		}
	}
	read := func() history {
		t.Helper()
		var h history
		p.do(http.MethodGet, "/client/@me/call_history/"+c.ID, "").into(t, &h)
		return h
	}
	h := read()
	if h.CallUUID != strings.ToUpper(c.ID) || h.Result != "answered" || h.CDR[0].Duration != 45 || h.CDR[0].Record != nil {
		t.Errorf("at once: %+v", h)
	}
	clock.advance(5*time.Minute + time.Second)
	p.login()
	if h := read(); h.CDR[0].Record == nil || !strings.HasPrefix(*h.CDR[0].Record, "5101-") {
		t.Errorf("five minutes later: %+v", h.CDR[0])
	}
	q := url.Values{"start_datetime": {"2020-01-01 00:00:00"}, "end_datetime": {"2090-01-01 00:00:00"}}
	if a := p.do(http.MethodGet, "/client/@me/call_history/?"+q.Encode(), ""); !strings.Contains(a.body, h.CallUUID) {
		t.Errorf("list: %d %s", a.status, a.body)
	}
	if a := p.do(http.MethodGet, "/client/@me/call_history/", ""); a.status != http.StatusBadRequest {
		t.Errorf("list without a range: %d", a.status)
	}
}

func TestHistoryAnswersOneAtATime(t *testing.T) {
	p := start(t, sim.Config{})
	c := p.place(simclient.CallRequest{Scenario: "S1"})
	must[ringme.Settings](t)(p.Sim.Change(t.Context(), map[string]any{"historyTime": "2s"}))
	statuses := make(chan answer, 2)
	for range 2 {
		go func() {
			a, err := p.try(http.MethodGet, "/client/@me/call_history/"+c.ID, "")
			if err != nil {
				t.Error(err)
			}
			statuses <- a
		}()
	}
	refused := <-statuses // the second to come is the first to be answered
	p.expect(refused, http.StatusTooManyRequests,
		`{"message":"Stats request already exists, concurrent request not allowed"}`)
	if a := <-statuses; a.status != http.StatusOK {
		t.Errorf("the first request: %d", a.status)
	}
}

func TestSilentScenario(t *testing.T) {
	p := start(t, sim.Config{})
	if c := p.place(simclient.CallRequest{Scenario: "S11-no-pickup"}); c.Emitted != 0 || len(c.CallIDs) != 0 || c.ID == "" {
		t.Errorf("call: %+v", c)
	}
}

func TestEveryScenarioCanBePlaced(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.registerCast(r.URL)
	for _, s := range must[[]simclient.Scenario](t)(p.Sim.Scenarios(t.Context())) {
		c := p.place(simclient.CallRequest{Scenario: s.Name, Seed: s.Name, Speed: 1e6})
		for _, rec := range c.Records {
			if rec.Outcome != exchange.Delivered {
				t.Errorf("%s: %+v", s.Name, rec)
			}
		}
		found, err := scenario.Find("ringme", s.Name)
		if err != nil {
			t.Fatal(err)
		}
		if want := len(found.Play(s.Name, time.Now())); c.Emitted != want {
			t.Errorf("%s: %d events, want %d", s.Name, c.Emitted, want)
		}
	}
}

func TestLoad(t *testing.T) {
	ctx := t.Context()
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.registerCast(r.URL)
	load := must[simclient.Load](t)(p.Sim.Load(ctx, simclient.LoadRequest{
		Scenario: "S1", Calls: 200, Concurrency: 8, Wait: true, Detail: true,
		Extensions: map[string][]string{"101": {"101", "102"}},
	}))
	if !load.Done || load.Calls != 200 || load.Delivered != 600 || load.Failed != 0 || len(load.Acknowledged) != 200 {
		t.Fatalf("load: calls %d, delivered %d, failed %d %s", load.Calls, load.Delivered, load.Failed, load.LastError)
	}
	want := map[simclient.Event]bool{}
	for _, n := range r.all() {
		want[simclient.Event{CallID: n.form.Get("CallID"), LegID: n.form.Get("SubCallID"), EventType: n.form.Get("EventType")}] = true
	}
	got := map[simclient.Event]bool{}
	for _, a := range load.Acknowledged {
		for _, e := range a.Events {
			got[e] = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got) != 600 {
		t.Errorf("acknowledged differs from received: %s", diff)
	}

	r.answerWith(http.StatusServiceUnavailable)
	load = must[simclient.Load](t)(p.Sim.Load(ctx, simclient.LoadRequest{Scenario: "S1", Calls: 2, Wait: true}))
	if load.Delivered != 0 || load.Failed != 6 || load.LastError != "status 503" {
		t.Errorf("refused load: %+v", load)
	}
}

func TestLoadCanBeStopped(t *testing.T) {
	ctx := t.Context()
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.registerCast(r.URL)
	load := must[simclient.Load](t)(p.Sim.Load(ctx, simclient.LoadRequest{Scenario: "S1", Calls: 1000, Rate: 20}))
	if err := p.Sim.StopLoad(ctx, load.ID); err != nil {
		t.Fatal(err)
	}
	if s := must[simclient.Load](t)(p.Sim.LoadState(ctx, load.ID)); !s.Done || s.Calls >= 1000 {
		t.Errorf("stopped load: %+v", s)
	}
}

func BenchmarkLoad(b *testing.B) {
	api := newBench(b)
	load, err := api.Sim.Load(b.Context(), simclient.LoadRequest{Scenario: "S1", Calls: max(1, b.N/3), Concurrency: 64, Wait: true})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(load.PerSecond, "notifications/s")
}
