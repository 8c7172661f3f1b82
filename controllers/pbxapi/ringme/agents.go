package ringme

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/rest"
)

var _ pbxapi.AgentLister = (*API)(nil)

// agentItem is a queue agent on the wire. Which of its members name the extension is not
// documented.
type agentItem struct {
	ID            json.Number `json:"id"`
	Name          string      `json:"name"`
	ExtensionID   json.Number `json:"extension_id"`
	ExtensionName string      `json:"extension_name"`
}

func (i agentItem) key() string { return i.ID.String() }

// number of the agent's extension; empty where only the extension's id, or nothing, is given.
func (i agentItem) number() string {
	switch {
	case i.ExtensionName != "":
		return withoutDomain(i.ExtensionName)
	case strings.Contains(i.Name, "*"): // else it is a display name
		return withoutDomain(i.Name)
	default:
		return ""
	}
}

// Agents lists the queue agents that are extensions. Those whose extension the PBX does not name
// have no Number.
func (a *API) Agents(ctx context.Context) ([]pbxapi.Agent, error) {
	const op = "list the queue agents"
	items, err := allPages(op, agentItem.key, func(page int) ([]agentItem, error) {
		var items []agentItem
		call := rest.Call{Op: op, Method: http.MethodGet, Path: a.path("agent/local/"), Query: pageQuery(page, pageSize), Answer: &items}
		err := a.client.Do(ctx, call)
		return items, err
	})
	if err != nil {
		return nil, err
	}
	return a.agents(ctx, items)
}

// agents looks the numbers up where the PBX gave nothing but ids of extensions.
func (a *API) agents(ctx context.Context, items []agentItem) ([]pbxapi.Agent, error) {
	var numbers map[string]string
	agents := make([]pbxapi.Agent, len(items))
	for i, item := range items {
		agents[i] = pbxapi.Agent{ID: item.ID.String(), Number: item.number()}
		if agents[i].Number != "" || item.ExtensionID == "" {
			continue
		}
		if numbers == nil {
			var err error
			if numbers, err = a.numbers(ctx); err != nil {
				return nil, err
			}
		}
		agents[i].Number = numbers[item.ExtensionID.String()]
	}
	return agents, nil
}

// numbers of all extensions by id.
func (a *API) numbers(ctx context.Context) (map[string]string, error) {
	extensions, err := a.Extensions(ctx)
	if err != nil {
		return nil, err
	}
	numbers := make(map[string]string, len(extensions))
	for _, extension := range extensions {
		numbers[extension.ID] = extension.Number
	}
	return numbers, nil
}
