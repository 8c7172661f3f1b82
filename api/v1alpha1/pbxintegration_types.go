package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PBXType names a telephone system whose protocols the operator speaks.
// +kubebuilder:validation:Enum=RingMe;VoipNow;Callable;LinuxBox
type PBXType string

// The supported telephone systems.
const (
	// PBXTypeRingMe is the RingMe platform, also sold as Telphin and UCom.
	PBXTypeRingMe PBXType = "RingMe"
	// PBXTypeVoipNow is 4PSA VoipNow.
	PBXTypeVoipNow PBXType = "VoipNow"
	// PBXTypeCallable is Callable.io. It has no API: its events are switched on by hand.
	PBXTypeCallable PBXType = "Callable"
	// PBXTypeLinuxBox is the PBX of LinuxBox.cz. Its events are switched on by hand.
	PBXTypeLinuxBox PBXType = "LinuxBox"
)

// SecretReference names a Secret in the same namespace.
type SecretReference struct {
	// name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`
}

// BundleKind is the kind of object that holds a CA bundle.
// +kubebuilder:validation:Enum=Secret;ConfigMap
type BundleKind string

// The kinds of objects that hold a CA bundle.
const (
	BundleSecret    BundleKind = "Secret"
	BundleConfigMap BundleKind = "ConfigMap"
)

// BundleReference names one entry of a Secret or a ConfigMap in the same namespace. The entry holds
// certificates of certificate authorities in PEM.
type BundleReference struct {
	// kind is Secret or ConfigMap.
	// +required
	Kind BundleKind `json:"kind,omitempty"`
	// name of the Secret or ConfigMap.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`
	// key of the entry, such as ca.crt.
	// +default="ca.crt"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	// +optional
	Key string `json:"key,omitempty"`
}

// TLS says whom to trust at the other end of a connection that the operator opens.
type TLS struct {
	// caBundle holds the certificate authorities to trust, in place of those that the system knows.
	// A change of its content is taken up without a restart: of a Secret at once, of a ConfigMap
	// when the integration is looked at next.
	// +required
	CABundle BundleReference `json:"caBundle,omitzero"`
}

// PBX says which telephone system to connect to. Only the member that belongs to type may be set.
// +union
// +kubebuilder:validation:XValidation:rule="(self.type == 'RingMe') == has(self.ringMe)",message="set ringMe if, and only if, type is RingMe"
// +kubebuilder:validation:XValidation:rule="(self.type == 'VoipNow') == has(self.voipNow)",message="set voipNow if, and only if, type is VoipNow"
// +kubebuilder:validation:XValidation:rule="self.type == 'Callable' || !has(self.callable)",message="set callable only if type is Callable"
// +kubebuilder:validation:XValidation:rule="self.type == 'LinuxBox' || !has(self.linuxBox)",message="set linuxBox only if type is LinuxBox"
// +kubebuilder:validation:XValidation:rule="self.type != 'Callable' || !has(self.tls)",message="a Callable has no API to connect to, so tls has no meaning for it"
type PBX struct {
	// type of the telephone system. It cannot be changed: the registrations made on the old system
	// would be left behind.
	// +unionDiscriminator
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="type is immutable; create a new PBXIntegration for another system"
	// +required
	Type PBXType `json:"type,omitempty"`
	// ringMe connects to a RingMe platform.
	// +optional
	RingMe *RingMe `json:"ringMe,omitempty"`
	// voipNow connects to a 4PSA VoipNow server.
	// +optional
	VoipNow *VoipNow `json:"voipNow,omitempty"`
	// callable says what the events of a Callable.io account do not tell.
	// +optional
	Callable *Callable `json:"callable,omitempty"`
	// linuxBox says how a LinuxBox.cz PBX was set up.
	// +optional
	LinuxBox *LinuxBox `json:"linuxBox,omitempty"`
	// tls says whose certificate of the PBX to trust: that of its API, and that of the database of
	// a LinuxBox. Default: the certificate authorities that the system knows.
	// +optional
	TLS *TLS `json:"tls,omitempty"`
}

// RingMe says how to reach the management API of a RingMe platform.
// +kubebuilder:validation:XValidation:rule="self.url == oldSelf.url",message="url is immutable; registrations on the old PBX would be left behind"
// +kubebuilder:validation:XValidation:rule="self.accountID == oldSelf.accountID",message="accountID is immutable; registrations in the old account would be left behind"
type RingMe struct {
	// url of the API host, without a path.
	// +kubebuilder:validation:MinLength=8
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != ''",message="url must be an http or https URL with a host"
	// +required
	URL string `json:"url,omitempty"`
	// credentialsSecretRef names the Secret with the keys clientID and clientSecret of a trusted
	// application.
	// +required
	CredentialsSecretRef SecretReference `json:"credentialsSecretRef,omitzero"`
	// accountID is the client account in API paths; "@me" is the account of the application.
	// +default="@me"
	// +kubebuilder:validation:Pattern=`^(@me|[0-9]{1,20})$`
	// +kubebuilder:validation:MaxLength=20
	// +optional
	AccountID string `json:"accountID,omitempty"`
	// eventLimit is how many event registrations the PBX allows on one extension, those of other
	// integrations included.
	// +default=16
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	EventLimit int32 `json:"eventLimit,omitempty"`
	// requestsPerMinute is a ceiling for everything this integration asks of the PBX.
	// +default=120
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=60000
	// +optional
	RequestsPerMinute int32 `json:"requestsPerMinute,omitempty"`
	// registration is Extension (each phone carries its own four registrations) or Account (one set
	// for all phones of the account, which leaves the event limit of the extensions alone). Voice
	// menus and queues are registered one by one in both cases.
	// +default="Extension"
	// +optional
	Registration RegistrationScope `json:"registration,omitempty"`
	// queueAgents is Follow (status.agent of a phone's mapping says whether its queue agent takes
	// calls) or Ignore.
	// +default="Follow"
	// +optional
	QueueAgents QueueAgents `json:"queueAgents,omitempty"`
}

