package pbxapi

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// ErrCredentialsMissing tells that a Secret with credentials is not there, or lacks a key.
var ErrCredentialsMissing = errors.New("the credentials are missing")

// Source reads Secrets and ConfigMaps, or returns the NotFound error of the API server:
// secrets.Reader, or what its Lasting returns for a clean-up.
type Source interface {
	Get(ctx context.Context, key types.NamespacedName) (*corev1.Secret, error)
	ConfigMap(ctx context.Context, key types.NamespacedName) (*corev1.ConfigMap, error)
}

// CredentialSecrets returns the names of all Secrets with credentials for the PBX; none for a PBX
// that needs none.
func CredentialSecrets(pbx v1alpha1.PBX) []string {
	return slices.DeleteFunc([]string{CredentialsSecret(pbx), DatabaseSecret(pbx)}, func(name string) bool { return name == "" })
}

// ReferredSecrets returns the names of all Secrets that Credentials reads.
func ReferredSecrets(pbx v1alpha1.PBX) []string {
	names := CredentialSecrets(pbx)
	if pbx.TLS != nil && pbx.TLS.CABundle.Kind == v1alpha1.BundleSecret {
		names = append(names, pbx.TLS.CABundle.Name)
	}
	return names
}

// Credentials returns what a Pool makes the client of an integration from: the data of the Secret
// that CredentialsSecret names, the address of the database under KeyDatabaseURL, and the
// certificates to trust under KeyCABundle. They are nil for a PBX that needs none. The error is
// ErrCredentialsMissing, and names the object and its keys, when there is something for a user to
// create. The map must not be changed.
func Credentials(ctx context.Context, source Source, integration *v1alpha1.PBXIntegration) (map[string][]byte, error) {
	pbx := integration.Spec.PBX
	var credentials map[string][]byte
	if name := CredentialsSecret(pbx); name != "" {
		data, err := secretData(ctx, source, integration.Namespace, name, credentialKeys(pbx))
		if err != nil {
			return nil, err
		}
		credentials = data
	}
	if name := DatabaseSecret(pbx); name != "" {
		data, err := secretData(ctx, source, integration.Namespace, name, "the key "+databaseSecretKey)
		if err != nil {
			return nil, err
		}
		if len(data[databaseSecretKey]) == 0 {
			return nil, missing(fmt.Sprintf("Secret %q lacks the key %s with the address of the database", name, databaseSecretKey))
		}
		credentials = with(credentials, KeyDatabaseURL, data[databaseSecretKey])
	}
	if pbx.TLS != nil {
		bundle, err := Bundle(ctx, source, integration.Namespace, pbx.TLS.CABundle)
		if err != nil {
			return nil, err
		}
		credentials = with(credentials, KeyCABundle, bundle)
	}
	return credentials, nil
}

// with returns credentials with one more entry. They are shared with the source, so this makes a
// copy.
func with(credentials map[string][]byte, key string, value []byte) map[string][]byte {
	credentials = maps.Clone(credentials)
	if credentials == nil {
		credentials = map[string][]byte{}
	}
	credentials[key] = value
	return credentials
}

// Bundle returns the certificates in PEM that a reference leads to. The error is
// ErrCredentialsMissing where there are none.
func Bundle(ctx context.Context, source Source, namespace string, ref v1alpha1.BundleReference) ([]byte, error) {
	key := cmp.Or(ref.Key, defaultBundleKey)
	text, err := bundleText(ctx, source, types.NamespacedName{Namespace: namespace, Name: ref.Name}, ref.Kind, key)
	switch {
	case apierrors.IsNotFound(err):
		return nil, missing(fmt.Sprintf("there is no %s %q: create it with the certificates to trust under the key %s", ref.Kind, ref.Name, key))
	case err != nil:
		return nil, fmt.Errorf("cannot read the certificates to trust: %w", err)
	case !x509.NewCertPool().AppendCertsFromPEM(text):
		return nil, missing(fmt.Sprintf("%s %q has no certificate in PEM under the key %s", ref.Kind, ref.Name, key))
	}
	return text, nil
}

func bundleText(ctx context.Context, source Source, name types.NamespacedName, kind v1alpha1.BundleKind, key string) ([]byte, error) {
	if kind == v1alpha1.BundleConfigMap {
		bundle, err := source.ConfigMap(ctx, name)
		if err != nil {
			return nil, err
		}
		return []byte(bundle.Data[key]), nil
	}
	secret, err := source.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	return secret.Data[key], nil
}

// defaultBundleKey is the default of the API's schema.
const defaultBundleKey = "ca.crt"

// databaseSecretKey is the key of the address in the Secret of the database.
const databaseSecretKey = "url"

// credentialKeys says what CredentialsSecret holds.
func credentialKeys(pbx v1alpha1.PBX) string {
	if pbx.LinuxBox != nil {
		return "the keys username and password, or header and value"
	}
	return "the keys clientID and clientSecret"
}

func secretData(ctx context.Context, source Source, namespace, name, keys string) (map[string][]byte, error) {
	secret, err := source.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name})
	switch {
	case apierrors.IsNotFound(err):
		return nil, missing(fmt.Sprintf("there is no Secret %q: create it with %s", name, keys))
	case err != nil:
		return nil, fmt.Errorf("cannot read the credentials: %w", err)
	}
	return secret.Data, nil
}

// missing is an ErrCredentialsMissing in words.
type missing string

func (e missing) Error() string { return string(e) }
func (missing) Unwrap() error   { return ErrCredentialsMissing }
