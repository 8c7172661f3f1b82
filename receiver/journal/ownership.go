package journal

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pbx-operator/pbx-operator/receiver/ownership"
)

// Tokens of the subjects in the STATE log under which receivers note what they own.
const (
	ownerToken  = "owns"
	memberToken = "member"
)

// Shared reports whether other receivers can open the logs, too.
func (j *Journal) Shared() bool { return !j.alone() }

// Owners is the place in the STATE log where receivers note what they own.
type Owners struct{ *Journal }

// Look implements ownership.Store.
func (o Owners) Look(ctx context.Context) (ownership.Sight, error) {
	sight := ownership.Sight{Holdings: make(map[string]ownership.Holding), Beats: make(map[string]uint64)}
	const most = 1000
	messages, err := o.readBatch(ctx, State, directGet{
		MultiLast: []string{o.names.key(State, ownerToken, "*"), o.names.key(State, memberToken, "*")}, Batch: most, MaxBytes: maxReadBytes,
	})
	if err != nil {
		return sight, err
	}
	for _, m := range messages {
		token, name, _ := strings.Cut(strings.TrimPrefix(m.subject, o.names.subject(State)+"."), ".")
		if token == memberToken {
			sight.Beats[string(m.data)] = m.sequence
			continue
		}
		holding := ownership.Holding{Sequence: m.sequence}
		if err := cmp.Or(m.damage, json.Unmarshal(m.data, &holding)); err != nil {
			o.skipDamaged(State, m.sequence, fmt.Errorf("the owner of %s: %w", name, err))
		}
		sight.Holdings[name] = holding
	}
	return sight, nil
}

// Beat implements ownership.Store.
func (o Owners) Beat(ctx context.Context, member string) error {
	return o.putState(ctx, []byte(member), memberToken, hash(member))
}

// Leave implements ownership.Store.
func (o Owners) Leave(ctx context.Context, member string) error {
	stream, err := o.js.Stream(ctx, o.streamOf(State))
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject(o.names.key(State, memberToken, hash(member)))); err != nil {
		return fmt.Errorf("cannot remove the heartbeat of a receiver: %w", err)
	}
	return nil
}

// Claim implements ownership.Store. The term of a partition is newer than that of its heads, which
// may come from before receivers noted what they own.
func (o Owners) Claim(ctx context.Context, slot string, before ownership.Holding, member string) (ownership.Holding, error) {
	held := ownership.Holding{Owner: member, Term: before.Term + 1}
	if partition, err := strconv.Atoi(slot); err == nil {
		for _, log := range []Log{Legs, Calls} {
			h, err := o.readHead(ctx, log, partition)
			if err != nil {
				return held, err
			}
			held.Term = max(held.Term, h.Number+1)
		}
	}
	return o.note(ctx, slot, before.Sequence, held)
}

// Release implements ownership.Store.
func (o Owners) Release(ctx context.Context, slot string, held ownership.Holding) error {
	_, err := o.note(ctx, slot, held.Sequence, ownership.Holding{Term: held.Term})
	return err
}

// note writes a holding in the place of the one with the given sequence.
func (o Owners) note(ctx context.Context, slot string, sequence uint64, holding ownership.Holding) (ownership.Holding, error) {
	text, err := json.Marshal(holding)
	if err != nil {
		return holding, fmt.Errorf("cannot encode the owner of %s: %w", slot, err)
	}
	holding.Sequence, err = o.putStateAt(ctx, text, sequence, ownerToken, slot)
	return holding, err
}

// wakeSubject is where receivers tell each other of the partitions that a commit touches.
func (j *Journal) wakeSubject() string { return j.names.prefix + "wake" }

// tellOthers has other receivers read a commit that was made here. One who misses it reads the log
// a little later.
func (j *Journal) tellOthers(touched PartitionSet) {
	if !j.alone() {
		_ = j.conn.Publish(j.wakeSubject(), strconv.AppendUint([]byte(j.id+" "), uint64(touched), 16)) // see above
	}
}

// listenToOthers reads what other receivers have committed as soon as they tell of it.
func (j *Journal) listenToOthers() error {
	if j.alone() {
		return nil
	}
	_, err := j.conn.Subscribe(j.wakeSubject(), func(m *nats.Msg) {
		id, text, _ := strings.Cut(string(m.Data), " ")
		touched, err := strconv.ParseUint(text, 16, 64)
		if id == j.id || err != nil {
			return
		}
		j.recent.lookAgain()
		j.changes[Events].notify()
		j.wakePartitions(PartitionSet(touched))
	})
	if err != nil {
		return fmt.Errorf("cannot listen to other receivers: %w", err)
	}
	return nil
}
