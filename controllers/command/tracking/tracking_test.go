package tracking_test

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/command/tracking"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func at(seconds float64) *metav1.MicroTime {
	t := metav1.NewMicroTime(noon.Add(time.Duration(seconds * float64(time.Second))))
	return &t
}

// leg is an outgoing leg of 101 to the customer, unless changed.
func leg(name, callID string, start float64, change ...func(*v1alpha1.CallLegStatus)) v1alpha1.CallLeg {
	l := v1alpha1.CallLeg{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.CallLegStatus{
		CallID: callID, LegID: name, Kind: v1alpha1.LegExtension, Direction: v1alpha1.DirectionOutbound,
		Extension: "1234*101", From: "1234*101", To: "+12025550143", Phase: v1alpha1.PhaseRinging, StartTime: at(start),
	}}
	for _, c := range change {
		c(&l.Status)
	}
	return l
}

// dial is one of 101 to the customer at noon, unless changed.
func dial(reference string, change ...func(*tracking.Dial)) tracking.Dial {
	d := tracking.Dial{Reference: reference, Extension: "1234*101", Number: "+12025550143", Sent: noon, Open: true}
	for _, c := range change {
		c(&d)
	}
	return d
}

func names(legs []v1alpha1.CallLeg) string {
	list := make([]string, len(legs))
	for i := range legs {
		list[i] = legs[i].Name
	}
	return strings.Join(list, " ")
}

const (
	hex  = "0123456789abcdef0123456789abcdef"
	uuid = "01234567-89ab-cdef-0123-456789abcdef"
)

