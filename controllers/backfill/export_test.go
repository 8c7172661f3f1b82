package backfill

import (
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

// NewReconciler makes the controller without a manager.
func NewReconciler(options Options, recorder lifecycle.Recorder) *lifecycle.Reconciler[*v1alpha1.PBXIntegration] {
	options.Settle = 15 * time.Second
	return newReconciler(newHandler(options), options, recorder)
}
