package lifecycle_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
)

func TestScrub(t *testing.T) {
	for in, want := range map[string]string{
		"GET https://h/p/ext-event/abc234/dial-in: 404":   "GET https://h/p/ext-event/…/dial-in: 404",
		`Post "https://h/ext-event/abc234": EOF`:          `Post "https://h/ext-event/…": EOF`,
		"header Authorization: Bearer eyJhbGciOi.x.y end": "header Authorization: Bearer … end",
		"body client_secret=s3cr3t&grant_type=x":          "body client_secret=…&grant_type=x",
		`{"access_token": "abc", "expires": 3}`:           `{"access_token": "…", "expires": 3}`,
		"nothing to hide":                                 "nothing to hide",
	} {
		if got := lifecycle.Scrub(in); got != want {
			t.Errorf("Scrub(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestScrubbedTextIsShortValidAndStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 2000, 4000).Draw(t, "text")
		scrubbed := lifecycle.Scrub(text)
		if len(scrubbed) > 1024 || !utf8.ValidString(scrubbed) {
			t.Fatalf("%d bytes, valid %v", len(scrubbed), utf8.ValidString(scrubbed))
		}
		if again := lifecycle.Scrub(scrubbed); again != scrubbed {
			t.Fatalf("scrubbing again changes %q to %q", scrubbed, again)
		}
	})
}

func TestScrubHidesEveryToken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		token := rapid.StringMatching(`[a-z2-7]{32}`).Draw(t, "token")
		before, after := rapid.String().Draw(t, "before"), rapid.SampledFrom([]string{"", "/dial-in", "?x=1", " and more", `"`}).Draw(t, "after")
		if got := lifecycle.Scrub(before + "/ext-event/" + token + after); strings.Contains(got, token) {
			t.Fatalf("%q holds the token", got)
		}
	})
}

func TestJitterSpreadsWithinATenth(t *testing.T) {
	seen := map[time.Duration]bool{}
	rapid.Check(t, func(t *rapid.T) {
		uid := types.UID(rapid.String().Draw(t, "uid"))
		got := lifecycle.Jitter(interval, uid)
		if got < interval*9/10 || got > interval*11/10 {
			t.Fatalf("%v is more than a tenth off %v", got, interval)
		}
		if got != lifecycle.Jitter(interval, uid) {
			t.Fatal("the same object has two intervals")
		}
		seen[got] = true
	})
	if len(seen) < 20 {
		t.Errorf("only %d different intervals", len(seen))
	}
}
