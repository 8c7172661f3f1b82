package ringme

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// SetAgent logs the agent of an extension in or out. Only a real change of state makes an event:
// repeating a command is silent ("Queue Agent events").
func (a *API) SetAgent(ctx context.Context, extension int, name, status string) (exchange.Agent, error) {
	if status != exchange.Available && status != exchange.LoggedOut {
		return exchange.Agent{}, badRequest("status must be available or logged_out")
	}
	g, changed, err := a.x.SetAgent(extension, name, status)
	if err != nil || !changed {
		return g, err
	}
	n := a.agentEvent(g)
	options := a.Settings().Delivery
	// The notification outlives the request that caused it.
	go a.x.Announce(context.WithoutCancel(ctx), n, options)
	return g, nil
}

func (a *API) agentEvent(g exchange.Agent) scenario.Notification {
	e, _ := a.x.Extension(g.Extension)
	n := scenario.Notification{At: a.now(), Sender: e.Party(), EventType: "agent-login", Params: url.Values{
		"agent_id": {strconv.Itoa(g.ID)}, "agent_status": {g.Status}, "agent_type": {"local"},
		"extension_name": {e.Party().SIP()}, "event_source": {"api"},
	}}
	if g.Status == exchange.LoggedOut {
		n.EventType = "agent-logout"
	}
	return n
}

// wireTime is the form of times in call data: UTC, a comma before the fraction ("Current Calls").
const wireTime = "2006-01-02 15:04:05,00"

func gmt(t time.Time) string { return t.UTC().Format(wireTime) }
