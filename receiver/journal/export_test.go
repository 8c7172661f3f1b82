package journal

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// BreakServer stops JetStream under the journal, as a full disk does.
func BreakServer(j *Journal) {
	j.server.running().ShutdownJetStream()
}

// DecodeGroup takes a message of the EVENTS log apart.
var DecodeGroup = decodeGroup

// AppendFrame appends a record to a message of the EVENTS log.
var AppendFrame = appendFrame

// AllRead reports whether the readers of the LEGS log have finished with everything in it.
func (j *Journal) AllRead() bool {
	lowest, ok := j.cursors.lowest(Legs)
	return ok && lowest == j.lastPut[Legs]
}

// UseFormerNames gives the streams of an external JetStream the names and the metadata that earlier
// receivers gave them.
func UseFormerNames(ctx context.Context, js jetstream.JetStream, owner Owner) error {
	config := Config{Owner: owner, URL: "nats://unused", Replicas: 1}.withDefaults()
	j := &Journal{config: config, names: formerNames(owner)}
	for _, stream := range j.streamConfigs() {
		stream.Metadata = nil
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
