package dialects_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/dialects"
)

var received = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

// What public integrations show that no document says, line by line, in every dialect that it
// concerns.

// sent is a notification of a phone whose URL says so.
type sent struct{ pbx, path, query, body string }

func (s sent) request(method string) callevent.Request {
	r := callevent.Request{ReceivedAt: received, Method: method, Path: s.path, Query: s.query, Body: s.body}
	switch s.pbx {
	case "RingMe":
		r.Source = callevent.Source{Type: callevent.Phone, Number: "1234*101", ID: "5101", User: "ann"}
	case "VoipNow":
		r.Source = callevent.Source{Type: callevent.Phone, Number: "0007*101", User: "ann"}
	}
	return r
}

func (s sent) decode(t *testing.T) []callevent.Event {
	t.Helper()
	speaks, err := dialects.New(s.pbx, dialects.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	events, err := speaks.Decode(s.request("POST"))
	if err != nil || len(events) == 0 {
		t.Fatalf("%s %s%s: %d events, %v", s.pbx, s.query, s.body, len(events), err)
	}
	return events
}

func legs(events []callevent.Event, scope correlation.Scope) []correlation.Leg {
	rules := correlation.DefaultRules()
	rules.Scope = scope
	return correlation.Derive(events, rules)
}

// ringing is a phone that rings with some text in the place of the caller's number.
func ringing(pbx, caller string) sent {
	number := url.QueryEscape(caller)
	switch pbx {
	case "RingMe":
		return sent{pbx, "", "", "EventType=dial-in&CallID=c1&SubCallID=5101-c1&CallFlow=in&CallerIDNum=" + number +
			"&CallerExtension=1234*900@sip.example.com&CallerExtensionID=5900&CalledNumber=1234*101&CalledExtension=1234*101@sip.example.com" +
			"&CalledExtensionID=5101&CalledDID=12025550100"}
	case "VoipNow":
		return sent{pbx, "/dial-in", "", "CallID=c1&CallFlow=IN&CallerIDNum=" + number +
			"&CallerExtension=0007*900&CalledExtension=0007*101&CalledNumber=12025550100&CalledDID=12025550100"}
	case "Callable":
		return sent{pbx, "", "", fmt.Sprintf(`{"parentCallSid":"c1","callSid":"b1","event":"call","status":"ringing","from":%q,"to":"442079460900"}`, caller)}
	default:
		return sent{pbx, "/start_int_dial", "", "call_id=c1&caller_type=external&direction=incoming&line_num=10&dialed_num=2025550100&queue_name=900&caller_num=" + number}
	}
}

func TestWithheldCallers(t *testing.T) {
	t.Parallel()
	for pbx, ours := range map[string]string{"RingMe": "1234*900", "VoipNow": "0007*900", "Callable": "442079460900", "LinuxBox": "900"} {
		for _, shown := range []string{
			"", "anonymous", "Anonymous", "UNKNOWN", "restricted", "Private", "anonymous@anonymous.invalid", "sip:anonymous@anonymous.invalid",
			"Anonymous@ANONYMOUS.INVALID", "201@pbx.invalid", `"Anonymous" <sip:anonymous@anonymous.invalid;transport=udp>`, ours,
		} {
			events := ringing(pbx, shown).decode(t)
			caller := events[0].Caller
			if !caller.Withheld || caller.Number != "" || caller.Local {
				t.Errorf("%s, %q: caller %+v, want a hidden one", pbx, shown, caller)
			}
			got := legs(events, correlation.ScopeExternal)
			if len(got) != 1 || got[0].Direction != correlation.Inbound || got[0].From != "" {
				t.Errorf("%s, %q: %+v, want one inbound leg from nobody", pbx, shown, got)
			}
		}
		const customer = "12025550143"
		if got := legs(ringing(pbx, customer).decode(t), correlation.ScopeExternal); len(got) != 1 || got[0].From != customer {
			t.Errorf("%s: %+v, want one leg from %s", pbx, got, customer)
		}
	}
}

// Every number may have a plus that became a blank, in the query and in the body.
func TestLostPlus(t *testing.T) {
	t.Parallel()
	const number = "+12025550143"
	for _, tc := range []struct {
		pbx, path, rest, parameter string
		of                         func(callevent.Event) string
	}{
		{"RingMe", "", "EventType=dial-in&CallID=c1&CallFlow=in", "CallerIDNum", func(e callevent.Event) string { return e.Caller.Number }},
		{"RingMe", "", "EventType=dial-in&CallID=c1&CallFlow=in", "CallerNum", func(e callevent.Event) string { return e.Caller.Number }},
		{"RingMe", "", "EventType=dial-in&CallID=c1&CallFlow=in&CallerIDNum=1", "CallerIDName", func(e callevent.Event) string { return e.Caller.Name }},
		{"RingMe", "", "EventType=dial-out&CallID=c1", "CalledNumber", func(e callevent.Event) string { return e.Called.Number }},
		{"RingMe", "", "EventType=dial-in&CallID=c1", "CalledDID", func(e callevent.Event) string { return e.DID }},
		{"RingMe", "", "EventType=dial-in&CallID=c1&CallerIDNum=1234*101", "RemoteNumber", func(e callevent.Event) string { return e.Remote }},
		{"RingMe", "", "agent_status=available&agent_id=7&agent_type=remote", "agent_number", func(e callevent.Event) string { return e.Called.Number }},
		{"VoipNow", "/dial-in", "CallID=c1", "CallerIDNum", func(e callevent.Event) string { return e.Caller.Number }},
		{"VoipNow", "/dial-in", "CallID=c1", "CalledDID", func(e callevent.Event) string { return e.DID }},
		{"VoipNow", "/dial-in", "CallID=c1", "CalledNumber", func(e callevent.Event) string { return e.DID }},
		{"VoipNow", "/dial-out", "CallID=c1&CallerExtension=0007*101", "CalledNumber", func(e callevent.Event) string { return e.Called.Number }},
		{"LinuxBox", "", "event=dial&call_id=c1&caller_type=external&called_num=2025550100", "caller_num", func(e callevent.Event) string { return e.Caller.Number }},
		{"LinuxBox", "", "event=dial&call_id=c1&caller_type=internal&caller_num=10", "called_num", func(e callevent.Event) string { return e.Called.Number }},
		{"LinuxBox", "/start_call", "call_id=c1&caller_num=2025550143", "target_num", func(e callevent.Event) string { return e.DID }},
		{"LinuxBox", "/start_ext_dial", "call_id=c1&caller_num=2025550143&caller_type=external", "dialed_num", func(e callevent.Event) string { return e.Called.Number }},
	} {
		lost := tc.rest + "&" + tc.parameter + "=" + number
		for _, s := range []sent{{tc.pbx, tc.path, lost, ""}, {tc.pbx, tc.path, "", lost}} {
			if got := tc.of(s.decode(t)[0]); got != number {
				t.Errorf("%s %s: %q, want %q", tc.pbx, tc.parameter, got, number)
			}
		}
	}
}

// Emergency and service numbers are outside where the PBX says so, as callers and as called.
func TestShortNumbersAreOutside(t *testing.T) {
	t.Parallel()
	for _, short := range []string{"112", "911", "1188", "14112"} {
		for _, tc := range []struct {
			events    []sent
			direction correlation.Direction
		}{
			{[]sent{{"RingMe", "", "", "EventType=dial-out&CallID=c1&SubCallID=5101-c1&CallerIDNum=1234*101&CallerExtension=1234*101@x&CalledNumber=" + short}}, correlation.Outbound},
			{[]sent{{"RingMe", "", "", "EventType=dial-in&CallID=c1&SubCallID=5101-c1&CalledNumber=1234*101&CallerExtension=0000*000@x&CallerExtensionID=1&CallerIDNum=" + short}}, correlation.Inbound},
			{[]sent{{"VoipNow", "/dial-out", "", "CallID=c1&CallerIDNum=0007*101&CallerExtension=0007*101&CalledNumber=" + short}}, correlation.Outbound},
			{[]sent{{"VoipNow", "/dial-in", "", "CallID=c1&CalledExtension=0007*101&CalledDID=12025550100&CallerIDNum=" + short}}, correlation.Inbound},
			{[]sent{ringing("Callable", short)}, correlation.Inbound},
			{[]sent{ringing("LinuxBox", short)}, correlation.Inbound},
			{[]sent{
				{"LinuxBox", "", "event=dial&call_id=c1&caller_type=internal&caller_num=10&called_num=" + short, ""},
				{"LinuxBox", "", "event=answer_external&call_id=c1&caller_type=internal&caller_num=10&called_num=" + short, ""},
			}, correlation.Outbound},
			{[]sent{
				{"LinuxBox", "/start_call", "call_id=c1&caller_num=10&target_num=" + short, ""},
				{"LinuxBox", "/answered_external", "call_id=c1&line_num=10&target_num=" + short, ""},
			}, correlation.Outbound},
			{[]sent{
				{"LinuxBox", "/start_call", "call_id=c1&caller_type=internal&caller_num=10&dialed_num=" + short, ""},
				{"LinuxBox", "/start_int_dial", "call_id=c1&caller_num=10&direction=outgoing&line_num=10&dialed_num=" + short, ""},
			}, correlation.Outbound},
		} {
			var events []callevent.Event
			for _, s := range tc.events {
				events = append(events, s.decode(t)...)
			}
			got := legs(events, correlation.ScopeExternal)
			if len(got) != 1 || got[0].Direction != tc.direction || got[0].From != short && got[0].To != short {
				t.Errorf("%s, %v: %+v, want one leg %s", short, tc.events, got, tc.direction)
			}
		}
	}
}

func TestInternalCallsThatShowPublicNumbers(t *testing.T) {
	t.Parallel()
	for _, s := range []sent{
		{"LinuxBox", "/start_int_dial", "call_id=c1&caller_type=internal&caller_num=2025550123&caller_exten=10&dialed_exten=11&line_num=11&direction=internal", ""},
		{"LinuxBox", "/answered_internal", "call_id=c1&caller_num=2025550123&caller_exten=10&dialed_exten=11&line_num=11&direction=internal", ""},
		{"LinuxBox", "", "event=answer_internal&call_id=c1&caller_type=internal&caller_num=2025550123&exten_num=11", ""},
		{"RingMe", "", "EventType=dial-out&CallID=c1&SubCallID=5101-c1&CallerIDNum=%2B12025550100&CallerExtension=1234*101@x&CallerExtensionID=5101" +
			"&CalledNumber=1234*102&CalledExtension=1234*102@x&CalledExtensionID=5102", ""},
		{"VoipNow", "/dial-out", "CallID=c1&CallerIDNum=12025550100&CallerExtension=0007*101&CalledExtension=0007*102&CalledNumber=0007*102", ""},
		{"VoipNow", "/dial-in", "CallID=c1&CallerIDNum=2001&CallerExtension=2007102001&CalledExtension=2007102002&CalledNumber=2002", ""},
		{"VoipNow", "/dial-in", "CallID=c1&CallerIDNum=2007102001&CallerExtension=2007102001&CalledExtension=2007102002&CalledNumber=2007102002", ""},
		{"VoipNow", "/dial-out", "CallID=c1&CallerIDNum=2001&CallerExtension=2007102001&CalledExtension=2007102002&CalledNumber=2002", ""},
	} {
		events := s.decode(t)
		if got := legs(events, correlation.ScopeExternal); len(got) != 0 {
			t.Errorf("%+v: %+v, want no leg in scope External", s, got)
		}
		if got := legs(events, correlation.ScopeAll); len(got) != 1 || got[0].Direction != correlation.Internal {
			t.Errorf("%+v: %+v, want one internal leg", s, got)
		}
	}
	begins := sent{"LinuxBox", "/start_call", "call_id=c1&caller_type=internal&caller_num=2025550123&dialed_num=2025550111", ""}.decode(t)
	ends := sent{"LinuxBox", "/call_end", "call_id=c1", ""}.decode(t)
	call := correlation.Call{}
	for _, e := range append(begins, ends...) {
		call.Add(e)
	}
	if o := call.Outcome(correlation.DefaultRules()); len(o.Legs) != 0 || o.Tick != nil {
		t.Errorf("an internal call that nobody took: %+v, want no missed call", o)
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		sent sent
		want map[string]string
	}{
		{sent{"RingMe", "", "", "EventType=dial-in&CallID=c1&SubCallID=l1&CallerIDNum=1&bundle_info=77;Ann;c1&transfer_reason=bl_xfer&remote_call_sign=rn;&Tag=vip&hook=https://x.example.com/"},
			map[string]string{"bundle_info": "77;Ann;c1", "transfer_reason": "bl_xfer", "remote_call_sign": "rn;", "Tag": "vip"}},
		{sent{"VoipNow", "/dial-in", "", "CallID=c1&CallerIDNum=12025550143&Tag=newsletter&access_token=x"}, map[string]string{"Tag": "newsletter"}},
		{sent{"Callable", "", "", `{"accountId":"a","parentCallSid":"p1","callSid":"b1","event":"call","status":"ringing","meta":{"campaign":"spring","api-key":"x"},"region":"eu"}`},
			map[string]string{"tag.campaign": "spring", "region": "eu"}},
		{sent{"LinuxBox", "/start_int_dial", "call_id=c1&line_num=10&caller_num=2025550143&caller_type=external&queue_name=support&vip=yes", ""},
			map[string]string{"queue_name": "support", "vip": "yes"}},
	} {
		got := legs(tc.sent.decode(t), correlation.ScopeAll)
		if len(got) != 1 {
			t.Fatalf("%+v: %d legs", tc.sent, len(got))
		}
		if diff := cmp.Diff(tc.want, got[0].Attributes); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.sent.pbx, diff)
		}
	}
}

