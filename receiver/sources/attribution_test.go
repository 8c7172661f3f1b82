package sources_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

var start = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

// staffed is a table whose mappings are the cast of a PBX's scenarios; the phones have users.
func staffed(t *testing.T, pbx, more string) *sources.Table {
	t.Helper()
	text := &strings.Builder{}
	fmt.Fprintf(text, "pbx: %s\nscope: All\n%ssources:\n- {token: %s}\n", pbx, more, fileToken)
	n := 0
	for _, x := range scenario.CastOf(strings.ToLower(pbx)).Extensions {
		n++
		source := fmt.Sprintf("{type: %s, number: %q, id: %q", x.Type, x.Number, x.ID)
		if x.Type == scenario.Phone {
			source += fmt.Sprintf(", user: %q", "user-"+x.Number)
		}
		fmt.Fprintf(text, "- {token: %s, source: %s}}\n", strings.Repeat(string(rune('a'+n)), len(fileToken)), source)
	}
	table := &sources.Table{}
	if err := table.LoadFile(write(t, text.String())); err != nil {
		t.Fatal(err)
	}
	return table
}

func sourceOf(x scenario.Extension) callevent.Source {
	source := callevent.Source{Type: callevent.SourceType(x.Type), Number: x.Number, ID: x.ID}
	if x.Type == scenario.Phone {
		source.User = "user-" + x.Number
	}
	return source
}

