// Package sources knows which event URLs are valid, whom they stand for, and what an integration's
// rules are. It learns that from a watch on the Kubernetes API, from a copy of what the watch last
// said, or from a file.
package sources

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/dialects"
)

var errNotLoaded = errors.New("it is not known yet which PBX this is")

// Target is what an event URL stands for.
type Target struct {
	// Mapping is the UID of the ExtensionMapping, or of the PBXIntegration where one URL serves the
	// account.
	Mapping string `json:"mapping"`
	// Name of that object.
	Name string `json:"name,omitempty"`
	// Source is empty where one URL serves the account.
	Source callevent.Source `json:"source,omitzero"`
	// Limiter bounds the requests to the target's URLs; nil: no bound.
	Limiter *rate.Limiter `json:"-"`
}

// digest stands for a token. Looking up digests tells an outsider who measures times nothing about
// the tokens.
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
	Type     string             `json:"type"`
	Settings dialects.Settings  `json:"settings,omitzero"`
	Rules    correlation.Rules  `json:"rules"`
	Targets  map[digest]*Target `json:"targets"`

	// What follows from the above.
	dialect    dialect.Dialect
	extensions extensions
}

// Table resolves tokens by the newest state of affairs. The zero value knows no token.
type Table struct {
	current atomic.Pointer[table]
	// Rate bounds the requests per second to the URLs of one extension, with bursts of twice as
	// many; 0: no bound. The URL of an account may be called as often as those of all its mapped
	// extensions together, and as minAccountShare of them where fewer are mapped.
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

// Loaded reports whether the table knows what its integration looks like.
func (t *Table) Loaded() bool { return t.current.Load() != nil }

// Knows reports whether a mapping, by its UID, has an event URL.
func (t *Table) Knows(mapping string) bool {
	current := t.current.Load()
	if current == nil {
		return false
	}
	for _, target := range current.Targets {
		if target.Mapping == mapping {
			return true
		}
	}
	return false
}

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

// Targets is the number of extensions that have an event URL, whatever the number of their tokens.
func (t *Table) Targets() int {
	current := t.current.Load()
	if current == nil {
		return 0
	}
	return current.extensionCount()
}

// Decode implements dialect.Dialect with the settings in force. What comes by the URL of the
// account is attributed to the extensions.
func (t *Table) Decode(request callevent.Request) ([]callevent.Event, error) {
	current := t.current.Load()
	if current == nil {
		return nil, errNotLoaded
	}
	events, err := current.dialect.Decode(request)
	if err != nil {
		return nil, err
	}
	for i := range events {
		current.extensions.attribute(&events[i])
	}
	return events, nil
}

// replace puts a new state into force. Targets that stay keep their limiters. Settings that the
// dialect refuses are reported, and those before them stay; only a type of PBX that is not known
// leaves everything as it is.
func (t *Table) replace(next *table) error {
	refused := next.speak(t.current.Load())
	if next.dialect == nil {
		return refused
	}
	next.extensions = extensionsOf(next.Targets)
	t.limit(next)
	t.current.Store(next)
	return refused
}

// speak finds the dialect for the settings, else for those before them, else for none.
func (t *table) speak(before *table) error {
	var refused error
	if t.dialect, refused = dialects.New(t.Type, t.Settings); refused == nil {
		return nil
	}
	t.Settings, t.dialect = dialects.Settings{}, nil
	if before != nil && before.Type == t.Type {
		t.Settings = before.Settings
	}
	known, err := dialects.New(t.Type, t.Settings)
	if err == nil {
		t.dialect = known
	}
	return fmt.Errorf("the settings of the PBX are refused: %w", refused)
}

// minAccountShare is as how many extensions an account counts at least: a PBX that knows one URL
// sends the events of all its extensions there, mapped or not.
const minAccountShare = 10

// limit gives the targets their limiters. Those that stay keep theirs, with what they have used of
// it.
func (t *Table) limit(next *table) {
	if t.Rate == 0 {
		return
	}
	limiters := make(map[string]*rate.Limiter)
	if current := t.current.Load(); current != nil {
		for _, target := range current.Targets {
			limiters[target.Mapping] = target.Limiter
		}
	}
	account := t.Rate * max(next.extensionCount(), minAccountShare)
	for _, target := range next.Targets {
		perSecond := t.Rate
		if target.isAccount() {
			perSecond = account
		}
		if limiters[target.Mapping] == nil {
			limiters[target.Mapping] = rate.NewLimiter(rate.Limit(perSecond), 2*perSecond)
		}
		target.Limiter = limiters[target.Mapping]
		if target.Limiter.Limit() != rate.Limit(perSecond) {
			target.Limiter.SetLimit(rate.Limit(perSecond))
			target.Limiter.SetBurst(2 * perSecond)
		}
	}
}

// isAccount reports whether the target's URL serves all extensions of a PBX.
func (t *Target) isAccount() bool { return t.Source == (callevent.Source{}) }

// extensionCount is the number of extensions that have an event URL, whatever the number of their
// tokens.
func (t *table) extensionCount() int {
	seen := make(map[string]struct{}, len(t.Targets))
	for _, target := range t.Targets {
		if !target.isAccount() {
			seen[target.Mapping] = struct{}{}
		}
	}
	return len(seen)
}
