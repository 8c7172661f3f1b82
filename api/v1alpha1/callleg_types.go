package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// LegKind tells what a leg connects.
// +kubebuilder:validation:Enum=Extension;Queue;IVR;Trunk;Device
type LegKind string

// The kinds of legs.
const (
	// LegExtension rings an ordinary extension, or is dialled by one.
	LegExtension LegKind = "Extension"
	// LegQueue is a call that waited in a queue.
	LegQueue LegKind = "Queue"
	// LegIVR is a call that reached a voice menu.
	LegIVR LegKind = "IVR"
	// LegTrunk is the leg that enters or leaves the PBX (the A leg).
	LegTrunk LegKind = "Trunk"
	// LegDevice is a device behind another leg.
	LegDevice LegKind = "Device"
)

// Direction of a leg, seen from the PBX's own extensions.
// +kubebuilder:validation:Enum=Inbound;Outbound;Internal
type Direction string

// The directions.
const (
	DirectionInbound  Direction = "Inbound"
	DirectionOutbound Direction = "Outbound"
	DirectionInternal Direction = "Internal"
)

// LegPhase is how far a leg has come.
// +kubebuilder:validation:Enum=Ringing;Answered;Completed
type LegPhase string

// The phases.
const (
	PhaseRinging   LegPhase = "Ringing"
	PhaseAnswered  LegPhase = "Answered"
	PhaseCompleted LegPhase = "Completed"
)

// LegResult is how a leg ended.
// +kubebuilder:validation:Enum=Answered;Missed;NoAnswer;AnsweredElsewhere;Busy;Cancelled;Failed;Unknown
type LegResult string

// The results.
const (
	// ResultAnswered is the only success: somebody talked.
	ResultAnswered LegResult = "Answered"
	// ResultMissed is an inbound call that nobody took.
	ResultMissed LegResult = "Missed"
	// ResultNoAnswer is a leg that rang until the PBX gave up.
	ResultNoAnswer LegResult = "NoAnswer"
	// ResultAnsweredElsewhere is a leg that stopped ringing because another one was answered.
	ResultAnsweredElsewhere LegResult = "AnsweredElsewhere"
	// ResultBusy is a busy signal.
	ResultBusy LegResult = "Busy"
	// ResultCancelled is a caller who gave up.
	ResultCancelled LegResult = "Cancelled"
	// ResultFailed is an error of the network or of the called device.
	ResultFailed LegResult = "Failed"
	// ResultUnknown is a leg whose end was never heard, or whose status means nothing to us.
	ResultUnknown LegResult = "Unknown"
)

// LegEvent is one call event that joined a leg.
type LegEvent struct {
	// type of the event, such as DialIn.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	// +required
	Type string `json:"type,omitempty"`
	// time of the event on the PBX's clock; the time of receipt where the PBX gives none.
	// +required
	Time metav1.MicroTime `json:"time,omitzero"`
	// status is what the PBX said with the event, such as ANSWER.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Status string `json:"status,omitempty"`
}

// LegAttribute is the value of an attribute of a leg.
// +kubebuilder:validation:MaxLength=256
type LegAttribute string

