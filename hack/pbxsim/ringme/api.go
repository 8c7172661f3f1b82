// Package ringme is the management API of a simulated RingMe PBX (Telphin, UCom): OAuth,
// extensions, event registrations, agents, current calls, call-back and a minimal call history,
// with the status codes, error bodies, quotas and limits that its documents give ("API Request
// Rules", "Extension Number Events", "Callback", "Current Calls", "Call History"). Where they are
// silent the behaviour is a setting.
package ringme

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/bearer"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// Base is the path prefix of everything but OAuth.
const Base = "/api/ver1.0"

// maxBody bounds request bodies.
const maxBody = 64 << 10

// Settings are what an administrator of the PBX could change, and what its documents leave open.
type Settings struct {
	TokenLifetime    delivery.Duration `json:"tokenLifetime"`    // default 1h
	OmitExpiresIn    bool              `json:"omitExpiresIn"`    // some token answers lack expires_in
	EventLimit       int               `json:"eventLimit"`       // registrations per extension, account or agent; default 16
	EventLimitCode   int               `json:"eventLimitCode"`   // HTTP status beyond the limit; default 403
	EventLimitStatus string            `json:"eventLimitStatus"` // its member status; default limit_exceeded
	HourlyLimit      int               `json:"hourlyLimit"`      // requests per account and clock hour; default 1,000,000
	OAuthLimits      bool              `json:"oauthLimits"`      // enforce 20 requests a second and 6 at once on /oauth
	PageSize         int               `json:"pageSize"`         // per_page when the request has none; default 50

	CallbackScenario string  `json:"callbackScenario"` // played for every call-back; default: by source and destination
	CallbackSpeed    float64 `json:"callbackSpeed"`    // default 1, real time

	HistoryTime delivery.Duration `json:"historyTime"` // how long a history request takes; a second one meanwhile gets 429

	Delivery delivery.Options `json:"delivery"` // of every notification, unless the call brings its own
}

// DefaultSettings returns the documented defaults.
func DefaultSettings() Settings {
	return Settings{
		TokenLifetime: delivery.Duration(time.Hour), EventLimit: 16,
		EventLimitCode: http.StatusForbidden, EventLimitStatus: "limit_exceeded",
		HourlyLimit: 1_000_000, PageSize: 50, CallbackSpeed: 1,
	}
}

// Complete replaces what is not set by the documented defaults.
func (s Settings) Complete() Settings {
	d := DefaultSettings()
	s.TokenLifetime = cmp.Or(s.TokenLifetime, d.TokenLifetime)
	s.EventLimit = cmp.Or(s.EventLimit, d.EventLimit)
	s.EventLimitCode = cmp.Or(s.EventLimitCode, d.EventLimitCode)
	s.EventLimitStatus = cmp.Or(s.EventLimitStatus, d.EventLimitStatus)
	s.HourlyLimit = cmp.Or(s.HourlyLimit, d.HourlyLimit)
	s.PageSize = cmp.Or(s.PageSize, d.PageSize)
	s.CallbackSpeed = cmp.Or(s.CallbackSpeed, d.CallbackSpeed)
	return s
}

// API is the management API in front of one exchange.
type API struct {
	x         *exchange.Exchange
	scenarios map[string]scenario.Scenario
	now       func() time.Time
	mux       *http.ServeMux
	tokens    bearer.Tokens
	quota     quota
	oauth     oauthLimit
	history   sync.Map // account id → struct{} while a history request runs

	storageKey []byte // signs the addresses of recordings

	mu       sync.RWMutex
	settings Settings
}

// New returns the API of x.
func New(x *exchange.Exchange, settings Settings, now func() time.Time) (*API, error) {
	all, err := scenario.All("ringme")
	if err != nil {
		return nil, err
	}
	a := &API{
		x: x, settings: settings.Complete(), now: now, mux: http.NewServeMux(), scenarios: map[string]scenario.Scenario{},
		storageKey: []byte(rand.Text()),
	}
	for _, s := range all {
		a.scenarios[s.Name] = s
	}
	a.routes()
	return a, nil
}

// Settings returns the settings in force.
func (a *API) Settings() Settings {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.settings
}

