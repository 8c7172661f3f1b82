package workload_test

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	appsac "k8s.io/client-go/applyconfigurations/apps/v1"
	testclock "k8s.io/utils/clock/testing"

	"github.com/pbx-operator/pbx-operator/controllers/integration/workload"
)

// fleet is some integrations and their receivers, in a cluster in which nothing happens by itself.
type fleet struct {
	t            *testing.T
	clock        *testclock.FakePassiveClock
	rollouts     *workload.Rollouts
	image        string
	integrations []*integration
	sets         []appsv1.StatefulSet
}

func newFleet(t *testing.T, size, limit int, pause time.Duration) *fleet {
	t.Helper()
	f := &fleet{t: t, clock: testclock.NewFakePassiveClock(time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)), image: "receiver:1"}
	f.rollouts = workload.NewRollouts(limit, pause, f.clock)
	f.sets = make([]appsv1.StatefulSet, size)
	for i := range size {
		f.integrations = append(f.integrations, newIntegration(func(p *integration) {
			p.Name, p.Generation = fmt.Sprintf("pbx-%d", i), 1
		}))
		f.apply(i)
		f.ready(i)
	}
	return f
}

func (f *fleet) wanted(i int) *appsac.StatefulSetApplyConfiguration {
	f.t.Helper()
	p := f.integrations[i]
	list, err := workload.Children(p, workload.Settings{Image: f.image}, workload.Scale{Size: p.Spec.Receiver.Storage.Size})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, child := range list {
		if set, ok := child.Apply.(*appsac.StatefulSetApplyConfiguration); ok {
			return set
		}
	}
	f.t.Fatal("there is no StatefulSet")
	return nil
}

// apply does what the API server and the controller of StatefulSets do first.
func (f *fleet) apply(i int) {
	f.t.Helper()
	wanted, set := f.wanted(i), &f.sets[i]
	set.Namespace, set.Name, set.Annotations = *wanted.Namespace, *wanted.Name, wanted.Annotations
	set.Generation++
	set.Status.ObservedGeneration, set.Status.Replicas, set.Status.ReadyReplicas, set.Status.UpdatedReplicas = set.Generation, 1, 0, 1
	set.Status.UpdateRevision = fmt.Sprint(set.Generation)
}

func (f *fleet) ready(i int) {
	f.sets[i].Status.ReadyReplicas, f.sets[i].Status.CurrentRevision = 1, f.sets[i].Status.UpdateRevision
}

// pass applies those that may be, and returns which.
func (f *fleet) pass() []int {
	f.t.Helper()
	var applied []int
	for i := range f.integrations {
		wanted := f.wanted(i)
		changed := f.sets[i].Annotations["pbx-operator.io/template"] != wanted.Annotations["pbx-operator.io/template"]
		if turn := f.rollouts.Admit(f.integrations[i], wanted, f.sets); turn.Wait == 0 && changed {
			f.apply(i)
			applied = append(applied, i)
		}
	}
	return applied
}

func (f *fleet) expect(when string, want ...int) {
	f.t.Helper()
	if got := f.pass(); fmt.Sprint(got) != fmt.Sprint(want) {
		f.t.Errorf("%s: %v restart, want %v", when, got, want)
	}
}

func (f *fleet) wait(d time.Duration) { f.clock.SetTime(f.clock.Now().Add(d)) }

func TestAnUpgradeRollsOneReceiverAfterAnother(t *testing.T) {
	f := newFleet(t, 3, 1, 10*time.Second)
	f.expect("before")
	f.image = "receiver:2"
	f.expect("after the upgrade", 0)
	f.wait(time.Minute)
	f.expect("while the first is not ready")
	f.ready(0)
	f.expect("when the first has just become ready")
	f.wait(10 * time.Second)
	f.expect("after the pause", 1)
	f.ready(1)
	f.expect("when the second has just become ready")
	f.wait(10 * time.Second)
	f.expect("after the second pause", 2)
	f.ready(2)
	f.expect("at the end")
}

