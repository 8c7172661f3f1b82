package main

import (
	"flag"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

func parsed(args ...string) (*options, error) {
	flags := flag.NewFlagSet("manager", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return parse(flags, args)
}

func TestFlags(t *testing.T) {
	got, err := parsed("--leader-elect", "--watch-namespace=a, b,", "--api-server-ports=443,16443", "--drift-interval=1m",
		"--watch-label-selector=shard=1", "--receiver-image=r:1")
	if err != nil {
		t.Fatal(err)
	}
	if !got.leaderElect || got.driftInterval != time.Minute || got.receiverImage != "r:1" || got.selector.String() != "shard=1" {
		t.Errorf("options: %+v", got)
	}
	if diff := cmp.Diff([]string{"a", "b"}, got.namespaces) + cmp.Diff([]int32{443, 16443}, got.apiServerPorts); diff != "" {
		t.Error(diff)
	}
	if len(got.cache().DefaultNamespaces) != 2 {
		t.Errorf("the cache watches %v", got.cache().DefaultNamespaces)
	}
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	for flag, want := range map[string]string{
		"--concurrency=0":             "at least 1",
		"--concurrency-backfill=0":    "at least 1",
		"--drift-interval=1s":         "at least 10s",
		"--receiver-image=":           "must not be empty",
		"--leader-election-id=":       "must not be empty",
		"--max-concurrent-rollouts=0": "at least 1",
		"--rollout-pause=-1s":         "not be negative",
		"--api-server-ports=https":    `"https" is no port number`,
		"--api-server-ports=70000":    `"70000" is no port number`,
		"--watch-label-selector=a in": "label-selector",
	} {
		if _, err := parsed(flag); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", flag, err, want)
		}
	}
}

func TestShardsAndReleasesHaveLeasesOfTheirOwn(t *testing.T) {
	leases := map[string]bool{}
	for _, selector := range []string{"", "shard=1", "shard=2"} {
		for _, release := range []string{"north", "south"} {
			o, err := parsed("--watch-label-selector="+selector, "--leader-election-id="+release)
			if err != nil {
				t.Fatal(err)
			}
			leases[o.leaderElectionID()] = true
		}
	}
	if len(leases) != 6 {
		t.Errorf("leases: %v", leases)
	}
}

func TestCacheKeepsWhatControllersRead(t *testing.T) {
	mapping := &v1alpha1.ExtensionMapping{ObjectMeta: metav1.ObjectMeta{
		Name:          "ann",
		Annotations:   map[string]string{corev1.LastAppliedConfigAnnotation: "{…}", v1alpha1.AnnotationReconcile: "now"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
		Finalizers:    []string{v1alpha1.Finalizer},
	}}
	if _, err := withoutBookkeeping(mapping); err != nil {
		t.Fatal(err)
	}
	want := metav1.ObjectMeta{
		Name: "ann", Annotations: map[string]string{v1alpha1.AnnotationReconcile: "now"}, Finalizers: []string{v1alpha1.Finalizer},
	}
	if diff := cmp.Diff(want, mapping.ObjectMeta); diff != "" {
		t.Errorf("mapping (-want +got):\n%s", diff)
	}
	secret := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: "a", Name: "b", UID: "c", ResourceVersion: "7", Labels: map[string]string{"x": "y"}, Annotations: map[string]string{"big": "…"},
	}}
	if _, err := nameAndVersion(secret); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(metav1.ObjectMeta{Namespace: "a", Name: "b", UID: "c", ResourceVersion: "7"}, secret.ObjectMeta); diff != "" {
		t.Errorf("Secret (-want +got):\n%s", diff)
	}
}