func TestLegsAreRecognised(t *testing.T) {
	tests := map[string]struct {
		dial   tracking.Dial
		rivals []tracking.Dial
		legs   []v1alpha1.CallLeg
		want   string
	}{
		"by call id, in any letter case": {
			dial: dial("u", func(d *tracking.Dial) { d.CallID = "AB" }),
			legs: []v1alpha1.CallLeg{leg("b", "ab", 5), leg("other", "cd", 1), leg("a", "ab", 1)},
			want: "a b",
		},
		"by callback id, as 32 digits": {
			dial: dial("u", func(d *tracking.Dial) { d.CallBackID = hex }),
			legs: []v1alpha1.CallLeg{leg("a", "c1", 1, calledBack(hex)), leg("other", "c2", 1)},
			want: "a",
		},
		"by callback id, as a UUID with the number of a node, with the rest of the call": {
			dial: dial("u", func(d *tracking.Dial) { d.CallBackID = strings.ToUpper(hex) }),
			legs: []v1alpha1.CallLeg{leg("a", "c1", 1, calledBack("1000000001-"+uuid)), leg("rest", "c1", 3), leg("other", "c2", 1)},
			want: "a rest",
		},
		"by an id that is none of RingMe's": {
			dial: dial("u", func(d *tracking.Dial) { d.CallBackID = "pc-0001" }),
			legs: []v1alpha1.CallLeg{leg("a", "v1", 1, calledBack("pc-0001")), leg("other", "v2", 1, calledBack("pc-0002"))},
			want: "a",
		},
		"by the reference, without an answer": {
			dial: dial("6f1c"),
			legs: []v1alpha1.CallLeg{leg("other", "k1", 1), leg("a", "k2", 3, calledBack("6f1c"))},
			want: "a",
		},
		"by nothing but the id, where there is one": {
			dial: dial("u", func(d *tracking.Dial) { d.CallID = "ab" }),
			legs: []v1alpha1.CallLeg{leg("other", "cd", 1)},
		},
		"by what was found before": {
			dial: dial("u", func(d *tracking.Dial) { d.Legs = []string{"a"} }),
			legs: []v1alpha1.CallLeg{leg("a", "k1", 300), leg("other", "k2", 1)},
			want: "a",
		},
		"by extension, number and time": {
			dial: dial("u"),
			legs: []v1alpha1.CallLeg{
				leg("number", "k1", 1, to("+12025550177")), leg("extension", "k2", 1, of("1234*102")), leg("before", "k3", -2.1),
				leg("after", "k4", 60.1), leg("inbound", "k5", 1, inbound), leg("a", "k6", 59), leg("untimed", "k7", 1, untimed),
			},
			want: "a",
		},
		"although the PBX's clock is two seconds behind": {
			dial: dial("u"),
			legs: []v1alpha1.CallLeg{leg("a", "k1", -1.9)},
			want: "a",
		},
		"although the number is written otherwise": {
			dial: dial("u", func(d *tracking.Dial) { d.Extension, d.Number = "0007*101", "102" }),
			legs: []v1alpha1.CallLeg{leg("a", "k1", 1, of("101"), to("0007*102@sip.example.com"))},
			want: "a",
		},
		"but not those of another account's extension": {
			dial: dial("u"),
			legs: []v1alpha1.CallLeg{leg("other", "k1", 1, of("9999*101"))},
		},
		"the first call, when there are two": {
			dial: dial("u"),
			legs: []v1alpha1.CallLeg{leg("second", "k2", 9), leg("a", "k1", 1)},
			want: "a",
		},
		"but not those that another dial has": {
			dial:   dial("u"),
			rivals: []tracking.Dial{dial("v", func(d *tracking.Dial) { d.Legs = []string{"first"} })},
			legs:   []v1alpha1.CallLeg{leg("first", "k1", 1), leg("a", "k2", 9)},
			want:   "a",
		},
		"but not another leg of a call that another dial has": {
			dial:   dial("u"),
			rivals: []tracking.Dial{dial("v", func(d *tracking.Dial) { d.Legs = []string{"first"} })},
			legs:   []v1alpha1.CallLeg{leg("first", "k1", 1), leg("transferred", "k1", 9)},
		},
		"but not those whose id another dial knows": {
			dial:   dial("u"),
			rivals: []tracking.Dial{dial("v", func(d *tracking.Dial) { d.CallID = "k1" })},
			legs:   []v1alpha1.CallLeg{leg("first", "k1", 1)},
		},
		"after an older dial has taken its own": {
			dial:   dial("u", func(d *tracking.Dial) { d.Sent = noon.Add(time.Second) }),
			rivals: []tracking.Dial{dial("v")},
			legs:   []v1alpha1.CallLeg{leg("first", "k1", 1), leg("a", "k2", 9)},
			want:   "a",
		},
		"before a younger dial, and one whose outcome is unknown": {
			dial: dial("u", func(d *tracking.Dial) { d.Confirmed = true }),
			rivals: []tracking.Dial{
				dial("v", func(d *tracking.Dial) { d.Sent, d.Confirmed = noon.Add(time.Second), true }),
				dial("w", func(d *tracking.Dial) { d.Sent = noon.Add(-time.Second) }),
			},
			legs: []v1alpha1.CallLeg{leg("a", "k1", 2)},
			want: "a",
		},
		"although a dial that was given up would have liked it": {
			dial:   dial("u", func(d *tracking.Dial) { d.Sent = noon.Add(time.Second) }),
			rivals: []tracking.Dial{dial("v", func(d *tracking.Dial) { d.Open = false })},
			legs:   []v1alpha1.CallLeg{leg("a", "k1", 1)},
			want:   "a",
		},
		"each once, although it was read twice": {
			dial: dial("u", func(d *tracking.Dial) { d.CallID = "c1" }),
			legs: []v1alpha1.CallLeg{leg("a", "c1", 1), leg("a", "c1", 1)},
			want: "a",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := names(test.dial.Call(test.rivals, test.legs)); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func calledBack(id string) func(*v1alpha1.CallLegStatus) {
	return func(s *v1alpha1.CallLegStatus) { s.CallBackID = id }
}

func to(number string) func(*v1alpha1.CallLegStatus) {
	return func(s *v1alpha1.CallLegStatus) { s.To = number }
}

func of(extension string) func(*v1alpha1.CallLegStatus) {
	return func(s *v1alpha1.CallLegStatus) { s.Extension = extension }
}

func inbound(s *v1alpha1.CallLegStatus) { s.Direction = v1alpha1.DirectionInbound }

func untimed(s *v1alpha1.CallLegStatus) { s.StartTime = nil }

// Several dials of the same extension to the same number, whose ids nobody knows, each find a call
// of their own, whoever looks first and in whatever order things are listed.
func TestNoCallBelongsToTwoDials(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dials := make([]tracking.Dial, rapid.IntRange(1, 6).Draw(t, "dials"))
		for i := range dials {
			dials[i] = dial(fmt.Sprint("u", i), func(d *tracking.Dial) {
				d.Sent = noon.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "sent")) * time.Second)
				d.Confirmed, d.Open = rapid.Bool().Draw(t, "confirmed"), rapid.Bool().Draw(t, "open")
			})
		}
		legs := make([]v1alpha1.CallLeg, rapid.IntRange(0, 8).Draw(t, "legs"))
		for i := range legs {
			call, start := rapid.IntRange(0, 5).Draw(t, "call"), rapid.IntRange(-5, 170).Draw(t, "start")
			legs[i] = leg(fmt.Sprint("l", i), fmt.Sprint("k", call), float64(start))
		}
		owner := map[string]string{}
		for i := range dials {
			if !dials[i].Open {
				continue
			}
			rivals := append(append([]tracking.Dial{}, dials[:i]...), dials[i+1:]...)
			found := dials[i].Call(rivals, legs)
			shuffle := rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed")))
			shuffle.Shuffle(len(rivals), func(a, b int) { rivals[a], rivals[b] = rivals[b], rivals[a] })
			shuffled := append([]v1alpha1.CallLeg{}, legs...)
			shuffle.Shuffle(len(shuffled), func(a, b int) { shuffled[a], shuffled[b] = shuffled[b], shuffled[a] })
			if diff := cmp.Diff(found, dials[i].Call(rivals, shuffled)); diff != "" {
				t.Fatalf("the order matters: %s", diff)
			}
			for _, l := range found {
				if other := owner[l.Name]; other != "" {
					t.Fatalf("%s belongs to %s and %s", l.Name, other, dials[i].Reference)
				}
				owner[l.Name] = dials[i].Reference
			}
			if len(found) > 0 {
				since := found[0].Status.StartTime.Sub(dials[i].Sent)
				if fits := since >= -2*time.Second && since <= tracking.Window; !fits && !anyFits(found, dials[i]) {
					t.Fatalf("the call began %s after the dial", since)
				}
			}
		}
	})
}

