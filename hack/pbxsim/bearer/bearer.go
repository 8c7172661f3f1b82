// Package bearer keeps the OAuth access tokens that a simulated PBX has issued.
package bearer

import (
	"crypto/rand"
	"net/http"
	"strings"
	"sync"
	"time"
)

// grant is an issued token.
type grant struct {
	clientID string
	expires  time.Time
}

// Tokens are the issued access tokens. The zero value is ready; its methods are safe for concurrent
// use.
type Tokens struct {
	mu     sync.Mutex
	grants map[string]grant
}

// Issue makes a new token for an application.
func (t *Tokens) Issue(clientID string, expires time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.grants == nil {
		t.grants = map[string]grant{}
	}
	token := "tok-" + rand.Text()
	t.grants[token] = grant{clientID, expires}
	return token
}

// ClientID returns the application that a token was issued to, unless the token has expired or was
// never issued.
func (t *Tokens) ClientID(token string, now time.Time) (clientID string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g, ok := t.grants[token]
	if !ok {
		return "", false
	}
	if !now.Before(g.expires) {
		delete(t.grants, token)
		return "", false
	}
	return g.clientID, true
}

// Kill makes the tokens of an application invalid before their time, or all with an empty client
// id.
func (t *Tokens) Kill(clientID string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for token, g := range t.grants {
		if clientID == "" || g.clientID == clientID {
			delete(t.grants, token)
			n++
		}
	}
	return n
}

// Of returns the token that a request carries in its Authorization header, or nothing.
func Of(r *http.Request) string { return Parse(r.Header.Get("Authorization")) }

// Parse returns the token behind the word Bearer, or nothing.
func Parse(credentials string) string {
	scheme, token, _ := strings.Cut(credentials, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}