// One URL for all types of VoipNow's events: the status tells most of them, and what it does not
// tell is refused.
func TestVoipNowWithOneURL(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]callevent.Type{
		"CallStatus=CALLING&CallFlow=in": callevent.DialIn, "CallStatus=calling&CallFlow=OUT": callevent.DialOut,
		"CallStatus=ANSWER&CallFlow=IN": callevent.Answer, "CallStatus=ANSWER&CallFlow=out": callevent.Answer,
		"CallStatus=HANGUP&CallFlow=in": callevent.Hangup, "CallStatus=BUSY": callevent.Hangup, "CallStatus=NOANSWER&CallFlow=in": callevent.Hangup,
		"CallStatus=CANCEL&CallFlow=in": callevent.Hangup, "CallStatus=UNKNOWN&CallFlow=in": callevent.Hangup,
	} {
		if got := (sent{"VoipNow", "", "CallID=c1", body}).decode(t)[0].Type; got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	speaks, err := dialects.New("VoipNow", dialects.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"", "CallFlow=in", "CallStatus=ANSWER", "CallStatus=CALLING&CallFlow=sideways", "CallStatus=PARKED&CallFlow=in"} {
		_, err := speaks.Decode(sent{"VoipNow", "", "CallID=c1", body}.request("POST"))
		if err == nil || !strings.Contains(err.Error(), "/dial-in") {
			t.Errorf("%q: %v, want an error that says what the URL must end in", body, err)
		}
	}
}

