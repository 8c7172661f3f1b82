package linuxbox

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var namesInSchema = regexp.MustCompile(`self\.all\(k, self\[k\] in \[([^\]]*)\]\)`)

// What the dialect can be told, the API accepts: all names of events, and all of parameters.
func TestTheSchemaKnowsAllNames(t *testing.T) {
	t.Parallel()
	schema, err := os.ReadFile("../../../config/crd/bases/pbx-operator.io_pbxintegrations.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var accepted [][]string
	for _, list := range namesInSchema.FindAllStringSubmatch(strings.Join(strings.Fields(string(schema)), " "), -1) {
		names := strings.Split(strings.ReplaceAll(list[1], "'", ""), ",")
		for i := range names {
			names[i] = strings.TrimSpace(names[i])
		}
		slices.Sort(names)
		accepted = append(accepted, names)
	}
	var known [][]string
	for _, names := range [][]Name{slices.Collect(maps.Values(events)), slices.Collect(maps.Keys(parameters))} {
		var texts []string
		for _, name := range sorted(names) {
			texts = append(texts, string(name))
		}
		known = append(known, texts)
	}
	if diff := cmp.Diff(known, accepted); diff != "" {
		t.Errorf("(-dialect +API):\n%s", diff)
	}
}
