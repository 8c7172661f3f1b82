// Package form reads notifications that are sent as form parameters, in the query, the body, or
// both.
package form

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/charset"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/number"
	"github.com/pbx-operator/pbx-operator/receiver/shorten"
)

// Limits of what can be shown in a CallLeg, in bytes.
const (
	idLength    = 256
	textLength  = 256
	shortLength = 64
)

// Form holds the parameters of one notification. Names are compared without case.
type Form struct {
	values map[string]string // by name in lower case
	names  map[string]string // as they were sent, by name in lower case
	known  map[string]bool
}

// Read merges the parameters of query and body; the body wins, unless it has no value. A missing
// content type is taken for a form.
func Read(request callevent.Request) (*Form, error) {
	f := &Form{values: map[string]string{}, names: map[string]string{}, known: map[string]bool{}}
	err := Walk(request, func(name, value string) error {
		lower := strings.ToLower(name)
		if value != "" || f.values[lower] == "" {
			f.values[lower], f.names[lower] = value, name
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Walk hands each parameter to set, those of the query before those of the body, and ends with the
// first error. A body that says nothing may have any content type.
func Walk(request callevent.Request, set func(name, value string) error) error {
	if err := walk(request.Query, request.ContentType, set); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	if Blank(request.Body) {
		return nil
	}
	if !isForm(request.ContentType) {
		return fmt.Errorf("content type %.64q: expected application/x-www-form-urlencoded", request.ContentType)
	}
	if err := walk(strings.TrimSpace(request.Body), request.ContentType, set); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	return nil
}

// Blank reports whether a body says nothing. A POST with the event in its query has such a body.
func Blank(body string) bool {
	body = strings.TrimSpace(body)
	return body == "" || body == "{}"
}

func isForm(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.TrimSpace(media)
	return media == "" || strings.EqualFold(media, "application/x-www-form-urlencoded")
}

func walk(encoded, contentType string, set func(name, value string) error) error {
	for pair := range strings.SplitSeq(encoded, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := unescape(name, contentType)
		if err != nil {
			return fmt.Errorf("parameter name: %w", err)
		}
		if value, err = unescape(value, contentType); err != nil {
			return fmt.Errorf("parameter %.64q: %w", name, err)
		}
		if err := set(name, value); err != nil {
			return err
		}
	}
	return nil
}

// unescape makes UTF-8 of text in another encoding: a display name must not cost the call.
func unescape(s, contentType string) (string, error) {
	plain, err := url.QueryUnescape(s)
	if err != nil {
		return "", fmt.Errorf("%w: expected percent-encoded UTF-8", err)
	}
	return charset.UTF8(plain, contentType), nil
}

// Has reports whether a parameter was sent, be it without a value.
func (f *Form) Has(name string) bool {
	_, ok := f.names[strings.ToLower(name)]
	return ok
}

// Text returns the first of the parameters that has a value, shortened to what can be shown. They
// are known from now on.
func (f *Form) Text(names ...string) string {
	return shorten.Bytes(f.raw(names), textLength)
}

// Number returns the first of the parameters that has a value, as a number: see [number.Clean]. One
// that is longer than shown is left among the unknown parameters.
func (f *Form) Number(names ...string) string { return number.Clean(f.Short(names...)) }

// Short is as [Form.Text], for what is not worth cutting: a longer value is left among the unknown
// ones.
func (f *Form) Short(names ...string) string {
	value := f.raw(names)
	if len(value) <= shortLength {
		return value
	}
	for _, name := range names {
		f.Keep(name)
	}
	return ""
}

func (f *Form) raw(names []string) string {
	found := ""
	for _, name := range names {
		lower := strings.ToLower(name)
		f.known[lower] = true
		if found == "" {
			found = f.values[lower]
		}
	}
	return found
}

// ID returns a parameter that must not be shortened, as it would become another.
func (f *Form) ID(name string) (string, error) {
	value := f.raw([]string{name})
	if len(value) > idLength {
		return "", fmt.Errorf("parameter %s has %d bytes: at most %d are expected", name, len(value), idLength)
	}
	return value, nil
}

// Keep leaves a parameter among the unknown ones, because its value is not understood.
func (f *Form) Keep(name string) { delete(f.known, strings.ToLower(name)) }

// Rest returns the parameters with a value that nobody asked for, under their names as sent; nil
// where there are none.
func (f *Form) Rest() map[string]string {
	var rest map[string]string
	for lower, value := range f.values {
		if f.known[lower] || value == "" {
			continue
		}
		if rest == nil {
			rest = map[string]string{}
		}
		rest[f.names[lower]] = value
	}
	return rest
}

// Digest stands for all parameters: those of equal notifications are equal.
func (f *Form) Digest() string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(f.values)) {
		_, _ = fmt.Fprintf(sum, "%q=%q&", name, f.values[name]) // a hash never fails
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}
