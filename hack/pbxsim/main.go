// Command pbxsim simulates a PBX: its management API, and the calls whose events it sends to
// whoever registered.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
)

// shutdownTime bounds how long requests in progress may take after a signal.
const shutdownTime = 5 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		slog.Error("pbxsim failed", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("pbxsim", flag.ContinueOnError)
	address := flags.String("address", ":8080", "listen address of the PBX's management or command API")
	control := flags.String("control-address", ":8081", "listen address of the control plane (/sim/, /healthz)")
	file := flags.String("config", "", "YAML file with accounts, extensions and settings; default: one account with the cast of the scenarios")
	pbx := flags.String("pbx", "ringme", "PBX to simulate: ringme, voipnow, callable or linuxbox")
	database := flags.String("database", "", "URL of the PostgreSQL database in which a LinuxBox records its calls, in the table cdr; default: none")
	if err := flags.Parse(args); err != nil {
		return err
	}
	cfg, err := configuration(*file, *pbx)
	if err != nil {
		return err
	}
	if *database != "" {
		if !strings.EqualFold(*pbx, "linuxbox") {
			return fmt.Errorf("a PBX of type %s has no database: --database is for linuxbox", *pbx)
		}
		cfg.LinuxBox.Database = *database
	}
	server, err := sim.New(cfg)
	if err != nil {
		return err
	}
	defer server.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.Handle("/", server.API())
	return serve(ctx, endpoint{*address, mux}, endpoint{*control, server.Control()})
}

// configuration reads the file over the defaults.
func configuration(file, pbx string) (sim.Config, error) {
	cfg := sim.DefaultConfigOf(pbx)
	if file != "" {
		raw, err := os.ReadFile(file)
		if err != nil {
			return cfg, fmt.Errorf("read configuration: %w", err)
		}
		cfg.Accounts = nil
		if err := yaml.UnmarshalStrict(raw, &cfg); err != nil {
			return cfg, fmt.Errorf("configuration %s: %w", file, err)
		}
	}
	cfg.PBX = pbx
	cfg.Logger = slog.Default()
	return cfg, nil
}

// endpoint is a handler and where it listens.
type endpoint struct {
	address string
	handler http.Handler
}

// serve listens on every endpoint until the context ends or a listener fails.
func serve(ctx context.Context, endpoints ...endpoint) error {
	failed := make(chan error, len(endpoints))
	servers := make([]*http.Server, 0, len(endpoints))
	for _, e := range endpoints {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", e.address)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		s := &http.Server{Handler: e.handler, ReadHeaderTimeout: 10 * time.Second}
		servers = append(servers, s)
		go func() { failed <- s.Serve(l) }()
		slog.Info("listening", "address", l.Addr().String())
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	// The parent context is over by now.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	for _, s := range servers {
		err = errors.Join(err, s.Shutdown(ending))
	}
	return err
}
