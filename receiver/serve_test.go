package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

const ringing = "EventType=dial-in&CallID=c1&SubCallID=5101-c1&CallStatus=CALLING&CallerIDNum=%2B12025550143&CalledNumber=1234*101&EventTime=1767348000000000"

// post sends one event and returns the status.
func (c *child) post(t *testing.T, body string) int {
	t.Helper()
	response, err := http.Post("http://"+c.address+"/ext-event/"+testToken, "application/x-www-form-urlencoded", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode
}

func TestOpenCallGoesOnAfterARestart(t *testing.T) {
	c := newChild(t)
	c.start(t)
	if status := c.post(t, ringing); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	c.stop(t)
	if took := c.start(t); took > 10*time.Second {
		t.Errorf("the restart took %v", took)
	}
	hangup := strings.Replace(ringing, "EventType=dial-in", "EventType=hangup", 1)
	if status := c.post(t, hangup); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	c.awaitCorrelation(t)
	c.stop(t)
	legs := readLegs(t, filepath.Join(c.dir, "data"))
	if len(legs) != 1 || len(legs[0].Events) != 2 || legs[0].Phase != correlation.Completed {
		t.Errorf("got %+v", legs)
	}
}

// A pod that is deleted by force may still run when its successor starts on the same volume.
func TestTheSuccessorWaitsForTheEndOfItsPredecessor(t *testing.T) {
	old := newChild(t)
	old.start(t)
	successor := newChild(t)
	successor.arguments = []string{"--data-dir", filepath.Join(old.dir, "data")}
	started := make(chan struct{})
	go func() { defer close(started); successor.start(t) }()
	if status := old.post(t, ringing); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	old.awaitCorrelation(t)
	select {
	case <-started:
		t.Fatal("both have the logs open")
	default:
	}
	old.kill()
	<-started
	if status := successor.post(t, strings.Replace(ringing, "EventType=dial-in", "EventType=hangup", 1)); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	successor.awaitCorrelation(t)
	successor.stop(t)
	if legs := readLegs(t, filepath.Join(old.dir, "data")); len(legs) != 1 || legs[0].Phase != correlation.Completed {
		t.Errorf("got %+v", legs)
	}
}

func TestMetricsHoldNoSecretsAndNoNumbers(t *testing.T) {
	c := newChild(t)
	c.start(t)
	for _, body := range []string{ringing, "nonsense", "agent_id=77&agent_status=available&extension_name=1234*101%40sip.example.com"} {
		c.post(t, body)
	}
	response, err := http.Get("http://" + c.probes + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{testToken, "12025550143", "1234*101", "nonsense"} {
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("the metrics hold %s", secret)
		}
	}
	for _, line := range []string{
		`pbx_receiver_requests_total{code="200"} 2`, `pbx_receiver_requests_total{code="422"} 1`, `pbx_receiver_quarantined_total 1`,
		`pbx_receiver_events_total{type="DialIn"} 1`, `pbx_receiver_events_total{type="Agent"} 1`, `pbx_receiver_log_records{log="QUARANTINE"} 1`,
		`pbx_receiver_log_records{log="CALLS"} 0`,
	} {
		if !bytes.Contains(text, []byte(line+"\n")) {
			t.Errorf("the metrics lack %s", line)
		}
	}
}

func TestBadFlags(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "")
	for name, c := range map[string]struct {
		args   []string
		code   int
		reason string
	}{
		"no command":      {nil, exitUsage, "Usage"},
		"unknown command": {[]string{"sreve"}, exitUsage, "sreve"},
		"unknown flag":    {[]string{"serve", "--listne", "x"}, exitUsage, "listne"},
		"no integration":  {[]string{"serve"}, exitUsage, "--integration"},
		"argument":        {[]string{"serve", "--integration", "x", "--namespace", "y", "z"}, exitUsage, `"z"`},
		"replicas":        {[]string{"serve", "--sources-file", "x", "--nats-replicas", "9"}, exitUsage, "--nats-replicas"},
		"no file":         {[]string{"serve", "--sources-file", "none", "--data-dir", t.TempDir(), "--probe-listen", "127.0.0.1:0"}, exitFailure, "none"},
		"bad address":     {[]string{"serve", "--sources-file", "none", "--data-dir", t.TempDir(), "--probe-listen", "no:such:address"}, exitFailure, "probes"},
		"help":            {[]string{"serve", "--help"}, 0, "--integration"},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			if code := run(t.Context(), c.args, io.Discard, &stderr); code != c.code || !strings.Contains(stderr.String(), strings.TrimPrefix(c.reason, "--")) {
				t.Errorf("exit status %d, message %q", code, stderr.String())
			}
		})
	}
}

func TestReadinessFollowsTheLog(t *testing.T) {
	r := newReceiver(options{}, discard())
	if err := r.ready(); err == nil {
		t.Error("ready before the logs are open")
	}
	r.options.dataDir, r.options.storageSize, r.options.replicas = t.TempDir(), 64<<20, 1
	ctx, cancel := context.WithCancel(t.Context())
	file := filepath.Join(t.TempDir(), "sources.yaml")
	if err := os.WriteFile(file, []byte(testSources), 0o600); err != nil {
		t.Fatal(err)
	}
	r.options.sourcesFile, r.options.listen, r.options.probeListen = file, "127.0.0.1:0", "127.0.0.1:0"
	r.options.maxConnections, r.options.shutdownGrace = 10, time.Second
	ended := make(chan error, 1)
	go func() { ended <- r.run(ctx) }()
	waitUntil(t, func() bool { return r.ready() == nil })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := r.ready(); err == nil {
		t.Error("ready after the end")
	}
}
