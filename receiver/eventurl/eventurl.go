// Package eventurl mints and recognises the URLs that a PBX calls with its events.
//
// An event URL is {publicURL}/ext-event/{token}, with a suffix where the PBX needs one. The token
// is a credential: it must never reach a log, a metric, a trace, a Kubernetes Event or a status.
//
// A token depends on the key ring and on names, and on nothing that another cluster would not have:
// with its key ring an integration that is restored from a backup, or made anew, has the same URLs.
// Keys of early versions made tokens from the UIDs of objects; they are read, and replaced by a
// rotation.
package eventurl

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	// PathPrefix is what precedes the token in the path of an event URL.
	PathPrefix = "/ext-event/"
	// TokenLength is the length of a token: 160 bits in base32.
	TokenLength = 32

	keyBytes = 32
)

// Entries of a key ring Secret. A key of an early version is named by its generation alone.
const (
	keyEntry     = "key-"
	accountEntry = "account"
)

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// ErrNoKeys is returned for a key ring without a usable key.
var ErrNoKeys = errors.New("the key ring holds no key")

// Source is what an event URL stands for.
type Source struct {
	mapping, uid string
}

// Mapping is an ExtensionMapping as the source of events. Its UID matters to keys of early versions
// only.
func Mapping(name, uid string) Source { return Source{mapping: name, uid: uid} }

// Account is an integration as the source of the events of all its extensions. Its UID matters only
// as long as the key ring holds no account name.
func Account(uid string) Source { return Source{uid: uid} }

// Key is one secret that tokens are made with.
type Key struct {
	// Generation numbers the keys of a ring; the highest one is in force.
	Generation int64
	secret     []byte
	// account stands for the integration in tokens; empty in a ring of an early version.
	account string
	// fromUIDs marks a key of an early version.
	fromUIDs bool
}

// NewKey makes a random key of the given generation. Account is the name that the ring has for its
// integration.
func NewKey(generation int64, account string) (Key, error) {
	secret := make([]byte, keyBytes)
	if _, err := rand.Read(secret); err != nil {
		return Key{}, fmt.Errorf("cannot make a key: %w", err)
	}
	return Key{Generation: generation, secret: secret, account: account}, nil
}

// FromUIDs is the key as early versions use it, for receivers that know no other tokens.
func (k Key) FromUIDs() Key {
	k.fromUIDs, k.account = true, ""
	return k
}

// Token is the token of a source: lower-case base32 of HMAC-SHA256(key, name of the source), cut to
// 160 bits.
func (k Key) Token(source Source) string {
	mac := hmac.New(sha256.New, k.secret)
	mac.Write([]byte(k.name(source)))
	return strings.ToLower(encoding.EncodeToString(mac.Sum(nil)[:20]))
}

func (k Key) name(source Source) string {
	switch {
	case source.mapping == "" && k.account != "":
		return k.account
	case source.mapping == "" || k.fromUIDs:
		return source.uid
	default:
		return "mapping/" + source.mapping
	}
}

func (k Key) entry() string {
	generation := strconv.FormatInt(k.Generation, 10)
	if k.fromUIDs {
		return generation
	}
	return keyEntry + generation
}

// Ring holds the keys of one integration, newest first. The older ones stay valid until no
// registration uses them.
type Ring []Key

// SecretName is the name of the Secret that holds the key ring of an integration.
func SecretName(integration string) string { return integration + "-event-url-keys" }

// ParseRing reads the data of a key ring Secret. Entries that are none of a ring are ignored.
func ParseRing(data map[string][]byte) (Ring, error) {
	ring := make(Ring, 0, len(data))
	for entry, secret := range data {
		key, ok := keyOf(entry)
		if !ok {
			continue
		}
		if len(secret) < keyBytes {
			return nil, fmt.Errorf("entry %q of the key ring is shorter than %d bytes", entry, keyBytes)
		}
		key.secret, key.account = secret, string(data[accountEntry])
		ring = append(ring, key)
	}
	if len(ring) == 0 {
		return nil, ErrNoKeys
	}
	slices.SortFunc(ring, func(a, b Key) int { return int(b.Generation - a.Generation) })
	for i := range ring[1:] {
		if ring[i].Generation == ring[i+1].Generation {
			return nil, fmt.Errorf("the key ring has two keys of generation %d", ring[i].Generation)
		}
	}
	return ring, nil
}

