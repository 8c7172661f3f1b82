// Package ringme speaks the management API of the RingMe platform, also sold as Telphin and UCom.
package ringme

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/rest"
)

const (
	// expiryMargin renews a token before the PBX lets it die.
	expiryMargin = 30 * time.Second

	pageSize  = 500
	mostPages = 1000
)

// eventTypes are the names of events on the wire (RingMe: Extension Number Events).
var eventTypes = map[v1alpha1.EventType]string{
	v1alpha1.EventDialIn:  "dial-in",
	v1alpha1.EventDialOut: "dial-out",
	v1alpha1.EventAnswer:  "answer",
	v1alpha1.EventHangup:  "hangup",
}

func eventOf(wire string) v1alpha1.EventType {
	for event, name := range eventTypes {
		if strings.EqualFold(name, wire) {
			return event
		}
	}
	return ""
}

// API is the management API of one client account. Its calls return the errors of package pbxapi.
type API struct {
	client  *rest.Client
	account string
}

var _ pbxapi.API = (*API)(nil)

// New makes the API of an account. It returns ErrInvalid when the URL is no URL or the Secret lacks clientID or clientSecret.
func New(settings pbxapi.Settings) (pbxapi.API, error) {
	ringMe := settings.PBX.RingMe
	if ringMe == nil {
		return nil, pbxapi.NewError(pbxapi.ErrInvalid, "connect to the PBX", "spec.pbx.ringMe is missing")
	}
	client, err := rest.New(rest.Config{
		Settings: settings, URL: ringMe.URL, SecretName: ringMe.CredentialsSecretRef.Name, Field: "spec.pbx.ringMe.url",
		APIPath: "/api/ver1.0", TokenPath: "/oauth/token", ExpiryMargin: expiryMargin, Problem: answerError,
	})
	if err != nil {
		return nil, err
	}
	return &API{client: client, account: accountOf(ringMe)}, nil
}

func accountOf(ringMe *v1alpha1.RingMe) string {
	if ringMe.ClientID == "" {
		return "@me"
	}
	return ringMe.ClientID
}

// Check lists one extension: that needs the account, the credentials and the right to see extensions.
func (a *API) Check(ctx context.Context) error {
	_, err := a.extensionPage(ctx, "check the PBX", 1, 1)
	return err
}

type extensionItem struct {
	ID     json.Number `json:"id"`
	Name   string      `json:"name"`
	Domain string      `json:"domain"`
	Type   string      `json:"type"`
}

func (i extensionItem) extension() pbxapi.Extension {
	number, _, _ := strings.Cut(i.Name, "@")
	extension := pbxapi.Extension{ID: i.ID.String(), Number: number}
	switch strings.ToLower(i.Type) {
	case "phone":
		extension.Type = v1alpha1.ExtensionPhone
	case "ivr":
		extension.Type = v1alpha1.ExtensionIVR
	case "queue":
		extension.Type = v1alpha1.ExtensionQueue
	}
	return extension
}

// Extensions lists all extensions of the account. No total is given, and the PBX may cap the size of a page: the last page is the
// one that is shorter than the first, or brings nothing new.
func (a *API) Extensions(ctx context.Context) ([]pbxapi.Extension, error) {
	var all []pbxapi.Extension
	seen := map[string]bool{}
	first := 0
	for page := 1; page <= mostPages; page++ {
		items, err := a.extensionPage(ctx, "list the extensions", page, pageSize)
		if err != nil {
			return nil, err
		}
		before := len(all)
		for _, item := range items {
			if id := item.ID.String(); !seen[id] {
				seen[id] = true
				all = append(all, item.extension())
			}
		}
		first = max(first, len(items))
		if len(all) == before || len(items) < first {
			break
		}
	}
	return all, nil
}

