package lifecycle_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

// intends makes the handler write an id down before it calls then.
func (b *bench) intends(then func() (lifecycle.Done, error)) {
	b.handler.change = func(m *mapping) { m.Status.ExtensionID = "5101" }
	b.handler.err = lifecycle.Intent{Reason: "Progressing", Err: errors.New("about to"), Then: then}
}

func TestIntentIsWrittenBeforeItIsCarriedOut(t *testing.T) {
	b := newBench(t, newMapping(), interceptor.Funcs{})
	b.intends(func() (lifecycle.Done, error) {
		written := b.object(t)
		if written.Status.ExtensionID != "5101" {
			t.Error("nothing was written down")
		}
		want := map[string]string{"Ready": "False Progressing", "Reconciling": "True Progressing"}
		if diff := cmp.Diff(want, summary(written)); diff != "" {
			t.Error(diff)
		}
		written.Labels = map[string]string{"team": "sales"}
		if err := b.client.Update(t.Context(), written); err != nil { // somebody else is at work
			t.Error(err)
		}
		return lifecycle.Done{Reason: "Registered"}, nil
	})
	if _, err := b.pass(t); err != nil {
		t.Fatal(err)
	}
	is := b.object(t)
	if diff := cmp.Diff(map[string]string{"Ready": "True Registered"}, summary(is)); diff != "" || is.Labels["team"] != "sales" {
		t.Errorf("what came of it was not written: %s %v", diff, is.Labels)
	}
}

func TestIntentThatCannotBeWrittenIsNotCarriedOut(t *testing.T) {
	broken := errors.New("no API server")
	tests := map[string]struct {
		patch func(context.Context, client.Client, client.Object, client.Patch) error
		keeps bool
	}{
		"for there is no API server": {
			patch: func(context.Context, client.Client, client.Object, client.Patch) error { return broken },
		},
		"for the answer is lost": {
			patch: func(ctx context.Context, c client.Client, o client.Object, p client.Patch) error {
				if err := c.Status().Patch(ctx, o, p); err != nil {
					return err
				}
				return broken
			},
		},
		"for somebody was faster": {
			patch: func(ctx context.Context, c client.Client, o client.Object, p client.Patch) error {
				other := &mapping{}
				if err := c.Get(ctx, client.ObjectKeyFromObject(o), other); err != nil {
					return err
				}
				other.Labels = map[string]string{"team": "sales"}
				if err := c.Update(ctx, other); err != nil {
					return err
				}
				return c.Status().Patch(ctx, o, p)
			},
		},
		"for there is nothing to write": {keeps: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, newMapping(), interceptor.Funcs{SubResourcePatch: func(
				ctx context.Context, c client.Client, _ string, o client.Object, p client.Patch, _ ...client.SubResourcePatchOption,
			) error {
				if test.patch == nil {
					return c.Status().Patch(ctx, o, p)
				}
				return test.patch(ctx, c, o, p)
			}})
			done := 0
			b.intends(func() (lifecycle.Done, error) {
				done++
				return lifecycle.Done{}, nil
			})
			if test.keeps {
				b.handler.change = nil
				b.settled(t)
			}
			result, err := b.pass(t)
			if err == nil && result.RequeueAfter == 0 {
				t.Error("it is not tried again")
			}
			if done > 0 {
				t.Error("it was carried out all the same")
			}
		})
	}
}

// settled makes the status what an intent without a change would write.
func (b *bench) settled(t *testing.T) {
	t.Helper()
	m := b.object(t)
	m.Status.ObservedGeneration = m.Generation
	for _, name := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionReconciling} {
		status := metav1.ConditionFalse
		if name == v1alpha1.ConditionReconciling {
			status = metav1.ConditionTrue
		}
		lifecycle.SetCondition(m, noon, name, status, "Progressing", "about to")
	}
	if err := b.client.Status().Update(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

func TestObjectWithoutFinalizer(t *testing.T) {
	b := newBench(t, newMapping(func(m *mapping) { m.Finalizers = nil }), interceptor.Funcs{})
	b.reconciler.NoFinalizer = true
	if _, err := b.pass(t); err != nil {
		t.Fatal(err)
	}
	if finalizers := b.object(t).Finalizers; len(finalizers) > 0 {
		t.Errorf("it has got %v", finalizers)
	}
}
