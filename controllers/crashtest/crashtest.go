// Package crashtest kills operators in tests, right after any of their writes.
package crashtest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// ErrKilled is what every write of a dead operator fails with.
var ErrKilled = errors.New("the operator was killed")

// Fuse kills an operator right after its n-th write, to the API server, a PBX or a receiver: the
// write is done, the operator never hears of it, and nothing that it tries afterwards has any
// effect.
type Fuse struct {
	mu     sync.Mutex
	left   int
	killed chan struct{}
}

// NewFuse lets so many writes through. A negative number kills nobody.
func NewFuse(writes int) *Fuse { return &Fuse{left: writes, killed: make(chan struct{})} }

// Killed is closed when the operator is dead.
func (f *Fuse) Killed() <-chan struct{} { return f.killed }

// Left is how many writes are left; below zero, how many there were after the number given.
func (f *Fuse) Left() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.left
}

// Write is serialised, so that no two writes can be the last one.
func (f *Fuse) Write(do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 {
		return ErrKilled
	}
	if err := do(); err != nil {
		return err
	}
	if f.left--; f.left == 0 {
		close(f.killed)
		return ErrKilled
	}
	return nil
}

// Client implements client.NewClientFunc.
func (f *Fuse) Client(config *rest.Config, options client.Options) (client.Client, error) {
	direct, err := client.NewWithWatch(config, options)
	if err != nil {
		return nil, err
	}
	return interceptor.NewClient(direct, f.writes()), nil
}

func (f *Fuse) writes() interceptor.Funcs {
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			return f.Write(func() error { return c.Create(ctx, obj, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			return f.Write(func() error { return c.Update(ctx, obj, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			return f.Write(func() error { return c.Patch(ctx, obj, patch, opts...) })
		},
		Apply: func(ctx context.Context, c client.WithWatch, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			return f.Write(func() error { return c.Apply(ctx, obj, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			return f.Write(func() error { return c.Delete(ctx, obj, opts...) })
		},
		SubResourcePatch: func(
			ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption,
		) error {
			return f.Write(func() error { return c.SubResource(sub).Patch(ctx, obj, patch, opts...) })
		},
		SubResourceApply: func(
			ctx context.Context, c client.Client, sub string, obj runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption,
		) error {
			return f.Write(func() error { return c.SubResource(sub).Apply(ctx, obj, opts...) })
		},
	}
}

// RoundTrip implements http.RoundTripper for requests to a PBX or a receiver. Tokens and what is
// only read count for nothing.
func (f *Fuse) RoundTrip(request *http.Request) (response *http.Response, err error) {
	if request.Method == http.MethodGet || strings.HasPrefix(request.URL.Path, "/oauth/") {
		return http.DefaultTransport.RoundTrip(request)
	}
	err = f.Write(func() error {
		response, err = http.DefaultTransport.RoundTrip(request) //nolint:bodyclose // the caller closes it
		return err
	})
	if err != nil && response != nil {
		_ = response.Body.Close()
		response = nil
	}
	return response, err
}
