package v1alpha1

// Condition types. Ready sums up the others; Reconciling and Stalled appear only while they are
// true, as kstatus expects.
const (
	// ConditionReady is True when the object does what its spec asks for.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the controller works towards the spec.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when only a change by a user can help.
	ConditionStalled = "Stalled"
	// ConditionPBXReachable says whether the PBX's management API answers with the given
	// credentials.
	ConditionPBXReachable = "PBXReachable"
	// ConditionReceiverAvailable says whether the receiver can make call events durable.
	ConditionReceiverAvailable = "ReceiverAvailable"
	// ConditionEventsReceived tells, for a PBX that is configured by hand, whether its first event
	// has arrived.
	ConditionEventsReceived = "EventsReceived"
	// ConditionReceiverOutdated is True while the receiver runs as an earlier version of the
	// operator made it: its turn has not come, or the upgrade has stopped. Absent otherwise.
	ConditionReceiverOutdated = "ReceiverOutdated"
	// ConditionExtensions says whether all mappings of an integration are Ready.
	ConditionExtensions = "Extensions"
	// ConditionDegraded is True while the receiver runs, but calls or events suffer. Receivers set
	// it by server-side apply under their own field manager; absent or False is fine.
	ConditionDegraded = "Degraded"
	// ConditionDurable says whether an event that was answered 2xx is on disk. It follows from the
	// spec, and Ready does not depend on it.
	ConditionDurable = "Durable"
	// ConditionDiscovered says whether the mappings are those of the extensions on the PBX.
	ConditionDiscovered = "Discovered"
	// ConditionBackfilled says whether the calls of the last outage were read from the PBX's
	// history.
	ConditionBackfilled = "Backfilled"
	// ConditionComplete is True when a command has done its work, as on a Job: `kubectl wait` and
	// kstatus understand it.
	ConditionComplete = "Complete"
	// ConditionFailed is True when a command did not happen, or nobody knows whether it did.
	ConditionFailed = "Failed"
)

