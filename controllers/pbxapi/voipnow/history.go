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
	// cdrMargin widens what is asked for: records have no fractions of a second, and whether the
	// bounds belong to the range is not documented.
	cdrMargin = time.Second
)

var _ pbxapi.Historian = (*API)(nil)

const historyOp = "read the call history"

// ReadHistory reads call detail records (UnifiedAPI: CDR) as legs. VoipNow's documents describe the
// query, not the answer, hence:
//
//   - Flow, Result, Start, From and To have documented counterparts in the query: flow,
//     disposition, startDate, source, destination. A local call (flow 2) is Out for the extension
//     that is its source, In for any other.
//   - Extension, Answer, End and TalkSeconds come from members whose names are an assumption:
//     extension, answerDate, endDate, duration. Without an extension, the party that is one is
//     taken. Answer is zero, and TalkSeconds nil, where the record does not say.
//   - Times have no offset and are those of spec.pbx.voipNow.timeZone. In the hour that clocks
//     repeat in autumn they are ambiguous: one of the two is taken.
//   - CallID is "cdr/" and the id of the record, as is ID: records do not have the call id of
//     events. Compare Extension, Flow, Start and the other party with known legs to find it. Kind,
//     DID and RecordingID are not known.
//
// Where no record of a page has an id, a start and an end, it returns ErrNotSupported. Of more than
// the PBX shows at once it reads one part after the other: a page may be empty and yet not be the
// last one.
func (a *API) ReadHistory(
	ctx context.Context, query pbxapi.HistoryQuery, yield func(callhistory.Record) error,
) (page pbxapi.HistoryPage, err error) {
	part, err := parsePart(query)
	if err != nil {
		return page, err
	}
	call := rest.Call{Op: historyOp, Method: http.MethodGet, Path: a.cdrPath(), Query: a.cdrQuery(part.from, part.to)}
	items, next, err := readPage(ctx, a.client, call, cdrPage, part.cursor, cdrItem.key)
	if codeOf(err) == codeTooLong && part.halve() {
		return pbxapi.HistoryPage{Next: part.String()}, nil
	}
	if err != nil {
		return page, err
	}
	for _, item := range items {
		record, err := item.Value.record(a.zone)
		if err = cmp.Or(item.Err, err); err != nil {
			page.Unusable.Add(err.Error())
			continue
		}
		if !part.has(record.Start) || record.End.Before(query.EndedFrom) {
			continue
		}
		if err := yield(record); err != nil {
			return page, err
		}
	}
	if len(items) > 0 && page.Unusable.Count == len(items) {
		return page, pbxapi.NewError(pbxapi.ErrNotSupported, historyOp, page.Unusable.First)
	}
	page.Next = part.after(next)
	return page, nil
}

// part is a part of the time that a query asks about, small enough for its records to be shown, and
// the place in their list.
type part struct {
	query    pbxapi.HistoryQuery
	from, to time.Time
	cursor   string
}

// parsePart reads a cursor.
func parsePart(query pbxapi.HistoryQuery) (part, error) {
	p := part{query: query, from: query.From.Add(-cdrMargin), to: query.To.Add(cdrMargin)}
	if query.Cursor == "" {
		return p, nil
	}
	times, cursor, _ := strings.Cut(query.Cursor, "@")
	var from, to int64
	if _, err := fmt.Sscanf(times, "%d-%d", &from, &to); err != nil {
		return p, pbxapi.NewError(pbxapi.ErrInvalid, historyOp, "the position in the history cannot be read")
	}
	p.from, p.to, p.cursor = time.UnixMicro(from), time.UnixMicro(to), cursor
	return p, nil
}

func (p *part) String() string {
	return fmt.Sprintf("%d-%d@%s", p.from.UnixMicro(), p.to.UnixMicro(), p.cursor)
}

// halve makes the first half of a part. It reports false for one of a second, which is the least
// that can be asked about.
func (p *part) halve() bool {
	half := (p.to.Sub(p.from) / 2).Truncate(time.Second)
	p.to, p.cursor = p.from.Add(half), ""
	return half > 0
}

// has reports whether a call that began then belongs to this part. Neighbours share the second
// between them, which belongs to the later one.
func (p *part) has(start time.Time) bool {
	within := !start.Before(p.query.From.Truncate(time.Second)) && start.Before(p.query.To)
	begin, end := p.query.From.Add(-cdrMargin), p.query.To.Add(cdrMargin)
	return within && (p.from.Equal(begin) || !start.Before(p.from.Truncate(time.Second))) && (p.to.Equal(end) || start.Before(p.to.Truncate(time.Second)))
}

// after returns the cursor of the page that follows this one, of which next is the place in the
// list; empty after the last page of the last part. A part may be twice as long as the one before.
func (p *part) after(next string) string {
	end := p.query.To.Add(cdrMargin)
	if next == "" && !p.to.Before(end) {
		return ""
	}
	following := part{from: p.from, to: p.to, cursor: next}
	if next == "" {
		following.from, following.to = p.to, p.to.Add(2*p.to.Sub(p.from))
		if following.to.After(end) {
			following.to = end
		}
	}
	return following.String()
}

// cdrQuery asks for more where clocks are set back within the range: they show times before its
// begin, and have shown some after its end.
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

func (i cdrItem) key() string { return string(i.ID) }

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

// isNumberOf reports whether a number is that of an extension, in either form.
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
