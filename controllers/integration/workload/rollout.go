package workload

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	appsac "k8s.io/client-go/applyconfigurations/apps/v1"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/clock"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

const (
	// annotationTemplate is a hash of the pods that were applied, without what the API server adds.
	annotationTemplate = "pbx-operator.io/template"
	// annotationGeneration is the generation of the integration that they were made for.
	annotationGeneration = "pbx-operator.io/generation"
	// stuckAfter is how long one receiver that does not get ready keeps others from being rolled
	// out. One may have a trouble of its own; beyond mostStuck of them it is the upgrade's, which
	// stops.
	stuckAfter = 10 * time.Minute
	mostStuck  = 2
	// leastWait and mostWait bound how long a receiver waits before it asks for its turn again.
	leastWait, mostWait = 5 * time.Second, time.Minute
)

func fingerprintOf(template *coreac.PodTemplateSpecApplyConfiguration) (string, error) {
	text, err := json.Marshal(template)
	if err != nil {
		return "", fmt.Errorf("cannot compare the pods of the receiver: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}

// Rollouts paces the restarts that the manager causes on its own account, by an upgrade: a few
// receivers at a time, since each is away for seconds and PBXs do not repeat their events. A change
// of an integration by its user, and a receiver that does not work anyway, need not wait. It may be
// used concurrently.
type Rollouts struct {
	limit int
	pause time.Duration
	clock clock.PassiveClock

	mu sync.Mutex
	// begun are the rollouts that are under way.
	begun map[types.NamespacedName]rollout
	// waiting are the receivers that were told to wait.
	waiting map[types.NamespacedName]bool
	// ended is when the last one was over.
	ended time.Time
}

// rollout is that of one receiver.
type rollout struct {
	// template is the annotation that its StatefulSet has or is about to get.
	template string
	since    time.Time
	// exempt is one that nobody has to wait for.
	exempt bool
	// applied tells that the StatefulSet has the template.
	applied bool
}

// Turn says when a receiver may restart.
type Turn struct {
	// Wait is how long to wait before asking again; zero when it may restart now.
	Wait time.Duration
	// Stuck is how many receivers have not become ready since they were rolled out, where that has
	// stopped the upgrade.
	Stuck int
}

// NewRollouts lets this many receivers restart at a time, the next one a pause after one is ready
// again.
func NewRollouts(limit int, pause time.Duration, clock clock.PassiveClock) *Rollouts {
	return &Rollouts{
		limit: limit, pause: pause, clock: clock,
		begun: map[types.NamespacedName]rollout{}, waiting: map[types.NamespacedName]bool{},
	}
}

// Admit reports whether the StatefulSet of the integration may be applied now. Sets are those of all
// receivers.
func (r *Rollouts) Admit(p *v1alpha1.PBXIntegration, wanted *appsac.StatefulSetApplyConfiguration, sets []appsv1.StatefulSet) Turn {
	key := types.NamespacedName{Namespace: p.Namespace, Name: Name(p.Name)}
	template := wanted.Annotations[annotationTemplate]
	r.mu.Lock()
	defer r.mu.Unlock()
	current := find(sets, key)
	if !paced(p, current, template) {
		delete(r.waiting, key)
		if current == nil || current.Annotations[annotationTemplate] != template {
			r.begun[key] = rollout{template: template, exempt: true}
		}
		return Turn{}
	}
	r.observe(sets)
	now := r.clock.Now()
	known, begun := r.begun[key]
	running, stuck := r.running(now)
	if stopped := stuck >= mostStuck; !begun && (stopped || running >= r.limit || now.Before(r.ended.Add(r.pause))) {
		r.waiting[key] = true
		turn := Turn{Wait: max(leastWait, min(time.Duration(len(r.waiting))*time.Second, mostWait))}
		if stopped {
			turn.Stuck = stuck
		}
		return turn
	}
	delete(r.waiting, key)
	if known.template == template {
		return Turn{} // it could not be applied, or the cache does not show it yet: others have waited since
	}
	r.begun[key] = rollout{template: template, since: now}
	return Turn{}
}

// paced reports whether to apply a StatefulSet restarts a receiver that works, for no reason of its
// user.
func paced(p *v1alpha1.PBXIntegration, current *appsv1.StatefulSet, template string) bool {
	if current == nil || current.Annotations[annotationTemplate] == template {
		return false
	}
	// One that was applied by a version without annotations has none.
	made := current.Annotations[annotationGeneration]
	return (made == "" || made == strconv.FormatInt(p.Generation, 10)) && Observe(p, Running{Set: current}).Available
}

// observe takes note of what has begun and ended. After a restart of the manager a rollout counts
// from when it is first seen.
func (r *Rollouts) observe(sets []appsv1.StatefulSet) {
	now := r.clock.Now()
	for i := range sets {
		set := &sets[i]
		key := types.NamespacedName{Namespace: set.Namespace, Name: set.Name}
		template := set.Annotations[annotationTemplate]
		known, begun := r.begun[key]
		switch {
		case begun && known.template != template: // the cache does not show it yet
		case !begun && rolling(set):
			r.begun[key] = rollout{template: template, since: now, applied: true}
		case begun && rolling(set):
			known.applied = true
			r.begun[key] = known
		case begun:
			delete(r.begun, key)
			if !known.exempt {
				r.ended = now
			}
		}
	}
	for key := range r.begun {
		if find(sets, key) == nil {
			delete(r.begun, key)
		}
	}
}

// running counts the rollouts that others have to wait for, and those that they no longer wait for.
func (r *Rollouts) running(now time.Time) (running, stuck int) {
	for _, begun := range r.begun {
		switch {
		case begun.exempt:
		case now.Sub(begun.since) < stuckAfter:
			running++
		case begun.applied:
			stuck++
		}
	}
	return running, stuck
}

// Forget drops what is kept of an integration that is gone.
func (r *Rollouts) Forget(p *v1alpha1.PBXIntegration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := types.NamespacedName{Namespace: p.Namespace, Name: Name(p.Name)}
	delete(r.begun, key)
	delete(r.waiting, key)
}

// rolling reports whether pods are being replaced. The controller of StatefulSets sets the current
// revision when all pods are updated and ready.
func rolling(set *appsv1.StatefulSet) bool {
	return set.Status.ObservedGeneration < set.Generation || set.Status.CurrentRevision != set.Status.UpdateRevision
}

func find(sets []appsv1.StatefulSet, key types.NamespacedName) *appsv1.StatefulSet {
	for i := range sets {
		if sets[i].Namespace == key.Namespace && sets[i].Name == key.Name {
			return &sets[i]
		}
	}
	return nil
}
