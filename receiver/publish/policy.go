package publish

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// Reference names an object in the namespace of the integration.
type Reference struct {
	Name string
	UID  types.UID
}

// Policy is what a PBXIntegration asks of publication. It may change while the receiver runs.
type Policy struct {
	// Integration owns the CallLegs, so that they are deleted with it.
	Integration Reference
	Publish     v1alpha1.CallLegPublish
	// TTLAfterFinished is how long a finished CallLeg stays.
	TTLAfterFinished time.Duration
	// MaxDuration is how long a leg may last before correlation closes it.
	MaxDuration time.Duration
	// MaxObjects is the cap on the CallLegs of the integration.
	MaxObjects int
	// MaskNumbers hides numbers in Kubernetes Events.
	MaskNumbers bool
	// Deleting tells that the integration is on its way out: nothing new is shown.
	Deleting bool
}

// PolicyOf reads the policy of an integration.
func PolicyOf(integration *v1alpha1.PBXIntegration) Policy {
	legs := integration.Spec.CallLegs
	return Policy{
		Integration:      Reference{Name: integration.Name, UID: integration.UID},
		Publish:          legs.Publish,
		TTLAfterFinished: legs.Retention(),
		MaxDuration:      legs.MaxDuration.Duration,
		MaxObjects:       int(legs.MaxObjects),
		MaskNumbers:      legs.MaskNumbers,
		Deleting:         !integration.DeletionTimestamp.IsZero(),
	}
}

// shows reports whether a leg in this state is to be seen.
func (p Policy) shows(leg correlation.Leg) bool {
	return p.Publish != v1alpha1.PublishCompleted || leg.Phase == correlation.Completed
}

// missed reports whether a leg stands for a missed call: there is at most one such leg in a call.
func missed(leg correlation.Leg) bool {
	return leg.Phase == correlation.Completed && leg.Result == correlation.Missed && leg.Logged
}
