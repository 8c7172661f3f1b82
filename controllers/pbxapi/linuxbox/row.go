package linuxbox

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
	"github.com/pbx-operator/pbx-operator/receiver/shorten"
)

// shown is how many characters of a value stand in a message.
const shown = 40

// The columns that a query may return. All but the first two may be missing, or null.
const (
	columnCallID     = "call_id"
	columnStartedAt  = "started_at"
	columnCaller     = "caller"
	columnCalled     = "called"
	columnLine       = "line"
	columnAnsweredAt = "answered_at"
	columnEndedAt    = "ended_at"
	columnDuration   = "duration_s"
	columnTalk       = "talk_s"
	columnResult     = "result"
	columnRecordName = "record_name"
	// columnOutside is true for the leg with which the PBX sent a call on to an outside number. It
	// has no line.
	columnOutside = "outside"
)

// Limits of what a receiver takes, in bytes. The id of a record is made of the first two.
const (
	callIDLength = 100
	lineLength   = 64
	textLength   = 256
)

// lines are the PBX's own. None are given: every number of at most four digits is one.
type lines map[string]bool

func linesOf(numbers []string) lines {
	l := make(lines, len(numbers))
	for _, number := range numbers {
		l[number] = true
	}
	return l
}

func (l lines) has(number string) bool {
	if len(l) > 0 {
		return l[number]
	}
	const longest = 4
	return number != "" && len(number) <= longest && strings.Trim(number, "0123456789") == ""
}

// reader makes records of the rows of one read, one after the other.
type reader struct {
	lines   lines
	columns []string
	zone    *time.Location
	seen    map[string]int
	rows    int
	// unusable are rows with something wrong in them. They do not spoil the others.
	unusable pbxapi.Unusable
}

// newReader returns ErrInvalid where the query lacks a column.
func newReader(own lines, columns []string, zone *time.Location) (*reader, error) {
	for _, column := range []string{columnCallID, columnStartedAt} {
		if !slices.Contains(columns, column) {
			return nil, pbxapi.NewError(pbxapi.ErrInvalid, historyOp, fmt.Sprintf(
				"spec.pbx.linuxBox.database.query returns no column %s, but %s", column, cmp.Or(strings.Join(columns, ", "), "nothing")))
		}
	}
	return &reader{lines: own, columns: columns, zone: zone, seen: map[string]int{}}, nil
}

// read returns the record of a row, in the text form of PostgreSQL, where a nil value is null. It
// reports false for a row that cannot be used, which it counts, and for a leg that has not ended,
// which a later read has.
func (rd *reader) read(values [][]byte) (callhistory.Record, bool) {
	rd.rows++
	r := row{columns: rd.columns, values: values, zone: rd.zone}
	record, ended := rd.lines.record(&r)
	if r.err != nil {
		rd.unusable.Add(r.named(rd.rows).Error())
		return record, false
	}
	if !ended {
		return record, false
	}
	if rd.seen[record.ID]++; rd.seen[record.ID] > 1 {
		record.ID += "/" + strconv.Itoa(rd.seen[record.ID])
	}
	return record, true
}

// row reads the values of one row; the first that is wrong ends up in err.
type row struct {
	columns []string
	values  [][]byte
	zone    *time.Location
	err     error
}

// named says which row it is whose value is wrong.
func (r *row) named(number int) error {
	if id := r.text(columnCallID); id != "" {
		return fmt.Errorf("call %s: %w", shorten.Visibly(id, shown), r.err)
	}
	return fmt.Errorf("row %d: %w", number, r.err)
}

func (r *row) fail(column, problem string) {
	if r.err == nil {
		r.err = fmt.Errorf("column %s: %s", column, problem)
	}
}

// limited is text that may not be longer than so many bytes.
func (r *row) limited(column string, length int) string {
	text := r.text(column)
	if len(text) > length {
		r.fail(column, fmt.Sprintf("%q has %d bytes, %d are the most", shorten.Visibly(text, shown), len(text), length))
	}
	return text
}

// text is empty for null.
func (r *row) text(column string) string {
	i := slices.Index(r.columns, column)
	if i < 0 || r.values[i] == nil {
		return ""
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(r.values[i]), "�"))
}

// timeForms are those of timestamptz, timestamp and date, and of text.
var timeForms = []string{
	"2006-01-02 15:04:05.999999999Z07", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z0700",
	"2006-01-02 15:04:05.999999999", time.DateOnly,
}

// time is zero for null.
func (r *row) time(column string) time.Time {
	text := r.text(column)
	if text == "" {
		return time.Time{}
	}
	if len(text) > len(time.DateOnly) && text[len(time.DateOnly)] == 'T' {
		text = strings.Replace(text, "T", " ", 1)
	}
	for _, form := range timeForms {
		if at, err := time.ParseInLocation(form, text, r.zone); err == nil && at.Year() >= 2000 && at.Year() < 2200 {
			return at.UTC()
		}
	}
	r.fail(column, fmt.Sprintf("%q is no time like 2026-01-02 10:00:00+00", shorten.Visibly(text, shown)))
	return time.Time{}
}

