package pbxapi

import (
	"context"
	"errors"
	"sync"
	"time"
)

// agentDirectory is the list of queue agents of one PBX. Most extensions have no agent, so that one
// that is not in the list is no reason to read it again before its time.
type agentDirectory struct {
	roster[Agent]

	failed struct {
		sync.Mutex
		at  time.Time
		err error
	}
}

func newAgentDirectory(list func(context.Context) ([]Agent, error), options Options) *agentDirectory {
	d := &agentDirectory{}
	d.list = func(ctx context.Context) ([]Agent, error) {
		agents, err := withoutAgents(list(ctx))
		d.note(err)
		return agents, err
	}
	d.key = func(a Agent) (id, number string) { return a.ID, a.Number }
	d.ttl, d.rescan = options.DirectoryTTL, options.DirectoryRescan
	return d
}

// withoutAgents takes a PBX, or an account, that has no such thing as queue agents for one without
// any.
func withoutAgents(agents []Agent, err error) ([]Agent, error) {
	if errors.Is(err, ErrForbidden) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrNotSupported) {
		return nil, nil
	}
	return agents, err
}

// lookup finds the agent at an extension. It asks the PBX when the list is old, unless that failed
// just now: nobody's work depends on it so much that each should try.
func (d *agentDirectory) lookup(ctx context.Context, number string) (Agent, bool, error) {
	agent, ok, age := d.cached(number)
	if age < d.ttl {
		return agent, ok, nil
	}
	if err := d.lastFailure(); err != nil {
		return Agent{}, false, err
	}
	if err := d.refresh(ctx); err != nil {
		return Agent{}, false, err
	}
	agent, ok, _ = d.cached(number)
	return agent, ok, nil
}

// note remembers how the last attempt to read the list went, where the PBX was asked.
func (d *agentDirectory) note(err error) {
	if _, limited := errors.AsType[*RateLimitedError](err); limited {
		return
	}
	d.failed.Lock()
	defer d.failed.Unlock()
	d.failed.at, d.failed.err = time.Now(), err
}

func (d *agentDirectory) lastFailure() error {
	d.failed.Lock()
	defer d.failed.Unlock()
	if time.Since(d.failed.at) < d.rescan {
		return d.failed.err
	}
	return nil
}
