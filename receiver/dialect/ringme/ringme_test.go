package ringme_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/ringme"
)

var _ dialect.Dialect = ringme.Dialect{}

var (
	receivedAt = time.Date(2026, 1, 2, 10, 0, 0, 500_000_000, time.UTC)
	eventAt    = time.Date(2026, 1, 2, 10, 0, 0, 123_456_000, time.UTC)
	ann        = callevent.Source{Type: callevent.Phone, Number: "1234*101", ID: "5101", User: "ann"}
)

const form = "application/x-www-form-urlencoded"

func post(body string) callevent.Request {
	return callevent.Request{ReceivedAt: receivedAt, Source: ann, Method: "POST", ContentType: form, Body: body}
}

func decode(t *testing.T, request callevent.Request) callevent.Event {
	t.Helper()
	events, err := ringme.Dialect{}.Decode(request)
	if err != nil {
		t.Fatalf("decode %q: %v", request.Body, err)
	}
	if len(events) != 1 {
		t.Fatalf("%d events from one notification", len(events))
	}
	return events[0]
}

func TestDecodeHangup(t *testing.T) {
	t.Parallel()
	got := decode(t, post("EventType=hangup&EventTime=1767348000123456&CallID=c1&SubCallID=5101-c1&CallAPIID=1000000001-x&CallFlow=in"+
		"&CallStatus=ANSWER&CallerIDNum=%2B12025550143&CallerIDName=J%C3%BCrgen&CalledNumber=1234*101"+
		"&CalledExtension=1234%2A101%40sip.example.com&CalledExtensionID=5101&CalledDID=12025550100&Duration=60000000&RecID=5101-r1"+
		"&CallBackID=b1&Tag=newsletter"))
	want := callevent.Event{
		ID: "Hangup/5101-c1/1767348000123456", Type: callevent.Hangup, CallID: "c1", LegID: "5101-c1",
		Time: eventAt, Received: receivedAt, Source: ann, Flow: callevent.FlowIn, Status: callevent.StatusAnswered, WireStatus: "ANSWER",
		Caller: callevent.Party{Number: "+12025550143", Name: "Jürgen"},
		Called: callevent.Party{Number: "1234*101", Extension: "1234*101", ExtensionID: "5101", Local: true},
		DID:    "12025550100", Talk: new(time.Minute), CallBackID: "b1", ControlID: "1000000001-x", RecordingID: "5101-r1",
		Attributes: map[string]string{"Tag": "newsletter"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

// Each case is a deviation from the documents, or a spelling that they allow, and what must come of
// it.
func TestDecodeTolerates(t *testing.T) {
	t.Parallel()
	const base = "CallID=c1&SubCallID=5101-c1&EventTime=1767348000123456&"
	for _, tc := range []struct {
		name, body string
		got        func(callevent.Event) any
		want       any
	}{
		{"names in another case", "EVENTTYPE=Dial-In&callid=c1&SUBCALLID=l1",
			func(e callevent.Event) any { return []any{e.Type, e.CallID, e.LegID} }, []any{callevent.DialIn, "c1", "l1"}},
		{"enumerations in another case", base + "EventType=ANSWER&CallFlow=IN&CallStatus=answer",
			func(e callevent.Event) any { return []any{e.Type, e.Flow, e.Status} },
			[]any{callevent.Answer, callevent.FlowIn, callevent.StatusAnswered}},
		{"flow of a dial event without CallFlow", base + "EventType=dial-out",
			func(e callevent.Event) any { return e.Flow }, callevent.FlowOut},
		{"the integration guide's names", base + "EventType=dial-in&CallerNum=%2B12025550143&CalledNum=1234*101",
			func(e callevent.Event) any { return []any{e.Caller.Number, e.Called.Number, e.Called.Local} },
			[]any{"+12025550143", "1234*101", true}},
		{"the wire's names win", base + "EventType=dial-in&CallerNum=1&CallerIDNum=2",
			func(e callevent.Event) any { return e.Caller.Number }, "2"},
		{"a raw plus", base + "EventType=dial-in&CallerIDNum=+12025550143",
			func(e callevent.Event) any { return e.Caller.Number }, "+12025550143"},
		{"a blank before a word", base + "EventType=dial-in&CallerIDNum=+anonymous",
			func(e callevent.Event) any { return []any{e.Caller.Number, e.Caller.Withheld} }, []any{"", true}},
		{"a domain in a number", base + "EventType=dial-in&CalledNumber=1234*101@sip.example.com",
			func(e callevent.Event) any { return e.Called.Number }, "1234*101"},
		{"the asterisk is literal", base + "EventType=dial-in&CallerIDNum=1234101",
			func(e callevent.Event) any { return e.Caller.Local }, false},
		{"too long for an extension", base + "EventType=dial-in&CallerIDNum=1234567*101",
			func(e callevent.Event) any { return e.Caller.Local }, false},
		{"short number of an extension", base + "EventType=dial-out&CalledNumber=102&CalledExtension=1234*102@sip.example.com",
			func(e callevent.Event) any { return e.Called.Local }, true},
		{"a queue rings on the customer's behalf", base + "EventType=dial-in&CallerIDNum=%2B12025550143&CallerExtension=1234*900@x&CallerExtensionID=5900",
			func(e callevent.Event) any { return []any{e.Caller.Local, e.Caller.ExtensionID} }, []any{false, "5900"}},
		{"an extension id that is no number", base + "EventType=dial-in&CallerExtensionID=none",
			func(e callevent.Event) any { return []any{e.Caller.ExtensionID, e.Attributes["CallerExtensionID"]} }, []any{"", "none"}},
		{"Transfered", base + "EventType=dial-out&Transfered=Yes", func(e callevent.Event) any { return e.Transferred }, true}, //nolint:misspell // as it is on the wire
		{"Transferred", base + "EventType=dial-out&Transferred=yes", func(e callevent.Event) any { return e.Transferred }, true},
		{"not transferred", base + "EventType=dial-out&Transfered=no", //nolint:misspell // as it is on the wire
			func(e callevent.Event) any { return e.Transferred }, false},
		{"Bridged", base + "EventType=hangup&Bridged=NO", func(e callevent.Event) any { return e.Bridged }, new(false)},
		{"no Bridged", base + "EventType=hangup", func(e callevent.Event) any { return e.Bridged }, (*bool)(nil)},
		{"a Bridged that says nothing", base + "EventType=hangup&Bridged=maybe",
			func(e callevent.Event) any { return []any{e.Bridged, e.Attributes["Bridged"]} }, []any{(*bool)(nil), "maybe"}},
		{"RemoteNumber", base + "EventType=dial-in&CallerIDNum=1234*101&RemoteNumber=%2B12025550143",
			func(e callevent.Event) any { return []any{e.Remote, e.Caller.Number} }, []any{"+12025550143", "1234*101"}},
		{"RemoteNumber that is an extension", base + "EventType=dial-in&CallerIDNum=1234*101&RemoteNumber=1234*103",
			func(e callevent.Event) any { return []any{e.Remote, e.Caller.Number, e.Caller.Local} }, []any{"", "1234*103", true}},
		{"BridgedDuration is the talk time", base + "EventType=hangup&Duration=66000000&BridgedDuration=60000000",
			func(e callevent.Event) any { return e.Talk }, new(time.Minute)},
		{"a Duration of nothing", base + "EventType=hangup&Duration=0", func(e callevent.Event) any { return e.Talk }, new(time.Duration(0))},
		{"a negative Duration", base + "EventType=hangup&Duration=-1",
			func(e callevent.Event) any { return []any{e.Talk, e.Attributes["Duration"]} }, []any{(*time.Duration)(nil), "-1"}},
		{"a Duration beyond all measure", base + "EventType=hangup&Duration=9223372036854775807",
			func(e callevent.Event) any { return e.Talk }, (*time.Duration)(nil)},
		{"no EventTime", "EventType=hangup&CallID=c1&SubCallID=l1&CallStatus=BUSY",
			func(e callevent.Event) any { return []any{e.Time, e.ID} }, []any{receivedAt, "Hangup/l1/busy"}},
		{"an EventTime in seconds", "EventType=hangup&CallID=c1&SubCallID=l1&CallStatus=BUSY&EventTime=1767348000",
			func(e callevent.Event) any { return []any{e.Time, e.Attributes["EventTime"], e.ID} },
			[]any{receivedAt, "1767348000", "Hangup/l1/busy"}},
		{"a clock that is a day late is believed", "EventType=hangup&CallID=c1&EventTime=1767261600000000",
			func(e callevent.Event) any { return e.Time }, time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)},
		{"CHANUNAVAIL", base + "EventType=hangup&CallStatus=CHANUNAVAIL", func(e callevent.Event) any { return e.Status }, callevent.StatusFailed},
		{"a status that no document lists", base + "EventType=hangup&CallStatus=DONTCALL",
			func(e callevent.Event) any { return []any{e.Status, e.WireStatus} }, []any{callevent.StatusUnknown, "DONTCALL"}},
		{"an event that no document lists", base + "EventType=dial-three-way",
			func(e callevent.Event) any { return []any{e.Type, e.CallID, e.Attributes["EventType"]} }, []any{callevent.Other, "c1", "dial-three-way"}},
		{"Call Interactive", base + "EventType=call_interactive&CallStatus=ANSWER", func(e callevent.Event) any { return e.Type }, callevent.Other},
		{"a message", "EventType=message-in&From=1&Text=a%26b",
			func(e callevent.Event) any { return []any{e.Type, e.Attributes["Text"]} }, []any{callevent.Message, "a&b"}},
		{"text that is not UTF-8", base + "EventType=dial-in&CallerIDName=J%FCrgen",
			func(e callevent.Event) any { return e.Caller.Name }, "J\uFFFDrgen"},
		{"a line break at the end", base + "EventType=dial-in\r\n", func(e callevent.Event) any { return e.Type }, callevent.DialIn},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, tc.got(decode(t, post(tc.body)))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeMergesQueryAndBody(t *testing.T) {
	t.Parallel()
	request := post("CallID=body")
	request.Query = "EventType=dial-in&CallID=query&SubCallID=l1"
	if got := decode(t, request); got.CallID != "body" || got.LegID != "l1" {
		t.Errorf("call %q, leg %q: want the body's call and the query's leg", got.CallID, got.LegID)
	}
	get := callevent.Request{ReceivedAt: receivedAt, Source: ann, Method: "GET", Query: "EventType=dial-in&CallID=query"}
	if got := decode(t, get); got.CallID != "query" {
		t.Errorf("call %q of a GET", got.CallID)
	}
}

func TestSenderOfAccountWideEvents(t *testing.T) {
	t.Parallel()
	const both = "&CallerExtension=1234*101@x&CallerExtensionID=5101&CalledExtension=1234*102@x&CalledExtensionID=5102"
	for _, tc := range []struct {
		body string
		want callevent.Source
	}{
		{"EventType=dial-out&SubCallID=5101-c1" + both, callevent.Source{ID: "5101", Number: "1234*101"}},
		{"EventType=dial-in&SubCallID=5102-l2" + both, callevent.Source{ID: "5102", Number: "1234*102"}},
		{"EventType=dial-out&CallerIDNum=1234*101", callevent.Source{Number: "1234*101"}},
		{"EventType=dial-in&SubCallID=5103-l3&CalledNumber=1234*103", callevent.Source{ID: "5103", Number: "1234*103"}},
	} {
		request := post("CallID=c1&" + tc.body)
		request.Source = callevent.Source{}
		if diff := cmp.Diff(tc.want, decode(t, request).Source); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.body, diff)
		}
	}
}

// The vendor names (EventType, SubCallID, EventTime) as the key; what differs in none of them is
// one event, however often it comes.
func TestEventID(t *testing.T) {
	t.Parallel()
	id := func(body string, after time.Duration) string {
		request := post(body)
		request.ReceivedAt = receivedAt.Add(after)
		return decode(t, request).ID
	}
	const hangup = "EventType=hangup&CallID=c1&SubCallID=l1&EventTime=1767348000123456"
	if id(hangup, 0) != id("SubCallID=l1&EventTime=1767348000123456&CallID=c1&EVENTTYPE=HANGUP&RecID=late", time.Second) {
		t.Error("the same event, sent again, has another id")
	}
	for _, other := range []string{
		strings.Replace(hangup, "hangup", "answer", 1), strings.Replace(hangup, "l1", "l2", 1), strings.Replace(hangup, "456", "457", 1),
	} {
		if id(hangup, 0) == id(other, 0) {
			t.Errorf("%s has the id of %s", other, hangup)
		}
	}
	const nameless = "EventType=dial-in&CallID=c1&CalledNumber=1234*101&EventTime=1767348000123456"
	if id(nameless, 0) == id(strings.Replace(nameless, "c1", "c2", 1), 0) {
		t.Error("events of two calls without SubCallID have one id")
	}
}

func TestDecodeAgent(t *testing.T) {
	t.Parallel()
	got := decode(t, post("agent_id=77&agent_status=logged_out&agent_type=local&extension_name=1234*101%40sip.example.com&event_source=api"))
	if got.Type != callevent.Agent || got.Agent != callevent.AgentLoggedOut || got.CallID != "" || !got.Time.Equal(receivedAt) {
		t.Errorf("%+v", got)
	}
	if got.Source != ann || got.Called.Extension != "1234*101" || got.Attributes["event_source"] != "api" || got.Attributes["agent_id"] != "77" {
		t.Errorf("%+v", got)
	}
	if got := decode(t, post("agent_id=77&agent_status=lunch")); got.Type != callevent.Other || got.WireStatus != "lunch" {
		t.Errorf("an unknown state: %+v", got)
	}
	if decode(t, post("agent_id=77&agent_status=available")).Agent != callevent.AgentAvailable {
		t.Error("available is not")
	}
}

func TestDecodePhoneStatus(t *testing.T) {
	t.Parallel()
	const change = "event_type=call-status-change&client_id=12&extension_id=5101&extension_name=1234*101&old_status_id=null&new_status_id=3&change_dt="
	got := decode(t, post(change+"2026-01-02+10%3A01%3A01.25"))
	if want := time.Date(2026, 1, 2, 10, 1, 1, 250_000_000, time.UTC); got.Type != callevent.PhoneStatus || !got.Time.Equal(want) {
		t.Errorf("%s at %v, want PhoneStatus at %v", got.Type, got.Time, want)
	}
	if old, known := got.Attributes["old_status_id"]; known || got.Attributes["new_status_id"] != "3" || got.WireStatus != "3" {
		t.Errorf("old %q, new %q, status %q; want none, 3 and 3", old, got.Attributes["new_status_id"], got.WireStatus)
	}
	if got := decode(t, post(strings.Replace(change, "new_status_id=3", "new_status_id=None", 1))); got.WireStatus != "" {
		t.Errorf("a status that was removed is %q", got.WireStatus)
	}
	if got := decode(t, post(change+"2026-01-02T11:01:01%2B01:00")); !got.Time.Equal(time.Date(2026, 1, 2, 10, 1, 1, 0, time.UTC)) {
		t.Errorf("RFC 3339: %v", got.Time)
	}
	if got := decode(t, post(change+"yesterday")); !got.Time.Equal(receivedAt) || got.Attributes["change_dt"] != "yesterday" {
		t.Errorf("no time: %+v", got)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	json := post(`{"EventType":"dial-in"}`)
	json.ContentType = "application/json; charset=utf-8"
	timeless := post("EventType=dial-in&CallID=c1")
	timeless.ReceivedAt = time.Time{}
	for _, tc := range []struct {
		name    string
		request callevent.Request
		want    []string
	}{
		{"nothing", post(""), []string{"EventType"}},
		{"no discriminator", post("CallID=c1&SubCallID=l1"), []string{"EventType", "event_type", "agent_status"}},
		{"broken encoding of a value", post("EventType=dial-in&CallID=%zz"), []string{"CallID", "%zz", "percent"}},
		{"broken encoding of a name", post("EventType=dial-in&%=1"), []string{"parameter name", "percent"}},
		{"a call's event without its call", post("EventType=hangup&SubCallID=l1"), []string{"CallID", "hangup"}},
		{"an endless id", post("EventType=hangup&CallID=" + strings.Repeat("c", 300)), []string{"CallID", "300", "256"}},
		{"another content type", json, []string{"application/json", form}},
		{"no time at all", timeless, []string{"EventTime"}},
	} {
		_, err := ringme.Dialect{}.Decode(tc.request)
		if err == nil {
			t.Errorf("%s: understood", tc.name)
			continue
		}
		for _, word := range tc.want {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q does not say %q", tc.name, err, word)
			}
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	request := post(url.Values{
		"EventType": {"dial-in"}, "EventTime": {"1767348000123456"}, "CallID": {"0c2e6ce114a5e96f8b27588efdcbcb1b"},
		"SubCallID": {"5101-b668eef0266dd814614124d1898a52a1"}, "CallAPIID": {"1000000001-0c2e6ce1-14a5-e96f-8b27-588efdcbcb1b"},
		"CallFlow": {"in"}, "CallStatus": {"CALLING"}, "CallerIDNum": {"+12025550143"}, "CallerIDName": {"+12025550143"},
		"CalledNumber": {"1234*101"}, "CalledExtension": {"1234*101@sip.example.com"}, "CalledExtensionID": {"5101"},
		"CalledDID": {"12025550100"},
	}.Encode())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (ringme.Dialect{}).Decode(request); err != nil {
			b.Fatal(err)
		}
	}
}
