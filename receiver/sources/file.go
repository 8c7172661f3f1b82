package sources

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// File is a table written by hand, for a receiver without Kubernetes.
type File struct {
	// PBX is the type of the telephone system, as in PBXIntegration. Default RingMe.
	PBX string `json:"pbx"`
	// Scope of the legs: External (default) or All.
	Scope   correlation.Scope `json:"scope"`
	Sources []FileSource      `json:"sources"`
}

// FileSource is one event URL.
type FileSource struct {
	// Token of the event URL, 32 characters.
	Token string `json:"token"`
	// Mapping identifies the source. Default: its extension number.
	Mapping string           `json:"mapping"`
	Source  callevent.Source `json:"source"`
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
	t.replace(next)
	return nil
}

func (f *File) table() (*table, error) {
	next := &table{Type: f.PBX, Rules: correlation.DefaultRules(), Targets: make(map[digest]*Target, len(f.Sources))}
	if next.Type == "" {
		next.Type = "RingMe"
	}
	if f.Scope != "" {
		next.Rules.Scope = f.Scope
	}
	for i, source := range f.Sources {
		if len(source.Token) != eventurl.TokenLength {
			return nil, fmt.Errorf("source %d: the token must have %d characters", i, eventurl.TokenLength)
		}
		if source.Mapping == "" {
			source.Mapping = source.Source.Number
		}
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
	t.replace(&next)
	return nil
}

// save keeps a copy of the table for a start without the Kubernetes API. It holds digests, not tokens.
func (t *Table) save(path string) error {
	text, err := json.Marshal(t.current.Load())
	if err != nil {
		return fmt.Errorf("cannot encode the sources: %w", err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("cannot keep a copy of the sources: %w", err)
	}
	_, err = temporary.Write(text)
	if err = errors.Join(err, temporary.Chmod(copyMode), temporary.Sync(), temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot keep a copy of the sources: %w", err), os.Remove(temporary.Name()))
	}
	return nil
}
