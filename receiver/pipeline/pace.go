package pipeline

import "time"

// pace is the least time between the events that two passes begin with, so that more comes together:
// fewer and larger reads and writes.
const pace = 25 * time.Millisecond

// pause is how long to wait after a pass: not at all while correlation is behind.
func (p *Pipeline) pause() time.Duration {
	age := p.config.Now().Sub(time.UnixMicro(p.progress.current.Load()))
	return min(max(pace-age, 0), pace)
}
