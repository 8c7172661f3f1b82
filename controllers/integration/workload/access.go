package workload

import (
	rbacv1 "k8s.io/api/rbac/v1"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"
	rbacac "k8s.io/client-go/applyconfigurations/rbac/v1"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

func serviceAccount(p *v1alpha1.PBXIntegration) *coreac.ServiceAccountApplyConfiguration {
	return coreac.ServiceAccount(Name(p.Name), p.Namespace).
		WithLabels(Labels(p.Name)).
		WithOwnerReferences(OwnerReference(p)).
		WithAutomountServiceAccountToken(false)
}

// role is what a receiver may do: read its integration and the mappings, report of events and queue
// agents, keep CallLegs, tell of missed calls. The manager holds the same permissions, since nobody
// can grant what they do not have.
func role(p *v1alpha1.PBXIntegration) *rbacac.RoleApplyConfiguration {
	group := v1alpha1.GroupVersion.Group
	return rbacac.Role(Name(p.Name), p.Namespace).
		WithLabels(Labels(p.Name)).
		WithOwnerReferences(OwnerReference(p)).
		WithRules(
			rule(group, "pbxintegrations", "get", "list", "watch"),
			rule(group, "pbxintegrations/status", "get", "patch").WithResourceNames(p.Name),
			rule(group, "extensionmappings", "get", "list", "watch"),
			rule(group, "extensionmappings/status", "patch"),
			rule(group, "calllegs", "get", "list", "create", "update", "delete"),
			rule("", "secrets", "get", "list", "watch").WithResourceNames(eventurl.SecretName(p.Name)),
			rule("events.k8s.io", "events", "create"),
		)
}

func rule(group, resource string, verbs ...string) *rbacac.PolicyRuleApplyConfiguration {
	return rbacac.PolicyRule().WithAPIGroups(group).WithResources(resource).WithVerbs(verbs...)
}

func roleBinding(p *v1alpha1.PBXIntegration) *rbacac.RoleBindingApplyConfiguration {
	name := Name(p.Name)
	return rbacac.RoleBinding(name, p.Namespace).
		WithLabels(Labels(p.Name)).
		WithOwnerReferences(OwnerReference(p)).
		WithRoleRef(rbacac.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("Role").WithName(name)).
		WithSubjects(rbacac.Subject().WithKind(rbacv1.ServiceAccountKind).WithName(name).WithNamespace(p.Namespace))
}
