package voipnow

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// phoneCall is a running call ("PhoneCalls Resource"). Members without a value are left out.
type phoneCall struct {
	ID        string          `json:"id"`
	Nonce     string          `json:"nonce,omitempty"`
	Extension string          `json:"extension"`
	OwnerID   string          `json:"ownerId"`
	OwnerName string          `json:"ownerName"`
	Published string          `json:"published"`
	Answered  string          `json:"answered,omitempty"`
	Views     []phoneCallView `json:"phoneCallView"`
	Links     links           `json:"links"`
}

// phoneCallView is one party's view of a call ("PhoneCallView fields").
type phoneCallView struct {
	ID          string   `json:"id"`
	Extension   string   `json:"extension"`
	Source      []string `json:"source"`
	Destination []string `json:"destination"`
	CallerID    string   `json:"callerId,omitempty"`
	Flow        int      `json:"flow"`   // 2 local, 4 outgoing public, 8 incoming public
	Status      int      `json:"status"` // 2 trying, 3 ringing, 4 other side ringing, 5 on call
	Ringing     string   `json:"ringing,omitempty"`
	Answered    string   `json:"answered,omitempty"`
	Disposition int      `json:"disposition"`
}

// callBody is a request for a call between two parties.
type callBody struct {
	Extension string `json:"extension"`
	Nonce     string `json:"nonce"`
	Views     []struct {
		Source      []string `json:"source"`
		Destination []string `json:"destination"`
		CallerID    string   `json:"callerId"`
	} `json:"phoneCallView"`
}

// callID is the id of a call for UnifiedAPI; the events of calls that the API made carry it as
// CallAPIID.
func callID(c *exchange.Call) string { return scenario.VoipNowCallAPIID(c.Seed(), "A1") }

// createCall rings the source and then calls the destination.
func (a *API) createCall(r *request) (int, any, error) {
	if err := r.checkUser(); err != nil {
		return 0, nil, err
	}
	var body callBody
	if err := readJSON(r, &body); err != nil {
		return 0, nil, err
	}
	e, err := a.billed(r, body)
	if err != nil {
		return 0, nil, err
	}
	order, err := a.order(e, body.Views[0].Destination[0])
	if err != nil {
		return 0, nil, err
	}
	call := a.x.Place(r.Context(), order)
	a.mu.Lock()
	a.nonces[callID(call)] = body.Nonce
	a.mu.Unlock()
	answer := a.wireCall(r, e, call)
	answer.Views = []phoneCallView{{
		ID: "00", Extension: e.Name, Source: body.Views[0].Source, Destination: body.Views[0].Destination,
		CallerID: body.Views[0].CallerID, Flow: 4, Status: 2, Disposition: 4,
	}}
	return http.StatusOK, []phoneCall{answer}, nil
}

// billed checks a request for a call and returns the phone that rings first.
func (a *API) billed(r *request, body callBody) (exchange.Extension, error) {
	e, err := a.extensionByNumber(r, body.Extension)
	if err != nil {
		return e, err
	}
	if e.Type != scenario.Phone {
		return e, invalid("extension_invalid", "The extension must be a phone terminal")
	}
	if len(body.Views) == 0 || len(body.Views[0].Source) == 0 || len(body.Views[0].Destination) == 0 {
		return e, invalid("phonecallview_invalid", "The call needs a source and a destination")
	}
	for _, name := range []string{"waitForPickup", "callDuration"} {
		if _, err := bounded(r.URL.Query(), name, 0, 0, 1<<20); err != nil {
			return e, err
		}
	}
	for _, number := range body.Views[0].Source {
		if source, ok := a.x.ExtensionByNumber(r.account.ID, number); ok {
			return source, nil
		}
	}
	return e, nil
}

// order describes the call: to a customer, or to a colleague.
func (a *API) order(source exchange.Extension, destination string) (exchange.Order, error) {
	s := a.Settings()
	name, parts := "V11", map[string]string{"101": source.Number}
	if to, ok := a.x.ExtensionByNumber(source.Account, destination); ok {
		name, parts["102"] = "V11-internal", to.Number
	}
	sc, ok := a.scenarios[cmp.Or(s.SimpleScenario, name)]
	if !ok {
		return exchange.Order{}, invalid("simulator", "The simulator has no scenario %s", s.SimpleScenario)
	}
	sc, err := sc.As(s.Profile)
	if err != nil {
		return exchange.Order{}, err
	}
	cast, err := a.x.Cast(source.Account, sc, parts, map[string]string{"customer": destination})
	return exchange.Order{
		Account: source.Account, Scenario: sc, Seed: rand.Text(), Cast: cast, Speed: s.SimpleSpeed, Delivery: s.Delivery,
	}, err
}

