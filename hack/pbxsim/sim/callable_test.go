package sim_test

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/callable"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
)

func startCallable(t *testing.T, s callable.Settings) *pbx {
	t.Helper()
	return &pbx{PBX: simtest.Start(t, sim.Config{PBX: "callable", Callable: s}), t: t}
}

func (p *pbx) hook(h simclient.Hook) []exchange.Registration {
	p.t.Helper()
	return must[[]exchange.Registration](p.t)(p.Sim.SetHook(p.t.Context(), h))
}

// genericEvent is the part of Callable's event that tests look at.
type genericEvent struct {
	AccountID, ParentCallSID, CallSID, Event, Status, From, To string
	ChildSID, Extension                                        *string
	Meta                                                       map[string]string
	Timestamp                                                  int64
}

// genericEvents decodes one notification, an object or an array of them.
func genericEvents(t *testing.T, n received) []genericEvent {
	t.Helper()
	body := n.body
	if !strings.HasPrefix(body, "[") {
		body = "[" + body + "]"
	}
	var list []genericEvent
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatalf("%s: %v", n.body, err)
	}
	return list
}

func outlineOf(events []genericEvent) []string {
	var out []string
	for _, e := range events {
		level := "2"
		switch {
		case e.ChildSID != nil:
			level = "3"
		case e.CallSID == e.ParentCallSID:
			level = "1"
		}
		out = append(out, level+" "+e.Event+"/"+e.Status)
	}
	return out
}

func TestCallableNotifications(t *testing.T) {
	p, r := startCallable(t, callable.Settings{}), newReceiver(t)
	p.hook(simclient.Hook{URL: r.URL + "/k3y"})
	c := p.place(simclient.CallRequest{Scenario: "C1", Delivery: &delivery.Options{}})
	if c.Emitted != 9 || c.Delivered() != 9 {
		t.Fatalf("call: %+v", c)
	}
	var events []genericEvent
	for _, n := range r.all() {
		if n.method != http.MethodPost || n.contentType != "application/json" || n.path != "/k3y" {
			t.Errorf("notification: %+v", n)
		}
		events = append(events, genericEvents(t, n)...)
	}
	// The device does not wait for the legs.
	slices.SortStableFunc(events, func(a, b genericEvent) int { return cmp.Compare(a.Timestamp, b.Timestamp) })
	byTime := map[int64][]string{}
	for _, e := range events {
		if e.ParentCallSID != c.ID || e.AccountID != "0a000000-0000-4000-8000-0000000000aa" || e.From != "442079460123" {
			t.Errorf("event: %+v", e)
		}
		at := e.Timestamp - events[0].Timestamp
		byTime[at] = append(byTime[at], outlineOf([]genericEvent{e})...)
	}
	want := map[int64][]string{
		0: {"1 call/trying"}, 200: {"2 call/trying"}, 900: {"2 call/ringing"}, 6000: {"2 call/in-progress", "1 call/in-progress"},
		6100: {"3 phone/connected"}, 66000: {"3 phone/disconnected"}, 66100: {"2 call/completed", "1 call/completed"},
	}
	if diff := gocmp.Diff(want, byTime); diff != "" {
		t.Error(diff)
	}
}

func TestCallableArrays(t *testing.T) {
	p, r := startCallable(t, callable.Settings{}), newReceiver(t)
	p.hook(simclient.Hook{URL: r.URL})
	p.place(simclient.CallRequest{Scenario: "C1-array-whole"})
	got := r.all()
	if len(got) != 1 || len(genericEvents(t, got[0])) != 9 {
		t.Fatalf("got %+v", got)
	}
	p.place(simclient.CallRequest{Scenario: "C1-array-single"})
	if got := r.all()[1:]; len(got) != 9 || !strings.HasPrefix(got[0].body, "[{") {
		t.Errorf("%d bodies", len(got))
	}
}

