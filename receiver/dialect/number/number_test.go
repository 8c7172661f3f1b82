package number_test

import (
	"testing"

	"github.com/pbx-operator/pbx-operator/receiver/dialect/number"
)

func TestClean(t *testing.T) {
	t.Parallel()
	for sent, want := range map[string]string{
		" 12025550143": "+12025550143", "+12025550143": "+12025550143", "12025550143": "12025550143", "  1202 ": "+1202",
		" 1234*101": "1234*101", " anonymous": "anonymous", "112\r\n": "112", " ": "", "": "",
	} {
		if got := number.Clean(sent); got != want {
			t.Errorf("%q is cleaned to %q, want %q", sent, got, want)
		}
	}
}

func TestWithheld(t *testing.T) {
	t.Parallel()
	for _, shown := range []string{
		"", " ", "anonymous", "Anonymous", "ANONYMOUS", "unknown", "Restricted", "private", "Unknown Number", "No Caller ID",
		"anonymous@anonymous.invalid", "sip:anonymous@anonymous.invalid", "Anonymous@Anonymous.INVALID", "x@nobody.invalid:5060",
		`"Anonymous" <sip:anonymous@anonymous.invalid;transport=udp>`, "Anonymous <>", "SIPS:c8oqz84zk7z@privacy.invalid.",
		"anonymous@tenant.example.com", "<anonymous>", "201@invalid",
	} {
		if !number.Withheld(shown) {
			t.Errorf("%q is taken for a number", shown)
		}
	}
	for _, shown := range []string{
		"+12025550143", "112", "1234*900", "201@tenant.example.com", "anna@tenant.example.com", "unknown.soldier@tenant.example.com",
		"201@invalid.example.com", `"Anonymous" <sip:+442079460123@carrier.example.net>`,
	} {
		if number.Withheld(shown) {
			t.Errorf("%q is taken for a hidden number", shown)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		number, extension string
		want              bool
	}{
		{"101", "1234*101", true}, {"1234*101", "1234*101", true}, {"01", "1234*101", false}, {"2001", "2007102001", true},
		{"2007102001", "2007102001", true}, {"1", "2007102001", false}, {"7102001", "2007102001", false}, {"2002", "2007102001", false},
		{"", "1234*101", false}, {"", "", false}, {"112", "", false}, {"11", "11", true},
	} {
		if got := number.Names(tc.number, tc.extension); got != tc.want {
			t.Errorf("%q names the extension %q: %t", tc.number, tc.extension, got)
		}
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{"1234*101": true, "12345*10": true, "1234*": false, "*101": false, "1234": false, "12a4*101": false} {
		if got := number.Extended(s); got != want {
			t.Errorf("%q is an extension: %t", s, got)
		}
	}
	for s, want := range map[string]bool{"+12025550143": true, "202555": true, "14112": false, "112": false, "1234*101": false, "": false, "+": false} {
		if got := number.Public(s); got != want {
			t.Errorf("%q is a public number: %t", s, got)
		}
	}
	if got := number.WithoutDomain("1234*101@corp.example.com"); got != "1234*101" {
		t.Errorf("without its domain: %q", got)
	}
	if got := number.Address(`"Jane" <sip:201@t.example.com;x=y>`); got != "201@t.example.com" {
		t.Errorf("address %q", got)
	}
}
