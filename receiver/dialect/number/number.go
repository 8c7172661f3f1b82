// Package number reads telephone numbers and extensions as PBXs write them. Its rules are those of
// all dialects; what one PBX alone does stands in that PBX's package.
package number

import (
	"slices"
	"strings"
)

// Digits reports whether s consists of digits alone, and has at least one.
func Digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// Clean returns a number without blanks around it. A number that begins with a blank had a plus
// that the sender did not percent-encode: form decoding makes a blank of it. Extensions with an
// asterisk have none.
func Clean(sent string) string {
	text := strings.TrimSpace(sent)
	if text != "" && sent[0] == ' ' && Digits(text[:1]) && !strings.Contains(text, "*") {
		return "+" + text
	}
	return text
}

// Public reports whether a number, with or without plus, has the length of one in the public
// network: emergency and service numbers, with up to five digits, look like extensions.
func Public(number string) bool {
	const shortest = 6
	digits := strings.TrimPrefix(number, "+")
	return len(digits) >= shortest && Digits(digits)
}

// WithoutDomain cuts the domain of the PBX off an extension; installations have domains of their
// own.
func WithoutDomain(extension string) string {
	number, _, _ := strings.Cut(extension, "@")
	return number
}

// Split returns the prefix of the client and the short number of an extension in extended form,
// 1234*101.
func Split(extension string) (prefix, short string, ok bool) {
	prefix, short, ok = strings.Cut(extension, "*")
	return prefix, short, ok && Digits(prefix) && Digits(short)
}

// Extended reports whether a number is an extension in extended form. Installations differ in the
// number of digits.
func Extended(number string) bool {
	_, _, ok := Split(number)
	return ok
}

// Names reports whether a number is that of the extension: in full, or in short, which is 101 of
// 1234*101. Some brands leave the asterisk out, so that 2001 is the short form of 2007102001.
func Names(number, extension string) bool {
	const shortest, longest = 2, 5
	switch _, short, extended := Split(extension); {
	case number == "" || extension == "":
		return false
	case number == extension:
		return true
	case extended:
		return number == short
	default:
		suffix := Digits(number) && Digits(extension) && strings.HasSuffix(extension, number)
		return suffix && shortest <= len(number) && len(number) <= longest
	}
}

// withheld are the words that stand in place of a hidden number, without blanks and signs.
var withheld = []string{
	"anonymous", "unknown", "restricted", "private", "withheld", "unavailable", "hidden", "blocked",
	"anonymouscaller", "unknowncaller", "unknownnumber", "privatenumber", "privatecaller", "withheldnumber", "restrictednumber", "nocallerid",
}

// Withheld reports whether a PBX shows this where the caller hides his number: nothing, a word for
// it, or an address under the domain .invalid, which is nobody's (RFC 2606; RFC 3323 has
// anonymous@anonymous.invalid).
func Withheld(shown string) bool {
	user, host, _ := strings.Cut(Address(shown), "@")
	if user == "" {
		return true
	}
	return Nobodys(host) || slices.Contains(withheld, letters(user))
}

// Nobodys reports whether a host is under the domain .invalid.
func Nobodys(host string) bool {
	host, _, _ = strings.Cut(host, ":")
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "invalid" || strings.HasSuffix(host, ".invalid")
}

// letters are those of a text, in lower case.
func letters(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '+':
			return r
		default:
			return -1
		}
	}, strings.ToLower(text))
}

// Address returns the address of a party that may be written with a display name, a scheme and
// parameters: "Jane Roe" <sip:201@tenant.example.com;transport=tcp>.
func Address(party string) string {
	if _, bracketed, ok := strings.Cut(party, "<"); ok {
		party, _, _ = strings.Cut(bracketed, ">")
	}
	party = strings.Trim(strings.TrimSpace(party), `"`)
	for _, scheme := range []string{"sip:", "sips:", "tel:"} {
		if len(party) >= len(scheme) && strings.EqualFold(party[:len(scheme)], scheme) {
			party = party[len(scheme):]
		}
	}
	party, _, _ = strings.Cut(party, ";")
	return strings.TrimSpace(party)
}
