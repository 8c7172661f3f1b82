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
	heartbeatName = "taking-events.json"
	// heartbeatInterval is how often it is noted that events are taken. Shorter outages are none.
	heartbeatInterval = 5 * time.Second
	// showTimeout is how long the API server may take to be told of an outage.
	showTimeout = 3 * time.Second
)

// outage is a time in which no events were taken.
type outage struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// activity is what is known of when events were taken.
type activity struct {
	// Taking is when events were last taken; zero where that is not known.
	Taking time.Time `json:"taking"`
	// Unshown is an outage that the status of the integration does not show yet.
	Unshown *outage `json:"unshown,omitempty"`
}

// resume notes that events are taken again. An outage that could not be shown goes on with the next
// one.
func (a activity) resume(now time.Time) activity {
	if !a.Taking.IsZero() && now.Sub(a.Taking) >= heartbeatInterval {
		start := a.Taking
		if a.Unshown != nil {
			start = a.Unshown.Start
		}
		a.Unshown = &outage{Start: start, End: now}
	}
	a.Taking = now
	return a
}

// heartbeat notes in the data directory that events are taken, so that it is known after a restart
// for how long none were, and shows that.
type heartbeat struct {
	path  string
	now   func() time.Time
	ready func() error
	show  func(ctx context.Context, start, end time.Time) error
	// covered tells that other receivers take events while this one is away.
	covered func() bool
	log     *slog.Logger

	activity activity
	taken    bool // events were taken when that was last looked at
	lost     bool // the note could not be written
}

// load reads what an earlier run has left. Where it left nothing, an outage would have neither
// length nor end.
func (h *heartbeat) load() {
	text, err := os.ReadFile(h.path)
	if err == nil {
		err = json.Unmarshal(text, &h.activity)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		h.log.Info("it is not known when events were last taken: the data directory is new, or it was lost")
	case err != nil:
		h.log.Warn("it is not known when events were last taken", "error", err)
	}
}

// run works until ctx ends.
func (h *heartbeat) run(ctx context.Context) {
	h.load()
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	for {
		h.look(ctx)
		select {
		case <-ctx.Done():
			h.end()
			return
		case <-ticker.C:
		}
	}
}

// look notes whether events are taken, and shows an outage that is over.
func (h *heartbeat) look(ctx context.Context) {
	switch {
	case h.ready() != nil:
		h.taken = false
		return
	case h.taken:
		h.activity.Taking = h.now()
	default:
		h.activity, h.taken = h.activity.resume(h.now()), true
	}
	h.keep()
	if over := h.activity.Unshown; over != nil && h.tell(ctx, *over) {
		h.activity.Unshown = nil
		h.keep()
	}
}

// tell shows an outage, or that there was none because other receivers took the events; false if it
// has to be tried again.
func (h *heartbeat) tell(ctx context.Context, over outage) bool {
	if h.covered() {
		h.log.Info("other receivers took the events while this one was away: no outage", "start", over.Start, "end", over.End)
		return true
	}
	limited, cancel := context.WithTimeout(ctx, showTimeout)
	defer cancel()
	if err := h.show(limited, over.Start, over.End); err != nil {
		h.log.Warn("an outage is not shown yet", "start", over.Start, "end", over.End, "error", err)
		return false
	}
	h.log.Info("no events were taken for a while", "start", over.Start, "end", over.End)
	return true
}

// end notes that the last events were taken just now.
func (h *heartbeat) end() {
	if h.taken {
		h.activity.Taking = h.now()
		h.keep()
	}
}

func (h *heartbeat) keep() {
	err := h.write()
	if err != nil && !h.lost {
		h.log.Warn("it cannot be noted that events are taken: the next outage will seem longer than it is", "error", err)
	}
	h.lost = err != nil
}

func (h *heartbeat) write() error {
	text, err := json.Marshal(h.activity)
	if err != nil {
		return fmt.Errorf("cannot encode the note: %w", err)
	}
	return sources.WriteFile(h.path, text)
}

func heartbeatPath(dir string) string { return filepath.Join(dir, heartbeatName) }
