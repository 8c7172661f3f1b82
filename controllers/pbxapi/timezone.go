package pbxapi

import (
	"fmt"
	"time"
)

// TimeZone finds a time zone by its IANA name; an empty one is UTC. It returns ErrInvalid, which
// names the field, for an unknown one.
func TimeZone(field, name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil || zone == time.Local { // which is that of the manager's machine, not of the PBX
		return nil, NewError(ErrInvalid, "connect to the PBX", fmt.Sprintf("%s %q is no time zone such as Europe/Prague", field, name))
	}
	return zone, nil
}
