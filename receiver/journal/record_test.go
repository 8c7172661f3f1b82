package journal_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/journal"
)

func TestGroupsComeBackAsTheyWere(t *testing.T) {
	text := rapid.StringN(0, 40, 200)
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) journal.Entry {
			return journal.Entry{Mapping: text.Draw(t, "mapping"), Request: callevent.Request{
				ReceivedAt: time.UnixMicro(rapid.Int64Range(-1<<50, 1<<52).Draw(t, "time")).UTC(),
				Source: callevent.Source{
					Type: callevent.SourceType(text.Draw(t, "type")), Number: text.Draw(t, "number"), ID: text.Draw(t, "id"), User: text.Draw(t, "user"),
				},
				Method: text.Draw(t, "method"), Path: text.Draw(t, "path"), Query: text.Draw(t, "query"),
				ContentType: text.Draw(t, "content type"), Body: text.Draw(t, "body"),
			}}
		}), 1, 5).Draw(t, "entries")
		var group []byte
		for i := range want {
			group = journal.AppendFrame(group, journal.AppendEntry(nil, &want[i]))
		}
		got, err := journal.DecodeGroup(group)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestDamagedGroupsAreReported(t *testing.T) {
	e := journal.Entry{Request: callevent.Request{Body: "body"}}
	group := journal.AppendFrame(nil, journal.AppendEntry(nil, &e))
	for cut := 1; cut < len(group)-1; cut++ {
		if entries, err := journal.DecodeGroup(group[:cut+1]); err == nil {
			t.Errorf("the first %d of %d bytes give %v", cut+1, len(group), entries)
		}
	}
	group[0] = 99
	if _, err := journal.DecodeGroup(group); err == nil {
		t.Error("a group of an unknown version was taken for known")
	}
}

func FuzzDecodeGroup(f *testing.F) {
	e := entry(1)
	f.Add(journal.AppendFrame(nil, journal.AppendEntry(nil, &e)))
	f.Fuzz(func(_ *testing.T, group []byte) {
		_, _ = journal.DecodeGroup(group) // it must come back at all
	})
}
