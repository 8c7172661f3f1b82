package discovery

import (
	"fmt"
	"strings"
	"time"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/shorten"
)

// listing is one read of the list of extensions. It may take several passes, and only numbers are
// kept of what was read.
type listing struct {
	// question changes with everything that asks for a new list.
	question string
	begun    time.Time
	cursor   string
	// partial tells that it goes on after a restart of the manager: what came before the cursor is
	// not known.
	partial bool
	// listed are the numbers so far, and whether the spec asks for them.
	listed map[string]bool
	// unusable are items without a usable number: any missing extension may be one of them.
	unusable pbxapi.Unusable
	skipped  skipped
	// changed tells that mappings were made.
	changed bool
	// finished is when all of it was dealt with, due when the next list is; both are zero before.
	finished, due time.Time
}

func newListing(question string, now time.Time, cursor string) *listing {
	return &listing{question: question, begun: now, cursor: cursor, partial: cursor != "", listed: map[string]bool{}}
}

// wanted is how many of the extensions listed the spec asks for.
func (l *listing) wanted() int32 {
	n := int32(0)
	for _, asked := range l.listed {
		if asked {
			n++
		}
	}
	return n
}

// finish lets go of what is not needed any more.
func (l *listing) finish(now, due time.Time) {
	l.finished, l.due, l.listed = now, due, nil
}

// wait is how long the next list is not due.
func (l *listing) wait(now time.Time) time.Duration {
	if l.finished.IsZero() {
		return 0
	}
	return max(l.due.Sub(now), 0)
}

// mostSkipped is how many skipped extensions the status names.
const mostSkipped = 16

// skipped are extensions that get no mapping.
type skipped struct {
	numbers map[string]bool
	named   []v1alpha1.SkippedExtension
}

// add notes one, unless it is known.
func (s *skipped) add(extension pbxapi.Extension, problem string) {
	const longest, longestMessage = 128, 256
	key := extension.Number + "/" + extension.ID
	if s.numbers[key] {
		return
	}
	if s.numbers == nil {
		s.numbers = map[string]bool{}
	}
	s.numbers[key] = true
	if len(s.named) < mostSkipped {
		s.named = append(s.named, v1alpha1.SkippedExtension{
			Number: shorten.Characters(extension.Number, longest), ID: shorten.Characters(extension.ID, longest),
			Message: shorten.Characters(problem, longestMessage),
		})
	}
}

// String names the first few.
func (s *skipped) String() string {
	const few = 3
	named := s.named[:min(few, len(s.named))]
	parts := make([]string, 0, len(named))
	for _, one := range named {
		name := one.Number
		if name == "" {
			name = "with the id " + one.ID
		}
		parts = append(parts, fmt.Sprintf("extension %s: %s", name, one.Message))
	}
	return strings.Join(parts, "; ")
}
