package linuxbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

const (
	historyOp = "read the call history"
	zoneField = "spec.pbx.linuxBox.database.timeZone"

	connectTimeout = 10 * time.Second
	queryTimeout   = 30 * time.Second
	// readTimeout bounds everything together.
	readTimeout = time.Minute
	// mostConnections is how many reads go on at the same time.
	mostConnections = 2
	// largestRow bounds one row, in bytes.
	largestRow = 1 << 20
)

// begin makes the transaction in which the configured query runs. The time zone is set apart.
var begin = fmt.Sprintf("BEGIN READ ONLY; SET LOCAL statement_timeout = %d; SET LOCAL datestyle = 'ISO'; "+
	"SET LOCAL client_encoding = 'UTF8'", queryTimeout.Milliseconds())

// allowedKeys are the parameters that the address of a database may have. Those that name files are
// left out: they would be the manager's.
var allowedKeys = []string{
	"host", "port", "user", "password", "dbname", "ssl", "sslmode", "sslnegotiation", "sslsni", "channel_binding", "require_auth",
	"connect_timeout", "application_name", "target_session_attrs", "options", "search_path",
}

// History reads call records from the PBX's PostgreSQL database. It is safe for concurrent use. A
// read takes a connection of its own and leaves none open, so that there is nothing to close.
type History struct {
	config *pgconn.Config
	query  string
	// takesEnd tells that the query uses $3.
	takesEnd bool
	lines    lines
	// zone is that of times that have none.
	zone *time.Location
	// secret is the name of the one with the address, which is address itself.
	secret, address string
	slots           chan struct{}
}

var _ pbxapi.Historian = (*History)(nil)

// NewHistory makes the access to the database at an address such as
// postgres://reader:secret@pbx.example.com/asterisk?sslmode=require, without connecting to it. Own
// are the lines of the PBX; without any, numbers of at most four digits are. It returns ErrInvalid
// for an address that cannot be used, and for a time zone that nobody knows.
func NewHistory(address string, database v1alpha1.LinuxBoxDatabase, own []string) (*History, error) {
	secret := database.CredentialsSecretRef.Name
	invalid := func(problem string) error {
		return pbxapi.NewError(pbxapi.ErrInvalid, connectOp, fmt.Sprintf("the key url of the Secret %s %s", secret, problem))
	}
	if !strings.HasPrefix(address, "postgres://") && !strings.HasPrefix(address, "postgresql://") {
		return nil, invalid("is no URL that begins with postgres://")
	}
	config, err := pgconn.ParseConfigWithOptions(address, pgconn.ParseConfigOptions{ConnStringAllowedKeys: allowedKeys})
	if err != nil { // what it says may hold the password
		return nil, invalid(addressProblem(address))
	}
	if noHost(config) {
		return nil, invalid("names no host")
	}
	zone, err := pbxapi.TimeZone(zoneField, database.TimeZone)
	if err != nil {
		return nil, err
	}
	if config.ConnectTimeout <= 0 || config.ConnectTimeout > connectTimeout {
		config.ConnectTimeout = connectTimeout
		config.DialFunc = (&net.Dialer{Timeout: connectTimeout}).DialContext
	}
	query := cmp.Or(database.Query, defaultQuery(own))
	return &History{
		config: config, query: query, takesEnd: strings.Contains(query, "$3"), lines: linesOf(own), zone: zone,
		secret: secret, address: address, slots: make(chan struct{}, mostConnections),
	}, nil
}

// addressProblem says what is wrong with an address.
func addressProblem(address string) string {
	if parsed, err := url.Parse(address); err == nil {
		for key := range parsed.Query() {
			if !slices.Contains(allowedKeys, key) {
				return fmt.Sprintf("has the parameter %q, which cannot be used here", key)
			}
		}
	}
	return "is no usable address of a database"
}

// noHost reports whether a host is missing, or is a socket of this machine.
func noHost(config *pgconn.Config) bool {
	if config.Host == "" || strings.HasPrefix(config.Host, "/") {
		return true
	}
	for _, other := range config.Fallbacks {
		if other.Host == "" || strings.HasPrefix(other.Host, "/") {
			return true
		}
	}
	return false
}

