// Package dialects knows all dialects by the type of their PBX.
package dialects

import (
	"fmt"
	"strings"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/callable"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/history"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/linuxbox"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/ringme"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/voipnow"
)

// types are those of PBXs, as in PBXIntegration.
var types = []string{"RingMe", "VoipNow", "Callable", "LinuxBox"}

// Settings are what an integration says about its PBX. The zero value is what the documents
// describe; only the member of the type in question is looked at.
type Settings struct {
	Callable callable.Config
	LinuxBox linuxbox.Config
}

// New returns the dialect of a type of PBX, compared without case. It also reads calls from the
// PBX's history. Only LinuxBox says of every unanswered call from outside that it was missed.
//
// What it returns is guarded: see [dialect.Guard].
func New(pbx string, settings Settings) (dialect.Dialect, error) {
	d, err := of(pbx, settings)
	if err != nil {
		return nil, err
	}
	return dialect.Guard(d), nil
}

func of(pbx string, settings Settings) (dialect.Dialect, error) {
	switch strings.ToLower(pbx) {
	case "ringme":
		return history.Over(ringme.Dialect{}, callevent.MissedUnsaid), nil
	case "voipnow":
		return history.Over(voipnow.Dialect{}, callevent.MissedUnsaid), nil
	case "callable":
		return callable.New(settings.Callable), nil // it has no history
	case "linuxbox":
		d, err := linuxbox.New(settings.LinuxBox)
		if err != nil {
			return nil, err
		}
		return history.Over(d, callevent.MissedUnlessAnswered), nil
	default:
		return nil, fmt.Errorf("unknown PBX type %q: expected %s", pbx, strings.Join(types, ", "))
	}
}
