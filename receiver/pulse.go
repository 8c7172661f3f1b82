package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

const (
	pulseName = "taking-events.json"
	// pulseInterval is how often it is noted that events are taken. Shorter outages are none.
	pulseInterval = 5 * time.Second
	// showTimeout is how long the API server may take to be told of an outage.
	showTimeout = 3 * time.Second
)

// outage is a time in which no events were taken.
type outage struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// beat is what is known of when events were taken.
type beat struct {
	// Taking is when events were last taken; zero where that is not known.
	Taking time.Time `json:"taking"`
	// Unshown is an outage that the status of the integration does not show yet.
	Unshown *outage `json:"unshown,omitempty"`
}

// resume notes that events are taken again. An outage that could not be shown goes on with the next one.
func (b beat) resume(now time.Time) beat {
	if !b.Taking.IsZero() && now.Sub(b.Taking) >= pulseInterval {
		start := b.Taking
		if b.Unshown != nil {
			start = b.Unshown.Start
		}
		b.Unshown = &outage{Start: start, End: now}
	}
	b.Taking = now
	return b
}

// pulse notes in the data directory that events are taken, so that it is known after a restart for how long none were, and shows that.
type pulse struct {
	path  string
	now   func() time.Time
	ready func() error
	show  func(ctx context.Context, start, end time.Time) error
	// covered tells that other receivers take events while this one is away.
	covered func() bool
	log     *slog.Logger

	beat  beat
	taken bool // events were taken when that was last looked at
	lost  bool // the note could not be written
}

// load reads what an earlier run has left. Where it left nothing, an outage would have neither length nor end.
func (p *pulse) load() {
	text, err := os.ReadFile(p.path)
	if err == nil {
		err = json.Unmarshal(text, &p.beat)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.log.Info("it is not known when events were last taken: the data directory is new, or it was lost")
	case err != nil:
		p.log.Warn("it is not known when events were last taken", "error", err)
	}
}

// run works until ctx ends.
func (p *pulse) run(ctx context.Context) {
	p.load()
	ticker := time.NewTicker(pulseInterval)
	defer ticker.Stop()
	for {
		p.look(ctx)
		select {
		case <-ctx.Done():
			p.end()
			return
		case <-ticker.C:
		}
	}
}

// look notes whether events are taken, and shows an outage that is over.
func (p *pulse) look(ctx context.Context) {
	switch {
	case p.ready() != nil:
		p.taken = false
		return
	case p.taken:
		p.beat.Taking = p.now()
	default:
		p.beat, p.taken = p.beat.resume(p.now()), true
	}
	p.keep()
	if over := p.beat.Unshown; over != nil && p.tell(ctx, *over) {
		p.beat.Unshown = nil
		p.keep()
	}
}

// tell shows an outage, or that there was none because other receivers took the events; false if it has to be tried again.
func (p *pulse) tell(ctx context.Context, over outage) bool {
	if p.covered() {
		p.log.Info("other receivers took the events while this one was away: no outage", "start", over.Start, "end", over.End)
		return true
	}
	limited, cancel := context.WithTimeout(ctx, showTimeout)
	defer cancel()
	if err := p.show(limited, over.Start, over.End); err != nil {
		p.log.Warn("an outage is not shown yet", "start", over.Start, "end", over.End, "error", err)
		return false
	}
	p.log.Info("no events were taken for a while", "start", over.Start, "end", over.End)
	return true
}

// end notes that the last events were taken just now.
func (p *pulse) end() {
	if p.taken {
		p.beat.Taking = p.now()
		p.keep()
	}
}

func (p *pulse) keep() {
	err := p.write()
	if err != nil && !p.lost {
		p.log.Warn("it cannot be noted that events are taken: the next outage will seem longer than it is", "error", err)
	}
	p.lost = err != nil
}

func (p *pulse) write() error {
	text, err := json.Marshal(p.beat)
	if err != nil {
		return fmt.Errorf("cannot encode the note: %w", err)
	}
	return sources.WriteFile(p.path, text)
}

func pulsePath(dir string) string { return filepath.Join(dir, pulseName) }
