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
	key, err := eventurl.NewKey(generation, "office")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestTokens(t *testing.T) {
	one, two := newKey(t, 1), newKey(t, 2)
	ann, bob, account := eventurl.Mapping("ann", "u1"), eventurl.Mapping("bob", "u2"), eventurl.Account("u0")
	token := one.Token(ann)
	if !regexp.MustCompile(`^[a-z2-7]{32}$`).MatchString(token) {
		t.Errorf("token %q has an unexpected form", token)
	}
	if token == one.Token(bob) || token == two.Token(ann) || token == one.Token(account) {
		t.Error("different sources or keys give the same token")
	}
	if token != one.Token(eventurl.Mapping("ann", "after a restore")) || one.Token(account) != one.Token(eventurl.Account("after a restore")) {
		t.Error("a token depends on the UID of an object")
	}
}

const secret = "0123456789abcdef0123456789abcdef"

// TestTokenIsStable guards registrations on PBXs: a token that came out differently would orphan
// all of them.
func TestTokenIsStable(t *testing.T) {
	const uid = "8a1e7ad0-2f8c-4c60-9d80-0f6c0a3b9c11"
	for name, tc := range map[string]struct {
		data             map[string][]byte
		mapping, account string
	}{
		"of an early version": {map[string][]byte{"1": []byte(secret)}, "vwg4g4scrsysqa5lqv77zouvn7w4qflr", "vwg4g4scrsysqa5lqv77zouvn7w4qflr"},
		"of an early version, named": {
			map[string][]byte{"1": []byte(secret), "account": []byte(uid)}, "vwg4g4scrsysqa5lqv77zouvn7w4qflr", "vwg4g4scrsysqa5lqv77zouvn7w4qflr",
		},
		"of this version": {
			map[string][]byte{"key-1": []byte(secret), "account": []byte(uid)}, "sjyuzlo3emdoqiyxow5lkfqcmwazgnay", "vwg4g4scrsysqa5lqv77zouvn7w4qflr",
		},
	} {
		t.Run(name, func(t *testing.T) {
			ring, err := eventurl.ParseRing(tc.data)
			if err != nil {
				t.Fatal(err)
			}
			if got := ring.Current().Token(eventurl.Mapping("ann", uid)); got != tc.mapping {
				t.Errorf("the token of a mapping is %s, expected %s", got, tc.mapping)
			}
			if got := ring.Current().Token(eventurl.Account(uid)); got != tc.account {
				t.Errorf("the token of the account is %s, expected %s", got, tc.account)
			}
		})
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
	for _, source := range []eventurl.Source{eventurl.Mapping("ann", "u1"), eventurl.Account("u0")} {
		if got, want := ring.Tokens(source), []string{current.Token(source), old.Token(source)}; !slices.Equal(got, want) {
			t.Errorf("tokens %v, expected %v", got, want)
		}
	}
}

// A second hand on the Secret does no harm: what is no entry of a ring is neither read nor lost.
func TestForeignEntries(t *testing.T) {
	key := newKey(t, 3)
	ours := eventurl.Ring{key}
	data := ours.WriteTo(map[string][]byte{
		"note": []byte("keep"), "key-": []byte(secret), "key-x": []byte(secret), "01": []byte(secret), "-1": []byte(secret), "ca.crt": nil, "key-2": []byte(secret),
	})
	ring, err := eventurl.ParseRing(data)
	if err != nil || len(ring) != 1 || ring.Current().Token(eventurl.Account("x")) != key.Token(eventurl.Account("x")) {
		t.Fatalf("the ring has %d keys: %v", len(ring), err)
	}
	if string(data["note"]) != "keep" || data["key-2"] != nil {
		t.Error("an entry of somebody else is gone, or a key of a former ring stays")
	}
}

func TestBadRings(t *testing.T) {
	good := []byte(strings.Repeat("k", 32))
	for name, data := range map[string]map[string][]byte{
		"empty":            {},
		"foreign only":     {"current": good, "account": good},
		"generation zero":  {"0": good},
		"short key":        {"key-1": good[:31]},
		"early short key":  {"1": good[:31]},
		"one bad of three": {"key-1": good, "key-2": good, "key-3": nil},
		"twice":            {"1": good, "key-1": good},
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
		want := key.Token(eventurl.Mapping(rapid.String().Draw(t, "source"), ""))
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
	token := newKey(t, 1).Token(eventurl.Account("uid"))
	for _, url := range []string{
		"", "https://crm.example.com/hook", "https://x/ext-event/", "https://x/ext-event/short",
		"https://x/ext-event/" + token + "x", "https://x/" + token, "https://x/?u=/ext-event/" + token, "://\x00",
	} {
		if got, ok := eventurl.TokenOf(url); ok {
			t.Errorf("%q gives the token %q", url, got)
		}
	}
}
