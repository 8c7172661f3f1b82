package exchange

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// Scope is the kind of object that a registration hangs on.
type Scope string

// The scopes of registrations (RingMe reference, sections 5.1, 5.3 and 5.4).
const (
	OnExtension Scope = "extension"
	OnAccount   Scope = "account"
	OnAgent     Scope = "agent"
)

// Owner is the object that registrations hang on.
type Owner struct {
	Scope Scope `json:"scope"`
	ID    int   `json:"id"`
}

// Registration is one event type delivered to one URL.
type Registration struct {
	ID        int    `json:"id"`
	Owner     Owner  `json:"owner"`
	Number    string `json:"number,omitempty"` // name of the extension, for readers
	URL       string `json:"url"`
	EventType string `json:"eventType"` // AnyEvent for hooks
	Method    string `json:"method"`
	// Key is the PBX's own name of the registration, where that is not the id: VoipNow's event id,
	// or a hook's name.
	Key      string    `json:"key,omitempty"`
	Disabled bool      `json:"disabled,omitempty"` // registered, but nothing is delivered to it
	Note     string    `json:"note,omitempty"`
	Modified time.Time `json:"modified,omitzero"`
	// Foreign marks a registration of another integration. It counts against the limit and nothing
	// is delivered to it.
	Foreign bool `json:"foreign,omitempty"`
}

// AnyEvent is the event type of hooks: all events of an account go to one URL, which an
// administrator typed in.
const AnyEvent = ""

// Registrations lists what hangs on an owner, by id.
func (x *Exchange) Registrations(o Owner) []Registration {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Clone(x.registrations[o])
}

// AllRegistrations lists everything registered on the PBX: by scope, owner and id.
func (x *Exchange) AllRegistrations() []Registration {
	x.mu.RLock()
	defer x.mu.RUnlock()
	all := []Registration{}
	for o, list := range x.registrations {
		for _, r := range list {
			if o.Scope == OnExtension {
				r.Number = x.extensions[o.ID].Name
			}
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b Registration) int {
		return cmp.Or(cmp.Compare(a.Owner.Scope, b.Owner.Scope), cmp.Compare(a.Owner.ID, b.Owner.ID), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Register adds a registration unless the owner already has limit of them, in which case it fails
// with ErrLimit. The same URL and type may be registered twice: the PBX does not mind.
func (x *Exchange) Register(r Registration, limit int) (Registration, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.exists(r.Owner) {
		return Registration{}, fmt.Errorf("%s %d: %w", r.Owner.Scope, r.Owner.ID, ErrNotFound)
	}
	if n := len(x.registrations[r.Owner]); n >= limit {
		return Registration{}, fmt.Errorf("%s %d has %d registrations: %w", r.Owner.Scope, r.Owner.ID, n, ErrLimit)
	}
	r.ID = x.newID()
	x.registrations[r.Owner] = append(x.registrations[r.Owner], r)
	return r, nil
}

func (x *Exchange) exists(o Owner) bool {
	var ok bool
	switch o.Scope {
	case OnExtension:
		_, ok = x.extensions[o.ID]
	case OnAccount:
		_, ok = x.accounts[o.ID]
	case OnAgent:
		_, ok = x.agents[o.ID]
	}
	return ok
}

// Change replaces URL, event type and method of a registration.
func (x *Exchange) Change(r Registration) (Registration, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	list := x.registrations[r.Owner]
	i := slices.IndexFunc(list, func(o Registration) bool { return o.ID == r.ID })
	if i < 0 {
		return Registration{}, fmt.Errorf("registration %d: %w", r.ID, ErrNotFound)
	}
	r.Foreign = list[i].Foreign
	list = slices.Clone(list)
	list[i] = r
	x.registrations[r.Owner] = list
	return r, nil
}

// Unregister removes one registration of an owner.
func (x *Exchange) Unregister(o Owner, id int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	list := x.registrations[o]
	i := slices.IndexFunc(list, func(r Registration) bool { return r.ID == id })
	if i < 0 {
		return fmt.Errorf("registration %d: %w", id, ErrNotFound)
	}
	x.registrations[o] = slices.Delete(slices.Clone(list), i, i+1)
	return nil
}

// Vanish removes a registration wherever it hangs, as an administrator or a failing PBX does.
func (x *Exchange) Vanish(id int) error {
	for _, r := range x.AllRegistrations() {
		if r.ID == id {
			return x.Unregister(r.Owner, id)
		}
	}
	return fmt.Errorf("registration %d: %w", id, ErrNotFound)
}

// UnregisterAll removes every registration of an owner, whoever made it: the collection DELETE.
func (x *Exchange) UnregisterAll(o Owner) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.registrations, o)
}

// SetHook sends all events of an account to a URL. Hooks of one account differ by name; without a
// URL the hook goes.
func (x *Exchange) SetHook(account int, name, target, method string) error {
	r := Registration{
		Owner: Owner{OnAccount, account}, Key: name, URL: target, Method: method, EventType: AnyEvent, Modified: x.now(),
	}
	list := x.Registrations(r.Owner)
	i := slices.IndexFunc(list, func(o Registration) bool { return o.Key == name && o.EventType == AnyEvent })
	switch {
	case i >= 0 && target == "":
		return x.Unregister(r.Owner, list[i].ID)
	case i >= 0:
		r.ID = list[i].ID
		_, err := x.Change(r)
		return err
	case target == "":
		return nil
	}
	_, err := x.Register(r, math.MaxInt)
	return err
}

// targets returns the registrations that a notification fires: those of its extension, of the
// account, and of the extension's agent for agent events. Without an account it is that of the
// extension.
func (x *Exchange) targets(account int, n scenario.Notification) []Registration {
	// Zero, which no extension has, for events that name none.
	id, _ := strconv.Atoi(n.Sender.ID)
	x.mu.RLock()
	defer x.mu.RUnlock()
	owners := []Owner{{OnExtension, id}, {OnAccount, cmp.Or(account, x.extensions[id].Account)}}
	if g, ok := x.agentOf(id); ok && isAgentEvent(n.EventType) {
		owners = append(owners, Owner{OnAgent, g.ID})
	}
	var out []Registration
	for _, o := range owners {
		for _, r := range x.registrations[o] {
			if r.fires(n) {
				out = append(out, r)
			}
		}
	}
	return out
}

// fires says whether a notification of the owner goes to r. RingMe's account-wide registrations are
// for phones only.
func (r Registration) fires(n scenario.Notification) bool {
	switch {
	case r.Foreign || r.Disabled:
		return false
	case r.EventType == AnyEvent:
		return true
	default:
		return r.EventType == n.EventType && (r.Owner.Scope != OnAccount || n.Sender.Type == scenario.Phone)
	}
}

func isAgentEvent(t string) bool { return t == "agent-login" || t == "agent-logout" }
