// Package sim is the PBX simulator as a library: a PBX with its management API, and the control plane through which
// tests place calls, cause faults and count requests. Package simclient drives the control plane; package simtest
// starts both for a test.
package sim

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/ringme"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
)

// Config describes the PBX. What is left out is that of [DefaultConfig].
type Config struct {
	PBX      string             `json:"pbx"` // ringme, the default and so far the only one
	Accounts []exchange.Account `json:"accounts"`
	Settings ringme.Settings    `json:"settings"`

	Now    func() time.Time `json:"-"` // default time.Now
	Logger *slog.Logger     `json:"-"` // default: silent
}

// Credentials of the default application.
const (
	DefaultClientID     = "pbx-operator"
	DefaultClientSecret = "simulated-secret"
)

// DefaultConfig is a RingMe PBX with one account, the cast of the scenarios and one queue agent.
func DefaultConfig() Config {
	account := exchange.Account{
		ID: 12, Prefix: "1234", Domain: "sip.example.com",
		Apps:   []exchange.App{{ClientID: DefaultClientID, ClientSecret: DefaultClientSecret}},
		Agents: []exchange.Agent{{ID: 77, Number: "101", Name: "Ann Novak", Status: exchange.LoggedOut}},
	}
	for id, number := range map[int]string{5101: "101", 5102: "102", 5103: "103", 5099: "099", 5900: "900", 5901: "901"} {
		party := scenario.DefaultCast().Extensions[number]
		account.Extensions = append(account.Extensions, exchange.Extension{
			ID: id, Number: number, Type: party.Type, Label: party.Label,
		})
	}
	return Config{PBX: "ringme", Accounts: []exchange.Account{account}, Settings: ringme.DefaultSettings()}
}

func (c Config) complete() Config {
	d := DefaultConfig()
	c.PBX = cmp.Or(c.PBX, d.PBX)
	if len(c.Accounts) == 0 {
		c.Accounts = d.Accounts
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Server is a running simulator.
type Server struct {
	cfg       Config
	log       *slog.Logger
	sender    *delivery.Sender
	x         *exchange.Exchange
	pbx       *ringme.API
	counters  *counters
	faults    *faults
	loads     *loads
	scenarios []scenario.Scenario
}

// New returns a simulator that serves nothing yet: mount API and Control.
func New(cfg Config) (*Server, error) {
	cfg = cfg.complete()
	scenarios, err := scenario.All(cfg.PBX)
	if err != nil {
		return nil, err
	}
	sender := delivery.NewSender()
	x, err := exchange.New(cfg.Accounts, sender, cfg.Now)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	api, err := ringme.New(x, cfg.Settings, cfg.Now)
	if err != nil {
		return nil, err
	}
	return &Server{
		cfg: cfg, log: cfg.Logger, sender: sender, x: x, pbx: api, scenarios: scenarios,
		counters: newCounters(cfg.Now), faults: &faults{}, loads: newLoads(),
	}, nil
}

// API is what clients of the PBX see. Every request is counted, also one that a fault hits.
func (s *Server) API() http.Handler {
	return s.counters.around(s.pbx, s.faults.around(s.x, s.pbx))
}

// Reset puts everything back to how it started.
func (s *Server) Reset() error {
	s.loads.stop()
	s.faults.set(nil)
	s.pbx.Reset(s.cfg.Settings)
	err := s.x.Reset(s.cfg.Accounts)
	s.counters.reset()
	return err
}

// Close abandons calls and load runs and closes connections.
func (s *Server) Close() {
	s.loads.stop()
	s.x.Close()
	s.sender.Close()
}
