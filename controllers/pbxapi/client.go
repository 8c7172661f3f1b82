package pbxapi

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
)

// deafAfter is how many calls in a row must get no answer before the PBX is left alone for a while.
const deafAfter = 3

// Client is the access to one PBX that everybody who works on one integration shares. It fails fast
// where a request would be in vain: with credentials that the PBX has refused, and for some seconds
// after several requests without an answer.
type Client struct {
	api       API
	throttle  *throttle
	directory *directory
	agents    *agentDirectory
	options   Options

	mu         sync.Mutex
	unanswered int
	failure    error
	until      time.Time
}

var _ API = (*Client)(nil)

func newClient(api API, throttle *throttle, options Options) *Client {
	c := &Client{api: api, throttle: throttle, options: options}
	c.directory, c.agents = newDirectory(c.Extensions, options), newAgentDirectory(c.Agents, options)
	return c
}

// Admit reserves n requests for one pass, so that it is not cut short half-way. It waits for a
// second at most, and returns a RateLimitedError where that is not enough. Use the returned context
// for the calls of the pass.
func (c *Client) Admit(ctx context.Context, n int) (context.Context, error) {
	return c.admit(ctx, n, false)
}

// AdmitRoutine is Admit for work that can wait, such as a check that is expected to find nothing.
// It does not wait, and leaves room for what is more urgent.
func (c *Client) AdmitRoutine(ctx context.Context, n int) (context.Context, error) {
	return c.admit(ctx, n, true)
}

func (c *Client) admit(ctx context.Context, n int, routine bool) (context.Context, error) {
	if err := c.paused(); err != nil {
		return ctx, err
	}
	return c.throttle.admit(ctx, n, routine)
}

// Extension finds an extension by number in a list that all callers share. It returns ErrNotFound
// for an unknown number.
func (c *Client) Extension(ctx context.Context, number string) (Extension, error) {
	return c.directory.lookup(ctx, number)
}

// HasExtension reports whether an id was in the list of extensions when it was last read. It does
// not ask the PBX.
func (c *Client) HasExtension(id string) bool { return c.directory.has(id) }

// ForgetExtensions makes the next lookup ask the PBX, because an extension turned out to be gone.
// It returns false, and does nothing, when the list was read only just now.
func (c *Client) ForgetExtensions() bool { return c.directory.forget() }

// Agent finds the queue agent at an extension in a list that all callers share; false where there
// is none. The list is read again when it is as old as Options.DirectoryTTL.
func (c *Client) Agent(ctx context.Context, number string) (Agent, bool, error) {
	return c.agents.lookup(ctx, number)
}

// ForgetAgents makes the next lookup ask the PBX, because an agent turned out to be gone. It
// returns false, and does nothing, when the list was read only just now.
func (c *Client) ForgetAgents() bool { return c.agents.forget() }

// Check makes one cheap authenticated request.
func (c *Client) Check(ctx context.Context) error {
	if database, ok := c.api.(DatabaseHistorian); ok && database.ChecksDatabase() {
		return c.api.Check(ctx)
	}
	return c.call(func() error { return c.api.Check(ctx) })
}

// Extensions lists all extensions.
func (c *Client) Extensions(ctx context.Context) ([]Extension, error) {
	return ask(c, func() ([]Extension, error) { return c.api.Extensions(ctx) })
}

// ExtensionPage lists some of the extensions; all of them on a PBX that knows no pages.
func (c *Client) ExtensionPage(ctx context.Context, cursor string) (ExtensionPage, error) {
	return ask(c, func() (ExtensionPage, error) {
		if pager, ok := c.api.(ExtensionPager); ok {
			return pager.ExtensionPage(ctx, cursor)
		}
		extensions, err := c.api.Extensions(ctx)
		return ExtensionPage{Extensions: extensions}, err
	})
}

// Registrations lists all registrations on an extension.
func (c *Client) Registrations(ctx context.Context, extensionID string) ([]Registration, error) {
	return ask(c, func() ([]Registration, error) { return c.api.Registrations(ctx, extensionID) })
}

// Register creates one registration.
func (c *Client) Register(ctx context.Context, extensionID string, registration Registration) (Registration, error) {
	return ask(c, func() (Registration, error) { return c.api.Register(ctx, extensionID, registration) })
}

// Unregister deletes one registration.
func (c *Client) Unregister(ctx context.Context, extensionID, registrationID string) error {
	return c.call(func() error { return c.api.Unregister(ctx, extensionID, registrationID) })
}

