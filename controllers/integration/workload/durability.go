package workload

import (
	"cmp"
	"fmt"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// Durability is what "answered 2xx" means for an event.
type Durability struct {
	// Kept: the event is on disk, and no end of a single process or machine loses it.
	Kept            bool
	Reason, Message string
}

// DurabilityOf follows from the spec: a NATS server does not tell its clients how it writes to disk.
func DurabilityOf(p *v1alpha1.PBXIntegration) Durability {
	receiver := p.Spec.Receiver
	nats := receiver.Journal.NATS
	switch {
	case nats == nil && receiver.Storage.Ephemeral:
		return Durability{false, v1alpha1.ReasonStorageEphemeral,
			"an event answered 2xx is on the disk of the node, and lost with the pod: leave out spec.receiver.storage.ephemeral"}
	case nats == nil && receiver.Replicas <= 1:
		return Durability{true, v1alpha1.ReasonOnDisk, "an event answered 2xx is on the disk of the volume"}
	case nats == nil:
		return Durability{true, v1alpha1.ReasonOnDiskOfMajority, onMajority(receiver.Replicas, "replicas")}
	}
	replicas, synced := cmp.Or(nats.Replicas, natsReplicas), nats.Sync == v1alpha1.NATSSyncAlways
	switch {
	case replicas == 1 && synced:
		return Durability{true, v1alpha1.ReasonOnDisk, "an event answered 2xx is on the disk of one NATS server, and lost with that disk"}
	case replicas == 1:
		return Durability{false, v1alpha1.ReasonNotSynced,
			"an event answered 2xx is in the memory of one NATS server, and lost when its machine goes down before it writes to disk: " + advice}
	case synced:
		return Durability{true, v1alpha1.ReasonOnDiskOfMajority, onMajority(replicas, "NATS servers")}
	default:
		return Durability{false, v1alpha1.ReasonReplicatedNotSynced, fmt.Sprintf(
			"an event answered 2xx is in the memory of %d of %d NATS servers: it survives the end of their processes, but a loss of power may take it: %s",
			replicas/2+1, replicas, advice)}
	}
}

const advice = "configure the servers with sync_interval: always, then set spec.receiver.journal.nats.sync to Always"

func onMajority(replicas int32, what string) string {
	return fmt.Sprintf("an event answered 2xx is on the disks of %d of %d %s", replicas/2+1, replicas, what)
}
