package correlation

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// Decision says why a leg is as it is.
type Decision struct {
	CallID string `json:"callID"`
	LegID  string `json:"legID"`
	Result Result `json:"result,omitempty"`
	// Shown is false for a leg that the scope leaves out.
	Shown bool `json:"shown"`
	// Rule is the name of the rule that decided, Says what it says, and Source where it comes from.
	Rule   string `json:"rule"`
	Says   string `json:"says"`
	Source string `json:"source"`
	// Applied are the names of all rules that applied to the leg, in the order of the rules.
	Applied []string `json:"applied"`
}

// Explain returns why the legs are as they are that [Derive] returns for the same events, and why
// others are left out; in order of call id and leg id.
func Explain(events []callevent.Event, settings Rules) []Decision {
	calls := callsOf(events)
	decisions := make([]Decision, 0, len(calls))
	for _, call := range calls {
		decisions = append(decisions, call.explain(settings)...)
	}
	slices.SortFunc(decisions, func(a, b Decision) int {
		return cmp.Or(strings.Compare(a.CallID, b.CallID), strings.Compare(a.LegID, b.LegID))
	})
	return decisions
}

func (c *Call) explain(settings Rules) []Decision {
	f := c.decided(settings, nil)
	decisions := make([]Decision, 0, len(f.attempts)+1)
	for i := range f.attempts {
		a := &f.attempts[i]
		if a.internal() || a.forwarding() {
			a.decide(internalCall)
		}
		decisions = append(decisions, a.decision(a.within(settings.Scope)))
	}
	if leg, ok := f.missed(c, settings); ok {
		a := attempt{id: leg.LegID, result: leg.Result, events: f.waiting.events}
		a.decide(missedCall)
		if leg.Result == AnsweredElsewhere {
			a.decide(takenAfterAll)
		}
		decisions = append(decisions, a.decision(true))
	}
	return decisions
}

func (a *attempt) decision(shown bool) Decision {
	r := &ruleTable[a.decided]
	d := Decision{CallID: a.events[0].CallID, LegID: a.id, Result: a.result, Shown: shown, Rule: r.name, Says: r.says, Source: r.source}
	for id := range ruleCount {
		if a.applied&(1<<id) != 0 {
			d.Applied = append(d.Applied, ruleTable[id].name)
		}
	}
	return d
}