func (a *API) listCalls(r *request) (int, any, error) {
	e, calls, err := a.running(r)
	if err != nil {
		return 0, nil, err
	}
	list := make([]phoneCall, 0, len(calls))
	for _, c := range calls {
		list = append(list, a.wireCall(r, e, c))
	}
	return a.page(r, list)
}

// running returns the calls of an extension that have not ended: all, or the one that the path
// names.
func (a *API) running(r *request) (exchange.Extension, []*exchange.Call, error) {
	e, err := a.extension(r)
	if err != nil {
		return e, nil, err
	}
	wanted := r.PathValue("call")
	var list []*exchange.Call
	for _, c := range a.x.Calls(r.account.ID) {
		if !c.Ended() && (wanted == "" || wanted == callID(c)) && involves(c, e) {
			list = append(list, c)
		}
	}
	if wanted != "" && len(list) == 0 {
		return e, nil, invalid("phonecall_invalid", "The call %s is unknown", wanted)
	}
	return e, list, nil
}

// involves reports whether an extension has an open leg in a call. A call that has just been made
// has none yet.
func involves(c *exchange.Call, e exchange.Extension) bool {
	emitted := c.Emitted()
	return len(emitted) == 0 || slices.ContainsFunc(scenario.Legs(emitted), func(l scenario.Leg) bool {
		return l.Hangup == nil && l.Sender.Number == e.Name
	})
}

func (a *API) wireCall(r *request, e exchange.Extension, c *exchange.Call) phoneCall {
	a.mu.RLock()
	nonce := a.nonces[callID(c)]
	a.mu.RUnlock()
	item := phoneCall{
		ID: callID(c), Nonce: nonce, Extension: e.Name, OwnerID: strconv.Itoa(r.account.ID), OwnerName: r.app.ClientID,
		Published: wireTime(c.Placed()), Views: []phoneCallView{}, Links: links{self(r, "phoneCalls", e.Name, callID(c))},
	}
	for _, l := range scenario.Legs(c.Emitted()) {
		if l.Hangup != nil || l.Sender.Number != e.Name {
			continue
		}
		view := viewOf(l)
		view.ID = fmt.Sprintf("%02d", len(item.Views))
		item.Views = append(item.Views, view)
		item.Answered = cmp.Or(item.Answered, view.Answered)
	}
	return item
}

func viewOf(l scenario.Leg) phoneCallView {
	p := l.Dial.Params
	view := phoneCallView{
		Extension: l.Sender.Number, Source: []string{p.Get("CallerIDNum")}, Destination: []string{p.Get("CalledNumber")},
		CallerID: fmt.Sprintf("%s <%s>", p.Get("CallerIDName"), p.Get("CallerIDNum")), Flow: flowOf(p),
		Status: 3, Ringing: wireTime(l.Dial.At), Disposition: 4,
	}
	if strings.EqualFold(p.Get("CallFlow"), "OUT") {
		view.Status = 4
	}
	if l.Answer != nil {
		view.Status, view.Ringing, view.Answered, view.Disposition = 5, "", wireTime(l.Answer.At), 0
	}
	return view
}

// flowOf is 2 for a local call, 4 for one to the public network and 8 for one from there.
func flowOf(p url.Values) int {
	switch {
	case p.Get("CallerExtension") != "" && p.Get("CalledExtension") != "":
		return 2
	case strings.EqualFold(p.Get("CallFlow"), "OUT"):
		return 4
	default:
		return 8
	}
}

// actions of call control. The simulator acknowledges them; only hanging up changes what happens.
var actions = []string{
	"OnHold", "OffHold", "StartRecording", "StopRecording", "PickUp", "BargeIn", "Monitor", "Park", "UnPark", "Whisper",
	"Transfer", "TransferToVoicemail",
}

func (a *API) controlCall(r *request) (int, any, error) {
	e, calls, err := a.running(r)
	if err != nil {
		return 0, nil, err
	}
	var body struct {
		Action string `json:"action"`
	}
	if err := readJSON(r, &body); err != nil {
		return 0, nil, err
	}
	if !slices.Contains(actions, body.Action) {
		return 0, nil, invalid("action_invalid", "The action must be one of %s", strings.Join(actions, ", "))
	}
	return http.StatusOK, a.wireCall(r, e, calls[0]), nil
}

// hangUp ends one call, or all calls of the extension.
func (a *API) hangUp(r *request) (int, any, error) {
	_, calls, err := a.running(r)
	if err != nil {
		return 0, nil, err
	}
	for _, c := range calls {
		c.Drop()
	}
	return http.StatusNoContent, nil, nil
}

