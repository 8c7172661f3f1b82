// Package exchange is the inside of a simulated PBX: its accounts and extensions, the event
// registrations on them, and the calls in progress. It speaks no HTTP; the management API in front
// of it belongs to the PBX's own package.
package exchange

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// What the methods of Exchange fail with.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	ErrLimit    = errors.New("event limit reached")
)

// Account is one client of the PBX.
type Account struct {
	ID         int         `json:"id"`
	Prefix     string      `json:"prefix"` // client prefix of extension names, for example 1234; empty: none
	Domain     string      `json:"domain"` // SIP domain
	Apps       []App       `json:"apps"`
	Extensions []Extension `json:"extensions,omitempty"`
	Agents     []Agent     `json:"agents,omitempty"`
}

// App is a trusted application that may use the management API for its account.
type App struct {
	ClientID     string `json:"clientID"`
	ClientSecret string `json:"clientSecret"`
	HourlyLimit  int    `json:"hourlyLimit,omitempty"` // personal limit against the account's shared counter; 0: none
}

// Extension is a number on the PBX. Renumbering makes a new one, so an id always means one number.
type Extension struct {
	ID      int                    `json:"id"`
	Account int                    `json:"account"`
	Number  string                 `json:"number"` // short, for example 101; leading zeros count
	Name    string                 `json:"name"`   // with the prefix, for example 1234*101
	Domain  string                 `json:"domain"`
	Type    scenario.ExtensionType `json:"type"`
	Label   string                 `json:"label,omitempty"`
	Blocked bool                   `json:"blocked,omitempty"`
	Created time.Time              `json:"created"`
}

// Party is the extension as scenarios know it.
func (e Extension) Party() scenario.Extension {
	return scenario.Extension{
		Number: e.Name, ID: strconv.Itoa(e.ID), Type: e.Type, Domain: e.Domain, Label: e.Label,
	}
}

// Agent states.
const (
	Available = "available"
	LoggedOut = "logged_out"
)

// Agent is a queue agent who is an extension of the account.
type Agent struct {
	ID        int    `json:"id"`
	Account   int    `json:"account"`
	Extension int    `json:"extension"` // id
	Number    string `json:"number"`    // short number, alternative to the id in configuration
	Name      string `json:"name"`
	Status    string `json:"status"` // available or logged_out
}

// Exchange is one simulated PBX. Its methods are safe for concurrent use.
type Exchange struct {
	now    func() time.Time
	sender *delivery.Sender

	mu            sync.RWMutex
	accounts      map[int]Account
	extensions    map[int]Extension
	numbers       map[number]int // extension ids by short number
	agents        map[int]Agent
	registrations map[Owner][]Registration
	nextID        int

	calls callList
	ended func(ctx context.Context, c *Call) error // see OnEnd; may be nil
}

// number is a short number within an account.
type number struct {
	account int
	short   string
}

// New returns a PBX with these accounts. Event times and creation dates come from now.
func New(accounts []Account, sender *delivery.Sender, now func() time.Time) (*Exchange, error) {
	x := &Exchange{now: now, sender: sender}
	return x, x.Reset(accounts)
}

// Reset puts the PBX back to these accounts: no registration, no call.
func (x *Exchange) Reset(accounts []Account) error {
	x.calls.stop()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.accounts = map[int]Account{}
	x.extensions = map[int]Extension{}
	x.numbers = map[number]int{}
	x.agents = map[int]Agent{}
	x.registrations = map[Owner][]Registration{}
	x.nextID = 10000
	errs := make([]error, 0, len(accounts))
	for _, a := range accounts {
		errs = append(errs, x.addAccount(a))
	}
	return errors.Join(errs...)
}

func (x *Exchange) addAccount(a Account) error {
	if _, ok := x.accounts[a.ID]; ok || a.ID == 0 {
		return fmt.Errorf("account %d: needs an id of its own", a.ID)
	}
	extensions, agents := a.Extensions, a.Agents
	a.Extensions, a.Agents = nil, nil
	x.accounts[a.ID] = a
	for _, e := range extensions {
		e.Account = a.ID
		if _, err := x.addExtension(e); err != nil {
			return fmt.Errorf("account %d: %w", a.ID, err)
		}
	}
	for _, g := range agents {
		e, ok := x.byNumber(a.ID, g.Number)
		if !ok {
			return fmt.Errorf("account %d: agent %d: no extension %q", a.ID, g.ID, g.Number)
		}
		g.Account, g.Extension = a.ID, e.ID
		g.Status = cmp.Or(g.Status, LoggedOut)
		x.agents[g.ID] = g
	}
	return nil
}

// FirstAccount is the account with the lowest id, whose commands are those of nobody in particular.
func (x *Exchange) FirstAccount() Account {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.accounts[slices.Min(slices.Collect(maps.Keys(x.accounts)))]
}

// App finds the application with this OAuth client id, and its account.
func (x *Exchange) App(clientID string) (App, Account, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, a := range x.accounts {
		for _, app := range a.Apps {
			if app.ClientID == clientID {
				return app, a, true
			}
		}
	}
	return App{}, Account{}, false
}

// AppBySecret finds the application with this secret.
func (x *Exchange) AppBySecret(secret string) (App, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, a := range x.accounts {
		for _, app := range a.Apps {
			if app.ClientSecret == secret {
				return app, true
			}
		}
	}
	return App{}, false
}

