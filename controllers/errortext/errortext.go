// Package errortext makes texts of errors fit for conditions and Events: the same trouble reads the
// same at every attempt. A text that differed each time, by the port of a connection, the time of
// day or the id of a request, would be written to a status each time.
package errortext

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"regexp"
	"strings"
	"syscall"
)

// Network says what went wrong on the way to a server, without addresses that change and without
// the URL, which may hold credentials.
func Network(err error) string {
	if wrapped, ok := errors.AsType[*url.Error](err); ok && wrapped.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return "DNS does not know the host " + dns.Name
		}
		return "DNS cannot resolve the host " + dns.Name
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the connection broke off"
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	return Stable(err.Error())
}

var (
	local = regexp.MustCompile(`(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.%a-z]+\]):\d+->`)
	times = regexp.MustCompile(`\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))*(?: m=[+-][\d.]+)?` +
		`|\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? \d\d[ -][A-Z][a-z]{2}[ -]\d{2,4} \d\d:\d\d:\d\d(?: (?:GMT|UTC))?` +
		`|\b\d{1,2}:\d\d:\d\d(?:[.,]\d+)?\b`)
	labelled = regexp.MustCompile(`(?i)\b((?:request|trace|correlation|incident|ray|transaction)[ _-]?(?:id|number|no)?)["']?\s*[:=#]\s*["']?[\w.-]+`)
	words    = regexp.MustCompile(`[0-9A-Za-z]+(?:-[0-9A-Za-z]+)*`)
)

// WithoutPorts takes our own side of connections out of a text: its port is another one each time.
func WithoutPorts(text string) string { return local.ReplaceAllString(text, "") }

// Stable takes out of a text from outside what is likely to differ at the next attempt: our own
// side of connections, times, ids of requests.
func Stable(text string) string {
	text = WithoutPorts(text)
	text = times.ReplaceAllString(text, "(time)")
	text = labelled.ReplaceAllString(text, "$1 (…)")
	return words.ReplaceAllStringFunc(text, func(word string) string {
		if isID(word) {
			return "(…)"
		}
		return word
	})
}

// isID reports whether a word looks like the id of a request: ten or more digits, or as many
// characters with digits among the letters.
func isID(word string) bool {
	const shortest = 10
	return len(word) >= shortest && strings.ContainsAny(word, "0123456789")
}
