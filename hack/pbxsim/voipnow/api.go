// Package voipnow is the management API of a simulated 4PSA VoipNow: OAuth and the parts of
// UnifiedAPI that an integration of call events needs, which are phone call events, phone calls,
// call detail records and the existence of extensions ("UnifiedAPI v5", "Obtain Authorization",
// "PhoneCallEvents", "PhoneCalls Service"). Where the documents contradict each other or are silent
// the behaviour is a setting.
package voipnow

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
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
const Base = "/uapi"

// maxBody bounds request bodies.
const maxBody = 64 << 10

// Early is the profile of a VoipNow 3 without answer events, whose hangups say ANSWER or UNKNOWN.
const Early = "early"

// Forms of answers.
const (
	AnswerFull   = "full"   // one object with all members
	AnswerID     = "id"     // one object with its id only
	AnswerArray  = "array"  // an array
	AnswerEntry  = "entry"  // an object with the items in entry
	AnswerObject = "object" // as entry, but a list by id is the object itself
	AnswerNone   = "none"   // 204 and no body
)

// Settings are what differs between installations, and what the documents leave open.
type Settings struct {
	TokenLifetime delivery.Duration `json:"tokenLifetime"` // default 1h; older revisions say 2h
	OmitExpiresIn bool              `json:"omitExpiresIn"` // some token answers lack expires_in

	Profile      string `json:"profile"`      // early: event types 0 to 2 only; default: 0 to 4
	NumericTypes bool   `json:"numericTypes"` // type, method and status as numbers; default: as text
	CreateAnswer string `json:"createAnswer"` // full (default), id, array, entry or none
	UpdateAnswer string `json:"updateAnswer"` // full (default) or none
	DeleteAnswer string `json:"deleteAnswer"` // array (default), entry or none
	ListAnswer   string `json:"listAnswer"`   // entry (default), array or object
	PageSize     int    `json:"pageSize"`     // items when the request has no count; default 20

	SimpleScenario string  `json:"simpleScenario"` // played for every simple call; default V11, or V11-internal to a colleague
	SimpleSpeed    float64 `json:"simpleSpeed"`    // default 1, real time

	OmitCallID bool `json:"omitCallID"` // call detail records without callId, which no document promises

	Delivery delivery.Options `json:"delivery"` // of every notification, unless the call brings its own
}

// DefaultSettings returns the documented defaults.
func DefaultSettings() Settings { return Settings{}.Complete() }

// Complete replaces what is not set by the documented defaults.
func (s Settings) Complete() Settings {
	s.TokenLifetime = cmp.Or(s.TokenLifetime, delivery.Duration(time.Hour))
	s.CreateAnswer = cmp.Or(s.CreateAnswer, AnswerFull)
	s.UpdateAnswer = cmp.Or(s.UpdateAnswer, AnswerFull)
	s.DeleteAnswer = cmp.Or(s.DeleteAnswer, AnswerArray)
	s.ListAnswer = cmp.Or(s.ListAnswer, AnswerEntry)
	s.PageSize = cmp.Or(s.PageSize, 20)
	s.SimpleSpeed = cmp.Or(s.SimpleSpeed, 1)
	return s
}

// API is the management API in front of one exchange.
type API struct {
	x         *exchange.Exchange
	scenarios map[string]scenario.Scenario
	now       func() time.Time
	mux       *http.ServeMux
	tokens    bearer.Tokens

	mu       sync.RWMutex
	settings Settings
	keys     map[eventScope]int // ids given so far
	nonces   map[string]string  // by the id of the phone call
}