// seconds are nil for null.
func (r *row) seconds(column string) *float64 {
	text := r.text(column)
	if text == "" {
		return nil
	}
	const longest = 1e7
	number, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(number) || number < 0 || number > longest {
		r.fail(column, fmt.Sprintf("%q is no number of seconds", shorten.Visibly(text, shown)))
		return nil
	}
	return &number
}

// record is the leg that a row tells of, unless it has not ended.
func (l lines) record(r *row) (record callhistory.Record, ended bool) {
	record = callhistory.Record{
		CallID: r.limited(columnCallID, callIDLength), From: r.limited(columnCaller, textLength), To: r.limited(columnCalled, textLength),
		RecordingID: r.limited(columnRecordName, textLength), Start: r.time(columnStartedAt), End: r.time(columnEndedAt),
	}
	if record.CallID == "" {
		r.fail(columnCallID, "it is null or empty")
	}
	if record.Start.IsZero() {
		r.fail(columnStartedAt, "it is null or empty")
	}
	outside, _ := strconv.ParseBool(r.text(columnOutside)) // anything else does not say so
	l.place(&record, r.limited(columnLine, lineLength), outside)
	talk, answer := r.seconds(columnTalk), r.time(columnAnsweredAt)
	if duration := r.seconds(columnDuration); record.End.IsZero() && duration != nil {
		record.End = after(record.Start, *duration)
	}
	if record.End.IsZero() && !answer.IsZero() && talk != nil {
		record.End = after(answer, *talk)
	}
	ended = !record.End.IsZero()
	if ended && record.End.Before(record.Start) {
		r.fail(columnEndedAt, "it is before started_at")
	}
	record.Result = resultOf(r.text(columnResult), talk, answer)
	if record.Result == callhistory.Answered {
		record.TalkSeconds, record.Answer = talk, answer
		if answer.IsZero() && talk != nil && ended {
			record.Answer = after(record.End, -*talk)
		}
		record.Answer = r.within(record.Answer, record.Start, record.End, ended)
	}
	record.ID = record.CallID + "/" + record.Extension + "/" + record.Start.Format(time.RFC3339Nano)
	return record, ended
}

func after(t time.Time, seconds float64) time.Time {
	return t.Add(time.Duration(math.Round(seconds*1e6)) * time.Microsecond)
}

// within keeps the answer inside the leg. Whole seconds may put it one second outside.
func (r *row) within(answer, start, end time.Time, ended bool) time.Time {
	const tolerance = time.Second
	switch {
	case answer.IsZero() || !ended:
	case answer.Before(start.Add(-tolerance)), answer.After(end.Add(tolerance)):
		r.fail(columnAnsweredAt, "it, or what follows from talk_s, is not between start and end of the leg")
	case answer.Before(start):
		return start
	case answer.After(end):
		return end
	}
	return answer
}

// place says whose leg it is, and in which direction. Where the row names no line, the caller or
// the called number may be one. A leg of no line is that of the PBX itself: a voice menu, or the
// queue of somebody who gave up before a line rang; unless it leads outside.
func (l lines) place(record *callhistory.Record, line string, outside bool) {
	record.Kind, record.Flow, record.Extension = callhistory.Extension, callhistory.In, line
	switch {
	case line != "":
	case outside:
		record.Flow = callhistory.Out
		return
	case l.has(record.From):
		record.Extension = record.From
	case l.has(record.To):
		record.Extension = record.To
	default:
		record.Kind = callhistory.IVR
	}
	if record.Extension != "" && record.Extension == record.From {
		record.Flow = callhistory.Out
		return
	}
	if !l.has(record.To) && len(record.To) <= lineLength {
		record.DID = record.To
	}
	if record.Extension != "" {
		record.To = record.Extension
	}
}

// results are the dispositions of Asterisk's call detail records, and the words of its dial
// statuses, without spaces.
var results = map[string]callhistory.Result{
	"ANSWERED": callhistory.Answered, "ANSWER": callhistory.Answered,
	"NOANSWER": callhistory.NoAnswer,
	"BUSY":     callhistory.Busy,
	"CANCEL":   callhistory.Cancelled, "CANCELLED": callhistory.Cancelled, "CANCELED": callhistory.Cancelled,
	"FAILED": callhistory.Failed, "CONGESTION": callhistory.Failed, "CHANUNAVAIL": callhistory.Failed,
}

// resultOf is Unknown for a word that no document lists. Where there is none, talk or the time of
// an answer tell of an answer.
func resultOf(word string, talk *float64, answer time.Time) callhistory.Result {
	word = strings.ToUpper(strings.NewReplacer(" ", "", "_", "", "-", "").Replace(word))
	if result, ok := results[word]; ok {
		return result
	}
	if word == "" && (!answer.IsZero() || talk != nil && *talk > 0) {
		return callhistory.Answered
	}
	return callhistory.Unknown
}
