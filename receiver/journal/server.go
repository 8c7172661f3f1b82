package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	serverStart   = 30 * time.Second
	superviseTick = 250 * time.Millisecond
	maxRestart    = 5 * time.Second
	// syncInterval is how often the LEGS and CALLS logs are synced; the others are synced at every
	// write.
	syncInterval = 300 * time.Millisecond
	// storeOvercommit lets the limits of the logs add up to more than the volume has.
	storeOvercommit = 2
	// minStore is room for the smallest logs.
	minStore = 8 << 20
)

var errNotRunning = errors.New("the embedded log is not running")

// embedded is a JetStream server inside this process, without a port for clients. It is restarted
// when it gives up, as JetStream does when the disk is full.
type embedded struct {
	lock *os.File
	dir  string
	size int64
	// cluster is nil where this receiver is alone.
	cluster      *Cluster
	certificates certificates
	// renewed is when the certificates were looked at. Only supervise uses it.
	renewed time.Time
	logger  *slog.Logger
	mu      sync.Mutex
	server  *server.Server
	broken  chan struct{}
	stop    context.CancelFunc
	stopped chan struct{}
}

func (j *Journal) startEmbedded(ctx context.Context) (*embedded, error) {
	config := j.config
	lock, err := lockDir(ctx, config.Dir, config.Logger)
	if err != nil {
		return nil, err
	}
	if config.Cluster == nil {
		if err := j.takeLogs(ctx); err != nil {
			_ = lock.Close()
			return nil, err
		}
	}
	e := &embedded{
		lock: lock, dir: config.Dir, size: config.Size, cluster: config.Cluster, logger: config.Logger,
		stopped: make(chan struct{}), broken: make(chan struct{}, 1),
	}
	if e.cluster != nil {
		e.dir = filepath.Join(e.dir, clusterDir)
		e.certificates.dir = e.cluster.Certificates
	}
	if err := e.start(); err != nil {
		_ = lock.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.stop = cancel
	go e.supervise(ctx)
	return e, nil
}

// options are those of a server that starts now.
func (e *embedded) options() (*server.Options, error) {
	options := &server.Options{
		ServerName: "receiver", DontListen: true, NoSigs: true, DisableJetStreamBanner: true,
		JetStream: true, StoreDir: e.dir, SyncAlways: true, SyncInterval: syncInterval,
		JetStreamMaxStore: storeOvercommit * max(e.size, minStore), JetStreamMaxMemory: 1 << 20,
		MaxPayload: 2 * maxGroupBytes,
	}
	if e.cluster == nil {
		return options, nil
	}
	return options, e.cluster.apply(options, &e.certificates)
}

func (e *embedded) start() error {
	options, err := e.options()
	if err != nil {
		return err
	}
	s, err := server.NewServer(options)
	if err != nil {
		return fmt.Errorf("cannot configure the embedded log: %w", err)
	}
	s.SetLoggerV2(serverLog{e.logger}, false, false, false)
	s.Start()
	if e.cluster != nil {
		startRouting(s)
	}
	if !s.ReadyForConnections(serverStart) || !s.JetStreamEnabled() {
		s.Shutdown()
		return fmt.Errorf("cannot start the embedded log in %s: see the log above", options.StoreDir)
	}
	e.mu.Lock()
	e.server = s
	e.mu.Unlock()
	return nil
}

// running is the server, or nil while it is being restarted.
func (e *embedded) running() *server.Server {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.server
}

// InProcessConn implements nats.InProcessConnProvider over restarts.
func (e *embedded) InProcessConn() (net.Conn, error) {
	s := e.running()
	if s == nil {
		return nil, errNotRunning
	}
	return s.InProcessConn()
}

// supervise restarts a server that has stopped serving.
func (e *embedded) supervise(ctx context.Context) {
	defer close(e.stopped)
	pause := superviseTick
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if e.serves() {
			pause = superviseTick
			e.renewCertificates(time.Now())
			continue
		}
		e.logger.Warn("the embedded log has stopped; restarting it")
		e.shutdown()
		if err := e.start(); err != nil {
			pause = min(2*pause, maxRestart)
			e.logger.Error("cannot restart the embedded log", "error", err)
		}
	}
}

// distrust has the server restarted although it seems to run.
func (e *embedded) distrust() {
	select {
	case e.broken <- struct{}{}:
	default:
	}
}

func (e *embedded) serves() bool {
	select {
	case <-e.broken:
		return false
	default:
	}
	s := e.running()
	return s != nil && s.Running() && s.JetStreamEnabled()
}

func (e *embedded) shutdown() {
	e.mu.Lock()
	s := e.server
	e.server = nil
	e.mu.Unlock()
	if s != nil {
		s.Shutdown()
		s.WaitForShutdown()
	}
}

func (e *embedded) close() {
	e.stop()
	<-e.stopped
	e.shutdown()
	_ = e.lock.Close() // and with it the lock goes
}

const lockInterval = 50 * time.Millisecond

// lockDir waits until no other process has the logs open: the container of a pod that was deleted
// by force may still run when the next pod starts on the same volume, and two writers spoil the
// logs. The lock ends with the process that holds it.
func lockDir(ctx context.Context, dir string, logger *slog.Logger) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of the logs: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator names the directory
	if err != nil {
		return nil, fmt.Errorf("cannot lock the logs: %w", err)
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !told {
			logger.Warn("another process has the logs open; waiting for it to end")
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || !waitFor(ctx, nil, lockInterval) {
			_ = file.Close()
			return nil, fmt.Errorf("cannot lock the logs: %w", errors.Join(err, context.Cause(ctx)))
		}
	}
}

// serverLog carries the server's log lines into ours. What the server calls a notice is detail
// here.
type serverLog struct{ logger *slog.Logger }

func (l serverLog) log(level slog.Level, format string, v []any) {
	if l.logger.Enabled(context.Background(), level) {
		l.logger.Log(context.Background(), level, fmt.Sprintf(format, v...), "component", "jetstream")
	}
}

func (l serverLog) Noticef(format string, v ...any) { l.log(slog.LevelDebug, format, v) }
func (l serverLog) Warnf(format string, v ...any)   { l.log(slog.LevelWarn, format, v) }
func (l serverLog) Errorf(format string, v ...any)  { l.log(slog.LevelError, format, v) }
func (l serverLog) Fatalf(format string, v ...any)  { l.log(slog.LevelError, format, v) }
func (l serverLog) Debugf(format string, v ...any)  { l.log(slog.LevelDebug, format, v) }
func (l serverLog) Tracef(string, ...any)           {}
