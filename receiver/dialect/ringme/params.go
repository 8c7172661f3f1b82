package ringme

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	formparams "github.com/pbx-operator/pbx-operator/receiver/dialect/form"
)

// param is a parameter that the dialect understands.
type param int

const (
	eventType param = iota
	eventTime
	callID
	subCallID
	callAPIID
	callFlow
	callStatus
	callerIDNum
	callerNum
	callerIDName
	callerExtension
	callerExtensionID
	calledNumber
	calledNum
	calledExtension
	calledExtensionID
	calledDID
	duration
	bridgedDuration
	recID
	bridged
	forwarded
	forwardedRR
	remoteNumber
	callBackID
	snakeEventType
	clientID
	extensionID
	extensionName
	oldStatusID
	newStatusID
	changeTime
	agentID
	agentStatus
	agentNumber
	params
)

const (
	idLength     = 256
	numberLength = 256
	shortLength  = 64
)

// nameLength is how many characters of a display name are kept.
const nameLength = 256

// specs holds the spelling on the wire and the greatest length in bytes of each parameter; what is
// longer cannot be shown in a CallLeg. CallerNum, CalledNum and Transferred are spellings that the
// documents use by mistake or that other brands may use.
var specs = [params]struct {
	name   string
	length int
}{
	eventType:         {"EventType", shortLength},
	eventTime:         {"EventTime", shortLength},
	callID:            {"CallID", idLength},
	subCallID:         {"SubCallID", idLength},
	callAPIID:         {"CallAPIID", idLength},
	callFlow:          {"CallFlow", shortLength},
	callStatus:        {"CallStatus", shortLength},
	callerIDNum:       {"CallerIDNum", numberLength},
	callerNum:         {"CallerNum", numberLength},
	callerIDName:      {"CallerIDName", nameLength * utf8.UTFMax},
	callerExtension:   {"CallerExtension", numberLength},
	callerExtensionID: {"CallerExtensionID", shortLength},
	calledNumber:      {"CalledNumber", numberLength},
	calledNum:         {"CalledNum", numberLength},
	calledExtension:   {"CalledExtension", numberLength},
	calledExtensionID: {"CalledExtensionID", shortLength},
	calledDID:         {"CalledDID", shortLength},
	duration:          {"Duration", shortLength},
	bridgedDuration:   {"BridgedDuration", shortLength},
	recID:             {"RecID", idLength},
	bridged:           {"Bridged", shortLength},
	forwarded:         {"Transfered", shortLength}, //nolint:misspell // as it is on the wire
	forwardedRR:       {"Transferred", shortLength},
	remoteNumber:      {"RemoteNumber", numberLength},
	callBackID:        {"CallBackID", idLength},
	snakeEventType:    {"event_type", shortLength},
	clientID:          {"client_id", shortLength},
	extensionID:       {"extension_id", shortLength},
	extensionName:     {"extension_name", numberLength},
	oldStatusID:       {"old_status_id", shortLength},
	newStatusID:       {"new_status_id", shortLength},
	changeTime:        {"change_dt", shortLength},
	agentID:           {"agent_id", shortLength},
	agentStatus:       {"agent_status", shortLength},
	agentNumber:       {"agent_number", numberLength},
}

// longestName is longer than any name in specs.
const longestName = 32

var byName = func() map[string]param {
	index := make(map[string]param, params)
	for p, spec := range specs {
		index[strings.ToLower(spec.name)] = param(p)
	}
	return index
}()

// lookup finds a parameter by its name in any case.
func lookup(name string) (param, bool) {
	if len(name) >= longestName {
		return 0, false
	}
	var lower [longestName]byte
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	p, ok := byName[string(lower[:len(name)])]
	return p, ok
}

// form holds the decoded parameters of one notification.
type form struct {
	values  [params]string
	present [params]bool
	extra   map[string]string
}

// sent reports whether a parameter was sent, be it without a value.
func (f *form) sent(p param) bool { return f.present[p] }

// read merges the parameters of query and body; the body wins, unless it has no value
// ("Extension Number Events": parameters are the body of a POST and the query of a GET).
func (f *form) read(request callevent.Request) error { return formparams.Walk(request, f.set) }

func (f *form) set(name, value string) error {
	p, known := lookup(name)
	if !known {
		f.keep(name, value)
		return nil
	}
	if limit := specs[p].length; len(value) > limit {
		return fmt.Errorf("parameter %s has %d bytes: at most %d are expected", specs[p].name, len(value), limit)
	}
	f.present[p] = true
	if value != "" {
		f.values[p] = value
	}
	return nil
}

// keep stores what the dialect does not understand: unknown parameters must be kept, not refused.
func (f *form) keep(name, value string) {
	if value == "" {
		return
	}
	if f.extra == nil {
		f.extra = map[string]string{}
	}
	f.extra[name] = value
}

func (f *form) keepParam(p param) {
	if f.values[p] != "" {
		f.keep(specs[p].name, f.values[p])
	}
}

// first is the first of the parameters that has a value.
func (f *form) first(choices ...param) string {
	for _, p := range choices {
		if f.values[p] != "" {
			return f.values[p]
		}
	}
	return ""
}
