package journal

import (
	"context"
	"fmt"
)

// Stats is how full a log is.
type Stats struct {
	Records     uint64
	Bytes       uint64
	Limit       uint64
	First, Last uint64
}

// Stats looks at a log.
func (j *Journal) Stats(ctx context.Context, log Log) (Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	stream, err := j.js.Stream(ctx, j.names.streamOf(log))
	if err != nil {
		return Stats{}, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	info := stream.CachedInfo()
	return Stats{
		Records: info.State.Msgs, Bytes: info.State.Bytes, Limit: uint64(max(info.Config.MaxBytes, 0)),
		First: info.State.FirstSeq, Last: info.State.LastSeq,
	}, nil
}
