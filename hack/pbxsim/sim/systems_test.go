package sim_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/voipnow"
)

// listening starts a PBX that sends all its events to a receiver.
func listening(t *testing.T, name string, r *receiver) *pbx {
	t.Helper()
	if name == "voipnow" {
		v := startVoipNow(t, voipnow.Settings{})
		v.registerCast(r.URL, "1")
		return v.pbx
	}
	p := &pbx{PBX: simtest.Start(t, sim.Config{PBX: name}), t: t}
	p.hook(simclient.Hook{URL: r.URL})
	return p
}

var otherSystems = map[string]string{"voipnow": "V2", "callable": "C1", "linuxbox": "L1"}

func TestEveryScenarioOfEverySystemArrives(t *testing.T) {
	for name := range otherSystems {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			p := listening(t, name, r)
			for _, s := range must[[]simclient.Scenario](t)(p.Sim.Scenarios(t.Context())) {
				c := p.place(simclient.CallRequest{Scenario: s.Name, Seed: s.Name, Speed: 1e6})
				found, err := scenario.Find(name, s.Name)
				if err != nil {
					t.Fatal(err)
				}
				if want := len(found.Play(s.Name, time.Now())); c.Emitted != want || c.Delivered() != want {
					t.Errorf("%s: %d emitted, %d delivered, want %d", s.Name, c.Emitted, c.Delivered(), want)
				}
			}
		})
	}
}

func TestLoadAndDeliverySwitchesOfEverySystem(t *testing.T) {
	for name, s := range otherSystems {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			r := newReceiver(t)
			p := listening(t, name, r)
			one := p.place(simclient.CallRequest{Scenario: s}).Delivered()
			load := must[simclient.Load](t)(p.Sim.Load(ctx, simclient.LoadRequest{Scenario: s, Calls: 20, Wait: true, Detail: true}))
			if load.Calls != 20 || load.Delivered != 20*one || load.Failed != 0 || len(load.Acknowledged) != 20 {
				t.Errorf("load: %+v", load)
			}
			must[any](t)(p.Sim.Change(ctx, map[string]any{"delivery": map[string]any{"duplicates": 1}}))
			if got := p.place(simclient.CallRequest{Scenario: s}).Delivered(); got != 2*one {
				t.Errorf("duplicates: %d delivered, want %d", got, 2*one)
			}
			must[any](t)(p.Sim.Change(ctx, map[string]any{"delivery": map[string]any{"duplicates": 0, "loss": 1}}))
			if c := p.place(simclient.CallRequest{Scenario: s}); c.Delivered() != 0 || c.Records[0].Outcome != exchange.Lost {
				t.Errorf("loss: %+v", c.Records)
			}
		})
	}
}

func TestExtensionsPlayScenariosOfEverySystem(t *testing.T) {
	for name, s := range map[string]string{"voipnow": "V4", "callable": "C3", "linuxbox": "L3"} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			p := listening(t, name, r)
			part := map[string]string{"voipnow": "101", "callable": "201", "linuxbox": "10"}[name]
			e := must[[]exchange.Extension](t)(p.Sim.AddExtensions(t.Context(), simclient.NewExtension{Number: "77"}))[0]
			if name == "voipnow" {
				voipNow{p}.create("77", "1", r.URL, "1")
			}
			p.place(simclient.CallRequest{
				Scenario: s, Extensions: map[string]string{part: "77"}, Values: map[string]string{"customer": "4470009"},
			})
			first := r.all()[0]
			text := first.form.Encode() + first.body
			for _, want := range []string{strings.TrimPrefix(e.Name, "0007*"), "4470009"} {
				if !strings.Contains(text, want) {
					t.Errorf("no %s in %s", want, text)
				}
			}
		})
	}
}

func TestEverySystemCanBeReset(t *testing.T) {
	for name, s := range otherSystems {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			p := listening(t, name, r)
			if err := p.Sim.Reset(t.Context()); err != nil {
				t.Fatal(err)
			}
			if c := p.place(simclient.CallRequest{Scenario: s}); len(c.Records) != 0 || len(r.all()) != 0 {
				t.Errorf("registrations survived: %s records", strconv.Itoa(len(c.Records)))
			}
		})
	}
}