// Reasons of conditions and Events.
const (
	ReasonReconciled           = "Reconciled"
	ReasonProgressing          = "Progressing"
	ReasonSuspended            = "Suspended"
	ReasonDeleting             = "Deleting"
	ReasonInvalidSpec          = "InvalidSpec"
	ReasonCredentialsMissing   = "CredentialsMissing"
	ReasonCredentialsInvalid   = "CredentialsInvalid"
	ReasonPBXReachable         = "PBXReachable"
	ReasonPBXUnreachable       = "PBXUnreachable"
	ReasonPBXRefused           = "PBXRefused"
	ReasonRateLimited          = "RateLimited"
	ReasonReceiverAvailable    = "ReceiverAvailable"
	ReasonReceiverUnavailable  = "ReceiverUnavailable"
	ReasonRegistered           = "Registered"
	ReasonEventLimitReached    = "EventLimitReached"
	ReasonExtensionNotFound    = "ExtensionNotFound"
	ReasonIntegrationNotFound  = "IntegrationNotFound"
	ReasonIntegrationNotReady  = "IntegrationNotReady"
	ReasonDuplicateMapping     = "DuplicateMapping"
	ReasonRegistrationsDeleted = "RegistrationsDeleted"
	ReasonRegistrationsLeft    = "RegistrationsLeft"
	ReasonKeyRotated           = "KeyRotated"
	ReasonRolloutPaced         = "RolloutPaced"
	ReasonRolloutStopped       = "RolloutStopped"
	ReasonKeysUnreadable       = "KeysUnreadable"
	ReasonKeysLost             = "KeysLost"
	ReasonExtensionsReady      = "ExtensionsReady"
	ReasonExtensionsNotReady   = "ExtensionsNotReady"
	ReasonExtensionsSkipped    = "ExtensionsSkipped"
	ReasonTooManyVanished      = "TooManyVanished"
	ReasonReceiverHealthy      = "ReceiverHealthy"
	ReasonCorrelationBehind    = "CorrelationBehind"
	ReasonCallsParked          = "CallsParked"
	ReasonCallsClosedEarly     = "CallsClosedEarly"
	ReasonRecordsDamaged       = "RecordsDamaged"
	ReasonJournalFull          = "JournalFull"
	ReasonJournalUnreachable   = "JournalUnreachable"
	ReasonJournalLimits        = "JournalLimits"
	ReasonOnDisk               = "OnDisk"
	ReasonOnDiskOfMajority     = "OnDiskOfMajority"
	ReasonReplicatedNotSynced  = "ReplicatedNotSynced"
	ReasonNotSynced            = "NotSynced"
	ReasonStorageEphemeral     = "StorageEphemeral"
	ReasonPublicationBehind    = "PublicationBehind"
	ReasonPublicationFailing   = "PublicationFailing"
	ReasonDriftCorrected       = "DriftCorrected"
	ReasonMissedCall           = "MissedCall"
	ReasonEventQuarantined     = "EventQuarantined"
	ReasonCallLegLimitReached  = "CallLegLimitReached"
	ReasonCallLegRefused       = "CallLegRefused"
	ReasonNameTaken            = "NameTaken"
	ReasonGatewayAPIMissing    = "GatewayAPIMissing"
	ReasonVolumeNotExpandable  = "VolumeNotExpandable"
	ReasonAwaitingFirstEvent   = "AwaitingFirstEvent"
	ReasonEventsReceived       = "EventsReceived"
	ReasonMapped               = "Mapped"
	ReasonDiscovered           = "Discovered"
	ReasonDiscoveryFailed      = "DiscoveryFailed"
	ReasonBackfilled           = "Backfilled"
	ReasonBackfillFailed       = "BackfillFailed"
	ReasonRecordsSkipped       = "RecordsSkipped"
	ReasonNotSupported         = "NotSupported"
	ReasonCommandSent          = "CommandSent"
	ReasonConnected            = "Connected"
	ReasonFinished             = "Finished"
	ReasonNotConnected         = "NotConnected"
	ReasonOutcomeUnknown       = "OutcomeUnknown"
	ReasonLegNotFound          = "LegNotFound"
	ReasonNoCall               = "NoCall"
	ReasonExpired              = "Expired"
	ReasonRecordingNotFound    = "RecordingNotFound"
	ReasonInternalError        = "InternalError"
)

// Labels, annotations and finalizers.
const (
	// LabelIntegration names the PBXIntegration that an object belongs to.
	LabelIntegration = "pbx-operator.io/integration"
	// LabelCall is a hash of the PBX's call id: the legs of one call share it.
	LabelCall = "pbx-operator.io/call"
	// LabelDiscovered marks an ExtensionMapping that discovery made.
	LabelDiscovered = "pbx-operator.io/discovered"
	// LabelExpires is the bucket in which a finished CallLeg may be deleted: UTC, "20060102T1504".
	LabelExpires = "pbx-operator.io/expires"
	// AnnotationVanished on a discovered ExtensionMapping is the time, in RFC 3339, since which the
	// PBX does not have its extension.
	AnnotationVanished = "pbx-operator.io/vanished"
	// AnnotationRegistrationsLeft on the Secret with the event URL keys tells that registrations
	// are left on the PBX which only these keys recognise, so that the Secret stays.
	AnnotationRegistrationsLeft = "pbx-operator.io/registrations-left"
	// AnnotationRotateKey on a PBXIntegration asks for a new event URL key whenever its value
	// changes.
	AnnotationRotateKey = "pbx-operator.io/rotate-key"
	// AnnotationReconcile on any object of this API asks for a pass right now whenever its value
	// changes.
	AnnotationReconcile = "pbx-operator.io/reconcile"
	// Finalizer keeps an object until its registrations on the PBX are gone.
	Finalizer = "pbx-operator.io/registrations"
)
