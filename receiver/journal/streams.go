package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Shares of the volume, in percent. A log of newest values may take twice its share on disk, until
// its blocks are compacted. Together they may take more than there is: when the volume runs out of
// space, EVENTS gives way.
const (
	eventsShare     = 45
	legsShare       = 15
	callsShare      = 20
	quarantineShare = 4
	agentsShare     = 1
	stateShare      = 1
	percent         = 100
	minLogBytes     = 256 << 10
	// maxLegs bounds the memory that the index of the LEGS log takes, about 200 bytes each.
	maxLegs       = 150_000
	maxAgents     = 20_000
	quarantineAge = 7 * 24 * time.Hour
)

// streamOf is the name of the stream that holds a log.
func (j *Journal) streamOf(log Log) string {
	if moved, ok := j.moved[log]; ok {
		return moved
	}
	return j.names.streamOf(log)
}

// owned has a log written by the owners of its partitions. While only this process can open it, it
// is synced a few times a second instead of at every write, which is ten times as fast and safe,
// because it can be written anew from the EVENTS log.
func (j *Journal) owned(config *jetstream.StreamConfig) {
	if j.alone() {
		config.PersistMode = jetstream.AsyncPersistMode
		return
	}
	config.AllowAtomicPublish = true
}

// streamConfigs describes the logs. EVENTS, LEGS and CALLS refuse new records when full, because
// older ones may not have been read; what was read is trimmed by this package.
func (j *Journal) streamConfigs() map[Log]jetstream.StreamConfig {
	share := func(percentage int64) int64 { return max(j.config.Size*percentage/percent, minLogBytes) }
	configs := map[Log]jetstream.StreamConfig{
		Events:     {Subjects: []string{j.names.subject(Events)}, MaxBytes: share(eventsShare), Discard: jetstream.DiscardNew},
		Quarantine: {Subjects: []string{j.names.subject(Quarantine)}, MaxBytes: share(quarantineShare), MaxAge: quarantineAge},
		Legs: {
			Subjects: []string{j.names.key(Legs, ">")}, MaxBytes: share(legsShare), MaxMsgs: maxLegs, Discard: jetstream.DiscardNew,
			MaxMsgsPerSubject: 1,
		},
		Calls: {
			Subjects: []string{j.names.key(Calls, ">")}, MaxBytes: share(callsShare), Discard: jetstream.DiscardNew,
			MaxMsgsPerSubject: 1, AllowMsgTTL: true,
		},
		Agents: {Subjects: []string{j.names.key(Agents, ">")}, MaxBytes: share(agentsShare), MaxMsgs: maxAgents, MaxMsgsPerSubject: 1},
		State:  {Subjects: []string{j.names.key(State, ">")}, MaxBytes: share(stateShare), MaxMsgsPerSubject: 1},
	}
	for log, config := range configs {
		config.Name = j.streamOf(log)
		config.Storage = jetstream.FileStorage
		config.Replicas = j.config.Replicas
		config.AllowDirect = true
		config.Metadata = j.config.Owner.metadata()
		if log == Legs || log == Calls {
			j.owned(&config)
		}
		configs[log] = config
	}
	return configs
}

func (j *Journal) makeStreams(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	j.lastAtStart, j.moved = make(map[Log]uint64), make(map[Log]string)
	for log, config := range j.streamConfigs() {
		stream, err := j.makeStream(ctx, log, config)
		if err != nil {
			return fmt.Errorf("cannot open the %s log: %w", log, err)
		}
		j.lastAtStart[log] = stream.CachedInfo().State.LastSeq
	}
	j.writers = make(map[Log]*writer)
	for _, log := range []Log{Legs, Calls} {
		j.writers[log] = &writer{journal: j, log: log, last: j.lastAtStart[log]}
	}
	j.lastEvent.Store(j.lastAtStart[Events])
	return nil
}
