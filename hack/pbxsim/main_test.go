package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
)

// freeAddress returns a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func TestRunServesUntilTheSignal(t *testing.T) {
	api, control := freeAddress(t), freeAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, []string{"--address", api, "--control-address", control}) }()
	for _, address := range []string{api, control} {
		if err := healthy(ctx, "http://"+address+"/healthz"); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

func TestOnlyLinuxBoxHasADatabase(t *testing.T) {
	err := run(t.Context(), []string{"--pbx", "voipnow", "--database", "postgres://u@127.0.0.1:1/x"})
	if err == nil || !strings.Contains(err.Error(), "--database is for linuxbox") {
		t.Errorf("got %v", err)
	}
}

// healthy polls for up to five seconds.
func healthy(ctx context.Context, target string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			return resp.Body.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func TestConfiguration(t *testing.T) {
	write := func(text string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "pbx.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	cfg, err := configuration("testdata/two-accounts.yaml", "ringme")
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Accounts) != 2 || cfg.Accounts[1].Extensions[0].Number != "099" || time.Duration(cfg.Settings.TokenLifetime) != 5*time.Minute {
		t.Errorf("configuration: %+v", cfg)
	}
	if cfg.Settings.EventLimit != 16 {
		t.Errorf("a setting that the file leaves out is %d", cfg.Settings.EventLimit)
	}
	cfg, err = configuration(write("voipNow: {profile: early, createAnswer: none}"), "voipnow")
	if err != nil || cfg.VoipNow.Profile != "early" || cfg.VoipNow.PageSize != 20 || cfg.PBX != "voipnow" {
		t.Errorf("settings of a VoipNow: %+v, %v", cfg.VoipNow, err)
	}
	if _, err := configuration(write("accountz: []"), "ringme"); err == nil || !strings.Contains(err.Error(), "accountz") {
		t.Errorf("misspelt member: %v", err)
	}
	if _, err := configuration("absent.yaml", "ringme"); err == nil {
		t.Error("a file that is not there was read")
	}
	if _, err := sim.New(sim.Config{PBX: "asterisk"}); err == nil || !strings.Contains(err.Error(), "ringme") {
		t.Errorf("a PBX that is not simulated: %v", err)
	}
}
