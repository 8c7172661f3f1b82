package extension

import (
	"fmt"
	"math"
	"slices"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// owner carries registrations on the PBX: the extension of a mapping, or the queue agent at it.
type owner struct {
	// id is what pbxapi.API calls it.
	id string
	// name is for people.
	name string
	// desired are the registrations that the mapping asks of it.
	desired []pbxapi.Registration
	// limit is how many registrations it may carry, those of others included.
	limit int
}

// owners are those that the mapping has recorded: the extension and, where there is one, the agent.
func (a access) owners(mapping *v1alpha1.ExtensionMapping) []owner {
	at := recorded(mapping)
	owners := []owner{{
		id: at.extensionID, name: extensionName(mapping), desired: a.desired(mapping, a.events(mapping)),
		limit: pbxapi.EventLimit(a.integration.Spec.PBX),
	}}
	if at.agentID != "" {
		owners = append(owners, owner{
			id: pbxapi.AgentOwner(at.agentID), name: "queue agent " + at.agentID, desired: a.desired(mapping, agentEvents), limit: math.MaxInt,
		})
	}
	return owners
}

// agentEvents say whether a queue agent takes calls (RingMe: Queue Agent events).
var agentEvents = []pbxapi.Subscription{{Event: pbxapi.EventAgentLogin}, {Event: pbxapi.EventAgentLogout}}

// events are those to register for on the extension.
func (a access) events(mapping *v1alpha1.ExtensionMapping) []pbxapi.Subscription {
	if a.servedByAccount(mapping) {
		return nil
	}
	return pbxapi.Subscriptions(a.integration.Spec.PBX, mapping.DesiredEvents())
}

func (a access) desired(mapping *v1alpha1.ExtensionMapping, events []pbxapi.Subscription) []pbxapi.Registration {
	token := a.ring.Current().Token(sourceOf(mapping))
	list := make([]pbxapi.Registration, len(events))
	for i, event := range events {
		url := eventurl.URL(a.integration.Spec.Receiver.PublicURL, token, event.Suffix)
		list[i] = pbxapi.Registration{Event: event.Event, URL: url, Method: registrationMethod}
	}
	return list
}

// servedByAccount reports whether the registrations on the account bring the events of the mapping:
// they are those of phones.
func (a access) servedByAccount(mapping *v1alpha1.ExtensionMapping) bool {
	return accountWide(a.integration) && mapping.Spec.Extension.Type == v1alpha1.ExtensionPhone
}

// accountWide reports whether the registrations on the account are in place. Until then each phone
// keeps its own, so that no event is lost.
func accountWide(integration *v1alpha1.PBXIntegration) bool {
	registered := integration.Status.RegisteredEvents
	return wantsAccount(integration) && registered != nil && *registered > 0
}

// accountPending reports whether the registrations on the account may be there in a moment, as
// after the restore of a backup: a phone that has none of its own so far does not make any
// meanwhile.
func accountPending(integration *v1alpha1.PBXIntegration, mapping *v1alpha1.ExtensionMapping) bool {
	if !wantsAccount(integration) || accountWide(integration) || mapping.Spec.Extension.Type != v1alpha1.ExtensionPhone ||
		mapping.Status.RegisteredEvents != nil {
		return false
	}
	ready := lifecycle.Ready(integration)
	return ready == nil || ready.Reason == v1alpha1.ReasonProgressing
}

func wantsAccount(integration *v1alpha1.PBXIntegration) bool {
	ringMe := integration.Spec.PBX.RingMe
	return ringMe != nil && ringMe.Registration == v1alpha1.RegistrationAccount
}

// followsAgents reports whether queue agents are followed.
func followsAgents(integration *v1alpha1.PBXIntegration) bool {
	ringMe := integration.Spec.PBX.RingMe
	return ringMe != nil && ringMe.QueueAgents != v1alpha1.QueueAgentsIgnore
}

// place is where a mapping has its registrations, or shall have them.
type place struct {
	extensionID string
	// agentID is empty where there is no queue agent to follow.
	agentID string
}

// recorded is the place that the status tells of: nothing is ever registered elsewhere.
func recorded(mapping *v1alpha1.ExtensionMapping) place {
	return place{mapping.Status.ExtensionID, mapping.Status.AgentID}
}

// record writes down a place. What the PBX has said of another agent or phone does not hold for the
// new one.
func record(mapping *v1alpha1.ExtensionMapping, at place) {
	if mapping.Status.AgentID != at.agentID {
		mapping.Status.AgentID, mapping.Status.Agent = at.agentID, nil
	}
	if mapping.Status.ExtensionID != at.extensionID {
		mapping.Status.ExtensionID, mapping.Status.Phone = at.extensionID, nil
	}
}

// ids are those of the owners, as pbxapi.API calls them.
func (p place) ids() []string {
	var ids []string
	if p.extensionID != "" {
		ids = append(ids, p.extensionID)
	}
	if p.agentID != "" {
		ids = append(ids, pbxapi.AgentOwner(p.agentID))
	}
	return ids
}

// beyond are the ids of the owners that belong to p only.
func (p place) beyond(other place) []string {
	kept := other.ids()
	return slices.DeleteFunc(p.ids(), func(id string) bool { return slices.Contains(kept, id) })
}

// extensionName names the extension for people. Its id is left out where it is the number (VoipNow)
// or is not known.
func extensionName(mapping *v1alpha1.ExtensionMapping) string {
	number, id := mapping.Spec.Extension.Number, mapping.Status.ExtensionID
	if id == "" || id == number {
		return "extension " + number
	}
	return fmt.Sprintf("extension %s (id %s)", number, id)
}
