// Package simtest starts a simulator on loopback addresses for the length of a test.
package simtest

import (
	"net/http/httptest"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/sim"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/simclient"
)

// TB is the part of testing.TB that Start needs; Ginkgo's GinkgoT() has it too.
type TB interface {
	Helper()
	Cleanup(f func())
	Fatalf(format string, args ...any)
}

// PBX is a running simulator.
type PBX struct {
	URL          string // of the PBX: its API is below
	ControlURL   string
	ClientID     string
	ClientSecret string
	Sim          *simclient.Client
}

// Start runs a simulator until the end of the test. Credentials are those of the first application.
func Start(t TB, cfg sim.Config) *PBX {
	t.Helper()
	server, err := sim.New(cfg)
	if err != nil {
		t.Fatalf("start the PBX simulator: %v", err)
	}
	api, control := httptest.NewServer(server.API()), httptest.NewServer(server.Control())
	t.Cleanup(func() {
		server.Close()
		control.Close()
		api.Close()
	})
	p := &PBX{
		URL: api.URL, ControlURL: control.URL, Sim: simclient.New(control.URL),
		ClientID: sim.DefaultClientID, ClientSecret: sim.DefaultClientSecret,
	}
	if len(cfg.Accounts) > 0 && len(cfg.Accounts[0].Apps) > 0 {
		app := cfg.Accounts[0].Apps[0]
		p.ClientID, p.ClientSecret = app.ClientID, app.ClientSecret
	}
	return p
}
