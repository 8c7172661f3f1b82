package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/backoff"
	"github.com/pbx-operator/pbx-operator/receiver/publish"
)

const (
	// replicasName is the file that says how many receivers there were when that was last known.
	replicasName = "replicas"
	// askTimeout is how long to wait for the Kubernetes API.
	askTimeout = 5 * time.Second
)

// learnReplicas finds out how many receivers the integration asks for, unless the flags say so.
// While the Kubernetes API is away, that is as many as there were before.
func (r *receiver) learnReplicas(ctx context.Context) error {
	if r.options.replicas != 0 {
		return nil
	}
	path := filepath.Join(r.options.dataDir, replicasName)
	return backoff.Retry(ctx, backoff.Default, func(ctx context.Context) error {
		replicas, err := r.askReplicas(ctx)
		if err == nil {
			r.options.replicas = replicas
			return keepReplicas(path, replicas)
		}
		before, missing := readReplicas(path)
		if missing != nil {
			return errors.Join(err, missing)
		}
		r.logger.Warn("cannot learn how many receivers there are; taking the number of before", "error", err, "replicas", before)
		r.options.replicas = before
		return nil
	}, func(err error, pause time.Duration) {
		r.logger.Warn("cannot learn how many receivers there are; trying again", "error", err, "in", pause)
	})
}

func (r *receiver) askReplicas(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	config, err := kubeConfig()
	if err != nil {
		return 0, err
	}
	scheme, err := publish.NewScheme()
	if err != nil {
		return 0, fmt.Errorf("cannot make a scheme: %w", err)
	}
	api, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return 0, fmt.Errorf("cannot make a client: %w", err)
	}
	var integration v1alpha1.PBXIntegration
	key := types.NamespacedName{Namespace: r.options.namespace, Name: r.options.integration}
	if err := api.Get(ctx, key, &integration); err != nil {
		return 0, fmt.Errorf("cannot read the integration: %w", err)
	}
	return int(integration.Spec.Receiver.Replicas), nil
}

func readReplicas(path string) (int, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the directory
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// keepReplicas writes the file in one step, so that it is never read in part.
func keepReplicas(path string, replicas int) error {
	if before, err := readReplicas(path); err == nil && before == replicas {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot note the number of receivers: %w", err)
	}
	if err := os.WriteFile(path+".new", []byte(strconv.Itoa(replicas)), 0o600); err != nil { //nolint:gosec // the operator names the directory
		return fmt.Errorf("cannot note the number of receivers: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("cannot note the number of receivers: %w", err)
	}
	return nil
}
