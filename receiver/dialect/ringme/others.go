package ringme

import (
	"strconv"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/number"
)

// agentEvent decodes agent-login and agent-logout ("Queue Agent events"), which carry neither a
// type nor a time.
func (f *form) agentEvent(request callevent.Request) (callevent.Event, error) {
	event := f.outsideCalls(request)
	event.Type = callevent.Agent
	switch strings.ToLower(f.values[agentStatus]) {
	case "available":
		event.Agent = callevent.AgentAvailable
	case "logged_out":
		event.Agent = callevent.AgentLoggedOut
	default:
		event.Type = callevent.Other
	}
	event.WireStatus = f.values[agentStatus]
	event.Called.Number = plain(f.values[agentNumber])
	f.keepParam(agentID)
	if err := f.times(&event, request.ReceivedAt); err != nil {
		return event, err
	}
	event.ID = "agent/" + f.values[agentID] + "/" + event.WireStatus + "/" + stamp(event.Time)
	return event, nil
}

// statusEvent decodes extension-call-status, which is delivered as call-status-change ("Global
// events of all telephone terminals in PBX"). The ids of the statuses are account-defined; the new
// one is empty where the status was removed.
func (f *form) statusEvent(request callevent.Request) (callevent.Event, error) {
	event := f.outsideCalls(request)
	event.Type = callevent.PhoneStatus
	if !strings.EqualFold(f.values[snakeEventType], "call-status-change") {
		event.Type = callevent.Other
		f.keepParam(snakeEventType)
	}
	for _, p := range []param{oldStatusID, newStatusID} {
		if isNull(f.values[p]) {
			f.values[p] = ""
		}
		f.keepParam(p)
	}
	f.keepParam(clientID)
	event.WireStatus = f.values[newStatusID]
	if err := f.times(&event, request.ReceivedAt); err != nil {
		return event, err
	}
	if t, ok := changed(f.values[changeTime]); ok {
		event.Time = t
	} else {
		f.keepParam(changeTime)
	}
	event.ID = strings.ToLower(f.values[snakeEventType]) + "/" + event.Called.ExtensionID + "/" + f.values[oldStatusID] + "/" +
		f.values[newStatusID] + "/" + stamp(event.Time)
	return event, nil
}

// outsideCalls holds what the events of agents and of phones have in common; the extension that
// they are about is the called one.
func (f *form) outsideCalls(request callevent.Request) callevent.Event {
	event := callevent.Event{Source: request.Source}
	event.Called.Extension = number.WithoutDomain(f.values[extensionName])
	event.Called.ExtensionID = f.values[extensionID]
	if event.Source == (callevent.Source{}) {
		event.Source.Number, event.Source.ID = event.Called.Extension, event.Called.ExtensionID
	}
	return event
}

// isNull accepts every spelling that a null may take in a form.
func isNull(s string) bool { return strings.EqualFold(s, "null") || strings.EqualFold(s, "none") }

// changed parses change_dt, whose format is not documented. Without an offset it is UTC.
func changed(s string) (time.Time, bool) {
	for _, layout := range []string{time.DateTime, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil && t.Year() >= 2000 && t.Year() < 2200 {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

func stamp(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }
