package correlation_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// However often a notification is repeated, the call stays as it is, and so do its legs.
func TestRepetitionsDoNotGrowACall(t *testing.T) {
	t.Parallel()
	rules := correlation.DefaultRules()
	e := repeatable(0)
	c := call(e)
	for range 45_000 {
		e.Received = e.Received.Add(time.Second)
		e.Time = e.Received
		c.Add(e)
	}
	if legs := c.Outcome(rules).Legs; c.Held() != 1 || len(legs) != 1 || len(legs[0].Events) != 1 {
		t.Errorf("%d events held, legs %+v", c.Held(), legs)
	}
}

// A leg shows its first and its last events.
func TestEventsOfALegAreBounded(t *testing.T) {
	t.Parallel()
	const events = 500
	c := call(ring("1234*101", "L1", 0))
	for i := range events - 2 {
		e := phone(callevent.Progress, "1234*101", "L1", float64(i+1), "")
		e.WireStatus = strconv.Itoa(i)
		c.Add(e)
	}
	c.Add(hangup("1234*101", "L1", events, callevent.StatusCancelled))
	shown := c.Outcome(correlation.DefaultRules()).Legs[0].Events
	if len(shown) != 64 || shown[0].Type != callevent.DialIn || shown[32].Status != strconv.Itoa(events-33) || shown[63].Type != callevent.Hangup {
		t.Errorf("%d events: %+v", len(shown), shown)
	}
}

// A leg shows tags and unknown parameters, bounded as the API bounds them.
func TestAttributes(t *testing.T) {
	t.Parallel()
	e := ring("1234*101", "L1", 0)
	e.Attributes = map[string]string{"tag.campaign": "spring", "Tag": "vip", "": "nameless"}
	later := answer("1234*101", "L1", 5)
	later.Attributes = map[string]string{"Tag": "other"}
	for i := range 40 {
		later.Attributes["p"+strconv.Itoa(i)] = string(make([]byte, 1000))
	}
	restored := correlation.Restore(call(e, later).Snapshot())
	for _, c := range []*correlation.Call{call(e, later), call(later, e), &restored} {
		got := c.Outcome(correlation.DefaultRules()).Legs[0].Attributes
		if len(got) != 16 || got["tag.campaign"] != "spring" || got["Tag"] != "vip" || len(got["p0"]) != 256 {
			t.Errorf("attributes %q", got)
		}
	}
}

// manyLegs is a call whose party rings, and is answered or not, many times.
func manyLegs(events int) []callevent.Event {
	all := make([]callevent.Event, 0, events)
	for i := 0; len(all) < events; i++ {
		for k, kind := range []callevent.Type{callevent.DialIn, callevent.Answer, callevent.Hangup} {
			e := phone(kind, "0007*10"+strconv.Itoa(i%3), "", float64(10*i+3*k), callevent.StatusUnknown)
			e.Side, e.TransfersUntold, e.Lapses, e.WireStatus = e.Source.Number+"/In", true, true, ""
			if kind == callevent.Answer && i%2 == 0 {
				continue
			}
			all = append(all, e)
		}
	}
	return all[:events]
}

// BenchmarkManyEvents adds the events of a long call one by one, and derives its legs each time.
func BenchmarkManyEvents(b *testing.B) {
	rules := correlation.DefaultRules()
	for _, n := range []int{500, 1000, 2000} {
		events := manyLegs(n)
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			for b.Loop() {
				var c correlation.Call
				for _, e := range events {
					c.Add(e)
				}
				c.Outcome(rules)
			}
		})
	}
}
