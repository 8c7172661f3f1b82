// Package sources knows which event URLs are valid, whom they stand for, and what an integration's rules are. It learns that from a
// watch on the Kubernetes API, from a copy of what the watch last said, or from a file.
package sources

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// Target is what an event URL stands for.
type Target struct {
	// Mapping is the UID of the ExtensionMapping, or of the PBXIntegration where one URL serves the account.
	Mapping string `json:"mapping"`
	// Name of that object.
	Name   string           `json:"name,omitempty"`
	Source callevent.Source `json:"source,omitzero"`
	// Limiter bounds the requests to the target's URLs; nil: no bound.
	Limiter *rate.Limiter `json:"-"`
}

// digest stands for a token. Looking up digests tells an outsider who measures times nothing about the tokens.
type digest [sha256.Size]byte

func digestOf(token string) digest { return sha256.Sum256([]byte(token)) }

// MarshalText implements encoding.TextMarshaler.
func (d digest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d[:])), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *digest) UnmarshalText(text []byte) error {
	if n, err := hex.Decode(d[:], text); err != nil || n != len(d) {
		return fmt.Errorf("%q is no digest of a token", text)
	}
	return nil
}

// table is one state of affairs. It is never changed once it is in force.
type table struct {
	// Type of the PBX, as in PBXIntegration.
	Type    string             `json:"type"`
	Rules   correlation.Rules  `json:"rules"`
	Targets map[digest]*Target `json:"targets"`
}

// Table resolves tokens by the newest state of affairs. The zero value knows no token.
type Table struct {
	current atomic.Pointer[table]
	// Rate bounds the requests per second to the URLs of one target, with bursts of twice as many; 0: no bound.
	Rate int
}

// Resolve tells what a token stands for.
func (t *Table) Resolve(token string) (*Target, bool) {
	current := t.current.Load()
	if current == nil {
		return nil, false
	}
	target, ok := current.Targets[digestOf(token)]
	return target, ok
}

// Loaded tells whether the table knows what its integration looks like.
func (t *Table) Loaded() bool { return t.current.Load() != nil }

// Rules are those of the integration, or the default ones before it is known.
func (t *Table) Rules() correlation.Rules {
	if current := t.current.Load(); current != nil {
		return current.Rules
	}
	return correlation.DefaultRules()
}

// Type is the type of the PBX, empty before the integration is known.
func (t *Table) Type() string {
	if current := t.current.Load(); current != nil {
		return current.Type
	}
	return ""
}

// Targets is the number of targets, whatever the number of their tokens.
func (t *Table) Targets() int {
	current := t.current.Load()
	if current == nil {
		return 0
	}
	seen := make(map[string]struct{}, len(current.Targets))
	for _, target := range current.Targets {
		seen[target.Mapping] = struct{}{}
	}
	return len(seen)
}

// replace puts a new state into force. Targets that stay keep their limiters.
func (t *Table) replace(next *table) {
	limiters := make(map[string]*rate.Limiter)
	if current := t.current.Load(); current != nil {
		for _, target := range current.Targets {
			limiters[target.Mapping] = target.Limiter
		}
	}
	for _, target := range next.Targets {
		if limiters[target.Mapping] == nil && t.Rate > 0 {
			limiters[target.Mapping] = rate.NewLimiter(rate.Limit(t.Rate), 2*t.Rate)
		}
		target.Limiter = limiters[target.Mapping]
	}
	t.current.Store(next)
}
