// Package form reads notifications that are sent as form parameters, in the query, the body, or both.
package form

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
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

// Read merges the parameters of query and body; the body wins. A missing content type is taken for a form.
func Read(request callevent.Request) (*Form, error) {
	f := &Form{values: map[string]string{}, names: map[string]string{}, known: map[string]bool{}}
	err := Walk(request, func(name, value string) error {
		lower := strings.ToLower(name)
		f.values[lower], f.names[lower] = value, name
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Walk hands each parameter to set, those of the query before those of the body, and ends with the first error.
func Walk(request callevent.Request, set func(name, value string) error) error {
	body := strings.TrimSpace(request.Body)
	if body != "" && !isForm(request.ContentType) {
		return fmt.Errorf("content type %.64q: expected application/x-www-form-urlencoded", request.ContentType)
	}
	if err := walk(request.Query, set); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	if err := walk(body, set); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	return nil
}

func isForm(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.TrimSpace(media)
	return media == "" || strings.EqualFold(media, "application/x-www-form-urlencoded")
}

func walk(encoded string, set func(name, value string) error) error {
	for pair := range strings.SplitSeq(encoded, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := unescape(name)
		if err != nil {
			return fmt.Errorf("parameter name: %w", err)
		}
		if value, err = unescape(value); err != nil {
			return fmt.Errorf("parameter %.64q: %w", name, err)
		}
		if err := set(name, value); err != nil {
			return err
		}
	}
	return nil
}

// unescape repairs text that is not UTF-8: a display name in another encoding must not cost the call.
func unescape(s string) (string, error) {
	plain, err := url.QueryUnescape(s)
	if err != nil {
		return "", fmt.Errorf("%w: expected percent-encoded UTF-8", err)
	}
	return strings.ToValidUTF8(plain, "\uFFFD"), nil
}

// Has tells whether a parameter was sent, be it without a value.
func (f *Form) Has(name string) bool {
	_, ok := f.names[strings.ToLower(name)]
	return ok
}

// Text is the first of the parameters that has a value, shortened to what can be shown. They are known from now on.
func (f *Form) Text(names ...string) string {
	return shortened(f.raw(names))
}

// Short is as [Form.Text], for what is not worth cutting: a longer value is left among the unknown ones.
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

// ID is a parameter that must not be shortened, as it would become another.
func (f *Form) ID(name string) (string, error) {
	value := f.raw([]string{name})
	if len(value) > idLength {
		return "", fmt.Errorf("parameter %s has %d bytes: at most %d are expected", name, len(value), idLength)
	}
	return value, nil
}

// Keep leaves a parameter among the unknown ones, because its value is not understood.
func (f *Form) Keep(name string) { delete(f.known, strings.ToLower(name)) }

// Rest are the parameters with a value that nobody asked for, under their names as sent; nil where there are none.
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

func shortened(text string) string {
	if len(text) <= textLength {
		return text
	}
	end := textLength
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
