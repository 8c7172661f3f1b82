// Package linuxbox is the command interface of a simulated LinuxBox PBX: dial and hang up ("PBX
// API"). There is no registration API: the vendor configures where notifications go, which a hook
// of the control plane stands for. The documents give neither answers nor authentication, so both
// are settings. Calls are recorded in a PostgreSQL database, where there is one.
package linuxbox

import (
	"cmp"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// Settings are what the vendor agrees with each customer.
type Settings struct {
	Dialect string `json:"dialect"` // of accounts whose hook names none: A (default), B, C or C-2022

	RequireAuth bool   `json:"requireAuth"` // commands need basic authentication or AuthHeader
	AuthHeader  string `json:"authHeader"`  // header that may carry the secret of an application instead

	DialCode        int    `json:"dialCode"`        // default 200
	DialBody        string `json:"dialBody"`        // default OK
	UnknownLineCode int    `json:"unknownLineCode"` // default 404
	BusyCode        int    `json:"busyCode"`        // default 409
	HangupCode      int    `json:"hangupCode"`      // default 200
	NoCallCode      int    `json:"noCallCode"`      // default 404
	BadRequestCode  int    `json:"badRequestCode"`  // default 400

	DialScenario string  `json:"dialScenario"` // played for every dial; default L10
	DialSpeed    float64 `json:"dialSpeed"`    // default 1, real time

	// Database is the URL of the PostgreSQL database in which the PBX records its calls as Asterisk
	// does, in the table cdr, which is made where it is missing. Default: none.
	Database string `json:"database"`

	Delivery delivery.Options `json:"delivery"` // of every notification, unless the call brings its own
}

// DefaultSettings returns the defaults.
func DefaultSettings() Settings { return Settings{}.Complete() }

// Complete replaces what is not set by the defaults.
func (s Settings) Complete() Settings {
	s.DialCode = cmp.Or(s.DialCode, http.StatusOK)
	s.DialBody = cmp.Or(s.DialBody, "OK")
	s.UnknownLineCode = cmp.Or(s.UnknownLineCode, http.StatusNotFound)
	s.BusyCode = cmp.Or(s.BusyCode, http.StatusConflict)
	s.HangupCode = cmp.Or(s.HangupCode, http.StatusOK)
	s.NoCallCode = cmp.Or(s.NoCallCode, http.StatusNotFound)
	s.BadRequestCode = cmp.Or(s.BadRequestCode, http.StatusBadRequest)
	s.DialScenario = cmp.Or(s.DialScenario, "L10")
	s.DialSpeed = cmp.Or(s.DialSpeed, 1)
	return s
}

// dialects by their names; the value is the profile of the scenarios.
var dialects = map[string]string{"": "", "A": "", "B": "b", "C": "c", "C-2022": "c-2022"}

// API is the command interface in front of one exchange.
type API struct {
	x         *exchange.Exchange
	scenarios map[string]scenario.Scenario
	mux       *http.ServeMux
	journal   journal

	mu       sync.RWMutex
	settings Settings
	dialects map[int]string            // by account, where a hook names one
	dialled  map[string]*exchange.Call // by account and line: the latest command
}

// New returns the API of x.
func New(x *exchange.Exchange, settings Settings) (*API, error) {
	all, err := scenario.All("linuxbox")
	if err != nil {
		return nil, err
	}
	a := &API{x: x, mux: http.NewServeMux(), scenarios: map[string]scenario.Scenario{}}
	for _, s := range all {
		a.scenarios[s.Name] = s
	}
	a.Reset(settings)
	x.OnEnd(a.record)
	a.mux.HandleFunc("GET /dial", a.authorised(a.dial))
	a.mux.HandleFunc("GET /hangup", a.authorised(a.hangUp))
	a.mux.HandleFunc("/", http.NotFound)
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

// Reset forgets dialects and commands and puts settings in force.
func (a *API) Reset(s Settings) {
	a.Change(s)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dialects, a.dialled = map[int]string{}, map[string]*exchange.Call{}
}

// Profile is the dialect of an account as scenarios know it.
func (a *API) Profile(account int) string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return dialects[strings.ToUpper(cmp.Or(a.dialects[account], a.settings.Dialect))]
}

// Hook notes the dialect of an account's hook, unless it is unknown, and returns the methods that a
// hook may have.
func (a *API) Hook(account int, dialect string) (methods []string, ok bool) {
	if _, ok := dialects[strings.ToUpper(dialect)]; !ok {
		return nil, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dialects[account] = dialect
	return []string{http.MethodGet, http.MethodPost}, true
}

// Delivery returns the delivery options in force.
func (a *API) Delivery() delivery.Options { return a.Settings().Delivery }

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// Match names the route of a request.
func (a *API) Match(r *http.Request) string {
	_, pattern := a.mux.Handler(r)
	return pattern
}

// ClientID returns the application whose credentials a request carries, or nothing.
func (a *API) ClientID(r *http.Request) string {
	if id, secret, ok := r.BasicAuth(); ok {
		if app, _, known := a.x.App(id); known && same(app.ClientSecret, secret) {
			return id
		}
		return ""
	}
	name := a.Settings().AuthHeader
	if name == "" || r.Header.Get(name) == "" {
		return ""
	}
	app, ok := a.x.AppBySecret(r.Header.Get(name))
	if !ok {
		return ""
	}
	return app.ClientID
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// WriteError answers with an error in plain text.
func (a *API) WriteError(w http.ResponseWriter, _ *http.Request, status int, _ string) {
	http.Error(w, http.StatusText(status), status)
}

// Named returns no registration: there are none.
func (a *API) Named(*http.Request) (int, bool) { return 0, false }

// Foreign invents a hook of another integration.
func (a *API) Foreign(r exchange.Registration, _ int) exchange.Registration { return r }

// command is an authorised command.
type command struct {
	*http.Request
	account exchange.Account
}

// authorised finds the account of a command: that of its credentials, else the first.
func (a *API) authorised(next func(w http.ResponseWriter, c command)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, account, ok := a.x.App(a.ClientID(r))
		_, _, basic := r.BasicAuth()
		if !ok && (a.Settings().RequireAuth || basic) {
			w.Header().Set("WWW-Authenticate", `Basic realm="PBX"`)
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		if !ok {
			account = a.x.FirstAccount()
		}
		next(w, command{r, account})
	}
}

// line resolves the parameter exten.
func (a *API) line(c command) (exchange.Extension, bool) {
	return a.x.ExtensionByNumber(c.account.ID, c.URL.Query().Get("exten"))
}

// dial rings a line and then calls the number.
func (a *API) dial(w http.ResponseWriter, c command) {
	s, q := a.Settings(), c.URL.Query()
	line, ok := a.line(c)
	switch {
	case q.Get("number") == "" || q.Get("exten") == "":
		http.Error(w, "number and exten are required", s.BadRequestCode)
	case !ok:
		http.Error(w, "unknown exten", s.UnknownLineCode)
	case a.callOf(line) != nil:
		http.Error(w, "exten is busy", s.BusyCode)
	default:
		if err := a.place(c, line, q.Get("number"), q.Get("custom_call_id")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(s.DialCode)
		_, _ = io.WriteString(w, s.DialBody) // the client may be gone
	}
}

func (a *API) place(c command, line exchange.Extension, number, custom string) error {
	s := a.Settings()
	sc, ok := a.scenarios[s.DialScenario]
	if !ok {
		return fmt.Errorf("the simulator has no scenario %s", s.DialScenario)
	}
	sc, err := sc.As(a.Profile(line.Account))
	if err != nil {
		return err
	}
	values := map[string]string{"customer": number, "custom": custom}
	cast, err := a.x.Cast(line.Account, sc, map[string]string{"10": line.Number}, values)
	if err != nil {
		return err
	}
	if to, ok := a.x.ExtensionByNumber(line.Account, number); ok {
		cast.Extensions["customer"] = to.Party()
	}
	call := a.x.Place(c.Context(), exchange.Order{
		Account: line.Account, Scenario: sc, Seed: rand.Text(), Cast: cast, Speed: s.DialSpeed, Delivery: s.Delivery,
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.dialled, func(_ string, c *exchange.Call) bool { return c.Ended() })
	a.dialled[key(line)] = call
	return nil
}

func key(line exchange.Extension) string { return fmt.Sprintf("%d/%s", line.Account, line.Number) }

// callOf returns the call that a line is in: dialled by command, or with an open leg; nil when it
// is free.
func (a *API) callOf(line exchange.Extension) *exchange.Call {
	a.mu.RLock()
	call := a.dialled[key(line)]
	a.mu.RUnlock()
	if call != nil && !call.Ended() {
		return call
	}
	for _, c := range a.x.Calls(line.Account) {
		if c.Ended() {
			continue
		}
		for _, l := range scenario.Legs(c.Emitted()) {
			if l.Hangup == nil && l.Sender.Number == line.Name {
				return c
			}
		}
	}
	return nil
}

// hangUp ends the call of a line.
func (a *API) hangUp(w http.ResponseWriter, c command) {
	s := a.Settings()
	line, ok := a.line(c)
	if !ok {
		http.Error(w, "unknown exten", s.UnknownLineCode)
		return
	}
	call := a.callOf(line)
	if call == nil {
		http.Error(w, "no call", s.NoCallCode)
		return
	}
	call.Drop()
	w.WriteHeader(s.HangupCode)
	_, _ = io.WriteString(w, "OK") // the client may be gone
}
