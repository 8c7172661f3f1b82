package pbxapi

import (
	"context"
	"errors"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// ErrCredentialsMissing tells that a Secret with credentials is not there, or lacks a key.
var ErrCredentialsMissing = errors.New("the credentials are missing")

// ReadSecret returns a Secret, or the NotFound error of the API server: Get of secrets.Reader, or GetLast for a clean-up.
type ReadSecret func(ctx context.Context, key types.NamespacedName) (*corev1.Secret, error)

// CredentialSecrets are the names of all Secrets with credentials for the PBX; none for a PBX that needs none.
func CredentialSecrets(pbx v1alpha1.PBX) []string {
	var names []string
	for _, name := range []string{CredentialsSecret(pbx), DatabaseSecret(pbx)} {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// Credentials are what a Pool makes the client of an integration from: the data of the Secret that CredentialsSecret names, and the
// address of the database under KeyDatabaseURL. They are nil for a PBX that needs none. The error is ErrCredentialsMissing, and names the
// Secret and its keys, when there is something for a user to create. The map must not be changed.
func Credentials(ctx context.Context, read ReadSecret, integration *v1alpha1.PBXIntegration) (map[string][]byte, error) {
	pbx := integration.Spec.PBX
	var credentials map[string][]byte
	if name := CredentialsSecret(pbx); name != "" {
		data, err := secretData(ctx, read, integration.Namespace, name, credentialKeys(pbx))
		if err != nil {
			return nil, err
		}
		credentials = data
	}
	name := DatabaseSecret(pbx)
	if name == "" {
		return credentials, nil
	}
	data, err := secretData(ctx, read, integration.Namespace, name, "the key "+databaseSecretKey)
	if err != nil {
		return nil, err
	}
	if len(data[databaseSecretKey]) == 0 {
		return nil, missing(fmt.Sprintf("Secret %q lacks the key %s with the address of the database", name, databaseSecretKey))
	}
	credentials = maps.Clone(credentials) // it is shared with the reader of Secrets
	if credentials == nil {
		credentials = map[string][]byte{}
	}
	credentials[KeyDatabaseURL] = data[databaseSecretKey]
	return credentials, nil
}

// databaseSecretKey is the key of the address in the Secret of the database.
const databaseSecretKey = "url"

// credentialKeys says what CredentialsSecret holds.
func credentialKeys(pbx v1alpha1.PBX) string {
	if pbx.LinuxBox != nil {
		return "the keys username and password, or header and value"
	}
	return "the keys clientID and clientSecret"
}

func secretData(ctx context.Context, read ReadSecret, namespace, name, keys string) (map[string][]byte, error) {
	secret, err := read(ctx, types.NamespacedName{Namespace: namespace, Name: name})
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