func TestSeveralAtATime(t *testing.T) {
	f := newFleet(t, 5, 2, 0)
	f.image = "receiver:2"
	f.expect("after the upgrade", 0, 1)
	f.ready(1)
	f.expect("when one is ready", 2)
}

func TestAUserWaitsForNobody(t *testing.T) {
	f := newFleet(t, 3, 1, time.Minute)
	f.image = "receiver:2"
	f.expect("after the upgrade", 0)
	f.integrations[2].Generation++
	f.integrations[2].Spec.Receiver.Template.PriorityClassName = "high"
	f.expect("a change by its user", 2)
}

func TestAReceiverThatDoesNotWorkWaitsForNobodyAndKeepsNobody(t *testing.T) {
	f := newFleet(t, 3, 1, 0)
	f.sets[2].Status.ReadyReplicas = 0
	f.image = "receiver:2"
	f.expect("after the upgrade", 0, 2)
	f.wait(9 * time.Minute)
	f.expect("while the first is not ready")
	f.wait(time.Minute)
	f.expect("when the first is stuck", 1)
}

// Of an image that works nowhere two receivers fall ill, and the others go on with the former one.
func TestABrokenImageStopsTheUpgrade(t *testing.T) {
	f := newFleet(t, 5, 1, 0)
	f.image = "receiver:broken"
	f.expect("after the upgrade", 0)
	f.wait(10 * time.Minute)
	f.expect("when the first is stuck", 1)
	for range 6 {
		f.wait(time.Hour)
		f.expect("when the second is stuck")
	}
	turn := f.rollouts.Admit(f.integrations[3], f.wanted(3), f.sets)
	if turn.Wait == 0 || turn.Stuck != 2 {
		t.Errorf("the turn of another one is %+v", turn)
	}
	f.image = "receiver:mended"
	f.expect("after the next version", 0, 1, 2)
	f.ready(0)
	f.ready(1)
	f.ready(2)
	f.expect("when these are ready", 3)
}

func TestAPinnedReceiverIsNotRolled(t *testing.T) {
	f := newFleet(t, 1, 1, 0)
	f.integrations[0].Generation++
	f.integrations[0].Spec.Receiver.Image = "receiver:1"
	f.apply(0)
	f.ready(0)
	f.image = "receiver:2"
	f.expect("after the upgrade")
}

func TestANewManagerSeesWhatIsUnderWay(t *testing.T) {
	f := newFleet(t, 2, 1, 0)
	f.image = "receiver:2"
	f.expect("after the upgrade", 0)
	f.rollouts = workload.NewRollouts(1, 0, f.clock)
	f.expect("after a restart of the manager")
	f.ready(0)
	f.expect("when the first is ready", 1)
}

func TestAnOutdatedCacheLetsNobodyThroughTwice(t *testing.T) {
	f := newFleet(t, 2, 1, 0)
	f.image = "receiver:2"
	for i, want := range []bool{true, false} {
		if turn := f.rollouts.Admit(f.integrations[i], f.wanted(i), f.sets); (turn.Wait == 0) != want {
			t.Errorf("receiver %d waits for %s", i, turn.Wait)
		}
	}
}

func TestAReceiverOfAFormerVersionIsPacedToo(t *testing.T) {
	f := newFleet(t, 2, 1, 0)
	for i := range f.sets {
		f.sets[i].Annotations = nil
	}
	f.expect("after the upgrade", 0)
}

func TestAReceiverThatCannotBeAppliedKeepsNobodyForEver(t *testing.T) {
	f := newFleet(t, 2, 1, 0)
	f.image = "receiver:2"
	for range 10 { // the API server refuses it each time
		if turn := f.rollouts.Admit(f.integrations[0], f.wanted(0), f.sets); turn.Wait > 0 {
			t.Fatalf("the first receiver waits for %s", turn.Wait)
		}
		f.wait(2 * time.Minute)
	}
	if turn := f.rollouts.Admit(f.integrations[1], f.wanted(1), f.sets); turn.Wait > 0 {
		t.Errorf("the second receiver waits for %s longer", turn.Wait)
	}
}