// New returns the API of x.
func New(x *exchange.Exchange, settings Settings, now func() time.Time) (*API, error) {
	all, err := scenario.All("voipnow")
	if err != nil {
		return nil, err
	}
	a := &API{x: x, now: now, mux: http.NewServeMux(), scenarios: map[string]scenario.Scenario{}}
	for _, s := range all {
		a.scenarios[s.Name] = s
	}
	a.Reset(settings)
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

// Reset forgets tokens and puts settings in force.
func (a *API) Reset(s Settings) {
	a.tokens.Kill("")
	a.mu.Lock()
	a.keys, a.nonces = map[eventScope]int{}, map[string]string{}
	a.mu.Unlock()
	a.Change(s)
}

// Profile is the installation that every account has.
func (a *API) Profile(int) string { return a.Settings().Profile }

// Delivery returns the delivery options in force.
func (a *API) Delivery() delivery.Options { return a.Settings().Delivery }

// KillTokens makes the tokens of an application invalid before their time, or all with an empty
// client id.
func (a *API) KillTokens(clientID string) int { return a.tokens.Kill(clientID) }

// ClientID returns the application whose token a request carries, or nothing.
func (a *API) ClientID(r *http.Request) string {
	id, _ := a.tokens.ClientID(token(r), a.now())
	return id
}

// token is in the Authorization header or in a query parameter, there with the word Bearer too
// ("Authentication").
func token(r *http.Request) string {
	return cmp.Or(bearer.Of(r), bearer.Parse(r.URL.Query().Get("accessRequestToken")))
}

// Match names the route of a request, for example "GET
// /extensions/{user}/{extension}/phoneCallEvents".
func (a *API) Match(r *http.Request) string {
	_, pattern := a.mux.Handler(trimmed(r))
	return strings.Replace(pattern, Base, "", 1)
}

// ServeHTTP implements http.Handler. A trailing slash makes no difference: the documents have none,
// the vendor's client sends one.
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
	a.mux.HandleFunc("POST "+tokenPath, a.token)
	a.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, apiError{http.StatusNotFound, "not_found", "There is no such resource"})
	})
	a.handle("GET", "/extensions/{user}", a.listExtensions)
	a.handle("GET", "/extensions/{user}/{extension}/presence", a.presence)
	events := "/extensions/{user}/{extension}/phoneCallEvents"
	a.handle("POST", events, a.createEvent)
	a.handle("POST", events+"/{type}", a.createEvent)
	a.handle("GET", events, a.listEvents)
	a.handle("GET", events+"/{type}", a.listEvents)
	a.handle("GET", events+"/{type}/{id}", a.listEvents)
	a.handle("PUT", events+"/{type}/{id}", a.updateEvent)
	a.handle("DELETE", events, a.deleteEvents)
	a.handle("DELETE", events+"/{type}", a.deleteEvents)
	a.handle("DELETE", events+"/{type}/{id}", a.deleteEvents)
	a.handle("POST", "/phoneCalls/{user}/simple", a.createCall)
	a.handle("GET", "/phoneCalls/{user}/{extension}", a.listCalls)
	a.handle("GET", "/phoneCalls/{user}/{extension}/{call}", a.listCalls)
	a.handle("PUT", "/phoneCalls/{user}/{extension}/{call}", a.controlCall)
	a.handle("DELETE", "/phoneCalls/{user}/{extension}", a.hangUp)
	a.handle("DELETE", "/phoneCalls/{user}/{extension}/{call}", a.hangUp)
	a.handle("GET", "/cdr", a.listCDR)
	a.handle("GET", "/cdr/{owner}", a.listCDR)
}

// request is an authorised request.
type request struct {
	*http.Request
	app     exchange.App
	account exchange.Account
}

// An endpoint answers with a status and a JSON body, nil for none.
type endpoint func(r *request) (status int, body any, err error)

