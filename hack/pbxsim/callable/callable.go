// Package callable is a simulated Callable.io as far as its clients see it, which is not at all:
// there is no management API. An administrator types the event URL into a web interface, which a
// hook of the control plane stands for ("The Generic Event").
package callable

import (
	"net/http"
	"sync"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
)

// The levels of events that an account may get.
const (
	NoListener = "no-listener" // A and B legs; no PBX listener is installed
	LevelOne   = "level-1"     // the A leg only
)

// Settings are what differs between accounts.
type Settings struct {
	Profile  string           `json:"profile"`  // no-listener or level-1; default: all three levels
	Delivery delivery.Options `json:"delivery"` // of every notification, unless the call brings its own
}

// API is the absent management API.
type API struct {
	mu       sync.RWMutex
	settings Settings
}

// New returns the API.
func New(settings Settings) *API { return &API{settings: settings} }

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
	a.settings = s
}

// Reset puts settings in force.
func (a *API) Reset(s Settings) { a.Change(s) }

// Profile is what every account gets.
func (a *API) Profile(int) string { return a.Settings().Profile }

// Delivery returns the delivery options in force.
func (a *API) Delivery() delivery.Options { return a.Settings().Delivery }

// ServeHTTP implements http.Handler: there is nothing.
func (a *API) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "Callable has no management API", http.StatusNotFound)
}

// Match names the route of a request: always the unknown one.
func (a *API) Match(*http.Request) string { return "/" }

// ClientID returns nothing: nobody can authorise.
func (a *API) ClientID(*http.Request) string { return "" }

// WriteError answers with an error.
func (a *API) WriteError(w http.ResponseWriter, _ *http.Request, status int, _ string) {
	http.Error(w, http.StatusText(status), status)
}

// Named returns no registration.
func (a *API) Named(*http.Request) (int, bool) { return 0, false }

// Foreign invents a hook of another integration.
func (a *API) Foreign(r exchange.Registration, _ int) exchange.Registration { return r }

// Hook accepts the dialects that a hook may ask for: there is one only.
func (a *API) Hook(_ int, dialect string) (methods []string, ok bool) {
	return []string{http.MethodPost}, dialect == ""
}
