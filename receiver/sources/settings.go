package sources

import (
	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/callable"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/dialects"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/linuxbox"
)

// SettingsOf are what an integration says of its PBX's notifications. What it leaves out is as the
// PBX's documents have it.
func SettingsOf(spec v1alpha1.PBXIntegrationSpec) dialects.Settings {
	selfServiceIsMissed := spec.CallLegs.SelfService == v1alpha1.CountAsMissed
	settings := dialects.Settings{
		Callable: callable.Config{SelfServiceIsMissed: selfServiceIsMissed},
		LinuxBox: linuxbox.Config{SelfServiceIsMissed: selfServiceIsMissed},
	}
	if of := spec.PBX.Callable; of != nil {
		settings.Callable.OwnNumbers, settings.Callable.OwnDomains = of.OwnNumbers, of.OwnDomains
	}
	if of := spec.PBX.LinuxBox; of != nil {
		settings.LinuxBox.EventParameter, settings.LinuxBox.Lines = of.EventParameter, of.Lines
		settings.LinuxBox.Events, settings.LinuxBox.Parameters = namesOf(of.Events), namesOf(of.Parameters)
	}
	return settings
}

func namesOf(table map[string]v1alpha1.LinuxBoxName) map[string]linuxbox.Name {
	if len(table) == 0 {
		return nil
	}
	names := make(map[string]linuxbox.Name, len(table))
	for wire, name := range table {
		names[wire] = linuxbox.Name(name)
	}
	return names
}

// RulesOf returns the rules of an integration. Those that are left out have their defaults.
func RulesOf(spec v1alpha1.PBXIntegrationSpec) correlation.Rules {
	rules, legs := correlation.DefaultRules(), spec.CallLegs
	if legs.Scope != "" {
		rules.Scope = correlation.Scope(legs.Scope)
	}
	if legs.MaxDuration.Duration > 0 {
		rules.MaxDuration = legs.MaxDuration.Duration
	}
	rules.GracePeriod = legs.GracePeriod()
	rules.ForwardedIsAnswered = legs.ForwardedOutside == v1alpha1.CountAsAnswered
	return rules
}
