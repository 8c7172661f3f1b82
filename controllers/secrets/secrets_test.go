package secrets_test

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/pbx-operator/pbx-operator/controllers/secrets"
)

var key = types.NamespacedName{Namespace: "telephony", Name: "pbx"}

func newSecret(value string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Data:       map[string][]byte{"key": []byte(value)},
	}
}

// counted is an API server that counts how often it is asked for a Secret.
func counted(asked *int, objects ...client.Object) client.WithWatch {
	return fake.NewClientBuilder().WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if _, content := obj.(*corev1.Secret); content {
				*asked++
			}
			return c.Get(ctx, key, obj, opts...)
		},
	}).Build()
}

func TestOneRequestPerChange(t *testing.T) {
	asked := 0
	server := counted(&asked, newSecret("old"))
	reader := secrets.NewReader(server, server, clock.RealClock{})
	for range 3 {
		if secret, err := reader.Get(t.Context(), key); err != nil || string(secret.Data["key"]) != "old" {
			t.Fatalf("Get = %v, %v", secret, err)
		}
	}
	if asked != 1 {
		t.Errorf("%d requests for a Secret that did not change, want 1", asked)
	}
	if err := server.Update(t.Context(), newSecret("new")); err != nil {
		t.Fatal(err)
	}
	if secret, err := reader.Get(t.Context(), key); err != nil || string(secret.Data["key"]) != "new" {
		t.Errorf("after a change: %v, %v", secret, err)
	}
}

func TestSecretThatTheWatchDoesNotKnowYet(t *testing.T) {
	asked := 0
	reader := secrets.NewReader(counted(new(int)), counted(&asked, newSecret("young")), clock.RealClock{})
	if secret, err := reader.Get(t.Context(), key); err != nil || string(secret.Data["key"]) != "young" {
		t.Errorf("Get = %v, %v", secret, err)
	}
}

func TestConfigMap(t *testing.T) {
	bundle := func(text string) *corev1.ConfigMap {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Data: map[string]string{"ca.crt": text},
		}
	}
	now := testclock.NewFakePassiveClock(time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC))
	server := counted(new(int), bundle("old"))
	reader := secrets.NewReader(server, server, now)
	want := func(text string) {
		t.Helper()
		if got, err := reader.ConfigMap(t.Context(), key); err != nil || got.Data["ca.crt"] != text {
			t.Errorf("ConfigMap = %v, %v, want %q", got, err, text)
		}
	}
	want("old")
	if err := server.Update(t.Context(), bundle("new")); err != nil {
		t.Fatal(err)
	}
	want("old")
	now.SetTime(now.Now().Add(secrets.MaxAge))
	want("new")
	if err := server.Delete(t.Context(), bundle("")); err != nil {
		t.Fatal(err)
	}
	now.SetTime(now.Now().Add(secrets.MaxAge))
	if _, err := reader.ConfigMap(t.Context(), key); !apierrors.IsNotFound(err) {
		t.Errorf("ConfigMap = %v, want NotFound", err)
	}
	if got, err := reader.Lasting().ConfigMap(t.Context(), key); err != nil || got.Data["ca.crt"] != "new" {
		t.Errorf("for a clean-up: %v, %v", got, err)
	}
}

func TestSecretThatIsGone(t *testing.T) {
	server := counted(new(int), newSecret("old"))
	reader := secrets.NewReader(server, server, clock.RealClock{})
	if _, err := reader.Get(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if err := server.Delete(t.Context(), newSecret("")); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Get(t.Context(), key); !apierrors.IsNotFound(err) {
		t.Errorf("Get = %v, want NotFound", err)
	}
	if last := reader.Last(key); last == nil || string(last.Data["key"]) != "old" {
		t.Errorf("Last = %v, want the content it had", last)
	}
	reader.Forget(key)
	if last := reader.Last(key); last != nil {
		t.Errorf("Last = %v after Forget", last)
	}
}
