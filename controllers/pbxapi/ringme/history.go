package ringme

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/rest"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

var _ pbxapi.Historian = (*API)(nil)

// historyPageSize bounds how much the PBX has to collect for one answer.
const historyPageSize = 200

const historyOp = "read the call history"

// ReadHistory reads the finished legs of calls, as many as fit a page. Legs of a call that has not
// ended are left out, and so are those that belong to no extension.
func (a *API) ReadHistory(
	ctx context.Context, query pbxapi.HistoryQuery, yield func(callhistory.Record) error,
) (page pbxapi.HistoryPage, err error) {
	at, err := parsePosition(historyOp, query.Cursor)
	if err != nil {
		return page, err
	}
	calls, err := a.historyPage(ctx, query.From, query.To, at.page)
	if err != nil || len(calls) == 0 || at.repeats(calls[0].Value.id()) {
		return page, err
	}
	for _, call := range calls {
		if problem := call.problem(); problem != "" {
			page.Unusable.Add(problem)
			continue
		}
		for _, record := range call.Value.records(query) {
			if err := yield(record); err != nil {
				return page, err
			}
		}
	}
	page.Next, err = at.after(historyOp, len(calls), calls[0].Value.id())
	return page, err
}

// historyPage asks for whole seconds, because that is all that the PBX takes, and not before the
// last such request was answered: the PBX refuses a second one meanwhile (RingMe: API Request
// Rules).
func (a *API) historyPage(ctx context.Context, from, to time.Time, page int) ([]listedCall, error) {
	select {
	case a.history <- struct{}{}:
		defer func() { <-a.history }()
	case <-ctx.Done():
		return nil, pbxapi.TransportError(historyOp, ctx.Err())
	}
	query := pageQuery(page, historyPageSize)
	query.Set("start_datetime", from.UTC().Truncate(time.Second).Format(time.DateTime))
	query.Set("end_datetime", to.UTC().Add(time.Second-1).Truncate(time.Second).Format(time.DateTime))
	query.Set("order", "asc")
	var answer struct {
		Calls []listedCall `json:"call_history"`
	}
	err := a.client.Do(ctx, rest.Call{
		Op: historyOp, Method: http.MethodGet, Path: a.path("call_history/"), Query: query, Answer: &answer,
	})
	return answer.Calls, err
}

// historyLeg is what a call and its legs, called cdr, have in common (RingMe: Call History).
// Durations are in seconds.
type historyLeg struct {
	Flow            text        `json:"flow"`
	Result          text        `json:"result"`
	Cause           text        `json:"hangup_cause"`
	Disposition     text        `json:"hangup_disposition"`
	InitTime        historyTime `json:"init_time_gmt"`
	StartTime       historyTime `json:"start_time_gmt"`
	BridgedTime     historyTime `json:"bridged_time_gmt"`
	HangupTime      historyTime `json:"hangup_time_gmt"`
	Duration        *float64    `json:"duration"`
	BridgedDuration *float64    `json:"bridged_duration"`
	From            text        `json:"from_username"`
	FromName        text        `json:"from_screen_name"`
	To              text        `json:"to_username"`
	DID             text        `json:"did_number"`
	ExtensionID     text        `json:"extension_id"`
	ExtensionName   text        `json:"extension_name"`
	ExtensionType   text        `json:"extension_type"`
	RecordUUID      text        `json:"record_uuid"`
}

type historyCall struct {
	historyLeg
	UUID text         `json:"call_uuid"`
	Legs []historyLeg `json:"cdr"`
}

// listedCall is a call as the PBX lists it.
type listedCall struct{ pbxapi.Item[historyCall] }

// problem says why a call cannot be used; empty if it can.
func (c listedCall) problem() string {
	switch call := c.Value; {
	case c.Err != nil:
		return fmt.Sprintf("call %s of the answer cannot be read: %v", call.UUID, c.Err)
	case call.UUID == "", call.start().IsZero():
		return "the answer has a call without call_uuid or init_time_gmt"
	default:
		return ""
	}
}

// id is that of the call's events, which have it in lower case.
func (c historyCall) id() string { return strings.ToLower(string(c.UUID)) }