// RegistrationScope says on what the events of phones are registered.
// +kubebuilder:validation:Enum=Extension;Account
type RegistrationScope string

// The scopes of registrations.
const (
	// RegistrationExtension registers each phone.
	RegistrationExtension RegistrationScope = "Extension"
	// RegistrationAccount registers all phones of the account at once (RingMe: Global events of all
	// telephone terminals in PBX).
	RegistrationAccount RegistrationScope = "Account"
)

// QueueAgents says whether queue agents are followed.
// +kubebuilder:validation:Enum=Follow;Ignore
type QueueAgents string

// What to do about queue agents.
const (
	// QueueAgentsFollow registers for their logins and logouts (RingMe: Queue Agent events).
	QueueAgentsFollow QueueAgents = "Follow"
	// QueueAgentsIgnore does not.
	QueueAgentsIgnore QueueAgents = "Ignore"
)

// VoipNow says how to reach the UnifiedAPI of a 4PSA VoipNow server.
// +kubebuilder:validation:XValidation:rule="self.url == oldSelf.url",message="url is immutable; registrations on the old PBX would be left behind"
// +kubebuilder:validation:XValidation:rule="self.userID == oldSelf.userID",message="userID is immutable; registrations of the old user would be left behind"
type VoipNow struct {
	// url of the server, without a path.
	// +kubebuilder:validation:MinLength=8
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != ''",message="url must be an http or https URL with a host"
	// +required
	URL string `json:"url,omitempty"`
	// credentialsSecretRef names the Secret with the keys clientID and clientSecret of a trusted
	// app.
	// +required
	CredentialsSecretRef SecretReference `json:"credentialsSecretRef,omitzero"`
	// userID is the user in API paths: "@me" is the one that the app belongs to, "@owner" the owner
	// of the extension.
	// +default="@me"
	// +kubebuilder:validation:Pattern=`^(@me|@viewer|@owner|[0-9]{1,20})$`
	// +kubebuilder:validation:MaxLength=20
	// +optional
	UserID string `json:"userID,omitempty"`
	// timeZone of the times without an offset in the PBX's call records, by its IANA name, such as
	// Europe/Prague.
	// +default="UTC"
	// +kubebuilder:validation:Pattern=`^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$`
	// +kubebuilder:validation:MaxLength=64
	// +optional
	TimeZone string `json:"timeZone,omitempty"`
	// requestsPerMinute is a ceiling for everything this integration asks of the PBX.
	// +default=120
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=60000
	// +optional
	RequestsPerMinute int32 `json:"requestsPerMinute,omitempty"`
}

// Callable says what the events of a Callable.io account do not tell. The event URL to enter there
// is in the Secret that status.eventURLSecretRef names.
type Callable struct {
	// ownNumbers are the account's public numbers, with or without plus. One that ends in * stands
	// for all numbers that begin so. A call to one of them is inbound.
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:Pattern=`^\+?[0-9]*\*?$`
	// +listType=set
	// +optional
	OwnNumbers []string `json:"ownNumbers,omitempty"`
	// ownDomains are the SIP domains of the account's devices and PBXs. Default: every SIP address
	// is one of the account's.
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	OwnDomains []string `json:"ownDomains,omitempty"`
}

// LinuxBoxDialect is how a LinuxBox PBX names its events.
// +kubebuilder:validation:Enum=Parameter;Path
type LinuxBoxDialect string

// The dialects.
const (
	// LinuxBoxParameter names the event in a parameter (PBX API).
	LinuxBoxParameter LinuxBoxDialect = "Parameter"
	// LinuxBoxPath names the event in the last segment of the path (PBX Notifikace).
	LinuxBoxPath LinuxBoxDialect = "Path"
)

