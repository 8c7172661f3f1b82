package linuxbox

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

const (
	// largestRemark is how much of an answer is read for what it says.
	largestRemark = 1 << 10
	// shortBackOff follows a 429 that does not say how long to wait, longestBackOff bounds what it
	// may say.
	shortBackOff   = 5 * time.Second
	longestBackOff = time.Hour
)

// Check asks for the root of the PBX. No request is documented for this, so whatever it answers
// proves that it is there, unless it refuses the credentials, or a gateway answers in its place.
// Without a URL it connects to the database, where there is one. With both, the database is left to
// those who read the history: trouble with it stops no commands.
func (a *API) Check(ctx context.Context) error {
	if a.base == "" {
		return a.checkDatabase(ctx)
	}
	response, err := a.get(ctx, checkOp, "/")
	if err != nil {
		return err
	}
	switch code := response.code; code {
	case http.StatusUnauthorized, http.StatusForbidden:
		if a.credentials.secret != "" {
			return a.answerError(checkOp, response)
		}
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return a.answerError(checkOp, response)
	}
	return nil
}

func (a *API) checkDatabase(ctx context.Context) error {
	if a.database == nil {
		return nil
	}
	if err := a.turn(ctx); err != nil {
		return pbxapi.TransportError(checkOp, err)
	}
	return a.database.Check(ctx)
}

// Dial rings the extension and then calls the number. With spec.pbx.linuxBox.customCallID the
// events of the call carry the reference, which is then its CallBackID.
func (a *API) Dial(ctx context.Context, dial pbxapi.Dial) (pbxapi.Call, error) {
	op := "dial from extension " + dial.Extension.Number
	path := "/dial?number=" + escape(dial.Number) + "&exten=" + escape(dial.Extension.Number)
	var call pbxapi.Call
	if a.sendReference && dial.Reference != "" {
		call.CallBackID = dial.Reference
		path += "&custom_call_id=" + escape(dial.Reference)
	}
	if err := a.command(ctx, op, path); err != nil {
		return pbxapi.Call{}, err
	}
	return call, nil
}

// Hangup ends the call that the extension is in: the PBX cannot be told which.
func (a *API) Hangup(ctx context.Context, hangup pbxapi.Hangup) error {
	return a.command(ctx, "hang up extension "+hangup.Extension.Number, "/hangup?exten="+escape(hangup.Extension.Number))
}

func (a *API) command(ctx context.Context, op, path string) error {
	if a.base == "" {
		return pbxapi.NewError(pbxapi.ErrNotSupported, op, "commands need spec.pbx.linuxBox.url")
	}
	response, err := a.get(ctx, op, path)
	if err != nil {
		return err
	}
	if response.code < 200 || response.code > 299 {
		return a.answerError(op, response)
	}
	return nil
}

// answer is what came back.
type answer struct {
	code       int
	remark     string
	retryAfter string
}

// get sends one request, once. Go sends a GET again when a connection breaks that had been used
// before, which would dial twice: no connection is used twice.
func (a *API) get(ctx context.Context, op, path string) (answer, error) {
	if err := a.turn(ctx); err != nil {
		return answer{}, pbxapi.Unsent(pbxapi.TransportError(op, err))
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+path, http.NoBody)
	if err != nil {
		return answer{}, pbxapi.NewError(pbxapi.ErrInvalid, op, "spec.pbx.linuxBox.url is no usable URL")
	}
	request.Close = true
	request.Header.Set("User-Agent", "pbx-operator")
	a.credentials.authorize(request)
	response, err := a.http.Do(request)
	if err != nil {
		return answer{}, pbxapi.TransportError(op, err)
	}
	defer func() { _ = response.Body.Close() }() // only read from
	return answer{response.StatusCode, a.credentials.hide(remark(response)), response.Header.Get("Retry-After")}, nil
}

// remark is the first line of an answer in plain text.
func remark(response *http.Response) string {
	media, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil || media != "text/plain" {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, largestRemark)) // whatever could be read of it
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line
}

// answerError is the error that an answer other than 2xx stands for.
func (a *API) answerError(op string, response answer) error {
	detail := fmt.Sprintf("HTTP %d", response.code)
	if response.remark != "" {
		detail += ": " + response.remark
	}
	switch code := response.code; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return pbxapi.NewError(pbxapi.ErrUnauthorized, op, fmt.Sprintf("HTTP %d, %s", code, a.credentials.advice()))
	case code == http.StatusNotFound:
		return pbxapi.NewError(pbxapi.ErrNotFound, op, detail)
	case code == http.StatusTooManyRequests:
		return &pbxapi.RateLimitedError{After: backOff(response.retryAfter), ByPBX: true}
	case code >= 500, code == http.StatusRequestTimeout:
		return pbxapi.NewError(pbxapi.ErrUnreachable, op, detail)
	case code >= 300 && code < 400:
		return pbxapi.NewError(pbxapi.ErrRejected, op, detail+", a redirect: set spec.pbx.linuxBox.url to where it leads")
	default:
		return pbxapi.NewError(pbxapi.ErrRejected, op, detail)
	}
}

func backOff(retryAfter string) time.Duration {
	seconds, err := strconv.ParseUint(retryAfter, 10, 31)
	if err != nil || seconds == 0 {
		return shortBackOff
	}
	return min(time.Duration(seconds)*time.Second, longestBackOff)
}
