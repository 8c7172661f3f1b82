package journal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Owner is the integration that logs belong to. It, and not the UID of the object, tells the logs
// of integrations in one JetStream apart: one that is restored from a backup finds its logs again.
type Owner struct{ Namespace, Name string }

// Keys of the metadata of a stream that say whose it is.
const (
	metadataNamespace = "pbx-operator.io/namespace"
	metadataName      = "pbx-operator.io/integration"
)

func (o Owner) metadata() map[string]string {
	if o == (Owner{}) {
		return nil
	}
	return map[string]string{metadataNamespace: o.Namespace, metadataName: o.Name}
}

func (o Owner) String() string { return o.Namespace + "/" + o.Name }

// names maps logs to streams and subjects.
type names struct{ stream, prefix string }

// newNames gives the names of an integration's logs. An embedded JetStream needs no name, since
// nobody else uses it. In Kubernetes a namespace has no dot and neither name has an underscore, so
// that no two integrations share a name, and none has one that formerNames gives.
func newNames(owner Owner) names {
	if owner == (Owner{}) {
		return names{}
	}
	name := strings.ReplaceAll(owner.Name, ".", "_")
	return names{stream: "PBX_" + owner.Namespace + "_" + name + "_", prefix: "pbx.logs." + owner.Namespace + "." + name + "."}
}

// formerNames are those that earlier receivers gave. They can be the same for several integrations.
func formerNames(owner Owner) names {
	former := formerName(owner)
	return names{stream: "PBX-" + former + "-", prefix: "pbx." + former + "."}
}

func formerName(owner Owner) string {
	return strings.ReplaceAll(owner.Namespace+"-"+owner.Name, ".", "_")
}

// onlyOne reports whether no other integration has the same former name.
func (o Owner) onlyOne() bool {
	former := formerName(o)
	return strings.Count(former, "-") == 1 && !strings.Contains(former, "_")
}

func (n names) streamOf(log Log) string { return n.stream + string(log) }

// subject of a log without keys, and the prefix of the subjects of one with keys.
func (n names) subject(log Log) string { return n.prefix + strings.ToLower(string(log)) }

func (n names) key(log Log, parts ...string) string {
	const longest = 128 // of most
	subject := append(append(make([]byte, 0, longest), n.prefix...), log...)
	for i := len(n.prefix); i < len(subject); i++ {
		subject[i] |= 'a' - 'A' // the names of logs are capital letters
	}
	for _, part := range parts {
		subject = append(append(subject, '.'), part...)
	}
	return string(subject)
}

// hash shortens an id of any form to a subject token: 96 bits.
func hash(id string) string {
	var token [24]byte
	sum := sha256.Sum256([]byte(id))
	hex.Encode(token[:], sum[:12])
	return string(token[:])
}

// findLogs finds out what an external JetStream grants, and where the logs are there.
func (j *Journal) findLogs(ctx context.Context) error {
	j.names = newNames(j.config.Owner)
	if err := checkVersion(j.conn.ConnectedServerVersion()); err != nil {
		return err
	}
	if err := j.checkPayload(); err != nil {
		return err
	}
	return j.findNames(ctx)
}

// findNames finds out which names the logs of the integration go by. JetStream cannot rename a
// stream, so logs of an earlier receiver keep their names if they are those of this integration.
func (j *Journal) findNames(ctx context.Context) error {
	if j.config.Owner == (Owner{}) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if exists, err := j.exists(ctx, j.names.streamOf(Events)); exists || err != nil {
		return err
	}
	current := j.names
	j.names = formerNames(j.config.Owner)
	if exists, err := j.exists(ctx, j.names.streamOf(State)); !exists || err != nil {
		j.names = current
		return err
	}
	owner, err := j.claim(ctx)
	if err != nil {
		return fmt.Errorf("cannot find out whose logs there are: %w", err)
	}
	if owner != j.config.Owner.String() {
		j.config.Logger.Warn("the logs by the former name of this integration are not known to be its own and are left alone; new ones are made",
			"stream", j.names.streamOf(Events), "owner", owner)
		j.names = current
	}
	return nil
}

func (j *Journal) exists(ctx context.Context, stream string) (bool, error) {
	_, err := j.js.Stream(ctx, stream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("cannot look for the stream %s: %w", stream, err)
	}
	return true, nil
}

// ownerKey is where the STATE log tells whose logs with a former name are.
const ownerKey = "owner"

// claim makes the logs those of this integration if they provably are, and returns their owner;
// empty if that is not known. Of several that claim them one gets them.
func (j *Journal) claim(ctx context.Context) (string, error) {
	owner, err := j.getState(ctx, ownerKey)
	if err != nil || owner != nil {
		return string(owner), err
	}
	if ours, err := j.provablyOurs(ctx); err != nil || !ours {
		return "", err
	}
	_, err = j.js.Publish(ctx, j.names.key(State, ownerKey), []byte(j.config.Owner.String()), jetstream.WithExpectLastSequencePerSubject(0))
	if api := new(jetstream.APIError); err != nil && (!errors.As(err, &api) || api.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence) {
		return "", err
	}
	owner, err = j.getState(ctx, ownerKey)
	return string(owner), err
}

// provenBy is how many of the newest groups are searched for an event of this integration.
const provenBy = 512

// provablyOurs reports whether logs with a former name are those of this integration: no other one
// can have that name, or an event came in by an event URL of this one.
func (j *Journal) provablyOurs(ctx context.Context) (bool, error) {
	if j.config.Owner.onlyOne() {
		return true, nil
	}
	if j.config.Ours == nil {
		return false, nil
	}
	stats, err := j.Stats(ctx, Events)
	if err != nil {
		return false, err
	}
	from := max(stats.First, stats.Last-min(stats.Last, provenBy))
	for from <= stats.Last {
		messages, err := j.read(ctx, Events, from, provenBy)
		if err != nil || len(messages) == 0 {
			return false, err
		}
		for _, m := range messages {
			frames, _ := splitGroup(m.data) // what cannot be read proves nothing
			entries, _ := decodeFrames(frames, func(frame) bool { return true })
			if slices.ContainsFunc(entries, func(e Entry) bool { return j.config.Ours(ctx, e.Mapping) }) {
				return true, nil
			}
		}
		from = messages[len(messages)-1].sequence + 1
	}
	return false, nil
}
