package journal

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Checkpoint is how far correlation has come.
type Checkpoint struct {
	// Processed is the last EVENTS sequence whose legs are in the LEGS log.
	Processed uint64 `json:"processed"`
	// LowWater is the lowest EVENTS sequence with an event of an unfinished call that is not in the
	// CALLS log. Nothing from here on is trimmed, and a restart reads from here on.
	LowWater uint64 `json:"lowWater"`
}

// readCheckpoint returns the checkpoint of a partition, and the sequence of its record.
func (j *Journal) readCheckpoint(ctx context.Context, partition int) (Checkpoint, uint64, error) {
	messages, err := j.readEach(ctx, State, []directGet{{Last: j.names.key(State, checkpointKey(partition)...)}})
	if err != nil || len(messages) == 0 {
		return Checkpoint{}, 0, err
	}
	var checkpoint Checkpoint
	if err := cmp.Or(messages[0].damage, json.Unmarshal(messages[0].data, &checkpoint)); err != nil {
		j.skipDamaged(State, messages[0].sequence, fmt.Errorf("a checkpoint cannot be read, and all events of its partition are correlated again: %w", err))
		return Checkpoint{}, messages[0].sequence, nil
	}
	return checkpoint, messages[0].sequence, nil
}

func (j *Journal) getState(ctx context.Context, parts ...string) ([]byte, error) {
	messages, err := j.readEach(ctx, State, []directGet{{Last: j.names.key(State, parts...)}})
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	return messages[0].data, messages[0].damage
}

func (j *Journal) putState(ctx context.Context, data []byte, parts ...string) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	_, err := j.js.Publish(ctx, j.names.key(State, parts...), data)
	return j.storeError(State, err)
}

// putStateAt is putState that replaces only the record with the given sequence; 0: none.
func (j *Journal) putStateAt(ctx context.Context, data []byte, sequence uint64, parts ...string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	ack, err := j.js.Publish(ctx, j.names.key(State, parts...), data, jetstream.WithExpectLastSequencePerSubject(sequence), jetstream.WithRetryAttempts(0))
	if err = j.storeError(State, err); err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// AgentRecord is the newest state of one queue agent, or of one phone.
type AgentRecord struct {
	// Phone tells that the state is the account-defined status of a phone; empty, it was removed.
	Phone bool `json:"phone,omitempty"`
	// Mapping is the UID of the mapping, or of the integration, whose event URL was called.
	Mapping string `json:"mapping"`
	// Extension is the number of the agent's extension, or of the phone; empty where the event did
	// not say.
	Extension string `json:"extension,omitempty"`
	// ExtensionID is the PBX's id of that extension; empty where the event did not say.
	ExtensionID string `json:"extensionID,omitempty"`
	State       string `json:"state"`
	// Since is the time of the event.
	Since time.Time `json:"since"`
}

// Key tells agents and phones apart.
func (r *AgentRecord) Key() string {
	if r.Phone {
		return hash("phone\x00" + r.Mapping + "\x00" + cmp.Or(r.ExtensionID, r.Extension))
	}
	return hash(r.Mapping + "\x00" + r.Extension)
}

// PutAgents makes states of agents and phones durable, all together; each replaces the earlier one
// of its key.
func (j *Journal) PutAgents(ctx context.Context, records []AgentRecord) error {
	if len(records) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	acks := make([]jetstream.PubAckFuture, len(records))
	for i := range records {
		data, err := json.Marshal(&records[i])
		if err != nil {
			return fmt.Errorf("cannot encode an agent's state: %w", err)
		}
		acks[i], err = j.js.PublishAsync(j.names.key(Agents, records[i].Key()), data, jetstream.WithRetryAttempts(0))
		if err != nil {
			return j.storeError(Agents, err)
		}
	}
	for _, ack := range acks {
		if err := j.storeError(Agents, await(ctx, ack)); err != nil {
			return err
		}
	}
	j.changes[Agents].notify()
	return nil
}

// await returns nil when a record is durable.
func await(ctx context.Context, ack jetstream.PubAckFuture) error {
	select {
	case <-ack.Ok():
		return nil
	case err := <-ack.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ConsumeAgents hands the newest state of every agent and phone to handle, with the promises of
// ConsumeLegs.
func (j *Journal) ConsumeAgents(ctx context.Context, durable string, handle func(context.Context, []AgentRecord) error) error {
	return j.consume(ctx, Agents, durable, func(ctx context.Context, messages []message) error {
		records := make([]AgentRecord, 0, len(messages))
		for _, m := range messages {
			var record AgentRecord
			if err := cmp.Or(m.damage, json.Unmarshal(m.data, &record)); err != nil {
				j.skipDamaged(Agents, m.sequence, err)
				continue
			}
			records = append(records, record)
		}
		if len(records) == 0 {
			return nil
		}
		return handle(ctx, records)
	})
}
