package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// moveInterval is how often it is looked whether a log has been copied.
const moveInterval = 20 * time.Millisecond

// movedSuffix ends the name of a stream that holds what another one held.
const movedSuffix = "-SHARED"

// makeStream opens a log. Earlier receivers made LEGS and CALLS logs in an external JetStream such
// that they are synced a few times a second. JetStream knows neither replicas nor batches of such a
// stream, nor can it change that: it is moved.
func (j *Journal) makeStream(ctx context.Context, log Log, config jetstream.StreamConfig) (jetstream.Stream, error) {
	if j.config.URL == "" || log != Legs && log != Calls {
		return j.openStream(ctx, config)
	}
	before, after := j.names.streamOf(log), j.names.streamOf(log)+movedSuffix
	origin, err := j.js.Stream(ctx, before)
	switch {
	case err == nil && origin.CachedInfo().Config.PersistMode == jetstream.AsyncPersistMode:
		config.Name = after
		err = j.move(ctx, origin, config)
	case errors.Is(err, jetstream.ErrStreamNotFound):
		var moved bool
		if moved, err = j.exists(ctx, after); moved {
			config.Name = after
		}
	}
	if err != nil {
		return nil, err
	}
	if config.Name == after {
		j.moved[log] = after
	}
	return j.openStream(ctx, config)
}

// move makes a stream out of another one: a mirror first, with the same sequences and times, which
// becomes a stream of its own once it has everything and the other one is gone. It may stop
// anywhere and be repeated.
func (j *Journal) move(ctx context.Context, origin jetstream.Stream, to jetstream.StreamConfig) error {
	from := origin.CachedInfo().Config.Name
	j.config.Logger.Info("a log is given another form", "from", from, "to", to.Name)
	// What an earlier receiver may still want to write goes nowhere.
	closed := origin.CachedInfo().Config
	closed.Subjects = []string{j.names.prefix + "moved." + from}
	origin, err := j.js.UpdateStream(ctx, closed)
	if err != nil {
		return fmt.Errorf("cannot close the stream %s: %w", from, err)
	}
	to.Replicas = closed.Replicas // more of them are asked for later
	mirror := to
	mirror.Subjects, mirror.AllowAtomicPublish, mirror.Mirror = nil, false, &jetstream.StreamSource{Name: from}
	mirror.MirrorDirect = true
	copied, err := j.js.CreateOrUpdateStream(ctx, mirror)
	if err != nil {
		return fmt.Errorf("cannot copy the stream %s: %w", from, err)
	}
	if err := awaitCopy(ctx, origin, copied); err != nil {
		return fmt.Errorf("cannot copy the stream %s: %w", from, err)
	}
	if err := j.js.DeleteStream(ctx, from); err != nil {
		return fmt.Errorf("cannot delete the stream %s: %w", from, err)
	}
	if _, err := j.js.UpdateStream(ctx, to); err != nil {
		return fmt.Errorf("cannot use the copy of the stream %s: %w", from, err)
	}
	return nil
}

// awaitCopy waits until a mirror has what its origin has.
func awaitCopy(ctx context.Context, origin, copied jetstream.Stream) error {
	for {
		want, err := origin.Info(ctx)
		if err != nil {
			return err
		}
		got, err := copied.Info(ctx)
		if err != nil {
			return err
		}
		if want.State.LastSeq == got.State.LastSeq && want.State.Msgs == got.State.Msgs {
			return nil
		}
		if !waitFor(ctx, nil, moveInterval) {
			return context.Cause(ctx)
		}
	}
}