// Change puts settings in force.
func (a *API) Change(s Settings) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settings = s.Complete()
}

// Reset forgets tokens and quota and puts settings in force.
func (a *API) Reset(s Settings) {
	a.tokens.Kill("")
	a.quota.reset()
	a.Change(s)
}

// KillTokens makes the tokens of an application invalid before their time, or all with an empty
// client id.
func (a *API) KillTokens(clientID string) int { return a.tokens.Kill(clientID) }

// SetQuotaUsed sets the shared counter of an account for the current hour.
func (a *API) SetQuotaUsed(account, used int) { a.quota.set(a.now(), account, used) }

// ClientID returns the application whose token a request carries, or nothing.
func (a *API) ClientID(r *http.Request) string {
	id, _ := a.tokens.ClientID(bearer.Of(r), a.now())
	return id
}

// Profile is the installation of the PBX that an account has: there is one kind of RingMe only.
func (a *API) Profile(int) string { return "" }

// Delivery returns the delivery options in force.
func (a *API) Delivery() delivery.Options { return a.Settings().Delivery }

// messages of the errors that the PBX documents; others get the text of their status.
var messages = map[int]string{
	http.StatusUnauthorized:    "Unauthorized",
	http.StatusForbidden:       "Access denied",
	http.StatusTooManyRequests: "Rate limit exceeded",
}

// WriteError answers with an error as the PBX would; code is its member status.
func (a *API) WriteError(w http.ResponseWriter, _ *http.Request, status int, code string) {
	writeError(w, apiError{status, cmp.Or(messages[status], http.StatusText(status)), code})
}

// Named returns the registration that the path of a request names.
func (a *API) Named(r *http.Request) (id int, ok bool) {
	path := strings.TrimSuffix(r.URL.Path, "/")
	id, err := strconv.Atoi(path[strings.LastIndex(path, "/")+1:])
	return id, err == nil
}

// foreignTypes are given in turn to invented foreign registrations.
var foreignTypes = []string{"dial-in", "dial-out", "answer", "hangup"}

// Foreign invents the i-th registration of another integration.
func (a *API) Foreign(r exchange.Registration, i int) exchange.Registration {
	r.EventType = foreignTypes[i%len(foreignTypes)]
	return r
}

// Match names the route of a request, for example "GET /extension/{extension}/event", and returns
// the request with its path values in place.
func (a *API) Match(r *http.Request) string {
	_, pattern := a.mux.Handler(trimmed(r))
	return strings.Replace(pattern, Base, "", 1)
}

// ServeHTTP implements http.Handler. Both spellings of a path, with and without a trailing slash,
// mean the same.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, trimmed(r)) }

func trimmed(r *http.Request) *http.Request {
	if r.URL.Path == "/" || !strings.HasSuffix(r.URL.Path, "/") {
		return r
	}
	r2 := *r
	u := *r.URL
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
	r2.URL = &u
	return &r2
}

func (a *API) routes() {
	a.mux.HandleFunc("POST /oauth/token", a.token)
	a.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { writeError(w, errNotFound) })
	a.handle("GET", "/user", a.user)
	a.handle("GET", "/client/{client}/extension", a.listExtensions)
	a.handle("GET", "/client/{client}/limit", a.limit)
	a.handle("GET", "/extension/registration", a.deviceRegistration)
	a.handle("GET", "/client/{client}/agent/local", a.listAgents)
	a.handle("GET", "/extension/{extension}/agent", a.getAgent)
	a.handle("POST", "/extension/{extension}/agent", a.setAgent)
	a.eventRoutes("/extension/{extension}/event", a.extensionEvents)
	a.eventRoutes("/client/{client}/phone_events", a.accountEvents)
	a.eventRoutes("/client/{client}/agent/{kind}/{agent}/event", a.agentEvents)
	a.handle("POST", "/extension/{extension}/callback", a.callback)
	a.handle("GET", "/client/{client}/current_calls", a.currentCalls)
	a.handle("GET", "/extension/{extension}/current_calls", a.extensionCalls)
	a.handle("PUT", "/extension/{extension}/current_calls/{call}", a.controlCall)
	a.handle("DELETE", "/extension/{extension}/current_calls/{call}", a.dropCall)
	a.handle("GET", "/client/{client}/call_history", a.listHistory)
	a.handle("GET", "/client/{client}/call_history/{call}", a.getHistory)
	a.handle("GET", "/client/{client}/record/{record}/storage_url", a.storageURL)
	a.mux.HandleFunc("GET "+storage+"{record}", a.recording)
}

