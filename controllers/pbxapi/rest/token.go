package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/sync/singleflight"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

const (
	// defaultLifetime of a token whose answer has no expires_in.
	defaultLifetime = time.Hour
	tokenOp         = "get an access token"
)

// tokenSource holds the one access token that all calls share. However many callers find it
// missing, the PBX is asked once.
type tokenSource struct {
	config   clientcredentials.Config
	settings pbxapi.Settings
	margin   time.Duration
	problem  func(op string, response *http.Response, body []byte) error

	flight  singleflight.Group
	mu      sync.Mutex
	current *oauth2.Token
	renewal time.Time
}

func (s *tokenSource) token(ctx context.Context) (string, error) {
	if token := s.valid(); token != nil {
		return token.AccessToken, nil
	}
	result := s.flight.DoChan("", func() (any, error) { return s.fetch(ctx) })
	select {
	case done := <-result:
		if done.Err != nil {
			return "", done.Err
		}
		token, _ := done.Val.(*oauth2.Token)
		return token.AccessToken, nil
	case <-ctx.Done():
		return "", pbxapi.TransportError(tokenOp, ctx.Err())
	}
}

// discard drops a token that the PBX refused, unless somebody has replaced it meanwhile.
func (s *tokenSource) discard(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil && s.current.AccessToken == token {
		s.current = nil
	}
}

func (s *tokenSource) valid() *oauth2.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || time.Now().After(s.renewal) {
		return nil
	}
	return s.current
}

// renewalOf is when to replace a token. One that lives hardly longer than the margin is used for
// half its life all the same.
func renewalOf(now, expiry time.Time, margin time.Duration) time.Time {
	return expiry.Add(-min(margin, expiry.Sub(now)/2))
}

// fetch outlives the caller who happened to start it, because others wait for it too.
func (s *tokenSource) fetch(ctx context.Context) (*oauth2.Token, error) {
	if token := s.valid(); token != nil {
		return token, nil
	}
	ctx, cancel := context.WithTimeout(pbxapi.Urgent(context.WithoutCancel(ctx)), s.settings.Timeout)
	defer cancel()
	if err := s.settings.Turn(ctx); err != nil {
		return nil, pbxapi.TransportError(tokenOp, err)
	}
	token, err := s.config.Token(context.WithValue(ctx, oauth2.HTTPClient, s.settings.HTTP))
	if err != nil {
		return nil, s.tokenError(err)
	}
	if token.Expiry.IsZero() {
		token.Expiry = time.Now().Add(defaultLifetime)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.renewal = token, renewalOf(time.Now(), token.Expiry, s.margin)
	return token, nil
}

// tokenError tells refused credentials from a PBX in trouble. OAuth answers 400 or 401 to bad
// credentials (RFC 6749, 5.2).
func (s *tokenSource) tokenError(err error) error {
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return pbxapi.TransportError(tokenOp, err)
	}
	switch code := refused.Response.StatusCode; {
	case code == http.StatusBadRequest, code == http.StatusUnauthorized, refused.ErrorCode == "invalid_client":
		return pbxapi.NewError(pbxapi.ErrUnauthorized, tokenOp, fmt.Sprintf("HTTP %d, check clientID and clientSecret in the Secret", code))
	default:
		return s.problem(tokenOp, refused.Response, refused.Body)
	}
}
