package ringme

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/rest"
)

// The names of events on the wire.
var (
	// extensionEvents: RingMe, Extension Number Events.
	extensionEvents = eventTypes{
		v1alpha1.EventDialIn:  "dial-in",
		v1alpha1.EventDialOut: "dial-out",
		v1alpha1.EventAnswer:  "answer",
		v1alpha1.EventHangup:  "hangup",
	}
	// accountEvents: RingMe, Global events of all telephone terminals in PBX.
	accountEvents = extensionEvents.and(eventTypes{pbxapi.EventPhoneStatus: "extension-call-status"})
	// agentEvents: RingMe, Queue Agent events.
	agentEvents = eventTypes{
		pbxapi.EventAgentLogin:  "agent-login",
		pbxapi.EventAgentLogout: "agent-logout",
	}
)

type eventTypes map[v1alpha1.EventType]string

func (t eventTypes) and(more eventTypes) eventTypes {
	all := maps.Clone(t)
	maps.Copy(all, more)
	return all
}

func (t eventTypes) event(wire string) v1alpha1.EventType {
	for event, name := range t {
		if strings.EqualFold(name, wire) {
			return event
		}
	}
	return ""
}

// owner is what registrations hang on. Only API.owner makes one, of an id or of the account: its
// path cannot be anything else.
type owner struct {
	path  string
	name  string
	types eventTypes
}

// owner resolves an extension id, pbxapi.AccountOwner or pbxapi.AgentOwner.
func (a *API) owner(op, text string) (owner, error) {
	if text == pbxapi.AccountOwner {
		return owner{path: a.path("phone_events/"), name: "the account", types: accountEvents}, nil
	}
	agent, isAgent := pbxapi.AgentID(text)
	if !isAgent {
		agent = text
	}
	number, err := parseID(op, agent)
	switch {
	case err != nil:
		return owner{}, err
	case isAgent:
		return owner{path: a.path(fmt.Sprintf("agent/local/%d/event/", number)), name: "agent id " + agent, types: agentEvents}, nil
	default:
		return owner{path: fmt.Sprintf("/extension/%d/event/", number), name: "extension id " + text, types: extensionEvents}, nil
	}
}

// registration is the path of a single one. There is no other way to the path of a DELETE.
func (o owner) registration(i id) string { return o.path + i.String() }

func (o owner) item(op string, r pbxapi.Registration) (eventItem, error) {
	eventType, ok := o.types[r.Event]
	if !ok {
		return eventItem{}, pbxapi.NewError(pbxapi.ErrInvalid, op, "the PBX has no such event on "+o.name)
	}
	return eventItem{URL: r.URL, EventType: eventType, Method: r.Method}, nil
}

// eventItem is a registration on the wire.
type eventItem struct {
	ID        json.Number `json:"id,omitempty"`
	URL       string      `json:"url"`
	EventType string      `json:"event_type"`
	Method    string      `json:"method"`
}

func (o owner) read(i eventItem) pbxapi.Registration {
	return pbxapi.Registration{ID: i.ID.String(), Event: o.types.event(i.EventType), URL: i.URL, Method: strings.ToUpper(i.Method)}
}

// Registrations lists all registrations on an extension, the account or an agent.
func (a *API) Registrations(ctx context.Context, ownerID string) ([]pbxapi.Registration, error) {
	owner, err := a.owner("list registrations", ownerID)
	if err != nil {
		return nil, err
	}
	var items []eventItem
	op := "list the registrations of " + owner.name
	if err := a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodGet, Path: owner.path, Answer: &items}); err != nil {
		return nil, err
	}
	registrations := make([]pbxapi.Registration, len(items))
	for i, item := range items {
		registrations[i] = owner.read(item)
	}
	return registrations, nil
}

// Register creates one registration.
func (a *API) Register(ctx context.Context, ownerID string, registration pbxapi.Registration) (pbxapi.Registration, error) {
	owner, err := a.owner("register for an event", ownerID)
	if err != nil {
		return pbxapi.Registration{}, err
	}
	op := fmt.Sprintf("register %s on %s", registration.Event, owner.name)
	item, err := owner.item(op, registration)
	if err != nil {
		return pbxapi.Registration{}, err
	}
	var created eventItem
	if err := a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodPost, Path: owner.path, Body: item, Answer: &created}); err != nil {
		return pbxapi.Registration{}, err
	}
	return owner.read(created), nil
}

// Update makes a registration what it should be.
func (a *API) Update(ctx context.Context, ownerID string, registration pbxapi.Registration) error {
	owner, err := a.owner("update a registration", ownerID)
	if err != nil {
		return err
	}
	op := fmt.Sprintf("update registration %s of %s", registration.ID, owner.name)
	event, err := parseID(op, registration.ID)
	if err != nil {
		return err
	}
	item, err := owner.item(op, registration)
	if err != nil {
		return err
	}
	return a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodPut, Path: owner.registration(event), Body: item})
}

// Unregister deletes one registration; one that is gone already is no error.
func (a *API) Unregister(ctx context.Context, ownerID, registrationID string) error {
	owner, err := a.owner("delete a registration", ownerID)
	if err != nil {
		return err
	}
	op := fmt.Sprintf("delete registration %s of %s", registrationID, owner.name)
	registration, err := parseID(op, registrationID)
	if err != nil {
		return err
	}
	err = a.client.Do(ctx, rest.Call{Op: op, Method: http.MethodDelete, Path: owner.registration(registration)})
	if isNotFound(err) {
		return nil
	}
	return err
}
