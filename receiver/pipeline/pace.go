package pipeline

import "time"

// pace is the least time between the events that two passes begin with, so that more comes together:
// fewer and larger reads and writes. Several pipelines in one process leave more time, up to
// mostPace.
const (
	pace     = 25 * time.Millisecond
	mostPace = 100 * time.Millisecond
)

// pause is how long to wait after a pass: not at all while correlation is behind.
func (p *Pipeline) pause() time.Duration {
	least := min(pace*time.Duration(max(p.config.Sharers(), 1)), mostPace)
	age := p.config.Now().Sub(time.UnixMicro(p.progress.current.Load()))
	return min(max(least-age, 0), least)
}
