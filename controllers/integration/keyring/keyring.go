// Package keyring decides what becomes of the event URL keys of an integration: when a key is made, and when an old one may go.
package keyring

import (
	"fmt"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// Overlap is how long an older key outlives the last registration that used it at least: requests that the PBX had sent by then arrive.
const Overlap = time.Minute

// Announce is how long a new key is in the ring before registrations use it: by then every receiver has heard of it, and no event comes
// to a URL that is not known yet.
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
	// ByHand tells that an administrator enters the event URL on the PBX. Nobody knows when, so the key before the newest one stays until
	// the next rotation: to lose calls would be worse.
	ByHand bool
	Now    time.Time
}

// Plan is the state to bring about.
type Plan struct {
	State
	// Changed tells that the Secret has to be written.
	Changed bool
	// Again is when an older key can be dropped, if nothing else happens; zero when there is nothing to wait for.
	Again time.Duration
}

// Decide plans the next state. Generations only ever grow, so that a mapping that speaks of one cannot mean another key.
func Decide(in Input) (Plan, error) {
	switch {
	case len(in.Ring) == 0:
		return withNewKey(in)
	case in.Requested != in.Handled:
		return withNewKey(in)
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
	generation := in.Generation
	if len(in.Ring) > 0 {
		generation = max(generation, in.Ring.Current().Generation)
	}
	key, err := eventurl.NewKey(generation + 1)
	if err != nil {
		return Plan{}, fmt.Errorf("cannot rotate the event URL key: %w", err)
	}
	return Plan{
		State:   State{Ring: append(eventurl.Ring{key}, in.older()...), Handled: in.Requested, Made: in.Now},
		Changed: true,
	}, nil
}

// older are the keys that stay valid beside a new one: all that registrations may use, or the one in force, which is that of the URL
// that an administrator was last told to enter.
func (in Input) older() eventurl.Ring {
	if in.ByHand && len(in.Ring) > 1 {
		return in.Ring.InForce(in.Generation)[:1]
	}
	return in.Ring
}

// InForce is the generation that registrations are to use, given the one that they use so far, and when the newest one takes over; zero
// when it has.
func (s State) InForce(soFar int64, now time.Time) (generation int64, again time.Duration) {
	newest := s.Ring.Current().Generation
	left := s.Made.Add(Announce).Sub(now)
	if soFar == newest || left <= 0 || s.Ring.InForce(soFar).Current().Generation != soFar {
		return newest, 0
	}
	return soFar, left
}

// Settled tells whether no mapping may still have registrations under an older key than the given generation.
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
