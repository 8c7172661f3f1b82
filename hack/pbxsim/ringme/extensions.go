package ringme

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

type user struct {
	ID               int    `json:"id"`
	Login            string `json:"login"`
	ClientID         int    `json:"client_id"`
	ExtensionID      *int   `json:"extension_id"`
	ExtensionGroupID *int   `json:"extension_group_id"`
	DealerID         int    `json:"dealer_id"`
	Admin            bool   `json:"admin"`
	Access           string `json:"access"`
	Timezone         string `json:"timezone"`
}

func (a *API) user(r *request) (int, any, error) {
	return http.StatusOK, user{
		ID: r.account.ID, Login: r.app.ClientID, ClientID: r.account.ID, DealerID: 1, Access: "all", Timezone: "UTC",
	}, nil
}

// extension is an item of the extension list ("Internal Number (/extension/)"); many members are
// null in practice.
type extension struct {
	ID                   int     `json:"id"`
	Name                 string  `json:"name"`
	Domain               string  `json:"domain"`
	Label                *string `json:"label"`
	Type                 string  `json:"type"`
	Status               string  `json:"status"`
	ClientID             int     `json:"client_id"`
	ExtensionGroupID     *int    `json:"extension_group_id"`
	CallerIDName         *string `json:"caller_id_name"`
	CreateDate           string  `json:"create_date"`
	DialRuleID           *int    `json:"dial_rule_id"`
	DialRuleLimit        *int    `json:"dial_rule_limit"`
	DIDAsTransferCaller  *string `json:"did_as_transfer_caller_id"`
	ANIRFC3325           bool    `json:"ani_rfc3325"`
	MessageDID           *string `json:"message_did"`
	ExtraParams          *string `json:"extra_params"`
	PublicCallerIDNumber *string `json:"public_caller_id_number"`
}

func wireExtension(e exchange.Extension) extension {
	w := extension{
		ID: e.ID, Name: e.Name, Domain: e.Domain, Type: wireType(e.Type), Status: "active", ClientID: e.Account,
		CreateDate: e.Created.UTC().Format(time.DateTime),
	}
	if e.Blocked {
		w.Status = "blocked"
	}
	if e.Label != "" {
		w.Label, w.CallerIDName = &e.Label, &e.Label
	}
	return w
}

func wireType(t scenario.ExtensionType) string { return strings.ToLower(string(t)) }

func (a *API) listExtensions(r *request) (int, any, error) {
	if err := a.client(r); err != nil {
		return 0, nil, err
	}
	q := r.URL.Query()
	list := []extension{}
	for _, e := range a.x.Extensions(r.account.ID) {
		if w := wireExtension(e); selected(w, q) {
			list = append(list, w)
		}
	}
	p, err := paged(list, q, a.Settings().PageSize)
	return http.StatusOK, p.Items, err
}

func selected(e extension, q url.Values) bool {
	return (!q.Has("type") || q.Get("type") == e.Type) &&
		(!q.Has("status") || q.Get("status") == e.Status) &&
		strings.Contains(e.Name, q.Get("name"))
}

// page is a part of a list.
type page[T any] struct {
	Number, Size int
	Items        []T
}

// paged cuts out one page; pages count from 1, and one beyond the end is empty.
func paged[T any](list []T, q url.Values, size int) (page[T], error) {
	number, err := positive(q, "page", 1)
	if err != nil {
		return page[T]{}, err
	}
	if size, err = positive(q, "per_page", size); err != nil {
		return page[T]{}, err
	}
	from := min((number-1)*size, len(list))
	return page[T]{number, size, list[from:min(from+size, len(list))]}, nil
}

func positive(q url.Values, name string, standard int) (int, error) {
	if !q.Has(name) {
		return standard, nil
	}
	n, err := strconv.Atoi(q.Get(name))
	if err != nil || n < 1 || n > 1_000_000 {
		return 0, badRequest("%s must be a positive number", name)
	}
	return n, nil
}

// limit answers /client/{id}/limit/. The member names of the real answer are unknown.
func (a *API) limit(r *request) (int, any, error) {
	s := a.Settings()
	return http.StatusOK, map[string]int{
		"extension_event_limit": s.EventLimit, "phone_event_limit": s.EventLimit, "agent_event_limit": s.EventLimit,
	}, a.client(r)
}

type device struct {
	ExtensionID   int      `json:"extension_id"`
	Registered    bool     `json:"registered"`
	Registrations []string `json:"registrations"`
}

// deviceRegistration says whether a phone is online: all simulated ones are.
func (a *API) deviceRegistration(r *request) (int, any, error) {
	e, err := a.extensionByID(r, r.URL.Query().Get("extension_id"))
	return http.StatusOK, device{e.ID, e.Type == scenario.Phone, []string{}}, err
}

type agent struct {
	ID            int    `json:"id"`
	Name          string `json:"name"`
	Status        string `json:"status"`
	ExtensionID   int    `json:"extension_id"`
	ExtensionName string `json:"extension_name"`
}

func (a *API) wireAgent(g exchange.Agent) agent {
	e, _ := a.x.Extension(g.Extension)
	return agent{g.ID, g.Name, g.Status, e.ID, e.Name}
}

func (a *API) listAgents(r *request) (int, any, error) {
	agents := a.x.Agents(r.account.ID)
	list := make([]agent, 0, len(agents))
	for _, g := range agents {
		list = append(list, a.wireAgent(g))
	}
	return http.StatusOK, list, a.client(r)
}

func (a *API) getAgent(r *request) (int, any, error) {
	e, err := a.extension(r)
	if err != nil {
		return 0, nil, err
	}
	g, ok := a.x.AgentOf(e.ID)
	if !ok {
		return 0, nil, errNotFound
	}
	return http.StatusOK, a.wireAgent(g), nil
}

// setAgent creates the agent of an extension or changes its state.
func (a *API) setAgent(r *request) (int, any, error) {
	e, err := a.extension(r)
	if err != nil {
		return 0, nil, err
	}
	body := struct{ Name, Status string }{Status: exchange.Available}
	if err := readJSON(r, &body); err != nil {
		return 0, nil, err
	}
	if body.Name == "" {
		return 0, nil, badRequest("name is required")
	}
	g, err := a.SetAgent(r.Context(), e.ID, body.Name, body.Status)
	return http.StatusCreated, a.wireAgent(g), err
}
