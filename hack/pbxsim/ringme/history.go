package ringme

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// historyCall is a finished call ("Call History"): upper-case id, times in UTC, durations in
// seconds.
type historyCall struct {
	CallUUID string `json:"call_uuid"`
	historyLeg
	CDR []cdr `json:"cdr"`

	start time.Time
}

// historyLeg is what a call has in common with its legs.
type historyLeg struct {
	Flow            string  `json:"flow"`
	Result          string  `json:"result"`
	Duration        int     `json:"duration"`
	InitTime        string  `json:"init_time_gmt"`
	StartTime       string  `json:"start_time_gmt"`
	BridgedTime     *string `json:"bridged_time_gmt"`
	HangupTime      string  `json:"hangup_time_gmt"`
	BridgedDuration *int    `json:"bridged_duration"`
	FromUsername    string  `json:"from_username"`
	FromScreenName  *string `json:"from_screen_name"`
	ToUsername      string  `json:"to_username"`
	DIDNumber       *string `json:"did_number"`
	ExtensionID     string  `json:"extension_id"`
	ExtensionName   string  `json:"extension_name"`
	ExtensionType   string  `json:"extension_type"`
	HangupCause     string  `json:"hangup_cause"`
	Disposition     *string `json:"hangup_disposition"`
}

// cdr is one leg of a finished call.
type cdr struct {
	historyLeg
	Application *string `json:"application"`
	RecordUUID  *string `json:"record_uuid"`
}

type historyPage struct {
	Page    int           `json:"page"`
	PerPage int           `json:"per_page"`
	Order   string        `json:"order"`
	Calls   []historyCall `json:"call_history"`
}

// alone lets one history request per account run at a time, as the PBX does, for as long as the
// settings say.
func (a *API) alone(r *request) (done func(), err error) {
	if _, busy := a.history.LoadOrStore(r.account.ID, struct{}{}); busy {
		return nil, apiError{
			code: http.StatusTooManyRequests, Message: "Stats request already exists, concurrent request not allowed",
		}
	}
	select {
	case <-r.Context().Done():
	case <-time.After(time.Duration(a.Settings().HistoryTime)):
	}
	return func() { a.history.Delete(r.account.ID) }, nil
}

func (a *API) listHistory(r *request) (int, any, error) {
	if err := a.client(r); err != nil {
		return 0, nil, err
	}
	q := r.URL.Query()
	from, err1 := time.Parse(time.DateTime, q.Get("start_datetime"))
	to, err2 := time.Parse(time.DateTime, q.Get("end_datetime"))
	if err1 != nil || err2 != nil {
		return 0, nil, badRequest("start_datetime and end_datetime must be YYYY-MM-DD HH:MM:SS")
	}
	done, err := a.alone(r)
	if err != nil {
		return 0, nil, err
	}
	defer done()
	calls := []historyCall{}
	for _, c := range a.x.Calls(r.account.ID) {
		for _, h := range a.historyOf(c) {
			if !h.start.Before(from) && !h.start.After(to) {
				calls = append(calls, h)
			}
		}
	}
	order := cmp.Or(q.Get("order"), "asc")
	slices.SortStableFunc(calls, func(a, b historyCall) int { return a.start.Compare(b.start) })
	if order == "desc" {
		slices.Reverse(calls)
	}
	page, err := paged(calls, q, a.Settings().PageSize)
	return http.StatusOK, historyPage{Page: page.Number, PerPage: page.Size, Order: order, Calls: page.Items}, err
}

func (a *API) getHistory(r *request) (int, any, error) {
	if err := a.client(r); err != nil {
		return 0, nil, err
	}
	done, err := a.alone(r)
	if err != nil {
		return 0, nil, err
	}
	defer done()
	id := r.PathValue("call")
	c, ok := a.x.Call(id)
	if !ok || c.Account != r.account.ID {
		return 0, nil, errNotFound
	}
	history := a.historyOf(c)
	at := slices.IndexFunc(history, func(h historyCall) bool { return strings.EqualFold(h.CallUUID, id) })
	if at < 0 {
		return 0, nil, errNotFound
	}
	return http.StatusOK, history[at], nil
}

// historyOf builds the records of a call whose legs have all hung up: one for each of its CallIDs.
func (a *API) historyOf(c *exchange.Call) []historyCall {
	if !c.Ended() {
		return nil
	}
	legs := scenario.Legs(c.Emitted())
	var history []historyCall
	for _, id := range c.CallIDs() {
		of := slices.DeleteFunc(slices.Clone(legs), func(l scenario.Leg) bool { return l.Dial.CallID != id })
		if len(of) > 0 {
			history = append(history, a.historyCall(id, of))
		}
	}
	return history
}

