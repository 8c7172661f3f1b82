package lifecycle

import (
	"hash/fnv"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// RateLimiter spaces the retries after Transient failures: half a second at first, two minutes at
// most, so that a PBX that comes back is not kept waiting for long.
func RateLimiter() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](500*time.Millisecond, 2*time.Minute)
}

// jitterPercent is how far an interval may be stretched or shortened.
const jitterPercent = 10

// Jitter spreads an interval by up to ±10 %. The share of an object follows from its UID: objects
// that were looked at together drift apart, and a test can tell what to expect.
func Jitter(interval time.Duration, uid types.UID) time.Duration {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(uid))
	permille := int64(hash.Sum32()%(20*jitterPercent+1)) - 10*jitterPercent
	return interval + interval/1000*time.Duration(permille)
}
