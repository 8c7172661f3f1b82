package lifecycle

import (
	"context"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// Asked lets through what calls for a pass over an object: its creation, a change of its spec, its
// deletion, and a change of one of the annotations that ask for something. Changes of status are
// our own and do not count.
func Asked() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() ||
			e.ObjectOld.GetDeletionTimestamp().IsZero() != e.ObjectNew.GetDeletionTimestamp().IsZero() ||
			annotationChanged(e, v1alpha1.AnnotationReconcile) || annotationChanged(e, v1alpha1.AnnotationRotateKey)
	}}
}

// WhenGone calls forget for each object that is gone. It asks for no pass.
func WhenGone(forget func(types.NamespacedName)) handler.EventHandler {
	return handler.Funcs{
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, _ workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			forget(client.ObjectKeyFromObject(e.Object))
		},
	}
}

func annotationChanged(e event.UpdateEvent, name string) bool {
	return annotation(e.ObjectOld, name) != annotation(e.ObjectNew, name)
}

func annotation(obj client.Object, name string) string { return obj.GetAnnotations()[name] }
