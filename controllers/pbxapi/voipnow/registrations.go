package voipnow

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/rest"
)

// registrationsPage is more than any extension will carry: one request shows all.
const registrationsPage = 1000

// eventTypes by their number on the wire (PhoneCallEvents Resource). Early revisions end with the
// hangup.
var eventTypes = []v1alpha1.EventType{
	v1alpha1.EventDialIn, v1alpha1.EventDialOut, v1alpha1.EventHangup, pbxapi.EventAnswerIn, pbxapi.EventAnswerOut,
}

// methods by their number on the wire.
var methods = []string{http.MethodGet, http.MethodPost}

// named is the member of a list that a number on the wire stands for; the zero value for none.
func named[T any](list []T, wire text) (name T) {
	if i, err := strconv.ParseUint(string(wire), 10, 8); err == nil && i < uint64(len(list)) {
		name = list[i]
	}
	return name
}

const (
	statusDisabled = "0"
	statusEnabled  = "1"
)

func statusOf(registration pbxapi.Registration) string {
	if registration.Disabled {
		return statusDisabled
	}
	return statusEnabled
}

// eventItem is a registration on the wire (PhoneCallEvent resource).
type eventItem struct {
	Type   text `json:"type"`
	ID     text `json:"id"`
	Method text `json:"method"`
	URL    text `json:"url"`
	Status text `json:"status"`
}

func (i eventItem) registration() pbxapi.Registration {
	return pbxapi.Registration{
		ID: string(i.Type + "/" + i.ID), Event: named(eventTypes, i.Type), URL: string(i.URL), Method: named(methods, i.Method),
		Disabled: i.Status == statusDisabled,
	}
}

// eventBody is what is sent: strings, as in all samples of the vendor.
type eventBody struct {
	Type   string `json:"type,omitempty"`
	Method string `json:"method"`
	URL    string `json:"url"`
	Status string `json:"status"`
	Note   string `json:"note,omitempty"`
}

// note shows in the web panel, next to what people have entered there.
const note = "pbx-operator"

// Registrations lists all registrations on an extension. Their IDs are type and id, because an id
// has a meaning only together with its type.
func (a *API) Registrations(ctx context.Context, extensionID string) ([]pbxapi.Registration, error) {
	op := "list the registrations of extension " + extensionID
	extension, err := parseNumber(op, extensionID)
	if err != nil {
		return nil, err
	}
	items, err := readAll[eventItem](ctx, a.client, rest.Call{Op: op, Method: http.MethodGet, Path: a.events(extension)}, registrationsPage)
	if err != nil {
		return nil, err
	}
	registrations := make([]pbxapi.Registration, len(items))
	for i, item := range items {
		registrations[i] = item.registration()
	}
	return registrations, nil
}

// Register creates one registration. Of the two documented paths it uses the one without a type, as
// the vendor's own client does; the type is in the body, which both have. An answer without an id
// makes it look the registration up.
func (a *API) Register(ctx context.Context, extensionID string, registration pbxapi.Registration) (pbxapi.Registration, error) {
	op := fmt.Sprintf("register %s on extension %s", registration.Event, extensionID)
	extension, err := parseNumber(op, extensionID)
	if err != nil {
		return pbxapi.Registration{}, err
	}
	body, err := bodyOf(op, registration)
	if err != nil {
		return pbxapi.Registration{}, err
	}
	eventType := slices.Index(eventTypes, registration.Event)
	if eventType < 0 {
		return pbxapi.Registration{}, pbxapi.NewError(pbxapi.ErrInvalid, op, "the PBX has no such event")
	}
	body.Type, body.Note = strconv.Itoa(eventType), note
	var answer json.RawMessage
	err = a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodPost, Path: a.events(extension) + "/", Body: body, Answer: &answer})
	switch {
	case codeOf(err) == codeEventType:
		return pbxapi.Registration{}, unknownType(op, eventType)
	case err != nil:
		return pbxapi.Registration{}, err
	}
	if created, ok := first[eventItem](answer); ok && created.ID != "" {
		registration.ID = body.Type + "/" + string(created.ID)
		return registration, nil
	}
	return a.find(ctx, op, extensionID, registration)
}

// unknownType says what to do about a VoipNow of an early revision.
func unknownType(op string, eventType int) error {
	detail := fmt.Sprintf("this VoipNow does not know events of type %d (%s)", eventType, eventTypes[eventType])
	if eventType > slices.Index(eventTypes, v1alpha1.EventHangup) {
		detail += "; answers came with later revisions: leave Answer out of the mapping's events, or update the PBX"
	}
	return pbxapi.NewError(pbxapi.ErrRejected, op, detail)
}

// find looks up a registration that has just been created. It lists all of the extension rather
// than filter: that takes one request too, and works on every PBX.
func (a *API) find(ctx context.Context, op, extensionID string, wanted pbxapi.Registration) (pbxapi.Registration, error) {
	list, err := a.Registrations(ctx, extensionID)
	if err != nil {
		return pbxapi.Registration{}, err
	}
	for _, registration := range list {
		if registration.Event == wanted.Event && registration.URL == wanted.URL {
			return registration, nil
		}
	}
	return pbxapi.Registration{}, pbxapi.NewError(pbxapi.ErrUnreachable, op, "the PBX has accepted it, but does not list it")
}

// Update makes a registration what it should be. Its type is fixed at creation.
func (a *API) Update(ctx context.Context, extensionID string, registration pbxapi.Registration) error {
	op := fmt.Sprintf("update registration %s of extension %s", registration.ID, extensionID)
	path, err := a.event(op, extensionID, registration.ID)
	if err != nil {
		return err
	}
	body, err := bodyOf(op, registration)
	if err != nil {
		return err
	}
	return a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodPut, Path: path, Body: body})
}

func bodyOf(op string, registration pbxapi.Registration) (eventBody, error) {
	method := slices.Index(methods, registration.Method)
	if method < 0 || registration.URL == "" {
		return eventBody{}, pbxapi.NewError(pbxapi.ErrInvalid, op, "it needs a URL and one of the methods GET and POST")
	}
	return eventBody{Method: strconv.Itoa(method), URL: registration.URL, Status: statusOf(registration)}, nil
}

// Unregister deletes one registration; one that is gone already is no error.
func (a *API) Unregister(ctx context.Context, extensionID, registrationID string) error {
	op := fmt.Sprintf("delete registration %s of extension %s", registrationID, extensionID)
	path, err := a.event(op, extensionID, registrationID)
	if err != nil {
		return err
	}
	return ignoreNotFound(a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodDelete, Path: path}))
}

func (a *API) events(extension number) string {
	return fmt.Sprintf("/extensions/%s/%s/phoneCallEvents", a.user, extension)
}

// registrationIDs are a type and an id, which is a path segment that can mean nothing but itself:
// an empty one or ".." would turn the DELETE of one registration into that of all, those of other
// integrations included. Ids are alphanumeric (PhoneCallEvent resource); the other characters are
// here because people can enter ids too.
var registrationIDs = regexp.MustCompile(`^[0-9]{1,3}/[0-9A-Za-z][0-9A-Za-z_.~-]{0,254}$`)

func (a *API) event(op, extensionID, registrationID string) (string, error) {
	extension, err := parseNumber(op, extensionID)
	if err != nil {
		return "", err
	}
	if !registrationIDs.MatchString(registrationID) {
		detail := fmt.Sprintf("%q is no id of a registration: VoipNow uses a type and an id, such as 0/Ev0101in", registrationID)
		return "", pbxapi.NewError(pbxapi.ErrInvalid, op, detail)
	}
	return a.events(extension) + "/" + registrationID, nil
}
