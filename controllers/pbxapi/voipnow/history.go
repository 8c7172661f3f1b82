package voipnow

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/rest"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

const (
	// cdrTime is ISO 8601 without an offset, as call records and their queries have it.
	cdrTime = "2006-01-02T15:04:05"
	cdrPage = 1000
	// cdrMargin widens what is asked for: records have no fractions of a second, and whether the bounds belong to the range is not documented.
	cdrMargin = time.Second
)

var _ pbxapi.Historian = (*API)(nil)

// History lists call detail records (UnifiedAPI: CDR) as legs. VoipNow's documents describe the query, not the answer, hence:
//
//   - Flow, Result, Start, From and To have documented counterparts in the query: flow, disposition, startDate, source, destination. A
//     local call (flow 2) is Out for the extension that is its source, In for any other.
//   - Extension, Answer, End and TalkSeconds come from members whose names are an assumption: extension, answerDate, endDate, duration.
//     Without an extension, the party that is one is taken. Answer is zero, and TalkSeconds nil, where the record does not say.
//   - Times have no offset and are those of spec.pbx.voipNow.timeZone. In the hour that clocks repeat in autumn they are ambiguous: one of
//     the two is taken.
//   - CallID is "cdr/" and the id of the record, as is ID: records do not have the call id of events. Compare Extension, Flow, Start and
//     the other party with known legs to find it. Kind, DID and RecordingID are not known.
//
// A record without an id, a start or an end makes an ErrNotSupported.
func (a *API) History(ctx context.Context, from, to time.Time) ([]callhistory.Record, error) {
	const op = "read the call history"
	items, err := a.cdr(ctx, op, from.Add(-cdrMargin), to.Add(cdrMargin))
	if err != nil {
		return nil, err
	}
	records := make([]callhistory.Record, 0, len(items))
	seen := map[string]bool{}
	for _, item := range items {
		record, err := item.record(a.zone)
		if err != nil {
			return nil, pbxapi.NewError(pbxapi.ErrNotSupported, op, err.Error())
		}
		if seen[record.ID] || record.Start.Before(from.Truncate(time.Second)) || !record.Start.Before(to) {
			continue
		}
		seen[record.ID] = true
		records = append(records, record)
	}
	return records, nil
}

// cdr reads all records of a range. Of more than the PBX shows at once it reads one half after the other.
func (a *API) cdr(ctx context.Context, op string, from, to time.Time) ([]cdrItem, error) {
	call := rest.Call{Op: op, Method: http.MethodGet, Path: a.cdrPath(), Query: a.cdrQuery(from, to)}
	items, err := readAll[cdrItem](ctx, a.client, call, cdrPage)
	half := (to.Sub(from) / 2).Truncate(time.Second)
	if codeOf(err) != codeTooLong || half == 0 {
		return items, err
	}
	items, err = a.cdr(ctx, op, from, from.Add(half))
	if err != nil {
		return nil, err
	}
	rest, err := a.cdr(ctx, op, from.Add(half), to)
	return append(items, rest...), err
}

// cdrQuery asks for more where clocks are set back within the range: they show times before its begin, and have shown some after its end.
func (a *API) cdrQuery(from, to time.Time) url.Values {
	from, to = from.In(a.zone), to.In(a.zone)
	_, before := from.Zone()
	_, after := to.Zone()
	setBack := time.Duration(max(before-after, 0)) * time.Second
	return url.Values{"startDate": {clock(from, -setBack)}, "endDate": {clock(to, setBack)}}
}

// clock is what the clock on the wall shows, plus so much.
func clock(at time.Time, plus time.Duration) string {
	_, offset := at.Zone()
	return at.UTC().Add(time.Duration(offset)*time.Second + plus).Format(cdrTime)
}

// cdrPath names the owner of the call records only where that is not the user of the app.
func (a *API) cdrPath() string {
	if strings.HasPrefix(a.user, "@") {
		return "/cdr"
	}
	return "/cdr/" + a.user
}

// cdrItem is a call detail record on the wire.
type cdrItem struct {
	ID          text `json:"id"`
	Extension   text `json:"extension"`
	Source      text `json:"source"`
	Destination text `json:"destination"`
	Flow        text `json:"flow"`
	Disposition text `json:"disposition"`
	StartDate   text `json:"startDate"`
	AnswerDate  text `json:"answerDate"`
	EndDate     text `json:"endDate"`
	Duration    text `json:"duration"` // seconds
}

