package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CallLegReference names a CallLeg in the same namespace.
type CallLegReference struct {
	// name of the CallLeg.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`
}

// Dial rings an extension and, when it is picked up, calls a number.
type Dial struct {
	// extension that makes the call, in the form of the PBX.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9A-Za-z*#+._-]+$`
	// +required
	Extension string `json:"extension,omitempty"`
	// number to call: an outside number or an extension.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9A-Za-z*#+._@-]+$`
	// +required
	Number string `json:"number,omitempty"`
}

// Hangup ends a call: that of a leg, or all calls of an extension.
// +kubebuilder:validation:XValidation:rule="has(self.extension) != has(self.legRef)",message="set exactly one of extension and legRef"
type Hangup struct {
	// extension whose calls are ended.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9A-Za-z*#+._-]+$`
	// +optional
	Extension string `json:"extension,omitempty"`
	// legRef names the leg whose call is ended.
	// +optional
	LegRef *CallLegReference `json:"legRef,omitempty"`
}

// Recording asks where the recording of a leg can be fetched.
type Recording struct {
	// legRef names the recorded leg.
	// +required
	LegRef CallLegReference `json:"legRef,omitzero"`
}

// CallCommandSpec is what the PBX shall do, once.
// +kubebuilder:validation:XValidation:rule="[has(self.dial), has(self.hangup), has(self.recording)].filter(x, x).size() == 1",message="set exactly one of dial, hangup and recording"
// +kubebuilder:validation:XValidation:rule="self.integrationRef == oldSelf.integrationRef && has(self.dial) == has(oldSelf.dial) && has(self.hangup) == has(oldSelf.hangup) && (!has(self.dial) || self.dial == oldSelf.dial) && (!has(self.hangup) || self.hangup == oldSelf.hangup) && (!has(self.recording) || self.recording == oldSelf.recording) && duration(self.ttlAfterFinished) == duration(oldSelf.ttlAfterFinished)",message="a command is immutable; create another one"
type CallCommandSpec struct {
	// integrationRef names the PBXIntegration.
	// +required
	IntegrationRef IntegrationReference `json:"integrationRef,omitzero"`
	// dial starts a call. It is sent within 5 minutes or not at all, never twice, and followed to
	// the end of its call.
	// +optional
	Dial *Dial `json:"dial,omitempty"`
	// hangup ends one. It is sent within 5 minutes or not at all, and never twice. It has finished,
	// too, when there is no call to end.
	// +optional
	Hangup *Hangup `json:"hangup,omitempty"`
	// recording resolves the address of a recording. It is waited for until 15 minutes after the
	// hangup.
	// +optional
	Recording *Recording `json:"recording,omitempty"`
	// ttlAfterFinished is how long the command stays after it has finished or failed.
	// +default="1h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('168h')",message="ttlAfterFinished must be between 0s and 168h"
	// +optional
	TTLAfterFinished *metav1.Duration `json:"ttlAfterFinished,omitempty"`
}

// CommandPhase is how far a command has come.
// +kubebuilder:validation:Enum=Pending;Sent;Connected;Finished;Failed
type CommandPhase string

// The phases of a command.
const (
	// CommandPending is not sent yet.
	CommandPending CommandPhase = "Pending"
	// CommandSent was sent to the PBX; for a dial, nobody has answered yet.
	CommandSent CommandPhase = "Sent"
	// CommandConnected is a dial whose number has answered.
	CommandConnected CommandPhase = "Connected"
	// CommandFinished has done its work; the call of a dial is over. A dial that nobody answered
	// has done its work as well.
	CommandFinished CommandPhase = "Finished"
	// CommandFailed did not happen, or nobody knows whether it did: see the condition Ready.
	CommandFailed CommandPhase = "Failed"
)

// CallCommandStatus is what was observed.
type CallCommandStatus struct {
	// conditions are Ready (True when the command has finished: the reason is NotConnected for a
	// dial that nobody answered, and NoCall for a hangup without a call; False with what it waits
	// for or has failed of); Complete or Failed, as on a Job, once it is over; Reconciling and
	// Stalled while they apply.
	// +listType=map
	// +listMapKey=type
	// +patchStrategy=merge
	// +patchMergeKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type"`
	// observedGeneration is the generation of the spec that the conditions speak of.
	// +kubebuilder:validation:Minimum=0
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// phase is how far the command has come: Pending, Sent, Connected, then Finished or Failed.
	// Where legs are published at their end only, a dial goes from Sent to Finished.
	// +optional
	Phase CommandPhase `json:"phase,omitempty"` //nolint:kubeapilinter // the one word that people look for; a command happens once
	// sentTime is when the command was about to be sent. It is written first: a command that has it
	// is never sent again.
	// +optional
	SentTime *metav1.MicroTime `json:"sentTime,omitempty"`
	// finishedTime is when the command finished or failed.
	// +optional
	FinishedTime *metav1.MicroTime `json:"finishedTime,omitempty"`
	// callID is the PBX's id of the call.
	// +kubebuilder:validation:MaxLength=256
	// +optional
	CallID string `json:"callID,omitempty"`
	// callBackID is the PBX's id of the API call, or the one that was sent along.
	// +kubebuilder:validation:MaxLength=256
	// +optional
	CallBackID string `json:"callBackID,omitempty"`
	// legs are the CallLegs that the command led to.
	// +kubebuilder:validation:MaxItems=32
	// +listType=set
	// +optional
	Legs []string `json:"legs,omitempty"`
	// recordingURL is where the recording can be fetched, without credentials of the PBX.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	RecordingURL string `json:"recordingURL,omitempty"`
}

// CallCommand has the PBX do something, once. Deleting it neither ends its call nor takes anything
// back. A command that is deleted and made again (by a GitOps tool after its TTL, or by a restore
// from a backup) happens again, so commands do not belong in manifests that something re-applies.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=callcommands,shortName=callcmd,categories=telephony
// +kubebuilder:selectablefield:JSONPath=`.spec.integrationRef.name`
// +kubebuilder:selectablefield:JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Integration",type=string,JSONPath=`.spec.integrationRef.name`
// +kubebuilder:printcolumn:name="Extension",type=string,JSONPath=`.spec.dial.extension`
// +kubebuilder:printcolumn:name="Number",type=string,JSONPath=`.spec.dial.number`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Recording",type=string,priority=1,JSONPath=`.status.recordingURL`
type CallCommand struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what the PBX shall do.
	// +required
	Spec CallCommandSpec `json:"spec,omitzero"`
	// status is what was observed.
	// +optional
	Status CallCommandStatus `json:"status,omitzero"`
}

// GetConditions returns the status conditions for reading and writing.
func (c *CallCommand) GetConditions() *[]metav1.Condition { return &c.Status.Conditions }

// SetObservedGeneration records the generation that the conditions speak of.
func (c *CallCommand) SetObservedGeneration(generation int64) {
	c.Status.ObservedGeneration = generation
}

// CallCommandList is a list of CallCommands.
// +kubebuilder:object:root=true
type CallCommandList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []CallCommand `json:"items"`
}
