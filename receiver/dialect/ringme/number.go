package ringme

import "strings"

// nameLength is how many characters of a display name are kept.
const nameLength = 256

// isExtension tells whether a number is an extension: [0-9]{3,6}*[0-9]{2,4} with a literal asterisk.
func isExtension(number string) bool {
	client, short, ok := strings.Cut(number, "*")
	return ok && digits(client, 3, 6) && digits(short, 2, 4)
}

func digits(s string, least, most int) bool {
	if len(s) < least || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// beforeDomain cuts the PBX's domain off an extension.
func beforeDomain(extension string) string {
	number, _, _ := strings.Cut(extension, "@")
	return number
}

// shortNumber is what one dials inside the account, 101 of 1234*101; empty where there is none.
func shortNumber(extension string) string {
	_, short, _ := strings.Cut(extension, "*")
	return short
}

// plain is a number as it should have been sent: an extension without its domain, and with the plus that a careless PBX did not encode
// and that form decoding made a space.
func plain(number string) string {
	if local := beforeDomain(number); isExtension(local) {
		return local
	}
	if len(number) > 1 && number[0] == ' ' && digits(number[1:2], 1, 1) {
		return "+" + number[1:]
	}
	return number
}

func shortened(name string) string {
	characters := 0
	for i := range name {
		if characters == nameLength {
			return name[:i]
		}
		characters++
	}
	return name
}
