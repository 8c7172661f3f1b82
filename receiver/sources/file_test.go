package sources_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

const fileToken = "abcdefghijklmnopqrstuvwxyz234567"

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sources.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFile(t *testing.T) {
	var table sources.Table
	if table.Loaded() {
		t.Error("an empty table counts as loaded")
	}
	err := table.LoadFile(write(t, "scope: All\nsources: [{token: "+fileToken+`, source: {type: Queue, number: "1234*900", id: "5900"}}]`))
	if err != nil {
		t.Fatal(err)
	}
	target, ok := table.Resolve(fileToken)
	if !ok || target.Source != (callevent.Source{Type: callevent.Queue, Number: "1234*900", ID: "5900"}) || target.Limiter != nil {
		t.Errorf("got %+v", target)
	}
	if table.Type() != "RingMe" || table.Rules().Scope != correlation.ScopeAll {
		t.Errorf("type %s, rules %+v", table.Type(), table.Rules())
	}
	if _, ok := table.Resolve(strings.ToUpper(fileToken)); ok {
		t.Error("an unknown token was resolved")
	}
}

func TestBadFiles(t *testing.T) {
	for name, text := range map[string]string{
		"short token":   "sources: [{token: abc}]",
		"unknown field": "sources: []\nsource: x",
		"no YAML":       "{",
	} {
		t.Run(name, func(t *testing.T) {
			var table sources.Table
			if err := table.LoadFile(write(t, text)); err == nil || table.Loaded() {
				t.Errorf("got %v", err)
			}
		})
	}
	var table sources.Table
	if err := table.LoadFile(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file was taken for an empty one")
	}
}
