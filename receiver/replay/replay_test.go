package replay

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/hack/pbxsim/scenario"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

var update = flag.Bool("update", false, "write the golden files")

const calls = "testdata/calls.jsonl"

// replayed is what came of a command line.
type replayed struct {
	code           int
	stdout, stderr string
}

func replayOf(t *testing.T, stdin string, args ...string) replayed {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(stdin), &stdout, &stderr)
	return replayed{code, stdout.String(), stderr.String()}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestJSON(t *testing.T) {
	got := replayOf(t, "", "--pbx", "RingMe", calls)
	if got.code != exitOK || got.stderr != "" {
		t.Errorf("exit %d, %s", got.code, got.stderr)
	}
	golden(t, "calls.json", got.stdout)
}

func TestTable(t *testing.T) {
	got := replayOf(t, "", "--pbx", "ringme", calls, "-o", "table")
	if got.code != exitOK {
		t.Errorf("exit %d, %s", got.code, got.stderr)
	}
	golden(t, "calls.txt", got.stdout)
}

// Every PBX has its own form; the legs are the same for all.
func TestOtherSystems(t *testing.T) {
	for _, pbx := range []string{"VoipNow", "LinuxBox", "Callable"} {
		capture := strings.ToLower(pbx)
		got := replayOf(t, "", "--pbx", pbx, "-o", "table", "testdata/"+capture+".jsonl")
		if got.code != exitOK || got.stderr != "" {
			t.Errorf("%s: exit %d, %s", pbx, got.code, got.stderr)
		}
		golden(t, capture+".txt", got.stdout)
	}
}

func TestScopeAll(t *testing.T) {
	got := replayOf(t, "", "-o=table", "--scope=All", "--pbx=RingMe", calls)
	golden(t, "calls-all.txt", got.stdout)
}

// The rules come from the manifest, so that they are those of the real integration.
func TestIntegration(t *testing.T) {
	got := replayOf(t, "", "--integration", "testdata/integration.yaml", "-o", "table", calls)
	golden(t, "calls-all.txt", got.stdout)
	got = replayOf(t, "", "--integration", "testdata/integration.yaml", calls)
	for _, want := range []string{`"namespace": "telephony"`, `"name": "head-office-`, `"pbx-operator.io/integration": "head-office"`} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no %s in the legs", want)
		}
	}
}

// capture is what a receiver with these sources would have been sent.
func capture(t *testing.T, pbx, name string) string {
	t.Helper()
	s, err := scenario.Find(pbx, name)
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for _, n := range s.Play("seed", time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)) {
		wire := n.Request("POST")
		request := callevent.Request{
			ReceivedAt: n.At, Method: wire.Method, Path: wire.Path, Query: wire.Query, ContentType: wire.ContentType, Body: wire.Body,
		}
		if pbx == "ringme" {
			request.Source = callevent.Source{Type: callevent.SourceType(n.Sender.Type), Number: n.Sender.Number, ID: n.Sender.ID}
		}
		if err := json.NewEncoder(&lines).Encode(request); err != nil {
			t.Fatal(err)
		}
	}
	return lines.String()
}

