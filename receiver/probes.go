package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// probes answers the kubelet and Prometheus.
type probes struct{ server *http.Server }

const probeTimeout = 10 * time.Second

var (
	errStarting = errors.New("the logs are being opened")
	errStopping = errors.New("the receiver is stopping")
	errNoTable  = errors.New("it is not known yet which event URLs are valid")
	errNoPort   = errors.New("the port for events is not open yet")
	errStalled  = errors.New("events are not correlated any more, although there are some to read; a restart may help")
)

func listenProbes(ctx context.Context, r *receiver) (*probes, error) {
	mux := http.NewServeMux()
	mux.Handle("/healthz", probe(r.alive))
	mux.Handle("/readyz", probe(r.ready))
	mux.Handle("/metrics", promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: probeTimeout}))
	if r.options.profile {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", r.options.probeListen)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for probes: %w", err)
	}
	p := &probes{server: &http.Server{Handler: mux, ReadHeaderTimeout: probeTimeout, IdleTimeout: time.Minute}}
	go func() { _ = p.server.Serve(listener) }() // it ends with close
	return p, nil
}

// probe answers 200, or 503 with what is wrong.
func probe(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusOK)
	}
}

func (p *probes) close() { _ = p.server.Close() }

// ready returns nil if an event could be made durable right now.
func (r *receiver) ready() error {
	switch {
	case r.stopping.Load():
		return errStopping
	case !r.opened.Load():
		return r.whyUnopened()
	case !r.table.Loaded():
		return errNoTable
	case !r.taking.Load():
		return errNoPort
	default:
		return r.journal.Check()
	}
}

// alive returns nil unless only a restart can help: correlation stands still before events that it
// could read. While the log server is somebody else's and away, a restart would not bring it back.
func (r *receiver) alive() error {
	away := r.options.natsURL != "" && r.ready() != nil
	if stalled := r.stalled(time.Now()); stalled >= stalledTolerated && !away {
		return fmt.Errorf("%w: %s", errStalled, stalled.Round(time.Second))
	}
	return nil
}

// stalled returns for how long correlation has stood still.
func (r *receiver) stalled(now time.Time) time.Duration {
	correlator := r.correlator.Load()
	if correlator == nil {
		return 0
	}
	unread := correlator.Status().Unread
	return r.progress.stalled(now, r.journal.LastEvent()-unread, unread)
}
