package journal_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// natsServer starts a NATS server with JetStream that listens on the loopback interface.
func natsServer(t *testing.T, options *server.Options) *server.Server {
	t.Helper()
	s := startNATS(t, options)
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	return s
}

func startNATS(t *testing.T, options *server.Options) *server.Server {
	t.Helper()
	return restartNATS(t, options, server.RANDOM_PORT, t.TempDir())
}

// restartNATS starts a server with the port and the streams of an earlier one.
func restartNATS(t *testing.T, options *server.Options, port int, dir string) *server.Server {
	t.Helper()
	options.Host, options.Port, options.JetStream, options.StoreDir, options.NoSigs, options.NoLog = "127.0.0.1", port, true, dir, true, true
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// TestExternalJetStream keeps the logs of two integrations in one JetStream that runs elsewhere.
func TestExternalJetStream(t *testing.T) {
	s := natsServer(t, &server.Options{})
	config := journal.Config{URL: s.ClientURL(), Replicas: 1, Size: 64 << 20}
	config.Owner = journal.Owner{Namespace: "telephony", Name: "office.one"}
	one := open(t, config)
	defer one.Close()
	config.Owner.Name = "office.two"
	two := open(t, config)
	defer two.Close()
	if err := appendEntry(one, 1); err != nil {
		t.Fatal(err)
	}
	put(t, one, leg("c1", "a", 1))
	if got := len(readAll(t, one)); got != 1 {
		t.Errorf("%d events in the first log", got)
	}
	if got := len(readAll(t, two)); got != 0 {
		t.Errorf("%d events of another integration in the second log", got)
	}
	if records, err := one.LegsOfCall(t.Context(), journal.CallKey("c1")); err != nil || len(records) != 1 {
		t.Errorf("legs: %v, %v", records, err)
	}
	s.Shutdown()
	if err := appendEntry(one, 2); err == nil {
		t.Error("an event was acknowledged without a server")
	}
	if err := one.Check(); err == nil {
		t.Error("ready without a server")
	}
}