// LinuxBoxDatabase reads call records from the PBX's PostgreSQL database.
type LinuxBoxDatabase struct {
	// credentialsSecretRef names the Secret with the key url, such as
	// postgres://reader:secret@pbx.example.com/asterisk?sslmode=require.
	// +required
	CredentialsSecretRef SecretReference `json:"credentialsSecretRef,omitzero"`
	// query returns one row for each leg of the calls that began at $1 or later and before $2
	// (timestamptz), in the order of started_at. Its columns, of which all but the first two may be
	// null: call_id, started_at, caller, called, line, answered_at, ended_at, duration_s, talk_s,
	// result (ANSWERED, NO ANSWER, BUSY, FAILED, CANCEL), record_name, outside. The last is true
	// for a leg without a line with which the PBX sent a call on to an outside number. One of
	// ended_at and duration_s is needed. Times without a zone are in timeZone. A query that uses $3
	// (timestamptz) can leave out calls that ended before it, which were read already. Default: a
	// query of Asterisk's table cdr.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	// +optional
	Query string `json:"query,omitempty"`
	// timeZone of the times without an offset in the PBX's database, by its IANA name, such as
	// Europe/Prague. Asterisk writes local time unless it is told otherwise.
	// +default="UTC"
	// +kubebuilder:validation:Pattern=`^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$`
	// +kubebuilder:validation:MaxLength=64
	// +optional
	TimeZone string `json:"timeZone,omitempty"`
}

// LinuxBox says how a LinuxBox.cz PBX was set up: the vendor agrees all names with each customer.
// The event URL to enter there is in the Secret that status.eventURLSecretRef names.
// +kubebuilder:validation:XValidation:rule="!has(self.credentialsSecretRef) || has(self.url)",message="credentialsSecretRef is for url, which is not set"
type LinuxBox struct {
	// url of the PBX for the commands dial and hangup. Without it there are no commands, and
	// PBXReachable tells of the database.
	// +kubebuilder:validation:MinLength=8
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != ''",message="url must be an http or https URL with a host"
	// +optional
	URL string `json:"url,omitempty"`
	// credentialsSecretRef names a Secret with the keys username and password (basic
	// authentication), or header and value (an HTTP header), which go with every command.
	// +optional
	CredentialsSecretRef *SecretReference `json:"credentialsSecretRef,omitempty"`
	// dialect is Parameter or Path: the form of the URLs in the event URL Secret. Events of both
	// forms are understood at all times.
	// +default="Parameter"
	// +optional
	Dialect LinuxBoxDialect `json:"dialect,omitempty"`
	// eventParameter is the parameter that names the event in the dialect Parameter.
	// +default="event"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	EventParameter string `json:"eventParameter,omitempty"`
	// events adds names of events: from the name on the wire to Dial, StartCall, QueueIn, QueueOut,
	// LineRinging, ExternalRinging, LineAnswered, ExternalAnswered, Pickup, LineHangup or CallEnd.
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, self[k] in ['Dial', 'StartCall', 'QueueIn', 'QueueOut', 'LineRinging', 'ExternalRinging', 'LineAnswered', 'ExternalAnswered', 'Pickup', 'LineHangup', 'CallEnd'])",message="an event must mean Dial, StartCall, QueueIn, QueueOut, LineRinging, ExternalRinging, LineAnswered, ExternalAnswered, Pickup, LineHangup or CallEnd"
	// +optional
	Events map[string]LinuxBoxName `json:"events,omitempty"`
	// parameters adds names of parameters, which outrank the default ones: from the name on the
	// wire to CallID, EventID, Time, CustomCallID, RecordName, CallerType, CallerNumber,
	// CallerName, CallerLine, CalledNumber, CalledLine, Line, LineName, TransferringLine,
	// Answered, AnsweringLine, LastDialledLine, Queue or Direction.
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, self[k] in ['CallID', 'EventID', 'Time', 'CustomCallID', 'RecordName', 'CallerType', 'CallerNumber', 'CallerName', 'CallerLine', 'CalledNumber', 'CalledLine', 'Line', 'LineName', 'TransferringLine', 'Answered', 'AnsweringLine', 'LastDialledLine', 'Queue', 'Direction'])",message="a parameter must mean CallID, EventID, Time, CustomCallID, RecordName, CallerType, CallerNumber, CallerName, CallerLine, CalledNumber, CalledLine, Line, LineName, TransferringLine, Answered, AnsweringLine, LastDialledLine, Queue or Direction"
	// +optional
	Parameters map[string]LinuxBoxName `json:"parameters,omitempty"`
	// lines are the numbers of the PBX's own lines. Default: every number of at most four digits is
	// one; so a call to a short public number, such as 112, counts as one between lines unless
	// somebody answers it.
	// +kubebuilder:validation:MaxItems=4096
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=32
	// +listType=set
	// +optional
	Lines []string `json:"lines,omitempty"`
	// customCallID sends the parameter custom_call_id with the command dial, so that its call is
	// recognised with certainty.
	// +default="Never"
	// +optional
	CustomCallID CustomCallID `json:"customCallID,omitempty"`
	// recordingURL is a template of the address of a recording, with {record_name} in it.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.contains('{record_name}')",message="recordingURL must contain {record_name}"
	// +optional
	RecordingURL string `json:"recordingURL,omitempty"`
	// database reads call records, which tell what events cannot: busy from cancelled, and hangups
	// that were lost.
	// +optional
	Database *LinuxBoxDatabase `json:"database,omitempty"`
	// requestsPerMinute is a ceiling for everything this integration asks of the PBX.
	// +default=120
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=60000
	// +optional
	RequestsPerMinute int32 `json:"requestsPerMinute,omitempty"`
}