// record is a call detail record. The documents that could be recovered give the query, not the
// members.
type record struct {
	ID          string `json:"id"`
	CallID      string `json:"callId,omitempty"`
	Extension   string `json:"extension"`
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Flow        int    `json:"flow"`
	Disposition int    `json:"disposition"` // 0 answered, 1 busy, 2 failed, 3 no answer, 4 unknown, 5 not allowed
	StartDate   string `json:"startDate"`   // UTC, without an offset, as all times here
	AnswerDate  string `json:"answerDate,omitempty"`
	EndDate     string `json:"endDate"`
	Duration    int    `json:"duration"` // seconds of talk

	start time.Time
}

// cdrTime is the form of times in queries and records.
const cdrTime = "2006-01-02T15:04:05"

// listCDR lists the legs of phones that have ended, oldest first.
func (a *API) listCDR(r *request) (int, any, error) {
	if o := r.PathValue("owner"); o != "" && o != "@me" && o != strconv.Itoa(r.account.ID) {
		return 0, nil, invalid("owner_invalid", "The owner %s is unknown", o)
	}
	wanted, err := cdrQuery(r.URL.Query())
	if err != nil {
		return 0, nil, err
	}
	list := []record{}
	for _, c := range a.x.Calls(r.account.ID) {
		if !c.Ended() {
			continue
		}
		for i, l := range scenario.Legs(c.Emitted()) {
			if l.Hangup == nil || l.Sender.Type != scenario.Phone {
				continue
			}
			if item := a.recordOf(l, fmt.Sprintf("%s-%d", callID(c), i)); wanted(item) {
				list = append(list, item)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b record) int { return a.start.Compare(b.start) })
	return a.page(r, list)
}

func (a *API) recordOf(l scenario.Leg, id string) record {
	p := l.Dial.Params
	item := record{
		ID: id, CallID: l.Dial.CallID, Extension: l.Sender.Number, Source: p.Get("CallerIDNum"), Destination: p.Get("CalledNumber"),
		Flow: flowOf(p), Disposition: disposition(l.Hangup.Params.Get("CallStatus")),
		StartDate: l.Dial.At.UTC().Format(cdrTime), EndDate: l.Hangup.At.UTC().Format(cdrTime), start: l.Dial.At,
	}
	if l.Answer != nil {
		item.AnswerDate = l.Answer.At.UTC().Format(cdrTime)
		item.Duration, item.Disposition = int(l.Hangup.At.Sub(l.Answer.At)/time.Second), 0
	} else if item.Disposition == 0 {
		item.Disposition = 3 // a hangup may say ANSWER because somebody else answered
	}
	if a.Settings().OmitCallID {
		item.CallID = ""
	}
	return item
}

func disposition(status string) int {
	switch status {
	case "ANSWER":
		return 0
	case "BUSY":
		return 1
	case "CONGESTION", "CHANUNAVAIL":
		return 2
	case "NOANSWER", "CANCEL":
		return 3
	default:
		return 4
	}
}

// cdrQuery reads the filter of a query.
func cdrQuery(q url.Values) (func(record) bool, error) {
	from, err := cdrDate(q, "startDate", "saveStartDate", "cdr_start_date_invalid")
	if err != nil {
		return nil, err
	}
	to, err := cdrDate(q, "endDate", "saveEndDate", "cdr_end_date_invalid")
	if err != nil {
		return nil, err
	}
	flow, known := q.Get("flow"), q.Get("disposition")
	if flow != "" && !slices.Contains([]string{"2", "4", "8"}, flow) {
		return nil, invalid("cdr_flow_invalid", "flow must be 2, 4 or 8")
	}
	if known != "" && (len(known) != 1 || known < "0" || known > "5") {
		return nil, invalid("cdr_disposition_invalid", "disposition must be a number from 0 to 5")
	}
	return func(r record) bool {
		return strings.Contains(r.Source, q.Get("source")) && strings.Contains(r.Destination, q.Get("destination")) &&
			(from.IsZero() || !r.start.Before(from)) && (to.IsZero() || !r.start.After(to)) &&
			(flow == "" || flow == strconv.Itoa(r.Flow)) && (known == "" || known == strconv.Itoa(r.Disposition))
	}, nil
}

func cdrDate(q url.Values, name, alternative, code string) (time.Time, error) {
	value := cmp.Or(q.Get(name), q.Get(alternative))
	if value == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(cdrTime, value)
	if err != nil {
		return t, invalid(code, "%s must be a time such as %s", name, cdrTime)
	}
	return t, nil
}
