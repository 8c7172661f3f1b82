package errortext_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"syscall"
	"testing"

	"github.com/pbx-operator/pbx-operator/controllers/errortext"
)

func TestNetworkReadsTheSameAtEveryAttempt(t *testing.T) {
	broken := func(port int, op string, err error) error {
		local := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: port}
		remote := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}
		return &url.Error{Op: "Post", URL: "https://pbx/ext-event/secret", Err: &net.OpError{Op: op, Net: "tcp", Source: local, Addr: remote, Err: err}}
	}
	for name, tc := range map[string]struct {
		first, second error
		want          string
	}{
		"reset":   {broken(40001, "read", os.NewSyscallError("read", syscall.ECONNRESET)), broken(40002, "read", os.NewSyscallError("read", syscall.ECONNRESET)), "connection reset by peer"},
		"refused": {broken(0, "dial", os.NewSyscallError("connect", syscall.ECONNREFUSED)), nil, "connection refused"},
		"other":   {broken(40001, "read", errors.New("use of closed network connection")), broken(40002, "read", errors.New("use of closed network connection")), "read tcp 192.0.2.1:443: use of closed network connection"},
		"late":    {context.DeadlineExceeded, &url.Error{Op: "Get", URL: "https://pbx", Err: os.ErrDeadlineExceeded}, "no answer in time"},
		"short":   {fmt.Errorf("the answer broke off: %w", io.ErrUnexpectedEOF), io.EOF, "the connection broke off"},
		"DNS":     {&net.DNSError{Name: "pbx.example.com", Server: "10.0.0.10:53", Err: "read udp 10.0.0.7:41001->10.0.0.10:53: i/o timeout"}, nil, "DNS cannot resolve the host pbx.example.com"},
		"no host": {&net.DNSError{Name: "pbx.example.com", IsNotFound: true}, nil, "DNS does not know the host pbx.example.com"},
		"an old certificate": {
			errors.New("x509: certificate has expired or is not yet valid: current time 2026-11-29T09:43:40Z is after 2026-11-28T00:00:00Z"),
			errors.New("x509: certificate has expired or is not yet valid: current time 2026-11-29T09:44:10Z is after 2026-11-28T00:00:00Z"),
			"x509: certificate has expired or is not yet valid: current time (time) is after (time)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, err := range []error{tc.first, tc.second} {
				if err == nil {
					continue
				}
				if got := errortext.Network(err); got != tc.want {
					t.Errorf("got %q, want %q", got, tc.want)
				}
			}
		})
	}
}

func TestStable(t *testing.T) {
	for in, want := range map[string]string{
		"HTTP 502: upstream failed, request id: 7f3a2b":                  "HTTP 502: upstream failed, request id (…)",
		"HTTP 500 (requestId=abc-1)":                                     "HTTP 500 (requestId (…))",
		"trace 1b4e28ba-2fa1-11d2-883f-0016d3cca427 at 10:11:12.5":       "trace (…) at (time)",
		"failed at Sun, 29 Nov 2026 09:43:40 GMT":                        "failed at (time)",
		"extension 1234*101 (id 5101) is unknown":                        "extension 1234*101 (id 5101) is unknown",
		"rate_limit_exceeded":                                            "rate_limit_exceeded",
		"read udp 10.1.2.3:41001->10.0.0.10:53: i/o timeout":             "read udp 10.0.0.10:53: i/o timeout",
		"read tcp [fe80::1%eth0]:41001->[2001:db8::1]:443: broken pipe":  "read tcp [2001:db8::1]:443: broken pipe",
		"deadlock detected; process 1732873420123 waits":                 "deadlock detected; process (…) waits",
		"registration 10001 of extension id 5101: HTTP 500: not allowed": "registration 10001 of extension id 5101: HTTP 500: not allowed",
	} {
		if got := errortext.Stable(in); got != want {
			t.Errorf("Stable(%q) = %q, want %q", in, got, want)
		}
	}
}
