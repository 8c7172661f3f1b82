package shorten_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/receiver/shorten"
)

func TestShorten(t *testing.T) {
	for _, test := range []struct {
		text                       string
		most                       int
		characters, bytes, visibly string
	}{
		{text: "", most: 0},
		{text: "abc", most: 3, characters: "abc", bytes: "abc", visibly: "abc"},
		{text: "abc", most: 2, characters: "ab", bytes: "ab", visibly: "ab…"},
		{text: "abc", most: 0, visibly: "…"},
		{text: "äöü", most: 3, characters: "äöü", bytes: "ä", visibly: "äöü"},
		{text: "äöü", most: 2, characters: "äö", bytes: "ä", visibly: "äö…"},
		{text: "äöü", most: 1, characters: "ä", visibly: "ä…"},
		{text: "\x80\x80\x80", most: 2, characters: "\x80\x80", visibly: "\x80\x80…"},
	} {
		if got := shorten.Characters(test.text, test.most); got != test.characters {
			t.Errorf("%q to %d characters: %q, want %q", test.text, test.most, got, test.characters)
		}
		if got := shorten.Bytes(test.text, test.most); got != test.bytes {
			t.Errorf("%q to %d bytes: %q, want %q", test.text, test.most, got, test.bytes)
		}
		if got := shorten.Visibly(test.text, test.most); got != test.visibly {
			t.Errorf("%q visibly to %d: %q, want %q", test.text, test.most, got, test.visibly)
		}
	}
}

func TestWhatIsLeftIsTheBeginning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, most := rapid.String().Draw(t, "text"), rapid.IntRange(0, 40).Draw(t, "most")
		for _, short := range []string{shorten.Characters(text, most), shorten.Bytes(text, most)} {
			if !strings.HasPrefix(text, short) || !utf8.ValidString(short) {
				t.Fatalf("%q is no beginning of %q", short, text)
			}
		}
		if got := utf8.RuneCountInString(shorten.Characters(text, most)); got != min(most, utf8.RuneCountInString(text)) {
			t.Fatalf("%d characters are left", got)
		}
		short := shorten.Bytes(text, most)
		if len(short) > most {
			t.Fatalf("%d bytes are left", len(short))
		}
		if next := []rune(text[len(short):]); len(next) > 0 && len(short)+utf8.RuneLen(next[0]) <= most {
			t.Fatal("there is room for one more character")
		}
	})
}
