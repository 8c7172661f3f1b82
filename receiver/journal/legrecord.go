package journal

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// legVersion leads every record of the LEGS log; those of earlier receivers begin with a brace.
const legVersion = 1

// Types of ticks in a record.
const (
	tickGrace byte = iota
	tickDuration
)

// appendLeg appends the form in which a record is stored: through, positions, ticks and instance in
// binary, then the leg as JSON.
func appendLeg(buffer []byte, record *LegRecord) ([]byte, error) {
	buffer = binary.AppendUvarint(append(buffer, legVersion), record.Through)
	incomplete := byte(0)
	if record.Incomplete {
		incomplete = 1
	}
	buffer = appendText(append(buffer, incomplete), record.Instance)
	buffer = binary.AppendUvarint(buffer, uint64(len(record.Positions)))
	var previous uint64
	for _, position := range record.Positions {
		buffer = binary.AppendVarint(buffer, int64(position-previous))
		previous = position
	}
	buffer = binary.AppendUvarint(buffer, uint64(len(record.Ticks)))
	for i := range record.Ticks {
		tick := &record.Ticks[i]
		kind := tickDuration
		if tick.Type == callevent.GraceOver {
			kind = tickGrace
		}
		buffer = appendText(append(buffer, kind), tick.LegID)
		buffer = binary.AppendVarint(buffer, tick.Time.UnixNano())
	}
	target := appender(buffer)
	encoder := json.NewEncoder(&target)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(&record.Leg); err != nil {
		return nil, fmt.Errorf("cannot encode a leg: %w", err)
	}
	return target, nil
}

// appender appends what is written to it.
type appender []byte

// Write implements io.Writer.
func (a *appender) Write(data []byte) (int, error) {
	*a = append(*a, data...)
	return len(data), nil
}

func appendText(buffer []byte, text string) []byte {
	return append(binary.AppendUvarint(buffer, uint64(len(text))), text...)
}

// parseLegBody reads all but the leg, which it returns. Of the ticks it knows type, leg and time.
func parseLegBody(data []byte, record *LegRecord) (leg []byte, err error) {
	r := fields{rest: data}
	record.Through = r.uvarint()
	record.Incomplete = r.byte() != 0
	record.Instance = r.text()
	var previous uint64
	for n := r.count(); n > 0; n-- {
		previous += uint64(r.varint())
		record.Positions = append(record.Positions, previous)
	}
	for n := r.count(); n > 0; n-- {
		tick := callevent.Event{Type: callevent.MaxDurationOver}
		if r.byte() == tickGrace {
			tick.Type = callevent.GraceOver
		}
		tick.LegID = r.text()
		tick.Time = time.Unix(0, r.varint()).UTC()
		record.Ticks = append(record.Ticks, tick)
	}
	return r.rest, r.err
}

// fields reads one field after the other, and remembers the first error.
type fields struct {
	rest []byte
	err  error
}

func (f *fields) take(n int) []byte {
	if n <= 0 || n > len(f.rest) {
		f.err, f.rest = errTruncated, nil
		return nil
	}
	taken := f.rest[:n]
	f.rest = f.rest[n:]
	return taken
}

func (f *fields) byte() byte {
	if taken := f.take(1); taken != nil {
		return taken[0]
	}
	return 0
}

func (f *fields) uvarint() uint64 {
	value, n := binary.Uvarint(f.rest)
	f.take(n)
	return value
}

func (f *fields) varint() int64 {
	value, n := binary.Varint(f.rest)
	f.take(n)
	return value
}

// count is the number of items that follow, of at least one byte each.
func (f *fields) count() int {
	n := f.uvarint()
	if n > uint64(len(f.rest)) {
		f.err, f.rest = errTruncated, nil
		return 0
	}
	return int(n)
}

func (f *fields) text() string {
	n := f.count()
	if n == 0 {
		return ""
	}
	return string(f.take(n))
}
