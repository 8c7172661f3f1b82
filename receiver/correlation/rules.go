package correlation

import "time"

// Scope says which calls become legs.
type Scope string

// The scopes.
const (
	// ScopeExternal leaves out calls between two extensions and internal forwarding (RingMe: Events
	// on Extension Numbers, filtering).
	ScopeExternal Scope = "External"
	// ScopeAll keeps every call; internal ones have the direction Internal.
	ScopeAll Scope = "All"
)

// Rules are what users may decide about the legs.
type Rules struct {
	// Scope is External where it is empty.
	Scope Scope
	// GracePeriod is how long after the last hangup of a call is waited for the hangups of other
	// senders before the call counts as missed.
	GracePeriod time.Duration
	// MaxDuration is how long a leg may last without a hangup; 0 is for ever.
	MaxDuration time.Duration
	// ForwardedIsAnswered takes an inbound call as answered when somebody talked at an outside
	// number to which it was forwarded. The PBX says Bridged=no of such a call, because no
	// extension took it, and so it counts as missed by default: what answered outside may as well
	// have been a mailbox, and a needless call back costs less than a customer whom nobody calls
	// back.
	ForwardedIsAnswered bool
}

// DefaultRules are those of an integration that says nothing.
func DefaultRules() Rules {
	return Rules{Scope: ScopeExternal, GracePeriod: 5 * time.Second, MaxDuration: 4 * time.Hour}
}