// text is a string, or a number that stands for one; empty for null.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(raw []byte) error {
	var value any
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.UseNumber() // ids are too long for a float64
	if err := decoder.Decode(&value); err != nil {
		return err
	}
	switch value := value.(type) {
	case nil:
		*t = ""
	case string:
		*t = text(strings.TrimSpace(value))
	case json.Number:
		*t = text(value.String())
	default:
		return fmt.Errorf("%s is no text", raw)
	}
	return nil
}

// historyTime is a time in UTC; zero for null. A comma or a dot may come before a fraction of the
// second (RingMe: Current Calls).
type historyTime struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (t *historyTime) UnmarshalJSON(raw []byte) error {
	var written text
	if err := written.UnmarshalJSON(raw); err != nil || written == "" {
		return err
	}
	parsed, err := time.Parse(time.DateTime, strings.Replace(string(written), "T", " ", 1))
	t.Time = parsed
	return err
}

func (l historyLeg) start() time.Time {
	if l.InitTime.IsZero() {
		return l.StartTime.Time
	}
	return l.InitTime.Time
}

// records are the legs of a call in the form that receivers take; none of a call that has not ended
// or began at another time.
func (c historyCall) records(query pbxapi.HistoryQuery) []callhistory.Record {
	start := c.start()
	if c.HangupTime.IsZero() || start.Before(query.From) || !start.Before(query.To) {
		return nil
	}
	bridged, seen := c.bridged(), map[string]int{}
	records := make([]callhistory.Record, 0, len(c.Legs))
	for _, leg := range c.Legs {
		if leg.owner() == "" {
			continue // that of an outside line
		}
		record := c.record(leg, bridged)
		seen[record.ID]++
		if n := seen[record.ID]; n > 1 {
			record.ID += fmt.Sprintf("-%d", n)
		}
		if !record.End.Before(query.EndedFrom) {
			records = append(records, record)
		}
	}
	return records
}

// record has an id made of what does not change when the call is read again and more legs have come
// to it.
func (c historyCall) record(leg historyLeg, bridged *bool) callhistory.Record {
	flow, transferred := leg.direction(c.Flow)
	start, end := leg.start(), leg.HangupTime.Time
	if start.IsZero() {
		start = c.start()
	}
	if end.IsZero() {
		end = c.HangupTime.Time
	}
	r := callhistory.Record{
		ID:        fmt.Sprintf("%s-%s-%s-%d", c.id(), leg.owner(), strings.ToLower(string(flow)), start.UnixMicro()),
		CallID:    c.id(),
		Kind:      leg.kind(),
		Extension: withoutDomain(string(leg.ExtensionName)), ExtensionID: string(leg.ExtensionID),
		Flow: flow, Transferred: transferred,
		From: c.caller(leg, flow), FromName: string(leg.FromName), To: withoutDomain(string(leg.To)),
		Start: start, End: end,
		Result:      leg.outcome(),
		RecordingID: string(leg.RecordUUID),
	}
	if flow == callhistory.In {
		r.DID = string(cmp.Or(leg.DID, c.DID))
	}
	if r.Kind != callhistory.Extension {
		return waiting(r, bridged)
	}
	if r.Result == callhistory.Answered {
		r.TalkSeconds = leg.talk(start, end)
		r.Answer = leg.answer(end, r.TalkSeconds)
	}
	return r
}

// waiting completes the leg of a queue or voice menu. It takes every call itself: what matters to
// the caller is who took it then. What a queue says of its side towards the agents, flow out,
// decides nothing.
func waiting(r callhistory.Record, bridged *bool) callhistory.Record {
	if r.Flow == callhistory.Out {
		return r
	}
	r.Bridged = bridged
	switch {
	case bridged == nil:
		r.Result = callhistory.Unknown
	case *bridged:
		r.Result = callhistory.Answered
	case r.Result == callhistory.Answered:
		r.Result = callhistory.NoAnswer
	}
	return r
}

// bridged tells what the events of IVRs and queues say with Bridged: whether any ordinary extension
// took the call (RingMe: Events on Extension Numbers). The result of the call as a whole cannot
// tell: it is "answered" also if only a voice menu was reached, if a phone forwarded the call to an
// outside number, or if the party that picked up was the customer of a web call-back. So it is the
// inbound legs of extensions that count. It is nil where one of them has a result that is not
// known.
func (c historyCall) bridged() *bool {
	known, taken := true, false
	for _, leg := range c.Legs {
		if flow, _ := leg.direction(c.Flow); flow == callhistory.Out || leg.kind() != callhistory.Extension || leg.owner() == "" {
			continue
		}
		result := leg.outcome()
		taken = taken || result == callhistory.Answered
		known = known && result != callhistory.Unknown
	}
	if !taken && !known {
		return nil
	}
	return &taken
}