// SetSecret changes the secret of an application.
func (x *Exchange) SetSecret(clientID, secret string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, a := range x.accounts {
		i := slices.IndexFunc(a.Apps, func(p App) bool { return p.ClientID == clientID })
		if i < 0 {
			continue
		}
		a.Apps = slices.Clone(a.Apps)
		a.Apps[i].ClientSecret = secret
		x.accounts[id] = a
		return nil
	}
	return fmt.Errorf("application %q: %w", clientID, ErrNotFound)
}

// Account returns an account without its extensions and agents.
func (x *Exchange) Account(id int) (Account, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	a, ok := x.accounts[id]
	return a, ok
}

// Extension returns an extension by id.
func (x *Exchange) Extension(id int) (Extension, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	e, ok := x.extensions[id]
	return e, ok
}

// ExtensionByNumber returns an extension by its short number or its full name.
func (x *Exchange) ExtensionByNumber(account int, name string) (Extension, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byNumber(account, name)
}

func (x *Exchange) byNumber(account int, name string) (Extension, bool) {
	short := strings.TrimPrefix(name, x.accounts[account].Prefix+"*")
	e, ok := x.extensions[x.numbers[number{account, short}]]
	return e, ok
}

// Extensions lists the extensions of an account, or of all with account 0, by id.
func (x *Exchange) Extensions(account int) []Extension {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var list []Extension
	for _, e := range x.extensions {
		if account == 0 || e.Account == account {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b Extension) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// AddExtension creates an extension; without an id the PBX chooses one.
func (x *Exchange) AddExtension(e Extension) (Extension, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.addExtension(e)
}

func (x *Exchange) addExtension(e Extension) (Extension, error) {
	a, ok := x.accounts[e.Account]
	if !ok {
		return Extension{}, fmt.Errorf("account %d: %w", e.Account, ErrNotFound)
	}
	if _, ok := x.byNumber(a.ID, e.Number); ok || e.Number == "" {
		return Extension{}, fmt.Errorf("extension %q: %w", e.Number, ErrExists)
	}
	if e.ID == 0 {
		e.ID = x.newID()
	}
	if _, ok := x.extensions[e.ID]; ok {
		return Extension{}, fmt.Errorf("extension id %d: %w", e.ID, ErrExists)
	}
	e.Type = cmp.Or(e.Type, scenario.Phone)
	e.Name, e.Domain, e.Created = strings.TrimPrefix(a.Prefix+"*"+e.Number, "*"), a.Domain, x.now()
	x.extensions[e.ID] = e
	x.numbers[number{a.ID, e.Number}] = e.ID
	return e, nil
}

// DeleteExtension removes an extension, its agents, and every registration on them.
func (x *Exchange) DeleteExtension(id int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.deleteExtension(id)
}

func (x *Exchange) deleteExtension(id int) error {
	e, ok := x.extensions[id]
	if !ok {
		return fmt.Errorf("extension %d: %w", id, ErrNotFound)
	}
	delete(x.extensions, id)
	delete(x.numbers, number{e.Account, e.Number})
	delete(x.registrations, Owner{OnExtension, id})
	for _, g := range x.agents {
		if g.Extension == id {
			delete(x.agents, g.ID)
			delete(x.registrations, Owner{OnAgent, g.ID})
		}
	}
	return nil
}

// Renumber deletes an extension and creates it again under another (or the same) number and a new
// id.
func (x *Exchange) Renumber(id int, short string) (Extension, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e, ok := x.extensions[id]
	if !ok {
		return Extension{}, fmt.Errorf("extension %d: %w", id, ErrNotFound)
	}
	if taken, ok := x.byNumber(e.Account, short); ok && taken.ID != id {
		return Extension{}, fmt.Errorf("extension %q: %w", short, ErrExists)
	}
	if err := x.deleteExtension(id); err != nil {
		return Extension{}, err
	}
	e.ID, e.Number = 0, short
	return x.addExtension(e)
}

func (x *Exchange) newID() int {
	x.nextID++
	return x.nextID
}

// Agents lists the agents of an account by id.
func (x *Exchange) Agents(account int) []Agent {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var list []Agent
	for _, g := range x.agents {
		if g.Account == account {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(a, b Agent) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Agent returns an agent by id.
func (x *Exchange) Agent(id int) (Agent, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	g, ok := x.agents[id]
	return g, ok
}

// AgentOf returns the agent of an extension.
func (x *Exchange) AgentOf(extension int) (Agent, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.agentOf(extension)
}

func (x *Exchange) agentOf(extension int) (Agent, bool) {
	for _, g := range x.agents {
		if g.Extension == extension {
			return g, true
		}
	}
	return Agent{}, false
}

// SetAgent creates or changes the agent of an extension and reports whether its state changed.
func (x *Exchange) SetAgent(extension int, name, status string) (Agent, bool, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e, ok := x.extensions[extension]
	if !ok {
		return Agent{}, false, fmt.Errorf("extension %d: %w", extension, ErrNotFound)
	}
	g, ok := x.agentOf(extension)
	if !ok {
		g = Agent{ID: x.newID(), Account: e.Account, Extension: e.ID, Number: e.Number, Status: LoggedOut}
	}
	changed := g.Status != status
	g.Name, g.Status = cmp.Or(name, g.Name), status
	x.agents[g.ID] = g
	return g, changed, nil
}