// ReadHistory runs the configured query in a transaction that can change nothing, and hands on one
// row after the other: no more than one of them is in memory. Legs that have not ended, as far as
// the row tells, are left to a later read.
//
// A page is the calls that began within three hours. A query that uses $3 leaves out itself what is
// known when all that ended before query.EndedFrom is, and is read in one page.
func (h *History) ReadHistory(
	ctx context.Context, query pbxapi.HistoryQuery, yield func(callhistory.Record) error,
) (page pbxapi.HistoryPage, err error) {
	from, to, err := h.part(query)
	if err != nil {
		return page, err
	}
	var refused error
	err = h.transaction(ctx, historyOp, func(ctx context.Context, connection *pgconn.PgConn) error {
		page.Unusable, err = h.read(ctx, connection, h.parameters(from, to, query.EndedFrom), func(record callhistory.Record) error {
			if h.takesEnd || !record.End.Before(query.EndedFrom) {
				refused = yield(record)
			}
			return refused
		})
		return err
	})
	if refused != nil {
		return page, refused
	}
	if err == nil && to.Before(query.To) {
		page.Next = to.UTC().Format(time.RFC3339Nano)
	}
	return page, err
}

// longestPart is how much is asked for at once.
const longestPart = 3 * time.Hour

// part is the time that a page is about. A cursor is the time at which it begins.
func (h *History) part(query pbxapi.HistoryQuery) (from, to time.Time, err error) {
	from, to = query.From, query.To
	if query.Cursor != "" {
		if from, err = time.Parse(time.RFC3339Nano, query.Cursor); err != nil {
			return from, to, pbxapi.NewError(pbxapi.ErrInvalid, historyOp, "the position in the history cannot be read")
		}
	}
	selective := h.takesEnd && !query.EndedFrom.IsZero()
	if end := from.Add(longestPart); end.Before(to) && !selective {
		to = end
	}
	return from, to, nil
}

// parameters are those that the query uses.
func (h *History) parameters(from, to, ended time.Time) [][]byte {
	parameters := [][]byte{timestamp(from), timestamp(to)}
	if !h.takesEnd {
		return parameters
	}
	if ended.IsZero() {
		return append(parameters, []byte("-infinity"))
	}
	return append(parameters, timestamp(ended))
}

// Check reports whether the database lets the operator in and knows the time zone. The configured
// query is not run. It returns ErrUnauthorized for a refused login, ErrInvalid for a database or a
// time zone that the server does not have, and ErrUnreachable without a usable answer.
func (h *History) Check(ctx context.Context) error {
	return h.transaction(ctx, checkOp, func(ctx context.Context, connection *pgconn.PgConn) error {
		_, err := connection.Exec(ctx, "SELECT 1").ReadAll()
		return err
	})
}

// transaction reads on a connection of its own, and makes errors of package pbxapi.
func (h *History) transaction(ctx context.Context, op string, read func(context.Context, *pgconn.PgConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return pbxapi.TransportError(op, ctx.Err())
	}
	connection, err := pgconn.ConnectConfig(ctx, h.config)
	if err != nil {
		return h.failure(op, err)
	}
	defer func() { _ = connection.Close(ctx) }() // which is the end of the transaction
	connection.Frontend().SetMaxBodyLen(largestRow)
	if _, err := connection.Exec(ctx, begin).ReadAll(); err != nil {
		return h.failure(op, err)
	}
	if err := h.setTimeZone(ctx, op, connection); err != nil {
		return h.failure(op, err)
	}
	if err := read(ctx, connection); err != nil {
		return h.failure(op, err)
	}
	return nil
}

// setTimeZone is for comparisons of times without a zone with $1 and $2. The server has time zones
// of its own, and may not know a new one.
func (h *History) setTimeZone(ctx context.Context, op string, connection *pgconn.PgConn) error {
	const unknown = "22023"
	_, err := connection.Exec(ctx, "SET LOCAL timezone = "+literal(h.zone.String())).ReadAll()
	if refusal, ok := errors.AsType[*pgconn.PgError](err); ok && refusal.Code == unknown {
		return pbxapi.NewError(pbxapi.ErrInvalid, op, zoneField+" is unknown to the database: "+h.hide(refusal.Message))
	}
	return err
}