func (i cdrItem) record(zone *time.Location) (callhistory.Record, error) {
	start, err := i.time("startDate", i.StartDate, zone)
	if err != nil {
		return callhistory.Record{}, err
	}
	if i.ID == "" || start.IsZero() {
		return callhistory.Record{}, fmt.Errorf("its call records have no id or no startDate")
	}
	record := callhistory.Record{ID: "cdr/" + string(i.ID), CallID: "cdr/" + string(i.ID), Start: start, Result: resultOf(i.Disposition)}
	record.FromName, record.From = party(i.Source)
	_, record.To = party(i.Destination)
	record.Extension, record.Flow = i.side(record.From, record.To)
	return record, i.addTimes(&record, zone)
}

// addTimes adds when a call was answered and how long it went on.
func (i cdrItem) addTimes(record *callhistory.Record, zone *time.Location) error {
	answer, err := i.time("answerDate", i.AnswerDate, zone)
	if err != nil {
		return err
	}
	end, err := i.time("endDate", i.EndDate, zone)
	if err != nil {
		return err
	}
	duration, err := strconv.ParseFloat(string(i.Duration), 64)
	hasDuration := err == nil && duration >= 0
	if end.IsZero() {
		if !hasDuration {
			return fmt.Errorf("its call records have neither endDate nor duration")
		}
		end = laterOf(record.Start, answer).Add(time.Duration(duration * float64(time.Second)))
	}
	record.End = end
	if record.Result != callhistory.Answered {
		return nil
	}
	record.Answer = answer
	if !answer.IsZero() {
		duration, hasDuration = end.Sub(answer).Seconds(), true
	}
	if hasDuration {
		record.TalkSeconds = &duration
	}
	return nil
}

func laterOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// time reads a member; zero for one that is missing, or has the database's word for that.
func (i cdrItem) time(member string, value text, zone *time.Location) (time.Time, error) {
	if value == "" || strings.HasPrefix(string(value), "0000-00-00") {
		return time.Time{}, nil
	}
	for _, layout := range []string{cdrTime, time.RFC3339, time.DateTime} {
		if at, err := time.ParseInLocation(layout, string(value), zone); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("the %s of call record %s is no time such as %s", member, i.ID, cdrTime)
}

// Values of flow (PhoneCallView fields).
const (
	flowOutgoing text = "4"
	flowIncoming text = "8"
)

// side is the extension whose leg a record is, and the direction that the call had for it.
func (i cdrItem) side(from, to string) (string, callhistory.Flow) {
	switch i.Flow {
	case flowIncoming:
		return cmp.Or(string(i.Extension), extended(to)), callhistory.In
	case flowOutgoing:
		return cmp.Or(string(i.Extension), extended(from)), callhistory.Out
	default:
		extension := cmp.Or(string(i.Extension), extended(from), extended(to))
		if isNumberOf(extension, from) {
			return extension, callhistory.Out
		}
		return extension, callhistory.In
	}
}

// extended is a number that is one of an extension in the extended form; else empty.
func extended(number string) string {
	if strings.Contains(number, "*") && numbers.MatchString(number) {
		return number
	}
	return ""
}

// isNumberOf tells whether a number is that of an extension, in either form.
func isNumberOf(extension, number string) bool {
	_, short, _ := strings.Cut(extension, "*")
	return number != "" && (number == extension || number == short)
}

var namedParty = regexp.MustCompile(`^\s*(.*?)\s*<([^<>]*)>\s*$`)

// party reads a number, alone or in the form of caller ids: Name <number>.
func party(value text) (name, number string) {
	if parts := namedParty.FindStringSubmatch(string(value)); parts != nil {
		return parts[1], parts[2]
	}
	return "", strings.TrimSpace(string(value))
}

// resultOf reads a disposition (PhoneCallView fields).
func resultOf(disposition text) callhistory.Result {
	switch disposition {
	case "0":
		return callhistory.Answered
	case "1":
		return callhistory.Busy
	case "2", "5": // failed, not allowed
		return callhistory.Failed
	case "3":
		return callhistory.NoAnswer
	default:
		return callhistory.Unknown
	}
}
