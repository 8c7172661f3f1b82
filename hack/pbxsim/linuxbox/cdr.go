package linuxbox

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// createCDR is the table of Asterisk's module cdr_pgsql.
const createCDR = `CREATE TABLE IF NOT EXISTS cdr (
  calldate timestamptz NOT NULL, clid varchar(80) NOT NULL, src varchar(80) NOT NULL, dst varchar(80) NOT NULL,
  dcontext varchar(80) NOT NULL, channel varchar(80) NOT NULL, dstchannel varchar(80) NOT NULL, lastapp varchar(80) NOT NULL,
  lastdata varchar(80) NOT NULL, duration bigint NOT NULL, billsec bigint NOT NULL, disposition varchar(45) NOT NULL,
  amaflags bigint NOT NULL, accountcode varchar(20) NOT NULL, uniqueid varchar(150) NOT NULL, linkedid varchar(150) NOT NULL,
  userfield varchar(255) NOT NULL)`

const insertCDR = `INSERT INTO cdr VALUES ($1, $2, $2, $3, 'default', $4, $5, $6, '', $7, $8, $9, 3, '', $10, $11, '')`

// cdr is a row of that table: a channel, what it was connected with, and how that went. Durations
// are seconds.
type cdr struct {
	start               time.Time
	src, dst            string
	channel, dstChannel string
	application         string
	duration, billed    int
	disposition         string
	uniqueID, linkedID  string
}

// journal writes the records of calls into a PostgreSQL database, one call at a time.
type journal struct{ mu sync.Mutex }

const journalTimeout = 10 * time.Second

func (j *journal) write(ctx context.Context, address string, rows []cdr) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, journalTimeout)
	defer cancel()
	connection, err := pgx.Connect(ctx, address)
	if err != nil {
		return fmt.Errorf("the PBX's database: %w", err)
	}
	defer func() { _ = connection.Close(ctx) }() // everything is committed
	err = pgx.BeginFunc(ctx, connection, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, createCDR); err != nil {
			return err
		}
		for _, r := range rows {
			_, err := tx.Exec(ctx, insertCDR, r.start, r.src, r.dst, r.channel, r.dstChannel, r.application, r.duration, r.billed,
				r.disposition, r.uniqueID, r.linkedID)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("the PBX's database: %w", err)
	}
	return nil
}

// record writes the records of a call that has ended, where the PBX has a database.
func (a *API) record(ctx context.Context, c *exchange.Call) error {
	address := a.Settings().Database
	if address == "" {
		return nil
	}
	rows := records(c.Emitted(), func(number string) bool {
		_, ok := a.x.ExtensionByNumber(c.Account, number)
		return ok
	})
	return a.journal.write(ctx, address, rows)
}

// side is a line's side of a call, or that of an outside number to which the call was forwarded.
type side struct {
	line, caller, called string
	status               string
	start, answer, end   time.Time
}

// outgoing is the side of the line that makes the call.
func (s *side) outgoing() bool { return s.line != "" && s.line == s.caller }

// tape is what happened in one call.
type tape struct {
	id         string
	sides      map[string]*side // by leg
	start, now time.Time
	called     string
	caller     string
}

// records are the rows that Asterisk would write for what happened in a call. Like Asterisk's,
// their times are whole seconds, and a caller who gives up leaves NO ANSWER.
func records(emitted []scenario.Notification, isLine func(string) bool) []cdr {
	var calls []*tape
	index := map[string]*tape{}
	for _, n := range emitted {
		if n.CallID == "" {
			continue
		}
		if index[n.CallID] == nil {
			index[n.CallID] = &tape{id: n.CallID, sides: map[string]*side{}, start: n.At, caller: n.Fact.Caller, called: n.Fact.Called}
			calls = append(calls, index[n.CallID])
		}
		index[n.CallID].play(n)
	}
	rows := make([]cdr, 0, len(calls))
	for _, c := range calls {
		rows = append(rows, c.rows(isLine)...)
	}
	return rows
}

// play notes one event.
func (c *tape) play(n scenario.Notification) {
	before := c.now
	if before.IsZero() {
		before = n.At
	}
	c.now = n.At
	s := c.sides[n.Fact.Leg]
	if s == nil {
		outside := n.Fact.Type == "ring_external" || n.Fact.Type == "answer_external"
		if n.Sender.Number == "" && !outside {
			return // of the call as a whole
		}
		s = &side{line: n.Sender.Number, caller: n.Fact.Caller, called: n.Fact.Called, start: n.At}
		c.close(func(other *side) bool { return s.line != "" && other.line == s.line }) // it is rung once more
		c.sides[n.Fact.Leg] = s
		switch {
		case s.outgoing():
			s.start = c.start
		case n.Fact.Type == "hangup_internal": // whoever took the call, without a word of it, did so with what happened before
			s.start, s.answer = before, before
		}
	}
	s.status = cmp.Or(n.Fact.Status, s.status)
	switch n.Fact.Type {
	case "answer_internal":
		if !s.outgoing() {
			c.take(s)
		}
	case "answer_external":
		c.take(s)
	case "hangup_internal", "release":
		s.end = n.At
	}
}

// take answers a side, which ends the ringing of the others.
func (c *tape) take(s *side) {
	s.answer = c.now
	c.close(func(*side) bool { return true })
}

// close ends the ringing of sides.
func (c *tape) close(of func(*side) bool) {
	for _, s := range c.sides {
		if s.answer.IsZero() && s.end.IsZero() && of(s) {
			s.end = c.now
		}
	}
}

// rows has one for each side; for a call of two lines there is one of both. A call that reached
// nobody was answered by the voice menu.
func (c *tape) rows(isLine func(string) bool) []cdr {
	rows := make([]cdr, 0, len(c.sides)+1)
	for _, s := range c.sides {
		if s.end.IsZero() {
			s.end = c.now
		}
		row := cdr{
			start: s.start, src: s.caller, dst: s.called, channel: channel("trunk"), dstChannel: channel("trunk"), application: "Dial",
			disposition: "NO ANSWER",
		}
		if isLine(s.caller) {
			row.channel = channel(s.caller)
		}
		switch {
		case s.outgoing() && isLine(s.called):
			continue // the called line has it
		case s.line != "" && !s.outgoing():
			row.dstChannel = channel(s.line)
		}
		if s.status == "BUSY" {
			row.disposition = "BUSY"
		}
		row.last(s.start, s.answer, s.end)
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		row := cdr{start: c.start, src: c.caller, dst: c.called, channel: channel("trunk"), application: "BackGround"}
		row.last(c.start, c.start, c.now)
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b cdr) int {
		return cmp.Or(a.start.Compare(b.start), cmp.Compare(a.dstChannel, b.dstChannel))
	})
	for i := range rows {
		rows[i].linkedID, rows[i].uniqueID = c.id, c.id
		rows[i].start = rows[i].start.Truncate(time.Second)
		if i > 0 {
			rows[i].uniqueID = fmt.Sprintf("%s%d", c.id, i)
		}
	}
	return rows
}

// last sets durations, and the disposition of what was answered.
func (r *cdr) last(start, answer, end time.Time) {
	r.duration = int(end.Sub(start) / time.Second)
	if !answer.IsZero() {
		r.billed, r.disposition = int(end.Sub(answer)/time.Second), "ANSWERED"
	}
}

// channel is named as Asterisk names them; it ends in digits that tell several of a line apart,
// which nobody needs here.
func channel(peer string) string { return "PJSIP/" + peer + "-0000002a" }
