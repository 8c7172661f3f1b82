package lifecycle

import (
	"errors"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ownWrites are the versions of objects that a controller has written last. A pass that finds
// nothing to change in an older copy must not end there: what it compared with is not what the
// object says by now. Where there is something to change, the locked patch sees to that.
type ownWrites struct {
	versions sync.Map // of types.NamespacedName to the resource version
}

func (w *ownWrites) note(obj client.Object) {
	w.versions.Store(client.ObjectKeyFromObject(obj), obj.GetResourceVersion())
}

func (w *ownWrites) forget(name types.NamespacedName) { w.versions.Delete(name) }

// check returns a conflict if obj is older than what was written. It does so once for each write:
// after a restore of the API server's data, versions may begin anew.
func (w *ownWrites) check(obj client.Object) error {
	version, known := w.versions.LoadAndDelete(client.ObjectKeyFromObject(obj))
	written, _ := version.(string)
	order, err := resourceversion.CompareResourceVersion(obj.GetResourceVersion(), written)
	if !known || err != nil || order >= 0 {
		return nil //nolint:nilerr // versions that cannot be compared tell nothing
	}
	return apierrors.NewConflict(schema.GroupResource{}, obj.GetName(), errors.New("the cache does not have the last write yet"))
}
