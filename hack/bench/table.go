package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// target is a promise about a number. The zero value promises nothing: the row is there to explain
// others.
type target struct {
	relation string
	limit    float64
}

func atLeast(limit float64) target { return target{"≥", limit} }
func atMost(limit float64) target  { return target{"≤", limit} }

func (t target) met(value float64) bool {
	if t.relation == "≤" {
		return value <= t.limit
	}
	return value >= t.limit
}

// row is one line of the table.
type row struct {
	what   string
	unit   string
	target target
	value  float64
	note   string
	// err says why there is no value; errUnmeasured until there is one.
	err error
}

var errUnmeasured = errors.New("was not measured")

func promise(what, unit string, target target) row {
	return row{what: what, unit: unit, target: target, err: errUnmeasured}
}

// sheet collects the values of the rows of one group.
type sheet struct{ rows []row }

func (s *sheet) row(what string) *row {
	i := slices.IndexFunc(s.rows, func(r row) bool { return r.what == what })
	if i < 0 {
		s.rows = append(s.rows, row{what: what})
		i = len(s.rows) - 1
	}
	return &s.rows[i]
}

// set fills a row in.
func (s *sheet) set(what string, value float64, note string, args ...any) {
	r := s.row(what)
	r.value, r.note, r.err = value, fmt.Sprintf(note, args...), nil
}

// failRow says why a row has no value.
func (s *sheet) failRow(what string, err error) {
	r := s.row(what)
	r.err = err
}

// fail says why the rows have no value that have none yet.
func (s *sheet) fail(err error) {
	for i := range s.rows {
		if errors.Is(s.rows[i].err, errUnmeasured) {
			s.rows[i].err = err
		}
	}
}

func (r row) measured() string {
	if r.err != nil {
		return "-"
	}
	return strings.TrimSpace(number(r.value) + " " + r.unit)
}

func (r row) promised() string {
	if r.target.relation == "" {
		return ""
	}
	return strings.TrimSpace(r.target.relation + " " + thousands(r.target.limit) + " " + r.unit)
}

func (r row) verdict() string {
	switch {
	case r.err != nil:
		return "NOT RUN"
	case r.target.relation == "":
		return ""
	case r.target.met(r.value):
		return "met"
	default:
		return "MISSED"
	}
}

func (r row) remark() string {
	if r.err != nil {
		return strings.Join(strings.Fields(r.err.Error()), " ")
	}
	return r.note
}

// number shows three significant digits, and thousands apart.
func number(v float64) string {
	return thousands(significant(v))
}

func thousands(v float64) string {
	if math.Abs(v) < 1000 {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func significant(v float64) float64 {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
	if err != nil {
		return v
	}
	return rounded
}

func printTable(w io.Writer, rows []row) {
	lines := make([][]string, 0, 1+len(rows))
	lines = append(lines, []string{"what", "measured", "target", "verdict", "how, and what else was seen"})
	for _, r := range rows {
		lines = append(lines, []string{r.what, r.measured(), r.promised(), r.verdict(), r.remark()})
	}
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for i, line := range lines {
		printLine(w, line, widths, " ")
		if i == 0 {
			printLine(w, make([]string, len(line)), widths, "-")
		}
	}
}

func printLine(w io.Writer, cells []string, widths []int, fill string) {
	var b strings.Builder
	for i, cell := range cells {
		b.WriteString("| " + cell)
		if i < len(cells)-1 || fill != " " {
			b.WriteString(strings.Repeat(fill, widths[i]-utf8.RuneCountInString(cell)))
		}
		b.WriteString(" ")
	}
	_, _ = fmt.Fprintln(w, b.String()+"|")
}

// exitCode is 1 if a row could not be measured, and with strict also if a target was missed.
func exitCode(rows []row, strict bool) int {
	bad := func(r row) bool {
		return r.err != nil || strict && r.target.relation != "" && !r.target.met(r.value)
	}
	if slices.ContainsFunc(rows, bad) {
		return 1
	}
	return 0
}

// median of an odd number of values; of an even number the lower one of the two in the middle. 0 of
// none.
func median[T cmp.Ordered](values []T) T {
	if len(values) == 0 {
		var none T
		return none
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}
