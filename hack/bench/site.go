package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

const (
	integrationName = "bench"
	// firstNumber is the extension of the first mapping; the others follow.
	firstNumber = 10_000
	prefix      = "1234*"
)

// site is an operator at work, without a cluster around it: an API server, a PBX, the manager and
// one receiver, each a process.
type site struct {
	*bench
	api       *api
	config    string
	pbx       *server
	control   *simclient.Client
	manager   *server
	receiver  *server
	publicURL string
}

// startSite starts all but the manager and the receiver. The PBX has the given number of extensions
// besides its own ones.
func (b *bench) startSite(ctx context.Context, extensions int) (*site, error) {
	s := &site{bench: b}
	if err := s.start(ctx, extensions); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *site) start(ctx context.Context, extensions int) error {
	var err error
	if s.api, err = s.startAPI(); err != nil {
		return err
	}
	for name, folder := range map[string]string{"manager": "./controllers", "pbxsim": "./hack/pbxsim", "receiver": "./receiver"} {
		if _, err := s.build(ctx, name, folder); err != nil {
			return err
		}
	}
	if s.config, err = s.api.kubeconfig(s.bench); err != nil {
		return err
	}
	if err := s.startPBX(ctx, extensions); err != nil {
		return err
	}
	address, err := freeAddress(ctx)
	s.publicURL = "http://" + address
	return err
}

func (s *site) stop() {
	for _, p := range []*server{s.receiver, s.manager, s.pbx} {
		if p != nil {
			p.stop()
		}
	}
	if s.api != nil {
		s.api.stop()
	}
}

func (s *site) startPBX(ctx context.Context, extensions int) error {
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	control, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	s.pbx, err = s.startServer(ctx, address, control, "/healthz", command{
		name: "pbxsim", path: filepath.Join(s.dir, "pbxsim"), args: []string{"--address=" + address, "--control-address=" + control},
	})
	if err != nil {
		return err
	}
	s.control = simclient.New("http://" + control)
	_, err = s.control.AddExtensions(ctx, simclient.NewExtension{Number: strconv.Itoa(firstNumber), Count: extensions})
	return err
}

// startManager starts the manager with the settings that the chart gives it.
func (s *site) startManager(ctx context.Context) error {
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	s.manager, err = s.startServer(ctx, address, address, readyPath, command{
		name: "manager", path: filepath.Join(s.dir, "manager"), env: []string{"KUBECONFIG=" + s.config},
		args: []string{"--metrics-bind-address=0", "--health-probe-bind-address=" + address, "--zap-log-level=error"},
	})
	return err
}

// startReceiver starts the receiver of the integration at its public URL.
func (s *site) startReceiver(ctx context.Context) error {
	probes, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	address := s.publicURL[len("http://"):]
	s.receiver, err = s.startServer(ctx, address, probes, readyPath, command{
		name: "site-receiver", path: filepath.Join(s.dir, "receiver"), env: []string{"KUBECONFIG=" + s.config},
		args: []string{
			"serve", "--integration=" + integrationName, "--namespace=" + namespace, "--data-dir=" + filepath.Join(s.dir, "site-data"),
			"--listen=" + address, "--probe-listen=" + probes,
		},
	})
	return err
}

// integrate creates the integration. Its ceiling on requests is the highest there is, so as not to
// measure the ceiling.
func (s *site) integrate(ctx context.Context) error {
	credentials := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: integrationName + "-pbx"},
		StringData: map[string]string{"clientID": sim.DefaultClientID, "clientSecret": sim.DefaultClientSecret},
	}
	integration := &v1alpha1.PBXIntegration{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: integrationName},
		Spec: v1alpha1.PBXIntegrationSpec{
			PBX: v1alpha1.PBX{Type: v1alpha1.PBXTypeRingMe, RingMe: &v1alpha1.RingMe{
				URL: "http://" + s.pbx.address, CredentialsSecretRef: v1alpha1.SecretReference{Name: credentials.Name}, RequestsPerMinute: 60_000,
			}},
			Receiver: v1alpha1.Receiver{PublicURL: s.publicURL},
		},
	}
	return errors.Join(s.api.client.Create(ctx, credentials), s.api.client.Create(ctx, integration))
}

// mapping is the n-th mapping: a phone and its user.
func mapping(n int) *v1alpha1.ExtensionMapping {
	number := strconv.Itoa(firstNumber + n)
	return &v1alpha1.ExtensionMapping{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "extension-" + number},
		Spec: v1alpha1.ExtensionMappingSpec{
			IntegrationRef: v1alpha1.IntegrationReference{Name: integrationName},
			Extension:      v1alpha1.Extension{Number: prefix + number, Type: v1alpha1.ExtensionPhone},
			User:           &v1alpha1.User{Name: "user-" + number},
		},
	}
}

func (s *site) createMappings(ctx context.Context, count int) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range createWorkers {
		group.Go(func() error {
			for n := int(next.Add(1)) - 1; n < count; n = int(next.Add(1)) - 1 {
				if err := s.api.client.Create(ctx, mapping(n)); err != nil {
					return fmt.Errorf("cannot create a mapping: %w", err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// acceptedAfter creates a mapping and has its extension called until the receiver has accepted an
// event of a call.
func (s *site) acceptedAfter(ctx context.Context, n int) (time.Duration, error) {
	const limit, interval = 30 * time.Second, 5 * time.Millisecond
	start := time.Now()
	if err := s.api.client.Create(ctx, mapping(n)); err != nil {
		return 0, fmt.Errorf("cannot create a mapping: %w", err)
	}
	err := until(ctx, limit, interval, "an event of a new mapping is to be accepted", func(ctx context.Context) (bool, error) {
		placed, err := s.control.Place(ctx, simclient.CallRequest{
			Scenario: "S1", Speed: 1e6, Wait: true, Extensions: map[string]string{"101": strconv.Itoa(firstNumber + n)},
		})
		return err == nil && len(placed) == 1 && placed[0].Delivered() > 0, err
	})
	return time.Since(start), err
}