func TestCallableLevels(t *testing.T) {
	for profile, want := range map[string][]string{
		callable.LevelOne:   {"1 call/trying", "1 call/in-progress", "1 call/completed"},
		callable.NoListener: {"1 call/trying", "2 call/trying", "2 call/ringing", "2 call/in-progress", "1 call/in-progress", "2 call/completed", "1 call/completed"},
	} {
		t.Run(profile, func(t *testing.T) {
			p, r := startCallable(t, callable.Settings{Profile: profile}), newReceiver(t)
			p.hook(simclient.Hook{URL: r.URL})
			if c := p.place(simclient.CallRequest{Scenario: "C6"}); c.Scenario != "C6-"+profile || c.Emitted != len(want) {
				t.Errorf("call: %+v", c)
			}
			var got []string
			for _, n := range r.all() {
				got = append(got, outlineOf(genericEvents(t, n))...)
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCallableDropEndsEveryLevel(t *testing.T) {
	p, r := startCallable(t, callable.Settings{}), newReceiver(t)
	p.hook(simclient.Hook{URL: r.URL})
	c := must[[]simclient.Call](t)(p.Sim.Place(t.Context(), simclient.CallRequest{Scenario: "C1", Speed: 60}))[0]
	eventually(t, "the device is connected", func() bool { return len(r.all()) == 6 })
	if err := p.Sim.Drop(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three legs end", func() bool { return len(r.all()) == 9 })
	got := map[string]bool{}
	for _, n := range r.all()[6:] {
		got[outlineOf(genericEvents(t, n))[0]] = true
	}
	if diff := gocmp.Diff(map[string]bool{"3 phone/disconnected": true, "2 call/completed": true, "1 call/completed": true}, got); diff != "" {
		t.Error(diff)
	}
}

func TestHooks(t *testing.T) {
	ctx := t.Context()
	p, r := startCallable(t, callable.Settings{}), newReceiver(t)
	p.hook(simclient.Hook{URL: r.URL + "/a"})
	if list := p.hook(simclient.Hook{Name: "second", URL: r.URL + "/b"}); len(list) != 2 {
		t.Errorf("hooks: %+v", list)
	}
	p.hook(simclient.Hook{URL: r.URL + "/changed"})
	p.place(simclient.CallRequest{Scenario: "C2b"})
	paths := map[string]int{}
	for _, n := range r.all() {
		paths[n.path]++
	}
	if diff := gocmp.Diff(map[string]int{"/changed": 3, "/b": 3}, paths); diff != "" {
		t.Error(diff)
	}
	if list := p.hook(simclient.Hook{Name: "second"}); len(list) != 1 {
		t.Errorf("hooks: %+v", list)
	}
	for _, h := range []simclient.Hook{
		{URL: "/relative"}, {URL: r.URL, Method: "PUT"}, {URL: r.URL, Dialect: "B"}, {URL: r.URL, Account: 99},
	} {
		if _, err := p.Sim.SetHook(ctx, h); err == nil {
			t.Errorf("accepted %+v", h)
		}
	}
	if a := p.do(http.MethodGet, "/anything", ""); a.status != http.StatusNotFound {
		t.Errorf("management API: %d", a.status)
	}
}

func TestCallableAccountsAreSeparate(t *testing.T) {
	cfg := sim.DefaultConfigOf("callable")
	cfg.Accounts = append(cfg.Accounts, exchange.Account{ID: 171, Domain: "other.example.com", Extensions: []exchange.Extension{{Number: "201"}}})
	p, r := &pbx{PBX: simtest.Start(t, cfg), t: t}, newReceiver(t)
	p.hook(simclient.Hook{Account: 170, URL: r.URL + "/170"})
	p.hook(simclient.Hook{Account: 171, URL: r.URL + "/171"})
	p.place(simclient.CallRequest{Scenario: "C3-listener", Account: 171})
	got := r.all()
	if len(got) != 9 {
		t.Fatalf("%d notifications", len(got))
	}
	from := map[string]bool{}
	for _, n := range got {
		e := genericEvents(t, n)[0]
		from[e.From] = true
		if n.path != "/171" || !strings.HasSuffix(e.AccountID, "0000000000ab") {
			t.Errorf("%s: %+v", n.path, e)
		}
	}
	if !from["201@other.example.com"] {
		t.Errorf("from %v", from)
	}
}
