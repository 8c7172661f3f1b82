package dialect_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect"
)

type decoder func(callevent.Request) ([]callevent.Event, error)

func (d decoder) Decode(r callevent.Request) ([]callevent.Event, error) { return d(r) }

func TestPanicIsAnError(t *testing.T) {
	t.Parallel()
	guarded := dialect.Guard(decoder(func(r callevent.Request) ([]callevent.Event, error) { panic("body " + r.Body) }))
	events, err := guarded.Decode(callevent.Request{Body: "/ext-event/abc"})
	if !errors.Is(err, dialect.ErrPanic) || events != nil {
		t.Fatalf("%v, %v: want ErrPanic", events, err)
	}
	if strings.Contains(err.Error(), "abc") || !strings.Contains(err.Error(), "TestPanicIsAnError") {
		t.Errorf("%v: want the place, and no part of the request", err)
	}
}

func TestErrorsPass(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	if _, err := dialect.Guard(decoder(func(callevent.Request) ([]callevent.Event, error) { return nil, refused })).Decode(callevent.Request{}); !errors.Is(err, refused) {
		t.Errorf("%v, want the error of the dialect", err)
	}
}

func attributes(t *testing.T, sent map[string]string) map[string]string {
	t.Helper()
	events, err := dialect.Guard(decoder(func(callevent.Request) ([]callevent.Event, error) {
		return []callevent.Event{{Attributes: sent}}, nil
	})).Decode(callevent.Request{})
	if err != nil {
		t.Fatal(err)
	}
	return events[0].Attributes
}

func TestAttributesAreBounded(t *testing.T) {
	t.Parallel()
	sent := map[string]string{strings.Repeat("n", 64): "x", strings.Repeat("n", 63): strings.Repeat("\u00e9", 300)}
	for i := range 40 {
		sent[fmt.Sprintf("p%02d", i)] = "x"
	}
	got := attributes(t, sent)
	if len(got) != 16 || got["p00"] != "x" || got["p39"] != "" {
		t.Errorf("%d attributes, want the first 16: %v", len(got), got)
	}
	if value := got[strings.Repeat("n", 63)]; utf8.RuneCountInString(value) != 256 {
		t.Errorf("a value of %d characters", utf8.RuneCountInString(value))
	}
}

func TestAttributesAreNoSecrets(t *testing.T) {
	t.Parallel()
	got := attributes(t, map[string]string{
		"campaign": "spring", "tag.tier": "gold", "keyword": "tea", "opinion": "good",
		"access_token": "x", "API-Key": "x", "Password": "x", "pin": "1234", "Authorization": "x", "callback_url": "x", "X-Session": "x",
		"page": "https://crm.example.com/?t=1", "path": "/ext-event/abcdef", "note": "Bearer abcdef", "empty": "", "line\nbreak": "x",
	})
	want := map[string]string{"campaign": "spring", "tag.tier": "gold", "keyword": "tea", "opinion": "good"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := attributes(t, map[string]string{"token": "x"}); got != nil {
		t.Errorf("nothing to show: %v", got)
	}
}
