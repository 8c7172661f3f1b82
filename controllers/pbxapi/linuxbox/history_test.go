package linuxbox_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/linuxbox"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/pbxapitest"
	simlinuxbox "github.com/pbx-operator/pbx-operator/hack/pbxsim/linuxbox"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simtest"
	"github.com/pbx-operator/pbx-operator/hack/postgres"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

// server is the PostgreSQL of all tests; each makes databases of its own.
var server *postgres.Server

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

// moon is a time zone that PostgreSQL does not know, in the form of RFC 9636: one without changes.
const moon = "TZif\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x04" + "\x00\x00\x0e\x10\x00\x00" + "LUN\x00"

func run(m *testing.M) int {
	zones, err := os.MkdirTemp("", "zones")
	if err == nil {
		defer os.RemoveAll(zones)
		err = errors.Join(os.WriteFile(filepath.Join(zones, "Moon"), []byte(moon), 0o600), os.Setenv("ZONEINFO", zones))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if server, err = postgres.Start(context.Background(), postgres.Options{Settings: []string{"fsync=off"}}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// cdr is the table of Asterisk's module cdr_pgsql.
const cdr = `CREATE TABLE cdr (
  calldate timestamp NOT NULL, clid text NOT NULL DEFAULT '', src text NOT NULL DEFAULT '', dst text NOT NULL DEFAULT '',
  dcontext text NOT NULL DEFAULT '', channel text NOT NULL DEFAULT '', dstchannel text NOT NULL DEFAULT '', lastapp text NOT NULL DEFAULT '',
  lastdata text NOT NULL DEFAULT '', duration bigint NOT NULL DEFAULT 0, billsec bigint NOT NULL DEFAULT 0,
  disposition text NOT NULL DEFAULT '', amaflags int NOT NULL DEFAULT 0, accountcode text NOT NULL DEFAULT '',
  uniqueid text NOT NULL DEFAULT '', linkedid text NOT NULL DEFAULT '', userfield text NOT NULL DEFAULT '')`

// database makes an empty database and runs statements in it.
func database(t *testing.T, statements string) string {
	t.Helper()
	name := strings.ToLower(t.Name())
	address, err := server.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		all := server.URL("postgres", "postgres", "")
		if err := postgres.Execute(context.Background(), all, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	if err := postgres.Execute(t.Context(), address, statements); err != nil {
		t.Fatal(err)
	}
	return address
}

// open gives access to a database; without a query to the default one.
func open(t *testing.T, address, query string, lines ...string) *linuxbox.History {
	t.Helper()
	history, err := linuxbox.NewHistory(address, configured(query), lines)
	if err != nil {
		t.Fatal(err)
	}
	return history
}

func configured(query string) v1alpha1.LinuxBoxDatabase {
	return v1alpha1.LinuxBoxDatabase{CredentialsSecretRef: v1alpha1.SecretReference{Name: "box-database"}, Query: query}
}

var ten = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return ten.Add(time.Duration(seconds * float64(time.Second)))
}

// read reads what began in the minute from ten o'clock.
func read(t *testing.T, history *linuxbox.History) ([]callhistory.Record, error) {
	t.Helper()
	return pbxapitest.History(t.Context(), history, ten, at(60))
}

func mustRead(t *testing.T, history *linuxbox.History) []callhistory.Record {
	t.Helper()
	records, err := read(t, history)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func TestScenariosInAsterisksRecords(t *testing.T) {
	address := database(t, cdr+`;
	INSERT INTO cdr (calldate, src, dst, channel, dstchannel, lastapp, duration, billsec, disposition, uniqueid, linkedid) VALUES
	  ('2026-01-02 10:00:00', '2025550143', '2025550100', 'SIP/trunk-00000001', 'SIP/10-00000002', 'Dial', 66, 60, 'ANSWERED', 'L1', 'L1'),
	  ('2026-01-02 10:00:05', '2025550143', '2025550100', 'PJSIP/trunk-1-00000003', 'PJSIP/10-00000004', 'Queue', 20, 0, 'NO ANSWER', 'L2', 'L2'),
	  ('2026-01-02 10:00:25', '2025550143', '2025550100', 'PJSIP/trunk-1-00000003', 'Local/11@queue-00000005;1', 'Queue', 20, 0, 'NO ANSWER', 'L2.2', 'L2'),
	  ('2026-01-02 10:00:00', '2025550100', '2025550143', 'SIP/10-00000006', 'SIP/trunk-00000007', 'Dial', 71, 60, 'ANSWERED', 'L3', 'L3'),
	  ('2026-01-02 10:00:00', '2025550100', '2025550143', 'SIP/10-00000008', 'SIP/trunk-00000009', 'Dial', 3, 0, 'BUSY', 'L4', ''),
	  ('2026-01-02 10:00:30', '2025550100', '2025550143', 'SIP/10-0000000a', 'SIP/trunk-0000000b', 'Dial', 9, 0, 'NO ANSWER', 'L4c', 'L4c'),
	  ('2026-01-02 10:00:00', '10', '11', 'SIP/10-0000000c', 'SIP/11-0000000d', 'Dial', 35, 30, 'ANSWERED', 'L5', 'L5'),
	  ('2026-01-02 10:00:40', '2025550143', 's', 'SIP/trunk-0000000e', '', 'BackGround', 20, 20, 'ANSWERED', 'IVR', 'IVR'),
	  ('2026-01-02 10:00:50', '2025550143', '2025550177', 'SIP/trunk-00000021', 'SIP/trunk-00000022', 'Dial', 20, 15, 'ANSWERED', 'fwd', 'fwd'),
	  ('2026-01-02 09:59:50', '2025550143', '2025550100', 'SIP/trunk-00000011', 'SIP/10-00000012', 'Dial', 10, 0, 'NO ANSWER', 'before', 'before'),
	  ('2026-01-02 10:00:00', '2025550143', '2025550100', 'SIP/trunk-00000011', 'SIP/11-00000013', 'Dial', 10, 0, 'NO ANSWER', 'before.2', 'before'),
	  ('2026-01-02 10:00:59', '2025550143', '2025550100', 'SIP/trunk-00000014', 'SIP/10-00000015', 'Dial', 10, 0, 'NO ANSWER', 'late', 'late'),
	  ('2026-01-02 10:01:09', '2025550143', '2025550100', 'SIP/trunk-00000014', 'SIP/11-00000016', 'Dial', 10, 0, 'NO ANSWER', 'late.2', 'late'),
	  ('2026-01-02 10:01:00', '2025550143', '2025550100', 'SIP/trunk-00000017', 'SIP/11-00000018', 'Dial', 10, 0, 'NO ANSWER', 'after', 'after')`)
	in := func(call, line string, start, end float64, result callhistory.Result) callhistory.Record {
		return callhistory.Record{
			ID: call + "/" + line + "/" + at(start).Format(time.RFC3339), CallID: call, Kind: callhistory.Extension, Extension: line,
			Flow: callhistory.In, From: "2025550143", To: line, DID: "2025550100", Start: at(start), End: at(end), Result: result,
		}
	}
	out := func(call string, start, end float64, result callhistory.Result) callhistory.Record {
		r := in(call, "10", start, end, result)
		r.Flow, r.From, r.To, r.DID = callhistory.Out, "10", "2025550143", ""
		return r
	}
	answered := func(r callhistory.Record, after, seconds float64) callhistory.Record {
		r.Result, r.Answer, r.TalkSeconds = callhistory.Answered, at(after), new(seconds)
		return r
	}
	inner := func(line string, flow callhistory.Flow) callhistory.Record {
		r := answered(in("L5", line, 0, 35, ""), 5, 30)
		r.From, r.To, r.Flow, r.DID = "10", "11", flow, ""
		return r
	}
	menu := answered(in("IVR", "", 40, 60, ""), 40, 20)
	menu.Kind, menu.To, menu.DID = callhistory.IVR, "s", "s"
	forwarded := answered(in("fwd", "", 50, 70, ""), 55, 15)
	forwarded.Flow, forwarded.To, forwarded.DID = callhistory.Out, "2025550177", ""
	want := []callhistory.Record{
		answered(in("L1", "10", 0, 66, ""), 6, 60),
		answered(out("L3", 0, 71, ""), 11, 60),
		out("L4", 0, 3, callhistory.Busy),
		inner("10", callhistory.Out), inner("11", callhistory.In),
		in("L2", "10", 5, 25, callhistory.NoAnswer),
		in("L2", "11", 25, 45, callhistory.NoAnswer),
		out("L4c", 30, 39, callhistory.NoAnswer),
		menu, forwarded,
		in("late", "10", 59, 69, callhistory.NoAnswer), in("late", "11", 69, 79, callhistory.NoAnswer),
	}
	if diff := cmp.Diff(want, mustRead(t, open(t, address, ""))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, r := range mustRead(t, open(t, address, "", "11", "o'12")) {
		if r.Extension == "10" {
			t.Errorf("10 is none of the lines, and yet: %+v", r)
		}
	}
}

// Some installations have a time zone in calldate. The zone of the server must not matter for those
// that have none.
func TestTimeZones(t *testing.T) {
	address := database(t, strings.Replace(cdr, "calldate timestamp", "calldate timestamptz", 1)+`;
	ALTER DATABASE testtimezones SET timezone = 'Asia/Tokyo'; ALTER DATABASE testtimezones SET datestyle = 'German';
	INSERT INTO cdr (calldate, dstchannel, duration, disposition, uniqueid)
	  VALUES ('2026-01-02 11:00:07.25+01', 'SIP/10-00000001', 5, 'NO ANSWER', 'k1')`)
	if got := mustRead(t, open(t, address, "")); len(got) != 1 || !got[0].Start.Equal(at(7.25)) {
		t.Errorf("got %+v", got)
	}
	for expression, want := range map[string]time.Time{
		"timestamp '2026-01-02 10:00:01.5'":                                      at(1.5),
		"timestamptz '2026-01-02 15:30:02+05:30'":                                at(2),
		"timestamp '2026-01-02 11:00:03' AT TIME ZONE 'Europe/Prague'":           at(3),
		"'2026-01-02T11:00:04.000001+01:00'":                                     at(4).Add(time.Microsecond),
		"'2026-01-02T10:00:05Z'::varchar":                                        at(5),
		"'2026-01-02 11:00:06+0100'::text":                                       at(6),
		"date '2026-01-02'":                                                      ten.Truncate(24 * time.Hour),
		"CASE WHEN pg_typeof($1)::text = 'timestamp with time zone' THEN $1 END": ten,
	} {
		query := "SELECT 'k1' AS call_id, " + expression + " AS started_at, 1 AS duration_s WHERE $1 < $2"
		got := mustRead(t, open(t, address, query))
		if len(got) != 1 || !got[0].Start.Equal(want) {
			t.Errorf("%s: got %+v, want %s", expression, got, want)
		}
	}
}

// Asterisk writes local time by default. That of the server must not matter.
func TestLocalTimes(t *testing.T) {
	address := database(t, cdr+`;
	ALTER DATABASE testlocaltimes SET timezone = 'Asia/Tokyo';
	INSERT INTO cdr (calldate, dstchannel, duration, disposition, uniqueid) VALUES
	  ('2026-01-02 10:00:00', 'SIP/10-00000001', 5, 'NO ANSWER', 'an hour before'),
	  ('2026-01-02 11:00:00', 'SIP/10-00000002', 5, 'NO ANSWER', 'winter'),
	  ('2026-01-02 12:00:00', 'SIP/10-00000003', 5, 'NO ANSWER', 'an hour after'),
	  ('2026-07-01 11:00:00', 'SIP/10-00000004', 5, 'NO ANSWER', 'an hour before'),
	  ('2026-07-01 12:00:00', 'SIP/10-00000005', 5, 'NO ANSWER', 'summer'),
	  ('2026-07-01 13:00:00', 'SIP/10-00000006', 5, 'NO ANSWER', 'an hour after'),
	  ('2026-10-25 01:59:50', 'SIP/10-00000007', 3620, 'NO ANSWER', 'clocks are set back')`)
	own := `SELECT uniqueid AS call_id, calldate AS started_at, duration AS duration_s FROM cdr WHERE calldate >= $1 AND calldate < $2`
	for _, query := range []string{"", own} {
		config := configured(query)
		config.TimeZone = "Europe/Prague"
		history, err := linuxbox.NewHistory(address, config, nil)
		if err != nil {
			t.Fatal(err)
		}
		for call, want := range map[string]struct {
			start    time.Time
			duration time.Duration
		}{
			"winter":              {ten, 5 * time.Second},
			"summer":              {time.Date(2026, 7, 1, 10, 0, 0, 0, time.UTC), 5 * time.Second},
			"clocks are set back": {time.Date(2026, 10, 24, 23, 59, 50, 0, time.UTC), 3620 * time.Second},
		} {
			got, err := pbxapitest.History(t.Context(), history, want.start, want.start.Add(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || got[0].CallID != call || !got[0].Start.Equal(want.start) || got[0].End.Sub(got[0].Start) != want.duration {
				t.Errorf("%s, query %q: got %+v", call, query, got)
			}
		}
	}
}

func TestUnknownTimeZones(t *testing.T) {
	config := configured("")
	for _, zone := range []string{"Europe/Brno", "Local", "'; DROP TABLE cdr; --"} {
		config.TimeZone = zone
		_, err := linuxbox.NewHistory(server.URL("postgres", "postgres", ""), config, nil)
		if !errors.Is(err, pbxapi.ErrInvalid) || !strings.Contains(err.Error(), "spec.pbx.linuxBox.database.timeZone") {
			t.Errorf("%s: got %v, want ErrInvalid that names the field", zone, err)
		}
	}
	config.TimeZone = "Moon"
	history, err := linuxbox.NewHistory(server.URL("postgres", "postgres", ""), config, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = read(t, history)
	if !errors.Is(err, pbxapi.ErrInvalid) || !strings.Contains(err.Error(), "spec.pbx.linuxBox.database.timeZone is unknown to the database") {
		t.Errorf("unknown to PostgreSQL: got %v, want ErrInvalid that names the field", err)
	}
}

// The same line may ring twice within a second. Which of the records is which must not depend on
// where the server keeps its rows.
func TestIDsAreTheSameInEachRead(t *testing.T) {
	rows := []string{
		"('2026-01-02 10:00:00', 'PJSIP/10-00000002', 5, 'NO ANSWER', 'k1.1', 'k1')",
		"('2026-01-02 10:00:00', 'PJSIP/10-00000003', 6, 'BUSY', 'k1.1', 'k1')",
		"('2026-01-02 10:00:00', 'PJSIP/10-00000003', 6, 'NO ANSWER', 'k1.1', 'k1')",
		"('2026-01-02 10:00:00', 'PJSIP/10-00000001', 7, 'NO ANSWER', 'k1.2', 'k1')",
	}
	address := database(t, cdr)
	insert := "TRUNCATE cdr; INSERT INTO cdr (calldate, dstchannel, duration, disposition, uniqueid, linkedid) VALUES "
	var first []callhistory.Record
	for range rows {
		rows = append(rows[1:], rows[0])
		if err := postgres.Execute(t.Context(), address, insert+strings.Join(rows, ",")); err != nil {
			t.Fatal(err)
		}
		got := mustRead(t, open(t, address, ""))
		if first == nil {
			first = got
		}
		if diff := cmp.Diff(first, got); diff != "" || len(got) != len(rows) {
			t.Errorf("%d records (-first +this read):\n%s", len(got), diff)
		}
	}
}

func TestColumnsOfManyTypes(t *testing.T) {
	want := callhistory.Record{
		ID: "7/10/2026-01-02T10:00:00Z", CallID: "7", Kind: callhistory.Extension, Extension: "10", Flow: callhistory.In, From: "2025550143",
		To: "10", DID: "2025550100", Start: ten, Answer: at(6), End: at(66.5), TalkSeconds: new(60.5), Result: callhistory.Answered,
		RecordingID: "20260102-100000-2025550143-2025550100",
	}
	address := database(t, "CREATE TYPE outcome AS ENUM ('Answered', 'No answer')")
	for name, query := range map[string]string{
		"texts": `SELECT '7' AS call_id, '2026-01-02 10:00:00' AS started_at, '2025550143' AS caller, '2025550100' AS called, '10' AS line,
			'2026-01-02 10:00:06' AS answered_at, '2026-01-02 10:01:06.5' AS ended_at, '66.5' AS duration_s, '60.5' AS talk_s,
			'ANSWERED' AS result, '20260102-100000-2025550143-2025550100' AS record_name`,
		"numbers, an enumeration, another order, capitals": `SELECT '20260102-100000-2025550143-2025550100'::varchar(80) AS "Record_Name",
			'Answered'::outcome AS result, 60.5::float8 AS talk_s, 66.5::numeric AS duration_s, timestamp '2026-01-02 10:01:06.5' AS ended_at,
			timestamptz '2026-01-02 12:00:06+02' AS answered_at, 10::smallint AS line, 2025550100::bigint AS CALLED,
			'2025550143'::char(20) AS caller, timestamp '2026-01-02 10:00:00' AS started_at, 7 AS call_id, NULL AS more`,
		"the answer follows from the talk, the end from the duration": `SELECT 7 AS call_id, timestamp '2026-01-02 10:00:00' AS started_at,
			'2025550143' AS caller, '2025550100' AS called, '10' AS line, 60.5 AS talk_s, 66.5 AS duration_s, 'answered' AS result,
			NULL::timestamp AS answered_at, NULL AS ended_at, '20260102-100000-2025550143-2025550100' AS record_name;`,
		"the end follows from the talk, the result from the answer": `SELECT 7 AS call_id, timestamp '2026-01-02 10:00:00' AS started_at,
			'2025550143' AS caller, '2025550100' AS called, '10' AS line, 60.5::real AS talk_s, timestamp '2026-01-02 10:00:06' AS answered_at,
			NULL AS result, '20260102-100000-2025550143-2025550100' AS record_name`,
	} {
		if diff := cmp.Diff([]callhistory.Record{want}, mustRead(t, open(t, address, query))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestRowsThatSayLittle(t *testing.T) {
	address := database(t, "")
	row := func(values string) string {
		return `SELECT * FROM (VALUES ` + values + `) AS v (call_id, started_at, caller, called, line, ended_at, result)`
	}
	got := mustRead(t, open(t, address, row(`
		('k1', timestamp '2026-01-02 10:00:00', NULL, NULL, NULL, timestamp '2026-01-02 10:00:05', NULL),
		('k2', '2026-01-02 10:00:00', '10', '2025550143', NULL, '2026-01-02 10:00:05', 'CANCEL'),
		('k3', '2026-01-02 10:00:00', '2025550143', '11', NULL, '2026-01-02 10:00:05', 'no-answer'),
		('k4', '2026-01-02 10:00:00', '10', '11', '11', '2026-01-02 10:00:05', 'MYSTERY'),
		('k5', '2026-01-02 10:00:00', '10', '11', '10', NULL, 'ANSWERED'),
		('k6', '2026-01-02 10:00:00', '10', '11', '10', '2026-01-02 10:00:05', 'Congestion'),
		('k6', '2026-01-02 10:00:00', '10', '11', '10', '2026-01-02 10:00:09', 'busy')`)))
	type brief struct {
		ID        string
		Kind      callhistory.Kind
		Extension string
		Flow      callhistory.Flow
		Result    callhistory.Result
	}
	want := []brief{ // the leg of k5 has not ended
		{"k1//2026-01-02T10:00:00Z", callhistory.IVR, "", callhistory.In, callhistory.Unknown},
		{"k2/10/2026-01-02T10:00:00Z", callhistory.Extension, "10", callhistory.Out, callhistory.Cancelled},
		{"k3/11/2026-01-02T10:00:00Z", callhistory.Extension, "11", callhistory.In, callhistory.NoAnswer},
		{"k4/11/2026-01-02T10:00:00Z", callhistory.Extension, "11", callhistory.In, callhistory.Unknown},
		{"k6/10/2026-01-02T10:00:00Z", callhistory.Extension, "10", callhistory.Out, callhistory.Failed},
		{"k6/10/2026-01-02T10:00:00Z/2", callhistory.Extension, "10", callhistory.Out, callhistory.Busy},
	}
	var short []brief
	for _, r := range got {
		short = append(short, brief{r.ID, r.Kind, r.Extension, r.Flow, r.Result})
	}
	if diff := cmp.Diff(want, short); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestABadRowDoesNotSpoilTheOthers(t *testing.T) {
	address := database(t, "")
	for values, says := range map[string]string{
		"('k9', 'yesterday', '1', '1')":                                           "call k9: column started_at: \"yesterday\" is no time",
		"('k9', NULL, '1', '1')":                                                  "call k9: column started_at: it is null",
		"(NULL, '2026-01-02 10:00:00', '1', '1')":                                 "row 2: column call_id: it is null",
		"('k9', '2026-01-02 10:00:00', 'long', '1')":                              "call k9: column duration_s: \"long\" is no number",
		"('k9', '2026-01-02 10:00:00', '-1', '1')":                                "call k9: column duration_s",
		"('k9', '2026-01-02 10:00:00', 'NaN', '1')":                               "call k9: column duration_s",
		"('k9', '2026-01-02 10:00:00', '1', '00:00:01')":                          "call k9: column talk_s",
		"('k9', '2026-01-02 10:00:00', '5', '20')":                                "call k9: column answered_at",
		"('" + strings.Repeat("k", 101) + "', '2026-01-02 10:00:00', '1', '1')":   "column call_id: ",
		"('k9', 'infinity', '1', '1')":                                            "call k9: column started_at",
		"('k9', '2026-01-02 10:00:00', '" + strings.Repeat("x ", 300) + "', '1')": "call k9: column duration_s: \"x x x",
	} {
		query := `SELECT call_id, started_at, duration_s, talk_s, 'ANSWERED' AS result FROM (VALUES
			('k1', '2026-01-02 10:00:00', '1', '1'), ` + values + `, ('k2', '2026-01-02 10:00:00', '1', '1')) AS v (call_id, started_at, duration_s, talk_s)`
		records, err := read(t, open(t, address, query))
		if !errors.Is(err, pbxapitest.ErrUnusable) || !strings.Contains(err.Error(), "1 records") || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want ErrUnusable that says %q", values, err, says)
		}
		if len(records) != 2 || records[0].CallID != "k1" || records[1].CallID != "k2" {
			t.Errorf("%s: the good ones are %+v", values, records)
		}
	}
}

func TestWrongQueries(t *testing.T) {
	address := database(t, cdr+`; INSERT INTO cdr (calldate) VALUES ('2026-01-02 10:00:00');
		CREATE TABLE hidden (); CREATE SEQUENCE n; DROP ROLE IF EXISTS clerk; CREATE ROLE clerk LOGIN PASSWORD 'clerks-password'; GRANT SELECT ON cdr TO clerk`)
	clerk := server.URL("testwrongqueries", "clerk", "clerks-password")
	const columns = " AS call_id, now() AS started_at"
	tests := map[string]struct {
		query, address string
		want           error
		says           string
	}{
		"unknown column":       {query: "SELECT callid FROM cdr", want: pbxapi.ErrInvalid, says: `database.query: column "callid" does not exist`},
		"unknown table":        {query: "SELECT 1 FROM calls", want: pbxapi.ErrInvalid, says: `relation "calls" does not exist`},
		"no query":             {query: "SELEC 1", want: pbxapi.ErrInvalid, says: "syntax error"},
		"column not returned":  {query: "SELECT uniqueid AS call_id, dst FROM cdr", want: pbxapi.ErrInvalid, says: "returns no column started_at, but call_id, dst"},
		"nothing returned":     {query: "SET search_path = 'x'", want: pbxapi.ErrInvalid, says: "returns no column call_id, but nothing"},
		"fourth parameter":     {query: "SELECT $3::text, $4::text" + columns, want: pbxapi.ErrInvalid, says: "must use $1 and $2"},
		"write":                {query: "DELETE FROM cdr", want: pbxapi.ErrInvalid, says: "must only read: cannot execute DELETE"},
		"write within":         {query: "WITH d AS (DELETE FROM cdr RETURNING 1) SELECT 1" + columns + " FROM d", want: pbxapi.ErrInvalid, says: "must only read"},
		"write, then":          {query: "COMMIT; DELETE FROM cdr", want: pbxapi.ErrInvalid, says: "multiple commands"},
		"write in a block":     {query: "DO $$ BEGIN COMMIT; DELETE FROM cdr; END $$", want: pbxapi.ErrInvalid, says: "database.query"},
		"write after a switch": {query: "WITH s AS MATERIALIZED (SELECT set_config('transaction_read_only', 'off', true)) SELECT nextval('n')" + columns + " FROM s", want: pbxapi.ErrInvalid, says: "read-write mode must be set before any query"},
		"lock":                 {query: "SELECT ''" + columns + " FROM cdr FOR UPDATE", want: pbxapi.ErrInvalid, says: "must only read"},
		"not allowed":          {query: "SELECT 1 FROM hidden", address: clerk, want: pbxapi.ErrForbidden, says: "permission denied for table hidden"},
		"too much at once":     {query: "SELECT repeat('x', 40000000)" + columns, want: pbxapi.ErrInvalid, says: "a row of more than 1 MiB"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.address == "" {
				test.address = address
			}
			records, err := read(t, open(t, test.address, test.query))
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) || len(records) > 0 {
				t.Errorf("got %v and %d records, want %v that says %q", err, len(records), test.want, test.says)
			}
		})
	}
	if got := mustRead(t, open(t, address, "SELECT count(*) AS call_id, now() AS started_at, 1 AS duration_s FROM cdr")); got[0].CallID != "1" {
		t.Errorf("there are %s rows left of 1", got[0].CallID)
	}
}

// A database may hold more than the manager has memory.
func TestRowsAreReadOneByOne(t *testing.T) {
	const rows = 200_000
	query := fmt.Sprintf(`SELECT 'c' || n AS call_id, $1 AS started_at, $2 AS ended_at, repeat('7', 250) AS caller, '10' AS line
		FROM generate_series(1, %d) AS n`, rows)
	history := open(t, database(t, ""), query)
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n, most := 0, uint64(0)
	_, err := history.ReadHistory(t.Context(), pbxapi.HistoryQuery{From: ten, To: at(60)}, func(callhistory.Record) error {
		if n++; n%50_000 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&during)
			most = max(most, during.HeapAlloc)
		}
		return nil
	})
	if err != nil || n != rows {
		t.Errorf("%d rows, %v", n, err)
	}
	const limit = 40 << 20 // the rows have 60 MB
	if most > before.HeapAlloc+limit {
		t.Errorf("%d MiB are held while they are read", (most-before.HeapAlloc)>>20)
	}
}

func TestAReadStopsWhereItsReaderDoes(t *testing.T) {
	history := open(t, database(t, ""), "SELECT n AS call_id, $1 AS started_at, $2 AS ended_at FROM generate_series(1, 1000) AS n")
	full, n := errors.New("full"), 0
	_, err := history.ReadHistory(t.Context(), pbxapi.HistoryQuery{From: ten, To: at(60)}, func(callhistory.Record) error {
		if n++; n == 3 {
			return full
		}
		return nil
	})
	if !errors.Is(err, full) || n != 3 {
		t.Errorf("%d records, %v", n, err)
	}
}

func TestPartsOfADay(t *testing.T) {
	history := open(t, database(t, cdr+`; INSERT INTO cdr (calldate, dstchannel, disposition, uniqueid)
		SELECT timestamp '2026-01-02 10:00:00' + n * interval '1 minute', 'SIP/10-00000001', 'NO ANSWER', 'k' || n FROM generate_series(0, 1499) AS n`), "")
	query, pages, calls := pbxapi.HistoryQuery{From: ten, To: ten.Add(24 * time.Hour)}, 0, map[string]int{}
	for {
		page, err := history.ReadHistory(t.Context(), query, func(r callhistory.Record) error { calls[r.CallID]++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		pages++
		if query.Cursor = page.Next; query.Cursor == "" {
			break
		}
	}
	if len(calls) != 1440 || pages != 8 {
		t.Errorf("%d calls in %d pages, want 1440 in 8", len(calls), pages)
	}
	for call, n := range calls {
		if n != 1 {
			t.Errorf("%s comes %d times", call, n)
		}
	}
}

// What the receiver has is not read again; of a call that went on, all legs count.
func TestOnlyNewRowsAreRead(t *testing.T) {
	address := database(t, cdr+`; INSERT INTO cdr (calldate, dstchannel, duration, disposition, uniqueid, linkedid) VALUES
		('2026-01-02 10:00:00', 'SIP/10-00000001', 5, 'NO ANSWER', 'old', 'old'),
		('2026-01-02 10:00:00', 'SIP/10-00000002', 5, 'NO ANSWER', 'on', 'on'),
		('2026-01-02 10:00:05', 'SIP/11-00000003', 60, 'ANSWERED', 'on2', 'on'),
		('2026-01-02 10:00:30', 'SIP/10-00000004', 5, 'NO ANSWER', 'new', 'new')`)
	own := `SELECT uniqueid AS call_id, calldate AS started_at, duration AS duration_s FROM cdr WHERE calldate >= $1 AND calldate < $2 ORDER BY calldate, uniqueid`
	for query, want := range map[string]string{
		"": "on on new", own: "on2 new", strings.Replace(own, "$2", "$2 AND uniqueid <> 'old' AND $3 < $2", 1): "on on2 new",
	} {
		var got []string
		q := pbxapi.HistoryQuery{From: ten, To: at(60), EndedFrom: at(30)}
		_, err := open(t, address, query).ReadHistory(t.Context(), q, func(r callhistory.Record) error {
			got = append(got, r.CallID)
			return nil
		})
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: got %v, %v; want %s", query, got, err, want)
		}
	}
}

func TestALongQueryIsCutShort(t *testing.T) {
	address := database(t, "")
	got := mustRead(t, open(t, address, "SELECT current_setting('statement_timeout') AS call_id, now() AS started_at, 1 AS duration_s"))
	if got[0].CallID != "30s" {
		t.Errorf("the time-out is %s", got[0].CallID)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	history := open(t, address, "SELECT pg_sleep(20), 1 AS call_id, now() AS started_at")
	var group sync.WaitGroup
	for range 5 { // more than may be at work at a time
		group.Go(func() {
			if _, err := pbxapitest.History(ctx, history, ten, at(60)); !errors.Is(err, pbxapi.ErrUnreachable) || !strings.Contains(err.Error(), "in time") {
				t.Errorf("got %v, want no answer in time", err)
			}
		})
	}
	group.Wait()
	cancelled, stop := context.WithCancel(t.Context())
	stop()
	if _, err := pbxapitest.History(cancelled, history, ten, at(60)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want to be told of the cancellation", err)
	}
}

func TestFewConnectionsAndNoneLeftOpen(t *testing.T) {
	address := database(t, "")
	others := `SELECT count(*) AS call_id, now() AS started_at, 1 AS duration_s FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND pg_sleep(0.01) IS NOT NULL`
	history := open(t, address, others)
	count := func() int {
		n, err := strconv.Atoi(mustRead(t, history)[0].CallID)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	var group sync.WaitGroup
	for range 30 {
		group.Go(func() {
			if n := count(); n > 10 { // the other one, and some that are just leaving
				t.Errorf("%d connections beside this one", n)
			}
		})
	}
	group.Wait()
	for deadline := time.Now().Add(10 * time.Second); count() > 0; {
		if time.Now().After(deadline) {
			t.Fatal("connections stay open")
		}
	}
}

func TestTroubleWithTheDatabase(t *testing.T) {
	database(t, "DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN PASSWORD 'correct horse'")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() { // hangs up on everybody
		for connection, err := listener.Accept(); err == nil; connection, err = listener.Accept() {
			connection.Close()
		}
	}()
	tests := map[string]struct {
		address string
		want    error
		says    string
	}{
		"wrong password":   {server.URL("testtroublewiththedatabase", "reader", "hunter2"), pbxapi.ErrUnauthorized, "check user and password in the key url of the Secret box-database"},
		"unknown user":     {server.URL("testtroublewiththedatabase", "hunter2", "hunter2"), pbxapi.ErrUnauthorized, "check user and password"},
		"unknown database": {server.URL("hunter2", "reader", "correct horse"), pbxapi.ErrInvalid, "names a database that does not exist"},
		"unknown host":     {"postgres://reader:hunter2@hunter2.invalid/x", pbxapi.ErrUnreachable, "host cannot be resolved"},
		"nobody listens":   {"postgres://reader:hunter2@127.0.0.1:1/x", pbxapi.ErrUnreachable, "connection refused"},
		"no PostgreSQL":    {"postgres://reader:hunter2@" + listener.Addr().String() + "/x", pbxapi.ErrUnreachable, "the database: "},
		"no TLS":           {strings.Replace(server.URL("x", "reader", "hunter2"), "disable", "require", 1), pbxapi.ErrUnreachable, "refused TLS"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := read(t, open(t, test.address, ""))
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %v that says %q", err, test.want, test.says)
			}
			if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "hunter2") {
				t.Errorf("the error gives the address away: %#v", err)
			}
		})
	}
}

func TestUnusableAddresses(t *testing.T) {
	for address, says := range map[string]string{
		"":                                      "is no URL that begins with postgres://",
		"host=pbx.example.com password=hunter2": "is no URL that begins with postgres://",
		"mysql://u:hunter2@pbx.example.com/x":   "is no URL that begins with postgres://",
		"postgres://u:hunter2@pbx.example.com:many/x":                 "is no usable address",
		"postgres://u:hunter2%zz@pbx.example.com/x":                   "is no usable address",
		"postgres://u:hunter2@pbx.example.com/x?sslmode=perhaps":      "is no usable address",
		"postgres://u:hunter2@pbx.example.com/x?sslrootcert=/etc/x":   `has the parameter "sslrootcert"`,
		"postgres://u:hunter2@pbx.example.com/x?passfile=/etc/passwd": `has the parameter "passfile"`,
		"postgres://u:hunter2@pbx.example.com/x?servicefile=/etc/x":   `has the parameter "servicefile"`,
		"postgres:///x?password=hunter2":                              "names no host",
		"postgres://u:hunter2@/x?host=/var/run/postgresql":            "names no host",
		"postgres://u:hunter2@%2Fvar%2Frun/x":                         "names no host",
		"postgres://u:hunter2@pbx.example.com,%2Fvar%2Frun/x":         "names no host",
	} {
		_, err := linuxbox.NewHistory(address, configured(""), nil)
		if !errors.Is(err, pbxapi.ErrInvalid) || !strings.Contains(err.Error(), says) || strings.Contains(fmt.Sprintf("%+v %#v", err, err), "hunter2") {
			t.Errorf("%s: got %v, want ErrInvalid that says %q", address, err, says)
		}
	}
}

func TestHistoryOfAPBX(t *testing.T) {
	address := database(t, cdr+`; INSERT INTO cdr (calldate, dstchannel, disposition, uniqueid)
		VALUES ('2026-01-02 10:00:00', 'SIP/10-00000001', 'NO ANSWER', 'k1')`)
	with := settings("")
	with.PBX.LinuxBox.Database = new(configured(""))
	with.Credentials[pbxapi.KeyDatabaseURL] = []byte(address + "\n")
	records, err := pbxapitest.History(t.Context(), connect(t, with), ten, at(60))
	if err != nil || len(records) != 1 || records[0].CallID != "k1" {
		t.Errorf("got %+v, %v", records, err)
	}
	with.Turn = func(context.Context) error { return &pbxapi.RateLimitedError{After: time.Second} }
	if _, err := pbxapitest.History(t.Context(), connect(t, with), ten, at(60)); !pbxapi.NotSent(err) {
		t.Errorf("the rate limit is passed by: %v", err)
	}
}

func TestCheckOfADatabase(t *testing.T) {
	address := database(t, "")
	name := strings.ToLower(t.Name())
	tests := map[string]struct {
		address string
		want    error
		says    string
	}{
		"lets us in":       {address: address},
		"wrong password":   {server.URL(name, "nobody", "hunter2"), pbxapi.ErrUnauthorized, "check user and password in the key url of the Secret box-database"},
		"unknown database": {server.URL("hunter2", "postgres", ""), pbxapi.ErrInvalid, "names a database that does not exist"},
		"nobody listens":   {"postgres://reader:hunter2@127.0.0.1:1/x", pbxapi.ErrUnreachable, "connection refused"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			with := settings("")
			with.PBX.LinuxBox.Database = new(configured("SELECT nothing")) // it is not run
			with.Credentials[pbxapi.KeyDatabaseURL] = []byte(test.address)
			err := connect(t, with).Check(t.Context())
			text := fmt.Sprint(err)
			if !errors.Is(err, test.want) || !strings.Contains(text, test.says) || strings.Contains(text, "hunter2") {
				t.Errorf("got %v, want %v that says %q", err, test.want, test.says)
			}
			if err != nil && !strings.Contains(text, "cannot check the PBX") {
				t.Errorf("it does not say what was tried: %v", err)
			}
			with.Turn = func(context.Context) error { return &pbxapi.RateLimitedError{After: time.Second} }
			if err := connect(t, with).Check(t.Context()); !pbxapi.NotSent(err) {
				t.Errorf("the rate limit is passed by: %v", err)
			}
		})
	}
}

// What the database says of itself in a check concerns nothing else.
func TestARefusedCheckOfADatabaseStopsNothingElse(t *testing.T) {
	pool := pbxapi.NewPool(map[v1alpha1.PBXType]pbxapi.Factory{v1alpha1.PBXTypeLinuxBox: linuxbox.New}, pbxapi.Options{})
	s := settings("")
	s.PBX.LinuxBox.Database = new(configured(""))
	s.PBX.LinuxBox.RecordingURL = "https://rec.example.com/{record_name}.wav"
	s.Credentials[pbxapi.KeyDatabaseURL] = []byte(server.URL("postgres", "nobody", "hunter2"))
	box, err := pool.Client(&v1alpha1.PBXIntegration{Spec: v1alpha1.PBXIntegrationSpec{PBX: s.PBX}}, s.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	if err := box.Check(t.Context()); !errors.Is(err, pbxapi.ErrUnauthorized) {
		t.Errorf("check: %v", err)
	}
	if got, err := box.RecordingURL(t.Context(), "r1"); err != nil || got != "https://rec.example.com/r1.wav" {
		t.Errorf("recording: %s, %v", got, err)
	}
	if err := box.Hangup(t.Context(), pbxapi.Hangup{Extension: line("10")}); !errors.Is(err, pbxapi.ErrNotSupported) {
		t.Errorf("hang up: %v", err)
	}
}

// A database that refuses its credentials stops no commands, and the other way round.
func TestCommandsAndHistoryFailEachForItself(t *testing.T) {
	address := database(t, cdr)
	pbx := simtest.Start(t, sim.Config{PBX: "linuxbox", LinuxBox: simlinuxbox.Settings{RequireAuth: true}})
	pool := pbxapi.NewPool(map[v1alpha1.PBXType]pbxapi.Factory{v1alpha1.PBXTypeLinuxBox: linuxbox.New}, pbxapi.Options{})
	client := func(password, database string) *pbxapi.Client {
		t.Helper()
		s := withSecret(settings(pbx.URL), "username", pbx.ClientID, "password", password)
		s.PBX.LinuxBox.Database = new(configured(""))
		s.Credentials[pbxapi.KeyDatabaseURL] = []byte(database)
		c, err := pool.Client(&v1alpha1.PBXIntegration{Spec: v1alpha1.PBXIntegrationSpec{PBX: s.PBX}}, s.Credentials)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	box := client(pbx.ClientSecret, server.URL("postgres", "nobody", "hunter2"))
	if err := box.Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
	for range 2 {
		if _, err := pbxapitest.History(t.Context(), box, ten, at(60)); !errors.Is(err, pbxapi.ErrUnauthorized) {
			t.Errorf("history: %v", err)
		}
		if err := box.Hangup(t.Context(), pbxapi.Hangup{Extension: line("10")}); !errors.Is(err, pbxapi.ErrNotFound) {
			t.Errorf("hang up: %v", err)
		}
	}
	box = client("hunter2", address)
	for range 2 {
		if err := box.Hangup(t.Context(), pbxapi.Hangup{Extension: line("10")}); !errors.Is(err, pbxapi.ErrUnauthorized) {
			t.Errorf("hang up: %v", err)
		}
		if _, err := pbxapitest.History(t.Context(), box, ten, at(60)); err != nil {
			t.Errorf("history: %v", err)
		}
	}
	if n := routes(t, pbx)[simclient.LinuxBoxHangupRoute].Statuses[401]; n != 1 {
		t.Errorf("refused credentials were tried %d times", n)
	}
}
