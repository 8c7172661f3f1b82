package charset_test

import (
	"testing"

	"github.com/pbx-operator/pbx-operator/receiver/dialect/charset"
)

func TestUTF8(t *testing.T) {
	t.Parallel()
	const form = "application/x-www-form-urlencoded"
	for _, tc := range []struct{ text, contentType, want string }{
		{"Ren\xe9", form + "; charset=ISO-8859-1", "Ren\u00e9"},
		{"\xc0\xed\xed\xe0", form + `; charset="windows-1251"`, "\u0410\u043d\u043d\u0430"},
		{"Ren\u00e9", form + "; charset=ISO-8859-1", "Ren\u00e9"},
		{"Ren\xe9", form, "Ren\uFFFD"},
		{"Ren\xe9", form + "; charset=klingon", "Ren\uFFFD"},
		{"Ren\xe9", ";;;", "Ren\uFFFD"},
	} {
		if got := charset.UTF8(tc.text, tc.contentType); got != tc.want {
			t.Errorf("%q as %q is %q, want %q", tc.text, tc.contentType, got, tc.want)
		}
	}
}
