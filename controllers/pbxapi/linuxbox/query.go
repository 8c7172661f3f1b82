package linuxbox

import "strings"

// cdrQuery reads Asterisk's call detail records, as its modules cdr_pgsql and cdr_adaptive_odbc write them, from the table cdr. The call_id
// of events looks like Asterisk's unique ids and is shared by all of a call, as linkedid is; for a row without it, it is uniqueid. A calldate
// without a time zone is taken as UTC: where it is local time, a query of one's own says calldate AT TIME ZONE 'Europe/Prague'.
//
// A row has a channel for each side. Those that are named after a line, such as PJSIP/10-0000002a, make a leg of that line: the calling one,
// the called one, or both in a call between two lines. A row with neither tells of the PBX itself, or of an outside number to which it sent
// the call. A disposition of NO ANSWER may be a caller who gave up; Asterisk does not tell. There is no standard column for the name of a
// recording. {line:…} is replaced by a condition.
const cdrQuery = `WITH calls AS (
  SELECT coalesce(nullif(linkedid, ''), uniqueid) AS call_id
  FROM cdr
  WHERE calldate >= $1::timestamptz - interval '4 hours' AND calldate < $2
  GROUP BY 1
  HAVING min(calldate) >= $1
), sides AS (
  SELECT calls.call_id, cdr.calldate, cdr.src, cdr.dst, cdr.duration, cdr.billsec, cdr.disposition, cdr.dstchannel,
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
ORDER BY started_at, call_id, line`

// defaultQuery knows the lines of the PBX; without any, they are all numbers of at most four digits.
func defaultQuery(own []string) string {
	condition := func(column string) string { return "(" + column + " ~ '^[0-9]{1,4}$')" }
	if len(own) > 0 {
		quoted := make([]string, len(own))
		for i, line := range own {
			quoted[i] = "'" + strings.ReplaceAll(line, "'", "''") + "'"
		}
		list := strings.Join(quoted, ", ")
		condition = func(column string) string { return "(" + column + " IN (" + list + "))" }
	}
	return strings.NewReplacer("{line:calling}", condition("calling"), "{line:called}", condition("called")).Replace(cdrQuery)
}