// keyOf is the key that an entry holds, but for its content; false for an entry that holds none.
func keyOf(entry string) (Key, bool) {
	number, named := strings.CutPrefix(entry, keyEntry)
	generation, err := strconv.ParseInt(number, 10, 64)
	if err != nil || generation < 1 {
		return Key{}, false
	}
	key := Key{Generation: generation, fromUIDs: !named}
	return key, key.entry() == entry // there is one spelling
}

// Data is the inverse of ParseRing. The ring must not be empty.
func (r Ring) Data() map[string][]byte {
	data := make(map[string][]byte, len(r)+1)
	for _, key := range r {
		data[key.entry()] = key.secret
	}
	if account := r.Account(); account != "" {
		data[accountEntry] = []byte(account)
	}
	return data
}

// WriteTo returns the data of a Secret with the ring in place of the one that it held. What others
// have put there stays.
func (r Ring) WriteTo(data map[string][]byte) map[string][]byte {
	written := maps.Clone(data)
	if written == nil {
		written = map[string][]byte{}
	}
	maps.DeleteFunc(written, func(entry string, _ []byte) bool {
		_, ok := keyOf(entry)
		return ok
	})
	maps.Copy(written, r.Data())
	return written
}

// Account is the name that stands for the integration in tokens; empty where that is its UID.
func (r Ring) Account() string { return r[0].account }

// FromUIDs reports whether the key in force makes tokens from UIDs.
func (r Ring) FromUIDs() bool { return r[0].fromUIDs }

// WithAccount is the ring with a name for its integration. A ring that had none needs the UID of
// the integration for it: then no token changes.
func (r Ring) WithAccount(account string) Ring {
	named := slices.Clone(r)
	for i := range named {
		named[i].account = account
	}
	return named
}

// Current is the key in force: the newest one, or the one that InForce put first. The ring must not
// be empty.
func (r Ring) Current() Key { return r[0] }

// Has reports whether the ring has a key of the given generation.
func (r Ring) Has(generation int64) bool {
	return slices.ContainsFunc(r, func(key Key) bool { return key.Generation == generation })
}

// InForce is the ring with the key of the given generation first. A ring without it stays as it is.
func (r Ring) InForce(generation int64) Ring {
	at := slices.IndexFunc(r, func(key Key) bool { return key.Generation == generation })
	if at <= 0 {
		return r
	}
	return slices.Concat(r[at:at+1], r[:at], r[at+1:])
}

// Tokens are the tokens of source under all keys, the current one first.
func (r Ring) Tokens(source Source) []string {
	tokens := make([]string, len(r))
	for i, key := range r {
		tokens[i] = key.Token(source)
	}
	return tokens
}

// URL is the event URL with the given token. The suffix is empty, or starts with a slash.
func URL(publicURL, token, suffix string) string {
	return strings.TrimRight(publicURL, "/") + PathPrefix + token + suffix
}

// SplitPath takes the token and what follows it out of the path of a request. A path prefix of the
// public URL may precede them.
func SplitPath(path string) (token, rest string, ok bool) {
	_, after, found := strings.Cut(path, PathPrefix)
	if !found || len(after) < TokenLength {
		return "", "", false
	}
	token, rest = after[:TokenLength], after[TokenLength:]
	if rest != "" && rest[0] != '/' {
		return "", "", false
	}
	return token, rest, true
}

// TokenOf takes the token out of an event URL. It reports false for any other URL.
func TokenOf(rawURL string) (token string, ok bool) {
	parsed, err := url.Parse(rawURL)
	if err != nil {
		return "", false
	}
	token, _, ok = SplitPath(parsed.Path)
	return token, ok
}