func anyFits(legs []v1alpha1.CallLeg, d tracking.Dial) bool {
	for _, l := range legs {
		if since := l.Status.StartTime.Sub(d.Sent); since >= -2*time.Second && since <= tracking.Window {
			return true
		}
	}
	return false
}

func completed(result v1alpha1.LegResult, end float64) func(*v1alpha1.CallLegStatus) {
	return func(s *v1alpha1.CallLegStatus) {
		s.Phase, s.Result, s.EndTime = v1alpha1.PhaseCompleted, result, at(end)
		if result == v1alpha1.ResultAnswered {
			s.AnswerTime, s.TalkTime = at(end-60), new("60s")
		}
	}
}

func answered(s *v1alpha1.CallLegStatus) { s.Phase, s.AnswerTime = v1alpha1.PhaseAnswered, at(10) }

func internal(s *v1alpha1.CallLegStatus) { s.Direction = v1alpha1.DirectionInternal }

func TestProgress(t *testing.T) {
	live := v1alpha1.CallLegs{
		Publish: v1alpha1.PublishLive, Scope: v1alpha1.ScopeExternal, MaxDuration: metav1.Duration{Duration: 4 * time.Hour},
	}
	late := live
	late.Publish = v1alpha1.PublishCompleted
	all := live
	all.Scope = v1alpha1.ScopeAll
	sent := dial("u", func(d *tracking.Dial) { d.Confirmed = true })
	unknown := dial("u")
	seen := dial("u", func(d *tracking.Dial) { d.Confirmed, d.Legs = true, []string{"a"} })
	hers := leg("b", "c1", 1, internal, of("1234*102"), to("1234*102"), answered)
	source := func(s *v1alpha1.CallLegStatus) {
		s.Direction, s.From, s.To = v1alpha1.DirectionInbound, "+12025550143", "1234*101"
	}

	tests := map[string]struct {
		view tracking.View
		now  float64
		want string
		// says is part of the message, and hides is not.
		says, hides string
	}{
		"nothing was heard yet":              {tracking.View{Dial: sent, CallLegs: live}, 1, "Sent CommandSent 30s", "has taken", "Completed"},
		"nothing was heard, outcome unknown": {tracking.View{Dial: unknown, CallLegs: live}, 59, "Sent OutcomeUnknown 1s", "not repeated", ""},
		"nothing was heard for a minute":     {tracking.View{Dial: sent, CallLegs: live}, 60, "Failed NoCall 0s", "scope External", ""},
		"nothing was heard, all would be":    {tracking.View{Dial: sent, CallLegs: all}, 60, "Failed NoCall 0s", "did not pick up", "scope"},
		"nothing was heard for a minute, the outcome unknown": {
			tracking.View{Dial: unknown, CallLegs: live}, 60, "Failed OutcomeUnknown 0s", "may have been made all the same", ""},
		"nothing was heard, nor expected":     {tracking.View{Dial: sent, CallLegs: late}, 3600, "Sent CommandSent 30s", "at its end only", ""},
		"nothing was heard in the end":        {tracking.View{Dial: sent, CallLegs: late}, 4*3600 + 120, "Failed NoCall 0s", "4h2m0s", ""},
		"it rings":                            {viewOf(sent, live, leg("a", "c1", 1)), 2, "Sent CommandSent 30s", "ringing", ""},
		"it rings, and was found by matching": {viewOf(unknown, live, leg("a", "c1", 1)), 2, "Sent CommandSent 30s", "ringing", ""},
		"the extension is rung first":         {viewOf(sent, live, leg("a", "c1", 1, source)), 2, "Sent CommandSent 30s", "", ""},
		"the extension has picked up": {
			viewOf(sent, live, leg("a", "c1", 1, source, answered)), 6, "Sent CommandSent 30s", "", ""},
		"the number has answered": {viewOf(sent, live, leg("a", "c1", 1, answered)), 70, "Connected Connected 30s", "is connected", ""},
		"a colleague has answered": {
			viewOf(colleague(sent), all, leg("a", "c1", 1, internal, to("1234*102"), answered), hers),
			30, "Connected Connected 30s", "", ""},
		"only the colleague's leg is seen": {
			viewOf(colleague(sent), all, hers), 30, "Connected Connected 30s", "", ""},
		"it was transferred, and goes on": {
			viewOf(sent, live, leg("a", "c1", 1, completed(v1alpha1.ResultAnswered, 80)), leg("b", "c1", 80, of("1234*102"))),
			90, "Connected Connected 30s", "", ""},
		"it has just ended": {
			viewOf(sent, live, leg("a", "c1", 1, completed(v1alpha1.ResultAnswered, 80))), 81, "Connected Connected 1s", "", ""},
		"it has ended": {
			viewOf(sent, live, leg("a", "c1", 1, completed(v1alpha1.ResultAnswered, 80))), 82, "Finished Finished 0s", "60s of talk", ""},
		"it has ended by a clock that is ahead": {
			viewOf(sent, live, leg("a", "c1", 1, completed(v1alpha1.ResultAnswered, 80))), 70, "Finished Finished 0s", "", ""},
		"nobody answered": {
			viewOf(sent, live, leg("a", "c1", 1, completed(v1alpha1.ResultBusy, 20))), 30, "Finished NotConnected 0s", "Busy", ""},
		"the extension did not pick up": {
			viewOf(sent, live, leg("a", "c1", 1, source, completed(v1alpha1.ResultMissed, 20))), 30, "Finished NotConnected 0s", "Missed", ""},
		"the legs are gone after the call connected": {
			tracking.View{Dial: seen, Connected: true, CallLegs: live}, 500, "Finished Finished 0s", "gone", ""},
		"the legs are gone": {tracking.View{Dial: seen, CallLegs: live}, 500, "Finished NotConnected 0s", "gone", ""},
		"the end is never heard of": {
			viewOf(sent, live, leg("a", "c1", 1, answered)), 4*3600 + 121, "Finished Finished 0s", "callLegs.maxDuration (4h0m0s)", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.view.Now = at(test.now).Time
			got := test.view.Progress()
			if text := fmt.Sprint(got.Phase, " ", got.Reason, " ", got.After); text != test.want {
				t.Errorf("got %s, want %s: %s", text, test.want, got.Message)
			}
			if !strings.Contains(got.Message, test.says) || test.hides != "" && strings.Contains(got.Message, test.hides) {
				t.Errorf("it says: %s", got.Message)
			}
		})
	}
}