// LinuxBoxName is what an event or a parameter means.
// +kubebuilder:validation:MaxLength=32
type LinuxBoxName string

// CustomCallID says when custom_call_id is sent.
// +kubebuilder:validation:Enum=Never;Always
type CustomCallID string

// When custom_call_id is sent.
const (
	CustomCallIDNever  CustomCallID = "Never"
	CustomCallIDAlways CustomCallID = "Always"
)

// ReceiverStorage is where the receiver keeps its durable logs.
// +kubebuilder:validation:XValidation:rule="!(has(self.ephemeral) && self.ephemeral && has(self.storageClassName))",message="ephemeral storage has no storageClassName"
// +kubebuilder:validation:XValidation:rule="!(has(self.ephemeral) && self.ephemeral && has(self.retain) && self.retain)",message="ephemeral storage cannot be retained"
// +kubebuilder:validation:XValidation:rule="has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",message="storageClassName is immutable; the events in the old volume would be left behind"
// +kubebuilder:validation:XValidation:rule="(has(self.ephemeral) && self.ephemeral) == (has(oldSelf.ephemeral) && oldSelf.ephemeral)",message="ephemeral is immutable; the events in the old volume would be left behind"
type ReceiverStorage struct {
	// size of the volume of each replica. It may only grow.
	// +default="1Gi"
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0",message="size may only grow"
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('64Mi')) >= 0",message="size must be at least 64Mi"
	// +optional
	Size resource.Quantity `json:"size,omitzero"`
	// storageClassName of the volumes. Default: the cluster's default class.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	StorageClassName *string `json:"storageClassName,omitempty"`
	// ephemeral keeps the logs in an emptyDir: events survive a restart of the container, not the
	// loss of the pod.
	// +optional
	Ephemeral bool `json:"ephemeral,omitempty"`
	// retain keeps the volumes when the PBXIntegration is deleted. They hold call events and legs
	// with phone numbers, so by default they are deleted with it. A volume that was retained is
	// taken up again by an integration of the same name. An external journal is never deleted.
	// Within a log, events are kept for 48 hours after their calls were correlated and legs for 7
	// days after their last change, or less where the volume is small.
	// +default=false
	// +optional
	Retain bool `json:"retain,omitempty"`
}

// NATSJournal is a JetStream that somebody else runs.
type NATSJournal struct {
	// url of the server or servers, comma separated.
	// +kubebuilder:validation:MinLength=7
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^(nats|tls|ws|wss)://`
	// +required
	URL string `json:"url,omitempty"`
	// credentialsSecretRef names a Secret with the key creds, a NATS credentials file.
	// +optional
	CredentialsSecretRef *SecretReference `json:"credentialsSecretRef,omitempty"`
	// tls says whose certificate of the servers to trust, and which one to show them. Default: the
	// certificate authorities that the system knows, and none.
	// +optional
	TLS *NATSTLS `json:"tls,omitempty"`
	// replicas is how many servers hold each log: 1, 3 or 5. There must be as many servers with
	// JetStream. With 1 the loss of that server's disk loses what is in the logs.
	// +default=3
	// +kubebuilder:validation:Enum=1;3;5
	// +optional
	Replicas int32 `json:"replicas,omitempty"`
	// sync is how the servers are configured to write to disk, which a client cannot see: Always
	// (sync_interval: always) or Interval (every two minutes by default). It changes nothing but the
	// condition Durable, which says what that means for events that were answered 2xx.
	// +default="Interval"
	// +optional
	Sync NATSSync `json:"sync,omitempty"`
}

// NATSSync says when a NATS server writes to disk.
// +kubebuilder:validation:Enum=Always;Interval
type NATSSync string

// The ways in which a NATS server writes to disk.
const (
	// NATSSyncAlways writes to disk before a record is acknowledged.
	NATSSyncAlways NATSSync = "Always"
	// NATSSyncInterval writes to disk once in a while.
	NATSSyncInterval NATSSync = "Interval"
)

// NATSTLS says whom to trust, and which certificate to show, in a connection to NATS servers.
// Changes of the content are taken up when a receiver connects anew.
// +kubebuilder:validation:XValidation:rule="has(self.caBundle) || has(self.clientCertificateSecretRef)",message="set caBundle, clientCertificateSecretRef, or both"
type NATSTLS struct {
	// caBundle holds the certificate authorities to trust, in place of those that the system knows.
	// +optional
	CABundle *BundleReference `json:"caBundle,omitempty"`
	// clientCertificateSecretRef names a Secret of type kubernetes.io/tls, with the keys tls.crt and
	// tls.key, for servers that ask for a client certificate.
	// +optional
	ClientCertificateSecretRef *SecretReference `json:"clientCertificateSecretRef,omitempty"`
}

// Journal says where events and legs are made durable. Default: a log embedded in the receiver.
type Journal struct {
	// nats uses an external JetStream instead of the embedded one.
	// +optional
	NATS *NATSJournal `json:"nats,omitempty"`
}

