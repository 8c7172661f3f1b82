package eventurl_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

func newKey(t *testing.T, generation int64) eventurl.Key {
	t.Helper()
	key, err := eventurl.NewKey(generation)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestTokens(t *testing.T) {
	one, two := newKey(t, 1), newKey(t, 2)
	token := one.Token("uid-1")
	if !regexp.MustCompile(`^[a-z2-7]{32}$`).MatchString(token) {
		t.Errorf("token %q has an unexpected form", token)
	}
	if token != one.Token("uid-1") {
		t.Error("the token of a source changes")
	}
	if token == one.Token("uid-2") || token == two.Token("uid-1") {
		t.Error("different sources or keys give the same token")
	}
}

// TestTokenIsStable guards registrations on PBXs: a token that came out differently would orphan all of them.
func TestTokenIsStable(t *testing.T) {
	ring, err := eventurl.ParseRing(map[string][]byte{"1": []byte("0123456789abcdef0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := ring.Current().Token("8a1e7ad0-2f8c-4c60-9d80-0f6c0a3b9c11"), "vwg4g4scrsysqa5lqv77zouvn7w4qflr"; got != want {
		t.Errorf("got %s, expected %s", got, want)
	}
}

func TestRingKeepsItsKeys(t *testing.T) {
	old, current := newKey(t, 9), newKey(t, 10)
	ring, err := eventurl.ParseRing(eventurl.Ring{old, current}.Data())
	if err != nil {
		t.Fatal(err)
	}
	if ring.Current().Generation != 10 {
		t.Errorf("the key in force has generation %d", ring.Current().Generation)
	}
	if got, want := ring.Tokens("uid"), []string{current.Token("uid"), old.Token("uid")}; !slices.Equal(got, want) {
		t.Errorf("tokens %v, expected %v", got, want)
	}
}

func TestBadRings(t *testing.T) {
	good := []byte(strings.Repeat("k", 32))
	for name, data := range map[string]map[string][]byte{
		"empty":            {},
		"name":             {"current": good},
		"generation zero":  {"0": good},
		"short key":        {"1": good[:31]},
		"one bad of three": {"1": good, "2": good, "x": good},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := eventurl.ParseRing(data)
			if err == nil {
				t.Fatal("it was accepted")
			}
			if strings.Contains(err.Error(), "kkk") {
				t.Errorf("the error holds the key: %v", err)
			}
			if name == "empty" && !errors.Is(err, eventurl.ErrNoKeys) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestURLsComeBack(t *testing.T) {
	key := newKey(t, 1)
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.SampledFrom([]string{"https://calls.example.com", "https://calls.example.com/", "http://x:8080/pbx/events", "https://x/a/"}).Draw(t, "base")
		suffix := rapid.SampledFrom([]string{"", "/dial-in", "/start_call", "/a/b"}).Draw(t, "suffix")
		want := key.Token(rapid.String().Draw(t, "source"))
		url := eventurl.URL(base, want, suffix)
		if strings.Contains(strings.TrimPrefix(strings.TrimPrefix(url, "https://"), "http://"), "//") {
			t.Fatalf("%s has an empty path segment", url)
		}
		if got, ok := eventurl.TokenOf(url); !ok || got != want {
			t.Fatalf("%s gives %q, %v", url, got, ok)
		}
		_, path, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(url, "https://"), "http://"), "/")
		if token, rest, ok := eventurl.SplitPath("/" + path); !ok || token != want || rest != suffix {
			t.Fatalf("the path of %s gives %q, %q, %v", url, token, rest, ok)
		}
	})
}

func TestForeignURLs(t *testing.T) {
	token := newKey(t, 1).Token("uid")
	for _, url := range []string{
		"", "https://crm.example.com/hook", "https://x/ext-event/", "https://x/ext-event/short",
		"https://x/ext-event/" + token + "x", "https://x/" + token, "https://x/?u=/ext-event/" + token, "://\x00",
	} {
		if got, ok := eventurl.TokenOf(url); ok {
			t.Errorf("%q gives the token %q", url, got)
		}
	}
}
