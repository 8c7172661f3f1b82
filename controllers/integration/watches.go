package integration

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
	"github.com/pbx-operator/pbx-operator/controllers/lifecycle"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// referredSecrets are the Secrets whose change calls for a pass over an integration.
func referredSecrets(obj client.Object) []string {
	p, ok := obj.(*v1alpha1.PBXIntegration)
	if !ok {
		return nil
	}
	names := []string{eventurl.SecretName(p.Name), workload.MembersSecretName(p.Name)}
	if !pbxapi.HasRegistrations(p.Spec.PBX) {
		names = append(names, EventURLSecretName(p.Name))
	}
	names = append(names, pbxapi.ReferredSecrets(p.Spec.PBX)...)
	if nats := p.Spec.Receiver.Journal.NATS; nats != nil {
		names = append(names, journalSecrets(nats)...)
	}
	return names
}

// journalSecrets are the Secrets that an external journal refers to.
func journalSecrets(nats *v1alpha1.NATSJournal) []string {
	var names []string
	if nats.CredentialsSecretRef != nil {
		names = append(names, nats.CredentialsSecretRef.Name)
	}
	if tls := nats.TLS; tls != nil && tls.CABundle != nil && tls.CABundle.Kind == v1alpha1.BundleSecret {
		names = append(names, tls.CABundle.Name)
	}
	if tls := nats.TLS; tls != nil && tls.ClientCertificateSecretRef != nil {
		names = append(names, tls.ClientCertificateSecretRef.Name)
	}
	return names
}

func (c *Controller) integrationsOfSecret(ctx context.Context, secret client.Object) []reconcile.Request {
	var list v1alpha1.PBXIntegrationList
	err := c.Client.List(ctx, &list, client.InNamespace(secret.GetNamespace()), client.MatchingFields{indexSecrets: secret.GetName()})
	if err != nil {
		log.FromContext(ctx).Error(err, "Cannot find the integrations of a Secret", "secret", client.ObjectKeyFromObject(secret))
		return nil
	}
	requests := make([]reconcile.Request, len(list.Items))
	for i := range list.Items {
		requests[i] = reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])}
	}
	return requests
}

// reported lets through what the receiver has to say of the events.
func reported() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		was, known := e.ObjectOld.(*v1alpha1.PBXIntegration)
		is, still := e.ObjectNew.(*v1alpha1.PBXIntegration)
		return known && still && (!equality.Semantic.DeepEqual(was.Status.Events, is.Status.Events) || members(was) != members(is))
	}}
}

// coalesced asks for a pass over the integration of a mapping that changed, a little later:
// thousands of mappings that become Ready at once cost a few passes, not thousands.
func coalesced(delay time.Duration) handler.EventHandler {
	enqueue := func(obj client.Object, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		mapping, ok := obj.(*v1alpha1.ExtensionMapping)
		if !ok {
			return
		}
		key := types.NamespacedName{Namespace: mapping.Namespace, Name: mapping.Spec.IntegrationRef.Name}
		queue.AddAfter(reconcile.Request{NamespacedName: key}, delay)
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(e.Object, q)
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			if standing(e.ObjectOld) != standing(e.ObjectNew) {
				enqueue(e.ObjectNew, q)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(e.Object, q)
		},
	}
}

// facts are what an integration takes an interest in about a mapping.
type facts struct {
	ready, released, observed, registered bool
	keyGeneration                         int64
}

func standing(obj client.Object) facts {
	mapping, ok := obj.(*v1alpha1.ExtensionMapping)
	if !ok {
		return facts{}
	}
	return facts{
		ready:         lifecycle.IsReady(mapping),
		released:      released(mapping),
		registered:    registered(mapping),
		observed:      mapping.Status.ObservedGeneration == mapping.Generation,
		keyGeneration: mapping.Status.KeyGeneration,
	}
}
