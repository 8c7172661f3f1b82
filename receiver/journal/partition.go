package journal

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

const (
	// DefaultPartitions is the number of partitions of new logs.
	DefaultPartitions = 16
	// MaxPartitions is how many a PartitionSet can tell apart.
	MaxPartitions = 64
)

var errPartitions = errors.New("the number of partitions cannot be used")

// PartitionSet is a set of partitions.
type PartitionSet uint64

func (s *PartitionSet) add(partition int)     { *s |= 1 << partition }
func (s PartitionSet) has(partition int) bool { return s&(1<<partition) != 0 }
func (s PartitionSet) more() bool             { return bits.OnesCount64(uint64(s)) > 1 }
func (s PartitionSet) each(yield func(int)) { // in ascending order
	for rest := uint64(s); rest != 0; rest &= rest - 1 {
		yield(bits.TrailingZeros64(rest))
	}
}

// partitioning tells to which of a fixed number of partitions things belong.
type partitioning int

// of returns the partition of a key as hash makes it.
func (n partitioning) of(key string) int {
	const digits = 8
	value, err := strconv.ParseUint(key[:min(digits, len(key))], 16, 32)
	if err != nil {
		return 0 // no key of ours
	}
	return int(value % uint64(n))
}

// ofEvent returns the partition of an event: that of its call. What belongs to no call goes by the
// mapping that it came through, so that the states of an agent stay in order. It reports false for
// an event that nobody takes.
func (n partitioning) ofEvent(mapping string, event *callevent.Event) (int, bool) {
	switch {
	case event.Type == callevent.Agent, event.Type == callevent.PhoneStatus:
		return n.of(hash(mapping)), true
	case event.CallID != "":
		return n.of(hash(event.CallID)), true
	default:
		return 0, false
	}
}

// touched are the partitions that the events of one notification belong to.
func (n partitioning) touched(decoded Decoded) (set PartitionSet) {
	for i := range decoded.Events {
		if partition, ok := n.ofEvent(decoded.Mapping, &decoded.Events[i]); ok {
			set.add(partition)
		}
	}
	return set
}

// only leaves those events of a notification that belong to one partition.
func (n partitioning) only(decoded Decoded, partition int) Decoded {
	all := decoded.Events
	decoded.Events = nil
	for i := range all {
		if p, ok := n.ofEvent(decoded.Mapping, &all[i]); ok && p == partition {
			decoded.Events = append(decoded.Events, all[i])
		}
	}
	return decoded
}

// Partitions is how many partitions the logs have.
func (j *Journal) Partitions() int { return int(j.partitions) }

// awaitPartitions is learnPartitions that waits for the other members of a cluster: shortly after a
// start the log may have no leader.
func (j *Journal) awaitPartitions(ctx context.Context) error {
	for {
		err := j.learnPartitions(ctx)
		if err == nil || j.config.Cluster == nil || errors.Is(err, errPartitions) || !waitFor(ctx, nil, joinPause) {
			return err
		}
	}
}

// learnPartitions reads how many partitions the logs have. Logs that do not say so get as many as
// are configured: what an earlier receiver has written becomes the beginning of each of them.
func (j *Journal) learnPartitions(ctx context.Context) error {
	text, err := j.getState(ctx, "partitions")
	if err != nil {
		return err
	}
	if text == nil {
		if text, err = j.divide(ctx); err != nil {
			return err
		}
	}
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || n > MaxPartitions {
		return fmt.Errorf("%w: %q", errPartitions, text)
	}
	j.partitions = partitioning(n)
	return nil
}

// divide gives every partition what an earlier receiver has noted for the whole, and then records
// their number. It may stop anywhere and be repeated, and several receivers may do it at once: of
// two numbers the first counts.
func (j *Journal) divide(ctx context.Context) ([]byte, error) {
	checkpoint, err := j.getState(ctx, "checkpoint")
	if err != nil {
		return nil, err
	}
	for partition := range j.config.Partitions {
		if checkpoint == nil {
			break
		}
		if _, err := j.putStateAt(ctx, checkpoint, 0, checkpointKey(partition)...); err != nil && !isWrongSequence(err) {
			return nil, err
		}
	}
	number := []byte(strconv.Itoa(j.config.Partitions))
	if _, err := j.putStateAt(ctx, number, 0, "partitions"); err != nil && !isWrongSequence(err) {
		return nil, err
	}
	return j.getState(ctx, "partitions")
}

// isWrongSequence reports whether a record was refused because another one came before it.
func isWrongSequence(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == codeWrongSequenceConstant)
}
