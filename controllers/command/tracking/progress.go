package tracking

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

type condition = metav1.Condition

const (
	// settle is how long the last leg must be over before the call is: a transfer may make another
	// one.
	settle = 2 * time.Second
	// overtime is how much longer than callLegs.maxDuration a call is followed, so that the
	// receiver closes it first.
	overtime = time.Minute
	// recheck is how often to look although no leg has changed: a watch may be interrupted.
	recheck = 30 * time.Second
)

// View is what is seen of a dial.
type View struct {
	Dial Dial
	// Connected reports whether its number was seen to answer.
	Connected bool
	// Legs are those of Dial.Call.
	Legs []v1alpha1.CallLeg
	Now  time.Time
	// CallLegs are the settings of the integration.
	CallLegs v1alpha1.CallLegs
}

// Progress is how far a dial has come.
type Progress struct {
	Phase v1alpha1.CommandPhase
	// Reason and Message of the condition Ready.
	Reason, Message string
	// After is when to look again, unless the phase is Finished or Failed.
	After time.Duration
}

// Progress says how far the dial has come.
func (v View) Progress() Progress {
	switch {
	case len(v.Legs) == 0 && len(v.Dial.Legs) > 0:
		return v.over("its legs are gone before they were seen to end")
	case len(v.Legs) == 0:
		return v.unseen()
	case v.completed():
		return v.over(v.results())
	case !v.Now.Before(v.latest()):
		return v.over(fmt.Sprintf("its end was not heard of within callLegs.maxDuration (%s)", v.CallLegs.MaxDuration.Duration))
	case v.answered():
		return v.going(v1alpha1.CommandConnected, v1alpha1.ReasonConnected, v.call()+" is connected")
	default:
		return v.going(v1alpha1.CommandSent, v.sentReason(), v.call()+" is ringing")
	}
}

func (v View) call() string {
	return fmt.Sprintf("the call of extension %s to %s", v.Dial.Extension, v.Dial.Number)
}

func (v View) going(phase v1alpha1.CommandPhase, reason, message string) Progress {
	return Progress{Phase: phase, Reason: reason, Message: message, After: v.next()}
}

// next is how long it is until something happens that no leg tells of.
func (v View) next() time.Duration {
	due := v.latest()
	if len(v.Legs) == 0 {
		due = v.deadline()
	}
	after := min(due.Sub(v.Now), recheck)
	if left := v.unsettled(); left > 0 {
		after = min(after, left)
	}
	return max(after, time.Millisecond)
}

// unsettled is how long it is until all legs have been over for long enough; zero while one is not
// over.
func (v View) unsettled() time.Duration {
	var left time.Duration
	for i := range v.Legs {
		status := &v.Legs[i].Status
		if status.Phase != v1alpha1.PhaseCompleted {
			return 0
		}
		if status.EndTime == nil {
			continue
		}
		if since := v.Now.Sub(status.EndTime.Time); since >= 0 && since < settle {
			left = max(left, settle-since)
		}
	}
	return left
}

// sentReason keeps a dial that was not confirmed apart until its call has connected.
func (v View) sentReason() string {
	if v.Dial.Confirmed || len(v.Legs) > 0 {
		return v1alpha1.ReasonCommandSent
	}
	return v1alpha1.ReasonOutcomeUnknown
}

