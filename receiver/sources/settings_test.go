package sources_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/callable"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/dialects"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/linuxbox"
	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec v1alpha1.PBXIntegrationSpec
		want dialects.Settings
	}{
		"nothing": {},
		"Callable": {
			spec: v1alpha1.PBXIntegrationSpec{PBX: v1alpha1.PBX{
				Callable: &v1alpha1.Callable{OwnNumbers: []string{"+44*"}, OwnDomains: []string{"tenant.example.com"}},
			}},
			want: dialects.Settings{Callable: callable.Config{OwnNumbers: []string{"+44*"}, OwnDomains: []string{"tenant.example.com"}}},
		},
		"LinuxBox": {
			spec: v1alpha1.PBXIntegrationSpec{PBX: v1alpha1.PBX{LinuxBox: &v1alpha1.LinuxBox{
				EventParameter: "udalost", Lines: []string{"10", "11"},
				Events:     map[string]v1alpha1.LinuxBoxName{"hovor": "StartCall"},
				Parameters: map[string]v1alpha1.LinuxBoxName{"linka": "Line"},
			}}},
			want: dialects.Settings{LinuxBox: linuxbox.Config{
				EventParameter: "udalost", Lines: []string{"10", "11"},
				Events:     map[string]linuxbox.Name{"hovor": linuxbox.StartCall},
				Parameters: map[string]linuxbox.Name{"linka": linuxbox.Line},
			}},
		},
		"self-service": {
			spec: v1alpha1.PBXIntegrationSpec{CallLegs: v1alpha1.CallLegs{SelfService: v1alpha1.CountAsMissed}},
			want: dialects.Settings{
				Callable: callable.Config{SelfServiceIsMissed: true}, LinuxBox: linuxbox.Config{SelfServiceIsMissed: true},
			},
		},
	} {
		if diff := cmp.Diff(c.want, sources.SettingsOf(c.spec)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(correlation.DefaultRules(), sources.RulesOf(v1alpha1.PBXIntegrationSpec{})); diff != "" {
		t.Errorf("of nothing (-want +got):\n%s", diff)
	}
	legs := v1alpha1.CallLegs{
		Scope: v1alpha1.ScopeAll, MissedGracePeriod: &metav1.Duration{Duration: time.Minute}, MaxDuration: metav1.Duration{Duration: time.Hour},
		ForwardedOutside: v1alpha1.CountAsAnswered,
	}
	want := correlation.Rules{Scope: correlation.ScopeAll, GracePeriod: time.Minute, MaxDuration: time.Hour, ForwardedIsAnswered: true}
	if diff := cmp.Diff(want, sources.RulesOf(v1alpha1.PBXIntegrationSpec{CallLegs: legs})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
