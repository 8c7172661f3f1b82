// Package publish shows call legs to the cluster: as CallLeg objects, Kubernetes Events and
// metrics. The legs' own record is the LEGS log; what this package writes is a window on it.
package publish

import (
	"crypto/sha256"
	"encoding/base32"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/shorten"
)

// Bounds of the CallLeg schema. A PBX may send more; what is shown is cut, so that one odd leg is
// still seen.
const (
	maxLegEvents = 16
	maxID        = 256
	maxNumber    = 256
	maxShort     = 64
	maxUser      = 63
	maxEventType = 32
)

// ExpiresLayout is the form of the label v1alpha1.LabelExpires: the minute, in UTC, in which a
// finished CallLeg may be deleted.
const ExpiresLayout = "20060102T1504"

// Object is the CallLeg that shows a leg. Its name and labels follow from the integration, the call
// and the leg alone.
func Object(namespace, integration string, leg correlation.Leg) *v1alpha1.CallLeg {
	status := Status(leg)
	status.Integration = integration
	return &v1alpha1.CallLeg{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "CallLeg"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      Name(integration, leg.CallID, leg.LegID),
			Labels: map[string]string{
				v1alpha1.LabelIntegration: integration,
				v1alpha1.LabelCall:        hash(leg.CallID),
			},
		},
		Status: status,
	}
}

// Name is the name of the CallLeg of a leg.
func Name(integration, callID, legID string) string {
	return integration + "-" + hash(callID+"\x00"+legID)
}

// Status is what a CallLeg says of a leg.
func Status(leg correlation.Leg) v1alpha1.CallLegStatus {
	return v1alpha1.CallLegStatus{
		CallID: shorten.Characters(leg.CallID, maxID), LegID: shorten.Characters(leg.LegID, maxID), ParentLegID: shorten.Characters(leg.ParentLegID, maxID),
		Kind: v1alpha1.LegKind(leg.Kind), Direction: v1alpha1.Direction(leg.Direction),
		From: shorten.Characters(leg.From, maxNumber), FromName: shorten.Characters(leg.FromName, maxNumber), To: shorten.Characters(leg.To, maxNumber),
		DID: shorten.Characters(leg.DID, maxShort), Extension: shorten.Characters(leg.Extension, maxShort), User: shorten.Characters(leg.User, maxUser),
		Phase: v1alpha1.LegPhase(leg.Phase), Result: v1alpha1.LegResult(leg.Result), Logged: leg.Logged,
		StartTime: microTime(leg.Start), AnswerTime: microTime(leg.Answer), EndTime: microTime(leg.End),
		TalkTime: talkTime(leg), Transferred: leg.Transferred,
		CallBackID: shorten.Characters(leg.CallBackID, maxID), RecordingID: shorten.Characters(leg.RecordingID, maxID),
		Backfilled: leg.Backfilled, Revision: leg.Revision, Events: legEvents(leg.Events), Attributes: attributes(leg.Attributes),
	}
}

// attributes are bounded already.
func attributes(of map[string]string) map[string]v1alpha1.LegAttribute {
	if len(of) == 0 {
		return nil
	}
	all := make(map[string]v1alpha1.LegAttribute, len(of))
	for name, value := range of {
		all[name] = v1alpha1.LegAttribute(value)
	}
	return all
}

func legEvents(events []correlation.LegEvent) []v1alpha1.LegEvent {
	shown := make([]v1alpha1.LegEvent, 0, min(len(events), maxLegEvents))
	for _, event := range events[:min(len(events), maxLegEvents)] {
		shown = append(shown, v1alpha1.LegEvent{
			Type: shorten.Characters(string(event.Type), maxEventType), Time: metav1.NewMicroTime(event.Time.UTC()),
			Status: shorten.Characters(event.Status, maxShort),
		})
	}
	return shown
}

// own lets the CallLeg go with its PBXIntegration.
func own(object *v1alpha1.CallLeg, owner Reference) {
	object.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "PBXIntegration", Name: owner.Name, UID: owner.UID,
	}}
}

// stamp says when a finished CallLeg may be deleted. A live one carries no stamp, so nothing
// deletes it.
func stamp(object *v1alpha1.CallLeg, ttl time.Duration, now time.Time) {
	if object.Status.Phase == v1alpha1.PhaseCompleted {
		if object.Labels == nil {
			object.Labels = map[string]string{}
		}
		object.Labels[v1alpha1.LabelExpires] = now.Add(ttl).UTC().Format(ExpiresLayout)
	}
}

func microTime(t time.Time) *metav1.MicroTime {
	if t.IsZero() {
		return nil
	}
	shown := metav1.NewMicroTime(t.UTC())
	return &shown
}

// talkTime is in seconds throughout, so that a column of them can be read and sorted; to the
// millisecond, as times of receipt are no better. It is nil where nobody talked, and where the PBX
// told neither how long nor from when on.
func talkTime(leg correlation.Leg) *string {
	if leg.Result != correlation.Answered || leg.Talk == 0 && leg.Answer.IsZero() {
		return nil
	}
	shown := strconv.FormatFloat(max(leg.Talk, 0).Round(time.Millisecond).Seconds(), 'f', -1, 64) + "s"
	return &shown
}

// hash shortens an id of any form to what a name and a label may hold: 100 bits.
func hash(id string) string {
	sum := sha256.Sum256([]byte(id))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:])[:20])
}
