package scenario

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// callableCast is the cast of the Callable reference: devices 201 and 202 behind a customer's PBX.
func callableCast() Cast {
	ext := func(number, label string) Extension {
		return Extension{Number: number, ID: number, Type: Phone, Domain: "tenant.example.com", Label: label}
	}
	return Cast{
		Extensions: map[string]Extension{"201": ext("201", "Ann Novak"), "202": ext("202", "Ben Costa"), "203": ext("203", "Cleo Marsh")},
		Values: map[string]string{
			"customer": "442079460123", "other": "442079460177", "did": "442079460900", "client": "170", "account": "Example Ltd",
		},
	}
}

// genericEvent is the body of a notification ("The Generic Event").
type genericEvent struct {
	AccountID     string          `json:"accountId"`
	AccountName   string          `json:"accountName"`
	ParentCallSID *string         `json:"parentCallSid"`
	CallSID       string          `json:"callSid"`
	ChildSID      *string         `json:"childSid"`
	Type          string          `json:"type"`
	Event         string          `json:"event"`
	Status        string          `json:"status"`
	From          string          `json:"from"`
	To            string          `json:"to"`
	Extension     *string         `json:"extension"`
	Meta          json.RawMessage `json:"meta"`
	Timestamp     json.RawMessage `json:"timestamp"`
}

// callable builds one event object. The type of an event in a scenario is event and status, for
// example call/ringing.
func callable(y *symbols, s Scenario, l leg, e event) wire {
	name, state, _ := strings.Cut(e.Type, "/")
	g := genericEvent{
		AccountID: callableAccount(y.cast.Values["client"]), AccountName: y.cast.Values["account"],
		ParentCallSID: new(y.id(l.Call)), CallSID: y.id(l.ID), Type: "voice", Event: name, Status: state,
		From: y.address(l.Caller), To: y.address(l.Called),
		Meta: json.RawMessage(`{"campaign":"spring"}`), Timestamp: json.RawMessage(strconv.FormatInt(y.now.UnixMilli(), 10)),
	}
	if l.Child != "" {
		g.ChildSID, g.Extension = new(y.id(l.Child)), new(y.extension(l.Sender).Number)
	}
	if meta, ok := s.quirks["meta"]; ok {
		g.Meta = json.RawMessage(meta)
	}
	if s.quirks["timestamp"] == "text" {
		g.Timestamp = json.RawMessage(strconv.Quote(string(g.Timestamp)))
	}
	more := maps.Clone(l.Set)
	if more == nil {
		more = map[string]string{}
	}
	maps.Copy(more, e.Set)
	return wire{body: g.encode(y, more, s.quirks["more"]), contentType: "application/json"}
}

// encode writes the object; set replaces members by text (nothing: null), more adds the members of
// a JSON object.
func (g genericEvent) encode(y *symbols, set map[string]string, more string) []byte {
	raw := mustJSON(g)
	if len(set) == 0 && more == "" {
		return raw
	}
	members := map[string]json.RawMessage{}
	mustParse(raw, &members)
	for name, value := range set {
		members[name] = json.RawMessage("null")
		if value != "" {
			members[name] = mustJSON(y.expand(value))
		}
	}
	if more != "" {
		mustParse([]byte(more), &members)
	}
	return mustJSON(members)
}

// mustJSON encodes what this package made itself: it cannot fail unless a scenario file is broken,
// which the tests find.
func mustJSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("scenario: %v", err))
	}
	return raw
}

func mustParse(raw []byte, into any) {
	if err := json.Unmarshal(raw, into); err != nil {
		panic(fmt.Sprintf("scenario: %v", err))
	}
}

// callableAccount is the UUID of an account.
func callableAccount(client string) string {
	n, err := strconv.Atoi(client)
	if err != nil {
		n = 0
	}
	return fmt.Sprintf("0a000000-0000-4000-8000-%012x", n)
}

// address is a party as from and to show it: a number without plus, a URI for a device, else the
// text itself.
func (y *symbols) address(name string) string {
	if x, ok := y.cast.Extensions[name]; ok {
		return x.SIP()
	}
	if number, ok := y.cast.Values[name]; ok {
		return strings.TrimPrefix(number, "+")
	}
	return y.expand(name)
}

func callableLegID(y *symbols, l leg) string {
	if l.Child == "" {
		return y.id(l.ID)
	}
	return y.id(l.ID) + "/" + y.id(l.Child)
}

// callableProfile leaves out the levels that an account does not get.
func callableProfile(name string, e event) event {
	kind, _, _ := strings.Cut(e.Type, "/")
	own := kind == "call" || kind == "record"
	e.hidden = name != "" && !own || name == "level-1" && !strings.HasPrefix(e.Leg, "a")
	return e
}

var (
	callableAnswers = map[string]bool{"call/in-progress": true, "phone/connected": true}
	callableEnds    = map[string]bool{"call/completed": true, "call/failed": true, "phone/disconnected": true}
)

// callableDrop ends the devices first, the A leg last. A leg that was never answered fails.
func callableDrop(s Scenario, happened []event) []event {
	open := unfinished(happened, callableAnswers, callableEnds)
	var devices, outgoing, first []event
	for _, l := range open {
		e := event{Leg: l.name, Type: "call/failed"}
		if l.answered {
			e.Type = "call/completed"
		}
		switch def := s.legs[l.name]; {
		case def.Child != "":
			e.Type = "phone/disconnected"
			devices = append(devices, e)
		case def.ID == def.Call:
			first = append(first, e)
		default:
			outgoing = append(outgoing, e)
		}
	}
	return append(append(devices, outgoing...), first...)
}
