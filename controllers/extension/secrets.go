package extension

import (
	"context"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/controllers/secrets"
)

// vault reads Secrets, and remembers those that are gone: a Secret is often deleted together with what needs it for its clean-up.
type vault struct {
	reader *secrets.Reader

	mu   sync.Mutex
	last map[types.NamespacedName]map[string][]byte
}

func newVault(reader *secrets.Reader) *vault {
	return &vault{reader: reader, last: map[types.NamespacedName]map[string][]byte{}}
}

// data returns the content of a Secret, or the NotFound error of the API server.
func (v *vault) data(ctx context.Context, name types.NamespacedName) (map[string][]byte, error) {
	secret, err := v.reader.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.last[name] = secret.Data
	return secret.Data, nil
}

// lastData is data, or the last known content of a Secret that is gone.
func (v *vault) lastData(ctx context.Context, name types.NamespacedName) (map[string][]byte, error) {
	data, err := v.data(ctx, name)
	if !apierrors.IsNotFound(err) {
		return data, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if known, ok := v.last[name]; ok {
		return known, nil
	}
	return nil, err
}

func (v *vault) forget(names ...types.NamespacedName) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, name := range names {
		delete(v.last, name)
	}
}
