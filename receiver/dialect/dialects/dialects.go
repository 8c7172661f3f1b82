// Package dialects knows all dialects by the type of their PBX.
package dialects

import (
	"fmt"
	"strings"

	"github.com/pbx-operator/pbx-operator/receiver/dialect"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/callable"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/linuxbox"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/ringme"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/voipnow"
)

// types are those of PBXs, as in PBXIntegration.
var types = []string{"RingMe", "VoipNow", "Callable", "LinuxBox"}

// Settings are what an integration says about its PBX. The zero value is what the documents describe; only the member of the type in
// question is looked at.
type Settings struct {
	Callable callable.Config
	LinuxBox linuxbox.Config
}

// New returns the dialect of a type of PBX, compared without case.
func New(pbx string, settings Settings) (dialect.Dialect, error) {
	switch strings.ToLower(pbx) {
	case "ringme":
		return ringme.Dialect{}, nil
	case "voipnow":
		return voipnow.Dialect{}, nil
	case "callable":
		return callable.New(settings.Callable), nil
	case "linuxbox":
		return linuxbox.New(settings.LinuxBox)
	default:
		return nil, fmt.Errorf("unknown PBX type %q: expected %s", pbx, strings.Join(types, ", "))
	}
}
