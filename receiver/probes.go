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
)

func listenProbes(ctx context.Context, r *receiver) (*probes, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := r.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusOK)
	})
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

func (p *probes) close() { _ = p.server.Close() }

// ready returns nil if an event could be made durable right now.
func (r *receiver) ready() error {
	switch {
	case r.stopping.Load():
		return errStopping
	case !r.opened.Load():
		return errStarting
	case !r.table.Loaded():
		return errNoTable
	case !r.taking.Load():
		return errNoPort
	default:
		return r.journal.Check()
	}
}
