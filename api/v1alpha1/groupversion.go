package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion identifies this API.
var GroupVersion = schema.GroupVersion{Group: "pbx-operator.io", Version: "v1alpha1"}

// AddToScheme registers the kinds of this package.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&PBXIntegration{}, &PBXIntegrationList{},
		&ExtensionMapping{}, &ExtensionMappingList{},
		&CallLeg{}, &CallLegList{},
		&CallCommand{}, &CallCommandList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
