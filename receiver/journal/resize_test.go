package journal

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// JetStream writes the configuration of a log and then its checksum. One that was killed in between
// passes over that log when it starts again.
func TestALogWhoseConfigurationIsDamagedIsHandedOverToo(t *testing.T) {
	config := Config{Dir: t.TempDir(), Partitions: 1}
	j, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	entry, decoded := notification(1, "c")
	err = j.Append(AppendEntry(nil, &entry), decoded)
	if err == nil {
		err = soleOf(t, j).PutLegs(t.Context(), []LegRecord{legOf("c")})
	}
	j.Close()
	if err != nil {
		t.Fatal(err)
	}
	sums, err := filepath.Glob(filepath.Join(config.Dir, storeDir, "*", "streams", "*", "meta.sum"))
	if err != nil || len(sums) == 0 {
		t.Fatalf("no checksums: %v", err)
	}
	for _, sum := range sums {
		if err := os.WriteFile(sum, []byte("another"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config.Cluster = &Cluster{Members: make([]Member, 3)}
	config = config.withDefaults()
	alone, err := openSide(config.Dir, config, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer alone.close()
	member := &Journal{config: config, names: newNames(Owner{})}
	found, err := member.ownLogs(t.Context(), alone.js)
	var logs []string
	for _, log := range found {
		logs = append(logs, log.Name)
	}
	slices.Sort(logs)
	if want := []string{"EVENTS", "LEGS", "STATE"}; err != nil || !slices.Equal(logs, want) {
		t.Errorf("%v are handed over, want %v: %v", logs, want, err)
	}
}
