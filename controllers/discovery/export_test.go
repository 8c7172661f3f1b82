package discovery

import (
	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

// NewReconciler makes the controller without a manager.
func NewReconciler(options Options, recorder lifecycle.Recorder) *lifecycle.Reconciler[*v1alpha1.PBXIntegration] {
	return newReconciler(newHandler(options), options, recorder)
}
