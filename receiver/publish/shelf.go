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

// shelf is what this receiver knows of the CallLegs of its integration: which exist, what they say, and which may go. It holds at
// most one entry per object, so the cap on objects bounds it too.
type shelf struct {
	mu      sync.Mutex
	entries map[string]*entry
	// victims are finished legs, those that expire first at the end. Younger ones are found when these are used up.
	victims []string
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
	// announced tells that the Event of a missed call is out.
	announced bool
	// busy marks an object that is being created, and counts already.
	busy bool
}

// digest tells whether two states of a CallLeg look the same to a reader.
type digest [sha256.Size]byte

// digestOf leaves out the revision, which also grows with events of other legs; and the list of events unless they are wanted.
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

func newShelf() *shelf { return &shelf{entries: map[string]*entry{}} }

// get returns a copy of an entry.
func (s *shelf) get(name string) (entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.entries[name]
	if !ok {
		return entry{}, false
	}
	return *known, true
}

func (s *shelf) put(name string, known entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries[name] = &known
}

func (s *shelf) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, name)
}

// seen notes a revision that looks like the one on show.
func (s *shelf) seen(name string, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.entries[name]; ok {
		known.revision = max(known.revision, revision)
	}
}

// unread says that an object exists, or may exist, in a state that is not known.
func (s *shelf) unread(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.entries[name]; ok {
		known.resourceVersion, known.busy = "", false
	} else {
		s.entries[name] = &entry{}
	}
}

func (s *shelf) announced(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.entries[name]; ok {
		known.announced = true
	}
}

// reserve takes a place for a new object if there are fewer than limit.
func (s *shelf) reserve(name string, limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.entries[name]; !ok && len(s.entries) >= limit {
		return false
	}
	s.entries[name] = &entry{busy: true}
	return true
}

// victim is the finished leg that expires first. It keeps its place until it is forgotten.
func (s *shelf) victim() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range 2 {
		for len(s.victims) > 0 {
			name := s.victims[len(s.victims)-1]
			s.victims = s.victims[:len(s.victims)-1]
			if known, ok := s.entries[name]; ok && known.expires != "" {
				return name, true
			}
		}
		s.victims = s.finished()
	}
	return "", false
}

// finished are the names of the finished legs, those that expire first at the end.
func (s *shelf) finished() []string {
	names := slices.DeleteFunc(slices.Collect(maps.Keys(s.entries)), func(name string) bool { return s.entries[name].expires == "" })
	slices.SortFunc(names, func(a, b string) int {
		first, second := s.entries[a], s.entries[b]
		return -cmp.Or(cmp.Compare(first.expires, second.expires), first.written.Compare(second.written), cmp.Compare(a, b))
	})
	return names
}

func (s *shelf) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries)
}

// lost are the live legs that were created before the given time and not written since: nobody will ever finish them.
func (s *shelf) lost(before time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, known := range s.entries {
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

// recount corrects the shelf by a complete list that was begun at the given time. What was written later than that, or is being
// written, is known better here.
func (s *shelf) recount(objects map[string]listed, begun time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, known := range s.entries {
		if _, exists := objects[name]; !exists && !known.busy && known.written.Before(begun) {
			delete(s.entries, name)
		}
	}
	for name, object := range objects {
		known, ok := s.entries[name]
		switch {
		case !ok:
			s.entries[name] = &entry{uid: object.uid, expires: object.expires, created: object.created}
			continue
		case !known.busy && known.written.Before(begun) && known.resourceVersion != object.resourceVersion:
			known.resourceVersion, known.expires = "", object.expires
		}
		known.created = object.created
	}
}
