package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/backoff"
	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

const (
	// replicasName is the file that says how many receivers there were when that was last known.
	replicasName = "replicas"
	// askTimeout is how long to wait for the Kubernetes API.
	askTimeout = 5 * time.Second
	// lookInterval is how often to look whether there are to be more receivers, or fewer.
	lookInterval = time.Second
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

// first reports whether this is the receiver that hands its logs to a cluster, and takes them back.
func (r *receiver) first() bool {
	return len(r.options.peers) > 0 && r.options.peers[0].Name == r.options.pod
}

// askReplicas asks how many receivers there are to be. The first one says before it joins others
// that they must stay.
func (r *receiver) askReplicas(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	api, integration, err := r.kubernetes()
	if err != nil {
		return 0, err
	}
	if err := api.Get(ctx, client.ObjectKeyFromObject(integration), integration); err != nil {
		return 0, fmt.Errorf("cannot read the integration: %w", err)
	}
	replicas := int(integration.Spec.Receiver.Replicas)
	if replicas > 1 {
		return replicas, r.reportMembers(ctx, replicas)
	}
	return replicas, nil
}

// reportMembers writes into the status of the integration how many receivers keep the logs
// together. Only the first one does.
func (r *receiver) reportMembers(ctx context.Context, members int) error {
	if !r.first() {
		return nil
	}
	api, integration, err := r.kubernetes()
	if err != nil {
		return err
	}
	patch := fmt.Appendf(nil, `{"status":{"receiver":{"members":%d}}}`, members)
	if err := api.Status().Patch(ctx, integration, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return fmt.Errorf("cannot report how many receivers keep the logs: %w", err)
	}
	return nil
}

// kubernetes is a client, and the integration without its contents.
func (r *receiver) kubernetes() (client.Client, *v1alpha1.PBXIntegration, error) {
	config, err := kubeConfig()
	if err != nil {
		return nil, nil, err
	}
	api, err := newClient(config)
	integration := &v1alpha1.PBXIntegration{}
	integration.Namespace, integration.Name = r.options.namespace, r.options.integration
	return api, integration, err
}

// errResized says that the receiver has to open its logs anew: it was alone and is not any more, or
// the other way round.
var errResized = errors.New("the number of receivers has changed")

// followReplicas reports how many receivers keep the logs, and returns errResized when this one has
// to open them anew for another number.
func (r *receiver) followReplicas(ctx context.Context, c *cluster) error {
	if c.watch == nil || len(r.options.peers) == 0 {
		return nil
	}
	replicas, reported := r.options.replicas, false
	for backoff.Sleep(ctx, lookInterval) {
		if !reported {
			err := r.reportMembers(ctx, replicas)
			if reported = err == nil; !reported {
				r.logger.Warn("trying again", "error", err)
			}
		}
		integration, known := c.watch.Integration()
		if !known || int(integration.Spec.Receiver.Replicas) == replicas {
			continue
		}
		alone := replicas == 1
		replicas, reported = int(integration.Spec.Receiver.Replicas), false
		if r.first() && alone != (replicas == 1) {
			return errResized
		}
		if err := keepReplicas(filepath.Join(r.options.dataDir, replicasName), replicas); err != nil {
			r.logger.Warn("the number of receivers is not noted", "error", err)
		}
	}
	return nil
}

func readReplicas(path string) (int, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the directory
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

func keepReplicas(path string, replicas int) error {
	if before, err := readReplicas(path); err == nil && before == replicas {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(path), 0o700) //nolint:gosec // the operator names the directory
	if err == nil {
		err = sources.WriteFile(path, []byte(strconv.Itoa(replicas)))
	}
	if err != nil {
		return fmt.Errorf("cannot note the number of receivers: %w", err)
	}
	return nil
}
