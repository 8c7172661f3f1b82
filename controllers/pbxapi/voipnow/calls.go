package voipnow

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/rest"
)

// callsPage is more than the calls of any extension: one request shows all.
const callsPage = 1000

var _ pbxapi.Commander = (*API)(nil)

// callBody asks for a call between two parties (UnifiedAPI: PhoneCalls Service).
type callBody struct {
	Extension string     `json:"extension"`
	Nonce     string     `json:"nonce,omitempty"`
	Views     []callView `json:"phoneCallView"`
}

type callView struct {
	Source      []string `json:"source"`
	Destination []string `json:"destination"`
}

// callItem is a running call on the wire.
type callItem struct {
	ID    text `json:"id"`
	Nonce text `json:"nonce"`
}

// Dial rings the extension and then calls the number. The CallBackID of the call is its id in the
// UnifiedAPI, which the events of the call have as CallAPIID. A call that the PBX may have started
// without saying so is looked for among the running ones, by its Reference.
func (a *API) Dial(ctx context.Context, dial pbxapi.Dial) (pbxapi.Call, error) {
	op := "dial from extension " + dial.Extension.Number
	extension, err := numberOf(op, dial.Extension)
	if err != nil {
		return pbxapi.Call{}, err
	}
	if dial.Number == "" {
		return pbxapi.Call{}, pbxapi.NewError(pbxapi.ErrInvalid, op, "there is no number to call")
	}
	body := callBody{Extension: string(extension), Nonce: dial.Reference, Views: []callView{{
		Source: []string{string(extension)}, Destination: []string{dial.Number},
	}}}
	var answer json.RawMessage
	err = a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodPost, Path: "/phoneCalls/" + a.user + "/simple", Body: body, Answer: &answer})
	if call, ok := first[callItem](answer); ok && err == nil && call.ID != "" {
		return pbxapi.Call{CallBackID: string(call.ID)}, nil
	}
	if err == nil || errors.Is(err, pbxapi.ErrUnreachable) && !pbxapi.NotSent(err) {
		if id := a.withNonce(ctx, extension, dial.Reference); id != "" {
			return pbxapi.Call{CallBackID: id}, nil
		}
	}
	return pbxapi.Call{}, err
}

// withNonce is the id of a running call of ours; empty when there is none to be seen, for whatever
// reason.
func (a *API) withNonce(ctx context.Context, extension number, nonce string) string {
	if nonce == "" {
		return ""
	}
	calls, err := a.running(ctx, "look for the call", extension)
	if err != nil {
		return ""
	}
	for _, call := range calls {
		if string(call.Nonce) == nonce {
			return string(call.ID)
		}
	}
	return ""
}

// Hangup ends calls one by one; the DELETE of all calls of an extension is never sent. The
// UnifiedAPI knows a call by its CallBackID only: one given by CallID is found where both are the
// same, and is ErrNotSupported otherwise, unless the extension has no calls at all.
func (a *API) Hangup(ctx context.Context, hangup pbxapi.Hangup) error {
	op := "hang up on extension " + hangup.Extension.Number
	extension, err := numberOf(op, hangup.Extension)
	if err != nil {
		return err
	}
	ids := []string{hangup.CallBackID}
	if hangup.CallBackID == "" {
		if ids, err = a.matching(ctx, op, extension, hangup.CallID); err != nil {
			return err
		}
	}
	ended := 0
	for _, id := range ids {
		switch err := a.end(ctx, op, extension, id); {
		case err == nil:
			ended++
		case !errors.Is(err, pbxapi.ErrNotFound): // it may have ended by itself
			return err
		}
	}
	if ended == 0 {
		return pbxapi.NewError(pbxapi.ErrNotFound, op, "it has no such call")
	}
	return nil
}

// matching are the ids of the running calls of an extension: all, or those that can be told to have
// a CallID.
func (a *API) matching(ctx context.Context, op string, extension number, callID string) ([]string, error) {
	calls, err := a.running(ctx, op, extension)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, call := range calls {
		if callID == "" || callID == string(call.ID) {
			ids = append(ids, string(call.ID))
		}
	}
	if len(ids) == 0 && len(calls) > 0 {
		detail := fmt.Sprintf("VoipNow does not tell which of its %d calls an event is about; hang up the whole extension instead", len(calls))
		return nil, pbxapi.NewError(pbxapi.ErrNotSupported, op, detail)
	}
	return ids, nil
}

// end ends one call. No document gives the code that refuses an unknown id, so the list of calls
// decides whether it was that.
func (a *API) end(ctx context.Context, op string, extension number, id string) error {
	if !callIDs.MatchString(id) {
		return pbxapi.NewError(pbxapi.ErrInvalid, op, fmt.Sprintf("%q is no id of a call", id))
	}
	err := a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodDelete, Path: a.calls(extension) + "/" + id})
	if !errors.Is(err, pbxapi.ErrRejected) {
		return err
	}
	calls, listError := a.running(ctx, op, extension)
	if listError != nil {
		return listError
	}
	if slices.ContainsFunc(calls, func(call callItem) bool { return string(call.ID) == id }) {
		return err
	}
	return pbxapi.NewError(pbxapi.ErrNotFound, op, "the call is over")
}

func (a *API) running(ctx context.Context, op string, extension number) ([]callItem, error) {
	return readAll[callItem](ctx, a.client, rest.Call{Op: op, Method: http.MethodGet, Path: a.calls(extension)}, callsPage)
}

func (a *API) calls(extension number) string {
	return fmt.Sprintf("/phoneCalls/%s/%s", a.user, extension)
}

// callIDs are path segments that can mean nothing but themselves. What an id is made of is not
// documented.
var callIDs = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_.~:@*-]{0,254}$`)

func numberOf(op string, extension pbxapi.Extension) (number, error) {
	return parseNumber(op, cmp.Or(extension.Number, extension.ID))
}
