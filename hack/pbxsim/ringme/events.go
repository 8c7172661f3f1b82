package ringme

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// eventTypes of an extension ("Extension Number Events"; voicemail is in its English page only).
var eventTypes = []string{"dial-in", "dial-out", "answer", "hangup", "message-in", "message-out", "voicemail"}

// ivrEventTypes are those that an IVR takes: it never answers or calls, and the registration of
// such an event is refused.
var ivrEventTypes = []string{"dial-in", "hangup", "message-in", "message-out", "voicemail"}

// accountEventTypes exist for all phones of an account at once ("Global events of all telephone
// terminals in PBX").
var accountEventTypes = append(slices.Clone(eventTypes), "extension-call-status")

// agentEventTypes exist for queue agents ("Queue Agent events").
var agentEventTypes = []string{"agent-login", "agent-logout"}

// event is a registration on the wire.
type event struct {
	ID        int    `json:"id"`
	URL       string `json:"url"`
	EventType string `json:"event_type"`
	Method    string `json:"method"`
}

func wire(r exchange.Registration) event { return event{r.ID, r.URL, r.EventType, r.Method} }

// An eventOwner resolves what the registrations of a path hang on and which types are allowed
// there.
type eventOwner func(r *request) (exchange.Owner, []string, error)

func (a *API) extensionEvents(r *request) (exchange.Owner, []string, error) {
	e, err := a.extension(r)
	types := eventTypes
	if e.Type == scenario.IVR {
		types = ivrEventTypes
	}
	return exchange.Owner{Scope: exchange.OnExtension, ID: e.ID}, types, err
}

func (a *API) accountEvents(r *request) (exchange.Owner, []string, error) {
	return exchange.Owner{Scope: exchange.OnAccount, ID: r.account.ID}, accountEventTypes, a.client(r)
}

func (a *API) agentEvents(r *request) (exchange.Owner, []string, error) {
	if err := a.client(r); err != nil {
		return exchange.Owner{}, nil, err
	}
	id, err := strconv.Atoi(r.PathValue("agent"))
	g, ok := a.x.Agent(id)
	// Only agents that are extensions are simulated, so nothing is found under agent/remote.
	if err != nil || !ok || g.Account != r.account.ID || r.PathValue("kind") != "local" {
		return exchange.Owner{}, nil, errNotFound
	}
	return exchange.Owner{Scope: exchange.OnAgent, ID: g.ID}, agentEventTypes, nil
}

// eventRoutes adds the registration resource under path.
func (a *API) eventRoutes(path string, owner eventOwner) {
	with := func(f func(r *request, o exchange.Owner, types []string) (int, any, error)) endpoint {
		return func(r *request) (int, any, error) {
			o, types, err := owner(r)
			if err != nil {
				return 0, nil, err
			}
			return f(r, o, types)
		}
	}
	a.handle("GET", path, with(a.listEvents))
	a.handle("POST", path, with(a.createEvent))
	a.handle("DELETE", path, with(a.deleteEvents))
	a.handle("GET", path+"/{id}", with(a.getEvent))
	a.handle("PUT", path+"/{id}", with(a.changeEvent))
	a.handle("DELETE", path+"/{id}", with(a.deleteEvent))
}

func (a *API) listEvents(_ *request, o exchange.Owner, _ []string) (int, any, error) {
	registrations := a.x.Registrations(o)
	list := make([]event, 0, len(registrations))
	for _, r := range registrations {
		list = append(list, wire(r))
	}
	return http.StatusOK, list, nil
}

func (a *API) createEvent(r *request, o exchange.Owner, types []string) (int, any, error) {
	reg, err := readEvent(r, o, types)
	if err != nil {
		return 0, nil, err
	}
	reg, err = a.x.Register(reg, a.Settings().EventLimit)
	return http.StatusCreated, wire(reg), err
}

func (a *API) getEvent(r *request, o exchange.Owner, _ []string) (int, any, error) {
	for _, reg := range a.x.Registrations(o) {
		if strconv.Itoa(reg.ID) == r.PathValue("id") {
			return http.StatusOK, wire(reg), nil
		}
	}
	return 0, nil, errNotFound
}

func (a *API) changeEvent(r *request, o exchange.Owner, types []string) (int, any, error) {
	reg, err := readEvent(r, o, types)
	if err != nil {
		return 0, nil, err
	}
	if reg.ID, err = strconv.Atoi(r.PathValue("id")); err != nil {
		return 0, nil, errNotFound
	}
	reg, err = a.x.Change(reg)
	return http.StatusOK, wire(reg), err
}

func (a *API) deleteEvent(r *request, o exchange.Owner, _ []string) (int, any, error) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		return 0, nil, errNotFound
	}
	return http.StatusNoContent, nil, a.x.Unregister(o, id)
}

// deleteEvents wipes the registrations of every integration. A client must never ask for it.
func (a *API) deleteEvents(_ *request, o exchange.Owner, _ []string) (int, any, error) {
	a.x.UnregisterAll(o)
	return http.StatusNoContent, nil, nil
}

// readEvent checks a body: all three members are required.
func readEvent(r *request, o exchange.Owner, types []string) (exchange.Registration, error) {
	var e event
	if err := readJSON(r, &e); err != nil {
		return exchange.Registration{}, err
	}
	e.Method = strings.ToUpper(e.Method)
	u, err := url.Parse(e.URL)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return exchange.Registration{}, badRequest("url must be an absolute HTTP URL")
	case !slices.Contains(types, e.EventType) && slices.Contains(eventTypes, e.EventType):
		return exchange.Registration{}, badRequest("event_type %s is not allowed for ivr-type", e.EventType)
	case !slices.Contains(types, e.EventType):
		return exchange.Registration{}, badRequest("event_type must be one of %s", strings.Join(types, ", "))
	case e.Method != http.MethodGet && e.Method != http.MethodPost:
		return exchange.Registration{}, badRequest("method must be GET or POST")
	}
	return exchange.Registration{Owner: o, URL: e.URL, EventType: e.EventType, Method: e.Method}, nil
}
