// Package tracking recognises the legs of a call that was started through a PBX's API, and says how
// far that call has come. It is pure: what it decides follows from what it is given.
package tracking

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

const (
	// Window is how long after a dial its call may begin. A handset that is not lifted leaves no
	// event (RingMe: Extension Number Events).
	Window = time.Minute
	// tolerance is how far the PBX's clock may be behind ours.
	tolerance = 2 * time.Second
)

// Dial is what is known of a dial that was sent.
type Dial struct {
	// Reference is what was sent along: it is the callBackID of the legs where the PBX takes it.
	Reference string
	// Extension calls Number, both in the form of the PBX.
	Extension, Number string
	// Sent is when it was sent.
	Sent time.Time
	// Confirmed reports whether the PBX has taken it.
	Confirmed bool
	// Open reports whether it is still looking for its call.
	Open bool
	// CallID and CallBackID are what the PBX has told. Either may be empty.
	CallID, CallBackID string
	// Legs are the names of those that it has found so far.
	Legs []string
}

// Of is what the status of a command says of its dial.
func Of(command *v1alpha1.CallCommand) Dial {
	status := &command.Status
	dial := Dial{
		Reference: string(command.UID), Confirmed: confirmed(status),
		CallID: status.CallID, CallBackID: status.CallBackID, Legs: status.Legs,
		Open: status.Phase == v1alpha1.CommandSent || status.Phase == v1alpha1.CommandConnected,
	}
	if command.Spec.Dial != nil {
		dial.Extension, dial.Number = command.Spec.Dial.Extension, command.Spec.Dial.Number
	}
	if status.SentTime != nil {
		dial.Sent = status.SentTime.Time
	}
	return dial
}

func confirmed(status *v1alpha1.CallCommandStatus) bool {
	return slices.ContainsFunc(status.Conditions, func(c condition) bool {
		return c.Type == v1alpha1.ConditionReady && (c.Reason == v1alpha1.ReasonCommandSent || c.Reason == v1alpha1.ReasonConnected)
	})
}

// Call picks the legs of the dial's call out of legs of the integration, in the order of their
// beginning. Where the PBX has told an id, they are recognised by it, else by extension, number and
// time, in which case rivals are the other dials of the integration: no call is given to two of
// them.
func (d Dial) Call(rivals []Dial, legs []v1alpha1.CallLeg) []v1alpha1.CallLeg {
	calls := map[string]bool{}
	for i := range legs {
		if d.identifies(&legs[i]) {
			calls[legs[i].Status.CallID] = true
		}
	}
	if len(calls) == 0 && !d.hasID() {
		if callID := d.guess(rivals, legs); callID != "" {
			calls[callID] = true
		}
	}
	found := slices.DeleteFunc(slices.Clone(legs), func(leg v1alpha1.CallLeg) bool { return !calls[leg.Status.CallID] })
	slices.SortFunc(found, chronological)
	return slices.CompactFunc(found, func(a, b v1alpha1.CallLeg) bool { return a.Name == b.Name })
}

func (d Dial) hasID() bool { return d.CallID != "" || d.CallBackID != "" }

// identifies reports whether the leg carries an id of the dial, or was found before.
func (d Dial) identifies(leg *v1alpha1.CallLeg) bool {
	return d.CallID != "" && strings.EqualFold(d.CallID, leg.Status.CallID) ||
		leg.Status.CallBackID != "" && (sameID(d.CallBackID, leg.Status.CallBackID) || d.Reference == leg.Status.CallBackID) ||
		slices.Contains(d.Legs, leg.Name)
}

// Concerns reports whether a change of the leg may matter to the dial: it is of its call, as far as
// that is known, or of its extension or number.
func (d Dial) Concerns(leg *v1alpha1.CallLeg) bool {
	return d.identifies(leg) || sameNumber(leg.Status.Extension, d.Extension) || sameNumber(leg.Status.To, d.Number) ||
		sameNumber(leg.Status.To, d.Extension)
}