func (a *API) extensionPage(ctx context.Context, op string, page, size int) ([]extensionItem, error) {
	query := url.Values{"page": {strconv.Itoa(page)}, "per_page": {strconv.Itoa(size)}}
	var items []extensionItem
	err := a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodGet, Path: "/client/" + a.account + "/extension/", Query: query, Answer: &items})
	return items, err
}

// eventItem is a registration on the wire.
type eventItem struct {
	ID        json.Number `json:"id,omitempty"`
	URL       string      `json:"url"`
	EventType string      `json:"event_type"`
	Method    string      `json:"method"`
}

func (i eventItem) registration() pbxapi.Registration {
	return pbxapi.Registration{ID: i.ID.String(), Event: eventOf(i.EventType), URL: i.URL, Method: strings.ToUpper(i.Method)}
}

// Registrations lists all registrations on an extension.
func (a *API) Registrations(ctx context.Context, extensionID string) ([]pbxapi.Registration, error) {
	op := "list the registrations of extension id " + extensionID
	extension, err := parseID(op, extensionID)
	if err != nil {
		return nil, err
	}
	var items []eventItem
	if err := a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodGet, Path: extension.events(), Answer: &items}); err != nil {
		return nil, err
	}
	registrations := make([]pbxapi.Registration, len(items))
	for i, item := range items {
		registrations[i] = item.registration()
	}
	return registrations, nil
}

// Register creates one registration.
func (a *API) Register(ctx context.Context, extensionID string, registration pbxapi.Registration) (pbxapi.Registration, error) {
	op := fmt.Sprintf("register %s on extension id %s", registration.Event, extensionID)
	extension, err := parseID(op, extensionID)
	if err != nil {
		return pbxapi.Registration{}, err
	}
	eventType, ok := eventTypes[registration.Event]
	if !ok {
		return pbxapi.Registration{}, pbxapi.NewError(pbxapi.ErrInvalid, op, "the PBX has no such event")
	}
	var created eventItem
	err = a.client.Do(ctx, rest.Call{
		Op: op, Method: http.MethodPost, Path: extension.events(),
		Body:   eventItem{URL: registration.URL, EventType: eventType, Method: registration.Method},
		Answer: &created,
	})
	if err != nil {
		return pbxapi.Registration{}, err
	}
	return created.registration(), nil
}

// Update makes a registration what it should be.
func (a *API) Update(ctx context.Context, extensionID string, registration pbxapi.Registration) error {
	op := fmt.Sprintf("update registration %s of extension id %s", registration.ID, extensionID)
	extension, err := parseID(op, extensionID)
	if err != nil {
		return err
	}
	event, err := parseID(op, registration.ID)
	if err != nil {
		return err
	}
	return a.client.Do(ctx, rest.Call{
		Op: op, Method: http.MethodPut, Path: extension.event(event),
		Body: eventItem{URL: registration.URL, EventType: eventTypes[registration.Event], Method: registration.Method},
	})
}

// Unregister deletes one registration; one that is gone already is no error.
func (a *API) Unregister(ctx context.Context, extensionID, registrationID string) error {
	op := fmt.Sprintf("delete registration %s of extension id %s", registrationID, extensionID)
	extension, err := parseID(op, extensionID)
	if err != nil {
		return err
	}
	registration, err := parseID(op, registrationID)
	if err != nil {
		return err
	}
	err = a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodDelete, Path: extension.event(registration)})
	if isNotFound(err) {
		return nil
	}
	return err
}

// id of an extension or a registration: a positive integer. Paths are made of nothing else, so that no id, be it empty or "..",
// can turn the DELETE of one registration into that of the whole collection.
type id uint64

func parseID(op, text string) (id, error) {
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil || number == 0 {
		return 0, pbxapi.NewError(pbxapi.ErrInvalid, op, fmt.Sprintf("%q is no id: RingMe uses positive integers", text))
	}
	return id(number), nil
}

func (i id) events() string { return fmt.Sprintf("/extension/%d/event/", i) }

func (i id) event(registration id) string {
	return fmt.Sprintf("/extension/%d/event/%d", i, registration)
}
