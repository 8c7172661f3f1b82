// Command controllers is the manager of pbx-operator: it keeps the event registrations on PBXs in
// step with ExtensionMappings, runs the receivers of PBXIntegrations, carries out CallCommands, and
// deletes CallLegs whose time is over.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"time"
	_ "time/tzdata" // spec.pbx may name any time zone, and the image holds none

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/backfill"
	"github.com/pbx-operator/pbx-operator/controllers/command"
	"github.com/pbx-operator/pbx-operator/controllers/discovery"
	"github.com/pbx-operator/pbx-operator/controllers/extension"
	"github.com/pbx-operator/pbx-operator/controllers/extension/registration"
	"github.com/pbx-operator/pbx-operator/controllers/integration"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/linuxbox"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/ringme"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi/voipnow"
	"github.com/pbx-operator/pbx-operator/controllers/retention"
	"github.com/pbx-operator/pbx-operator/controllers/secrets"
)

// gcPercent trades processor time, of which a manager needs little, for memory, which its caches
// fill.
const gcPercent = 50

func main() {
	options, err := parse(flag.CommandLine, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&options.zap)))
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := run(ctrl.SetupSignalHandler(), options); err != nil {
		ctrl.Log.Error(err, "The manager stops")
		os.Exit(1)
	}
}

func run(ctx context.Context, options *options) error {
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("cannot find the API server: %w", err)
	}
	mgr, err := newManager(ctx, config, options)
	if err != nil {
		return err
	}
	ctrl.Log.Info("Starting", "version", version(), "receiverImage", options.receiverImage)
	return mgr.Start(ctx)
}

// newManager makes the manager with all its controllers.
func newManager(ctx context.Context, config *rest.Config, options *options) (manager.Manager, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("cannot register the kinds of Kubernetes: %w", err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("cannot register the kinds of pbx-operator: %w", err)
	}
	mgr, err := ctrl.NewManager(config, options.manager(scheme))
	if err != nil {
		return nil, fmt.Errorf("cannot make the manager: %w", err)
	}
	if err := addControllers(ctx, mgr, options); err != nil {
		return nil, fmt.Errorf("cannot set up the controllers: %w", err)
	}
	return mgr, addChecks(mgr)
}

func addControllers(ctx context.Context, mgr manager.Manager, options *options) error {
	if err := lifecycle.IndexMappings(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	outcomes, err := lifecycle.NewMetrics(metrics.Registry)
	if err != nil {
		return err
	}
	requests, err := pbxapi.NewMetrics(metrics.Registry)
	if err != nil {
		return err
	}
	registrations, err := registration.NewMetrics(metrics.Registry)
	if err != nil {
		return err
	}
	pool := pbxapi.NewPool(factories(), pbxapi.Options{Metrics: requests})
	reader := secrets.NewReader(mgr.GetClient(), mgr.GetAPIReader(), clock.RealClock{})
	to, workers := access{pool: pool, secrets: reader}, &options.concurrency
	integrations := integration.New(integration.Config{
		Client:        mgr.GetClient(),
		Live:          mgr.GetAPIReader(),
		Secrets:       reader,
		PBXes:         pbxes{pool},
		Workload:      options.workload(),
		Rollouts:      workload.NewRollouts(options.maxRollouts, options.rolloutPause, clock.RealClock{}),
		Recorder:      mgr.GetEventRecorder("pbx-integration"),
		Metrics:       outcomes,
		Registrations: registrations,
		Clock:         clock.RealClock{},
		Interval:      options.driftInterval,
		Concurrency:   workers.integrations,
	})
	if err := integrations.SetupWithManager(ctx, mgr); err != nil {
		return err
	}
	err = extension.SetupWithManager(ctx, mgr, pool, extension.Options{
		Workers: workers.mappings, PerIntegration: workers.share(workers.mappings), Interval: options.driftInterval,
		Metrics: registrations, Outcomes: outcomes, Secrets: reader,
	})
	if err != nil {
		return err
	}
	if err := addReaders(mgr, to, options, outcomes); err != nil {
		return err
	}
	err = command.SetupWithManager(ctx, mgr, pool, command.Options{
		Workers: workers.commands, PerIntegration: workers.share(workers.commands), Outcomes: outcomes, Secrets: reader,
	})
	if err != nil {
		return err
	}
	return mgr.Add(retention.New(mgr.GetAPIReader(), mgr.GetClient(), clock.RealClock{}, metrics.Registry, options.namespaces...))
}

func addChecks(mgr manager.Manager) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	return mgr.AddReadyzCheck("cache", cacheSynced(mgr.GetCache()))
}

// factories make the management APIs of the PBXs that have one.
func factories() map[v1alpha1.PBXType]pbxapi.Factory {
	return map[v1alpha1.PBXType]pbxapi.Factory{
		v1alpha1.PBXTypeRingMe:   ringme.New,
		v1alpha1.PBXTypeVoipNow:  voipnow.New,
		v1alpha1.PBXTypeLinuxBox: linuxbox.New,
	}
}

// pbxes lets the controller of integrations use the pool, and with it the rate limits, of the
// registrations.
type pbxes struct{ *pbxapi.Pool }

func (p pbxes) For(of *v1alpha1.PBXIntegration, credentials map[string][]byte) (integration.PBX, error) {
	client, err := p.Client(of, credentials)
	if err != nil {
		return nil, err
	}
	return client, nil
}

// access leads from an integration to its PBX.
type access struct {
	pool    *pbxapi.Pool
	secrets *secrets.Reader
}

func (a access) client(ctx context.Context, p *v1alpha1.PBXIntegration) (*pbxapi.Client, error) {
	if p.Spec.PBX.Type == v1alpha1.PBXTypeCallable {
		return nil, pbxapi.NewError(pbxapi.ErrNotSupported, "ask the PBX", "it has no management API")
	}
	credentials, err := pbxapi.Credentials(ctx, a.secrets, p)
	if err != nil {
		return nil, err
	}
	return a.pool.Client(p, credentials)
}

// addReaders adds the controllers that read what a PBX has. Mappings that discovery makes inherit
// the labels that the manager selects by.
func addReaders(mgr manager.Manager, to access, options *options, outcomes *lifecycle.Metrics) error {
	err := discovery.SetupWithManager(mgr, discovery.Options{
		Connect: func(ctx context.Context, p *v1alpha1.PBXIntegration) (pbxapi.ExtensionPager, error) {
			return to.client(ctx, p)
		},
		Workers: options.concurrency.discovery, Inherited: options.selected(), Outcomes: outcomes,
	})
	if err != nil {
		return err
	}
	return backfill.SetupWithManager(mgr, backfill.Options{
		Connect: func(ctx context.Context, p *v1alpha1.PBXIntegration) (pbxapi.Historian, error) {
			return to.client(ctx, p)
		},
		Receiver: backfill.Sender{Secrets: to.secrets, HTTP: &http.Client{Timeout: receiverTimeout}, Address: receiverAddress},
		Workers:  options.concurrency.backfill, Outcomes: outcomes,
	})
}

// receiverAddress is where the receiver of an integration takes events inside the cluster.
func receiverAddress(p *v1alpha1.PBXIntegration) string {
	return fmt.Sprintf("http://%s.%s.svc:%d", workload.Name(p.Name), p.Namespace, workload.EventPort)
}

// receiverTimeout bounds one request to a receiver.
const receiverTimeout = 10 * time.Second

// version is the module version or the commit that this binary was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return info.Main.Version
}
