package simclient

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/ringme"
)

// Client drives a simulator.
type Client struct {
	base string
	http *http.Client
}

// New returns a client for the control plane at base, for example http://127.0.0.1:8081.
func New(base string) *Client {
	return &Client{base: strings.TrimSuffix(base, "/"), http: &http.Client{}}
}

// Scenarios lists the calls that can be placed.
func (c *Client) Scenarios(ctx context.Context) ([]Scenario, error) {
	return get[[]Scenario](ctx, c, "/sim/scenarios")
}

// Place places calls.
func (c *Client) Place(ctx context.Context, r CallRequest) ([]Call, error) {
	return send[[]Call](ctx, c, http.MethodPost, "/sim/calls", r)
}

// Call returns a call with what became of its notifications.
func (c *Client) Call(ctx context.Context, id string) (Call, error) {
	return get[Call](ctx, c, "/sim/calls/"+url.PathEscape(id))
}

// Calls lists the calls that were placed, without their notifications.
func (c *Client) Calls(ctx context.Context) ([]Call, error) {
	return get[[]Call](ctx, c, "/sim/calls")
}

// Drop ends a call.
func (c *Client) Drop(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "/sim/calls/"+url.PathEscape(id), nil, nil)
}

// Load starts a load run; with Wait it returns the finished one.
func (c *Client) Load(ctx context.Context, r LoadRequest) (Load, error) {
	return send[Load](ctx, c, http.MethodPost, "/sim/load", r)
}

// LoadState returns the state of a load run.
func (c *Client) LoadState(ctx context.Context, id string) (Load, error) {
	return get[Load](ctx, c, "/sim/load/"+url.PathEscape(id))
}

// StopLoad ends a load run before its time.
func (c *Client) StopLoad(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "/sim/load/"+url.PathEscape(id), nil, nil)
}

// Extensions lists the extensions of all accounts.
func (c *Client) Extensions(ctx context.Context) ([]exchange.Extension, error) {
	return get[[]exchange.Extension](ctx, c, "/sim/extensions")
}

// AddExtensions creates extensions.
func (c *Client) AddExtensions(ctx context.Context, n NewExtension) ([]exchange.Extension, error) {
	return send[[]exchange.Extension](ctx, c, http.MethodPost, "/sim/extensions", n)
}

// DeleteExtension removes an extension with everything registered on it.
func (c *Client) DeleteExtension(ctx context.Context, id int) error {
	return c.do(ctx, http.MethodDelete, "/sim/extensions/"+strconv.Itoa(id), nil, nil)
}

// Renumber deletes an extension and creates it again with a number and a new id.
func (c *Client) Renumber(ctx context.Context, id int, number string) (exchange.Extension, error) {
	path := "/sim/extensions/" + strconv.Itoa(id) + "/renumber"
	return send[exchange.Extension](ctx, c, http.MethodPost, path, NewExtension{Number: number})
}

// SetAgent logs a queue agent in or out.
func (c *Client) SetAgent(ctx context.Context, s AgentState) (exchange.Agent, error) {
	return send[exchange.Agent](ctx, c, http.MethodPut, "/sim/agents", s)
}

// Registrations lists everything registered on the PBX, foreign registrations included.
func (c *Client) Registrations(ctx context.Context) ([]exchange.Registration, error) {
	return get[[]exchange.Registration](ctx, c, "/sim/registrations")
}

// DeleteRegistration makes a registration vanish behind everybody's back.
func (c *Client) DeleteRegistration(ctx context.Context, id int) error {
	return c.do(ctx, http.MethodDelete, "/sim/registrations/"+strconv.Itoa(id), nil, nil)
}

// SetForeign sets the registrations of other integrations on an extension and returns them.
func (c *Client) SetForeign(ctx context.Context, f Foreign) ([]exchange.Registration, error) {
	return send[[]exchange.Registration](ctx, c, http.MethodPut, "/sim/foreign", f)
}

// SetHook types an event URL into a PBX without a registration API and returns all hooks.
func (c *Client) SetHook(ctx context.Context, h Hook) ([]exchange.Registration, error) {
	return send[[]exchange.Registration](ctx, c, http.MethodPut, "/sim/hooks", h)
}

// Hooks lists the event URLs that were typed in.
func (c *Client) Hooks(ctx context.Context) ([]exchange.Registration, error) {
	return get[[]exchange.Registration](ctx, c, "/sim/hooks")
}

// SetFaults replaces all faults; without arguments nothing fails any more.
func (c *Client) SetFaults(ctx context.Context, faults ...Fault) ([]Fault, error) {
	if faults == nil {
		faults = []Fault{}
	}
	return send[[]Fault](ctx, c, http.MethodPut, "/sim/faults", faults)
}

// Faults lists the faults with their hits; those that are used up stay in the list.
func (c *Client) Faults(ctx context.Context) ([]Fault, error) {
	return get[[]Fault](ctx, c, "/sim/faults")
}

// Requests returns what the PBX was asked.
func (c *Client) Requests(ctx context.Context) (Requests, error) {
	return get[Requests](ctx, c, "/sim/requests")
}

// ResetRequests sets the counters to zero.
func (c *Client) ResetRequests(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, "/sim/requests", nil, nil)
}

// SettingsOf returns the settings in force of any PBX, for example SettingsOf[voipnow.Settings].
func SettingsOf[S any](ctx context.Context, c *Client) (S, error) {
	return get[S](ctx, c, "/sim/settings")
}

// Settings returns the settings in force of a RingMe PBX.
func (c *Client) Settings(ctx context.Context) (ringme.Settings, error) {
	return get[ringme.Settings](ctx, c, "/sim/settings")
}

// Change sets the members of the settings that patch names, for example {"eventLimit": 8}, and
// leaves the others. What it returns is of use for RingMe only; see [SettingsOf].
func (c *Client) Change(ctx context.Context, patch map[string]any) (ringme.Settings, error) {
	return send[ringme.Settings](ctx, c, http.MethodPatch, "/sim/settings", patch)
}

// Patch sets the named members of the settings, whatever the PBX.
func (c *Client) Patch(ctx context.Context, patch map[string]any) error {
	return c.do(ctx, http.MethodPatch, "/sim/settings", patch, nil)
}

// KillTokens makes all OAuth tokens invalid before their time.
func (c *Client) KillTokens(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/sim/tokens/kill", nil, nil)
}

// SetQuota sets the request counter of an account for the current hour.
func (c *Client) SetQuota(ctx context.Context, q Quota) error {
	return c.do(ctx, http.MethodPut, "/sim/quota", q, nil)
}

// SetSecret changes the secret of an OAuth client; its tokens stay valid.
func (c *Client) SetSecret(ctx context.Context, a App) error {
	return c.do(ctx, http.MethodPut, "/sim/apps", a, nil)
}

// Reset puts the simulator back to how it started.
func (c *Client) Reset(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/sim/reset", nil, nil)
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	return send[T](ctx, c, http.MethodGet, path, nil)
}

func send[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var out T
	return out, c.do(ctx, method, path, body, &out)
}

func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	var payload io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		payload = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, payload)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(raw))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(raw, into)
}
