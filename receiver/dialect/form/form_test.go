package form_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/form"
)

func read(t *testing.T, query, body string) *form.Form {
	t.Helper()
	f, err := form.Read(callevent.Request{Query: query, Body: body, ContentType: "application/x-www-form-urlencoded; charset=utf-8"})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestQueryAndBodyAreMerged(t *testing.T) {
	t.Parallel()
	f := read(t, "CallID=c1&Flow=in&A+b=c%26d", " callid=c2&&x\n")
	if got := f.Text("CALLID"); got != "c2" {
		t.Errorf("CallID %q, want that of the body", got)
	}
	if got := f.Text("None", "flow"); got != "in" {
		t.Errorf("the first that has a value: %q", got)
	}
	if !f.Has("X") || f.Has("y") {
		t.Error("a parameter without a value was sent all the same")
	}
	if diff := cmp.Diff(map[string]string{"A b": "c&d"}, f.Rest()); diff != "" {
		t.Errorf("unknown parameters (-want +got):\n%s", diff)
	}
	if f := read(t, "a=b", "a=&c="); f.Text("a") != "b" || !f.Has("c") {
		t.Error("a parameter without a value takes the place of one with a value")
	}
	f.Keep("Flow")
	if f.Rest()["Flow"] != "in" {
		t.Error("a parameter that is not understood is lost")
	}
}

func TestLengths(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\u00e9", 200)
	f := read(t, "name="+long+"&id="+long+"&line="+long[:66], "")
	if name := f.Text("name"); len(name) != 256 || !utf8.ValidString(name) {
		t.Errorf("a name of %d bytes", len(name))
	}
	if _, err := f.ID("id"); err == nil || !strings.Contains(err.Error(), "400 bytes") {
		t.Errorf("an id that cannot be shown: %v", err)
	}
	if line := f.Short("line"); line != "" || f.Rest()["line"] == "" {
		t.Errorf("line %q, rest %v", line, f.Rest())
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	if read(t, "a=1&b=2", "").Digest() != read(t, "", "B=2&A=1").Digest() {
		t.Error("the order of parameters, the case of their names or the way they are sent make a difference")
	}
	if read(t, "a=1&b=2", "").Digest() == read(t, "a=1", "b=2%26").Digest() || read(t, "a=b&c", "").Digest() == read(t, "a=b%26c", "").Digest() {
		t.Error("different parameters have one digest")
	}
}

func TestNoForm(t *testing.T) {
	t.Parallel()
	for _, request := range []callevent.Request{
		{Body: `{"a":"b"}`, ContentType: "application/json"}, {Query: "a=%zz"}, {Body: "%=1"},
	} {
		if _, err := form.Read(request); err == nil {
			t.Errorf("%+v is taken for a form", request)
		}
	}
	for _, body := range []string{"", " ", "{}", "{}\n"} {
		f, err := form.Read(callevent.Request{Query: "a=b", Body: body, ContentType: "application/json"})
		if err != nil || f.Text("a") != "b" {
			t.Errorf("a body %q that says nothing costs the query: %v", body, err)
		}
	}
	if f, err := form.Read(callevent.Request{Query: "a=%ff"}); err != nil || f.Text("a") != "\uFFFD" {
		t.Errorf("another encoding: %v", err)
	}
}
