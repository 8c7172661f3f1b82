package sim_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

// events are the types of the notifications that a receiver got of one call, in the order in which
// they came in.
func (r *receiver) events() []string {
	var types []string
	for _, n := range r.all() {
		types = append(types, n.form.Get("EventType"))
	}
	return types
}

func TestNotificationsOvertakeEachOther(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.registerCast(r.URL)
	p.place(simclient.CallRequest{Scenario: "S1", Speed: 1e6, Delivery: &delivery.Options{Overtake: delivery.Duration(300 * time.Millisecond)}})
	if got := r.events(); len(got) != 3 || got[0] != "answer" {
		t.Errorf("%v, want the answer before the ring", got)
	}
}

func TestNotificationsAreRepeated(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.registerCast(r.URL)
	p.place(simclient.CallRequest{Scenario: "S1", Speed: 1e6, Delivery: &delivery.Options{RepeatAfter: delivery.Duration(300 * time.Millisecond)}})
	got := r.events()
	first, again := slices.Sorted(slices.Values(got[:len(got)/2])), slices.Sorted(slices.Values(got[len(got)/2:]))
	if len(got) != 6 || !slices.Equal(first, again) {
		t.Errorf("%v, want each event once, and then once more", got)
	}
}

func TestEventInTheQueryOfAPost(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.registerCast(r.URL)
	p.place(simclient.CallRequest{Scenario: "S1", Speed: 1e6, Delivery: &delivery.Options{EventInQuery: true}})
	for _, n := range r.all() {
		if n.method != http.MethodPost || n.body != "{}" || !strings.Contains(n.query, "CallID=") {
			t.Errorf("%+v, want the event in the query of a POST", n)
		}
	}
}

func TestClocksOfTwoNodes(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.registerCast(r.URL)
	p.place(simclient.CallRequest{Scenario: "S1", Speed: 1e6, Delivery: &delivery.Options{ClockSkew: delivery.Duration(-70 * time.Second)}})
	stamps := map[string]int64{}
	for _, n := range r.all() {
		micros, err := strconv.ParseInt(n.form.Get("EventTime"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		stamps[n.form.Get("EventType")] = micros
	}
	if ring, answer, hangup := stamps["dial-in"], stamps["answer"], stamps["hangup"]; answer >= ring || hangup-ring != (66*time.Second).Microseconds() {
		t.Errorf("%v, want the answer of the other node before the ring", stamps)
	}
}

func TestInstallationsOfTheirOwn(t *testing.T) {
	p, r := start(t, sim.Config{}), newReceiver(t)
	p.registerCast(r.URL)
	p.place(simclient.CallRequest{Scenario: "S1", Speed: 1e6, Values: map[string]string{"domain": "corp.example.com", "customer": "anonymous"}})
	for _, n := range r.all() {
		if n.form.Get("CalledExtension") != "1234*101@corp.example.com" || n.form.Get("CallerIDNum") != "anonymous" {
			t.Errorf("RingMe: %v", n.form)
		}
	}
	r = newReceiver(t)
	v := listening(t, "voipnow", r)
	v.place(simclient.CallRequest{Scenario: "V1", Speed: 1e6, Values: map[string]string{"separator": "", "api": "A1"}})
	for _, n := range r.all() {
		if n.form.Get("CalledExtension") != "0007101" || n.form.Get("CallAPIID") == "" {
			t.Errorf("VoipNow: %v", n.form)
		}
	}
}

func TestAnIVRRefusesEventsThatItNeverSends(t *testing.T) {
	p := start(t, sim.Config{})
	for eventType, want := range map[string]int{"dial-in": http.StatusCreated, "hangup": http.StatusCreated, "dial-out": http.StatusBadRequest, "answer": http.StatusBadRequest} {
		a := p.do(http.MethodPost, "/extension/5099/event/", `{"url":"https://r.example.com/e","event_type":"`+eventType+`","method":"POST"}`)
		if a.status != want || (want == http.StatusBadRequest) != strings.Contains(a.body, "ivr-type") {
			t.Errorf("%s on an IVR: %d %s", eventType, a.status, a.body)
		}
	}
}
