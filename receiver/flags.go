package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// options are the flags of serve.
type options struct {
	namespace, integration string
	dataDir                string
	listen, probeListen    string
	storageSize            int64
	eventAge, legAge       time.Duration
	natsURL, natsCreds     string
	natsCA                 string
	natsCert, natsKey      string
	natsReplicas           int
	replicas               int
	peers                  peers
	clusterListen          string
	clusterCerts           string
	pod                    string
	shutdownGrace          time.Duration
	logLevel               slog.Level
	profile                bool
	sourcesFile            string
	sourceRate             int
	maxConnections         int
	maxOpenCalls           int
	partitions             int
	// memory is what the process may take, in bytes.
	memory int64
}

const (
	defaultStorage  = 1 << 30
	defaultGrace    = 20 * time.Second
	defaultEventAge = 48 * time.Hour
	defaultLegAge   = 7 * 24 * time.Hour
	defaultRate     = 1000
	defaultConns    = 4096
)

func parseFlags(args []string, stderr io.Writer) (options, error) {
	o := options{pod: os.Getenv("POD_NAME")}
	flags := flag.NewFlagSet("receiver serve", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the PBXIntegration; default $POD_NAMESPACE")
	flags.StringVar(&o.integration, "integration", "", "name of the PBXIntegration")
	flags.StringVar(&o.dataDir, "data-dir", "/data", "directory of the durable logs")
	flags.StringVar(&o.listen, "listen", ":8080", "address for events")
	flags.StringVar(&o.probeListen, "probe-listen", ":8081", "address for /healthz, /readyz and /metrics")
	flags.Int64Var(&o.storageSize, "storage-size", defaultStorage, "size of the volume in bytes; the logs stay below it")
	flags.DurationVar(&o.eventAge, "event-age", defaultEventAge, "how long events are kept after they were correlated, space permitting")
	flags.DurationVar(&o.legAge, "leg-age", defaultLegAge, "how long legs are kept in the LEGS log after their last change, space permitting")
	flags.StringVar(&o.natsURL, "nats-url", "", "external JetStream; default: embedded")
	flags.StringVar(&o.natsCreds, "nats-creds", "", "NATS credentials file for --nats-url")
	flags.StringVar(&o.natsCA, "nats-ca", "", "file of certificate authorities, in PEM, to trust for --nats-url; default: those of the system")
	flags.StringVar(&o.natsCert, "nats-cert", "", "file of the client certificate, in PEM, to show to --nats-url")
	flags.StringVar(&o.natsKey, "nats-key", "", "file of the key of --nats-cert")
	flags.IntVar(&o.natsReplicas, "nats-replicas", journal.DefaultReplicas, "replicas of each log in an external JetStream: 1, 3 or 5")
	flags.IntVar(&o.replicas, "replicas", 1, "receivers that keep the embedded logs together: 1, 3 or 5; 0: as many as the PBXIntegration asks for")
	flags.Var(&o.peers, "peers", "all receivers that may do so, as NAME=HOST:PORT,…, in the order of their numbers; NAME is the $POD_NAME of each")
	flags.StringVar(&o.clusterListen, "cluster-listen", ":6222", "address for the other receivers")
	flags.StringVar(&o.clusterCerts, "cluster-certs", "/etc/cluster", "directory with ca.crt, tls.crt and tls.key, by which the receivers know each other")
	flags.String("writer", "", "ignored: receivers on one JetStream share the work; earlier operators set it")
	flags.IntVar(&o.partitions, "partitions", journal.DefaultPartitions, "partitions of logs that are made, 1 to 64; logs that exist keep theirs")
	flags.DurationVar(&o.shutdownGrace, "shutdown-grace", defaultGrace, "how long to wait for running requests at the end")
	flags.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	flags.BoolVar(&o.profile, "pprof", false, "serve /debug/pprof on the probe address")
	flags.StringVar(&o.sourcesFile, "sources-file", "", "take the event URLs from this file and run without Kubernetes, publishing nothing")
	flags.IntVar(&o.sourceRate, "source-rate", defaultRate, "requests per second to the event URLs of one extension, in bursts of twice as many; that of the account takes as many as its extensions together; 0: any number")
	flags.IntVar(&o.maxConnections, "max-connections", defaultConns, "connections at a time")
	flags.IntVar(&o.maxOpenCalls, "max-open-calls", 0, "calls that may be open at a time; beyond it the oldest are closed with result Unknown; default: as many as fit into $GOMEMLIMIT")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	return o, o.check(flags.Args())
}

// covered reports whether others take events into the same log while this receiver is away.
func covered(receiver v1alpha1.Receiver) bool {
	if scaling := receiver.Autoscaling; scaling != nil {
		return scaling.MinReplicas > 1
	}
	return receiver.Replicas > 1
}

func (o *options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q: serve takes flags only", rest[0])
	case o.sourcesFile == "" && (o.integration == "" || o.namespace == ""):
		return errors.New("--integration and --namespace (or $POD_NAMESPACE) are required, or --sources-file")
	case o.checkNATS() != nil:
		return o.checkNATS()
	case o.checkCluster() != nil:
		return o.checkCluster()
	case o.maxConnections < 1:
		return errors.New("--max-connections must be positive")
	case o.partitions < 1 || o.partitions > journal.MaxPartitions:
		return fmt.Errorf("--partitions must be between 1 and %d", journal.MaxPartitions)
	case o.sourceRate < 0:
		return errors.New("--source-rate must not be negative")
	default:
		return nil
	}
}