// read hands on the records of the rows.
func (h *History) read(
	ctx context.Context, connection *pgconn.PgConn, parameters [][]byte, yield func(callhistory.Record) error,
) (pbxapi.Unusable, error) {
	// The types are said, so that the query need not: a column without a time zone would make $1
	// one without.
	types := slices.Repeat([]uint32{pgtype.TimestamptzOID}, len(parameters))
	result := connection.ExecParams(ctx, h.query, parameters, types, nil, nil)
	var rows *reader
	for result.NextRow() {
		if rows == nil {
			var err error
			if rows, err = newReader(h.lines, columnsOf(result), h.zone); err != nil {
				return pbxapi.Unusable{}, err
			}
		}
		if record, ok := rows.read(result.Values()); ok {
			if err := yield(record); err != nil {
				return rows.unusable, err
			}
		}
	}
	columns := columnsOf(result)
	if _, err := result.Close(); err != nil {
		return pbxapi.Unusable{}, err
	}
	if rows == nil {
		_, err := newReader(h.lines, columns, h.zone)
		return pbxapi.Unusable{}, err
	}
	return rows.unusable, nil
}

func columnsOf(result *pgconn.ResultReader) []string {
	fields := result.FieldDescriptions()
	columns := make([]string, 0, len(fields))
	for _, field := range fields {
		columns = append(columns, strings.ToLower(field.Name))
	}
	return columns
}

var errTooLarge = pbxapi.NewError(pbxapi.ErrInvalid, historyOp,
	"spec.pbx.linuxBox.database.query returns a row of more than 1 MiB")

func timestamp(t time.Time) []byte {
	return t.UTC().AppendFormat(nil, "2006-01-02 15:04:05.999999Z07:00")
}

// failure makes an error of package pbxapi. The driver's own texts hold the address, and are used
// only for their innermost reason.
func (h *History) failure(op string, err error) error {
	if own, ok := errors.AsType[*pbxapi.Error](err); ok {
		return own
	}
	if refusal, ok := errors.AsType[*pgconn.PgError](err); ok {
		return h.refused(op, refusal)
	}
	if _, ok := errors.AsType[*pgproto3.ExceededMaxBodyLenErr](err); ok {
		return errTooLarge
	}
	if errors.Is(err, context.Canceled) {
		return pbxapi.TransportError(op, context.Canceled)
	}
	reason := "the database: " + h.hide(innermost(err).Error())
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		reason = "the name of the database's host cannot be resolved"
	}
	if pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded) {
		reason = "no answer from the database in time"
	}
	return pbxapi.NewError(pbxapi.ErrUnreachable, op, reason)
}

// refused is what the server said. Its codes are those of PostgreSQL: Appendix A, Error Codes.
func (h *History) refused(op string, refusal *pgconn.PgError) error {
	const (
		badAuthorization  = "28"
		noConnection      = "08"
		noResources       = "53"
		intervention      = "57"
		systemError       = "58"
		missingPrivilege  = "42501"
		missingDatabase   = "3D000"
		readOnly          = "25006"
		statementCanceled = "57014"
		wrongParameters   = "08P01"
	)
	message := h.hide(refusal.Message)
	kind, detail := pbxapi.ErrInvalid, "spec.pbx.linuxBox.database.query: "+message
	switch refusal.Code {
	case missingPrivilege:
		kind, detail = pbxapi.ErrForbidden, "the database: "+message
	case missingDatabase:
		detail = "the key url of the Secret " + h.secret + " names a database that does not exist"
	case readOnly:
		detail = "spec.pbx.linuxBox.database.query must only read: " + message
	case wrongParameters:
		detail = "spec.pbx.linuxBox.database.query must use $1 and $2: " + message
	case statementCanceled:
		kind, detail = pbxapi.ErrUnreachable, fmt.Sprintf("spec.pbx.linuxBox.database.query takes longer than %s", queryTimeout)
	default:
		switch class := refusal.Code[:min(2, len(refusal.Code))]; class {
		case badAuthorization:
			kind, detail = pbxapi.ErrUnauthorized, "the database: check user and password in the key url of the Secret "+h.secret
		case noConnection, noResources, intervention, systemError:
			kind, detail = pbxapi.ErrUnreachable, "the database: "+message
		}
	}
	return pbxapi.NewError(kind, op, detail)
}

func (h *History) hide(text string) string { return hide(text, h.address, h.config.Password) }

// innermost is the reason that all the others wrap.
func innermost(err error) error {
	for {
		var next error
		switch wrapped := err.(type) { //nolint:errorlint // this is the unwrapping
		case interface{ Unwrap() error }:
			next = wrapped.Unwrap()
		case interface{ Unwrap() []error }:
			if all := wrapped.Unwrap(); len(all) > 0 {
				next = all[len(all)-1]
			}
		}
		if next == nil {
			return err
		}
		err = next
	}
}
