package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed form.lua
var form []byte

// generator sends call events with wrk.
type generator struct{ wrk, script string }

func (b *bench) generator(ctx context.Context) (*generator, error) {
	wrk, err := b.require(ctx, "wrk", "wrk")
	if err != nil {
		return nil, err
	}
	script := filepath.Join(b.dir, "form.lua")
	return &generator{wrk: wrk, script: script}, os.WriteFile(script, form, 0o600)
}

// round is what one run of wrk saw.
type round struct {
	requests int
	took     time.Duration
	p50, p99 time.Duration
	// failed requests: an answer other than 2xx or 3xx, or none.
	failed int
}

func (r round) rate() float64 { return float64(r.requests-r.failed) / r.took.Seconds() }

// run sends events over a number of connections, each with one request at a time, for whole
// seconds.
func (g *generator) run(ctx context.Context, address string, connections int, duration time.Duration) (round, error) {
	seed := make([]byte, 8)
	if _, err := rand.Read(seed); err != nil {
		return round{}, fmt.Errorf("cannot make a seed: %w", err)
	}
	text, err := output(ctx, g.wrk, "-t1", "-c"+strconv.Itoa(connections), "-d"+strconv.Itoa(int(duration.Seconds()))+"s",
		"--latency", "--timeout", "5s", "-s", g.script, "http://"+address, "--", hex.EncodeToString(seed))
	if err != nil {
		return round{}, err
	}
	r, err := parseRound(text)
	if err == nil && r.failed > 0 {
		err = fmt.Errorf("%d of %d events were not answered with success", r.failed, r.requests)
	}
	return r, err
}

var errNoResult = errors.New("wrk printed no result")

// parseRound reads the line that form.lua prints at the end.
func parseRound(text string) (round, error) {
	_, line, found := strings.Cut(text, "RESULT ")
	if !found {
		return round{}, errNoResult
	}
	line, _, _ = strings.Cut(line, "\n")
	values := map[string]int{}
	for pair := range strings.FieldsSeq(line) {
		name, value, _ := strings.Cut(pair, "=")
		number, err := strconv.Atoi(value)
		if err != nil {
			return round{}, fmt.Errorf("%w that can be understood: %q", errNoResult, line)
		}
		values[name] = number
	}
	r := round{
		requests: values["requests"], took: time.Duration(values["microseconds"]) * time.Microsecond,
		p50: time.Duration(values["p50"]) * time.Microsecond, p99: time.Duration(values["p99"]) * time.Microsecond,
		failed: values["status"] + values["connect"] + values["read"] + values["write"] + values["timeout"],
	}
	if r.requests == 0 || r.took == 0 {
		return r, fmt.Errorf("%w: no request was answered: %q", errNoResult, line)
	}
	return r, nil
}
