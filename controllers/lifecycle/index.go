package lifecycle

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// IndexIntegration is the cache index of ExtensionMappings by the name of their integration. It has
// the name of the selectable field, so that the same selector works against the API server.
const IndexIntegration = "spec.integrationRef.name"

// IndexMappings registers IndexIntegration. Call it once per manager.
func IndexMappings(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &v1alpha1.ExtensionMapping{}, IndexIntegration, func(obj client.Object) []string {
		mapping, ok := obj.(*v1alpha1.ExtensionMapping)
		if !ok {
			return nil
		}
		return []string{mapping.Spec.IntegrationRef.Name}
	})
	if err != nil {
		return fmt.Errorf("cannot index the mappings by integration: %w", err)
	}
	return nil
}

// FindIntegration returns the integration that an object in the namespace refers to, or nil.
func FindIntegration(
	ctx context.Context, from client.Reader, namespace string, ref v1alpha1.IntegrationReference,
) (*v1alpha1.PBXIntegration, error) {
	integration := &v1alpha1.PBXIntegration{}
	err := from.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, integration)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // the absence is the answer
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the PBXIntegration: %w", err)
	}
	return integration, nil
}
