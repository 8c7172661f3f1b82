package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/callable"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/delivery"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/exchange"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/linuxbox"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/ringme"
	"github.com/pbx-operator/pbx-operator/hack/pbxsim/voipnow"
)

// system is the API of the PBX that is simulated, and what the rest of the simulator has to know of
// it.
type system interface {
	http.Handler
	router
	failer
	// Profile is the installation of the PBX that an account has, as scenarios know it.
	Profile(account int) string
	// Delivery returns the delivery options in force.
	Delivery() delivery.Options
	// Foreign invents the i-th registration of another integration.
	Foreign(r exchange.Registration, i int) exchange.Registration
}

// What only some systems have.
type (
	tokenKiller interface{ KillTokens(clientID string) int }
	quotaSetter interface{ SetQuotaUsed(account, used int) }
	agentSetter interface {
		SetAgent(ctx context.Context, extension int, name, status string) (exchange.Agent, error)
	}
	// hooked systems are told where to send events by an administrator.
	hooked interface {
		Hook(account int, dialect string) (methods []string, ok bool)
	}
)

// newSystem returns the API of the configured PBX, with its settings.
func newSystem(cfg Config, x *exchange.Exchange) (system, settings, error) {
	switch cfg.PBX {
	case "ringme":
		a, err := ringme.New(x, cfg.Settings, cfg.Now)
		return a, settingsOf[ringme.Settings]{a, cfg.Settings}, err
	case "voipnow":
		a, err := voipnow.New(x, cfg.VoipNow, cfg.Now)
		return a, settingsOf[voipnow.Settings]{a, cfg.VoipNow}, err
	case "callable":
		a := callable.New(cfg.Callable)
		return a, settingsOf[callable.Settings]{a, cfg.Callable}, nil
	case "linuxbox":
		a, err := linuxbox.New(x, cfg.LinuxBox)
		return a, settingsOf[linuxbox.Settings]{a, cfg.LinuxBox}, err
	default:
		return nil, nil, fmt.Errorf("the PBX %q is not simulated", cfg.PBX)
	}
}

// settings are those of the PBX, whatever their type.
type settings interface {
	current() any
	patch(raw []byte) (any, error) // sets the members that the JSON object names
	reset()
}

// settingsOf are settings of one type.
type settingsOf[S any] struct {
	api interface {
		Settings() S
		Change(s S)
		Reset(s S)
	}
	initial S
}

func (s settingsOf[S]) current() any { return s.api.Settings() }

func (s settingsOf[S]) patch(raw []byte) (any, error) {
	next := s.api.Settings()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&next); err != nil {
		return nil, fmt.Errorf("invalid settings: %w", err)
	}
	s.api.Change(next)
	return s.api.Settings(), nil
}

func (s settingsOf[S]) reset() { s.api.Reset(s.initial) }
