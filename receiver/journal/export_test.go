package journal

import (
	"cmp"
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// BreakServer stops JetStream under the journal, as a full disk does.
func BreakServer(j *Journal) {
	j.server.running().ShutdownJetStream()
}

// CheckVersion refuses servers that are too old.
var CheckVersion = checkVersion

// DecodeGroup takes a message of the EVENTS log apart.
func DecodeGroup(group []byte) ([]Entry, error) {
	frames, err := splitGroup(group)
	entries, damage := decodeFrames(frames, func(frame) bool { return true })
	return entries, cmp.Or(err, damage)
}

// AppendFrame appends a record to a message of the EVENTS log.
func AppendFrame(group, record []byte) []byte { return appendFrame(group, &waiting{record: record}) }

// AllRead reports whether the readers of the LEGS log have finished with everything in it.
func (j *Journal) AllRead() bool {
	lowest, ok := j.cursors.lowest(Legs)
	return ok && lowest == j.writers[Legs].last
}

// UseFormerNames gives the streams of an external JetStream the names and the metadata that earlier
// receivers gave them.
func UseFormerNames(ctx context.Context, js jetstream.JetStream, owner Owner) error {
	config := Config{Owner: owner, URL: "nats://unused", Replicas: 1}.withDefaults()
	j := &Journal{config: config, names: formerNames(owner)}
	for _, stream := range j.streamConfigs() {
		stream.Metadata, stream.AllowAtomicPublish = nil, false
		if stream.MaxMsgsPerSubject == 1 && stream.Discard == jetstream.DiscardNew {
			stream.PersistMode = jetstream.AsyncPersistMode
		}
		if _, err := js.CreateStream(ctx, stream); err != nil {
			return err
		}
	}
	return nil
}

// FormerName is what the names of the streams of earlier receivers began with.
func FormerName(owner Owner) string { return formerNames(owner).stream }