// What an integration says of its PBX decides what a capture means.
func TestSettingsOfAnIntegration(t *testing.T) {
	manifest := func(spec string) string {
		file := filepath.Join(t.TempDir(), "integration.yaml")
		text := "apiVersion: pbx-operator.io/v1alpha1\nkind: PBXIntegration\nmetadata: {name: office}\nspec: " + spec + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for _, c := range []struct{ pbx, scenario, without, with, lacks, has string }{
		{
			"callable", "C3-number", "{pbx: {type: Callable}}", `{pbx: {type: Callable, callable: {ownNumbers: ["+4420794609*"]}}}`,
			"Outbound", "Outbound",
		},
		{
			"callable", "C2b", `{pbx: {type: Callable, callable: {ownNumbers: ["4420794609*"]}}}`,
			`{pbx: {type: Callable, callable: {ownNumbers: ["4420794609*"]}}, callLegs: {selfService: Missed}}`, "Missed", "Missed",
		},
		{
			"linuxbox", "L1-other-names", "{pbx: {type: LinuxBox}}",
			"{pbx: {type: LinuxBox, linuxBox: {parameters: {from: CallerNumber, to: CalledNumber, extension: Line}}}}", "2025550143", "2025550143",
		},
		{
			"ringme", "S10-ivr", "{pbx: {type: RingMe}}", "{pbx: {type: RingMe}, callLegs: {forwardedOutside: Answered}}",
			"AnsweredElsewhere", "",
		},
	} {
		lines := capture(t, c.pbx, c.scenario)
		without := replayOf(t, lines, "--integration", manifest(c.without), "-o", "table", "-")
		with := replayOf(t, lines, "--integration", manifest(c.with), "-o", "table", "-")
		if without.code != exitOK || with.code != exitOK || without.stdout == with.stdout {
			t.Errorf("%s: the settings change nothing: exit %d and %d, %s%s%s", c.scenario, without.code, with.code, with.stdout, without.stderr, with.stderr)
		}
		if strings.Contains(without.stdout, c.lacks) || !strings.Contains(with.stdout, c.has) {
			t.Errorf("%s: without:\n%swith:\n%s", c.scenario, without.stdout, with.stdout)
		}
	}
	refused := replayOf(t, "", "--integration", manifest("{pbx: {type: LinuxBox, linuxBox: {events: {x: Nonsense}}}}"), "-")
	if refused.code != exitUsage || !strings.Contains(refused.stderr, "Nonsense") {
		t.Errorf("exit %d: %s", refused.code, refused.stderr)
	}
}

// What was read from a PBX's history can be captured and replayed like everything else.
func TestHistory(t *testing.T) {
	const line = `{"receivedAt":"2026-01-02T10:05:00Z","source":{},"method":"POST","path":"/history","contentType":"application/json","body":` +
		`"[{\"id\":\"r1\",\"callID\":\"c1\",\"extension\":\"0007*101\",\"flow\":\"In\",\"from\":\"12025550143\",\"start\":\"2026-01-02T10:00:00Z\",` +
		`\"answer\":\"2026-01-02T10:00:06Z\",\"end\":\"2026-01-02T10:01:06Z\",\"talkSeconds\":60,\"result\":\"Answered\"}]"}`
	for _, pbx := range []string{"RingMe", "VoipNow", "LinuxBox"} {
		got := replayOf(t, line, "--pbx", pbx, "-")
		if got.code != exitOK || !strings.Contains(got.stdout, `"backfilled": true`) || !strings.Contains(got.stdout, `"talkTime": "60s"`) {
			t.Errorf("%s: exit %d, %s%s", pbx, got.code, got.stdout, got.stderr)
		}
	}
}

// A call may begin in one file and end in another, and in any order.
func TestFilesAndStandardInput(t *testing.T) {
	text, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	half := len(lines) / 2
	file := filepath.Join(t.TempDir(), "second-half.jsonl")
	if err := os.WriteFile(file, []byte(strings.Join(lines[half:], "")), 0o600); err != nil {
		t.Fatal(err)
	}
	got := replayOf(t, strings.Join(lines[:half], ""), "--pbx", "RingMe", "-o", "table", file, "-")
	golden(t, "calls.txt", got.stdout)
}

func TestLinesThatCannotBeDecoded(t *testing.T) {
	text, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	const bad = `{"receivedAt":"2026-01-02T10:00:00Z","method":"POST","body":"CallID=c1"}` + "\n" + "no JSON\n\n" +
		`{"source":{"type":"Fax"},"body":"EventType=dial-in"}` + "\n"
	got := replayOf(t, bad+string(text), "--pbx", "RingMe", "-o", "table", "-")
	golden(t, "calls.txt", got.stdout)
	if got.code != exitFailure {
		t.Errorf("exit %d, want %d after the rest was processed", got.code, exitFailure)
	}
	for _, want := range []string{"standard input:1: ", "EventType", "standard input:2: ", "standard input:4: ", `"Fax"`} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("standard error does not say %q:\n%s", want, got.stderr)
		}
	}
	if n := strings.Count(got.stderr, "\n"); n != 3 {
		t.Errorf("%d lines on standard error for three bad lines:\n%s", n, got.stderr)
	}
}

func TestMissingFile(t *testing.T) {
	got := replayOf(t, "", "--pbx", "RingMe", "-o", "table", "testdata/absent.jsonl", calls)
	golden(t, "calls.txt", got.stdout)
	if got.code != exitFailure || !strings.Contains(got.stderr, "testdata/absent.jsonl") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

func TestNoCalls(t *testing.T) {
	if got := replayOf(t, "", "--pbx", "RingMe", "-"); got.code != exitOK || got.stdout != "[]\n" {
		t.Errorf("exit %d: %s", got.code, got.stdout)
	}
}

func TestCommandLine(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"", "--pbx or --integration"},
		{"--pbx RingMe", "no capture"},
		{"--pbx Centrex -", `"Centrex": expected RingMe`},
		{"--pbx RingMe --scope Some -", `"Some": expected External or All`},
		{"--pbx RingMe -o yaml -", `"yaml": expected json or table`},
		{"--pbx RingMe --integration testdata/integration.yaml -", "either"},
		{"--integration testdata/absent.yaml -", "testdata/absent.yaml"},
		{"--integration testdata/calls.txt -", "testdata/calls.txt"},
		{"--pbx RingMe --unheard-of -", "unheard-of"},
	} {
		got := replayOf(t, "", strings.Fields(tc.args)...)
		if got.code != exitUsage || got.stdout != "" {
			t.Errorf("%s: exit %d, output %q", tc.args, got.code, got.stdout)
		}
		if first, _, _ := strings.Cut(got.stderr, "\n"); !strings.Contains(first, tc.want) || !strings.Contains(got.stderr, "Usage:") {
			t.Errorf("%s: %q does not say %q", tc.args, first, tc.want)
		}
	}
	if got := replayOf(t, "", "--help"); got.code != exitOK || !strings.HasPrefix(got.stdout, "Usage:") {
		t.Errorf("--help: exit %d, %s", got.code, got.stdout)
	}
}
