// Package integration reconciles PBXIntegrations: it checks the credentials and the PBX, keeps the
// keys of the event URLs, runs the receiver, and sums up what there is to say about all of it.
package integration

import (
	"cmp"
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/extension/registration"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/secrets"
)

// The manager holds whatever it grants to receivers: nobody can give permissions that they do not
// have.
//
// +kubebuilder:rbac:groups=pbx-operator.io,resources=pbxintegrations,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=pbx-operator.io,resources=pbxintegrations/status,verbs=get;patch
// +kubebuilder:rbac:groups=pbx-operator.io,resources=pbxintegrations/finalizers,verbs=update
// +kubebuilder:rbac:groups=pbx-operator.io,resources=extensionmappings,verbs=get;list;watch
// +kubebuilder:rbac:groups=pbx-operator.io,resources=extensionmappings/status,verbs=patch
// +kubebuilder:rbac:groups=pbx-operator.io,resources=calllegs,verbs=get;list;create;update;delete
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;update
// +kubebuilder:rbac:groups="",resources=services;serviceaccounts,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get;patch
// +kubebuilder:rbac:groups="",resources=pods,verbs=list
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=roles;rolebindings,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=ingresses,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=apps,resources=statefulsets;deployments,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=httproutes,verbs=get;list;watch;create;patch;delete

// Checker is a PBX that can be asked whether it is there.
type Checker interface {
	// Check makes one cheap authenticated request.
	Check(ctx context.Context) error
}

// Registrar is a PBX that holds event registrations; see pbxapi.API.
type Registrar interface {
	registration.PBX
	// Admit reserves n requests, which the calls made with the returned context use up.
	Admit(ctx context.Context, n int) (context.Context, error)
}

// PBX is what this controller asks of a PBX.
type PBX interface {
	Checker
	Registrar
}

// PBXes gives access to the PBX of an integration.
type PBXes interface {
	For(integration *v1alpha1.PBXIntegration, credentials map[string][]byte) (PBX, error)
	// Forget drops what is kept for an integration that is gone.
	Forget(uid types.UID)
}

// Config is what the controller works with.
type Config struct {
	Client client.Client
	// Live reads past the cache.
	Live     client.Reader
	Secrets  *secrets.Reader
	PBXes    PBXes
	Workload workload.Settings
	// Rollouts paces the restarts of receivers that an upgrade of the manager causes. May be nil.
	Rollouts *workload.Rollouts
	Recorder lifecycle.Recorder
	Metrics  *lifecycle.Metrics
	// Registrations may be nil.
	Registrations *registration.Metrics
	Clock         clock.PassiveClock
	// Interval at which an integration, and its PBX, is looked at although nothing happened.
	Interval time.Duration
	// BundleInterval is that for one whose certificates are in a ConfigMap: these are not watched.
	// Default: 30 s.
	BundleInterval time.Duration
	// Coalesce is how long changes of mappings are gathered before they are counted. Default: 2 s.
	Coalesce time.Duration
	// Concurrency is how many integrations are worked on at once. Default: 1.
	Concurrency int
}

// indexSecrets finds the integrations that refer to a Secret.
const indexSecrets = "secrets"

// Controller holds what passes over integrations share. Everything in it can be found out again.
type Controller struct {
	Config
	children *children
	checks   *memory[check]
	accounts *memory[accountState]
	failures *registration.Failures
}

var _ lifecycle.Handler[*v1alpha1.PBXIntegration] = (*Controller)(nil)

// New makes the controller.
func New(config Config) *Controller {
	config.BundleInterval = cmp.Or(config.BundleInterval, secrets.MaxAge)
	return &Controller{
		Config:   config,
		children: newChildren(config.Client, config.Live),
		checks:   newMemory[check](),
		accounts: newMemory[accountState](),
		failures: registration.NewFailures(),
	}
}

// SetupWithManager registers the controller, its index and its watches. lifecycle.IndexMappings
// must have been called.
func (c *Controller) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.PBXIntegration{}, indexSecrets, referredSecrets)
	if err != nil {
		return err
	}
	build := ctrl.NewControllerManagedBy(mgr).
		Named("integration").
		For(&v1alpha1.PBXIntegration{}, builder.WithPredicates(predicate.Or(lifecycle.Asked(), reported()))).
		WithOptions(controller.Options{MaxConcurrentReconciles: max(c.Concurrency, 1), RateLimiter: lifecycle.RateLimiter()}).
		Owns(&appsv1.StatefulSet{}).
		Owns(&appsv1.Deployment{}).
		Owns(&autoscalingv2.HorizontalPodAutoscaler{}, builder.OnlyMetadata).
		Owns(&corev1.Service{}, builder.OnlyMetadata).
		Owns(&corev1.ServiceAccount{}, builder.OnlyMetadata).
		Owns(&rbacv1.Role{}, builder.OnlyMetadata).
		Owns(&rbacv1.RoleBinding{}, builder.OnlyMetadata).
		Owns(&networkingv1.NetworkPolicy{}, builder.OnlyMetadata).
		Owns(&networkingv1.Ingress{}, builder.OnlyMetadata).
		Owns(&policyv1.PodDisruptionBudget{}, builder.OnlyMetadata).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(c.integrationsOfSecret)).
		Watches(&v1alpha1.ExtensionMapping{}, coalesced(c.coalesce()))
	if c.children.discoverRoutes(mgr.GetRESTMapper()) {
		build = build.Owns(newMetadata("HTTPRoute"))
	}
	return build.Complete(c.Reconciler())
}

// Reconciler is the controller in the shared skeleton.
func (c *Controller) Reconciler() *lifecycle.Reconciler[*v1alpha1.PBXIntegration] {
	return &lifecycle.Reconciler[*v1alpha1.PBXIntegration]{
		Name:     "integration",
		Client:   c.Client,
		Recorder: c.Recorder,
		Metrics:  c.Metrics,
		Clock:    c.Clock,
		Interval: c.Interval,
		Handler:  c,
	}
}

// Suspended reports whether the integration is to be left alone.
func (c *Controller) Suspended(p *v1alpha1.PBXIntegration) bool { return p.Spec.Suspend }

func (c *Controller) coalesce() time.Duration {
	if c.Coalesce > 0 {
		return c.Coalesce
	}
	return 2 * time.Second
}

// mappings of an integration. They are shared with the cache and must not be changed.
func (c *Controller) mappings(ctx context.Context, p *v1alpha1.PBXIntegration) ([]v1alpha1.ExtensionMapping, error) {
	var list v1alpha1.ExtensionMappingList
	err := c.Client.List(ctx, &list, client.InNamespace(p.Namespace), client.UnsafeDisableDeepCopy,
		client.MatchingFields{lifecycle.IndexIntegration: p.Name})
	return list.Items, err
}

func (c *Controller) condition(p *v1alpha1.PBXIntegration, conditionType string, status metav1.ConditionStatus, reason, message string) {
	lifecycle.SetCondition(p, c.Clock.Now(), conditionType, status, reason, message)
}
