// Package keyring decides what becomes of the event URL keys of an integration: when a key is made,
// and when an old one may go.
package keyring

import (
	"cmp"
	"fmt"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// Overlap is how long an older key outlives the last registration that used it at least: requests
// that the PBX had sent by then arrive.
const Overlap = time.Minute

// Announce is how long a new key is in the ring before registrations use it: by then every receiver
// has heard of it, and no event comes to a URL that is not known yet.
const Announce = 10 * time.Second

// State is what the Secret of the key ring holds, and what is known besides.
type State struct {
	// Ring is empty when there is no Secret, or none that can be read.
	Ring eventurl.Ring
	// Handled is the value of the rotation annotation that the newest key was made for.
	Handled string
	// Made is when the newest key was made; zero when unknown.
	Made time.Time
}

// Input is what a decision rests on.
type Input struct {
	State
	// Generation is the highest one that was ever in force, from the status.
	Generation int64
	// Requested is the value of the rotation annotation on the integration.
	Requested string
	// Settled tells that all registrations have moved to the newest key.
	Settled bool
	// ByHand tells that an administrator enters the event URL on the PBX. Nobody knows when, so the
	// key before the newest one stays until the next rotation: to lose calls would be worse.
	ByHand bool
	// Account is what the ring calls its integration, unless it has a name for it: the UID that the
	// integration has now.
	Account string
	// NamesKnown tells that all receivers of the integration know tokens that are made from names.
	NamesKnown bool
	Now        time.Time
}

// Plan is the state to bring about.
type Plan struct {
	State
	// Changed tells that the Secret has to be written.
	Changed bool
	// Again is when an older key can be dropped, if nothing else happens; zero when there is
	// nothing to wait for.
	Again time.Duration
	// Lost tells that the key in force is not in the ring any more: nothing that was registered
	// with it can be recognised.
	Lost bool
}

// Decide plans the next state. Generations only ever grow, so that a mapping that speaks of one
// cannot mean another key.
func Decide(in Input) (Plan, error) {
	plan, err := decide(in)
	plan.Lost = err == nil && in.Generation > 0 && !plan.Ring.Has(in.Generation)
	return plan, err
}

func decide(in Input) (Plan, error) {
	switch {
	case len(in.Ring) == 0, in.Requested != "" && in.Requested != in.Handled:
		return withNewKey(in)
	case in.NamesKnown && in.Ring.FromUIDs() && !in.ByHand:
		return withNewKey(in) // registrations move to tokens made from names
	case in.NamesKnown && in.Ring.Account() == "":
		named := in.State
		named.Ring = in.Ring.WithAccount(in.Account)
		return Plan{State: named, Changed: true}, nil
	case in.Requested != in.Handled: // a request that was withdrawn: the same one may come again
		withdrawn := in.State
		withdrawn.Handled = ""
		return Plan{State: withdrawn, Changed: true}, nil
	case len(in.Ring) == 1 || in.ByHand || !in.Settled:
		return Plan{State: in.State}, nil
	}
	if left := in.Made.Add(Overlap).Sub(in.Now); left > 0 {
		return Plan{State: in.State, Again: left}, nil
	}
	pruned := in.State
	pruned.Ring = in.Ring[:1]
	return Plan{State: pruned, Changed: true}, nil
}

func withNewKey(in Input) (Plan, error) {
	generation, account, early := in.Generation, in.Account, false
	if len(in.Ring) > 0 {
		generation = max(generation, in.Ring.Current().Generation)
		account = cmp.Or(in.Ring.Account(), account)
		early = in.Ring.Account() == "" && !in.NamesKnown
	}
	key, err := eventurl.NewKey(generation+1, account)
	if err != nil {
		return Plan{}, fmt.Errorf("cannot rotate the event URL key: %w", err)
	}
	next := State{Ring: append(eventurl.Ring{key}, in.older()...), Handled: in.Requested, Made: in.Now}
	if early {
		next.Ring[0] = key.FromUIDs()
	} else {
		next.Ring = next.Ring.WithAccount(account)
	}
	return Plan{State: next, Changed: true}, nil
}

// older are the keys that stay valid beside a new one: all that registrations may use, or the one
// in force, which is that of the URL that an administrator was last told to enter.
func (in Input) older() eventurl.Ring {
	if in.ByHand && len(in.Ring) > 1 {
		return in.Ring.InForce(in.Generation)[:1]
	}
	return in.Ring
}

// InForce is the generation that registrations are to use, given the one that they use so far, and
// when the newest one takes over; zero when it has.
func (s State) InForce(soFar int64, now time.Time) (generation int64, again time.Duration) {
	newest := s.Ring.Current().Generation
	left := s.Made.Add(Announce).Sub(now)
	if soFar == newest || left <= 0 || s.Ring.InForce(soFar).Current().Generation != soFar {
		return newest, 0
	}
	return soFar, left
}

// Settled reports whether no mapping may still have registrations under an older key than the given
// generation.
func Settled(mappings []v1alpha1.ExtensionMapping, generation int64) bool {
	for i := range mappings {
		status := &mappings[i].Status
		if status.ObservedGeneration != mappings[i].Generation || status.RegisteredEvents == nil {
			return false
		}
		if *status.RegisteredEvents > 0 && status.KeyGeneration != generation {
			return false
		}
	}
	return true
}
