package voipnow

import (
	"crypto/subtle"
	"net/http"
	"time"
)

const tokenPath = "/oauth/token.php"

// tokenAnswer is the answer of the token endpoint ("Obtain Authorization").
type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in,omitempty"` // seconds
	TokenType   string `json:"token_type"`
}

// oauthError is the plain OAuth shape: error is text here and an object everywhere else.
type oauthError struct {
	Error string `json:"error"`
}

// token grants client credentials, given in the form body. The parameters type and redirect_uri of
// the vendor's own client are allowed and change nothing.
func (a *API) token(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if r.FormValue("grant_type") != "client_credentials" {
		writeJSON(w, http.StatusBadRequest, oauthError{"unsupported_grant_type"})
		return
	}
	app, _, ok := a.x.App(r.FormValue("client_id"))
	if !ok || subtle.ConstantTimeCompare([]byte(app.ClientSecret), []byte(r.FormValue("client_secret"))) == 0 {
		writeJSON(w, http.StatusUnauthorized, oauthError{"invalid_client"})
		return
	}
	s := a.Settings()
	life := time.Duration(s.TokenLifetime)
	answer := tokenAnswer{AccessToken: a.tokens.Issue(app.ClientID, a.now().Add(life)), TokenType: "Bearer"}
	if !s.OmitExpiresIn {
		answer.ExpiresIn = int(life / time.Second)
	}
	writeJSON(w, http.StatusOK, answer)
}
