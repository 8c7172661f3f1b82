package publish

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// objectCache is what this receiver knows of the CallLegs of its integration: which exist, what
// they say, and which may go. It holds at most one entry per object, so the cap on objects bounds
// it too.
type objectCache struct {
	mu      sync.Mutex
	entries map[string]*entry
	// evictable are finished legs, the oldest at the end. Younger ones are found when these are
	// used up.
	evictable []string
}

// entry is one CallLeg.
type entry struct {
	uid types.UID
	// resourceVersion as of our last write. Empty: the object must be read before it is written.
	resourceVersion string
	revision        int64
	content         digest
	// expires is the bucket of a finished leg; empty while the leg lasts.
	expires string
	// created as the last count had it.
	created time.Time
	written time.Time
	// recorded is when the newest state on show came into the LEGS log; zero where an earlier run
	// of the receiver has shown it.
	recorded time.Time
	// announced tells that the Event of a missed call is out.
	announced bool
	// busy marks an object that is being created, and counts already.
	busy bool
}

// digest reports whether two states of a CallLeg look the same to a reader.
type digest [sha256.Size]byte

// digestOf leaves out the revision, which also grows with events of other legs; and the list of
// events unless they are wanted.
func digestOf(status v1alpha1.CallLegStatus, withEvents bool) (digest, error) {
	status.Revision = 0
	if !withEvents {
		status.Events = nil
	}
	text, err := json.Marshal(status)
	if err != nil {
		return digest{}, fmt.Errorf("cannot encode a call leg: %w", err)
	}
	return sha256.Sum256(text), nil
}

func newObjectCache() *objectCache { return &objectCache{entries: map[string]*entry{}} }

// get returns a copy of an entry.
func (c *objectCache) get(name string) (entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.entries[name]
	if !ok {
		return entry{}, false
	}
	return *known, true
}

func (c *objectCache) put(name string, known entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[name] = &known
}

func (c *objectCache) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, name)
}

// seen notes a revision that looks like the one on show.
func (c *objectCache) seen(name string, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.entries[name]; ok {
		known.revision = max(known.revision, revision)
	}
}

// unread says that an object exists, or may exist, in a state that is not known.
func (c *objectCache) unread(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.entries[name]; ok {
		known.resourceVersion, known.busy = "", false
	} else {
		c.entries[name] = &entry{}
	}
}

func (c *objectCache) announced(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.entries[name]; ok {
		known.announced = true
	}
}

// reserve takes a place for a new object if there are fewer than limit.
func (c *objectCache) reserve(name string, limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[name]; !ok && len(c.entries) >= limit {
		return false
	}
	c.entries[name] = &entry{busy: true}
	return true
}

// nextToEvict returns the oldest finished leg. It keeps its place until it is forgotten.
func (c *objectCache) nextToEvict() (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range 2 {
		for len(c.evictable) > 0 {
			name := c.evictable[len(c.evictable)-1]
			c.evictable = c.evictable[:len(c.evictable)-1]
			if known, ok := c.entries[name]; ok && known.expires != "" {
				return name, true
			}
		}
		c.evictable = c.finished()
	}
	return "", false
}

// keep takes back that a leg was to be evicted.
func (c *objectCache) keep(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.evictable = append(c.evictable, name)
}

// finished are the names of the finished legs, the oldest at the end.
func (c *objectCache) finished() []string {
	names := slices.DeleteFunc(slices.Collect(maps.Keys(c.entries)), func(name string) bool { return c.entries[name].expires == "" })
	slices.SortFunc(names, func(a, b string) int {
		first, second := c.entries[a], c.entries[b]
		return -cmp.Or(first.recorded.Compare(second.recorded), cmp.Compare(first.expires, second.expires),
			first.written.Compare(second.written), cmp.Compare(a, b))
	})
	return names
}

func (c *objectCache) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}

// lost are the live legs that were created before the given time and not written since: nobody will
// ever finish them.
func (c *objectCache) lost(before time.Time) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for name, known := range c.entries {
		counted := !known.created.IsZero() && !known.busy
		if counted && known.expires == "" && known.created.Before(before) && known.written.Before(before) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// listed is what a list of metadata says of one object.
type listed struct {
	uid                      types.UID
	resourceVersion, expires string
	created                  time.Time
}

// recount corrects the object cache by a complete list that was begun at the given time. What was
// written later than that, or is being written, is known better here.
func (c *objectCache) recount(objects map[string]listed, begun time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, known := range c.entries {
		if _, exists := objects[name]; !exists && !known.busy && known.written.Before(begun) {
			delete(c.entries, name)
		}
	}
	for name, object := range objects {
		known, ok := c.entries[name]
		switch {
		case !ok:
			c.entries[name] = &entry{uid: object.uid, expires: object.expires, created: object.created}
			continue
		case !known.busy && known.written.Before(begun) && known.resourceVersion != object.resourceVersion:
			known.resourceVersion, known.expires = "", object.expires
		}
		known.created = object.created
	}
}