// handle puts authorisation in front of an endpoint.
func (a *API) handle(method, path string, e endpoint) {
	a.mux.HandleFunc(method+" "+Base+path, func(w http.ResponseWriter, r *http.Request) {
		app, account, ok := a.x.App(a.ClientID(r))
		if !ok {
			writeError(w, errUnauthorized)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		status, body, err := e(&request{r, app, account})
		if err != nil {
			writeError(w, translate(err))
			return
		}
		writeJSON(w, status, body)
	})
}

// apiError is the error of a resource ("UnifiedAPI v5 — HTTP Return Codes"): an object, unlike
// OAuth's.
type apiError struct {
	status  int
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e apiError) Error() string { return e.Message }

var errUnauthorized = apiError{http.StatusUnauthorized, "unauthorized", "The access token is missing, unknown or expired"}

// invalid is a 400, which stands for everything that other APIs answer 404, 409 or 422.
func invalid(code, format string, args ...any) error {
	return apiError{http.StatusBadRequest, code, fmt.Sprintf(format, args...)}
}

func translate(err error) apiError {
	if e, ok := errors.AsType[apiError](err); ok {
		return e
	}
	return apiError{http.StatusInternalServerError, "internal_error", err.Error()}
}

func writeError(w http.ResponseWriter, e apiError) {
	writeJSON(w, e.status, map[string]apiError{"error": e})
}

// WriteError answers with an error in the shape of the path: OAuth has its own.
func (a *API) WriteError(w http.ResponseWriter, r *http.Request, status int, code string) {
	if r.URL.Path == tokenPath {
		writeJSON(w, status, oauthError{cmp.Or(code, "server_error")})
		return
	}
	code = cmp.Or(code, strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "_"))
	writeError(w, apiError{status, code, http.StatusText(status)})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The client may be gone; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(body)
}

func readJSON(r *request, into any) error {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return invalid("request_invalid", "The body could not be read")
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return invalid("request_invalid", "The body is not JSON")
	}
	return nil
}

// text is a member that is documented as a number and sent as text, or the other way round.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(raw []byte) error {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		*t = text(s)
		return nil
	}
	var n json.Number
	if err := json.Unmarshal(raw, &n); err != nil {
		return err
	}
	*t = text(n)
	return nil
}

// checkUser resolves {user}: an alias of the authorised user, or its id.
func (r *request) checkUser() error {
	switch id := r.PathValue("user"); id {
	case "@me", "@viewer", "@owner", strconv.Itoa(r.account.ID):
		return nil
	default:
		return invalid("user_invalid", "The user %s is unknown", id)
	}
}

// extensionNumber is an extended or a short number.
var extensionNumber = regexp.MustCompile(`^(\d+\*)?\d+$`)

// extension resolves {extension} of {user}.
func (a *API) extension(r *request) (exchange.Extension, error) {
	if err := r.checkUser(); err != nil {
		return exchange.Extension{}, err
	}
	return a.extensionByNumber(r, r.PathValue("extension"))
}

func (a *API) extensionByNumber(r *request, number string) (exchange.Extension, error) {
	e, ok := a.x.ExtensionByNumber(r.account.ID, number)
	if !ok || !extensionNumber.MatchString(number) {
		return e, invalid("extension_invalid", "The extension %s is unknown", number)
	}
	return e, nil
}

// extension is an item of the list of extensions. No document that could be recovered describes it.
type extension struct {
	ID             string `json:"id"`
	ExtendedNumber string `json:"extendedNumber"`
	Label          string `json:"label"`
	Type           string `json:"type"`
	Links          links  `json:"links"`
}

type links struct {
	Self string `json:"self"`
}

var extensionTypes = map[scenario.ExtensionType]string{
	scenario.Phone: "phoneTerminal", scenario.Queue: "queue", scenario.IVR: "ivr",
}

func (a *API) listExtensions(r *request) (int, any, error) {
	if err := r.checkUser(); err != nil {
		return 0, nil, err
	}
	list := []extension{}
	for _, e := range a.x.Extensions(r.account.ID) {
		list = append(list, extension{
			strconv.Itoa(e.ID), e.Name, e.Label, extensionTypes[e.Type], links{self(r, "extensions", e.Name)},
		})
	}
	return a.page(r, list)
}

func (a *API) presence(r *request) (int, any, error) {
	e, err := a.extension(r)
	return http.StatusOK, map[string]any{"extension": e.Name, "registered": e.Type == scenario.Phone}, err
}

// self is the address of a resource, as a client would write it.
func self(r *request, resource, extension string, more ...string) string {
	path := append([]string{"http://" + r.Host + Base, resource, "@me", extension}, more...)
	return strings.Join(path, "/")
}