// ReceiverAutoscaling says how many receivers there may be, and when there are more.
// +kubebuilder:validation:XValidation:rule="self.minReplicas <= self.maxReplicas",message="minReplicas must not exceed maxReplicas"
type ReceiverAutoscaling struct {
	// minReplicas of the receiver. With one, events are lost when it is lost, as PBXs do not repeat
	// them.
	// +default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	// +optional
	MinReplicas int32 `json:"minReplicas,omitempty"`
	// maxReplicas of the receiver.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	// +required
	MaxReplicas int32 `json:"maxReplicas,omitempty"`
	// targetCPUUtilizationPercentage is the processor time, in percent of what the pods request, above
	// which there are more of them.
	// +default=70
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	TargetCPUUtilizationPercentage int32 `json:"targetCPUUtilizationPercentage,omitempty"`
}

// GatewayReference names a Gateway to attach a route to.
type GatewayReference struct {
	// name of the Gateway.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`
	// namespace of the Gateway. Default: the namespace of the integration.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// sectionName is the listener of the Gateway. Default: all of them.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	SectionName string `json:"sectionName,omitempty"`
}

// GatewayExposure routes the event URLs through the Gateway API.
type GatewayExposure struct {
	// parentRefs are the Gateways that the route attaches to.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	// +required
	ParentRefs []GatewayReference `json:"parentRefs,omitempty"`
	// hostnames of the route. Default: the host of publicURL.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	Hostnames []string `json:"hostnames,omitempty"`
	// annotations of the HTTPRoute, such as those that configure the implementation of the Gateway.
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// IngressTLS terminates TLS at the Ingress.
type IngressTLS struct {
	// secretName is the Secret with the certificate for the host of publicURL.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	SecretName string `json:"secretName,omitempty"`
}

// IngressExposure routes the event URLs through an Ingress.
type IngressExposure struct {
	// className of the Ingress. Default: the cluster's default class.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	ClassName *string `json:"className,omitempty"`
	// tls terminates TLS at the Ingress.
	// +optional
	TLS *IngressTLS `json:"tls,omitempty"`
	// annotations of the Ingress, such as those that configure its controller.
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Exposure says how publicURL reaches the receiver. Empty: by means of your own, to the Service of
// the receiver.
// +kubebuilder:validation:XValidation:rule="!(has(self.gateway) && has(self.ingress))",message="set at most one of gateway and ingress"
type Exposure struct {
	// gateway attaches an HTTPRoute to a Gateway.
	// +optional
	Gateway *GatewayExposure `json:"gateway,omitempty"`
	// ingress makes an Ingress.
	// +optional
	Ingress *IngressExposure `json:"ingress,omitempty"`
}

// ReceiverTemplate shapes the receiver's pods.
type ReceiverTemplate struct {
	// labels added to the pods.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// annotations added to the pods.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
	// resources of the receiver container.
	// +optional
	Resources corev1.ResourceRequirements `json:"resources,omitzero"`
	// nodeSelector of the pods.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// tolerations of the pods.
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// affinity of the pods. Default: replicas prefer different nodes.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`
	// priorityClassName of the pods.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	PriorityClassName string `json:"priorityClassName,omitempty"`
	// imagePullSecrets of the pods.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`
}

// Receiver describes the pods that take the PBX's call events.
// +kubebuilder:validation:XValidation:rule="has(self.journal.nats) || self.replicas in [1, 3, 5]",message="replicas must be 1, 3 or 5 with the embedded journal"
// +kubebuilder:validation:XValidation:rule="has(self.journal.nats) || self.replicas >= oldSelf.replicas || oldSelf.replicas != 5",message="an embedded journal of five replicas cannot go on with fewer; create a new PBXIntegration, or use journal.nats"
// +kubebuilder:validation:XValidation:rule="!has(self.autoscaling) || has(self.journal.nats)",message="autoscaling needs journal.nats: receivers with an embedded journal are 1, 3 or 5"
type Receiver struct {
	// publicURL is what the PBX calls: scheme, host and an optional path prefix. A change moves all
	// registrations.
	// +kubebuilder:validation:MinLength=8
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != '' && size(url(self).getQuery()) == 0 && !self.contains('#')",message="publicURL must be an http or https URL with a host and without query or fragment"
	// +required
	PublicURL string `json:"publicURL,omitempty"`
	// replicas of the receiver: 1, 3 or 5 with the embedded journal. One replica is away for
	// seconds at every restart, and PBXs do not repeat an event.
	// +default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	// +optional
	Replicas int32 `json:"replicas,omitempty"`
	// autoscaling has a HorizontalPodAutoscaler decide on the number of receivers, in place of
	// replicas. It needs journal.nats.
	// +optional
	Autoscaling *ReceiverAutoscaling `json:"autoscaling,omitempty"`
	// image pins the image of the receiver, so that an upgrade of the operator brings no other.
	// Default: the image that came with the operator. A pinned image must be of the same minor
	// version as the operator, or of the one before.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^[^\s]+$`
	// +optional
	Image string `json:"image,omitempty"`
	// storage of each replica.
	// +default={}
	// +optional
	Storage ReceiverStorage `json:"storage,omitzero"`
	// journal says where events and legs are made durable.
	// +default={}
	// +optional
	Journal Journal `json:"journal,omitzero"`
	// exposure says how publicURL reaches the receiver.
	// +default={}
	// +optional
	Exposure Exposure `json:"exposure,omitzero"`
	// allowedSources are the networks that may send events, in CIDR notation. Empty: any.
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=3
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="must be a network in CIDR notation, such as 198.51.100.0/24"
	// +listType=set
	// +optional
	AllowedSources []string `json:"allowedSources,omitempty"`
	// template shapes the pods.
	// +default={}
	// +optional
	Template ReceiverTemplate `json:"template,omitzero"`
}

// CallLegScope says which calls become CallLegs.
// +kubebuilder:validation:Enum=External;All
type CallLegScope string

// The scopes.
const (
	// ScopeExternal leaves out calls between two extensions and internal forwarding.
	ScopeExternal CallLegScope = "External"
	// ScopeAll takes every call.
	ScopeAll CallLegScope = "All"
)

// CallLegPublish says when a CallLeg is written.
// +kubebuilder:validation:Enum=Live;Completed
type CallLegPublish string

// The moments of publication.
const (
	// PublishLive writes a leg from its first ring.
	PublishLive CallLegPublish = "Live"
	// PublishCompleted writes a leg once, at its end.
	PublishCompleted CallLegPublish = "Completed"
)

// CallLegs says what is published of the calls.
type CallLegs struct {
	// scope is External (calls with the outside) or All.
	// +default="External"
	// +optional
	Scope CallLegScope `json:"scope,omitempty"`
	// publish is Live (from the first ring) or Completed (once, at the end).
	// +default="Live"
	// +optional
	Publish CallLegPublish `json:"publish,omitempty"`
	// ttlAfterFinished is how long a finished CallLeg stays. With 0s it goes at the next sweep.
	// +default="1h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('168h')",message="ttlAfterFinished must be between 0s and 168h"
	// +optional
	TTLAfterFinished *metav1.Duration `json:"ttlAfterFinished,omitempty"`
	// maxObjects is a hard cap on the CallLeg objects of this integration: the oldest finished ones
	// go first.
	// +default=2000
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +optional
	MaxObjects int32 `json:"maxObjects,omitempty"`
	// missedGracePeriod is how long to wait for the hangups of other extensions before a call
	// counts as missed.
	// +default="5s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('5m')",message="missedGracePeriod must be between 0s and 5m"
	// +optional
	MissedGracePeriod *metav1.Duration `json:"missedGracePeriod,omitempty"`
	// maxDuration closes a leg that never hears its hangup.
	// +default="4h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('48h')",message="maxDuration must be between 1s and 48h"
	// +optional
	MaxDuration metav1.Duration `json:"maxDuration,omitzero"`
	// forwardedOutside is Missed or Answered: what becomes of an inbound call that no extension
	// took, but somebody at the outside number to which it was forwarded. That may as well have
	// been a mailbox, and a needless call back costs less than a customer whom nobody calls back.
	// +default="Missed"
	// +optional
	ForwardedOutside CountedAs `json:"forwardedOutside,omitempty"`
	// selfService is Answered or Missed: what becomes of an inbound call that a voice menu took and
	// that was sent to nobody, on Callable and LinuxBox. By default the caller is taken to have got
	// what he wanted.
	// +default="Answered"
	// +optional
	SelfService CountedAs `json:"selfService,omitempty"`
	// maskNumbers hides all but the last two digits of outside numbers in Kubernetes Events, which
	// more people may read than CallLegs. CallLegs show them in full.
	// +default=false
	// +optional
	MaskNumbers bool `json:"maskNumbers,omitempty"`
}

// CountedAs says what a call counts as.
// +kubebuilder:validation:Enum=Answered;Missed
type CountedAs string

// What a call can count as.
const (
	// CountAsAnswered makes no missed call of it.
	CountAsAnswered CountedAs = "Answered"
	// CountAsMissed makes a missed call of it.
	CountAsMissed CountedAs = "Missed"
)

// DeletionPolicy says what becomes of the registrations on the PBX.
// +kubebuilder:validation:Enum=Delete;Orphan
type DeletionPolicy string

// The deletion policies.
const (
	// DeletionDelete removes the registrations.
	DeletionDelete DeletionPolicy = "Delete"
	// DeletionOrphan leaves them.
	DeletionOrphan DeletionPolicy = "Orphan"
)

// Discovery makes ExtensionMappings of the extensions that the PBX has (RingMe, VoipNow). They
// belong to the integration. A mapping of the same extension that was written by hand wins.
type Discovery struct {
	// types of extensions to take.
	// +default=["Phone"]
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=3
	// +listType=set
	// +optional
	Types []ExtensionType `json:"types,omitempty"`
	// numbers are patterns of the numbers to take, with * for any characters and ? for any one; \*
	// is a star, as in "1234\*1*". Default: all.
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:Pattern=`^([0-9A-Za-z#+._*?-]|\\\*)+$`
	// +listType=set
	// +optional
	Numbers []string `json:"numbers,omitempty"`
	// interval at which the PBX is asked.
	// +default="10m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('30s') && duration(self) <= duration('24h')",message="interval must be between 30s and 24h"
	// +optional
	Interval metav1.Duration `json:"interval,omitzero"`
	// gracePeriod is how long an extension must have been gone from the PBX before its mapping
	// goes.
	// +default="1h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('168h')",message="gracePeriod must be between 0s and 168h"
	// +optional
	GracePeriod *metav1.Duration `json:"gracePeriod,omitempty"`
}

// BackfillMode says whether calls are read from the PBX's history.
// +kubebuilder:validation:Enum=Enabled;Disabled
type BackfillMode string

// The modes.
const (
	BackfillEnabled  BackfillMode = "Enabled"
	BackfillDisabled BackfillMode = "Disabled"
)

// Backfill reads the calls of an outage of the receiver from the PBX's history: the call history of
// RingMe, the call detail records of VoipNow, the database of LinuxBox. They join the same legs as
// events do, so that no call counts twice.
type Backfill struct {
	// mode is Enabled or Disabled.
	// +default="Enabled"
	// +optional
	Mode BackfillMode `json:"mode,omitempty"`
	// after is the length of an outage from which on the history is read.
	// +default="30s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="after must be between 0s and 24h"
	// +optional
	After *metav1.Duration `json:"after,omitempty"`
}

// PBXIntegrationSpec is what the user wants.
// +kubebuilder:validation:XValidation:rule="!has(self.discovery) || self.pbx.type in ['RingMe', 'VoipNow']",message="discovery is for RingMe and VoipNow: the other PBXs do not tell which extensions they have"
type PBXIntegrationSpec struct {
	// pbx is the telephone system.
	// +required
	PBX PBX `json:"pbx,omitzero"`
	// receiver describes the pods that take call events.
	// +required
	Receiver Receiver `json:"receiver,omitzero"`
	// callLegs says what is published of the calls.
	// +default={}
	// +optional
	CallLegs CallLegs `json:"callLegs,omitzero"`
	// discovery makes ExtensionMappings of the extensions that the PBX has. Off where it is left
	// out.
	// +optional
	Discovery *Discovery `json:"discovery,omitempty"`
	// backfill reads the calls of an outage of the receiver from the PBX's history.
	// +default={}
	// +optional
	Backfill Backfill `json:"backfill,omitzero"`
	// suspend stops all work on this integration and its mappings. The receiver keeps running;
	// registrations stay as they are.
	// +default=false
	// +optional
	Suspend bool `json:"suspend,omitempty"`
	// deletionPolicy says whether deletion removes the registrations from the PBX (Delete) or
	// leaves them (Orphan).
	// +default="Delete"
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// ExtensionCounts counts the mappings of an integration.
type ExtensionCounts struct {
	// total number of ExtensionMappings that refer to this integration.
	// +kubebuilder:validation:Minimum=0
	// +required
	Total int32 `json:"total"`
	// ready is how many of them are Ready.
	// +kubebuilder:validation:Minimum=0
	// +required
	Ready int32 `json:"ready"`
}

// ReceiverStatus sums up the receiver's pods.
type ReceiverStatus struct {
	// replicas that were asked for.
	// +kubebuilder:validation:Minimum=0
	// +required
	Replicas int32 `json:"replicas"`
	// readyReplicas is how many of them can make an event durable.
	// +kubebuilder:validation:Minimum=0
	// +required
	ReadyReplicas int32 `json:"readyReplicas"`
	// members is how many receivers keep the embedded journal together. The first of them reports it.
	// None is taken away before it says that it has what they keep.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Members int32 `json:"members,omitempty"`
}

// Outage is a time in which the receiver took no events.
type Outage struct {
	// start is when the receiver was last known to take events.
	// +required
	Start metav1.Time `json:"start,omitzero"`
	// end is when it took events again.
	// +required
	End metav1.Time `json:"end,omitzero"`
}

// EventsStatus is what the receiver says of the events. Receivers write it.
type EventsStatus struct {
	// firstTime is when the first event came in.
	// +optional
	FirstTime *metav1.Time `json:"firstTime,omitempty"`
	// outage is the last time in which the receiver took no events. One whose calls were not read
	// yet goes on in the next.
	// +optional
	Outage *Outage `json:"outage,omitempty"`
}

// BackfillStatus tells of the calls that were read from the PBX's history after an outage.
type BackfillStatus struct {
	// outage whose calls were read last, or are being read. It is absent before the first one.
	// +optional
	Outage *Outage `json:"outage,omitempty"`
	// records is the number of legs that the history had for it.
	// +kubebuilder:validation:Minimum=0
	// +required
	Records int32 `json:"records"`
	// reads is how often the history was read: right after the outage, and later for calls that
	// were not over then.
	// +kubebuilder:validation:Minimum=0
	// +required
	Reads int32 `json:"reads"`
	// cursor is where a read that was interrupted goes on. It is absent while none is under way.
	// Its form depends on the PBX and may change.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Cursor string `json:"cursor,omitempty"`
	// position is how far the database of a LinuxBox was followed: legs that ended before it were
	// read. It is written when there was something new, and every ten minutes at most otherwise.
	// +optional
	Position *metav1.MicroTime `json:"position,omitempty"`
}

// SkippedExtension is an extension on the PBX that discovery made no mapping of.
type SkippedExtension struct {
	// number of the extension, cut to 128 characters.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	Number string `json:"number,omitempty"`
	// id of the extension on the PBX, cut to 128 characters.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	ID string `json:"id,omitempty"`
	// message says why it was skipped.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +required
	Message string `json:"message,omitempty"`
}

// MissingExtensions tells of extensions that have discovered mappings, but that the PBX does not
// list any more.
type MissingExtensions struct {
	// extensions is how many of them there are.
	// +kubebuilder:validation:Minimum=0
	// +required
	Extensions int32 `json:"extensions"`
	// lists is how many lists in a row lacked exactly these.
	// +kubebuilder:validation:Minimum=0
	// +required
	Lists int32 `json:"lists"`
	// digest of their numbers, which says whether two lists lack the same.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +required
	Digest string `json:"digest,omitempty"`
}

// DiscoveryStatus tells of the extensions that were found on the PBX.
type DiscoveryStatus struct {
	// lastChangeTime is when an extension last came or went.
	// +optional
	LastChangeTime *metav1.Time `json:"lastChangeTime,omitempty"`
	// extensions is how many of those found are of the types and numbers asked for.
	// +kubebuilder:validation:Minimum=0
	// +required
	Extensions int32 `json:"extensions"`
	// cursor is where a list that was interrupted goes on. It is absent while none is under way.
	// Its form depends on the PBX and may change.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Cursor string `json:"cursor,omitempty"`
	// missing is present while mappings are kept although their extensions are gone, because they
	// are too many to go at once: see the condition Discovered.
	// +optional
	Missing *MissingExtensions `json:"missing,omitempty"`
	// skippedExtensions is how many extensions could not be mapped.
	// +kubebuilder:validation:Minimum=0
	// +optional
	SkippedExtensions *int32 `json:"skippedExtensions,omitempty"`
	// skipped are the first 16 of them.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Skipped []SkippedExtension `json:"skipped,omitempty"`
}

// PBXIntegrationStatus is what was observed.
type PBXIntegrationStatus struct {
	// conditions are Ready, PBXReachable and ReceiverAvailable; EventsReceived for a PBX that is
	// configured by hand; Extensions, Discovered and Backfilled once there is something to say;
	// Degraded, which the receiver sets (True while calls or events suffer); Reconciling and
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
	// eventURLSecretRef names the Secret with the event URL, for a PBX that is configured by hand.
	// +optional
	EventURLSecretRef *SecretReference `json:"eventURLSecretRef,omitempty"`
	// keyGeneration is the number of the event URL key in force.
	// +kubebuilder:validation:Minimum=0
	// +optional
	KeyGeneration int64 `json:"keyGeneration,omitempty"`
	// registeredEvents is how many account-wide registrations the PBX holds for this integration.
	// +kubebuilder:validation:Minimum=0
	// +optional
	RegisteredEvents *int32 `json:"registeredEvents,omitempty"`
	// events is what the receiver says of the events.
	// +optional
	Events *EventsStatus `json:"events,omitempty"`
	// discovery tells of the extensions that were found on the PBX.
	// +optional
	Discovery *DiscoveryStatus `json:"discovery,omitempty"`
	// backfill tells of the last outage whose calls were read from the PBX's history.
	// +optional
	Backfill *BackfillStatus `json:"backfill,omitempty"`
	// extensions counts the mappings.
	// +optional
	Extensions *ExtensionCounts `json:"extensions,omitempty"`
	// receiver sums up the receiver's pods.
	// +optional
	Receiver *ReceiverStatus `json:"receiver,omitempty"`
}

// PBXIntegration connects one telephone system to the cluster.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=pbxintegrations,shortName=pbx,categories=telephony
// +kubebuilder:selectablefield:JSONPath=`.spec.pbx.type`
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.pbx.type`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Extensions",type=integer,JSONPath=`.status.extensions.ready`
// +kubebuilder:printcolumn:name="Of",type=integer,JSONPath=`.status.extensions.total`
// +kubebuilder:printcolumn:name="Receivers",type=integer,JSONPath=`.status.receiver.readyReplicas`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 40",message="the name must not be longer than 40 characters, because names of pods and call legs are made from it"
type PBXIntegration struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what the user wants.
	// +required
	Spec PBXIntegrationSpec `json:"spec,omitzero"`
	// status is what was observed.
	// +optional
	Status PBXIntegrationStatus `json:"status,omitzero"`
}

// GetConditions returns the status conditions for reading and writing.
func (p *PBXIntegration) GetConditions() *[]metav1.Condition { return &p.Status.Conditions }

// SetObservedGeneration records the generation that the conditions speak of.
func (p *PBXIntegration) SetObservedGeneration(generation int64) {
	p.Status.ObservedGeneration = generation
}

// PBXIntegrationList is a list of PBXIntegrations.
// +kubebuilder:object:root=true
type PBXIntegrationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []PBXIntegration `json:"items"`
}
