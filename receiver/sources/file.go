package sources

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// File is a table written by hand, for a receiver without Kubernetes.
type File struct {
	// PBX is the type of the telephone system, as in PBXIntegration. Default RingMe.
	PBX string `json:"pbx"`
	// Callable and LinuxBox are as in PBXIntegration.
	Callable *v1alpha1.Callable `json:"callable"`
	LinuxBox *v1alpha1.LinuxBox `json:"linuxBox"`
	// Scope of the legs: External (default) or All.
	Scope   correlation.Scope `json:"scope"`
	Sources []FileSource      `json:"sources"`
}

// FileSource is one event URL.
type FileSource struct {
	// Token of the event URL, 32 characters.
	Token string `json:"token"`
	// Mapping identifies the source. Default: its extension number.
	Mapping string `json:"mapping"`
	// Source is left out of an event URL that serves the account.
	Source callevent.Source `json:"source"`
}

// LoadFile puts the table of a YAML or JSON file into force.
func (t *Table) LoadFile(path string) error {
	text, err := os.ReadFile(path) //nolint:gosec // the operator of the receiver names the file
	if err != nil {
		return fmt.Errorf("cannot read the sources: %w", err)
	}
	var file File
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		return fmt.Errorf("cannot understand the sources in %s: %w", path, err)
	}
	next, err := file.table()
	if err != nil {
		return fmt.Errorf("cannot use the sources in %s: %w", path, err)
	}
	if err := t.replace(next); err != nil {
		return fmt.Errorf("cannot use the sources in %s: %w", path, err)
	}
	return nil
}

// account identifies an event URL that serves the account.
const account = "account"

func (f *File) table() (*table, error) {
	next := &table{
		Type:     cmp.Or(f.PBX, string(v1alpha1.PBXTypeRingMe)),
		Settings: SettingsOf(v1alpha1.PBXIntegrationSpec{PBX: v1alpha1.PBX{Callable: f.Callable, LinuxBox: f.LinuxBox}}),
		Rules:    correlation.DefaultRules(), Targets: make(map[digest]*Target, len(f.Sources)),
	}
	next.Rules.Scope = cmp.Or(f.Scope, next.Rules.Scope)
	for i, source := range f.Sources {
		if len(source.Token) != eventurl.TokenLength {
			return nil, fmt.Errorf("source %d: the token must have %d characters", i, eventurl.TokenLength)
		}
		source.Mapping = cmp.Or(source.Mapping, source.Source.Number, account)
		next.Targets[digestOf(source.Token)] = &Target{Mapping: source.Mapping, Name: source.Mapping, Source: source.Source}
	}
	return next, nil
}

const copyMode = 0o600

// load puts the copy at path into force, if there is one.
func (t *Table) load(path string) error {
	text, err := os.ReadFile(path) //nolint:gosec // a fixed name in the data directory
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the copy of the sources: %w", err)
	}
	var next table
	if err := json.Unmarshal(text, &next); err != nil {
		return fmt.Errorf("cannot understand the copy of the sources: %w", err)
	}
	if err := t.replace(&next); err != nil {
		return fmt.Errorf("cannot use the copy of the sources: %w", err)
	}
	return nil
}

// save keeps a copy of the table for a start without the Kubernetes API. It holds digests, not
// tokens.
func (t *Table) save(path string) error {
	text, err := json.Marshal(t.current.Load())
	if err != nil {
		return fmt.Errorf("cannot encode the sources: %w", err)
	}
	if err := WriteFile(path, text); err != nil {
		return fmt.Errorf("cannot keep a copy of the sources: %w", err)
	}
	return nil
}

// WriteFile replaces the file at path as a whole: it is never seen, nor left behind by a crash,
// half written.
func WriteFile(path string, text []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(text)
	if err = errors.Join(err, temporary.Chmod(copyMode), temporary.Sync(), temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}
