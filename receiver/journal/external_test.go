package journal_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// TestExternalJetStream keeps the logs of two integrations in one JetStream that runs elsewhere.
func TestExternalJetStream(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	config := journal.Config{URL: s.ClientURL(), Size: 64 << 20}
	config.Name = "telephony-office.one"
	one := open(t, config)
	defer one.Close()
	config.Name = "telephony-office.two"
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
