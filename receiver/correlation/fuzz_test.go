package correlation_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// FuzzCall derives the legs of any calls, in two orders. It looks for panics as much as for broken
// promises: one call must not stop others.
func FuzzCall(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		events, rules := anyEvents(t), anyRules(t)
		legs := correlation.Derive(events, rules)
		for _, leg := range legs {
			checkPromises(t, events, rules, leg, fmt.Sprintf("%+v", leg))
		}
		shuffled := rapid.Permutation(events).Draw(t, "order")
		if a, b := fmt.Sprintf("%+v", legs), fmt.Sprintf("%+v", correlation.Derive(shuffled, rules)); a != b {
			t.Fatalf("in order:\n%s\nshuffled:\n%s", a, b)
		}
		shown := 0
		for _, d := range correlation.Explain(events, rules) {
			if d.Shown {
				shown++
			}
		}
		if shown != len(legs) {
			t.Fatalf("%d legs are explained, of %d", shown, len(legs))
		}
	}))
}