// unseen is the progress of a dial of whose call nothing was heard.
func (v View) unseen() Progress {
	switch waiting := v.Now.Before(v.deadline()); {
	case waiting && v.Dial.Confirmed:
		return v.going(v1alpha1.CommandSent, v.sentReason(), "the PBX has taken the command; no leg of "+v.call()+" has been seen yet"+v.late())
	case waiting:
		return v.going(v1alpha1.CommandSent, v.sentReason(),
			"whether the PBX has taken the command is unknown; it is not repeated. Looking for a leg of "+v.call()+v.late())
	case v.Dial.Confirmed:
		return Progress{Phase: v1alpha1.CommandFailed, Reason: v1alpha1.ReasonNoCall, Message: fmt.Sprintf(
			"the PBX has taken the command, but no leg of %s was seen within %s: the extension did not pick up, or its calls are not seen"+
				" because it has no ExtensionMapping%s", v.call(), v.patience(), v.hidden())}
	default:
		return Progress{Phase: v1alpha1.CommandFailed, Reason: v1alpha1.ReasonOutcomeUnknown, Message: fmt.Sprintf(
			"the PBX gave no usable answer, and no leg of %s was seen within %s. The call may have been made all the same, so the command was not"+
				" repeated: create another one if it is still wanted%s", v.call(), v.patience(), v.hidden())}
	}
}

// late tells why nothing may be seen for long.
func (v View) late() string {
	if v.CallLegs.Publish == v1alpha1.PublishCompleted {
		return "; with callLegs.publish Completed it shows at its end only"
	}
	return ""
}

// hidden tells of calls that are never seen.
func (v View) hidden() string {
	if v.CallLegs.Scope == v1alpha1.ScopeAll {
		return ""
	}
	return ". Calls between extensions are not seen with callLegs.scope External"
}

// patience is how long a leg is waited for: a leg that is written at its end only may come as late
// as the end of the longest call.
func (v View) patience() time.Duration {
	if v.CallLegs.Publish == v1alpha1.PublishCompleted {
		return Window + v.CallLegs.MaxDuration.Duration + overtime
	}
	return Window
}

func (v View) deadline() time.Time { return v.Dial.Sent.Add(v.patience()) }

func (v View) latest() time.Time {
	return v.Dial.Sent.Add(Window + v.CallLegs.MaxDuration.Duration + overtime)
}

// over is the progress of a dial whose call has ended. That nobody answered is no failure of the
// command: it did its work.
func (v View) over(how string) Progress {
	if v.answered() {
		return Progress{Phase: v1alpha1.CommandFinished, Reason: v1alpha1.ReasonFinished, Message: v.call() + " is over: " + how}
	}
	return Progress{Phase: v1alpha1.CommandFinished, Reason: v1alpha1.ReasonNotConnected, Message: v.call() + " was not answered: " + how}
}

// completed reports whether all legs are over, and have been for long enough. An end in the future,
// by another clock, is not waited for.
func (v View) completed() bool {
	for i := range v.Legs {
		if v.Legs[i].Status.Phase != v1alpha1.PhaseCompleted {
			return false
		}
	}
	return v.unsettled() == 0
}

// answered reports whether the number has answered: on an outgoing leg the answer is the far
// side's.
func (v View) answered() bool {
	for i := range v.Legs {
		status := &v.Legs[i].Status
		connected := status.AnswerTime != nil || status.Phase == v1alpha1.PhaseAnswered || status.Result == v1alpha1.ResultAnswered
		if connected && v.outgoing(status) {
			return true
		}
	}
	return v.Connected
}

// outgoing reports whether a leg is the one to the number: neither one that rings the extension
// first, nor one that a transfer made.
func (v View) outgoing(leg *v1alpha1.CallLegStatus) bool {
	return leg.Direction != v1alpha1.DirectionInbound && !sameNumber(leg.To, v.Dial.Extension) &&
		(sameNumber(leg.Extension, v.Dial.Extension) || sameNumber(leg.To, v.Dial.Number))
}

// results tells how the leg to the number ended, or the first one where there is none.
func (v View) results() string {
	ended := &v.Legs[0].Status
	for i := range v.Legs {
		if v.outgoing(&v.Legs[i].Status) {
			ended = &v.Legs[i].Status
		}
	}
	if ended.TalkTime != nil && ended.Result == v1alpha1.ResultAnswered {
		return fmt.Sprintf("%s, %s of talk", ended.Result, *ended.TalkTime)
	}
	if ended.Result == "" {
		return string(v1alpha1.ResultUnknown)
	}
	return string(ended.Result)
}