func TestRingMeForms(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, body string
		got        func(callevent.Event) any
		want       any
	}{
		{"another domain", "CalledNumber=1234*101@corp.example.com&CalledExtension=1234*101@corp.example.com",
			func(e callevent.Event) any { return []any{e.Called.Number, e.Called.Extension, e.Called.Local} }, []any{"1234*101", "1234*101", true}},
		{"a short number with a domain", "CalledNumber=101@corp.example.com&CalledExtension=1234*101@corp.example.com",
			func(e callevent.Event) any { return []any{e.Called.Number, e.Called.Local} }, []any{"101", true}},
		{"a prefix of five digits", "CallerIDNum=12345*101&CallerExtension=12345*101@sip.example.com",
			func(e callevent.Event) any { return []any{e.Caller.Extension, e.Caller.Local} }, []any{"12345*101", true}},
		{"a direct call from outside", "CallerIDNum=%2B12025550143&CallerExtension=0000*000@sip.example.com&CallerExtensionID=17",
			func(e callevent.Event) any { return []any{e.Caller.Number, e.Caller.Extension, e.Caller.ExtensionID} }, []any{"+12025550143", "", ""}},
		{"a recording", "RecID=5101-0a1b2c", func(e callevent.Event) any { return e.RecordingID }, "5101-0a1b2c"},
		{"talk and whole call", "Duration=66000000&BridgedDuration=60000000", func(e callevent.Event) any { return *e.Talk }, time.Minute},
		{"talk alone", "Duration=60000000", func(e callevent.Event) any { return *e.Talk }, time.Minute},
		{"a number without plus", "CallerIDNum=12025550143", func(e callevent.Event) any { return e.Caller.Number }, "12025550143"},
	} {
		got := sent{"RingMe", "", "EventType=dial-in&SubCallID=5101-c1&CallFlow=in&CallID=" + strings.Repeat("0a", 40), tc.body}.decode(t)[0]
		if diff := cmp.Diff(tc.want, tc.got(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
		if len(got.CallID) != 80 {
			t.Errorf("%s: call id %q", tc.name, got.CallID)
		}
	}
	if got := (sent{"RingMe", "", "EventType=voicemail&CallID=c1&Text=hello", ""}).decode(t)[0]; got.Type != callevent.Message {
		t.Errorf("a voice message is %s", got.Type)
	}
}

// Text in another encoding costs no call.
func TestCharsets(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ contentType, body, want string }{
		{"application/x-www-form-urlencoded; charset=windows-1251", "CallerIDName=%C0%ED%ED%E0", "\u0410\u043d\u043d\u0430"},
		{"application/x-www-form-urlencoded; charset=ISO-8859-1", "CallerIDName=Ren\xe9", "Ren\u00e9"},
		{"application/x-www-form-urlencoded", "CallerIDName=Ren\xe9", "Ren\uFFFD"},
	} {
		for pbx, path := range map[string]string{"RingMe": "", "VoipNow": "/dial-in"} {
			speaks, err := dialects.New(pbx, dialects.Settings{})
			if err != nil {
				t.Fatal(err)
			}
			events, err := speaks.Decode(callevent.Request{
				ReceivedAt: received, Path: path, Query: "EventType=dial-in&CallID=c1", ContentType: tc.contentType, Body: tc.body,
			})
			if err != nil || events[0].Caller.Name != tc.want {
				t.Errorf("%s, %s: %+v, %v", pbx, tc.contentType, events, err)
			}
		}
	}
	speaks, err := dialects.New("Callable", dialects.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	events, err := speaks.Decode(callevent.Request{
		ReceivedAt: received, ContentType: "application/json; charset=iso-8859-1",
		Body: "{\"parentCallSid\":\"p1\",\"event\":\"call\",\"status\":\"ringing\",\"meta\":{\"name\":\"Ren\xe9\"}}",
	})
	if err != nil || events[0].Attributes["tag.name"] != "Ren\u00e9" {
		t.Errorf("Callable: %+v, %v", events, err)
	}
}
