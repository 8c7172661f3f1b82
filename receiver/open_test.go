package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

// startLogServer starts a NATS server with JetStream.
func startLogServer(t testing.TB, options *server.Options) *server.Server {
	t.Helper()
	options.NoSigs, options.JetStream, options.StoreDir = true, true, t.TempDir()
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the JetStream does not become ready")
	}
	return s
}

// readyText is what the receiver says of its readiness; empty while it does not answer.
func (c *child) readyText(t *testing.T) string {
	t.Helper()
	response, err := http.Get("http://" + c.probes + "/readyz")
	if err != nil {
		return ""
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", response.StatusCode, text)
}

// TestWaitsForItsLogServer starts a receiver before its NATS server, which first takes too small
// messages.
func TestWaitsForItsLogServer(t *testing.T) {
	host, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		t.Fatal(err)
	}
	c := newChild(t)
	c.arguments = []string{"--nats-url", "nats://" + net.JoinHostPort(host, port), "--nats-replicas", "1", "--namespace", "telephony", "--integration", "office"}
	c.launch(t)
	waitUntil(t, func() bool { return strings.Contains(c.readyText(t), "cannot be reached") })
	small := startLogServer(t, &server.Options{Host: host, Port: number, MaxPayload: 64 << 10})
	waitUntil(t, func() bool { return strings.Contains(c.readyText(t), "raise max_payload") })
	small.Shutdown()
	small.WaitForShutdown()
	startLogServer(t, &server.Options{Host: host, Port: number})
	c.awaitReady(t)
	if status := c.post(t, ringing); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
}

func TestReasonsForUnopenedLogs(t *testing.T) {
	for name, tc := range map[string]struct {
		err          error
		reason, says string
	}{
		"a limit":     {fmt.Errorf("cannot open the EVENTS log: %w", &journal.LimitError{Need: "raise max_streams"}), v1alpha1.ReasonJournalLimits, "raise max_streams"},
		"credentials": {fmt.Errorf("cannot connect: %w", nats.ErrAuthorization), v1alpha1.ReasonJournalUnreachable, "credentialsSecretRef"},
		"no answer":   {errors.New("dial tcp 10.0.0.1:4222: connection refused"), v1alpha1.ReasonJournalUnreachable, "cannot be reached"},
	} {
		got := unopenedFault(tc.err)
		if got.reason != tc.reason || !strings.Contains(got.message, tc.says) || strings.Contains(got.message, "10.0.0.1") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
