package ringme

import (
	"crypto/subtle"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// tokenAnswer is the answer of the token endpoint ("Authorization of Trusted PBX Applications").
type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in,omitempty"` // seconds
	Scope       string `json:"scope"`
}

// oauthError has the members of RFC 6749 and of the platform's own errors; its documents do not say
// which it uses.
type oauthError struct {
	Error   string `json:"error"`
	Message string `json:"message"`
}

// token grants client credentials, given in the form body or in the query.
func (a *API) token(w http.ResponseWriter, r *http.Request) {
	s := a.Settings()
	if s.OAuthLimits {
		if !a.oauth.enter(a.now()) {
			writeError(w, apiError{code: http.StatusTooManyRequests, Message: "Too many requests"})
			return
		}
		defer a.oauth.leave()
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if g := r.FormValue("grant_type"); g != "client_credentials" {
		writeJSON(w, http.StatusBadRequest, oauthError{"unsupported_grant_type", "The grant type is not supported"})
		return
	}
	app, _, ok := a.x.App(r.FormValue("client_id"))
	if !ok || subtle.ConstantTimeCompare([]byte(app.ClientSecret), []byte(r.FormValue("client_secret"))) == 0 {
		writeJSON(w, http.StatusUnauthorized, oauthError{"invalid_client", "The client credentials are invalid"})
		return
	}
	life := time.Duration(s.TokenLifetime)
	answer := tokenAnswer{AccessToken: a.tokens.Issue(app.ClientID, a.now().Add(life)), TokenType: "Bearer", Scope: "all"}
	if !s.OmitExpiresIn {
		answer.ExpiresIn = int(life / time.Second)
	}
	writeJSON(w, http.StatusOK, answer)
}

// oauthLimit enforces the limits of /oauth ("API Request Rules"): 20 requests a second, 6 at once.
type oauthLimit struct {
	mu     sync.Mutex
	second int64
	count  int
	inside int
}

func (l *oauthLimit) enter(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := now.Unix(); s != l.second {
		l.second, l.count = s, 0
	}
	if l.count >= 20 || l.inside >= 6 {
		return false
	}
	l.count++
	l.inside++
	return true
}

func (l *oauthLimit) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inside--
}

// quota counts the requests of each account in the current clock hour, over all its applications.
type quota struct {
	mu   sync.Mutex
	hour time.Time
	used map[int]int
}

func (q *quota) reset() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used = nil
}

func (q *quota) set(now time.Time, account, used int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turn(now)
	q.used[account] = used
}

func (q *quota) turn(now time.Time) {
	if h := now.Truncate(time.Hour); q.used == nil || !h.Equal(q.hour) {
		q.hour, q.used = h, map[int]int{}
	}
}

// take counts a request and writes the X-RateLimit headers. It refuses when the shared counter has
// reached the account's limit or the application's own.
func (q *quota) take(h http.Header, now time.Time, account, limit, appLimit int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turn(now)
	if appLimit > 0 {
		limit = min(limit, appLimit)
	}
	ok := q.used[account] < limit
	if ok {
		q.used[account]++
	}
	reset := q.hour.Add(time.Hour).Sub(now)
	h.Set("X-RateLimit-Limit", strconv.Itoa(limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(max(0, limit-q.used[account])))
	h.Set("X-RateLimit-Reset", strconv.Itoa(int((reset+time.Second-1)/time.Second)))
	return ok
}
