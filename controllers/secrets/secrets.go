// Package secrets reads Secrets, and the ConfigMaps that take their place, without keeping all of
// the cluster's in memory: the watch cache holds the metadata of Secrets only, and the content of
// those that are asked for is fetched by name, once per change.
package secrets

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Content is read by name only. The rights to list and watch Secrets are there for their metadata,
// so that a change is heard of at once, and because the manager grants each receiver the right to
// watch the one Secret with its keys: Kubernetes lets nobody grant what they do not have.
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get

// MaxAge is how long a copy of a ConfigMap, which is not watched, is good.
const MaxAge = 30 * time.Second

// Reader reads Secrets and ConfigMaps. It may be used concurrently.
type Reader struct {
	// metadata is a cache of PartialObjectMetadata; live asks the API server.
	metadata, live client.Reader
	clock          clock.PassiveClock

	mu      sync.Mutex
	secrets map[types.NamespacedName]*corev1.Secret
	bundles map[types.NamespacedName]bundle
}

// bundle is a ConfigMap as it was at some time.
type bundle struct {
	object *corev1.ConfigMap
	at     time.Time
}

// NewReader makes a Reader from a cached and a live client.
func NewReader(metadata, live client.Reader, clock clock.PassiveClock) *Reader {
	return &Reader{
		metadata: metadata, live: live, clock: clock,
		secrets: map[types.NamespacedName]*corev1.Secret{}, bundles: map[types.NamespacedName]bundle{},
	}
}

// Metadata returns an empty object to watch or get the metadata of Secrets with.
func Metadata() *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}}
}

// Get returns a Secret, or the NotFound error of the API server. The caller must not change it.
func (r *Reader) Get(ctx context.Context, key types.NamespacedName) (*corev1.Secret, error) {
	metadata := Metadata()
	err := r.metadata.Get(ctx, key, metadata)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	if last := r.Last(key); err == nil && last != nil && last.ResourceVersion == metadata.ResourceVersion {
		return last, nil
	}
	// Also a Secret that the watch does not know is asked for: it may be younger than the cache.
	secret := &corev1.Secret{}
	if err := r.live.Get(ctx, key, secret); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets[key] = secret
	return secret, nil
}

// ConfigMap returns a ConfigMap as it was at most MaxAge ago, or the NotFound error of the API
// server. The caller must not change it. ConfigMaps are not watched: there are many, and few of
// them matter here.
func (r *Reader) ConfigMap(ctx context.Context, key types.NamespacedName) (*corev1.ConfigMap, error) {
	r.mu.Lock()
	last := r.bundles[key]
	r.mu.Unlock()
	if last.object != nil && r.clock.Since(last.at) < MaxAge {
		return last.object, nil
	}
	fresh := &corev1.ConfigMap{}
	if err := r.live.Get(ctx, key, fresh); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bundles[key] = bundle{fresh, r.clock.Now()}
	return fresh, nil
}

// GetLast is Get, or the Secret as it was before it was deleted: that is often done together with
// what needs it for cleaning up.
func (r *Reader) GetLast(ctx context.Context, key types.NamespacedName) (*corev1.Secret, error) {
	secret, err := r.Get(ctx, key)
	if !apierrors.IsNotFound(err) {
		return secret, err
	}
	if last := r.Last(key); last != nil {
		return last, nil
	}
	return nil, err
}

// Last returns the Secret as Get returned it last, or nil.
func (r *Reader) Last(key types.NamespacedName) *corev1.Secret {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.secrets[key]
}

// Lasting returns the Reader for a clean-up: what is gone is as it was before it was deleted.
func (r *Reader) Lasting() Lasting { return Lasting{r} }

// Lasting is a Reader whose Get is GetLast.
type Lasting struct{ reader *Reader }

// Get returns a Secret as GetLast does.
func (l Lasting) Get(ctx context.Context, key types.NamespacedName) (*corev1.Secret, error) {
	return l.reader.GetLast(ctx, key)
}

// ConfigMap returns a ConfigMap, or, where it is gone, as it was before.
func (l Lasting) ConfigMap(ctx context.Context, key types.NamespacedName) (*corev1.ConfigMap, error) {
	found, err := l.reader.ConfigMap(ctx, key)
	if !apierrors.IsNotFound(err) {
		return found, err
	}
	l.reader.mu.Lock()
	defer l.reader.mu.Unlock()
	if last := l.reader.bundles[key].object; last != nil {
		return last, nil
	}
	return nil, err
}

// Forget drops what is kept of Secrets and ConfigMaps with these names.
func (r *Reader) Forget(keys ...types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range keys {
		delete(r.secrets, key)
		delete(r.bundles, key)
	}
}