// owner is the extension that the leg belongs to, if any.
func (l historyLeg) owner() text { return cmp.Or(l.ExtensionID, l.ExtensionName) }

func (l historyLeg) kind() callhistory.Kind {
	switch strings.ToLower(string(l.ExtensionType)) {
	case "queue":
		return callhistory.Queue
	case "ivr":
		return callhistory.IVR
	default:
		return callhistory.Extension
	}
}

// direction is the flow as seen by the extension; transferred tells of an outgoing leg that the PBX
// made by forwarding. Of the flow "transfer" the two are told apart by who is called.
func (l historyLeg) direction(otherwise text) (flow callhistory.Flow, transferred bool) {
	switch strings.ToLower(string(cmp.Or(l.Flow, otherwise))) {
	case "out":
		return callhistory.Out, false
	case "transfer":
		if to := withoutDomain(string(l.To)); to != "" && short(to) == short(string(l.ExtensionName)) {
			return callhistory.In, false
		}
		return callhistory.Out, true
	default:
		return callhistory.In, false
	}
}

// caller is, as long as a leg does not come from a colleague, who it comes from. A call that a
// colleague handed over comes from the outside party of the whole call, as RemoteNumber says in
// events.
func (c historyCall) caller(leg historyLeg, flow callhistory.Flow) string {
	from := withoutDomain(string(leg.From))
	if flow == callhistory.Out || !isInternal(from) || from == withoutDomain(string(leg.ExtensionName)) {
		return from
	}
	for _, party := range []text{c.From, c.To} {
		if number := withoutDomain(string(party)); number != "" && !isInternal(number) {
			return number
		}
	}
	return from
}

// isInternal reports whether a number is the name of an extension, 1234*101.
func isInternal(number string) bool { return strings.Contains(number, "*") }

// talk is in seconds. As in events, duration is the talk unless bridged_duration says otherwise. It
// is nil where the history does not say, or says what is longer than the leg.
func (l historyLeg) talk(start, end time.Time) *float64 {
	talk := cmp.Or(l.BridgedDuration, l.Duration)
	if l.BridgedDuration == nil && !l.BridgedTime.IsZero() {
		talk = new(end.Sub(l.BridgedTime.Time).Seconds())
	}
	const rounding = 1
	if talk == nil || *talk < 0 || *talk > end.Sub(start).Seconds()+rounding {
		return nil
	}
	return talk
}

func (l historyLeg) answer(end time.Time, talk *float64) time.Time {
	if !l.BridgedTime.IsZero() || talk == nil {
		return l.BridgedTime.Time
	}
	return end.Add(-time.Duration(*talk * float64(time.Second)))
}

// dispositions and causes say why a leg was not answered. Somebody who refuses a call is busy, as
// far as the caller can hear.
var (
	dispositions = map[string]callhistory.Result{
		"caller_cancel":   callhistory.Cancelled,
		"callee_refuse":   callhistory.Busy,
		"internal_cancel": callhistory.NoAnswer, // the timer, as somebody else who answered is a result of its own
	}
	causes = map[string]callhistory.Result{
		"USER_BUSY":           callhistory.Busy,
		"CALL_REJECTED":       callhistory.Busy,
		"ORIGINATOR_CANCEL":   callhistory.Cancelled,
		"LOSE_RACE":           callhistory.AnsweredElsewhere,
		"PICKED_OFF":          callhistory.AnsweredElsewhere,
		"USER_NOT_REGISTERED": callhistory.Failed,
		"UNALLOCATED_NUMBER":  callhistory.Failed,
	}
)

func (l historyLeg) outcome() callhistory.Result {
	switch strings.ToLower(string(l.Result)) {
	case "answered", "bridged":
		return callhistory.Answered
	case "answered elsewhere":
		return callhistory.AnsweredElsewhere
	case "busy", "rejected":
		return callhistory.Busy
	case "failed":
		return callhistory.Failed
	case "not answered", "voicemail":
		return cmp.Or(causes[strings.ToUpper(string(l.Cause))], dispositions[strings.ToLower(string(l.Disposition))], callhistory.NoAnswer)
	default:
		return callhistory.Unknown
	}
}
