// Package simclient is the contract of the simulator's control plane, the HTTP API under /sim/, and
// a client for it.
package simclient

import (
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// Duration is a duration that is written as text, for example 1.5s.
type Duration = delivery.Duration

// CallRequest places calls.
type CallRequest struct {
	Scenario string  `json:"scenario"`          // for example S2
	Seed     string  `json:"seed,omitempty"`    // of the calls' ids; default: a new one every time
	Count    int     `json:"count,omitempty"`   // default 1, at most 1000; the calls run side by side
	Speed    float64 `json:"speed,omitempty"`   // of the delivery against the scenario's own time; default 1
	Wait     bool    `json:"wait,omitempty"`    // answer when everything is delivered or given up
	Account  int     `json:"account,omitempty"` // default: the first account
	// Extensions gives parts of the scenario to other extensions: the scenario's number to a number
	// of the account.
	Extensions map[string]string `json:"extensions,omitempty"`
	// Values overrides customer, other and did.
	Values   map[string]string `json:"values,omitempty"`
	Delivery *delivery.Options `json:"delivery,omitempty"` // default: that of the settings
}

// Call is a call that was placed.
type Call struct {
	ID       string            `json:"id"`      // first CallID
	CallIDs  []string          `json:"callIDs"` // empty when the scenario makes no call events
	Scenario string            `json:"scenario"`
	Seed     string            `json:"seed"`
	Account  int               `json:"account"`
	Done     bool              `json:"done"`
	Emitted  int               `json:"emitted"`           // events so far, registered or not
	Records  []exchange.Record `json:"records,omitempty"` // what became of the registered ones
}

// Delivered counts the notifications of the call that were answered 2xx.
func (c Call) Delivered() int {
	n := 0
	for _, r := range c.Records {
		if r.Outcome == exchange.Delivered {
			n++
		}
	}
	return n
}

// LoadRequest places many calls without regard to their timelines: each call's notifications follow
// one another as fast as they are answered.
type LoadRequest struct {
	Scenario    string  `json:"scenario"`
	Calls       int     `json:"calls"`                 // at most 1,000,000
	Concurrency int     `json:"concurrency,omitempty"` // calls at the same time; default 16, at most 512
	Rate        float64 `json:"rate,omitempty"`        // calls started per second; default: as fast as it goes
	Seed        string  `json:"seed,omitempty"`
	Account     int     `json:"account,omitempty"`
	// Extensions spreads a part of the scenario over several numbers of the account, in turn.
	Extensions map[string][]string `json:"extensions,omitempty"`
	Values     map[string]string   `json:"values,omitempty"`
	Delivery   *delivery.Options   `json:"delivery,omitempty"`
	Wait       bool                `json:"wait,omitempty"`
	Detail     bool                `json:"detail,omitempty"` // remember every call's acknowledged events
}

// Load is the state of a load run.
type Load struct {
	ID        string   `json:"id"`
	Done      bool     `json:"done"`
	Calls     int      `json:"calls"` // finished so far
	Delivered int      `json:"delivered"`
	Failed    int      `json:"failed"`
	Lost      int      `json:"lost"`
	Elapsed   Duration `json:"elapsed"`
	PerSecond float64  `json:"perSecond"` // delivered notifications
	// LastError is the latest reason of a failure.
	LastError    string         `json:"lastError,omitempty"`
	Acknowledged []Acknowledged `json:"acknowledged,omitempty"`
}

// Acknowledged lists the events of one call that were answered 2xx.
type Acknowledged struct {
	Seed    string   `json:"seed"`
	CallIDs []string `json:"callIDs"`
	Events  []Event  `json:"events"`
	Missing int      `json:"missing"` // notifications that failed or were lost
}

// Event identifies one event of a call.
type Event struct {
	CallID    string `json:"callID"`
	LegID     string `json:"legID"`
	EventType string `json:"eventType"`
}

// FaultKind is what goes wrong.
type FaultKind string

// The kinds of faults.
const (
	FaultStatus     FaultKind = "status"      // answer Status without doing anything
	FaultSlow       FaultKind = "slow"        // wait Delay, then serve
	FaultTruncated  FaultKind = "truncated"   // serve, but break off in the middle of the body
	FaultReset      FaultKind = "reset"       // reset the connection without doing anything
	FaultResetAfter FaultKind = "reset-after" // do what was asked, then reset the connection instead of answering
	// FaultVanished makes a registration disappear: the one that the path names before the request
	// is served, or the one that it creates right afterwards.
	FaultVanished FaultKind = "vanished"
)

// Fault makes matching requests to the PBX fail.
type Fault struct {
	ID      int               `json:"id,omitempty"`
	Method  string            `json:"method,omitempty"` // default: any
	Path    string            `json:"path,omitempty"`   // regular expression; default: any
	Kind    FaultKind         `json:"kind"`
	Status  int               `json:"status,omitempty"`  // of kind status; default 500
	Code    string            `json:"code,omitempty"`    // in the error body, for example rate_limit_exceeded
	Headers map[string]string `json:"headers,omitempty"` // of kind status, for example X-RateLimit-Reset
	Delay   Duration          `json:"delay,omitzero"`    // before anything else happens
	Skip    int               `json:"skip,omitempty"`    // matching requests that pass first
	Count   int               `json:"count,omitempty"`   // requests that it hits; default: until it is removed
	Hits    int               `json:"hits"`              // requests hit so far
}

// Requests counts what the PBX was asked.
type Requests struct {
	Total             int              `json:"total"`
	MaxPerMinute      int              `json:"maxPerMinute"`      // in any 60 seconds
	CollectionDeletes int              `json:"collectionDeletes"` // a client must never send one
	Routes            map[string]Route `json:"routes"`            // by method and route, for example "GET /user"
	Apps              map[string]int   `json:"apps"`              // by OAuth client id
}

// Route counts the requests of one route.
type Route struct {
	Count        int         `json:"count"`
	MaxPerMinute int         `json:"maxPerMinute"`
	Statuses     map[int]int `json:"statuses"` // by status; 0: connection reset
}

// Writes counts the requests that change registrations: POST, PUT and DELETE, but not those for
// tokens.
func (r Requests) Writes() int {
	n := 0
	for route, c := range r.Routes {
		if route != TokenRoute && route != VoipNowTokenRoute && !isRead(route) {
			n += c.Count
		}
	}
	return n
}

// Routes that tests ask for most. Those without a name of a PBX are RingMe's.
const (
	TokenRoute       = "POST /oauth/token"
	ExtensionsRoute  = "GET /client/{client}/extension"
	ListEventsRoute  = "GET /extension/{extension}/event"
	CreateEventRoute = "POST /extension/{extension}/event"
	DeleteEventRoute = "DELETE /extension/{extension}/event/{id}"

	VoipNowTokenRoute       = "POST /oauth/token.php"
	VoipNowListEventsRoute  = "GET /extensions/{user}/{extension}/phoneCallEvents"
	VoipNowCreateEventRoute = "POST /extensions/{user}/{extension}/phoneCallEvents"
	VoipNowUpdateEventRoute = "PUT /extensions/{user}/{extension}/phoneCallEvents/{type}/{id}"
	VoipNowDeleteEventRoute = "DELETE /extensions/{user}/{extension}/phoneCallEvents/{type}/{id}"
	VoipNowSimpleCallRoute  = "POST /phoneCalls/{user}/simple"
	VoipNowCDRRoute         = "GET /cdr"

	LinuxBoxDialRoute   = "GET /dial"
	LinuxBoxHangupRoute = "GET /hangup"
)

func isRead(route string) bool { return len(route) > 4 && route[:4] == "GET " }

// Hook is an event URL that an administrator types into a PBX without a registration API: Callable,
// LinuxBox.
type Hook struct {
	Account int    `json:"account,omitempty"`
	Name    string `json:"name,omitempty"`    // tells several hooks of an account apart
	URL     string `json:"url"`               // empty takes the hook out; LinuxBox B and C append the event to its path
	Method  string `json:"method,omitempty"`  // LinuxBox: GET (default) or POST
	Dialect string `json:"dialect,omitempty"` // LinuxBox, of the whole account: A, B, C or C-2022; default: as in the settings
}

// NewExtension creates extensions.
type NewExtension struct {
	Account int                    `json:"account,omitempty"`
	Number  string                 `json:"number"` // short; of the first one
	ID      int                    `json:"id,omitempty"`
	Type    scenario.ExtensionType `json:"type,omitempty"` // default Phone
	Label   string                 `json:"label,omitempty"`
	Count   int                    `json:"count,omitempty"` // consecutive numbers; default 1
}

// Foreign sets how many registrations other integrations hold on an extension. Existing ones stay
// as they are; the newest go first, new ones are invented. Nothing is delivered to them.
type Foreign struct {
	Account   int    `json:"account,omitempty"`
	Extension string `json:"extension"` // number
	Count     int    `json:"count"`
}

// Quota sets the shared request counter of an account for the current hour.
type Quota struct {
	Account int `json:"account,omitempty"`
	Used    int `json:"used"`
}

// AgentState logs a queue agent in or out.
type AgentState struct {
	Account   int    `json:"account,omitempty"`
	Extension string `json:"extension"` // number
	Status    string `json:"status"`    // available or logged_out
}

// App changes the secret of an OAuth client.
type App struct {
	ClientID     string `json:"clientID"`
	ClientSecret string `json:"clientSecret"`
}

// Scenario names a call that can be placed.
type Scenario struct {
	Name     string   `json:"name"`
	Title    string   `json:"title"`
	Duration Duration `json:"duration"`
	Parties  []string `json:"parties"`
}
