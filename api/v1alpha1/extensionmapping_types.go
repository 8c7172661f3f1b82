package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ExtensionType is the kind of an extension on the PBX.
// +kubebuilder:validation:Enum=Phone;IVR;Queue
type ExtensionType string

// The extension types.
const (
	// ExtensionPhone is an ordinary extension that a person answers.
	ExtensionPhone ExtensionType = "Phone"
	// ExtensionIVR is a voice menu.
	ExtensionIVR ExtensionType = "IVR"
	// ExtensionQueue is a call queue.
	ExtensionQueue ExtensionType = "Queue"
)

// EventType is a call event that a PBX can be asked to send.
// +kubebuilder:validation:Enum=DialIn;DialOut;Answer;Hangup
type EventType string

// The event types.
const (
	// EventDialIn is an incoming call to the extension.
	EventDialIn EventType = "DialIn"
	// EventDialOut is an outgoing call of the extension.
	EventDialOut EventType = "DialOut"
	// EventAnswer is the moment at which the leg is connected.
	EventAnswer EventType = "Answer"
	// EventHangup is the end of the leg.
	EventHangup EventType = "Hangup"
)

// IntegrationReference names a PBXIntegration in the same namespace.
type IntegrationReference struct {
	// name of the PBXIntegration.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +required
	Name string `json:"name,omitempty"`
}

// Extension is an extension on the PBX.
type Extension struct {
	// number of the extension in the form of the PBX, such as 1234*101 on RingMe. Leading zeros
	// count.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9A-Za-z*#+._-]+$`
	// +required
	Number string `json:"number,omitempty"`
	// id of the extension on the PBX. It is looked up by number where it is left out.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9A-Za-z._-]+$`
	// +optional
	ID string `json:"id,omitempty"`
	// type is Phone, IVR or Queue.
	// +default="Phone"
	// +optional
	Type ExtensionType `json:"type,omitempty"`
}

// User is the person that an extension belongs to.
type User struct {
	// name by which call legs refer to the user.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([A-Za-z0-9._@-]*[A-Za-z0-9])?$`
	// +required
	Name string `json:"name,omitempty"`
	// displayName for people.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	DisplayName string `json:"displayName,omitempty"`
}

// ExtensionMappingSpec is what the user wants.
// +kubebuilder:validation:XValidation:rule="self.extension.type != 'Phone' || has(self.user)",message="a Phone needs a user; IVR and Queue do not"
type ExtensionMappingSpec struct {
	// integrationRef names the PBXIntegration. It cannot be changed: the registrations on the old
	// PBX would be left behind.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="integrationRef is immutable; delete the mapping and create it anew"
	// +required
	IntegrationRef IntegrationReference `json:"integrationRef,omitzero"`
	// extension on the PBX. A change moves the registrations.
	// +required
	Extension Extension `json:"extension,omitzero"`
	// user that the extension belongs to.
	// +optional
	User *User `json:"user,omitempty"`
	// events to ask the PBX for. Default: all four for a Phone, Hangup for IVR and Queue.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	// +listType=set
	// +optional
	Events []EventType `json:"events,omitempty"`
	// suspend stops all work on this mapping; the registrations stay as they are.
	// +default=false
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// AgentState says whether a queue agent takes calls.
// +kubebuilder:validation:Enum=Available;LoggedOut
type AgentState string

// The agent states.
const (
	// AgentAvailable takes calls from the queue.
	AgentAvailable AgentState = "Available"
	// AgentLoggedOut takes none.
	AgentLoggedOut AgentState = "LoggedOut"
)

// AgentStatus is the state of the queue agent at this extension. Receivers write it.
type AgentStatus struct {
	// state is Available or LoggedOut.
	// +required
	State AgentState `json:"state,omitempty"`
	// since is the time of the last change of state.
	// +required
	Since metav1.Time `json:"since,omitzero"`
}

// PhoneStatus is the account-defined status of a phone. Receivers write it.
type PhoneStatus struct {
	// id of the status on the PBX.
	// +kubebuilder:validation:MaxLength=64
	// +required
	ID string `json:"id,omitempty"`
	// since is the time of the last change.
	// +required
	Since metav1.Time `json:"since,omitzero"`
}

// ExtensionMappingStatus is what was observed.
type ExtensionMappingStatus struct {
	// conditions are Ready; Reconciling and Stalled while they apply.
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
	// extensionID is the id of the extension that carries our registrations.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	ExtensionID string `json:"extensionID,omitempty"`
	// registeredEvents is how many registrations of this mapping the PBX holds.
	// +kubebuilder:validation:Minimum=0
	// +optional
	RegisteredEvents *int32 `json:"registeredEvents,omitempty"`
	// extensionEvents is how many registrations the extension holds, those of others included.
	// +kubebuilder:validation:Minimum=0
	// +optional
	ExtensionEvents *int32 `json:"extensionEvents,omitempty"`
	// keyGeneration is the number of the event URL key that all registrations of this mapping use.
	// +kubebuilder:validation:Minimum=0
	// +optional
	KeyGeneration int64 `json:"keyGeneration,omitempty"`
	// agentID is the id of the queue agent that carries our registrations.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	AgentID string `json:"agentID,omitempty"`
	// agent is the state of the queue agent at this extension, once the PBX has reported it.
	// +optional
	Agent *AgentStatus `json:"agent,omitempty"`
	// phone is the status of the phone, once the PBX has reported it: with account-wide
	// registration only.
	// +optional
	Phone *PhoneStatus `json:"phone,omitempty"`
}

// ExtensionMapping ties one extension of a PBX to one user and asks the PBX for its events.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=extensionmappings,shortName=extmap,categories=telephony
// +kubebuilder:selectablefield:JSONPath=`.spec.integrationRef.name`
// +kubebuilder:selectablefield:JSONPath=`.spec.extension.number`
// +kubebuilder:printcolumn:name="Integration",type=string,JSONPath=`.spec.integrationRef.name`
// +kubebuilder:printcolumn:name="Extension",type=string,JSONPath=`.spec.extension.number`
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.extension.type`
// +kubebuilder:printcolumn:name="User",type=string,JSONPath=`.spec.user.name`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Events",type=integer,JSONPath=`.status.registeredEvents`
// +kubebuilder:printcolumn:name="Agent",type=string,JSONPath=`.status.agent.state`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type ExtensionMapping struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what the user wants.
	// +required
	Spec ExtensionMappingSpec `json:"spec,omitzero"`
	// status is what was observed.
	// +optional
	Status ExtensionMappingStatus `json:"status,omitzero"`
}

// GetConditions returns the status conditions for reading and writing.
func (m *ExtensionMapping) GetConditions() *[]metav1.Condition { return &m.Status.Conditions }

// SetObservedGeneration records the generation that the conditions speak of.
func (m *ExtensionMapping) SetObservedGeneration(generation int64) {
	m.Status.ObservedGeneration = generation
}

// DesiredEvents are the events to ask the PBX for: those of the spec, else the set recommended for
// the type of the extension (RingMe: Events on Extension Numbers).
func (m *ExtensionMapping) DesiredEvents() []EventType {
	switch {
	case len(m.Spec.Events) > 0:
		return m.Spec.Events
	case m.Spec.Extension.Type == ExtensionIVR, m.Spec.Extension.Type == ExtensionQueue:
		return []EventType{EventHangup}
	default:
		return []EventType{EventDialIn, EventDialOut, EventAnswer, EventHangup}
	}
}

// ExtensionMappingList is a list of ExtensionMappings.
// +kubebuilder:object:root=true
type ExtensionMappingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []ExtensionMapping `json:"items"`
}