// CallLegStatus is what was observed of one attempt to connect one party.
type CallLegStatus struct {
	// integration is the name of the PBXIntegration that the leg belongs to.
	// +kubebuilder:validation:MaxLength=40
	// +optional
	Integration string `json:"integration,omitempty"`
	// callID is the PBX's id of the whole call.
	// +kubebuilder:validation:MaxLength=256
	// +required
	CallID string `json:"callID,omitempty"`
	// legID tells the legs of one call apart.
	// +kubebuilder:validation:MaxLength=256
	// +required
	LegID string `json:"legID,omitempty"`
	// parentLegID is the leg that this one came out of, by transfer or forwarding.
	// +kubebuilder:validation:MaxLength=256
	// +optional
	ParentLegID string `json:"parentLegID,omitempty"`
	// kind tells what the leg connects.
	// +required
	Kind LegKind `json:"kind,omitempty"`
	// direction is seen from the PBX's own extensions.
	// +required
	Direction Direction `json:"direction,omitempty"`
	// from is the calling number: the customer's, also after a transfer.
	// +kubebuilder:validation:MaxLength=256
	// +optional
	From string `json:"from,omitempty"`
	// fromName is the display name of the caller.
	// +kubebuilder:validation:MaxLength=256
	// +optional
	FromName string `json:"fromName,omitempty"`
	// to is the called number.
	// +kubebuilder:validation:MaxLength=256
	// +optional
	To string `json:"to,omitempty"`
	// did is the public number through which the call came in.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	DID string `json:"did,omitempty"`
	// extension that the leg belongs to.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Extension string `json:"extension,omitempty"`
	// user that the extension is mapped to.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	User string `json:"user,omitempty"`
	// phase is how far the leg has come.
	// +required
	Phase LegPhase `json:"phase,omitempty"` //nolint:kubeapilinter // the one word that people look for; a call has no conditions
	// result is how it ended.
	// +optional
	Result LegResult `json:"result,omitempty"`
	// logged tells that this leg counts as a logged call.
	// +required
	Logged bool `json:"logged"`
	// startTime is the first ring.
	// +optional
	StartTime *metav1.MicroTime `json:"startTime,omitempty"`
	// answerTime is the moment at which the leg was connected.
	// +optional
	AnswerTime *metav1.MicroTime `json:"answerTime,omitempty"`
	// endTime is the hangup.
	// +optional
	EndTime *metav1.MicroTime `json:"endTime,omitempty"`
	// talkTime in seconds, such as 60s or 11.4s. It is absent while it is not known: before the end
	// of the leg, where nobody talked, and where the PBX did not tell how long. 0s is a call of
	// less than a millisecond.
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:Pattern=`^[0-9]+(\.[0-9]+)?s$`
	// +optional
	TalkTime *string `json:"talkTime,omitempty"`
	// transferred tells that the leg came about by forwarding or transfer.
	// +optional
	Transferred bool `json:"transferred,omitempty"`
	// callBackID is the id of the API call that started this call.
	// +kubebuilder:validation:MaxLength=256
	// +optional
	CallBackID string `json:"callBackID,omitempty"`
	// recordingID is the PBX's id of the recording.
	// +kubebuilder:validation:MaxLength=256
	// +optional
	RecordingID string `json:"recordingID,omitempty"`
	// backfilled tells that the leg, or a part of it, comes from the PBX's history and not from
	// events.
	// +optional
	Backfilled bool `json:"backfilled,omitempty"`
	// attributes are what the PBX told of the leg that has no field here: call tags (tag.campaign:
	// spring) and parameters by their name on the wire. At most 16 of them; keys have at most 63
	// characters, values 256.
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, size(k) >= 1 && size(k) <= 63)",message="a key of attributes must have 1 to 63 characters"
	// +optional
	Attributes map[string]LegAttribute `json:"attributes,omitempty"`
	// revision grows with every event that joined the call.
	// +kubebuilder:validation:Minimum=0
	// +required
	Revision int64 `json:"revision"`
	// events that joined the leg, the first 16 of them.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Events []LegEvent `json:"events,omitempty"`
}

// CallLeg is one attempt to connect one party of a call. Receivers write it; nobody else does.
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=calllegs,shortName=leg,categories=telephony
// +kubebuilder:selectablefield:JSONPath=`.status.integration`
// +kubebuilder:selectablefield:JSONPath=`.status.direction`
// +kubebuilder:selectablefield:JSONPath=`.status.phase`
// +kubebuilder:selectablefield:JSONPath=`.status.result`
// +kubebuilder:selectablefield:JSONPath=`.status.extension`
// +kubebuilder:selectablefield:JSONPath=`.status.user`
// +kubebuilder:selectablefield:JSONPath=`.status.callID`
// +kubebuilder:selectablefield:JSONPath=`.status.callBackID`
// +kubebuilder:printcolumn:name="Direction",type=string,JSONPath=`.status.direction`
// +kubebuilder:printcolumn:name="From",type=string,JSONPath=`.status.from`
// +kubebuilder:printcolumn:name="To",type=string,JSONPath=`.status.to`
// +kubebuilder:printcolumn:name="User",type=string,JSONPath=`.status.user`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Result",type=string,JSONPath=`.status.result`
// +kubebuilder:printcolumn:name="Talk",type=string,JSONPath=`.status.talkTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Logged",type=boolean,priority=1,JSONPath=`.status.logged`
// +kubebuilder:printcolumn:name="Call",type=string,priority=1,JSONPath=`.status.callID`
type CallLeg struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// status is what was observed. It is no subresource, so that a transition is one write.
	// +required
	Status CallLegStatus `json:"status,omitzero"`
}

// CallLegList is a list of CallLegs.
// +kubebuilder:object:root=true
type CallLegList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []CallLeg `json:"items"`
}
