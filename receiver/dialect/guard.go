package dialect

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/shorten"
)

// Limits of the attributes of an event; lengths are in characters.
const (
	MaxAttributes     = 16
	MaxAttributeName  = 63
	MaxAttributeValue = 256
)

// ErrPanic is the error of a notification on which the dialect itself failed.
var ErrPanic = errors.New("the notification made the decoder fail: please report this, with the quarantined request")

// Guard returns a dialect that does what d does, and keeps what any dialect owes to those behind
// it: a panic is [ErrPanic], and attributes are few, short and no secrets.
func Guard(d Dialect) Dialect { return guarded{d} }

type guarded struct{ dialect Dialect }

// Decode never panics.
func (g guarded) Decode(request callevent.Request) (events []callevent.Event, err error) {
	defer func() {
		if recover() != nil { // what was thrown may hold parts of the request
			events, err = nil, fmt.Errorf("%w (%s)", ErrPanic, thrower())
		}
	}()
	events, err = g.dialect.Decode(request)
	for i := range events {
		events[i].Attributes = presentable(events[i].Attributes)
	}
	return events, err
}

// thrower returns the place in this program's own code at which the panic under way began.
func thrower() string {
	const deep = 32
	callers := make([]uintptr, deep)
	frames := runtime.CallersFrames(callers[:runtime.Callers(0, callers)])
	panicking := false
	for frame, more := frames.Next(); more; frame, more = frames.Next() {
		own := !strings.HasPrefix(frame.Function, "runtime.")
		if panicking && own {
			return path.Base(frame.Function) + ":" + strconv.Itoa(frame.Line)
		}
		panicking = panicking || frame.Function == "runtime.gopanic"
	}
	return "place unknown"
}

// presentable returns the attributes that can be shown to everybody who may see the call: the first
// ones by name, where there are too many.
func presentable(attributes map[string]string) map[string]string {
	if len(attributes) == 0 {
		return nil
	}
	var shown map[string]string
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		value := shorten.Characters(attributes[name], MaxAttributeValue)
		if value == "" || len(name) > MaxAttributeName || !printable(name) || credential(name) || credentialValue(value) {
			continue
		}
		if shown == nil {
			shown = make(map[string]string, min(len(attributes), MaxAttributes))
		}
		if shown[name] = value; len(shown) == MaxAttributes {
			break
		}
	}
	return shown
}

func printable(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// credential reports whether a parameter of this name may hold one.
func credential(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"token", "secret", "passw", "pwd", "auth", "signature", "session", "cookie", "credential", "apikey", "jwt", "bearer"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	words := strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) })
	return slices.ContainsFunc(words, func(word string) bool { return word == "key" || word == "pin" || word == "url" || word == "uri" })
}

// credentialValue reports whether a value is a URL, which may be an event URL, or the value of an
// Authorization header.
func credentialValue(value string) bool {
	value = strings.ToLower(value)
	for _, part := range []string{"://", "www.", "/ext-event/", "bearer ", "basic "} {
		if strings.Contains(value, part) {
			return true
		}
	}
	return false
}
