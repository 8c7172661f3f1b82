// Package sim is the PBX simulator as a library: a PBX with its management API, and the control
// plane through which tests place calls, cause faults and count requests. Package simclient drives
// the control plane; package simtest starts both for a test.
package sim

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/callable"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/linuxbox"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/ringme"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/voipnow"
)

// Config describes the PBX. What is left out is that of [DefaultConfigOf] the PBX.
type Config struct {
	PBX      string             `json:"pbx"` // ringme (default), voipnow, callable or linuxbox
	Accounts []exchange.Account `json:"accounts"`

	// The settings of the PBX that is simulated; the others are of no account.
	Settings ringme.Settings   `json:"settings"` // of ringme
	VoipNow  voipnow.Settings  `json:"voipNow"`
	Callable callable.Settings `json:"callable"`
	LinuxBox linuxbox.Settings `json:"linuxBox"`

	Now    func() time.Time `json:"-"` // default time.Now
	Logger *slog.Logger     `json:"-"` // default: silent
}

// Credentials of the default application.
const (
	DefaultClientID     = "pbx-operator"
	DefaultClientSecret = "simulated-secret"
)

// DefaultConfig is a RingMe PBX with one account, the cast of the scenarios and one queue agent.
func DefaultConfig() Config { return DefaultConfigOf("ringme") }

// DefaultConfigOf is a PBX with one account and the cast of its scenarios; for RingMe with one
// queue agent too.
func DefaultConfigOf(pbx string) Config {
	pbx = strings.ToLower(pbx)
	account := exchange.Account{
		ID: 12, Prefix: "1234", Domain: "sip.example.com",
		Apps: []exchange.App{{ClientID: DefaultClientID, ClientSecret: DefaultClientSecret}},
	}
	switch pbx {
	case "voipnow":
		account.ID, account.Prefix, account.Domain = 7, "0007", "pbx.example.com"
	case "callable":
		account.ID, account.Prefix, account.Domain = 170, "", "tenant.example.com"
	case "linuxbox":
		account.ID, account.Prefix, account.Domain = 3, "", "pbx.example.com"
	default:
		account.Agents = []exchange.Agent{{ID: 77, Number: "101", Name: "Ann Novak", Status: exchange.LoggedOut}}
	}
	for _, party := range scenario.CastOf(pbx).Extensions {
		id, err := strconv.Atoi(party.ID)
		if err != nil {
			continue // the PBX chooses one
		}
		account.Extensions = append(account.Extensions, exchange.Extension{
			ID: id, Number: party.Short(), Type: party.Type, Label: party.Label,
		})
	}
	return Config{
		PBX: pbx, Accounts: []exchange.Account{account}, Settings: ringme.DefaultSettings(),
		VoipNow: voipnow.DefaultSettings(), LinuxBox: linuxbox.DefaultSettings(),
	}
}

func (c Config) complete() Config {
	c.PBX = strings.ToLower(cmp.Or(c.PBX, "ringme"))
	if len(c.Accounts) == 0 {
		c.Accounts = DefaultConfigOf(c.PBX).Accounts
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
	pbx       system
	settings  settings
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
	s := &Server{
		cfg: cfg, log: cfg.Logger, sender: sender, x: x, scenarios: scenarios,
		counters: newCounters(cfg.Now), faults: &faults{}, loads: newLoads(),
	}
	if s.pbx, s.settings, err = newSystem(cfg, x); err != nil {
		return nil, err
	}
	return s, nil
}

// API is what clients of the PBX see. Every request is counted, also one that a fault hits.
func (s *Server) API() http.Handler {
	return s.counters.around(s.pbx, s.faults.around(s.x, s.pbx))
}

// Reset puts everything back to how it started.
func (s *Server) Reset() error {
	s.loads.stop()
	s.faults.set(nil)
	s.settings.reset()
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
