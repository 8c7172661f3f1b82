package lifecycle

import (
	"regexp"
	"strings"

	"github.com/pbx-operator/pbx-operator/controllers/errortext"
	"github.com/pbx-operator/pbx-operator/receiver/shorten"
)

// maxMessage is how much of a message is kept, in bytes: what the note of an events.k8s.io Event
// may hold.
const maxMessage = 1024

var secrets = regexp.MustCompile(`(?i)(/ext-event/|bearer\s+|basic\s+|(?:access_token|refresh_token|client_secret|password)["']?\s*[=:]\s*["']?)[^\s"'&,;?/]+`)

// Scrub takes credentials out of a text (event URL tokens, authorization values, OAuth parameters),
// and our own side of connections, and cuts it to 1024 bytes. It is a second line of defence:
// errors are not meant to hold any.
func Scrub(message string) string {
	message = errortext.WithoutPorts(strings.ToValidUTF8(message, "�"))
	message = secrets.ReplaceAllString(message, "${1}…")
	if len(message) > maxMessage {
		message = shorten.Bytes(message, maxMessage-len(shorten.Ellipsis)) + shorten.Ellipsis
	}
	return message
}

// scrubbed is an error whose text may be logged.
type scrubbed struct {
	message string
	cause   error
}

func (e scrubbed) Error() string { return e.message }
func (e scrubbed) Unwrap() error { return e.cause }
