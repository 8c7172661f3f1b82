package pbxapi

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// Settings are what the package of a PBX makes its API from.
type Settings struct {
	PBX v1alpha1.PBX
	// Credentials is the data of the Secret that CredentialsSecret names, KeyDatabaseURL where
	// there is a database, and KeyCABundle where spec.pbx.tls is set. HTTP trusts that bundle
	// already.
	Credentials map[string][]byte
	// HTTP follows no redirect.
	HTTP *http.Client
	// Timeout bounds each single request.
	Timeout time.Duration
	// Turn is called before every request. It waits as long as the rate limit demands, or fails
	// with a RateLimitedError.
	Turn func(context.Context) error
}

// Factory makes the API of one kind of PBX. It returns ErrInvalid for settings that cannot work.
type Factory func(Settings) (API, error)

// Options adjust a Pool. The zero value is fit for production.
type Options struct {
	// Transport carries the requests. Default: HTTP with bounded times.
	Transport http.RoundTripper
	// Metrics may be nil.
	Metrics *Metrics
	// Timeout of each single request. Default: 10 s.
	Timeout time.Duration
	// DirectoryTTL is the age at which the lists of extensions and of queue agents are read again.
	// Default: 10 min.
	DirectoryTTL time.Duration
	// DirectoryRescan is the least time between two such lists that are made because something was
	// not found. Default: 30 s.
	DirectoryRescan time.Duration
	// Pause is how long a PBX is left alone after three requests in a row got no answer. Default:
	// 10 s.
	Pause time.Duration
	// BadCredentialRetry is how long refused credentials are not tried again, unless they change.
	// Default: 5 min.
	BadCredentialRetry time.Duration
}

func (o Options) withDefaults() Options {
	if o.Transport == nil {
		o.Transport = newTransport()
	}
	o.Transport = o.Metrics.around(o.Transport)
	o.Timeout = positive(o.Timeout, 10*time.Second)
	o.DirectoryTTL = positive(o.DirectoryTTL, 10*time.Minute)
	o.DirectoryRescan = positive(o.DirectoryRescan, 30*time.Second)
	o.Pause = positive(o.Pause, 10*time.Second)
	o.BadCredentialRetry = positive(o.BadCredentialRetry, 5*time.Minute)
	return o
}

func positive(value, otherwise time.Duration) time.Duration {
	if value > 0 {
		return value
	}
	return otherwise
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:      true,
		MaxConnsPerHost:        6, // RingMe allows six connections to its token endpoint (API Request Rules)
		MaxIdleConnsPerHost:    6,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    5 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// Pool holds the Clients of all integrations. It is safe for concurrent use.
type Pool struct {
	factories map[v1alpha1.PBXType]Factory
	options   Options

	mu      sync.Mutex
	entries map[types.UID]*entry
}

type entry struct {
	fingerprint [sha256.Size]byte
	throttle    *throttle
	client      *Client
}

// NewPool makes an empty pool for these kinds of PBX.
func NewPool(factories map[v1alpha1.PBXType]Factory, options Options) *Pool {
	return &Pool{factories: factories, options: options.withDefaults(), entries: map[types.UID]*entry{}}
}

// Client returns the shared client of an integration. A change of the credentials or of the PBX's
// settings makes a new one, with a new token and no memory of failures; the rate limit goes on. It
// returns ErrInvalid when the Secret lacks a key.
func (p *Pool) Client(integration *v1alpha1.PBXIntegration, credentials map[string][]byte) (*Client, error) {
	fingerprint, err := fingerprintOf(integration.Spec.PBX, credentials)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[integration.UID]
	if e != nil && e.fingerprint == fingerprint {
		return e.client, nil
	}
	perMinute := requestsPerMinute(integration.Spec.PBX)
	next := &entry{fingerprint: fingerprint}
	if e != nil {
		next.throttle = e.throttle
		next.throttle.set(perMinute)
	} else {
		next.throttle = newThrottle(perMinute)
	}
	if next.client, err = p.newClient(integration.Spec.PBX, credentials, next.throttle); err != nil {
		return nil, err
	}
	p.entries[integration.UID] = next
	return next.client, nil
}

func (p *Pool) newClient(pbx v1alpha1.PBX, credentials map[string][]byte, throttle *throttle) (*Client, error) {
	factory, ok := p.factories[pbx.Type]
	if !ok {
		return nil, NewError(ErrInvalid, "connect to the PBX", fmt.Sprintf("a PBX of type %q has no management API here", pbx.Type))
	}
	transport, err := p.transport(credentials[KeyCABundle])
	if err != nil {
		return nil, err
	}
	api, err := factory(Settings{
		PBX:         pbx,
		Credentials: credentials,
		Timeout:     p.options.Timeout,
		Turn:        throttle.turn,
		HTTP: &http.Client{
			Transport: transport,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse // a redirect would carry the credentials to another host
			},
		},
	})
	if err != nil {
		return nil, err
	}
	return newClient(api, throttle, p.options), nil
}

// transport returns the one that all integrations share, or one of its own for an integration with
// certificates to trust.
func (p *Pool) transport(bundle []byte) (http.RoundTripper, error) {
	if bundle == nil {
		return p.options.Transport, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return nil, NewError(ErrInvalid, "connect to the PBX", "spec.pbx.tls.caBundle leads to no certificate in PEM")
	}
	own := newTransport()
	own.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return p.options.Metrics.around(own), nil
}

// Forget drops the client of an integration that is gone.
func (p *Pool) Forget(integration types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.entries, integration)
}

func fingerprintOf(pbx v1alpha1.PBX, credentials map[string][]byte) ([sha256.Size]byte, error) {
	text, err := json.Marshal(struct {
		PBX         v1alpha1.PBX
		Credentials map[string][]byte
	}{pbx, credentials})
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("cannot compare the settings of the PBX: %w", err)
	}
	return sha256.Sum256(text), nil
}
