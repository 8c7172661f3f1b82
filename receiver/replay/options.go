package replay

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/dialect"
	"github.com/pbx-operator/pbx-operator/receiver/dialect/dialects"
	"github.com/pbx-operator/pbx-operator/receiver/sources"
)

const usage = `Usage: receiver replay (--pbx TYPE [--scope SCOPE] | --integration FILE.yaml) [-o json|table] FILE.jsonl...

Prints the call legs that captured requests lead to. A capture holds one request per line; "-" reads standard input:
  {"receivedAt":"2026-01-02T10:00:00Z","source":{"type":"Phone","number":"1234*101","id":"5101","user":"ann"},
   "method":"POST","path":"","query":"","contentType":"application/x-www-form-urlencoded","body":"EventType=dial-in&..."}
"path" is what follows the token in the event URL, such as /dial-in or /history; "source" is empty where one URL serves the account.

  --pbx TYPE               the PBX that sent the requests: RingMe, VoipNow, Callable or LinuxBox
  --scope SCOPE            External (default): calls with the outside; All: internal calls as well
  --integration FILE.yaml  takes the PBX, its settings and all rules from this PBXIntegration manifest
  -o FORMAT                json (default): an array of CallLeg objects; table: for people

After the last line all grace periods are taken as over; open legs stay open. Exit status: 0, or 1 if some lines could not be
decoded (they are named on standard error), or 2 if the command line is wrong.
`

var errHelp = errors.New("help wanted")

// options is what the command line asks for.
type options struct {
	dialect     dialect.Dialect
	rules       correlation.Rules
	namespace   string
	integration string
	format      string
	files       []string
}

// flags are the texts of the command line.
type flags struct{ pbx, scope, integration, format string }

func parse(args []string) (options, error) {
	var f flags
	set := flag.NewFlagSet("replay", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.pbx, "pbx", "", "")
	set.StringVar(&f.scope, "scope", "", "")
	set.StringVar(&f.integration, "integration", "", "")
	set.StringVar(&f.format, "o", "json", "")
	files, err := interspersed(set, args)
	if errors.Is(err, flag.ErrHelp) {
		return options{}, errHelp
	}
	if err != nil {
		return options{}, err
	}
	o, err := f.options()
	if err != nil {
		return options{}, err
	}
	if len(files) == 0 {
		return options{}, errors.New("no capture named: give at least one file, or - for standard input")
	}
	o.files = files
	return o, nil
}

// interspersed takes flags before and after the files.
func interspersed(set *flag.FlagSet, args []string) ([]string, error) {
	var files []string
	for {
		if err := set.Parse(args); err != nil {
			return nil, err
		}
		if set.NArg() == 0 {
			return files, nil
		}
		files = append(files, set.Arg(0))
		args = set.Args()[1:]
	}
}

func (f flags) options() (options, error) {
	if f.format != "json" && f.format != "table" {
		return options{}, fmt.Errorf("-o %q: expected json or table", f.format)
	}
	o, err := f.integrated()
	o.format = f.format
	return o, err
}

func (f flags) integrated() (options, error) {
	switch {
	case f.integration != "" && (f.pbx != "" || f.scope != ""):
		return options{}, errors.New("--integration takes the place of --pbx and --scope: give either")
	case f.integration != "":
		return fromManifest(f.integration)
	case f.pbx == "":
		return options{}, errors.New("--pbx or --integration is missing: which PBX sent the requests?")
	}
	d, err := dialects.New(f.pbx, dialects.Settings{})
	if err != nil {
		return options{}, fmt.Errorf("--pbx: %w", err)
	}
	rules := correlation.DefaultRules()
	if rules.Scope, err = scopeOf(f.scope); err != nil {
		return options{}, fmt.Errorf("--scope: %w", err)
	}
	return options{dialect: d, rules: rules, integration: "replay"}, nil
}

func scopeOf(text string) (correlation.Scope, error) {
	switch {
	case text == "", strings.EqualFold(text, string(correlation.ScopeExternal)):
		return correlation.ScopeExternal, nil
	case strings.EqualFold(text, string(correlation.ScopeAll)):
		return correlation.ScopeAll, nil
	default:
		return "", fmt.Errorf("unknown scope %q: expected External or All", text)
	}
}

// fromManifest takes the settings and rules from the file, as a receiver takes them from the
// integration. Its times play no part, as a replay waits for nothing.
func fromManifest(name string) (options, error) {
	text, err := os.ReadFile(name) //nolint:gosec // the user names the file
	if err != nil {
		return options{}, fmt.Errorf("--integration: %w", err)
	}
	manifest, err := find(text)
	if err != nil {
		return options{}, fmt.Errorf("--integration %s: %w", name, err)
	}
	d, err := dialects.New(string(manifest.Spec.PBX.Type), sources.SettingsOf(manifest.Spec))
	if err != nil {
		return options{}, fmt.Errorf("--integration %s: spec.pbx: %w", name, err)
	}
	rules := sources.RulesOf(manifest.Spec)
	if rules.Scope, err = scopeOf(string(manifest.Spec.CallLegs.Scope)); err != nil {
		return options{}, fmt.Errorf("--integration %s: spec.callLegs.scope: %w", name, err)
	}
	return options{
		dialect: d, rules: rules, namespace: manifest.Namespace, integration: cmp.Or(manifest.Name, "replay"),
	}, nil
}

// find returns the one PBXIntegration among the documents of a manifest.
func find(text []byte) (*v1alpha1.PBXIntegration, error) {
	var found *v1alpha1.PBXIntegration
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		var document v1alpha1.PBXIntegration
		err := documents.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if document.Kind != "PBXIntegration" {
			continue
		}
		if found != nil {
			return nil, errors.New("more than one PBXIntegration: expected one")
		}
		found = &document
	}
	if found == nil {
		return nil, errors.New("no PBXIntegration in it")
	}
	return found, nil
}
