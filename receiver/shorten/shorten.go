// Package shorten cuts text that is too long, never inside a character.
package shorten

import "unicode/utf8"

// Ellipsis stands for what was cut off.
const Ellipsis = "…"

// Characters returns text, or as many characters of it as are allowed. What is not UTF-8 counts as
// a character for each byte.
func Characters(text string, most int) string {
	characters := 0
	for i := range text {
		if characters == most {
			return text[:i]
		}
		characters++
	}
	return text
}

// Bytes returns text, or as many of its characters as fit into so many bytes.
func Bytes(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// Visibly is [Characters] that shows that something was cut off.
func Visibly(text string, most int) string {
	if short := Characters(text, most); short != text {
		return short + Ellipsis
	}
	return text
}
