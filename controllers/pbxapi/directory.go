package pbxapi

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// scanTimeout bounds one list of extensions with all its pages.
const scanTimeout = 2 * time.Minute

// directory is the list of extensions of one PBX, shared by everybody who looks one up by number.
//
// An id always means one number, but a number can come back under another id (RingMe: Internal Number), so the list ages.
type directory struct {
	list        func(context.Context) ([]Extension, error)
	ttl, rescan time.Duration

	flight singleflight.Group
	mu     sync.Mutex
	at     time.Time
	found  map[string]Extension
	ids    map[string]bool
}

// lookup finds an extension by its number. It asks the PBX when the list is old, or lacks the number and was not read just now.
// While a long list is being read it returns a RateLimitedError rather than hold up its caller.
func (d *directory) lookup(ctx context.Context, number string) (Extension, error) {
	extension, ok, age := d.cached(number)
	if ok && age < d.ttl {
		return extension, nil
	}
	if age >= d.rescan {
		if err := d.refresh(ctx); err != nil {
			return Extension{}, err
		}
		extension, ok, _ = d.cached(number)
	}
	if !ok {
		return Extension{}, NewError(ErrNotFound, "find extension "+number, d.hint(number))
	}
	return extension, nil
}

// forget makes the next lookup read the list again, unless it was read just now.
func (d *directory) forget() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.at) < d.rescan {
		return false
	}
	d.at = time.Time{}
	return true
}

func (d *directory) has(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ids[id]
}

func (d *directory) cached(number string) (extension Extension, ok bool, age time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	extension, ok = d.found[number]
	return extension, ok, time.Since(d.at)
}

// hint helps with a number that was given without its prefix.
func (d *directory) hint(number string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for known := range d.found {
		if _, short, cut := strings.Cut(known, "*"); cut && short == number {
			return fmt.Sprintf("did you mean %s?", known)
		}
	}
	return fmt.Sprintf("it is not among the %d extensions of this account", len(d.found))
}

func (d *directory) refresh(ctx context.Context) error {
	result := d.flight.DoChan("", func() (any, error) { return nil, d.scan(ctx) })
	wait := time.NewTimer(shortWait)
	defer wait.Stop()
	select {
	case done := <-result:
		return done.Err
	case <-wait.C:
		return &RateLimitedError{After: 2 * shortWait}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// scan outlives the caller who happened to start it, because others wait for it too.
func (d *directory) scan(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(patient(context.WithValue(context.WithoutCancel(ctx), budgetKey, (*budget)(nil))), scanTimeout)
	defer cancel()
	extensions, err := d.list(ctx)
	if err != nil {
		return err
	}
	found, ids := make(map[string]Extension, len(extensions)), make(map[string]bool, len(extensions))
	for _, extension := range extensions {
		found[extension.Number], ids[extension.ID] = extension, true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at, d.found, d.ids = time.Now(), found, ids
	return nil
}
