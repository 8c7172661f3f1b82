package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
)

// options are the flags of the manager.
type options struct {
	metricsAddress, probeAddress string
	pprofAddress                 string
	leaderElect                  bool
	leaderElectionNamespace      string
	leaderElectionName           string
	namespace                    string
	receiverImage                string
	apiServerPorts               []int32
	namespaces                   []string
	maxRollouts                  int
	rolloutPause                 time.Duration
	selector                     labels.Selector
	concurrency                  concurrency
	driftInterval                time.Duration
	zap                          zap.Options
}

// concurrency is how many objects each controller works on at once.
type concurrency struct {
	mappings, integrations, commands, discovery, backfill int
	// perIntegration bounds how many of the mappings, and of the commands, may be those of one
	// integration.
	perIntegration int
}

func (c *concurrency) bind(flags *flag.FlagSet) {
	flags.IntVar(&c.mappings, "concurrency", 32, "how many ExtensionMappings are worked on at once")
	flags.IntVar(&c.integrations, "concurrency-integrations", 8, "how many PBXIntegrations are worked on at once")
	flags.IntVar(&c.commands, "concurrency-commands", 16, "how many CallCommands are worked on at once")
	flags.IntVar(&c.discovery, "concurrency-discovery", 4, "how many PBXs are asked for their extensions at once")
	flags.IntVar(&c.backfill, "concurrency-backfill", 4, "how many call histories are read at once")
	flags.IntVar(&c.perIntegration, "concurrency-per-integration", 8,
		"how many ExtensionMappings, and how many CallCommands, of one PBXIntegration are worked on at once, so that a PBX that does not answer delays no other")
}

func (c *concurrency) validate() error {
	if min(c.mappings, c.integrations, c.commands, c.discovery, c.backfill, c.perIntegration) < 1 {
		return errors.New("--concurrency, and each of --concurrency-…, must be at least 1")
	}
	return nil
}

// share is how many of so many workers one integration may have.
func (c *concurrency) share(workers int) int { return min(c.perIntegration, max(workers/2, 1)) }

// parse reads the flags. Its errors name the flag and what it should look like.
func parse(flags *flag.FlagSet, args []string) (*options, error) {
	o := &options{selector: labels.Everything(), zap: zap.Options{TimeEncoder: zapcore.RFC3339NanoTimeEncoder}}
	flags.StringVar(&o.metricsAddress, "metrics-bind-address", ":8080", "address of the metrics endpoint; 0 turns it off")
	flags.StringVar(&o.probeAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	flags.StringVar(&o.pprofAddress, "pprof-bind-address", "", "address of Go's profiles, such as 127.0.0.1:6060; anybody who can reach it can read them (default: off)")
	flags.BoolVar(&o.leaderElect, "leader-elect", false, "work only while holding the lease; needed with more than one replica")
	flags.StringVar(&o.leaderElectionNamespace, "leader-election-namespace", "", "namespace of the lease (default: that of the pod)")
	flags.StringVar(&o.leaderElectionName, "leader-election-id", "pbx-operator-manager", "name of the lease; releases that work side by side in a namespace need different ones")
	flags.StringVar(&o.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the manager, whose pods receivers let in (default: $POD_NAMESPACE)")
	flags.StringVar(&o.receiverImage, "receiver-image", "ghcr.io/pbx-operator/receiver:latest", "image of the receiver pods")
	flags.Func("api-server-ports", "ports on which receivers may reach the API server, comma separated (default 443,6443)", o.setPorts)
	flags.Func("watch-namespace", "namespaces to work in, comma separated (default: all)", o.setNamespaces)
	flags.IntVar(&o.maxRollouts, "max-concurrent-rollouts", 1, "how many receivers restart at a time when an upgrade of the operator changes their pods")
	flags.DurationVar(&o.rolloutPause, "rollout-pause", 10*time.Second, "how long to wait after one of them is ready again before the next one")
	flags.Func("watch-label-selector", "work only on PBXIntegrations, ExtensionMappings and CallCommands with these labels (sharding)", o.setSelector)
	o.concurrency.bind(flags)
	flags.DurationVar(&o.driftInterval, "drift-interval", 10*time.Minute, "how often the PBX is compared with what is wanted although nothing changed")
	o.zap.BindFlags(flags)
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	return o, o.validate()
}

func (o *options) validate() error {
	switch {
	case o.driftInterval < 10*time.Second:
		return errors.New("--drift-interval must be at least 10s: each pass asks the PBX about each extension")
	case o.maxRollouts < 1:
		return errors.New("--max-concurrent-rollouts must be at least 1")
	case o.rolloutPause < 0:
		return errors.New("--rollout-pause must not be negative")
	case o.leaderElectionName == "":
		return errors.New("--leader-election-id must not be empty")
	case o.receiverImage == "":
		return errors.New("--receiver-image must not be empty")
	}
	return o.concurrency.validate()
}

func (o *options) setPorts(list string) error {
	for item := range strings.SplitSeq(list, ",") {
		port, err := strconv.ParseUint(strings.TrimSpace(item), 10, 16)
		if err != nil || port == 0 {
			return fmt.Errorf("%q is no port number", item)
		}
		o.apiServerPorts = append(o.apiServerPorts, int32(port))
	}
	return nil
}

func (o *options) setNamespaces(list string) error {
	for item := range strings.SplitSeq(list, ",") {
		if name := strings.TrimSpace(item); name != "" {
			o.namespaces = append(o.namespaces, name)
		}
	}
	return nil
}

func (o *options) setSelector(text string) error {
	selector, err := labels.Parse(text)
	if err != nil {
		return err
	}
	o.selector = selector
	return nil
}

// workload is what the pods of receivers need to know of the manager.
func (o *options) workload() workload.Settings {
	return workload.Settings{
		Image: o.receiverImage, APIServerPorts: o.apiServerPorts, ManagerNamespace: o.namespace,
		ManagerLabels: map[string]string{"app.kubernetes.io/name": "pbx-operator", "app.kubernetes.io/component": "manager"},
	}
}

// selected are the labels by which this manager picks its objects.
func (o *options) selected() []string {
	requirements, _ := o.selector.Requirements()
	keys := make([]string, len(requirements))
	for i, requirement := range requirements {
		keys[i] = requirement.Key()
	}
	return keys
}

// leaderElectionID is the name of the lease. Managers with different selectors are different
// shards, and each has its own.
func (o *options) leaderElectionID() string {
	if o.selector.Empty() {
		return o.leaderElectionName
	}
	return o.leaderElectionName + "-" + shortHash(o.selector.String())
}

// manager turns the flags into the options of the manager.
func (o *options) manager(scheme *runtime.Scheme) ctrl.Options {
	warm := true
	grace := 20 * time.Second
	return ctrl.Options{
		Scheme:                        scheme,
		Cache:                         o.cache(),
		Metrics:                       metricsserver.Options{BindAddress: o.metricsAddress},
		HealthProbeBindAddress:        o.probeAddress,
		PprofBindAddress:              o.pprofAddress,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              o.leaderElectionID(),
		LeaderElectionNamespace:       o.leaderElectionNamespace,
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       &grace,
		Controller: config.Controller{
			EnableWarmup:          &warm,
			ReconciliationTimeout: 2 * time.Minute,
		},
	}
}