// Update makes a registration what it should be.
func (c *Client) Update(ctx context.Context, extensionID string, registration Registration) error {
	return c.call(func() error { return c.api.Update(ctx, extensionID, registration) })
}

// Agents lists the queue agents that are extensions; none where the PBX does not know such.
func (c *Client) Agents(ctx context.Context) ([]Agent, error) {
	lister, ok := c.api.(AgentLister)
	if !ok {
		return nil, nil
	}
	return ask(c, func() ([]Agent, error) { return lister.Agents(ctx) })
}

// Dial starts a call. It returns ErrNotSupported for a PBX that takes no commands.
func (c *Client) Dial(ctx context.Context, dial Dial) (Call, error) {
	commander, ok := c.api.(Commander)
	if !ok {
		return Call{}, NewError(ErrNotSupported, "dial", "it takes no commands")
	}
	return ask(c, func() (Call, error) { return commander.Dial(ctx, dial) })
}

// Hangup ends calls. It returns ErrNotSupported for a PBX that takes no commands.
func (c *Client) Hangup(ctx context.Context, hangup Hangup) error {
	commander, ok := c.api.(Commander)
	if !ok {
		return NewError(ErrNotSupported, "hang up", "it takes no commands")
	}
	return c.call(func() error { return commander.Hangup(ctx, hangup) })
}

// RecordingURL is where a recording can be fetched. It returns ErrNotSupported for a PBX that does
// not tell.
func (c *Client) RecordingURL(ctx context.Context, recordingID string) (string, error) {
	recordings, ok := c.api.(Recordings)
	if !ok {
		return "", NewError(ErrNotSupported, "find the recording", "it does not tell where recordings are")
	}
	return ask(c, func() (string, error) { return recordings.RecordingURL(ctx, recordingID) })
}

// ReadHistory reads one page of finished legs. It returns ErrNotSupported for a PBX without a
// history.
func (c *Client) ReadHistory(ctx context.Context, query HistoryQuery, yield func(callhistory.Record) error) (HistoryPage, error) {
	historian, ok := c.api.(Historian)
	if !ok {
		return HistoryPage{}, NewError(ErrNotSupported, "read the call history", "it has none that can be read")
	}
	if database, ok := historian.(DatabaseHistorian); ok {
		return database.ReadHistory(ctx, query, yield)
	}
	return ask(c, func() (HistoryPage, error) { return historian.ReadHistory(ctx, query, yield) })
}

func ask[T any](c *Client, request func() (T, error)) (answer T, err error) {
	err = c.call(func() error {
		answer, err = request()
		return err
	})
	return answer, err
}

func (c *Client) call(request func() error) error {
	if err := c.begin(); err != nil {
		return err
	}
	err := request()
	c.learn(err)
	return err
}

// paused returns the last failure as long as asking again would be in vain.
func (c *Client) paused() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil && time.Now().Before(c.until) {
		return c.failure
	}
	return nil
}

// begin is paused, but lets only one caller through when the pause is over. The others keep failing
// until that one has an answer.
func (c *Client) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	switch {
	case c.failure == nil:
		return nil
	case now.Before(c.until):
		return c.failure
	default:
		c.until = now.Add(c.options.Pause)
		return nil
	}
}

func (c *Client) learn(err error) {
	if limited, ok := errors.AsType[*RateLimitedError](err); ok {
		if limited.ByPBX {
			c.throttle.close(limited.After)
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case errors.Is(err, ErrUnauthorized):
		c.pause(err, c.options.BadCredentialRetry)
	case errors.Is(err, context.Canceled):
	case errors.Is(err, ErrUnreachable):
		if known, ok := errors.AsType[*Error](err); ok && known.After > 0 {
			c.throttle.close(known.After)
		}
		c.unanswered++
		if c.unanswered >= deafAfter {
			c.pause(err, c.options.Pause)
		}
	default:
		c.unanswered, c.failure = 0, nil
	}
}

// pause remembers a failure that concerns every call, whichever it hit first.
func (c *Client) pause(err error, length time.Duration) {
	c.failure, c.until = err, time.Now().Add(length)
	if known, ok := errors.AsType[*Error](err); ok {
		c.failure = Unsent(&Error{Kind: known.Kind, Op: "use the management API", Detail: known.Detail})
	}
}
