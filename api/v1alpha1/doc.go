// Package v1alpha1 is the Kubernetes API of the operator: PBX integrations, the extensions mapped
// to users, and the call legs observed on them.
//
// +kubebuilder:object:generate=true
// +groupName=pbx-operator.io
package v1alpha1
