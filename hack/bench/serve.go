package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"

	"github.com/pbx-operator/pbx-operator/receiver/dialect/ringme"
	"github.com/pbx-operator/pbx-operator/receiver/ingest"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

// What is compared with the receiver runs in a process of its own: this program, called with these
// arguments.
const (
	serveCommand = "serve"
	serveBare    = "bare"
	serveLimit   = "limit"
	serveIngest  = "ingest"

	// logSize has room for all events of a run, as nothing is correlated and thereby made
	// superfluous. Bytes.
	logSize = 8 << 30
)

// serve is `bench serve bare ADDRESS`, `bench serve limit ADDRESS FILE`, or
// `bench serve ingest ADDRESS SOURCES DIRECTORY`.
func serve(ctx context.Context, args []string) int {
	var err error
	switch {
	case len(args) == 2 && args[0] == serveBare:
		err = bare(ctx, args[1])
	case len(args) == 3 && args[0] == serveLimit:
		err = limit(ctx, args[1], args[2])
	case len(args) == 4 && args[0] == serveIngest:
		err = ingestOnly(ctx, args[1], args[2], args[3])
	default:
		err = fmt.Errorf("cannot serve %q", args)
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// bare is the plainest server that Go has, with a handler that does nothing: what everything is
// measured against.
func bare(ctx context.Context, address string) error {
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(sayYes)}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve %s: %w", address, err)
	}
	return nil
}

func sayYes(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // a client that has gone is no concern here
	w.WriteHeader(http.StatusNoContent)
}

// ingestOnly is the front door of the receiver with nothing behind it: decoded and durable, not
// correlated.
func ingestOnly(ctx context.Context, address, file, dir string) error {
	table := &sources.Table{}
	if err := table.LoadFile(file); err != nil {
		return err
	}
	log, err := journal.Open(ctx, journal.Config{Dir: dir, Size: logSize})
	if err != nil {
		return err
	}
	defer log.Close()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	handler := ingest.New(ingest.Config{Resolver: table, Journal: log, Dialect: ringme.Dialect{}, Logger: logger})
	server, err := ingest.Listen(ctx, address, handler, ingest.DefaultLimits(), logger)
	if err != nil {
		return err
	}
	closed := make(chan error, 1)
	context.AfterFunc(ctx, func() { closed <- server.Shutdown(context.WithoutCancel(ctx)) })
	if err := server.Serve(); err != nil {
		return err
	}
	return <-closed
}