func (a *API) historyCall(id string, legs []scenario.Leg) historyCall {
	h := historyCall{CallUUID: strings.ToUpper(id), CDR: make([]cdr, len(legs)), start: legs[0].Dial.At}
	end := h.start
	for i, l := range legs {
		h.CDR[i] = a.leg(l, legs)
		if l.Hangup != nil && l.Hangup.At.After(end) {
			end = l.Hangup.At
		}
	}
	h.historyLeg = h.CDR[0].historyLeg
	h.HangupTime, h.Duration = gmt(end), wholeSeconds(end.Sub(h.start))
	h.BridgedTime, h.BridgedDuration = nil, nil
	taken := slices.IndexFunc(legs, func(l scenario.Leg) bool { return l.Answer != nil && l.Sender.Type == scenario.Phone })
	if taken >= 0 {
		h.BridgedTime, h.BridgedDuration = h.CDR[taken].BridgedTime, h.CDR[taken].BridgedDuration
		// A call that only a voice menu took is "answered": joined to somebody it is "bridged".
		if h.Result = "answered"; legs[0].Sender.Type != scenario.Phone {
			h.Result = "bridged"
		}
	}
	return h
}

// outcome is how the history puts a CallStatus of a hangup.
type outcome struct{ result, disposition, cause string }

var outcomes = map[string]outcome{
	"ANSWER":      {"answered", "caller_bye", "NORMAL_CLEARING"},
	"CANCEL":      {"not answered", "caller_cancel", "ORIGINATOR_CANCEL"},
	"NOANSWER":    {"not answered", "internal_cancel", "NO_ANSWER"},
	"BUSY":        {"busy", "callee_refuse", "USER_BUSY"},
	"CONGESTION":  {"failed", "", "NORMAL_TEMPORARY_FAILURE"},
	"CHANUNAVAIL": {"failed", "", "USER_NOT_REGISTERED"},
}

// elsewhere is a phone that stops ringing because another one was picked up.
var elsewhere = outcome{"answered elsewhere", "internal_cancel", "LOSE_RACE"}

func (a *API) leg(l scenario.Leg, legs []scenario.Leg) cdr {
	p := l.Dial.Params
	item := cdr{historyLeg: historyLeg{
		Flow: strings.ToLower(p.Get("CallFlow")), Result: "not answered",
		ExtensionID: l.Sender.ID, ExtensionName: l.Sender.Number, ExtensionType: wireType(l.Sender.Type),
		InitTime: gmt(l.Dial.At), StartTime: gmt(l.Dial.At), FromUsername: p.Get("CallerIDNum"),
		FromScreenName: optional(p.Get("CallerIDName")), ToUsername: p.Get("CalledNumber"), DIDNumber: optional(p.Get("CalledDID")),
	}}
	if p.Get("Transfered") == "yes" { //nolint:misspell // spelt so on the wire
		item.Flow = "transfer"
	}
	switch {
	case l.Sender.Type == scenario.Queue:
		item.Application = optional("callcenter")
	case p.Has("CallBackID"):
		item.Application = optional("callback")
	}
	if l.Hangup != nil {
		a.end(&item, l, outcomeOf(l, legs))
	}
	return item
}

func outcomeOf(l scenario.Leg, legs []scenario.Leg) outcome {
	status := l.Hangup.Params.Get("CallStatus")
	taken := func(other scenario.Leg) bool {
		return other.Answer != nil && other.Sender.Type == scenario.Phone && other.Sender.ID != l.Sender.ID &&
			!other.Answer.At.Before(l.Dial.At) && l.Hangup.At.Sub(other.Answer.At).Abs() < time.Second
	}
	if status == "CANCEL" && l.Sender.Type == scenario.Phone && slices.ContainsFunc(legs, taken) {
		return elsewhere
	}
	return outcomes[status]
}

func (a *API) end(item *cdr, l scenario.Leg, o outcome) {
	item.HangupTime = gmt(l.Hangup.At)
	item.Result, item.Disposition, item.HangupCause = cmp.Or(o.result, "failed"), optional(o.disposition), o.cause
	if l.Answer != nil {
		item.BridgedTime, item.Duration = optional(gmt(l.Answer.At)), wholeSeconds(l.Hangup.At.Sub(l.Answer.At))
		item.BridgedDuration = &item.Duration
	}
	if a.recorded(l) {
		item.RecordUUID = &l.Hangup.RecordingID
	}
}

// recorded reports whether the recording of a leg is registered by now.
func (a *API) recorded(l scenario.Leg) bool {
	return l.Hangup != nil && l.Hangup.RecordingID != "" && !a.now().Before(l.Hangup.At.Add(l.Hangup.RecordingDelay))
}

func wholeSeconds(d time.Duration) int { return int(d / time.Second) }
