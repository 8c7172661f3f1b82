package main

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// writtenBefore holds logs of receivers that knew no partitions. Each was killed with
// calls open, in the CALLS log and not, and with events that were not correlated. legs.json is what
// that receiver made of them when it was started again.
const writtenBefore = "testdata/before-partitions"

// legOf is what identifies a leg, and the events that it is made of.
type legOf struct {
	Call, Leg string
	Events    []string
}

func legsOf(legs []correlation.Leg) []legOf {
	found := make([]legOf, len(legs))
	for i, leg := range legs {
		found[i] = legOf{Call: leg.CallID, Leg: leg.LegID}
		for _, event := range leg.Events {
			found[i].Events = append(found[i].Events, string(event.Type))
		}
	}
	return sorted(found)
}

func sorted(legs []legOf) []legOf {
	slices.SortFunc(legs, func(a, b legOf) int { return cmp.Or(cmp.Compare(a.Call, b.Call), cmp.Compare(a.Leg, b.Leg)) })
	return legs
}

// Logs of earlier receivers are taken over: nothing is lost, and nothing is there twice.
func TestLogsFromBeforePartitionsGoOn(t *testing.T) {
	for _, pbx := range []string{"ringme", "voipnow", "callable"} {
		t.Run(pbx, func(t *testing.T) {
			t.Parallel()
			c := newChild(t)
			if err := os.RemoveAll(filepath.Join(c.dir, "sources.yaml")); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(c.dir, os.DirFS(filepath.Join(writtenBefore, pbx))); err != nil {
				t.Fatal(err)
			}
			c.start(t)
			c.awaitCorrelation(t)
			c.stop(t)
			text, err := os.ReadFile(filepath.Join(c.dir, "legs.json"))
			if err != nil {
				t.Fatal(err)
			}
			var want []legOf
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(sorted(want), legsOf(readLegs(t, filepath.Join(c.dir, "data")))); diff != "" {
				t.Error(diff)
			}
		})
	}
}
