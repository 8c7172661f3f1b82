// Package charset makes UTF-8 of what PBXs send in other encodings.
package charset

import (
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
)

// UTF8 returns a text of a request in UTF-8. Text that is UTF-8 stays as it is, whatever the
// content type says; other text is in the charset of the content type. Where that names none, or
// one that is not known, each run of bytes that cannot be read becomes U+FFFD.
func UTF8(text, contentType string) string {
	if utf8.ValidString(text) {
		return text
	}
	if _, parameters, err := mime.ParseMediaType(contentType); err == nil {
		if encoding, err := htmlindex.Get(parameters["charset"]); err == nil {
			if decoded, err := encoding.NewDecoder().String(text); err == nil {
				text = decoded
			}
		}
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
