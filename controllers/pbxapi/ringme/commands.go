package ringme

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/rest"
)

var _ pbxapi.Commander = (*API)(nil)

// handle of a call, a recording, and the like. Paths are made of nothing else: it holds neither
// dots nor slashes, and is never empty.
type handle string

var handles = regexp.MustCompile(`^[0-9A-Za-z_-]{1,128}$`)

func parseHandle(text string) (handle, bool) { return handle(text), handles.MatchString(text) }

type callbackBody struct {
	Sources     []string `json:"src_num"`
	Destination string   `json:"dst_num"`
}

type callbackAnswer struct {
	CallID    string `json:"call_id"`
	CallAPIID string `json:"call_api_id"`
}

// Dial rings the extension and, when it is picked up, dials the number. It needs the extension's ID
// and Number. The PBX takes no Reference (RingMe: Callback).
func (a *API) Dial(ctx context.Context, dial pbxapi.Dial) (pbxapi.Call, error) {
	op := "dial from extension id " + dial.Extension.ID
	extension, err := parseID(op, dial.Extension.ID)
	if err != nil {
		return pbxapi.Call{}, err
	}
	if dial.Extension.Number == "" || dial.Number == "" {
		return pbxapi.Call{}, pbxapi.NewError(pbxapi.ErrInvalid, op, "it needs the number of the extension and one to dial")
	}
	var answer callbackAnswer
	err = a.client.Do(ctx, rest.Call{
		Op: op, Method: http.MethodPost, Path: "/extension/" + extension.String() + "/callback/",
		Body: callbackBody{Sources: []string{short(dial.Extension.Number)}, Destination: dial.Number}, Answer: &answer,
	})
	if err != nil {
		return pbxapi.Call{}, err
	}
	return pbxapi.Call{CallID: answer.CallID, CallBackID: answer.CallAPIID}, nil
}

// short is the form of a number that is used inside one account: 101 of 1234*101 (RingMe: Internal
// Number).
func short(number string) string {
	number = withoutDomain(number)
	return number[strings.LastIndex(number, "*")+1:]
}

// callItem is a leg among the current calls of an extension.
type callItem struct {
	CallAPIID  string `json:"call_api_id"`
	CallbackID string `json:"callback_id"`
}

// Hangup drops the calls of an extension that have one of the ids. CallBackID may also be the
// CallAPIID or SubCallID of an event. It returns ErrNotFound when there is none, or when none was
// left at the moment of dropping it (RingMe: Current Calls).
func (a *API) Hangup(ctx context.Context, hangup pbxapi.Hangup) error {
	op := "hang up on extension id " + hangup.Extension.ID
	extension, err := parseID(op, hangup.Extension.ID)
	if err != nil {
		return err
	}
	path := "/extension/" + extension.String() + "/current_calls/"
	var current struct {
		Calls []callItem `json:"call_list"`
	}
	if err := a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodGet, Path: path, Answer: &current}); err != nil {
		return err
	}
	calls, err := meant(op, current.Calls, hangup)
	if err != nil {
		return err
	}
	dropped := false
	for _, call := range calls {
		err := a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodDelete, Path: path + string(call)})
		if err != nil && !isNotFound(err) {
			return err
		}
		dropped = dropped || err == nil
	}
	if !dropped {
		return pbxapi.NewError(pbxapi.ErrNotFound, op, "there is no such call")
	}
	return nil
}

// meant are the handles of the calls to drop. While the extension itself still rings, its call may
// be in no list: then CallBackID, which is what the PBX called it, has to do.
func meant(op string, current []callItem, hangup pbxapi.Hangup) ([]handle, error) {
	var calls []handle
	for _, item := range current {
		if !item.isMeant(hangup) {
			continue
		}
		call, ok := parseHandle(item.CallAPIID)
		if !ok {
			return nil, pbxapi.NewError(pbxapi.ErrUnreachable, op, "the list of current calls has a call_api_id that is no id")
		}
		if !slices.Contains(calls, call) {
			calls = append(calls, call)
		}
	}
	if call, ok := parseHandle(hangup.CallBackID); ok && len(calls) == 0 {
		calls = append(calls, call)
	}
	return calls, nil
}

// decorated is an id with what may come before and between its hex digits: the number of the node,
// the dashes of a UUID.
var decorated = regexp.MustCompile(`^(?:[0-9]+-)?([0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12})$`)

// plain reduces the id of a call to what its spellings have in common; the case is none of it.
func plain(id string) string {
	id = strings.ToLower(id)
	if parts := decorated.FindStringSubmatch(id); parts != nil {
		return strings.ReplaceAll(parts[1], "-", "")
	}
	return id
}

func (i callItem) isMeant(hangup pbxapi.Hangup) bool {
	if hangup.CallID == "" && hangup.CallBackID == "" {
		return true
	}
	return i.has(hangup.CallID) || i.has(hangup.CallBackID)
}

func (i callItem) has(id string) bool {
	return id != "" && (plain(id) == plain(i.CallAPIID) || plain(id) == plain(i.CallbackID))
}
