package ringme

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
	// expiryMargin renews a token before the PBX lets it die.
	expiryMargin = 30 * time.Second

	tokenOp = "get an access token"
)

// tokenSource holds the one access token that all calls share. However many callers find it missing, the PBX is asked once.
type tokenSource struct {
	config  clientcredentials.Config
	http    *http.Client
	timeout time.Duration
	turn    func(context.Context) error

	flight  singleflight.Group
	mu      sync.Mutex
	current *oauth2.Token
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
	if s.current == nil || time.Now().Add(expiryMargin).After(s.current.Expiry) {
		return nil
	}
	return s.current
}

// fetch outlives the caller who happened to start it, because others wait for it too.
func (s *tokenSource) fetch(ctx context.Context) (*oauth2.Token, error) {
	if token := s.valid(); token != nil {
		return token, nil
	}
	ctx, cancel := context.WithTimeout(pbxapi.Urgent(context.WithoutCancel(ctx)), s.timeout)
	defer cancel()
	if err := s.turn(ctx); err != nil {
		return nil, pbxapi.TransportError(tokenOp, err)
	}
	token, err := s.config.Token(context.WithValue(ctx, oauth2.HTTPClient, s.http))
	if err != nil {
		return nil, tokenError(err)
	}
	if token.Expiry.IsZero() {
		token.Expiry = time.Now().Add(defaultLifetime)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = token
	return token, nil
}

// tokenError tells refused credentials from a PBX in trouble. OAuth answers 400 or 401 to bad credentials (RFC 6749, 5.2).
func tokenError(err error) error {
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return pbxapi.TransportError(tokenOp, err)
	}
	switch code := refused.Response.StatusCode; code {
	case http.StatusBadRequest, http.StatusUnauthorized:
		return pbxapi.NewError(pbxapi.ErrUnauthorized, tokenOp, fmt.Sprintf("HTTP %d, check clientID and clientSecret in the Secret", code))
	default:
		return answerError(tokenOp, refused.Response, refused.Body)
	}
}
