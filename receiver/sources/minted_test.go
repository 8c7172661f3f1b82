package sources_test

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

// TestChangesOfStatusMakeNoTokens: the states of 20 agents change all day long.
func TestChangesOfStatusMakeNoTokens(t *testing.T) {
	a := newAPI(t)
	ring := eventurl.Ring{key(t, 2), key(t, 1)}
	a.put("pbxintegrations", integration())
	a.put("secrets", ringSecret(ring))
	const extensions = 20
	for n := range extensions {
		a.put("extensionmappings", mapping(fmt.Sprint(101+n), "office"))
	}
	table, watch, stop := watching(t, a, t.TempDir())
	eventually(t, "the table is loaded", func() bool { return table.Targets() == extensions })
	for n := range extensions {
		changed := mapping(fmt.Sprint(101+n), "office")
		changed.Status.Agent = &v1alpha1.AgentStatus{State: v1alpha1.AgentAvailable, Since: metav1.Now()}
		a.put("extensionmappings", changed)
	}
	eventually(t, "the states are seen", func() bool { return watch.AgentStates()[v1alpha1.AgentAvailable] == extensions })
	renamed := mapping("101", "office")
	renamed.Spec.User.Name = "eve"
	a.put("extensionmappings", renamed)
	eventually(t, "the new name is in force", func() bool {
		target, ok := table.Resolve(ring[0].Token(tokenSource("101")))
		return ok && target.Source.User == "eve"
	})
	stop()
	if got, want := watch.Minted(), 2*(extensions+1); got != want {
		t.Errorf("%d tokens were made, want %d: two keys for each extension and the account", got, want)
	}
}

// TestOnlyChangesOfSpecAndKeysMatter: each other one would have the table made and kept on disk
// anew.
func TestOnlyChangesOfSpecAndKeysMatter(t *testing.T) {
	registered, moved := mapping("101", "office"), mapping("101", "office")
	registered.Status.Agent = &v1alpha1.AgentStatus{State: v1alpha1.AgentAvailable}
	registered.ResourceVersion = "2"
	moved.Status.ExtensionID = "5102"
	told, rated := integration(), integration()
	told.Status.Events = &v1alpha1.EventsStatus{}
	rated.Spec.CallLegs.MissedGracePeriod = &metav1.Duration{Duration: time.Minute}
	ring := eventurl.Ring{key(t, 1)}
	for name, tc := range map[string]struct {
		before, after any
		want          bool
	}{
		"state of an agent":         {mapping("101", "office"), registered, false},
		"id of an extension":        {mapping("101", "office"), moved, true},
		"status of the integration": {integration(), told, false},
		"rules of the integration":  {integration(), rated, true},
		"the same keys":             {ringSecret(ring), ringSecret(ring), false},
		"another key":               {ringSecret(ring), ringSecret(eventurl.Ring{key(t, 1)}), true},
	} {
		if got := sources.Matters(tc.before, tc.after); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}

// TestURLOfAnAccountTakesAsMuchAsItsExtensions: 40 extensions of a PBX that knows one URL are as
// busy as 40 with their own.
func TestURLOfAnAccountTakesAsMuchAsItsExtensions(t *testing.T) {
	for _, extensions := range []int{0, 3, 40} {
		a := newAPI(t)
		ring := eventurl.Ring{key(t, 1)}
		a.put("pbxintegrations", integration())
		a.put("secrets", ringSecret(ring))
		for n := range extensions {
			a.put("extensionmappings", mapping(fmt.Sprint(101+n), "office"))
		}
		table, _, _ := watching(t, a, t.TempDir())
		eventually(t, "the table is loaded", func() bool { return table.Loaded() && table.Targets() == extensions })
		if got, least := allowed(t, table, ring[0].Token(eventurl.Account("uid-office"))), 10*max(extensions, 10); got < least {
			t.Errorf("the URL of an account with %d extensions takes %d requests at once, want at least %d", extensions, got, least)
		}
		if extensions > 0 {
			if got := allowed(t, table, ring[0].Token(tokenSource("101"))); got > 20 {
				t.Errorf("the URL of one extension takes %d requests at once", got)
			}
		}
	}
}

// allowed is how many of many requests at one time are within the limit.
func allowed(t *testing.T, table *sources.Table, token string) (count int) {
	t.Helper()
	target, ok := table.Resolve(token)
	if !ok {
		t.Fatal("the token is not known")
	}
	for now := time.Now(); count < 10000 && target.Limiter.AllowN(now, 1); {
		count++
	}
	return count
}
