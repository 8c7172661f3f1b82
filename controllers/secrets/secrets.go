// Package secrets reads Secrets without keeping all Secrets of the cluster in memory: the watch cache holds their metadata only, and
// the content of those that are asked for is fetched once per change.
package secrets

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Reader reads Secrets. It may be used concurrently.
type Reader struct {
	// metadata is a cache of PartialObjectMetadata; live asks the API server.
	metadata, live client.Reader

	mu     sync.Mutex
	copies map[types.NamespacedName]*corev1.Secret
}

// NewReader makes a Reader from a cached and a live client.
func NewReader(metadata, live client.Reader) *Reader {
	return &Reader{metadata: metadata, live: live, copies: map[types.NamespacedName]*corev1.Secret{}}
}

// Metadata is an empty object to watch or get the metadata of Secrets with.
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
	r.copies[key] = secret
	return secret, nil
}

// GetLast is Get, or the Secret as it was before it was deleted: that is often done together with what needs it for cleaning up.
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
	return r.copies[key]
}

// Forget drops what is kept of Secrets.
func (r *Reader) Forget(keys ...types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range keys {
		delete(r.copies, key)
	}
}