// guess is the id of the call that falls to the dial when all open dials that know no id take, in
// turn, the first call that fits.
func (d Dial) guess(rivals []Dial, legs []v1alpha1.CallLeg) string {
	free := unclaimed(rivals, legs)
	queue := slices.DeleteFunc(slices.Clone(rivals), func(r Dial) bool {
		return !r.Open || r.hasID() || len(r.Legs) > 0 || r.Reference == d.Reference
	})
	queue = append(queue, d)
	slices.SortFunc(queue, precedence)
	for _, dial := range queue {
		first := slices.IndexFunc(free, func(leg v1alpha1.CallLeg) bool { return dial.fits(&leg) })
		switch {
		case dial.Reference == d.Reference && first < 0:
			return ""
		case dial.Reference == d.Reference:
			return free[first].Status.CallID
		case first >= 0:
			taken := free[first].Status.CallID
			free = slices.DeleteFunc(free, func(leg v1alpha1.CallLeg) bool { return leg.Status.CallID == taken })
		}
	}
	return ""
}

// unclaimed are the legs of calls that no rival has found or knows the id of, in the order of their
// beginning.
func unclaimed(rivals []Dial, legs []v1alpha1.CallLeg) []v1alpha1.CallLeg {
	claimed := map[string]bool{}
	for i := range legs {
		if slices.ContainsFunc(rivals, func(r Dial) bool { return r.identifies(&legs[i]) }) {
			claimed[legs[i].Status.CallID] = true
		}
	}
	free := slices.DeleteFunc(slices.Clone(legs), func(leg v1alpha1.CallLeg) bool { return claimed[leg.Status.CallID] })
	slices.SortFunc(free, chronological)
	return free
}

// precedence lets the dials that are known to have been taken choose before the others, and the
// older before the younger.
func precedence(a, b Dial) int {
	if a.Confirmed != b.Confirmed {
		if a.Confirmed {
			return -1
		}
		return 1
	}
	return cmp.Or(a.Sent.Compare(b.Sent), strings.Compare(a.Reference, b.Reference))
}

// fits reports whether the leg may come from the dial: the extension calls the number, and did not
// begin before the dial or long after it.
func (d Dial) fits(leg *v1alpha1.CallLeg) bool {
	start := begin(leg)
	return leg.Status.Direction != v1alpha1.DirectionInbound &&
		sameNumber(leg.Status.Extension, d.Extension) && sameNumber(leg.Status.To, d.Number) &&
		!start.Before(d.Sent.Add(-tolerance)) && !start.After(d.Sent.Add(Window))
}

// begin is zero for a leg of which no time is known.
func begin(leg *v1alpha1.CallLeg) time.Time {
	if leg.Status.StartTime == nil {
		return time.Time{}
	}
	return leg.Status.StartTime.Time
}

func chronological(a, b v1alpha1.CallLeg) int {
	return cmp.Or(begin(&a).Compare(begin(&b)), strings.Compare(a.Name, b.Name))
}

// sameID compares ids of API calls. RingMe writes one and the same as 32 hex digits, as a UUID, and
// as a UUID behind the number of a node.
func sameID(a, b string) bool { return a != "" && b != "" && plain(a) == plain(b) }

func plain(id string) string {
	const hexDigits = 32
	id = strings.ToLower(strings.ReplaceAll(id, "-", ""))
	const decimal = "0123456789"
	if node := len(id) - hexDigits; node > 0 && strings.Trim(id[:node], decimal) == "" && strings.Trim(id[node:], decimal+"abcdef") == "" {
		return id[node:]
	}
	return id
}

// sameNumber compares numbers, one of which may lack the plus, the separators or the prefix of its
// account.
func sameNumber(a, b string) bool {
	a, b = normalized(a), normalized(b)
	return a != "" && (a == b || within(a, b) || within(b, a))
}

// within reports whether number is short for long: 101 for 1234*101.
func within(long, number string) bool {
	_, extension, prefixed := strings.Cut(long, "*")
	return prefixed && extension == number
}

// normalized is a number without its domain, its plus and its separators.
func normalized(number string) string {
	number, _, _ = strings.Cut(number, "@")
	return strings.ToLower(strings.NewReplacer("+", "", "-", "", ".", "").Replace(number))
}
