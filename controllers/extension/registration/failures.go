package registration

import (
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// Failures measures for how long the removal of registrations has failed, for deadlines. What
// counts is the time from an attempt that failed at the PBX to the next one. To wait for a turn is
// no failure, be it at our own rate limit or because of a 429: that ends by itself, however many
// registrations there are. The measure is kept in memory, so that a restart begins anew.
type Failures struct {
	mu sync.Mutex
	of map[types.UID]failing
}

type failing struct {
	total time.Duration
	// since is when the last attempt failed; zero when the last one did not.
	since time.Time
}

// NewFailures returns a measure that knows of none.
func NewFailures() *Failures { return &Failures{of: map[types.UID]failing{}} }

// Note takes the outcome of an attempt, and returns for how long attempts of the object have failed
// altogether.
func (f *Failures) Note(object types.UID, now time.Time, err error) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.of[object]
	if !known.since.IsZero() {
		known.total += max(now.Sub(known.since), 0)
	}
	known.since = time.Time{}
	if failedAtPBX(err) {
		known.since = now
	}
	f.of[object] = known
	return known.total
}

// failedAtPBX reports whether the PBX gave no answer, or one that does not help.
func failedAtPBX(err error) bool {
	_, limited := errors.AsType[*pbxapi.RateLimitedError](err)
	_, known := errors.AsType[*pbxapi.Error](err)
	return known && !limited
}

// Forget drops what is kept of an object that is gone.
func (f *Failures) Forget(object types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.of, object)
}
