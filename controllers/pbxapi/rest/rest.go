// Package rest sends JSON requests with an OAuth 2.0 access token, as the management APIs of RingMe
// and VoipNow want them.
package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

const (
	// keyClientID and keyClientSecret are the keys of the credentials Secret.
	keyClientID     = "clientID"
	keyClientSecret = "clientSecret"

	largestAnswer = 8 << 20
)

// Config describes the API of one kind of PBX.
type Config struct {
	// Settings are those that the pool gave.
	Settings pbxapi.Settings
	// URL of the PBX, SecretName of its credentials, as in the spec.
	URL, SecretName string
	// Field is the path of the URL in the spec, for error messages.
	Field string
	// APIPath and TokenPath follow the URL.
	APIPath, TokenPath string
	// TokenParameters go with a request for a token.
	TokenParameters url.Values
	// ExpiryMargin is how long before its end a token is renewed; half its life at most.
	ExpiryMargin time.Duration
	// Problem is the error that an answer other than 2xx stands for.
	Problem func(op string, response *http.Response, body []byte) error
}

// Client sends requests. It is safe for concurrent use.
type Client struct {
	config Config
	base   string
	tokens *tokenSource
}

// New makes a client. It returns ErrInvalid when the URL is no URL or the Secret lacks clientID or
// clientSecret.
func New(config Config) (*Client, error) {
	const op = "connect to the PBX"
	host, err := url.Parse(config.URL)
	if err != nil || host.Host == "" {
		return nil, pbxapi.NewError(pbxapi.ErrInvalid, op, config.Field+" is no URL with a host")
	}
	credentials := config.Settings.Credentials
	for _, key := range []string{keyClientID, keyClientSecret} {
		if len(bytes.TrimSpace(credentials[key])) == 0 {
			return nil, pbxapi.NewError(pbxapi.ErrInvalid, op, fmt.Sprintf("the Secret %s has no key %s", config.SecretName, key))
		}
	}
	root := host.Scheme + "://" + host.Host + strings.TrimRight(host.Path, "/")
	return &Client{
		config: config,
		base:   root + config.APIPath,
		tokens: &tokenSource{
			settings: config.Settings,
			margin:   config.ExpiryMargin,
			problem:  config.Problem,
			config: clientcredentials.Config{
				ClientID:       string(bytes.TrimSpace(credentials[keyClientID])),
				ClientSecret:   string(bytes.TrimSpace(credentials[keyClientSecret])),
				TokenURL:       root + config.TokenPath,
				EndpointParams: config.TokenParameters,
				AuthStyle:      oauth2.AuthStyleInParams,
			},
		},
	}, nil
}

// Call is one request.
type Call struct {
	// Op says what is tried, for error messages.
	Op     string
	Method string
	// Path follows the APIPath, escaped as it is to be sent.
	Path  string
	Query url.Values
	// Body is sent as JSON, unless it is nil.
	Body any
	// Answer takes the answer from JSON, unless it is nil. An answer without a body leaves it as it
	// is.
	Answer any
}

// Do sends a request. A token can die before its time: after a 401, which means that nothing was
// done, the request is sent once more with a new one.
func (c *Client) Do(ctx context.Context, call Call) error {
	token, err := c.tokens.token(ctx)
	if err != nil {
		return pbxapi.Unsent(err)
	}
	err = c.send(ctx, call, token)
	if !isUnauthorized(err) {
		return err
	}
	c.tokens.discard(token)
	if token, err = c.tokens.token(ctx); err != nil {
		return pbxapi.Unsent(err)
	}
	err = c.send(pbxapi.Urgent(ctx), call, token)
	if isUnauthorized(err) {
		c.tokens.discard(token)
	}
	return err
}

func isUnauthorized(err error) bool { return errors.Is(err, pbxapi.ErrUnauthorized) }

func (c *Client) send(ctx context.Context, call Call, token string) error {
	if err := c.config.Settings.Turn(ctx); err != nil {
		return pbxapi.Unsent(pbxapi.TransportError(call.Op, err))
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Settings.Timeout)
	defer cancel()
	request, err := c.request(ctx, call, token)
	if err != nil {
		return err
	}
	response, err := c.config.Settings.HTTP.Do(request)
	if err != nil {
		return pbxapi.TransportError(call.Op, err)
	}
	defer func() { _ = response.Body.Close() }() // only read from
	return c.read(call, response)
}

func (c *Client) request(ctx context.Context, call Call, token string) (*http.Request, error) {
	var body io.Reader
	if call.Body != nil {
		text, err := json.Marshal(call.Body)
		if err != nil {
			return nil, pbxapi.NewError(pbxapi.ErrInvalid, call.Op, "the request cannot be written as JSON")
		}
		body = bytes.NewReader(text)
	}
	target := c.base + call.Path
	if len(call.Query) > 0 {
		target += "?" + call.Query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, call.Method, target, body)
	if err != nil {
		return nil, pbxapi.NewError(pbxapi.ErrInvalid, call.Op, c.config.Field+" is no usable URL")
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("User-Agent", "pbx-operator")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, nil
}

func (c *Client) read(call Call, response *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(response.Body, largestAnswer+1))
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return c.config.Problem(call.Op, response, body) // whatever could be read of it
	}
	switch {
	case err != nil:
		return pbxapi.TransportError(call.Op, fmt.Errorf("the answer broke off: %w", err))
	case len(body) > largestAnswer:
		return pbxapi.NewError(pbxapi.ErrUnreachable, call.Op, "the answer is larger than 8 MiB")
	case call.Answer == nil, response.StatusCode == http.StatusNoContent:
		return nil
	}
	if err := json.Unmarshal(body, call.Answer); err != nil {
		return pbxapi.NewError(pbxapi.ErrUnreachable, call.Op, "the answer is not the JSON that was expected")
	}
	return nil
}
