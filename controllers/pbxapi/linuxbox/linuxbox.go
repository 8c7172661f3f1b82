// Package linuxbox speaks to the LinuxBox.cz PBX: the commands dial and hangup of "PBX API", and
// the PostgreSQL database that the vendor can open. There is no management API: nothing can be
// listed or registered.
//
// The documents say nothing of answers and authentication. A command is taken as accepted when it
// is answered 2xx, as refused for good with 4xx, and as unknown in its outcome with anything else.
package linuxbox

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

// The keys of the credentials Secret: basic authentication, or a header of any name.
const (
	keyUsername = "username"
	keyPassword = "password"
	keyHeader   = "header"
	keyValue    = "value"
)

const (
	connectOp = "connect to the PBX"
	checkOp   = "check the PBX"
)

// API is the access to one PBX. Its calls return the errors of package pbxapi.
type API struct {
	// base is the URL that commands are appended to; empty without commands.
	base        string
	credentials credentials
	// sendReference says that the PBX takes custom_call_id.
	sendReference bool
	recordings    string
	http          *http.Client
	timeout       time.Duration
	turn          func(context.Context) error
	// database is nil where none is read.
	database *History
}

var (
	_ pbxapi.API               = (*API)(nil)
	_ pbxapi.Commander         = (*API)(nil)
	_ pbxapi.Recordings        = (*API)(nil)
	_ pbxapi.DatabaseHistorian = (*API)(nil)
)

// New makes the access to a PBX. It returns ErrInvalid when a URL is no URL, a time zone none, or a
// Secret lacks its keys.
func New(settings pbxapi.Settings) (pbxapi.API, error) {
	box := settings.PBX.LinuxBox
	if box == nil {
		return nil, pbxapi.NewError(pbxapi.ErrInvalid, connectOp, "spec.pbx.linuxBox is missing")
	}
	a := &API{
		sendReference: box.CustomCallID == v1alpha1.CustomCallIDAlways,
		recordings:    box.RecordingURL,
		http:          settings.HTTP,
		timeout:       settings.Timeout,
		turn:          settings.Turn,
	}
	var err error
	if a.base, err = baseOf(box.URL); err != nil {
		return nil, err
	}
	if box.CredentialsSecretRef != nil {
		if a.credentials, err = readCredentials(box.CredentialsSecretRef.Name, settings.Credentials); err != nil {
			return nil, err
		}
	}
	if box.Database != nil {
		address := string(bytes.TrimSpace(settings.Credentials[pbxapi.KeyDatabaseURL]))
		if a.database, err = NewHistory(address, *box.Database, box.Lines); err != nil {
			return nil, err
		}
		if err := a.database.trust(settings.Credentials[pbxapi.KeyCABundle]); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// baseOf leaves out what a URL may have beside scheme, host and path.
func baseOf(address string) (string, error) {
	if address == "" {
		return "", nil
	}
	host, err := url.Parse(address)
	if err != nil || host.Host == "" {
		return "", pbxapi.NewError(pbxapi.ErrInvalid, connectOp, "spec.pbx.linuxBox.url is no URL with a host")
	}
	return host.Scheme + "://" + host.Host + strings.TrimRight(host.EscapedPath(), "/"), nil
}

// credentials go with every request. The zero value is none.
type credentials struct {
	secret             string
	username, password string
	header, value      string
}

func readCredentials(secret string, data map[string][]byte) (credentials, error) {
	text := func(key string) string { return string(bytes.TrimSpace(data[key])) }
	c := credentials{
		secret: secret, username: text(keyUsername), password: text(keyPassword), header: text(keyHeader), value: text(keyValue),
	}
	problem := ""
	switch {
	case c.username != "" && c.password != "":
		c.header, c.value = "", ""
	case c.header == "" || c.value == "":
		problem = "has neither username and password nor header and value"
	case !httpguts.ValidHeaderFieldName(c.header):
		problem = "has no name of an HTTP header in the key header"
	case !httpguts.ValidHeaderFieldValue(c.value):
		problem = "has something in the key value that an HTTP header cannot carry"
	default:
		c.username, c.password = "", ""
	}
	if problem != "" {
		return credentials{}, pbxapi.NewError(pbxapi.ErrInvalid, connectOp, fmt.Sprintf("the Secret %s %s", secret, problem))
	}
	return c, nil
}

func (c credentials) authorize(request *http.Request) {
	switch {
	case c.header != "":
		request.Header.Set(c.header, c.value)
	case c.username != "":
		request.SetBasicAuth(c.username, c.password)
	}
}

// hide takes the secret out of what the PBX says.
func (c credentials) hide(text string) string { return hide(text, c.password, c.value) }

func hide(text string, secrets ...string) string {
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "(…)")
		}
	}
	return text
}

// advice says what to do about refused credentials.
func (c credentials) advice() string {
	if c.secret == "" {
		return "set spec.pbx.linuxBox.credentialsSecretRef"
	}
	return "check the Secret " + c.secret
}

// Extensions returns ErrNotSupported.
func (a *API) Extensions(context.Context) ([]pbxapi.Extension, error) {
	return nil, notSupported("list the extensions")
}

// Registrations returns ErrNotSupported.
func (a *API) Registrations(context.Context, string) ([]pbxapi.Registration, error) {
	return nil, notSupported("list registrations")
}

// Register returns ErrNotSupported.
func (a *API) Register(context.Context, string, pbxapi.Registration) (pbxapi.Registration, error) {
	return pbxapi.Registration{}, notSupported("register for events")
}

// Update returns ErrNotSupported.
func (a *API) Update(context.Context, string, pbxapi.Registration) error {
	return notSupported("update a registration")
}

// Unregister returns ErrNotSupported.
func (a *API) Unregister(context.Context, string, string) error {
	return notSupported("delete a registration")
}

func notSupported(op string) error {
	return pbxapi.NewError(pbxapi.ErrNotSupported, op, "its vendor sets up extensions and the event URL")
}

// RecordingURL fills in spec.pbx.linuxBox.recordingURL. Whether there is a file at that address is
// not known to the PBX's documents.
func (a *API) RecordingURL(_ context.Context, recordingID string) (string, error) {
	const op = "find the recording"
	switch {
	case a.recordings == "":
		return "", pbxapi.NewError(pbxapi.ErrNotSupported, op, "set spec.pbx.linuxBox.recordingURL to a template with {record_name} in it")
	case strings.Trim(recordingID, ".") == "":
		return "", pbxapi.NewError(pbxapi.ErrNotFound, op, "the call has no name of a recording")
	}
	return strings.ReplaceAll(a.recordings, "{record_name}", escape(recordingID)), nil
}

// escape is fit for a segment of a path as well as for a value in a query.
func escape(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// ChecksDatabase reports whether there is a database and no URL.
func (a *API) ChecksDatabase() bool { return a.base == "" && a.database != nil }

// ReadHistory reads calls from the database. It returns ErrNotSupported where none is configured.
func (a *API) ReadHistory(
	ctx context.Context, query pbxapi.HistoryQuery, yield func(callhistory.Record) error,
) (pbxapi.HistoryPage, error) {
	if a.database == nil {
		return pbxapi.HistoryPage{}, pbxapi.NewError(pbxapi.ErrNotSupported, historyOp, "set spec.pbx.linuxBox.database")
	}
	if err := a.turn(ctx); err != nil {
		return pbxapi.HistoryPage{}, pbxapi.TransportError(historyOp, err)
	}
	return a.database.ReadHistory(ctx, query, yield)
}