func viewOf(d tracking.Dial, settings v1alpha1.CallLegs, legs ...v1alpha1.CallLeg) tracking.View {
	return tracking.View{Dial: d, CallLegs: settings, Legs: legs}
}

func colleague(d tracking.Dial) tracking.Dial {
	d.Number = "102"
	return d
}

func TestDialOfACommand(t *testing.T) {
	command := &v1alpha1.CallCommand{ObjectMeta: metav1.ObjectMeta{UID: "u"}}
	command.Spec.Dial = &v1alpha1.Dial{Extension: "1234*101", Number: "+12025550143"}
	for reason, want := range map[string]bool{
		v1alpha1.ReasonProgressing: false, v1alpha1.ReasonOutcomeUnknown: false, v1alpha1.ReasonCommandSent: true, v1alpha1.ReasonConnected: true,
	} {
		command.Status = v1alpha1.CallCommandStatus{
			Phase: v1alpha1.CommandSent, SentTime: at(0), CallID: "c1", CallBackID: "b1", Legs: []string{"a"},
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason}},
		}
		wanted := dial("u", func(d *tracking.Dial) { d.Confirmed, d.CallID, d.CallBackID, d.Legs = want, "c1", "b1", []string{"a"} })
		if diff := cmp.Diff(wanted, tracking.Of(command)); diff != "" {
			t.Errorf("%s: %s", reason, diff)
		}
	}
}
