package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits bound what a slow or hostile client can hold.
type Limits struct {
	// Connections at a time. Beyond them, and beyond PerSource of one address, the oldest
	// connection that has called no valid event URL is closed for each new one. PerSource is a
	// quarter of all by default.
	Connections, PerSource int
	// HeaderBytes of one request, the URL included.
	HeaderBytes int
	// Header and Body are how long a client may take to send each.
	Header, Body time.Duration
	// Answer is how long a request may take in all.
	Answer time.Duration
	// Idle is how long a connection without a request stays open.
	Idle time.Duration
}

// defaultSources is how many addresses have to join to take all connections.
const defaultSources = 4

// DefaultLimits suit a PBX, which sends small requests at once.
func DefaultLimits() Limits {
	return Limits{
		Connections: 4096, HeaderBytes: 16 << 10,
		Header: 5 * time.Second, Body: 10 * time.Second, Answer: 20 * time.Second, Idle: 2 * time.Minute,
	}
}

// Server serves a handler within limits.
type Server struct {
	server   *http.Server
	listener net.Listener
}

// Listen opens a server's port. Serve answers.
func Listen(ctx context.Context, address string, handler *Handler, limits Limits, logger *slog.Logger) (*Server, error) {
	port, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for events: %w", err)
	}
	if limits.PerSource == 0 {
		limits.PerSource = max(limits.Connections/defaultSources, 1)
	}
	return &Server{
		listener: &listener{Listener: port, all: newConnections(limits.Connections, limits.PerSource, handler.config.Metrics)},
		server: &http.Server{
			Handler:           handler,
			ConnContext:       withConnection,
			ReadHeaderTimeout: limits.Header,
			ReadTimeout:       limits.Body,
			WriteTimeout:      limits.Answer,
			IdleTimeout:       limits.Idle,
			MaxHeaderBytes:    limits.HeaderBytes,
			ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		},
	}, nil
}

// Addr is the address that is listened on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers until Shutdown.
func (s *Server) Serve() error {
	if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot take events any more: %w", err)
	}
	return nil
}

// Shutdown takes no new requests and waits for those that came in, until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("requests were cut off: %w", err), s.server.Close())
	}
	return nil
}