func decode(t *testing.T, table *sources.Table, n scenario.Notification, source callevent.Source, after time.Duration) []callevent.Event {
	t.Helper()
	wire := n.Request("POST")
	events, err := table.Decode(callevent.Request{
		ReceivedAt: n.At.Add(after), Source: source, Method: wire.Method, Path: wire.Path, Query: wire.Query, ContentType: wire.ContentType, Body: wire.Body,
	})
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// legs are what comes of some events, with all grace periods over.
func legs(events []callevent.Event) []correlation.Leg {
	calls := map[string]*correlation.Call{}
	for _, event := range events {
		if calls[event.CallID] == nil {
			calls[event.CallID] = &correlation.Call{}
		}
		calls[event.CallID].Add(event)
	}
	var all []correlation.Leg
	rules := correlation.Rules{Scope: correlation.ScopeAll}
	for _, call := range calls {
		for tick := call.Outcome(rules).Tick; tick != nil; tick = call.Outcome(rules).Tick {
			call.Add(tick.Event())
		}
		all = append(all, call.Outcome(rules).Legs...)
	}
	slices.SortFunc(all, correlation.Compare)
	return all
}

// A phone whose events come by its own URL, by that of the account, or by both, in any order, has
// the same legs.
func TestAccountWideCopiesAreTheSameEvents(t *testing.T) {
	t.Parallel()
	all, err := scenario.All("ringme")
	if err != nil {
		t.Fatal(err)
	}
	table := staffed(t, "RingMe", "")
	random := rand.New(rand.NewPCG(1, 2))
	for _, s := range all {
		var own, account, both []callevent.Event
		for _, n := range s.Play("seed", start) {
			byURL := decode(t, table, n, sourceOf(n.Sender), time.Second)
			own = append(own, byURL...)
			if n.Sender.Type != scenario.Phone { // an account's registration is for its phones
				account, both = append(account, byURL...), append(both, byURL...)
				continue
			}
			late := time.Duration(random.IntN(3)) * time.Second // before the other copy, with it, or after it
			if !n.Params.Has("EventTime") {
				late = time.Second // the time of receipt is all there is
			}
			copied := decode(t, table, n, callevent.Source{}, late)
			if copied[0].CallID != "" && copied[0].ID != byURL[0].ID {
				t.Errorf("%s: %s and %s are one event", s.Name, byURL[0].ID, copied[0].ID)
			}
			account, both = append(account, copied...), append(both, append(copied, byURL...)...)
		}
		want := legs(own)
		for n, events := range [][]callevent.Event{account, both, both, both} {
			if n > 1 {
				random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			}
			if diff := gocmp.Diff(want, legs(events)); diff != "" {
				t.Errorf("%s: by the URLs of the extensions, and otherwise:\n%s", s.Name, diff)
			}
		}
	}
}

// An account's one URL does not tell whose an event is; the mappings do, and change nothing else.
func TestLegsOfAccountsHaveTheirUsers(t *testing.T) {
	t.Parallel()
	for pbx, settings := range map[string]string{
		"Callable": `callable: {ownNumbers: ["+4420794609*"], ownDomains: [tenant.example.com]}` + "\n", "LinuxBox": "",
	} {
		all, err := scenario.All(strings.ToLower(pbx))
		if err != nil {
			t.Fatal(err)
		}
		table, nobody := staffed(t, pbx, settings), &sources.Table{}
		if err := nobody.LoadFile(write(t, "pbx: "+pbx+"\n"+settings+"sources: []\n")); err != nil {
			t.Fatal(err)
		}
		attributed := 0
		for _, s := range all {
			var with, without []callevent.Event
			for _, n := range s.Play("seed", start) {
				with = append(with, decode(t, table, n, callevent.Source{}, 0)...)
				without = append(without, decode(t, nobody, n, callevent.Source{}, 0)...)
			}
			got := legs(with)
			for i := range got {
				if got[i].User != "" && got[i].User != "user-"+got[i].Extension {
					t.Errorf("%s %s: user %s at %s", pbx, s.Name, got[i].User, got[i].Extension)
				}
				if got[i].User == "" && got[i].Logged && got[i].Result == correlation.Answered && got[i].Extension != "" {
					t.Errorf("%s %s: a talk at %s without a user", pbx, s.Name, got[i].Extension)
				}
				if got[i].User != "" {
					attributed++
				}
				got[i].User = ""
			}
			if diff := gocmp.Diff(legs(without), got); diff != "" {
				t.Errorf("%s %s: the mappings change more than users:\n%s", pbx, s.Name, diff)
			}
		}
		if attributed < len(all) {
			t.Errorf("%s: %d legs of %d scenarios have a user", pbx, attributed, len(all))
		}
	}
}

func TestAttribution(t *testing.T) {
	t.Parallel()
	table := staffed(t, "RingMe", "")
	const body = "EventType=answer&CallID=c1&SubCallID=%s&CallFlow=%s&CallStatus=ANSWER&CallerIDNum=%%2B12025550143&EventTime=1767348000000000"
	ann := sourceOf(scenario.DefaultCast().Extensions["101"])
	for name, c := range map[string]struct {
		leg, flow, more string
		source, want    callevent.Source
	}{
		"called":         {"5101-l", "in", "&CalledExtension=1234*101@sip.example.com&CalledExtensionID=5101", callevent.Source{}, ann},
		"calling":        {"5101-l", "out", "&CallerExtension=1234*101@sip.example.com&CallerExtensionID=5101", callevent.Source{}, ann},
		"by id alone":    {"5101-l", "in", "", callevent.Source{}, ann},
		"unmapped":       {"5999-l", "in", "&CalledExtension=1234*999&CalledExtensionID=5999", callevent.Source{}, callevent.Source{Number: "1234*999", ID: "5999"}},
		"by its own URL": {"5102-l", "in", "&CalledExtension=1234*102&CalledExtensionID=5102", ann, ann},
	} {
		n := callevent.Request{ReceivedAt: start, Source: c.source, Method: "POST", Body: fmt.Sprintf(body, c.leg, c.flow) + c.more}
		events, err := table.Decode(n)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(c.want, events[0].Source); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestACallThatNobodyTookIsNobodysThoughItNamesTheLineThatRangLast(t *testing.T) {
	events, err := staffed(t, "LinuxBox", "").Decode(callevent.Request{
		ReceivedAt: start, Method: "POST", ContentType: "application/x-www-form-urlencoded",
		Body: "event=endcall&call_id=k1&caller_type=external&caller_num=2025550142&call_answered=f&last_dialed_exten=11&ts=2026-01-02T10:00:00Z",
	})
	if err != nil || len(events) != 1 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	if got := events[0].Source; got.Number != "11" || got.User != "" {
		t.Errorf("the call is shown as one of %q at %q", got.User, got.Number)
	}
}
