package journal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// clusterReplicas is how many members keep each log, however many there are.
	clusterReplicas = 3
	// Every member has a store of its own beside that of a receiver that is alone.
	clusterDir = "cluster"
	// joinPause is how long to wait before looking again whether the logs can be opened.
	joinPause = 200 * time.Millisecond
	// joinTimeout is how long to wait for answers. Questions that are asked while a leader is elected
	// get none.
	joinTimeout = 4 * time.Second
	// joinWarning is how often to tell that they cannot.
	joinWarning = 15 * time.Second
)

// Member is one receiver of a cluster.
type Member struct {
	Name string
	// Address is the host and port where the other members reach it.
	Address string
}

// Cluster has the embedded JetStreams of several receivers keep the logs together. A record is
// durable when a majority of the three members that keep its log have it on disk.
type Cluster struct {
	// Name of the cluster.
	Name string
	// Member is the name of this receiver.
	Member string
	// Members are all of them. The first one makes the logs, the others wait until they are there.
	Members []Member
	// Listen is the address where this receiver takes connections of the others.
	Listen string
	// Certificates is the directory with the certificate that all members show each other, and with
	// the authorities that they trust. Files that change are read again.
	Certificates string
}

// founder reports whether this receiver makes the logs.
func (c *Cluster) founder() bool { return len(c.Members) > 0 && c.Members[0].Name == c.Member }

// apply adds the cluster to the options of a server. Clients connect within the process only.
func (c *Cluster) apply(options *server.Options, certificates *certificates) error {
	host, port, err := splitAddress(c.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen for other receivers: %w", err)
	}
	tls, err := certificates.config()
	if err != nil {
		return err
	}
	options.ServerName = c.Member
	options.Cluster = server.ClusterOpts{
		Name: c.Name, Host: host, Port: port, NoAdvertise: true, PoolSize: 1,
		TLSConfig: tls, TLSTimeout: tlsTimeout.Seconds(),
	}
	options.Routes = make([]*url.URL, len(c.Members))
	for i, member := range c.Members {
		options.Routes[i] = &url.URL{Scheme: "nats-route", Host: member.Address}
	}
	return nil
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	return host, port, err
}

var (
	errNoMajority = errors.New("a majority of the receivers has not found each other yet")
	errNoLogs     = errors.New("the first receiver of the cluster has not made the logs yet")
	errCatchesUp  = errors.New("this receiver's copy of the logs is not current yet")
)

// openLogs makes the logs, or adapts them. Those of a cluster are open when a majority of its
// members have found each other, and this one has caught up: it waits for that.
func (j *Journal) openLogs(ctx context.Context) error {
	if j.config.Cluster == nil {
		return j.makeStreams(ctx)
	}
	told, caughtUp := time.Now(), make(map[Log]bool)
	for {
		err := j.joinLogs(ctx, caughtUp)
		if err == nil {
			return nil
		}
		if time.Since(told) > joinWarning {
			told = time.Now()
			j.config.Logger.Warn("waiting for the other receivers", "error", err)
		}
		if !waitFor(ctx, nil, joinPause) {
			return fmt.Errorf("cannot join the other receivers: %w", errors.Join(err, context.Cause(ctx)))
		}
	}
}

// joinLogs returns nil when all logs are there and this member's copy of each was seen to be
// current: under load they are not all of them at the same moment.
func (j *Journal) joinLogs(ctx context.Context, caughtUp map[Log]bool) error {
	if s := j.server.running(); s == nil || !s.JetStreamIsCurrent() {
		return errNoMajority
	}
	if len(caughtUp) == 0 {
		if err := j.bringLogs(ctx); err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, joinTimeout)
		defer cancel()
		if err := j.makeStreams(limited); err != nil {
			return err
		}
	}
	logs := j.streamConfigs()
	for log, config := range logs {
		if j.server.current(config.Name) {
			caughtUp[log] = true
		}
	}
	if len(caughtUp) < len(logs) {
		return errCatchesUp
	}
	return nil
}

// openStream makes a log or adapts it. In a cluster that is left to one member, so that there is
// one that decides.
func (j *Journal) openStream(ctx context.Context, config jetstream.StreamConfig) (jetstream.Stream, error) {
	if j.config.URL != "" {
		return j.openExternal(ctx, config)
	}
	if cluster := j.config.Cluster; cluster == nil || cluster.founder() {
		return j.js.CreateOrUpdateStream(ctx, config)
	}
	stream, err := j.js.Stream(ctx, config.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, errNoLogs
	case err != nil:
		return nil, err
	case !slices.Equal(stream.CachedInfo().Config.Subjects, config.Subjects):
		return nil, errNoLogs
	}
	return stream, nil
}

// current reports whether this member has all of a log that it should have a copy of.
func (e *embedded) current(stream string) bool {
	s := e.running()
	return s != nil && (!s.JetStreamIsStreamAssigned(server.DEFAULT_GLOBAL_ACCOUNT, stream) || s.JetStreamIsStreamCurrent(server.DEFAULT_GLOBAL_ACCOUNT, stream))
}

// startRouting connects a server with the other members. Start leaves that to whoever opens the
// port for clients, of which there is none.
func startRouting(s *server.Server) {
	ready := make(chan struct{})
	close(ready)
	go s.StartRouting(ready)
}

// unavailable reports whether a log does not answer because a majority of its members is away, which
// no restart of this one would mend.
func (j *Journal) unavailable(err error) bool {
	return j.config.Cluster != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders))
}

// renewInterval is how often to look whether the certificates have changed.
const renewInterval = 10 * time.Second

// renewCertificates has new connections use the certificates as they are now. Those that exist go
// on.
func (e *embedded) renewCertificates(now time.Time) {
	if e.cluster == nil || now.Sub(e.renewed) < renewInterval {
		return
	}
	e.renewed = now
	s := e.running()
	if s == nil || !e.certificates.changed() {
		return
	}
	options, err := e.options()
	if err == nil {
		err = s.ReloadOptions(options)
	}
	if err != nil {
		e.logger.Error("cannot take over the new certificates of the cluster", "error", err)
		return
	}
	e.logger.Info("the certificates of the cluster are new")
}
