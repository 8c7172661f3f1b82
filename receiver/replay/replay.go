// Package replay runs a dialect and the correlation over captured requests, without a cluster: to
// find out why a call was logged as it was, and to run today's rules over yesterday's events.
package replay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1 // some of the input was not understood, or the output could not be written
	exitUsage   = 2
)

// Run is the command "receiver replay". It prints the legs of all calls in the captures that args
// name, "-" being standard input, and returns the exit code. Lines that cannot be decoded go to
// stderr with their number and make it 1, after the rest was processed; a wrong command line makes
// it 2.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return run(ctx, args, os.Stdin, stdout, stderr)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o, err := parse(args)
	if errors.Is(err, errHelp) {
		say(stdout, usage)
		return exitOK
	}
	if err != nil {
		say(stderr, "replay: "+err.Error()+"\n\n"+usage)
		return exitUsage
	}
	r := replay{options: o, calls: map[string]*correlation.Call{}, stdin: stdin, stderr: stderr}
	for _, file := range o.files {
		r.file(ctx, file)
	}
	if err := ctx.Err(); err != nil {
		say(stderr, "replay: stopped: "+err.Error()+"\n")
		return exitFailure
	}
	if err := o.print(stdout, r.legs()); err != nil {
		say(stderr, "replay: "+err.Error()+"\n")
		return exitFailure
	}
	if r.failed {
		return exitFailure
	}
	return exitOK
}

// say writes what nobody is there to hear when it fails.
func say(w io.Writer, text string) { _, _ = io.WriteString(w, text) }

// replay is one run.
type replay struct {
	options
	calls  map[string]*correlation.Call
	stdin  io.Reader
	stderr io.Writer
	failed bool
}

func (r *replay) complain(where string, err error) {
	r.failed = true
	say(r.stderr, where+": "+err.Error()+"\n")
}

func (r *replay) file(ctx context.Context, name string) {
	if name == "-" {
		r.lines(ctx, "standard input", r.stdin)
		return
	}
	file, err := os.Open(name) //nolint:gosec // the user names the file
	if err != nil {
		r.complain("replay", err)
		return
	}
	r.lines(ctx, name, file)
	if err := file.Close(); err != nil {
		r.complain(name, err)
	}
}

func (r *replay) lines(ctx context.Context, name string, input io.Reader) {
	lines := bufio.NewReader(input)
	for number := 1; ctx.Err() == nil; number++ {
		line, err := lines.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := r.line(line); err != nil {
				r.complain(fmt.Sprintf("%s:%d", name, number), err)
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			r.complain(name, err)
			return
		}
	}
}

func (r *replay) line(line []byte) error {
	var request callevent.Request
	if err := json.Unmarshal(line, &request); err != nil {
		return fmt.Errorf("not a captured request in JSON: %w", err)
	}
	if err := normalise(&request.Source); err != nil {
		return err
	}
	events, err := r.dialect.Decode(request)
	if err != nil {
		return err
	}
	for _, event := range events {
		if r.calls[event.CallID] == nil {
			r.calls[event.CallID] = &correlation.Call{}
		}
		r.calls[event.CallID].Add(event)
	}
	return nil
}

// normalise accepts the type of the sender in any case, as captures are also written by hand.
func normalise(source *callevent.Source) error {
	known := []callevent.SourceType{callevent.SourceUnknown, callevent.Phone, callevent.IVR, callevent.Queue}
	i := slices.IndexFunc(known, func(t callevent.SourceType) bool { return strings.EqualFold(string(t), string(source.Type)) })
	if i < 0 {
		return fmt.Errorf("source.type %q: expected Phone, IVR, Queue or nothing", source.Type)
	}
	source.Type = known[i]
	return nil
}

// legs are those of all calls, with all grace periods over. Open legs stay open: the capture may
// just have ended too early.
func (r *replay) legs() []correlation.Leg {
	legs := make([]correlation.Leg, 0, len(r.calls))
	rules := r.rules
	rules.MaxDuration = 0
	for _, call := range r.calls {
		for tick := call.Outcome(rules).Tick; tick != nil; tick = call.Outcome(rules).Tick {
			call.Add(tick.Event())
		}
		legs = append(legs, call.Outcome(rules).Legs...)
	}
	slices.SortFunc(legs, correlation.Compare)
	return legs
}
