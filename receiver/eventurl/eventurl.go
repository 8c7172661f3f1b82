// Package eventurl mints and recognises the URLs that a PBX calls with its events.
//
// An event URL is {publicURL}/ext-event/{token}, with a suffix where the PBX needs one. The token is a credential: it must never
// reach a log, a metric, a trace, a Kubernetes Event or a status.
package eventurl

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
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

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// ErrNoKeys is returned for a key ring without a usable key.
var ErrNoKeys = errors.New("the key ring holds no key")

// Key is one secret that tokens are made with.
type Key struct {
	// Generation numbers the keys of a ring; the highest one is in force.
	Generation int64
	secret     []byte
}

// NewKey makes a random key of the given generation.
func NewKey(generation int64) (Key, error) {
	secret := make([]byte, keyBytes)
	if _, err := rand.Read(secret); err != nil {
		return Key{}, fmt.Errorf("cannot make a key: %w", err)
	}
	return Key{Generation: generation, secret: secret}, nil
}

// Token is the token of source (the UID of an ExtensionMapping, or of a PBXIntegration for a PBX with one URL per account):
// lower-case base32 of HMAC-SHA256(key, source), cut to 160 bits.
func (k Key) Token(source string) string {
	mac := hmac.New(sha256.New, k.secret)
	mac.Write([]byte(source))
	return strings.ToLower(encoding.EncodeToString(mac.Sum(nil)[:20]))
}

// Ring holds the keys of one integration, newest first. The older ones stay valid until no registration uses them.
type Ring []Key

// SecretName is the name of the Secret that holds the key ring of an integration.
func SecretName(integration string) string { return integration + "-event-url-keys" }

// ParseRing reads the data of a key ring Secret: the generation in decimal → the key.
func ParseRing(data map[string][]byte) (Ring, error) {
	ring := make(Ring, 0, len(data))
	for name, secret := range data {
		generation, err := strconv.ParseInt(name, 10, 64)
		if err != nil || generation < 1 {
			return nil, fmt.Errorf("the key ring has an entry that is no generation number: %q", name)
		}
		if len(secret) < keyBytes {
			return nil, fmt.Errorf("key %d of the key ring is shorter than %d bytes", generation, keyBytes)
		}
		ring = append(ring, Key{Generation: generation, secret: secret})
	}
	if len(ring) == 0 {
		return nil, ErrNoKeys
	}
	slices.SortFunc(ring, func(a, b Key) int { return int(b.Generation - a.Generation) })
	return ring, nil
}

// Data is the inverse of ParseRing.
func (r Ring) Data() map[string][]byte {
	data := make(map[string][]byte, len(r))
	for _, key := range r {
		data[strconv.FormatInt(key.Generation, 10)] = key.secret
	}
	return data
}

// Current is the key in force: the newest one, or the one that InForce put first. The ring must not be empty.
func (r Ring) Current() Key { return r[0] }

// InForce is the ring with the key of the given generation first. A ring without it stays as it is.
func (r Ring) InForce(generation int64) Ring {
	at := slices.IndexFunc(r, func(key Key) bool { return key.Generation == generation })
	if at <= 0 {
		return r
	}
	return slices.Concat(r[at:at+1], r[:at], r[at+1:])
}

// Tokens are the tokens of source under all keys, the current one first.
func (r Ring) Tokens(source string) []string {
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

// SplitPath takes the token and what follows it out of the path of a request. A path prefix of the public URL may precede them.
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
