package ringme

import (
	"net/http"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// historyCall is a finished call ("Call History"): upper-case id, times in UTC, durations in seconds.
type historyCall struct {
	CallUUID     string  `json:"call_uuid"`
	Flow         string  `json:"flow"`
	Result       string  `json:"result"`
	Duration     int     `json:"duration"`
	InitTime     string  `json:"init_time_gmt"`
	StartTime    string  `json:"start_time_gmt"`
	BridgedTime  *string `json:"bridged_time_gmt"`
	HangupTime   string  `json:"hangup_time_gmt"`
	FromUsername string  `json:"from_username"`
	ToUsername   string  `json:"to_username"`
	DIDNumber    *string `json:"did_number"`
	CDR          []cdr   `json:"cdr"`
}

// cdr is one leg of a finished call.
type cdr struct {
	Flow          string  `json:"flow"`
	Result        string  `json:"result"`
	Duration      int     `json:"duration"`
	ExtensionID   string  `json:"extension_id"`
	ExtensionName string  `json:"extension_name"`
	ExtensionType string  `json:"extension_type"`
	InitTime      string  `json:"init_time_gmt"`
	HangupTime    string  `json:"hangup_time_gmt"`
	FromUsername  string  `json:"from_username"`
	ToUsername    string  `json:"to_username"`
	HangupCause   string  `json:"hangup_cause"`
	RecordUUID    *string `json:"record_uuid"`
}

type historyPage struct {
	Page    int           `json:"page"`
	PerPage int           `json:"per_page"`
	Order   string        `json:"order"`
	Calls   []historyCall `json:"call_history"`
}

// alone lets one history request per account run at a time, as the PBX does, for as long as the settings say.
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
		if h, start, ok := a.historyOf(c); ok && !start.Before(from) && !start.After(to) {
			calls = append(calls, h)
		}
	}
	page, err := paged(calls, q, a.Settings().PageSize)
	return http.StatusOK, historyPage{Page: page.Number, PerPage: page.Size, Order: "asc", Calls: page.Items}, err
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
	c, ok := a.x.Call(r.PathValue("call"))
	if !ok || c.Account != r.account.ID {
		return 0, nil, errNotFound
	}
	h, _, ok := a.historyOf(c)
	if !ok {
		return 0, nil, errNotFound
	}
	return http.StatusOK, h, nil
}

// historyOf builds the record of a call whose legs have all hung up.
func (a *API) historyOf(c *exchange.Call) (historyCall, time.Time, bool) {
	select {
	case <-c.Done():
	default:
		return historyCall{}, time.Time{}, false
	}
	emitted := c.Emitted()
	legs := scenario.Legs(emitted)
	if len(legs) == 0 {
		return historyCall{}, time.Time{}, false
	}
	first, last := legs[0].Dial, emitted[len(emitted)-1]
	h := historyCall{
		CallUUID: strings.ToUpper(c.ID), Flow: strings.ToLower(first.Params.Get("CallFlow")), Result: "not answered",
		Duration: wholeSeconds(last.At.Sub(first.At)), InitTime: gmt(first.At), StartTime: gmt(first.At), HangupTime: gmt(last.At),
		FromUsername: first.Params.Get("CallerIDNum"), ToUsername: first.Params.Get("CalledNumber"),
		DIDNumber: optional(first.Params.Get("CalledDID")),
	}
	for _, l := range legs {
		h.CDR = append(h.CDR, a.leg(l))
		if l.Answer != nil && l.Sender.Type == scenario.Phone && h.BridgedTime == nil {
			h.Result, h.BridgedTime = "answered", optional(gmt(l.Answer.At))
		}
	}
	return h, first.At, true
}

func (a *API) leg(l scenario.Leg) cdr {
	p := l.Dial.Params
	item := cdr{
		Flow: strings.ToLower(p.Get("CallFlow")), Result: "not answered",
		ExtensionID: l.Sender.ID, ExtensionName: l.Sender.Number, ExtensionType: wireType(l.Sender.Type),
		InitTime: gmt(l.Dial.At), FromUsername: p.Get("CallerIDNum"), ToUsername: p.Get("CalledNumber"),
		HangupCause: "NORMAL_CLEARING",
	}
	if l.Hangup == nil {
		return item
	}
	item.HangupTime = gmt(l.Hangup.At)
	if l.Answer != nil {
		item.Result, item.Duration = "answered", wholeSeconds(l.Hangup.At.Sub(l.Answer.At))
	}
	if due := l.Hangup.At.Add(l.Hangup.RecordingDelay); !a.now().Before(due) {
		item.RecordUUID = optional(l.Hangup.RecordingID)
	}
	return item
}

func wholeSeconds(d time.Duration) int { return int(d / time.Second) }
