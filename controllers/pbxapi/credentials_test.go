package pbxapi_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// source has Secrets, and ConfigMaps with the same content.
type source map[string]map[string][]byte

func (s source) data(key types.NamespacedName, resource string) (map[string][]byte, error) {
	data, ok := s[key.Name]
	if !ok || key.Namespace != "telephony" {
		return nil, apierrors.NewNotFound(corev1.Resource(resource), key.Name)
	}
	return data, nil
}

func (s source) Get(_ context.Context, key types.NamespacedName) (*corev1.Secret, error) {
	data, err := s.data(key, "secrets")
	return &corev1.Secret{Data: data}, err
}

func (s source) ConfigMap(_ context.Context, key types.NamespacedName) (*corev1.ConfigMap, error) {
	data, err := s.data(key, "configmaps")
	text := map[string]string{}
	for name, value := range data {
		text[name] = string(value)
	}
	return &corev1.ConfigMap{Data: text}, err
}

// away cannot be asked.
type away struct{ err error }

func (a away) Get(context.Context, types.NamespacedName) (*corev1.Secret, error) { return nil, a.err }
func (a away) ConfigMap(context.Context, types.NamespacedName) (*corev1.ConfigMap, error) {
	return nil, a.err
}

func TestCredentials(t *testing.T) {
	ringMe := v1alpha1.PBX{Type: v1alpha1.PBXTypeRingMe, RingMe: &v1alpha1.RingMe{CredentialsSecretRef: v1alpha1.SecretReference{Name: "app"}}}
	box := func(credentials, database string) v1alpha1.PBX {
		pbx := v1alpha1.PBX{Type: v1alpha1.PBXTypeLinuxBox, LinuxBox: &v1alpha1.LinuxBox{URL: "https://pbx.example.com"}}
		if credentials != "" {
			pbx.LinuxBox.CredentialsSecretRef = &v1alpha1.SecretReference{Name: credentials}
		}
		if database != "" {
			pbx.LinuxBox.Database = &v1alpha1.LinuxBoxDatabase{CredentialsSecretRef: v1alpha1.SecretReference{Name: database}}
		}
		return pbx
	}
	trusting := func(pbx v1alpha1.PBX, kind v1alpha1.BundleKind, name, key string) v1alpha1.PBX {
		pbx.TLS = &v1alpha1.TLS{CABundle: v1alpha1.BundleReference{Kind: kind, Name: name, Key: key}}
		return pbx
	}
	authority, _ := certificate(t, "authority")
	app := map[string][]byte{"clientID": []byte("id"), "clientSecret": []byte("secret")}
	basic := map[string][]byte{"username": []byte("u"), "password": []byte("p"), "url": []byte("not that of the database")}
	for name, tc := range map[string]struct {
		pbx         v1alpha1.PBX
		want        map[string][]byte
		wantMissing []string
	}{
		"none needed":               {pbx: v1alpha1.PBX{Type: v1alpha1.PBXTypeCallable}},
		"none given":                {pbx: box("", "")},
		"an application":            {pbx: ringMe, want: app},
		"basic authentication":      {pbx: box("basic", ""), want: basic},
		"a database":                {pbx: box("", "database"), want: map[string][]byte{"databaseURL": []byte("postgres://db")}},
		"both":                      {pbx: box("basic", "database"), want: map[string][]byte{"username": []byte("u"), "password": []byte("p"), "url": []byte("not that of the database"), "databaseURL": []byte("postgres://db")}},
		"both in one Secret":        {pbx: box("database", "database"), want: map[string][]byte{"url": []byte("postgres://db"), "databaseURL": []byte("postgres://db")}},
		"no such Secret":            {pbx: box("nowhere", "database"), wantMissing: []string{`no Secret "nowhere"`, "username and password"}},
		"no Secret of the database": {pbx: box("basic", "nowhere"), wantMissing: []string{`no Secret "nowhere"`, "key url"}},
		"a CA in a ConfigMap":       {pbx: trusting(box("", ""), v1alpha1.BundleConfigMap, "ca", "ca.crt"), want: map[string][]byte{"caBundle": authority}},
		"a CA in a Secret":          {pbx: trusting(box("", ""), v1alpha1.BundleSecret, "ca", "chain"), want: map[string][]byte{"caBundle": authority}},
		"a CA under its usual key":  {pbx: trusting(box("", ""), v1alpha1.BundleSecret, "ca", ""), want: map[string][]byte{"caBundle": authority}},
		"credentials and a CA":      {pbx: trusting(ringMe, v1alpha1.BundleSecret, "ca", ""), want: map[string][]byte{"clientID": []byte("id"), "clientSecret": []byte("secret"), "caBundle": authority}},
		"no such ConfigMap":         {pbx: trusting(ringMe, v1alpha1.BundleConfigMap, "nowhere", ""), wantMissing: []string{`no ConfigMap "nowhere"`, "key ca.crt"}},
		"a CA that is none":         {pbx: trusting(ringMe, v1alpha1.BundleSecret, "basic", "url"), wantMissing: []string{`Secret "basic"`, "no certificate in PEM", "key url"}},
		"a database without a URL":  {pbx: box("", "empty"), wantMissing: []string{`Secret "empty"`, "key url"}},
	} {
		t.Run(name, func(t *testing.T) {
			stored := map[string]map[string][]byte{"app": app, "basic": basic, "empty": nil, "database": {"url": []byte("postgres://db")},
				"ca": {"ca.crt": authority, "chain": authority}}
			read := source(stored)
			integration := &v1alpha1.PBXIntegration{ObjectMeta: metav1.ObjectMeta{Namespace: "telephony"}, Spec: v1alpha1.PBXIntegrationSpec{PBX: tc.pbx}}
			got, err := pbxapi.Credentials(t.Context(), read, integration)
			if errors.Is(err, pbxapi.ErrCredentialsMissing) != (tc.wantMissing != nil) {
				t.Fatalf("error: %v", err)
			}
			for _, part := range tc.wantMissing {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("credentials (-want +got):\n%s", diff)
			}
			if len(basic) != 3 || len(stored["database"]) != 1 {
				t.Error("a Secret was changed")
			}
		})
	}
}

func TestUnreadableSecretsAreNotMissing(t *testing.T) {
	down := errors.New("the API server is away")
	read := away{down}
	integration := &v1alpha1.PBXIntegration{Spec: v1alpha1.PBXIntegrationSpec{PBX: v1alpha1.PBX{
		VoipNow: &v1alpha1.VoipNow{CredentialsSecretRef: v1alpha1.SecretReference{Name: "app"}},
	}}}
	_, err := pbxapi.Credentials(t.Context(), read, integration)
	if !errors.Is(err, down) || errors.Is(err, pbxapi.ErrCredentialsMissing) {
		t.Errorf("error: %v", err)
	}
}
