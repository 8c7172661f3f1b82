package linuxbox

import "strings"

// cdrQuery reads Asterisk's call detail records, as its modules cdr_pgsql and cdr_adaptive_odbc
// write them, from the table cdr. The call_id of events looks like Asterisk's unique ids and is
// shared by all of a call, as linkedid is; for a row without it, it is uniqueid. A calldate without
// a time zone is in that of the session. It gets it before durations are added, which may lead over
// a change of summer time.
//
// A row has a channel for each side. Those that are named after a line, such as PJSIP/10-0000002a,
// make a leg of that line: the calling one, the called one, or both in a call between two lines. A
// row with neither tells of the PBX itself, or of an outside number to which it sent the call. A
// disposition of NO ANSWER may be a caller who gave up; Asterisk does not tell. There is no
// standard column for the name of a recording. Calls of which no leg ended at $3 or later are left
// out: what the receiver has is not read again. {line:…} is replaced by a condition. The order is
// total, and a call comes as a whole, because ids of records of the same call, line and start
// depend on it.
const cdrQuery = `WITH calls AS (
  SELECT coalesce(nullif(linkedid, ''), uniqueid) AS call_id
  FROM cdr
  WHERE calldate >= $1::timestamptz - interval '4 hours' AND calldate < $2
  GROUP BY 1
  HAVING min(calldate) >= $1 AND max(calldate::timestamptz + duration * interval '1 second') >= $3
), sides AS (
  SELECT calls.call_id, cdr.calldate::timestamptz AS calldate, cdr.src, cdr.dst, cdr.duration, cdr.billsec, cdr.disposition, cdr.uniqueid,
    cdr.channel, cdr.dstchannel,
    regexp_replace(split_part(split_part(channel, '/', 2), '@', 1), '-[0-9a-f]+(;[12])?$', '') AS calling,
    regexp_replace(split_part(split_part(dstchannel, '/', 2), '@', 1), '-[0-9a-f]+(;[12])?$', '') AS called
  FROM cdr JOIN calls ON calls.call_id = coalesce(nullif(cdr.linkedid, ''), cdr.uniqueid)
  WHERE calldate >= $1 AND calldate < $2::timestamptz + interval '4 hours'
)
SELECT call_id, calldate AS started_at, CASE WHEN {line:calling} THEN calling ELSE src END AS caller, dst AS called, legs.line,
  calldate + duration * interval '1 second' AS ended_at, duration AS duration_s,
  CASE WHEN upper(disposition) = 'ANSWERED' THEN billsec END AS talk_s, disposition AS result,
  legs.line IS NULL AND dstchannel <> '' AS outside
FROM sides CROSS JOIN LATERAL (
  SELECT calling AS line WHERE {line:calling}
  UNION SELECT called WHERE {line:called}
  UNION SELECT NULL WHERE coalesce(NOT {line:calling}, true) AND coalesce(NOT {line:called}, true)
) AS legs
ORDER BY started_at, call_id, line, uniqueid, channel, dstchannel, disposition, duration, billsec, src, dst`

// defaultQuery knows the lines of the PBX; without any, they are all numbers of at most four
// digits.
func defaultQuery(own []string) string {
	condition := func(column string) string { return "(" + column + " ~ '^[0-9]{1,4}$')" }
	if len(own) > 0 {
		quoted := make([]string, len(own))
		for i, line := range own {
			quoted[i] = literal(line)
		}
		list := strings.Join(quoted, ", ")
		condition = func(column string) string { return "(" + column + " IN (" + list + "))" }
	}
	return strings.NewReplacer("{line:calling}", condition("calling"), "{line:called}", condition("called")).Replace(cdrQuery)
}

// literal is text in SQL.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