// request is an authorised request.
type request struct {
	*http.Request
	app     exchange.App
	account exchange.Account
}

// An endpoint answers with a status and a JSON body, nil for none.
type endpoint func(r *request) (status int, body any, err error)

// handle puts authorisation and the hourly quota in front of an endpoint.
func (a *API) handle(method, path string, e endpoint) {
	a.mux.HandleFunc(method+" "+Base+path, func(w http.ResponseWriter, r *http.Request) {
		id, ok := a.tokens.ClientID(bearer.Of(r), a.now())
		app, account, known := a.x.App(id)
		if !ok || !known {
			writeError(w, apiError{code: http.StatusUnauthorized, Message: "Unauthorized"})
			return
		}
		if !a.quota.take(w.Header(), a.now(), account.ID, a.Settings().HourlyLimit, app.HourlyLimit) {
			writeError(w, apiError{http.StatusTooManyRequests, "Rate limit exceeded", "rate_limit_exceeded"})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		status, body, err := e(&request{r, app, account})
		if err != nil {
			writeError(w, a.translate(err))
			return
		}
		writeJSON(w, status, body)
	})
}

// apiError is an error body ("Return codes and statuses"): message, and status where codes alone
// are ambiguous.
type apiError struct {
	code    int
	Message string `json:"message"`
	Status  string `json:"status,omitempty"`
}

func (e apiError) Error() string { return e.Message }

var (
	errNotFound     = apiError{code: http.StatusNotFound, Message: "Not found"}
	errAccessDenied = apiError{http.StatusForbidden, "Access denied", "access_denied"}
)

func badRequest(format string, args ...any) error {
	return apiError{code: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

// translate gives an error of the exchange its form on the wire.
func (a *API) translate(err error) apiError {
	var e apiError
	switch s := a.Settings(); {
	case errors.As(err, &e):
		return e
	case errors.Is(err, exchange.ErrNotFound):
		return errNotFound
	case errors.Is(err, exchange.ErrLimit):
		return apiError{s.EventLimitCode, "Event limit exceeded", s.EventLimitStatus}
	default:
		return apiError{code: http.StatusBadRequest, Message: err.Error()}
	}
}

func writeError(w http.ResponseWriter, e apiError) { writeJSON(w, e.code, e) }

func writeJSON(w http.ResponseWriter, status int, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	// The client may be gone; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(body)
}

func readJSON(r *request, into any) error {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return badRequest("The body could not be read")
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return badRequest("Invalid JSON")
	}
	return nil
}

// client checks that the {client} of a path is the caller's own account.
func (a *API) client(r *request) error {
	id := r.PathValue("client")
	if id == "@me" || id == strconv.Itoa(r.account.ID) {
		return nil
	}
	n, err := strconv.Atoi(id)
	if _, ok := a.x.Account(n); err != nil || !ok {
		return apiError{http.StatusNotFound, "Client not found", "client_not_found"}
	}
	return errAccessDenied
}

// extension resolves the {extension} of a path: an id, or @ and a short number.
func (a *API) extension(r *request) (exchange.Extension, error) {
	return a.extensionByID(r, r.PathValue("extension"))
}

func (a *API) extensionByID(r *request, id string) (exchange.Extension, error) {
	if short, ok := strings.CutPrefix(id, "@"); ok {
		e, found := a.x.ExtensionByNumber(r.account.ID, short)
		if !found {
			return e, errNotFound
		}
		return e, nil
	}
	n, err := strconv.Atoi(id)
	e, ok := a.x.Extension(n)
	switch {
	case err != nil || !ok:
		return e, errNotFound
	case e.Account != r.account.ID:
		return e, errAccessDenied
	}
	return e, nil
}
