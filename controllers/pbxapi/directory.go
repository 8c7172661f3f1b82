package pbxapi

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// scanTimeout bounds one list with all its pages. It is long because most of the time may be spent
// on waiting for a turn: each single request has a timeout of its own, and a list that was cut
// short would begin anew.
const scanTimeout = time.Hour

// roster is a list on one PBX that is read for everybody who looks something up in it by number.
type roster[T any] struct {
	list func(context.Context) ([]T, error)
	// key gives the id and the number of an item.
	key         func(T) (id, number string)
	ttl, rescan time.Duration

	flight singleflight.Group
	mu     sync.Mutex
	at     time.Time
	found  map[string]T
	ids    map[string]bool
}

// forget makes the next lookup read the list again, unless it was read just now.
func (r *roster[T]) forget() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.at) < r.rescan {
		return false
	}
	r.at = time.Time{}
	return true
}

func (r *roster[T]) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ids[id]
}

func (r *roster[T]) cached(number string) (item T, ok bool, age time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	item, ok = r.found[number]
	return item, ok, time.Since(r.at)
}

// refresh reads the list. While a long one is being read it returns a RateLimitedError rather than
// hold up its caller.
func (r *roster[T]) refresh(ctx context.Context) error {
	result := r.flight.DoChan("", func() (any, error) { return nil, r.scan(ctx) })
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
func (r *roster[T]) scan(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(patient(context.WithValue(context.WithoutCancel(ctx), budgetKey, (*budget)(nil))), scanTimeout)
	defer cancel()
	items, err := r.list(ctx)
	if err != nil {
		return err
	}
	found, ids := make(map[string]T, len(items)), make(map[string]bool, len(items))
	for _, item := range items {
		id, number := r.key(item)
		found[number], ids[id] = item, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at, r.found, r.ids = time.Now(), found, ids
	return nil
}

// directory is the list of extensions of one PBX.
//
// An id always means one number, but a number can come back under another id (RingMe: Internal
// Number), so the list ages.
type directory struct{ roster[Extension] }

func newDirectory(list func(context.Context) ([]Extension, error), options Options) *directory {
	return &directory{roster[Extension]{
		list: list, key: func(e Extension) (id, number string) { return e.ID, e.Number },
		ttl: options.DirectoryTTL, rescan: options.DirectoryRescan,
	}}
}

// lookup finds an extension by its number. It asks the PBX when the list is old, or lacks the
// number and was not read just now.
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
